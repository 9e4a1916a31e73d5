"""The clock of the hardware, and what KV fits it."""

from __future__ import annotations

from math import isfinite

import pytest
from hypothesis import given
from hypothesis import strategies as st

from concur_agents.simulation import SchedulerLimits, StepLoad
from concur_agents.simulation.hardware import GPUS, Hardware, parse_hardware
from concur_agents.simulation.models import MODELS
from concur_agents.simulation.roofline import (
    BANDWIDTH_FRACTION,
    COMPUTE_FRACTION,
    REQUEST_OVERHEAD,
    STEP_OVERHEAD,
    RooflineStepTime,
    kv_capacity_tokens,
    working_bytes,
)

OVERHEAD = STEP_OVERHEAD + REQUEST_OVERHEAD


def clock(model: str, hardware: str) -> RooflineStepTime:
    return RooflineStepTime(MODELS[model], parse_hardware(hardware))


def decodes(requests: int, context: int) -> StepLoad:
    """Every request computes one token at the end of the same context."""
    return StepLoad(requests, requests, requests, requests * context, requests * context)


def prefill(tokens: int, before: int = 0) -> StepLoad:
    """One request computes a part of its prompt."""
    return StepLoad(tokens, 1, 0, tokens * before + tokens * (tokens + 1) // 2, before + tokens)


CLOCKS = st.builds(
    RooflineStepTime,
    st.sampled_from(list(MODELS.values())),
    st.builds(Hardware, st.sampled_from(list(GPUS.values())), st.sampled_from([1, 2, 4, 8, 16])),
)


@st.composite
def loads(draw) -> StepLoad:
    """Loads that a scheduler can make: decodes first, then chunks of prompts."""
    contexts = draw(st.lists(st.integers(1, 200_000), max_size=50))
    chunks = draw(st.lists(st.tuples(st.integers(1, 8192), st.integers(0, 200_000)), max_size=5))
    parts = [StepLoad(1, 1, 1, context, context) for context in contexts]
    parts += [prefill(tokens, before) for tokens, before in chunks]
    return StepLoad(*map(sum, zip(*parts, strict=True))) if parts else prefill(1)


@given(CLOCKS, loads())
def test_every_step_takes_a_positive_finite_time(step_time, load):
    assert 0 < step_time(load) < 1000
    assert isfinite(step_time(load))


@given(CLOCKS, loads(), st.sampled_from(["tokens", "requests", "attended", "read"]), st.integers(1, 10_000))
def test_more_of_anything_never_takes_less_time(step_time, load, field, more):
    assert step_time(load._replace(**{field: getattr(load, field) + more})) >= step_time(load)


@pytest.mark.parametrize("model", ["llama-3.1-8b", "qwen3-8b", "qwen3-32b"])
def test_a_lone_decode_takes_the_time_to_read_the_weights(model):
    shape = MODELS[model]
    weights = shape.weight_bytes - shape.embedding_bytes
    reading = weights / (GPUS["h100"].bandwidth * BANDWIDTH_FRACTION)
    assert clock(model, "h100")(decodes(1, 100)) == pytest.approx(reading + OVERHEAD, rel=0.01)


def test_a_prefill_takes_the_time_of_its_arithmetic():
    shape = MODELS["llama-3.1-8b"]
    flops = 2 * (shape.total_params - 2 * shape.embedding_params) * 8192
    flops += 4 * shape.layers * shape.heads * shape.head_dim * 8192 * 8193 // 2
    flops += 2 * shape.embedding_params  # the logits of one token
    taken = clock("llama-3.1-8b", "h100")(prefill(8192))
    assert taken == pytest.approx(flops / (GPUS["h100"].bf16_flops * COMPUTE_FRACTION) + OVERHEAD, rel=1e-6)
    assert taken == pytest.approx(0.2, rel=0.2)


def test_a_decode_reads_the_context_of_every_request():
    step_time = clock("qwen3-32b", "h100")
    more = step_time(decodes(10, 11_000)) - step_time(decodes(10, 1_000))
    assert more == pytest.approx(10 * 10_000 * 262_144 / (GPUS["h100"].bandwidth * BANDWIDTH_FRACTION))


@pytest.mark.parametrize("model", ["qwen3-32b", "qwen3-30b-a3b", "deepseek-v3", "gpt-oss-120b"])
@pytest.mark.parametrize("load", [prefill(8192), decodes(256, 8000), decodes(1, 100_000)])
def test_more_gpus_of_a_node_are_no_slower_on_real_work(model, load):
    times = [clock(model, f"h100:{count}")(load) for count in (1, 2, 4, 8)]
    assert times == sorted(times, reverse=True)


def test_latent_kv_is_read_by_every_gpu():
    def reading(model, count):
        step_time = clock(model, f"h200:{count}")
        return step_time(decodes(1, 150_000)) - step_time(decodes(1, 1_000))

    assert reading("deepseek-v3", 8) == pytest.approx(reading("deepseek-v3", 4))
    assert reading("qwen3-32b", 8) == pytest.approx(reading("qwen3-32b", 4) / 2)


def test_latent_attention_costs_a_prefill_less_than_the_same_tokens_decoded():
    step_time = clock("deepseek-v3", "h200:8")
    chunk = prefill(4096, before=100_000)
    without_attention = step_time(chunk._replace(attended=0, read=0))
    # A head's key and value have 320 dimensions, absorbed 1,088.
    flops = 2 * 61 * 128 * (320 * (chunk.attended - chunk.read) + 1088 * chunk.read)
    expected = flops / (8 * GPUS["h200"].bf16_flops * COMPUTE_FRACTION)
    assert step_time(chunk) - without_attention == pytest.approx(expected)


def test_few_tokens_touch_few_experts_and_many_touch_all():
    step_time = clock("qwen3-30b-a3b", "h100")
    shape = MODELS["qwen3-30b-a3b"]
    per_byte = 1 / (GPUS["h100"].bandwidth * BANDWIDTH_FRACTION)
    others = shape.plain_bytes + shape.embedding_bytes
    one = step_time(decodes(1, 1)) - OVERHEAD
    assert one == pytest.approx((others + shape.routed_bytes * 8 / 128) * per_byte, rel=1e-3)
    many = step_time(StepLoad(150, 1, 0, 150, 1)) - OVERHEAD
    assert many == pytest.approx((others + shape.routed_bytes) * per_byte, rel=1e-3)


def test_layers_with_a_window_do_not_grow_with_the_context():
    step_time = clock("gpt-oss-120b", "h100")
    more = step_time(decodes(1, 101_000)) - step_time(decodes(1, 1_000))
    assert more == pytest.approx(100_000 * 36_864 / (GPUS["h100"].bandwidth * BANDWIDTH_FRACTION))


def test_logits_are_computed_for_requests_and_not_for_tokens():
    step_time = clock("qwen3-8b", "h100")
    load = prefill(8192)
    more = step_time(load._replace(requests=2)) - step_time(load) - REQUEST_OVERHEAD
    shape = MODELS["qwen3-8b"]
    assert more == pytest.approx(2 * shape.embedding_params / (GPUS["h100"].bf16_flops * COMPUTE_FRACTION), rel=1e-6)


def test_fp8_weights_are_computed_in_fp8_where_the_gpu_can():
    fast, slow = clock("deepseek-v3", "h100:16"), clock("deepseek-v3", "a100-80:16")
    flops = GPUS["h100"].fp8_flops / GPUS["a100-80"].bf16_flops
    tokens = StepLoad(8192, 1, 0, 0, 0), StepLoad(16384, 1, 0, 0, 0)
    moved = 2 * 61 * 2 * 15 / 16 * 7168 * 2 * 8192 / (fast.hardware.link.bandwidth * BANDWIDTH_FRACTION)
    grown = [step_time(tokens[1]) - step_time(tokens[0]) - moved for step_time in (slow, fast)]
    assert grown[0] / grown[1] == pytest.approx(flops, rel=1e-3)


def test_all_reduces_between_nodes_are_dearer_than_within_one():
    load = decodes(8, 1_000)
    assert clock("deepseek-v3", "h200:16")(load) > clock("deepseek-v3", "h200:8")(load)


@pytest.mark.parametrize(
    ("model", "hardware", "batch", "context", "published"),
    [  # ML.ENERGY leaderboard v3, median ms between tokens; contexts are 500 and half the mean output
        ("qwen3-32b", "h100:2", 32, 821, 17.9),
        ("qwen3-32b", "h100:2", 256, 817, 44.5),
        ("llama-3.3-70b", "h100:4", 128, 705, 27.8),
        ("qwen3-30b-a3b", "h100:1", 64, 959, 28.9),
        ("gpt-oss-120b", "h100:2", 128, 1378, 22.5),
        ("qwen3-32b", "b200:1", 128, 817, 24.7),
    ],
)
def test_decodes_take_what_was_published_for_them(model, hardware, batch, context, published):
    assert 1e3 * clock(model, hardware)(decodes(batch, context)) == pytest.approx(published, rel=0.2)


# --- capacity ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "hardware", "least", "most"),
    [
        ("qwen3-32b", "h100:8", 1_600_000, 2_000_000),
        ("qwen3-32b", "h100:2", 250_000, 330_000),
        ("qwen3-32b", "h100:1", 20_000, 45_000),
        ("qwen3-8b", "h100:1", 340_000, 430_000),
        ("deepseek-v3", "h100:16", 300_000, 500_000),
    ],
)
def test_the_kv_cache_is_what_a_server_has(model, hardware, least, most):
    assert least < kv_capacity_tokens(MODELS[model], parse_hardware(hardware)) < most


def test_all_of_the_memory_is_accounted_for():
    model, hardware = MODELS["qwen3-32b"], parse_hardware("h100:4")
    tokens = kv_capacity_tokens(model, hardware)
    kv = tokens * model.kv_bytes_per_token / 4
    used = kv + model.weight_bytes / 4 + working_bytes(model, SchedulerLimits())
    assert used == pytest.approx(0.92 * hardware.gpu.memory_bytes, rel=1e-5)


def test_a_larger_batch_leaves_less_room():
    model, hardware = MODELS["qwen3-8b"], parse_hardware("l40s")
    small = SchedulerLimits(max_num_batched_tokens=2048, max_num_seqs=256)
    assert kv_capacity_tokens(model, hardware, limits=small) > kv_capacity_tokens(model, hardware)


def test_a_larger_share_of_the_memory_leaves_more_room():
    model, hardware = MODELS["qwen3-8b"], parse_hardware("h100")
    shares = [kv_capacity_tokens(model, hardware, gpu_memory_utilization=share) for share in (0.5, 0.9, 1.0)]
    assert shares == sorted(set(shares))


@pytest.mark.parametrize("share", [0.0, -0.1, 1.1, float("nan")])
def test_a_share_of_the_memory_is_a_share(share):
    with pytest.raises(ValueError, match="above 0 and at most 1"):
        kv_capacity_tokens(MODELS["qwen3-8b"], parse_hardware("h100"), gpu_memory_utilization=share)


@pytest.mark.parametrize(
    ("model", "hardware", "needed"),
    [
        ("deepseek-v3", "h100:8", "h100:16"),
        ("llama-3.3-70b", "h100", "h100:2"),
        ("qwen3-32b", "rtx-4090", "rtx-4090:4"),
    ],
)
def test_a_model_that_does_not_fit_is_refused_with_the_gpus_it_needs(model, hardware, needed):
    with pytest.raises(ValueError, match=rf"{model} does not fit .* use {needed} or more") as refused:
        kv_capacity_tokens(MODELS[model], parse_hardware(hardware))
    assert "GiB" in str(refused.value)
    assert kv_capacity_tokens(MODELS[model], parse_hardware(needed)) > 0


def test_a_model_that_fits_no_number_of_gpus_is_refused():
    with pytest.raises(ValueError, match="use GPUs with more memory"):
        kv_capacity_tokens(MODELS["qwen3-8b"], parse_hardware("h100"), gpu_memory_utilization=0.01)


@pytest.mark.parametrize("make", [kv_capacity_tokens, RooflineStepTime])
def test_gpus_that_cannot_share_the_heads_are_refused(make):
    with pytest.raises(ValueError, match="cannot share evenly"):
        make(MODELS["qwen3-32b"], parse_hardware("h100:6"))
