"""SGLang's profile: its flags were read in its sources, and nothing was run."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, ClassVar

from concur_agents.launch.flag import Flag
from concur_agents.launch.profile import NO_METRICS, LaunchProfile
from concur_agents.simulation.roofline import working_bytes

if TYPE_CHECKING:
    from collections.abc import Mapping

CHECKED = "0.5.23"
"""The release whose sources were read; 0.4.9 has all of the flags but --enable-priority-scheduling."""

MEM_FRACTION_STATIC = 0.85
"""Weights and KV cache over all memory. SGLang's own choice depends on the GPU and lies around it."""

TOOL_PARSERS: Mapping[str, str] = MappingProxyType(
    {
        "qwen3-8b": "qwen25",
        "qwen3-32b": "qwen25",
        "qwen3-30b-a3b": "qwen25",
        "qwen3-235b-a22b": "qwen25",
        "llama-3.1-8b": "llama3",
        "llama-3.3-70b": "llama3",
        "deepseek-v3": "deepseekv3",
        "gpt-oss-120b": "gpt-oss",
        "glm-4.5-air": "glm45",
    }
)
"""SGLang 0.5.23 srt/function_call/parser_names.py."""


class SglangProfile(LaunchProfile):
    """An SGLang server for a load of agents. Flags were checked against its sources; it was not run."""

    engine: ClassVar[str] = "SGLang"
    aliases: ClassVar[dict[str, str]] = {
        "--model": "--model-path",
        "--tensor-parallel-size": "--tp-size",
        "--tp": "--tp-size",
    }
    ours: ClassVar[dict[str, str]] = {
        "--model-path": "give it as --model",
        "--served-model-name": "give it as --served-name",
        "--host": "give it as --host",
        "--port": "give it as --port",
        "--tp-size": "say --gpus",
        "--context-length": "say --context",
        "--config": "a file would hide from here what it says; give its options",
        "--api-key": "everyone on the machine could read it there; put a proxy that asks for a key before it",
    }

    def command(self) -> list[str]:
        """SGLang's server is a Python module."""
        return ["python3", "-m", "sglang.launch_server"]

    def own_image(self) -> str:
        """The image of the release that was read."""
        return f"lmsysorg/sglang:v{CHECKED}"

    def own_flags(self) -> list[Flag]:
        """Our arguments, the model first."""
        requests = self.limits.max_num_seqs
        flags = [
            Flag.of("--model-path", self.model_argument(), reason="what is served"),
            *self.name_flags(),
            Flag.of("--host", self.host, reason=self.host_reason()),
            Flag.of("--port", self.port, reason=f"the gate's URL is http://127.0.0.1:{self.port}"),
            Flag.of("--tp-size", self.gpus, reason="one copy of the weights over all GPUs, one KV cache"),
            Flag.of("--context-length", self.context, reason="the context of an agent at its largest"),
            Flag.of("--mem-fraction-static", MEM_FRACTION_STATIC, reason="of each GPU for weights and KV cache"),
            Flag.of("--max-running-requests", requests, reason="the gate holds agents back, not the server"),
            Flag.of("--enable-metrics", reason="what it does shows on /metrics; off by default"),
            Flag.of("--enable-cache-report", reason="answers tell cached tokens: the gate sees each eviction"),
        ]
        if self.fp8_kv:
            flags.append(Flag.of("--kv-cache-dtype", "fp8_e4m3", reason="half the bytes a token, twice the agents"))
        if self.priorities:
            flags.append(Flag.of("--enable-priority-scheduling", reason="requests carry a priority"))
        parser = self.tool_parser or TOOL_PARSERS.get(self.shape.name)
        if parser not in {None, "none"}:
            flags.append(Flag.of("--tool-call-parser", parser, reason="how this model writes its tool calls"))
        return flags

    def own_warnings(self) -> list[str]:
        """What will hurt on SGLang."""
        said = [
            f"SGLang was not run: the flags were checked against the sources of {CHECKED}, the sizes are estimates",
            NO_METRICS.format(engine=self.engine),
        ]
        requests = int(self.number("--max-running-requests"))
        if requests < self.agents:
            said.append(
                f"--max-running-requests {requests} is under the {self.agents} agents that the gate may let in: give "
                f"it a ceiling, ConcurGate(max_agents={requests})"
            )
        if self.has("--disable-radix-cache"):
            said.append("with --disable-radix-cache every turn is read from its beginning: no gate can help")
        return said

    def context_is_overridden(self) -> bool:
        """Whether an override of the model's configuration was given."""
        return any(word.startswith("--json-model-override-args") for word in self.extra)

    def utilization(self) -> float:
        """SGLang's share is without working memory, vLLM's with it."""
        working = working_bytes(self.shape, self.limits) / self.gpu.gpu.memory_bytes
        return min(1.0, self.number("--mem-fraction-static") + working)
