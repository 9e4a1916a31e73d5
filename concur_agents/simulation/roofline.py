"""How long a step takes, and how much KV fits, from the figures of a GPU and a model.

A roofline (Williams, Waterman, Patterson, "Roofline", CACM 52(4), 2009): work takes the time of its arithmetic or of
its memory traffic, whichever is longer. It is drawn twice and added, as kernels run one after the other: for the linear
layers, whose traffic is the weights, and for attention, whose traffic is the KV cache. On top come the all-reduces of
tensor parallelism and what every step and every request cost besides.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from concur_agents.simulation.limits import SchedulerLimits
from concur_agents.simulation.models import BF16_BYTES

if TYPE_CHECKING:
    from concur_agents.simulation.hardware import Hardware
    from concur_agents.simulation.models import ModelShape
    from concur_agents.simulation.step import StepLoad

BANDWIDTH_FRACTION = 0.85
"""Of the memory's peak bandwidth, chosen as said at `STEP_OVERHEAD`; of a link's too, for want of a better figure."""

COMPUTE_FRACTION = 0.65
"""Of the peak flop/s. FlashAttention-3 alone reaches 0.75 of an H100 (Shah et al., arXiv 2407.08608), training runs
0.38 to 0.43 end to end (The Llama 3 Herd of Models, arXiv 2407.21783, table 4); 0.65 was chosen for the times of long
prompts that the Qwen team publishes for SGLang (docs/hardware.md)."""

STEP_OVERHEAD = 1.5e-3
"""What a step costs besides: scheduling, launching, sampling. [s] This, the next and the first constant were chosen
together, near the flat optimum of a coarse grid, for 16 decodes of Llama-3.1-8B and Qwen3-8B on one H100 that the
ML.ENERGY leaderboard v3 publishes for vLLM 0.11.1; docs/hardware.md has all of it beside the predictions."""

REQUEST_OVERHEAD = 50e-6
"""What each request of a batch adds to that: its row of logits, its part in scheduling and answering. [s]"""

RESERVED_BYTES = 2 * 2**30
"""CUDA's context, NCCL's buffers and CUDA graphs on each GPU: a round guess. [bytes]"""

LOGIT_COPIES = 3
"""FP32 copies of the logits alive at once in sampling: the logits, sorted ones, probabilities. A guess."""

ACTIVATION_COPIES = 16
"""BF16 hidden states' worth of activations alive at once in a layer, of the largest batch: a guess. With
the two above, Qwen3-32B and Qwen3-8B on H100s come out within 20 % of the contexts that ML.ENERGY's servers held."""


class RooflineStepTime:
    """The step time of a model on some GPUs, tensor parallel over all of them.

    Args:
        model: What is served.
        hardware: What it is served on.

    Raises:
        ValueError: The model's heads cannot be shared out over so many GPUs.
    """

    __slots__ = (
        "_attended",
        "_constant",
        "_expert_weights",
        "_kv_read",
        "_kv_request",
        "_linear_request",
        "_linear_token",
        "_missed",
        "_read",
        "_request",
        "_token",
        "_weights",
        "_window_token",
        "hardware",
        "model",
    )

    def __init__(self, model: ModelShape, hardware: Hardware) -> None:
        model.check_split(hardware.count)
        self.model = model
        self.hardware = hardware
        gpu = hardware.gpu
        count = hardware.count
        bytes_time = 1 / (gpu.bandwidth * BANDWIDTH_FRACTION)
        bf16_time = 1 / (gpu.bf16_flops * COMPUTE_FRACTION * count)
        linear_time = 1 / (gpu.fp8_flops * COMPUTE_FRACTION * count) if model.fp8 else bf16_time

        # A gather of a few rows is all that is read of the input embedding.
        self._weights = (model.plain_bytes + model.embedding_bytes) / count * bytes_time
        self._expert_weights = model.routed_bytes / count * bytes_time
        experts = model.experts
        self._missed = 1 - experts.per_token / experts.count if experts else 1.0
        self._linear_token = 2 * (model.active_params - 2 * model.embedding_params) * linear_time
        # Logits are computed for one token of every request, of those amid a chunked prompt too
        # (vLLM 0.32 v1/worker/gpu_model_runner.py `_prepare_inputs`, `logits_indices`).
        self._linear_request = 2 * model.embedding_params * bf16_time

        first, more = _attention_flops(model)
        self._read = (first - more) * bf16_time
        self._attended = more * bf16_time
        self._kv_read = model.kv_bytes_per_token_on(count) * bytes_time
        window = model.sliding_layers * model.sliding_window
        self._window_token = 4 * window * model.heads * model.head_dim * bf16_time
        self._kv_request = window * model.kv_layer_bytes_on(count) * bytes_time

        link = hardware.link
        reduces = 2 * model.layers if count > 1 else 0
        moved = 2 * (count - 1) / count * model.hidden * BF16_BYTES
        self._token = reduces * moved / (link.bandwidth * BANDWIDTH_FRACTION)
        self._request = REQUEST_OVERHEAD
        self._constant = STEP_OVERHEAD + reduces * link.latency

    def __call__(self, load: StepLoad, /) -> float:
        """Duration of one step. [s]"""
        tokens, requests, _, attended, read, _ = load
        weights = self._weights + self._expert_weights * (1.0 - self._missed**tokens)
        linear = self._linear_token * tokens + self._linear_request * requests
        traffic = self._kv_read * read + self._kv_request * requests
        attention = self._read * read + self._attended * attended + self._window_token * tokens
        return (
            self._constant
            + self._request * requests
            + self._token * tokens
            + max(weights, linear)
            + max(traffic, attention)
        )

    def __repr__(self) -> str:
        return f"RooflineStepTime({self.model.name}, {self.hardware})"


def _attention_flops(model: ModelShape) -> tuple[int, int]:
    """What attending one token costs over all heads and growing layers: a request's first token, each further one.

    They differ for latent attention only. A decode works on the latent vectors as they are ("absorbed"), a prefill on
    the keys and values that they stand for, which are smaller (vLLM 0.32 model_executor/layers/attention/
    mla_attention.py). A request reads its context once, so of what is attended as much as is read is counted absorbed.
    """
    if model.latent is None:
        flops = 4 * (model.layers - model.sliding_layers) * model.heads * model.head_dim
        return flops, flops
    latent = model.latent
    per_head = 2 * model.layers * model.heads
    return per_head * (2 * latent.rank + latent.rope), per_head * (latent.nope + latent.rope + latent.value)


def kv_capacity_tokens(
    model: ModelShape,
    hardware: Hardware,
    *,
    gpu_memory_utilization: float = 0.92,
    limits: SchedulerLimits | None = None,
) -> int:
    """How much context a vLLM server could keep: what weights and working memory leave of its share of the GPUs.

    Args:
        model: What is served.
        hardware: What it is served on.
        gpu_memory_utilization: vLLM's share of each GPU's memory (vLLM 0.32 config/cache.py).
        limits: The server's; larger batches need more working memory.

    Returns:
        The size of the KV cache. [tokens]

    Raises:
        ValueError: The model does not fit, with the number of GPUs that it needs; or it cannot be split over so many;
            or the utilization is no share.
    """
    if not 0 < gpu_memory_utilization <= 1:
        raise ValueError(f"gpu_memory_utilization is {gpu_memory_utilization}: it must be above 0 and at most 1")
    model.check_split(hardware.count)
    limits = limits or SchedulerLimits()
    share = gpu_memory_utilization * hardware.gpu.memory_bytes
    working = working_bytes(model, limits)

    def fitting(gpus: int) -> int:
        return int((share - working - model.weight_bytes / gpus) / model.kv_bytes_per_token_on(gpus))

    tokens = fitting(hardware.count)
    if tokens > 0:
        return tokens
    splits = (1 << power for power in range(1, (model.heads & -model.heads).bit_length()))
    enough = next((gpus for gpus in splits if gpus > hardware.count and fitting(gpus) > 0), None)
    raise ValueError(
        f"{model.name} does not fit {hardware}: its weights take {model.weight_bytes / hardware.count / 2**30:.1f} GiB "
        f"of each GPU, where {max(0, share - working) / 2**30:.1f} GiB are left for weights and KV cache: "
        + (f"use {hardware.gpu.name}:{enough} or more" if enough else "use GPUs with more memory")
    )


def working_bytes(model: ModelShape, limits: SchedulerLimits) -> int:
    """Memory of a GPU that is neither weights nor KV cache. [bytes]

    vLLM measures it by running the largest batch (vLLM 0.32 v1/worker/gpu_worker.py `determine_available_memory`); this
    is an estimate: CUDA, NCCL and CUDA graphs take a fixed amount, sampling the largest batch some copies of its FP32
    logits, and the layers some copies of its hidden states.

    Args:
        model: What is served.
        limits: The server's limits.
    """
    logits = LOGIT_COPIES * limits.max_num_seqs * model.vocab * 4
    activations = ACTIVATION_COPIES * limits.max_num_batched_tokens * model.hidden * BF16_BYTES
    return RESERVED_BYTES + logits + activations
