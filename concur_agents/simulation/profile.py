"""An engine profile: all that is needed to make an engine, as a file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, PositiveInt, ValidationError, field_validator, model_validator

from concur_agents.files import write_whole
from concur_agents.simulation.engine import Engine
from concur_agents.simulation.hardware import parse_hardware
from concur_agents.simulation.limits import SchedulerLimits
from concur_agents.simulation.models import parse_model
from concur_agents.simulation.roofline import RooflineStepTime, kv_capacity_tokens
from concur_agents.simulation.step import LinearStepTime, StepTime

_GIB = 2**30
_STRICT = ConfigDict(frozen=True, extra="forbid")

Cost = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class RooflineProfile(BaseModel):
    """The step time of known hardware.

    Attributes:
        kind: `roofline`.
        model: As `parse_model` takes it.
        hardware: As `parse_hardware` takes it.
    """

    model_config = _STRICT

    kind: Literal["roofline"] = "roofline"
    model: str
    hardware: str

    @field_validator("model")
    @classmethod
    def _model_is_known(cls, name: str) -> str:
        return parse_model(name).name

    @field_validator("hardware")
    @classmethod
    def _hardware_is_known(cls, text: str) -> str:
        return str(parse_hardware(text))

    @model_validator(mode="after")
    def _model_can_be_split(self) -> Self:
        parse_model(self.model).check_split(parse_hardware(self.hardware).count)
        return self

    def step_time(self) -> StepTime:
        """The function."""
        return RooflineStepTime(parse_model(self.model), parse_hardware(self.hardware))


class LinearProfile(BaseModel):
    """A measured step time, linear in the load.

    Attributes:
        kind: `linear`.
        step: Paid by every step. [s]
        token: Paid for each token computed. [s]
        attended: Paid for each token attended by each. [s]
        read: Paid for each KV token read. [s]
        request: Paid for each request in the batch. [s]
        prompt: Paid for each request in the batch that computes its prompt. [s]
        largest: Paid for each token attended by each of the largest prompt in the step. [s]
    """

    model_config = _STRICT

    kind: Literal["linear"] = "linear"
    step: Annotated[float, Field(gt=0, allow_inf_nan=False)]
    token: Cost = 0.0
    attended: Cost = 0.0
    read: Cost = 0.0
    request: Cost = 0.0
    prompt: Cost = 0.0
    largest: Cost = 0.0

    def step_time(self) -> StepTime:
        """The function."""
        return LinearStepTime(
            step=self.step,
            token=self.token,
            attended=self.attended,
            read=self.read,
            request=self.request,
            prompt=self.prompt,
            largest=self.largest,
        )


class EngineProfile(BaseModel):
    """An engine, described.

    Attributes:
        name: The model's name, as the server calls it.
        description: What it stands for, for people.
        blocks: KV blocks; one of them is never used.
        block_size: Tokens a block.
        max_model_len: Longest prompt and output together. [tokens]
        max_num_batched_tokens: Token budget of a step.
        max_num_seqs: Requests that may run at once.
        watermark: Share of all blocks to leave free when admitting beside running requests, 0 to 1.
        async_scheduling: Whether a step is scheduled while the one before it runs.
        step_time: How long a step takes.
        request_latency: What a call takes beside the engine's work: the client, HTTP, the server's own processes. It
            passes before the engine sees the request. [s]
    """

    model_config = _STRICT

    name: Annotated[str, Field(min_length=1)]
    description: str = ""
    blocks: Annotated[int, Field(ge=2)]
    block_size: PositiveInt = 16
    max_model_len: Annotated[int, Field(ge=2)]
    max_num_batched_tokens: PositiveInt = 8192
    max_num_seqs: PositiveInt = 1024
    watermark: Annotated[float, Field(ge=0, lt=1)] = 0.0
    async_scheduling: bool = True
    step_time: Annotated[RooflineProfile | LinearProfile, Field(discriminator="kind")]
    request_latency: Cost = 0.0

    @model_validator(mode="after")
    def _engine_can_be_made(self) -> Self:
        self.engine()
        return self

    @classmethod
    def from_hardware(
        cls, model: str, hardware: str, *, max_model_len: int | None = None, gpu_memory_utilization: float = 0.92
    ) -> Self:
        """What `vllm serve MODEL --tensor-parallel-size COUNT` would start on this hardware.

        Args:
            model: As `parse_model` takes it; served under this very name.
            hardware: As `parse_hardware` takes it.
            max_model_len: Longest prompt and output together; by default the model's own, or what fits if that is
                less, as `--max-model-len auto` does. [tokens]
            gpu_memory_utilization: vLLM's share of each GPU's memory.

        Raises:
            ValueError: A name is unknown, the model does not fit, or a request of `max_model_len` would not.
        """
        shape = parse_model(model)
        gpus = parse_hardware(hardware)
        limits = default_limits(gpus.gpu.name, gpus.gpu.memory_bytes)
        size = cls.model_fields["block_size"].default
        capacity = kv_capacity_tokens(shape, gpus, gpu_memory_utilization=gpu_memory_utilization, limits=limits)
        blocks = capacity // size
        longest = (blocks - 1) * size
        if longest < size:
            raise ValueError(f"{capacity} tokens of KV cache fit {shape.name} on {gpus}: use more or larger GPUs")
        if max_model_len is not None and not 2 <= max_model_len <= min(longest, shape.max_model_len):
            raise ValueError(
                f"max_model_len is {max_model_len}: it must be at least 2, {shape.name} takes at most "
                f"{shape.max_model_len} tokens, and {longest} fit the KV cache of {gpus}"
            )
        return cls(
            name=model.strip(),
            description=f"{shape.hf_id} on {gpus}, by its data sheet",
            blocks=blocks,
            block_size=size,
            max_model_len=max_model_len or min(longest, shape.max_model_len),
            max_num_batched_tokens=limits.max_num_batched_tokens,
            max_num_seqs=limits.max_num_seqs,
            step_time=RooflineProfile(model=shape.name, hardware=str(gpus)),
        )

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read a profile.

        Args:
            path: A JSON file.

        Raises:
            ValueError: It cannot be read or is no profile; the message names the file, the field and the fault.
        """
        try:
            return cls.model_validate_json(Path(path).read_bytes())
        except OSError as error:
            raise ValueError(f"{path}: cannot be read: {error.strerror or error}") from error
        except ValidationError as error:
            raise ValueError(f"{path}: {'; '.join(_faults(error))}") from error

    def save(self, path: str | Path) -> None:
        """Write the profile, whole or not at all.

        Args:
            path: Where to; what is there is replaced.

        Raises:
            OSError: It cannot be written.
        """
        write_whole(Path(path), self.model_dump_json(indent=2) + "\n")

    def engine(self) -> Engine:
        """A new engine of this profile, at the beginning of its time."""
        limits = SchedulerLimits(
            max_num_batched_tokens=self.max_num_batched_tokens,
            max_num_seqs=self.max_num_seqs,
            watermark=self.watermark,
            async_scheduling=self.async_scheduling,
        )
        return Engine(
            self.blocks,
            self.step_time.step_time(),
            block_size=self.block_size,
            limits=limits,
            max_model_len=self.max_model_len,
        )

    @property
    def capacity_tokens(self) -> int:
        """The size of the KV cache as vLLM tells it. [tokens]"""
        return self.engine().capacity_tokens


def default_limits(gpu: str, memory_bytes: int) -> SchedulerLimits:
    """What `vllm serve` takes where it is told nothing (vLLM 0.32 engine/arg_utils.py `get_batch_defaults`)."""
    if memory_bytes >= 160 * _GIB:
        return SchedulerLimits(max_num_batched_tokens=16384, max_num_seqs=1024)
    if memory_bytes >= 70 * _GIB and not gpu.startswith("a100"):
        return SchedulerLimits(max_num_batched_tokens=8192, max_num_seqs=1024)
    return SchedulerLimits(max_num_batched_tokens=2048, max_num_seqs=256)


def _faults(error: ValidationError) -> list[str]:
    """Each fault with the field that it is in."""
    faults = []
    for fault in error.errors(include_url=False):
        field = ".".join(str(part) for part in fault["loc"] if part not in {"roofline", "linear"})
        message = fault["msg"].removeprefix("Value error, ")
        faults.append(f"{field}: {message}" if field else message)
    return faults
