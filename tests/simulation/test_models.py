"""The table of models and the words for them."""

from __future__ import annotations

import pytest

from concur_agents.simulation.models import MODELS, parse_model

PUBLISHED = {  # billions of parameters, active ones, as the model cards have them
    "qwen3-8b": (8.2, 8.2),
    "qwen3-32b": (32.8, 32.8),
    "qwen3-30b-a3b": (30.5, 3.3),
    "qwen3-235b-a22b": (235, 22),
    "llama-3.1-8b": (8.03, 8.03),
    "llama-3.3-70b": (70.6, 70.6),
    "deepseek-v3": (671, 37),
    "gpt-oss-120b": (117, 5.1),
    "glm-4.5-air": (106, 12),
}

DENSE_WIDTH = {"qwen3-8b": 12288, "qwen3-32b": 25600, "llama-3.1-8b": 14336, "llama-3.3-70b": 28672}


@pytest.mark.parametrize("model", MODELS.values(), ids=lambda model: model.name)
def test_a_model_is_found_by_its_name_and_its_hugging_face_id(model):
    assert parse_model(f" {model.name.upper()} ") is model
    assert parse_model(model.hf_id) is model


@pytest.mark.parametrize("name", ["", "qwen3", "Qwen3-32B/Qwen", "gpt-5"])
def test_an_unknown_model_is_refused_with_the_names_known(name):
    with pytest.raises(ValueError, match=r"no model is known as .*qwen3-8b, qwen3-32b"):
        parse_model(name)


@pytest.mark.parametrize("model", MODELS.values(), ids=lambda model: model.name)
def test_parameters_are_those_of_the_model_card(model):
    total, active = PUBLISHED[model.name]
    assert model.total_params / 1e9 == pytest.approx(total, rel=0.01)
    # Some cards leave out the input embedding, which takes part in no product.
    without_embedding = model.active_params - model.embedding_params
    assert without_embedding / 1e9 <= active * 1.07
    assert model.active_params / 1e9 >= active * 0.99


@pytest.mark.parametrize("name", DENSE_WIDTH)
def test_the_shape_of_a_dense_model_makes_its_parameters(name):
    model = MODELS[name]
    attention = 2 * model.hidden * (model.heads + model.kv_heads) * model.head_dim
    layers = model.layers * (attention + 3 * model.hidden * DENSE_WIDTH[name])
    assert layers + 2 * model.embedding_params == pytest.approx(model.total_params, rel=1e-4)


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("qwen3-8b", 147_456),
        ("qwen3-32b", 262_144),
        ("qwen3-30b-a3b", 98_304),
        ("llama-3.3-70b", 327_680),
        ("deepseek-v3", 576 * 2 * 61),
        ("gpt-oss-120b", 36_864),  # of its 36 layers, the 18 without a window
    ],
)
def test_kv_bytes_of_a_token(name, size):
    assert MODELS[name].kv_bytes_per_token == size


def test_weights_are_kept_at_the_precision_they_are_published_in():
    assert MODELS["qwen3-32b"].weight_bytes == 2 * 32_762_123_264
    assert MODELS["gpt-oss-120b"].weight_bytes / 2**30 == pytest.approx(60.8, abs=0.2)  # its model card
    assert MODELS["deepseek-v3"].weight_bytes == pytest.approx(671e9, rel=0.01)


def test_key_value_heads_are_split_and_then_repeated():
    model = MODELS["qwen3-30b-a3b"]
    on = [model.kv_bytes_per_token_on(gpus) for gpus in (1, 2, 4, 8, 16)]
    assert on == [98_304, 49_152, 24_576, 24_576, 24_576]


def test_latent_kv_is_whole_on_every_gpu():
    model = MODELS["deepseek-v3"]
    assert {model.kv_bytes_per_token_on(gpus) for gpus in (1, 2, 8, 16)} == {model.kv_bytes_per_token}


@pytest.mark.parametrize(("name", "gpus"), [("qwen3-32b", 3), ("qwen3-32b", 128), ("glm-4.5-air", 12)])
def test_heads_that_cannot_be_shared_evenly_are_refused(name, gpus):
    with pytest.raises(ValueError, match=f"which {gpus} GPUs cannot share evenly: use a power of two up to"):
        MODELS[name].check_split(gpus)
