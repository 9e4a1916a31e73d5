"""The table of GPUs and the words for them."""

from __future__ import annotations

import pytest

from concur_agents.simulation.hardware import BETWEEN_NODES, GPUS, NVLINK_4, Hardware, parse_hardware


@pytest.mark.parametrize(
    ("text", "gpu", "count"), [("h100", "h100", 1), ("h100:8", "h100", 8), (" RTX-4090:2 ", "rtx-4090", 2)]
)
def test_a_name_and_a_count_are_read(text, gpu, count):
    assert parse_hardware(text) == Hardware(GPUS[gpu], count)


@pytest.mark.parametrize("text", ["", "h1000", "8", ":8", "h100 8", "8:h100"])
def test_an_unknown_gpu_is_refused_with_the_names_known(text):
    with pytest.raises(ValueError, match=r"no GPU is known as .*a100-40, a100-80, h100"):
        parse_hardware(text)


@pytest.mark.parametrize("count", ["", "0", "-1", "1.5", "eight", "8:8", "²", "٣", "1 0", "1_0"])
def test_a_bad_count_is_refused_with_what_to_write(count):
    with pytest.raises(ValueError, match="is no number of GPUs: write 1 or more after the colon, as in h100:8"):
        parse_hardware(f"h100:{count}")


def test_hardware_without_a_gpu_is_refused():
    with pytest.raises(ValueError, match="at least 1"):
        Hardware(GPUS["h100"], 0)


@pytest.mark.parametrize("name", GPUS)
def test_what_is_written_is_read_back(name):
    hardware = Hardware(GPUS[name], 4)
    assert parse_hardware(str(hardware)) == hardware


def test_the_slowest_link_is_between_nodes():
    assert parse_hardware("h100:8").link is NVLINK_4
    assert parse_hardware("h100:16").link is BETWEEN_NODES


@pytest.mark.parametrize("gpu", GPUS.values(), ids=str)
def test_the_figures_are_in_flops_and_bytes(gpu):
    assert GPUS[gpu.name] is gpu
    assert 20 * 2**30 < gpu.memory_bytes < 200 * 2**30
    assert 1e14 < gpu.bf16_flops < 3e15
    assert gpu.bf16_flops <= gpu.fp8_flops < 2.1 * gpu.bf16_flops
    assert 5e11 < gpu.bandwidth < 1e13
    assert 1e10 < gpu.link.bandwidth < gpu.bandwidth
    # Every GPU here does between 100 and 450 operations in the time of one byte: none is dense by mistake, or sparse.
    assert 100 < gpu.bf16_flops / gpu.bandwidth < 450
