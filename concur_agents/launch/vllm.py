"""vLLM's profile."""

from __future__ import annotations

import math
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated, ClassVar

from pydantic import Field, field_validator

from concur_agents.launch.flag import Flag, parse_flags
from concur_agents.launch.profile import MOST_REQUESTS, LaunchProfile
from concur_agents.launch.versions import (
    NEWEST,
    OLDEST,
    PARSERS_SINCE,
    REQUESTS_UNLOGGED_SINCE,
    ROPE_PARAMETERS_SINCE,
    SINCE,
    UNTIL,
    UTILIZATION_RAISED_SINCE,
    Version,
    has_flag,
    parse_version,
    written,
)
from concur_agents.simulation.limits import SchedulerLimits

if TYPE_CHECKING:
    from collections.abc import Mapping

    from concur_agents.simulation.models import ModelShape

GPU_MEMORY_UTILIZATION = 0.92
"""Of each GPU's memory: vLLM's default from 0.20 on, 0.9 before (config/cache.py)."""

TOOL_PARSERS: Mapping[str, str] = MappingProxyType(
    {
        "qwen3-8b": "hermes",
        "qwen3-32b": "hermes",
        "qwen3-30b-a3b": "hermes",
        "qwen3-235b-a22b": "hermes",
        "llama-3.1-8b": "llama3_json",
        "llama-3.3-70b": "llama3_json",
        "deepseek-v3": "deepseek_v3",
        "gpt-oss-120b": "openai",
        "glm-4.5-air": "glm45",
    }
)
"""How each known model writes its tool calls (vLLM's documentation, features/tool_calling)."""

YARN_MODELS = frozenset({"qwen3-8b", "qwen3-32b", "qwen3-30b-a3b", "qwen3-235b-a22b"})
YARN_ORIGINAL = 32_768
YARN_MOST = 131_072
ROPE_THETA = 1_000_000
"""Of Qwen3: pretrained on 32,768 tokens, tried with YaRN up to 131,072 (its model card, "Processing Long Texts"); the
base is that of its config.json."""


class VllmProfile(LaunchProfile):
    """A vLLM server for a load of agents.

    ```python
    profile = VllmProfile(model="qwen3-32b", gpus=8, agents=256, context=65_536)
    print(profile.capacity().fitting, profile.arguments())
    ```

    Attributes:
        version: The release, 0.9 or newer: it decides which flags there are.
    """

    engine: ClassVar[str] = "vLLM"
    aliases: ClassVar[dict[str, str]] = {
        "-tp": "--tensor-parallel-size",
        "-dp": "--data-parallel-size",
        "-pp": "--pipeline-parallel-size",
        "-q": "--quantization",
    }
    ours: ClassVar[dict[str, str]] = {
        "--model": "give it as --model",
        "--served-model-name": "give it as --served-name",
        "--host": "give it as --host",
        "--port": "give it as --port",
        "--tensor-parallel-size": "say --gpus",
        "--max-model-len": "say --context",
        "--config": "a file would hide from here what it says; give its options",
        "--api-key": "everyone on the machine could read it there; set VLLM_API_KEY",
        "--hf-token": "everyone on the machine could read it there; set HF_TOKEN",
    }
    key_variable: ClassVar[str | None] = "VLLM_API_KEY"

    version: Annotated[str, Field(min_length=1)] = written(NEWEST)

    @field_validator("version")
    @classmethod
    def _version_is_known(cls, text: str) -> str:
        parse_version(text)
        return text.strip().removeprefix("v")

    @property
    def release(self) -> Version:
        """The version, to compare."""
        return parse_version(self.version)

    def command(self) -> list[str]:
        """`vllm serve`."""
        return ["vllm", "serve"]

    def own_image(self) -> str:
        """The image of this release; releases have three numbers there."""
        whole = self.version if self.version.count(".") > 1 else f"{self.version}.0"
        return f"vllm/vllm-openai:v{whole}"

    def own_flags(self) -> list[Flag]:
        """Our arguments, the model first."""
        model = self.shape
        default = "0.92" if self.release >= UTILIZATION_RAISED_SINCE else "0.9"
        share = f"of each GPU for weights and KV cache (vLLM's default: {default})"
        flags = [
            Flag.of("", self.model_argument(), reason="what is served"),
            *self.name_flags(),
            Flag.of("--host", self.host, reason=self.host_reason()),
            Flag.of("--port", self.port, reason=f"the gate's URL is http://127.0.0.1:{self.port}"),
            Flag.of("--tensor-parallel-size", self.gpus, reason="one copy of the weights over all GPUs, one KV cache"),
            Flag.of("--max-model-len", self.context, reason="the context of an agent at its largest"),
            *self._yarn_flags(model),
            Flag.of("--gpu-memory-utilization", GPU_MEMORY_UTILIZATION, reason=share),
            *self._kv_flags(),
            *self._scheduler_flags(),
            Flag.of("--enable-prefix-caching", reason="an agent's next turn finds its history: what the gate protects"),
            Flag.of("--enable-prompt-tokens-details", reason="answers tell cached tokens: the gate sees each eviction"),
            Flag.of("--enable-force-include-usage", reason="streams tell their tokens too: the gate weighs each agent"),
            Flag.of("--kv-cache-metrics", reason="how long KV blocks live, sampled: thrash shows on /metrics"),
            *self._tool_flags(model),
            *self._log_flags(),
        ]
        return [flag for flag in flags if has_flag(self.release, flag.name)]

    def own_warnings(self) -> list[str]:
        """What will hurt on vLLM."""
        flags = self.flags()
        said = self._version_warnings(flags)
        requests = self.limits_taken().max_num_seqs
        if requests < self.agents:
            said.append(
                f"--max-num-seqs {requests} is under the {self.agents} agents that the gate may let in: others wait in "
                f"the server, where nobody sees why; give the gate a ceiling, ConcurGate(max_agents={requests})"
            )
        if self.has("--disable-log-stats"):
            said.append("--disable-log-stats turns the metrics off: the gate sees nothing; leave it out")
        if not self.has("--enable-prompt-tokens-details"):
            said.append("without --enable-prompt-tokens-details the gate does not learn which agent lost its cache")
        if not self.has("--enable-prefix-caching"):
            said.append("without --enable-prefix-caching every turn is read from its beginning: no gate can help")
        policy = self.taken("--scheduling-policy")
        if self.priorities and policy != "priority":
            said.append("requests with a priority are refused without --scheduling-policy priority")
        if self._yarn_factor() is not None and not self._overrides():
            said.append(
                f"{self.context:,} tokens are beyond the {self.shape.max_model_len:,} that the model is made for: YaRN "
                "stretches all contexts, and short ones may get worse by it (its model card); less context avoids it"
            )
        for name in ("--data-parallel-size", "--pipeline-parallel-size"):
            if self.has(name):
                said.append(f"{name} is not counted in what fits here")
        return said

    def context_is_overridden(self) -> bool:
        """Whether YaRN is known for the model, or an override was given."""
        return self._yarn_factor() is not None or self._overrides()

    def utilization(self) -> float:
        """As it is told."""
        return self.number("--gpu-memory-utilization")

    def limits_taken(self) -> SchedulerLimits:
        """The limits that the server has in the end."""
        return SchedulerLimits(
            max_num_batched_tokens=int(self.number("--max-num-batched-tokens")),
            max_num_seqs=int(self.number("--max-num-seqs")),
        )

    def _overrides(self) -> bool:
        """Whether an override of the model's configuration was given."""
        given = [flag.name.replace("_", "-") for flag in parse_flags(self.extra)]
        return any(name.partition(".")[0] in {"--hf-overrides", "--rope-scaling"} for name in given)

    def _yarn_factor(self) -> float | None:
        """By how much the context is stretched, where the model card says how."""
        model = self.shape
        if model.name not in YARN_MODELS or not model.max_model_len < self.context <= YARN_MOST:
            return None
        return float(math.ceil(self.context / YARN_ORIGINAL))

    def _yarn_flags(self, model: ModelShape) -> list[Flag]:
        factor = self._yarn_factor()
        if factor is None:
            return []
        yarn = {
            "rope_type": "yarn",
            "rope_theta": ROPE_THETA,
            "factor": factor,
            "original_max_position_embeddings": YARN_ORIGINAL,
        }
        key = "rope_parameters" if self.release >= ROPE_PARAMETERS_SINCE else "rope_scaling"
        reason = f"{model.max_model_len:,} tokens by itself; YaRN by its model card for more"
        # Until 0.29 vLLM multiplies the original length by the factor, after that it takes this for the longest.
        longest = int(factor * YARN_ORIGINAL)
        return [Flag.of("--hf-overrides", {"max_position_embeddings": longest, key: yarn}, reason=reason)]

    def _kv_flags(self) -> list[Flag]:
        if not self.fp8_kv:
            return []
        return [Flag.of("--kv-cache-dtype", "fp8", reason="half the bytes a token: twice the agents, less exact")]

    def _scheduler_flags(self) -> list[Flag]:
        limits = self.limits
        enough = "requests at once, one an agent: the gate holds them back, not the server"
        most = f"requests at once: vLLM's own most, as {self.agents:,} would take too much memory"
        flags = [
            Flag.of("--max-num-seqs", limits.max_num_seqs, reason=enough if self.agents <= MOST_REQUESTS else most),
            Flag.of("--max-num-batched-tokens", limits.max_num_batched_tokens, reason="tokens a step, as vLLM has it"),
        ]
        if self.priorities:
            flags.append(Flag.of("--scheduling-policy", "priority", reason="else requests with a priority are refused"))
        return flags

    def _tool_flags(self, model: ModelShape) -> list[Flag]:
        parser = self.tool_parser or TOOL_PARSERS.get(model.name)
        if parser in {None, "none"} or PARSERS_SINCE.get(str(parser), OLDEST) > self.release:
            return []
        return [
            Flag.of("--enable-auto-tool-choice", reason="agents call tools; without it such requests are refused"),
            Flag.of("--tool-call-parser", parser, reason="how this model writes its tool calls"),
        ]

    def _log_flags(self) -> list[Flag]:
        quiet = Flag.of("--disable-access-log-for-endpoints", "/health,/metrics", reason="polls do not fill the log")
        if self.release >= REQUESTS_UNLOGGED_SINCE:
            return [quiet]
        return [Flag.of("--disable-log-requests", reason="prompts stay out of the log (the default from 0.10.1 on)")]

    def _version_warnings(self, flags: list[Flag]) -> list[str]:
        said = []
        if self.release > (*NEWEST[:2], 99):
            said.append(f"vLLM {self.version} is newer than {written(NEWEST)}, the newest that is known here")
        said += [
            f"vLLM {self.version} has no {flag.name} ({_when(flag.name)})"
            for flag in flags
            if not has_flag(self.release, flag.name)
        ]
        if not self.has("--enable-force-include-usage"):
            said.append("streams tell their tokens only if clients ask (stream_options); gate.openai(...) does")
        parser = self.tool_parser or TOOL_PARSERS.get(self.shape.name)
        if parser is None:
            said.append("how the model writes tool calls is not known here: say --tool-parser NAME, or none")
        elif parser != "none" and not self.has("--tool-call-parser"):
            said.append(f"vLLM {self.version} has no parser {parser} for tool calls: they come as plain text")
        return said


def _when(name: str) -> str:
    if name in SINCE:
        return f"since {written(SINCE[name])}"
    return f"until {written(UNTIL[name])}"
