from __future__ import annotations

import pytest
from pydantic import ValidationError

from concur_agents.launch import VllmProfile
from concur_agents.simulation.hardware import parse_hardware
from concur_agents.simulation.models import parse_model
from concur_agents.simulation.profile import EngineProfile
from concur_agents.simulation.roofline import kv_capacity_tokens


def vllm(**told):
    return VllmProfile(**({"model": "qwen3-32b", "gpus": 8, "agents": 256, "context": 40_960} | told))


def test_what_fits_is_the_size_of_the_cache_over_the_context_of_an_agent():
    profile = vllm()

    capacity = profile.capacity()

    limits = profile.limits
    assert capacity.tokens == kv_capacity_tokens(parse_model("qwen3-32b"), parse_hardware("h100:8"), limits=limits)
    assert capacity.fitting == capacity.tokens // 40_960
    assert capacity.oversubscription == pytest.approx(256 * 40_960 / capacity.tokens)
    assert capacity.kv_bytes_per_token == 2 * 64 * 1 * 128 * 2  # keys, values; layers; a head each; dims; BF16


def test_it_agrees_with_the_embedded_engine_where_the_limits_agree():
    """The engine simulates vLLM's own limits; this profile takes the same from 1024 agents on."""
    engine = EngineProfile.from_hardware("llama-3.1-8b", "h100:2")

    capacity = vllm(model="llama-3.1-8b", gpus=2, agents=1024, context=32_768).capacity()

    assert capacity.tokens // 16 == engine.blocks


def test_fp8_keys_and_values_hold_twice_as_many_agents():
    assert vllm(fp8_kv=True).capacity().tokens == 2 * vllm().capacity().tokens
    assert vllm(extra=("--kv-cache-dtype", "fp8_e4m3")).capacity().tokens == 2 * vllm().capacity().tokens


def test_what_was_added_by_hand_counts_in_what_fits():
    less = vllm(extra=("--gpu_memory_utilization=0.5",))

    assert less.capacity().tokens < 0.6 * vllm().capacity().tokens


def test_the_sentences_say_how_many_fit_and_how_oversubscribed():
    sentences = " ".join(vllm().capacity().sentences())

    assert "weights 61.0 GiB" in sentences
    assert "32 KiB of KV cache a token on each GPU" in sentences
    assert "49 agents of 40,960 tokens at once" in sentences
    assert "256 agents at their largest are 5.2 times what fits" in sentences
    assert "a gate will not be felt" in vllm(agents=4).capacity().sentences()[-1]


def test_weights_that_do_not_fit_are_refused_with_the_gpus_that_they_need():
    with pytest.raises(ValidationError, match=r"llama-3.3-70b does not fit h100:1: .* use h100:2 or more"):
        vllm(model="llama-3.3-70b", gpus=1)


def test_an_agent_that_does_not_fit_is_refused():
    with pytest.raises(ValidationError, match=r"one agent of 40,960 tokens does not fit: about .* --fp8-kv"):
        vllm(gpus=1)


def test_gpus_of_a_kind_that_is_not_known_are_told_by_their_memory():
    same = vllm(gpu_memory_gib=79.2).capacity()

    assert same.tokens == vllm().capacity().tokens
    assert str(same.hardware) == "79.2-GiB:8"


@pytest.mark.parametrize(
    ("told", "said"),
    [
        ({"gpus": 3}, "3 GPUs cannot share evenly"),
        ({"gpus": 0}, "greater than"),
        ({"hardware": "h9000"}, "no GPU is known as 'h9000'"),
        ({"agents": 0}, "greater than"),
        ({"context": 1}, "greater than"),
        ({"port": 70_000}, "less than"),
        ({"gpu_memory_gib": float("nan")}, "finite number"),
        ({"nonsense": 1}, "not permitted"),
        ({"extra": ("--gpu-memory-utilization", "1.5")}, "above 0 and at most 1"),
        ({"extra": ("--max-num-seqs", "many")}, "--max-num-seqs is 'many': it must be a number"),
        ({"extra": ("words",)}, "'words' is no option"),
    ],
)
def test_what_makes_no_sense_is_refused(told, said):
    with pytest.raises(ValidationError, match=said):
        vllm(**told)


@pytest.mark.parametrize("field", ["model", "served_name", "host", "image", "tool_parser"])
def test_a_line_break_cannot_get_into_a_file(field):
    with pytest.raises(ValidationError, match="control character"):
        vllm(**{field: "a\nrm -rf /"})
