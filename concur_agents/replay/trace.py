"""The trace format: agents as numbers only, one JSON object a line (`.jsonl` or `.jsonl.gz`)."""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from concur_agents.errors import ConcurError

if TYPE_CHECKING:
    from typing import Self, TextIO

Tokens = Annotated[int, Field(ge=0)]
Seconds = Annotated[float, Field(ge=0.0, allow_inf_nan=False)]


class TraceError(ConcurError, ValueError):
    """A trace cannot be read or replayed; the message says where and what is wrong."""


class TraceStep(BaseModel):
    """One LLM call of an agent, and the wait after it.

    Attributes:
        context_tokens: The whole prompt. [tokens, at least 1]
        new_input_tokens: The part of it that is new; the rest is kept from the step before. [tokens]
        output_tokens: Generated tokens.
        tool_seconds: The wait between this call and the next; None: not recorded. [s]
        reset: Whether the context was cut or rewritten here, so that little of it is kept.
        human_seconds: A person was awaited, too. A replay does not wait for people. [s]
        spawns: The names of the agents that run after this call and in place of its tool wait: all start
            when the call has ended, as agents nested in this one, and the next call is made when all have
            ended. `tool_seconds` is then not waited: at best it records how long they took.
    """

    model_config = ConfigDict(frozen=True)

    context_tokens: Annotated[int, Field(ge=1)]
    new_input_tokens: Tokens
    output_tokens: Tokens
    tool_seconds: Seconds | None = None
    reset: bool = False
    human_seconds: Seconds | None = None
    spawns: tuple[str, ...] = ()

    @property
    def kept_tokens(self) -> int:
        """How many tokens are kept from the prompt and output of the step before."""
        return self.context_tokens - self.new_input_tokens

    @model_validator(mode="after")
    def _new_is_part_of_context(self) -> Self:
        if self.new_input_tokens > self.context_tokens:
            raise ValueError(
                f"new_input_tokens ({self.new_input_tokens}) exceeds context_tokens ({self.context_tokens})"
            )
        return self


class AgentTrace(BaseModel):
    """One agent: its calls in their order.

    Attributes:
        agent_id: Its name in the trace.
        steps: Its calls, at least one.
        source: Where the trace comes from.
        parent: The agent that started it, if any. A replay runs it as an agent of its own, unless a step of
            the parent names it in `spawns`.
        prefix_group: Agents of one group open with the same tokens (system prompt, tool definitions).
        shared_prefix_tokens: How many. [tokens]
        tokens: How the counts were had: "exact", "estimated", "generated", or more words.
        start_seconds: When it asks for its place, from the start of the run; for an agent that another
            spawns, from the end of the call that spawns it. [s]
    """

    model_config = ConfigDict(frozen=True)

    agent_id: str
    steps: Annotated[tuple[TraceStep, ...], Field(min_length=1)]
    source: str = ""
    parent: str | None = None
    prefix_group: str = ""
    shared_prefix_tokens: Tokens = 0
    tokens: str = "exact"
    start_seconds: Seconds = 0.0

    @model_validator(mode="after")
    def _what_is_spawned_is_awaited(self) -> Self:
        if self.steps[-1].spawns:
            raise ValueError(f"the last step spawns {self.steps[-1].spawns[0]}: give it a step after that, to await it")
        return self


def read_traces(path: str | Path) -> list[AgentTrace]:
    """Every agent of a trace file, in the file's order; empty lines are skipped.

    Args:
        path: A `.jsonl` file, or a `.jsonl.gz`.

    Raises:
        TraceError: If the file cannot be read, holds no agent, or a line of it is wrong; the message
            names the file, the line and the fault.
    """
    path = Path(path)
    if not path.name.endswith((".jsonl", ".jsonl.gz")):
        raise TraceError(f"{path}: a trace is a .jsonl or .jsonl.gz file, one agent a line")
    try:
        with _open(path) as lines:
            agents = [_parse(line, path, number) for number, line in enumerate(lines, start=1) if line.strip()]
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        # An OSError repeats the path; its strerror alone does not.
        reason = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise TraceError(f"{path}: cannot be read: {reason}") from error
    if not agents:
        raise TraceError(f"{path}: the file holds no agent")
    return agents


def _open(path: Path) -> TextIO:
    if path.suffix == ".gz":
        return gzip.open(path, "rt", encoding="utf-8")
    return path.open(encoding="utf-8")


def _parse(line: str, path: Path, number: int) -> AgentTrace:
    try:
        return AgentTrace.model_validate_json(line)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        fault = f"{where}: {first['msg']}" if where else first["msg"]
        raise TraceError(f"{path}, line {number}: {fault}") from error
