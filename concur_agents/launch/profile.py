"""What every engine's profile has in common: the load, the machine, and the arithmetic."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict, Field, PositiveInt, field_validator, model_validator

from concur_agents.launch.capacity import Capacity
from concur_agents.launch.flag import Flag, find, key, merged, parse_flags
from concur_agents.launch.served import find_model
from concur_agents.simulation.hardware import INFINITY_FABRIC, PCIE_4, Gpu, Hardware, parse_hardware
from concur_agents.simulation.limits import SchedulerLimits
from concur_agents.simulation.profile import default_limits
from concur_agents.simulation.roofline import kv_capacity_tokens

if TYPE_CHECKING:
    from concur_agents.simulation.models import ModelShape

_GIB = 2**30

LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})
ALL_ADDRESSES = "0.0.0.0"  # noqa: S104  only inside a container, where it is the container's own network
MODEL_MOUNT = "/model"
"""Where a model's folder is seen in a container."""

NO_METRICS = 'the gate reads no metrics of {engine}: ConcurGate(metrics="optional") goes by the tokens of the answers'

FEWEST_REQUESTS, MOST_REQUESTS = 64, 1024
"""Requests that may run at once: 1024 is the most that vLLM takes by itself (0.32 engine/arg_utils.py
`get_batch_defaults`); with more, sampling alone takes gigabytes of each GPU."""


class LaunchProfile(BaseModel, ABC):
    """A server for a load of agents, described.

    Attributes:
        model: A name or Hugging Face id, or a folder with a config.json.
        model_config_path: A config.json, or its folder, of a model that is not known.
        gpus: How many; the server is tensor parallel over all of them.
        hardware: What they are, as `parse_hardware` takes it, without the number.
        gpu_memory_gib: Memory of one, for a kind that is not known. [GiB]
        agents: Agents that shall run: the gate's ceiling.
        context: The context of an agent at its largest, prompt and output. [tokens]
        kv_bytes_per_token: What a token of context takes on all GPUs together, where nothing else tells. [bytes]
        weight_gib: The weights, where nothing else tells. [GiB]
        fp8_kv: Keep keys and values in FP8.
        priorities: Whether requests carry a priority.
        tool_parser: The engine's name for how the model writes its tool calls; `none` for no tools, by default
            what is known for the model.
        host: Where to listen.
        port: Where to listen.
        served_name: What clients call the model.
        image: The container image, instead of the engine's own.
        extra: More arguments of the server, which count where they say the same as ours.
        contained: Told as in a container: its folder is mounted, all of the container's addresses are listened on.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=(), hide_input_in_errors=True)

    engine: ClassVar[str]
    """What the engine is called, for people."""
    aliases: ClassVar[dict[str, str]] = {}
    """Other names of options, to those that are used here."""
    ours: ClassVar[dict[str, str]]
    """Options of the server that are not to be given by hand, to what to do instead."""
    metrics_path: ClassVar[str] = "/metrics"
    options_file: ClassVar[str] = "options.yaml"
    """Where the options go that an engine takes from a file only."""
    key_variable: ClassVar[str | None] = None
    """The environment variable that the server takes its API key from."""

    model: Annotated[str, Field(min_length=1)]
    model_config_path: str | None = None
    gpus: PositiveInt = 1
    hardware: str = "h100"
    gpu_memory_gib: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    agents: PositiveInt
    context: Annotated[int, Field(ge=2)]
    kv_bytes_per_token: PositiveInt | None = None
    weight_gib: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    fp8_kv: bool = False
    priorities: bool = False
    tool_parser: str | None = None
    host: Annotated[str, Field(min_length=1)] = "127.0.0.1"
    port: Annotated[int, Field(ge=1, le=65535)] = 8000
    served_name: str | None = None
    image: str | None = None
    extra: tuple[str, ...] = ()
    contained: bool = False

    @field_validator("model", "tool_parser", "host", "served_name", "image", "extra")
    @classmethod
    def _fits_one_line(cls, told: str | tuple[str, ...] | None) -> str | tuple[str, ...] | None:
        """A line break would end a comment or a line of the files that are written."""
        for text in (told,) if isinstance(told, str) else told or ():
            if any(ord(sign) < 32 or ord(sign) == 127 for sign in text):
                raise ValueError(f"{text!r} has a control character: leave it out")
        return told

    @field_validator("hardware")
    @classmethod
    def _hardware_is_known(cls, text: str) -> str:
        return parse_hardware(text).gpu.name

    @model_validator(mode="after")
    def _server_would_start(self) -> Self:
        for flag in parse_flags(self.extra):
            name = key(flag.name, self.aliases)
            for taken, instead in self.ours.items():
                # Parsers take the beginning of a name for the name: a key must not slip through as --api-k.
                if len(name) > 3 and taken.startswith(name):
                    raise ValueError(f"{flag.name} is not for after --: {instead}")
        self.check_context()
        capacity = self.capacity()
        if capacity.tokens < self.context:
            raise ValueError(
                f"one agent of {self.context:,} tokens does not fit: about {capacity.tokens:,} tokens of KV cache are "
                f"left on {self.gpu}: use more or larger GPUs, a smaller context, or --fp8-kv"
            )
        return self

    @property
    def shape(self) -> ModelShape:
        """What is known of the model."""
        return find_model(
            self.model,
            config=self.model_config_path,
            kv_bytes_per_token=self.kv_bytes_per_token,
            weight_gib=self.weight_gib,
        )

    @property
    def gpu(self) -> Hardware:
        """The GPUs."""
        if self.gpu_memory_gib is not None:  # only memory counts here
            told = Gpu(f"{self.gpu_memory_gib:g}-GiB", int(self.gpu_memory_gib * _GIB), 1, 1, 1, PCIE_4, "as told")
            return Hardware(told, self.gpus)
        return Hardware(parse_hardware(self.hardware).gpu, self.gpus)

    @property
    def folder(self) -> Path | None:
        """The model's folder on this machine, if it is one."""
        path = Path(self.model)
        return path.resolve() if path.is_dir() else None

    @property
    def limits(self) -> SchedulerLimits:
        """Requests at once, and tokens a step: as many requests as agents, within what is wise."""
        hardware = self.gpu
        usual = default_limits(hardware.gpu.name, hardware.gpu.memory_bytes).max_num_batched_tokens
        requests = min(max(self.agents, FEWEST_REQUESTS), MOST_REQUESTS)
        return SchedulerLimits(max_num_batched_tokens=max(usual, requests), max_num_seqs=requests)

    @property
    def amd(self) -> bool:
        """Whether the GPUs are AMD's; those of a kind that is not known are taken for NVIDIA's."""
        return self.gpu.gpu.link is INFINITY_FABRIC

    @property
    def released_image(self) -> str:
        """The container image to run."""
        if self.image is not None:
            return self.image
        if self.amd:
            raise ValueError(
                f"which image serves {self.hardware}? Name one made for ROCm, of the same version: --image"
            )
        return self.own_image()

    def capacity(self) -> Capacity:
        """How many agents fit.

        Raises:
            ValueError: The weights do not fit, with the number of GPUs that they need.
        """
        model, hardware = self.shape, self.gpu
        tokens = kv_capacity_tokens(
            model, hardware, gpu_memory_utilization=self.utilization(), limits=self.limits_taken()
        )
        halved = 2 if self.kv_in_fp8() else 1
        return Capacity(
            model=model,
            hardware=hardware,
            tokens=tokens * halved,
            kv_bytes_per_token=model.kv_bytes_per_token_on(hardware.count) / halved,
            agents=self.agents,
            context=self.context,
        )

    def flags(self) -> list[Flag]:
        """Every argument with its reason, those that were added by hand last."""
        return merged(self.own_flags(), parse_flags(self.extra), self.aliases)

    def arguments(self) -> list[str]:
        """The server's arguments, without the command."""
        return [word for flag in self.flags() for word in flag.words]

    def inside_container(self) -> Self:
        """The same server, told as in a container."""
        update: dict[str, object] = {"host": ALL_ADDRESSES, "contained": True}
        if self.folder is not None:
            update["served_name"] = self.served_name or self.folder.name
        return self.model_copy(update=update)

    def check_context(self) -> None:
        """See whether the model can do contexts of this size.

        Raises:
            ValueError: It cannot, and nothing was added that lets it.
        """
        longest = self.shape.max_model_len
        if longest and self.context > longest and not self.context_is_overridden():
            raise ValueError(
                f"{self.model} is made for {longest:,} tokens, not {self.context:,}: use a smaller context, or give "
                "the server what the model card says of longer ones, after --"
            )

    def warnings(self) -> list[str]:
        """What will hurt, each with what to do."""
        said = self.own_warnings()
        capacity = self.capacity()
        if capacity.copies > 1.01:
            said.append(
                f"each token of context is kept {capacity.copies:.3g} times, as {self.gpus} GPUs cannot share out the "
                f"key-value heads of this model{self._better_split(capacity.tokens)}"
            )
        if capacity.oversubscription > 10:
            said.append(
                f"{self.agents} agents are {capacity.oversubscription:.0f} times what fits: it works, and most of them "
                "wait most of the time; FP8 keys and values (--fp8-kv) or more GPUs shorten that"
            )
        if self.host not in LOOPBACK:
            key = f"set {self.key_variable} where it runs" if self.key_variable else "put a proxy with a key before it"
            said.append(f"{self.host} lets others in, and who gets in uses your GPUs: {key}")
        return said

    def taken(self, name: str) -> str | None:
        """The value that an option has in the end."""
        flag = find(self.flags(), name, self.aliases)
        return flag.value if flag else None

    def has(self, name: str) -> bool:
        """Whether an option is given in the end."""
        return find(self.flags(), name, self.aliases) is not None

    def number(self, name: str) -> float:
        """The value that an option has in the end, where it is a number.

        Raises:
            ValueError: It is none.
        """
        text = self.taken(name)
        try:
            return float(text or "")
        except ValueError:
            raise ValueError(f"{name} is {text!r}: it must be a number") from None

    def name_flags(self, name: str = "--served-model-name") -> list[Flag]:
        """What clients call the model, where that is not what the server is told to load."""
        called = self.served_name or (self.folder.name if self.folder else None)
        return [Flag.of(name, called, reason="what clients call the model")] if called else []

    def host_reason(self) -> str:
        """Why it listens where it listens."""
        if self.host in LOOPBACK:
            return "nobody but this machine gets in; through a tunnel or a proxy others may"
        if self.contained:
            return "all addresses: in a container the only way in; the port is published to 127.0.0.1 or the cluster"
        return "where you want it to listen"

    def _better_split(self, tokens: int) -> str:
        """Whether several smaller servers hold more than one."""
        for servers in (2, 4, 8, 16):
            gpus, rest = divmod(self.gpus, servers)
            if rest or not gpus:
                break
            try:
                part = self.model_copy(update={"gpus": gpus}).capacity().tokens
            except ValueError:  # the weights do not fit so few
                break
            if servers * part > 1.1 * tokens:
                return f": {servers} servers of {gpus} GPUs would hold {servers * part / tokens:.1f} times as much"
        return ""

    @abstractmethod
    def command(self) -> list[str]:
        """The program, before its arguments."""

    @abstractmethod
    def own_flags(self) -> list[Flag]:
        """Our arguments, the model first."""

    @abstractmethod
    def own_image(self) -> str:
        """The container image that the engine's makers publish, for NVIDIA GPUs."""

    @abstractmethod
    def own_warnings(self) -> list[str]:
        """What will hurt on this engine."""

    @abstractmethod
    def context_is_overridden(self) -> bool:
        """Whether something was given that lets the model do longer contexts."""

    @abstractmethod
    def utilization(self) -> float:
        """The share of each GPU's memory that weights, working memory and KV cache take together, as vLLM counts it."""

    def options(self) -> dict[str, Any] | None:
        """What the engine takes from a file only; None if there is nothing of the kind."""
        return None

    def kv_in_fp8(self) -> bool:
        """Whether keys and values take one byte, not two."""
        return (self.taken("--kv-cache-dtype") or "").startswith("fp8")

    def limits_taken(self) -> SchedulerLimits:
        """The limits that the server has in the end."""
        return self.limits

    def model_argument(self) -> str:
        """What the server is told to load."""
        if self.folder is not None:
            return MODEL_MOUNT if self.contained else self.model
        return self.shape.hf_id
