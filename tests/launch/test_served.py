from __future__ import annotations

import json

import pytest
from pydantic import ValidationError

from concur_agents.launch import VllmProfile
from concur_agents.launch.served import find_model
from concur_agents.simulation.models import parse_model

QWEN3_32B = {
    "architectures": ["Qwen3ForCausalLM"],
    "head_dim": 128,
    "hidden_size": 5120,
    "intermediate_size": 25_600,
    "max_position_embeddings": 40_960,
    "model_type": "qwen3",
    "num_attention_heads": 64,
    "num_hidden_layers": 64,
    "num_key_value_heads": 8,
    "rope_scaling": None,
    "sliding_window": None,
    "tie_word_embeddings": False,
    "use_sliding_window": False,
    "vocab_size": 151_936,
}


@pytest.fixture
def folder(tmp_path):
    def write(**changes):
        (tmp_path / "config.json").write_text(json.dumps(QWEN3_32B | changes))
        return tmp_path

    return write


def test_a_config_says_what_the_table_says(folder):
    known = parse_model("qwen3-32b")

    read = find_model(str(folder()))

    assert read.kv_bytes_per_token == known.kv_bytes_per_token
    assert read.max_model_len == known.max_model_len
    assert read.weight_bytes == pytest.approx(known.weight_bytes, rel=0.001)  # norms are left out


def test_weights_are_counted_by_the_files_that_are_there(folder):
    path = folder()
    (path / "model-1.safetensors").write_bytes(bytes(1000))
    assert find_model(str(path)).weight_bytes == 1000

    (path / "model.safetensors.index.json").write_text(json.dumps({"metadata": {"total_size": 65_536}}))
    assert find_model(str(path)).weight_bytes == 65_536

    assert find_model(str(path), weight_gib=2).weight_bytes == 2 * 2**30


def test_a_model_that_is_elsewhere_is_told_by_its_config(folder):
    profile = VllmProfile(
        model="my-org/my-model", model_config_path=str(folder() / "config.json"), gpus=8, agents=8, context=4096
    )

    assert profile.arguments()[0] == "my-org/my-model"
    assert profile.capacity().tokens > 1_900_000


def test_layers_that_do_not_grow_cost_nothing(folder):
    kinds = ["full_attention", "linear_attention", "linear_attention", "linear_attention"] * 16
    assert find_model(str(folder(layer_types=kinds))).kv_bytes_per_token == 262_144 // 4

    window = ["full_attention", "sliding_attention"] * 32
    mixed = find_model(str(folder(layer_types=window, sliding_window=4096)))
    assert (mixed.kv_bytes_per_token, mixed.sliding_layers, mixed.layers) == (131_072, 32, 64)


def test_latent_attention_is_read(folder):
    latent = {"kv_lora_rank": 512, "qk_rope_head_dim": 64, "qk_nope_head_dim": 128, "v_head_dim": 128}

    read = find_model(str(folder(num_hidden_layers=61, **latent)))

    assert read.kv_bytes_per_token_on(8) == parse_model("deepseek-v3").kv_bytes_per_token_on(8)


def test_the_text_part_of_a_model_that_sees_is_what_counts(folder):
    path = folder()
    (path / "config.json").write_text(json.dumps({"text_config": QWEN3_32B, "vision_config": {"hidden_size": 1}}))

    assert find_model(str(path)).kv_bytes_per_token == 262_144


@pytest.mark.parametrize(
    ("rope", "longest"),
    [
        ({"rope_type": "linear", "factor": 4.0}, 163_840),
        ({"type": "dynamic", "factor": 2.0}, 81_920),
        ({"rope_type": "yarn", "factor": 4.0}, 40_960),  # there the length has it already
        ({"rope_type": "llama3", "factor": 8.0}, 40_960),
    ],
)
def test_a_context_that_is_stretched_is_read(folder, rope, longest):
    assert find_model(str(folder(rope_scaling=rope))).max_model_len == longest


def test_two_numbers_are_enough():
    profile = VllmProfile(model="who/knows", gpus=4, agents=9, context=8192, kv_bytes_per_token=100_000, weight_gib=60)

    capacity = profile.capacity()

    assert capacity.kv_bytes_per_token == 25_000
    assert capacity.tokens * 25_000 < 4 * 79.2 * 2**30
    assert capacity.copies == 1


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"num_attention_heads": None}, "num_attention_heads is None"),
        ({"vocab_size": "many"}, "vocab_size is 'many'"),
        ({"sliding_window": 4096, "use_sliding_window": True}, "say --kv-bytes-per-token"),
        ({"hybrid_override_pattern": "M*M-"}, "say --kv-bytes-per-token"),
        ({"num_experts": 128}, "say --weight-gib"),
        ({"quantization_config": {"quant_method": "fp8"}}, "say --weight-gib"),
    ],
)
def test_what_is_not_understood_is_asked_for(folder, changes, said):
    with pytest.raises(ValueError, match=said):
        find_model(str(folder(**changes)))


def test_attention_that_is_not_understood_does_not_matter_if_the_number_is_told(folder):
    path = folder(hybrid_override_pattern="M*M-")

    assert find_model(str(path), kv_bytes_per_token=5000).kv_bytes_per_token == 5000


@pytest.mark.parametrize("content", ["{", "[]", ""])
def test_a_file_that_is_no_config_is_refused(tmp_path, content):
    (tmp_path / "config.json").write_text(content)

    with pytest.raises(ValueError, match=r"config\.json: is not"):
        find_model(str(tmp_path))


def test_a_folder_without_config_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"config\.json: cannot be read: No such file"):
        find_model(str(tmp_path))


def test_a_model_that_nothing_is_known_of_is_refused_with_the_ways_to_tell_it():
    with pytest.raises(ValidationError, match="nothing is looked up on the network") as refused:
        VllmProfile(model="who/knows", agents=1, context=4096, kv_bytes_per_token=1000)

    for way in ("--model-config", "--kv-bytes-per-token", "--weight-gib", "qwen3-32b"):
        assert way in str(refused.value)
