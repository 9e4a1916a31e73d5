"""GPUs that an engine can be run on: peak figures from data sheets, and what of them is reached."""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

_GIB = 2**30


@dataclass(frozen=True, slots=True)
class Link:
    """How GPUs reach each other.

    Attributes:
        name: What it is called.
        bandwidth: Of one GPU, in one direction. [bytes/s]
        latency: Of one all-reduce of a few bytes. [s]
    """

    name: str
    bandwidth: float
    latency: float


# Bandwidths are half of what the GPUs' data sheets give for both directions together. The latencies are
# on no data sheet and are round guesses: low where vLLM has its one-shot kernel for small all-reduces (vLLM 0.32
# distributed/device_communicators/custom_all_reduce.py), higher where NCCL has to go over PCIe or a network.
NVLINK_3 = Link("NVLink 3", 300e9, 10e-6)
NVLINK_4 = Link("NVLink 4", 450e9, 8e-6)
NVLINK_5 = Link("NVLink 5", 900e9, 8e-6)
INFINITY_FABRIC = Link("Infinity Fabric", 448e9, 12e-6)
PCIE_4 = Link("PCIe 4.0 x16", 32e9, 25e-6)
BETWEEN_NODES = Link("InfiniBand NDR, 400 Gb/s a GPU", 50e9, 40e-6)
"""What DGX and HGX H100 nodes are built with; assumed for all, wherever the GPUs are more than one node holds."""

GPUS_PER_NODE = 8


@dataclass(frozen=True, slots=True)
class Gpu:
    """One GPU, at its peak.

    Attributes:
        name: The key in `GPUS`.
        memory_bytes: What CUDA reports as the total, of which vLLM takes its share. [bytes]
        bf16_flops: Dense BF16 products with FP32 sums. [flop/s]
        fp8_flops: Dense FP8; the BF16 figure where the GPU has no FP8. [flop/s]
        bandwidth: Of its memory. [bytes/s]
        link: To the other GPUs of its node.
        source: Where the figures are from.
    """

    name: str
    memory_bytes: int
    bf16_flops: float
    fp8_flops: float
    bandwidth: float
    link: Link
    source: str


def _gpu(name: str, source: str, *, gib: float, bf16: float, fp8: float, gb_s: float, link: Link) -> Gpu:
    """A GPU with its figures in GiB, Tflop/s, Tflop/s and GB/s."""
    return Gpu(name, int(gib * _GIB), bf16 * 1e12, fp8 * 1e12, gb_s * 1e9, link, source)


# Tensor figures of NVIDIA's data sheets "with sparsity" are halved here. Total memory is what PyTorch's out-of-memory
# messages name ("GPU 0 has a total capacity of 79.19 GiB"); it is a little under the size on the data sheet.
GPUS: Mapping[str, Gpu] = MappingProxyType(
    {
        gpu.name: gpu
        for gpu in (
            _gpu(
                "a100-40",
                "NVIDIA A100 Tensor Core GPU data sheet, SXM4 40 GB",
                gib=39.4,
                bf16=312,
                fp8=312,
                gb_s=1555,
                link=NVLINK_3,
            ),
            _gpu(
                "a100-80",
                "NVIDIA A100 Tensor Core GPU data sheet, SXM4 80 GB",
                gib=79.2,
                bf16=312,
                fp8=312,
                gb_s=2039,
                link=NVLINK_3,
            ),
            _gpu(
                "h100",
                "NVIDIA H100 Tensor Core GPU data sheet, SXM5 80 GB",
                gib=79.2,
                bf16=989.4,
                fp8=1978.9,
                gb_s=3350,
                link=NVLINK_4,
            ),
            _gpu(
                "h200",
                "NVIDIA H200 Tensor Core GPU data sheet, SXM 141 GB",
                gib=139.8,
                bf16=989.4,
                fp8=1978.9,
                gb_s=4800,
                link=NVLINK_4,
            ),
            _gpu(
                "b200",
                "NVIDIA Blackwell (HGX B200) data sheet, SXM 180 GB",
                gib=178.35,
                bf16=2250,
                fp8=4500,
                gb_s=7700,
                link=NVLINK_5,
            ),
            _gpu("l40s", "NVIDIA L40S data sheet, PCIe 48 GB", gib=44.4, bf16=362, fp8=733, gb_s=864, link=PCIE_4),
            _gpu("a10", "NVIDIA A10 data sheet, PCIe 24 GB", gib=22.0, bf16=125, fp8=125, gb_s=600, link=PCIE_4),
            _gpu(
                "rtx-4090",
                "NVIDIA Ada GPU architecture white paper, 24 GB",
                gib=23.6,
                bf16=165.2,
                fp8=330.3,
                gb_s=1008,
                link=PCIE_4,
            ),
            _gpu(
                "mi300x",
                "AMD Instinct MI300X data sheet, 192 GB",
                gib=191.7,
                bf16=1307.4,
                fp8=2614.9,
                gb_s=5300,
                link=INFINITY_FABRIC,
            ),
        )
    }
)
"""The GPUs known, by the name that `parse_hardware` takes."""


@dataclass(frozen=True, slots=True)
class Hardware:
    """GPUs that serve one model together, tensor parallel.

    Attributes:
        gpu: What they are.
        count: How many, 1 or more.

    Raises:
        ValueError: There is no GPU.
    """

    gpu: Gpu
    count: int = 1

    def __post_init__(self) -> None:
        if self.count < 1:
            raise ValueError(f"{self.count} GPUs: at least 1 is needed")

    def __str__(self) -> str:
        return f"{self.gpu.name}:{self.count}"

    @property
    def link(self) -> Link:
        """The slowest link on the way around all GPUs."""
        return self.gpu.link if self.count <= GPUS_PER_NODE else BETWEEN_NODES


def parse_hardware(text: str) -> Hardware:
    """Read what `--hardware` takes.

    Args:
        text: `NAME` or `NAME:COUNT`, such as `h100:8`; letter case does not matter.

    Returns:
        The GPUs.

    Raises:
        ValueError: The name is unknown, or the count is not a whole number of 1 or more.
    """
    name, colon, count = text.strip().lower().partition(":")
    if name not in GPUS:
        raise ValueError(f"no GPU is known as {name!r} (in {text!r}): use one of {', '.join(GPUS)}, as in h100:8")
    if not colon:
        return Hardware(GPUS[name])
    if not (count.isascii() and count.isdecimal() and int(count) > 0):
        raise ValueError(f"{count!r} in {text!r} is no number of GPUs: write 1 or more after the colon, as in {name}:8")
    return Hardware(GPUS[name], int(count))
