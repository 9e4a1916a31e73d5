"""TensorRT-LLM's profile: its flags were read in its sources, and nothing was run."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar

from concur_agents.launch.flag import Flag
from concur_agents.launch.profile import NO_METRICS, LaunchProfile
from concur_agents.simulation.roofline import working_bytes

if TYPE_CHECKING:
    from collections.abc import Mapping

FREE_MEMORY_FRACTION = 0.9
"""trtllm-serve's default (commands/serve.py `--kv_cache_free_gpu_memory_fraction`)."""

TOOL_PARSERS: Mapping[str, str] = MappingProxyType(
    {
        "qwen3-8b": "qwen3",
        "qwen3-32b": "qwen3",
        "qwen3-30b-a3b": "qwen3",
        "qwen3-235b-a22b": "qwen3",
        "deepseek-v3": "deepseekv3",
    }
)
"""TensorRT-LLM serve/tool_parser/tool_parser_factory.py."""


class TensorRtLlmProfile(LaunchProfile):
    """A TensorRT-LLM server for a load of agents. Flags were checked against its sources; it was not run.

    Part of what agents need is no argument of trtllm-serve and goes into a file of options.
    """

    engine: ClassVar[str] = "TensorRT-LLM"
    aliases: ClassVar[dict[str, str]] = {
        "--tensor-parallel-size": "--tp-size",
        "--free-gpu-memory-fraction": "--kv-cache-free-gpu-memory-fraction",
        "--config": "--extra-llm-api-options",
    }
    ours: ClassVar[dict[str, str]] = {
        "--host": "give it as --host",
        "--port": "give it as --port",
        "--tp-size": "say --gpus",
        "--max-seq-len": "say --context",
        "--extra-llm-api-options": "this has a file of its own there; add yours to it",
    }
    metrics_path: ClassVar[str] = "/prometheus/metrics"

    def command(self) -> list[str]:
        """`trtllm-serve`, whose sub-command `serve` is the default."""
        return ["trtllm-serve"]

    def own_image(self) -> str:
        """The image of the newest release on the package index."""
        return "nvcr.io/nvidia/tensorrt-llm/release:1.2.1"

    def own_flags(self) -> list[Flag]:
        """Our arguments, the model first."""
        limits = self.limits
        flags = [
            Flag.of("", self.model_argument(), reason="what is served"),
            Flag.of("--host", self.host, reason=self.host_reason()),
            Flag.of("--port", self.port, reason=f"the gate's URL is http://127.0.0.1:{self.port}"),
            Flag.of("--tp_size", self.gpus, reason="one copy of the weights over all GPUs, one KV cache"),
            Flag.of("--max_seq_len", self.context, reason="the context of an agent at its largest"),
            Flag.of("--max_batch_size", limits.max_num_seqs, reason="the gate holds agents back, not the server"),
            Flag.of("--max_num_tokens", limits.max_num_batched_tokens, reason="tokens a step"),
            Flag.of("--enable_chunked_prefill", reason="a long prompt does not hold up the turns of others"),
            Flag.of(
                "--kv_cache_free_gpu_memory_fraction",
                FREE_MEMORY_FRACTION,
                reason="of what weights leave of each GPU, for KV cache",
            ),
            Flag.of(
                "--extra_llm_api_options",
                self.options_file,
                reason="what is no argument: metrics, and a cache that is used again",
            ),
        ]
        parser = self.tool_parser or TOOL_PARSERS.get(self.shape.name)
        if parser not in {None, "none"}:
            flags.append(Flag.of("--tool_parser", parser, reason="how this model writes its tool calls"))
        return flags

    def options(self) -> dict[str, Any]:
        """The file of options: metrics for the gate, and a cache whose blocks are used again."""
        cache: dict[str, Any] = {"enable_block_reuse": True}
        if self.fp8_kv:
            cache["dtype"] = "fp8"
        return {"return_perf_metrics": True, "enable_iter_perf_stats": True, "kv_cache_config": cache}

    def own_warnings(self) -> list[str]:
        """What will hurt on TensorRT-LLM."""
        said = [
            "TensorRT-LLM was not run: the flags were checked against its sources, the sizes are estimates",
            NO_METRICS.format(engine=self.engine),
        ]
        if self.limits.max_num_seqs < self.agents:
            ceiling = self.limits.max_num_seqs
            said.append(f"{self.agents} agents are more than the server takes: ConcurGate(max_agents={ceiling})")
        if self.priorities:
            said.append("trtllm-serve takes no priorities from requests")
        return said

    def context_is_overridden(self) -> bool:
        """There is no argument for it."""
        return False

    def utilization(self) -> float:
        """TensorRT-LLM's share is of what weights and working memory leave, vLLM's of all."""
        memory = self.gpu.gpu.memory_bytes
        taken = working_bytes(self.shape, self.limits) + self.shape.weight_bytes / self.gpus
        share = self.number("--kv-cache-free-gpu-memory-fraction")
        return min(1.0, (share * max(0.0, memory - taken) + taken) / memory)

    def kv_in_fp8(self) -> bool:
        """It is an option of the file."""
        return self.fp8_kv
