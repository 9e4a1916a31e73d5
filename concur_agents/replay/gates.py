"""The gate of one run: ours, or what else stands beside it in a comparison."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Protocol, Self, TypeAlias

from concur_agents import ConcurGate
from concur_agents.control import parse_controller

if TYPE_CHECKING:
    from collections.abc import Sequence
    from contextlib import AbstractAsyncContextManager
    from types import TracebackType

    from openai import AsyncOpenAI

    from concur_agents.control import Controller
    from concur_agents.engines import EngineSnapshot
    from concur_agents.stats import Decision


class RunStats(Protocol):
    """What a run asks of a gate at a moment; `concur_agents.stats.GateStats` says what each means."""

    @property
    def active(self) -> int: ...  # noqa: D102
    @property
    def paused(self) -> int: ...  # noqa: D102
    @property
    def queued(self) -> int: ...  # noqa: D102
    @property
    def working_set_tokens(self) -> float: ...  # noqa: D102
    @property
    def capacity_tokens(self) -> float | None: ...  # noqa: D102
    @property
    def usage(self) -> float | None: ...  # noqa: D102
    @property
    def hit_rate(self) -> float | None: ...  # noqa: D102
    @property
    def longest_wait_s(self) -> float: ...  # noqa: D102


class RunTurn(Protocol):
    """A turn as a run uses it."""

    def expect(self, prompt_tokens: float) -> None:
        """How long the prompt will be."""

    def report(self, *, prompt_tokens: int, completion_tokens: int, cached_tokens: int | None = None) -> None:
        """The server's token counts of the call."""


class RunAgent(Protocol):
    """An agent as a run uses it."""

    def turn(self) -> AbstractAsyncContextManager[RunTurn]:
        """One call; entering waits for the agent's place."""


class RunGate(Protocol):
    """The part of `ConcurGate` that a run uses: another's law stands beside ours by having it."""

    @property
    def snapshot(self) -> EngineSnapshot | None:
        """What the server said last."""

    def stats(self) -> RunStats:
        """The gate now."""

    def history(self) -> Sequence[Decision] | None:
        """Its last changes of the budget, oldest first; None of a gate that keeps no account of them."""

    def agent(self, name: str | None = None, *, kind: str | None = None) -> AbstractAsyncContextManager[RunAgent]:
        """An agent, which may wait here for its place."""

    async def __aenter__(self) -> Self: ...
    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None, /
    ) -> bool | None: ...


class RunGraph(Protocol):
    """A LangGraph graph whose runs are agents."""

    async def ainvoke(self, state: Any, config: Any) -> Any:
        """Run an agent from its beginning to its end."""


class LiveGate(RunGate, Protocol):
    """What a run on a live server uses: its agents are graphs that call the server through an OpenAI client."""

    def openai(self, client: AsyncOpenAI, /) -> AsyncOpenAI:
        """A client whose calls are turns."""

    def graph(self, compiled: Any, /, *, kind: str) -> RunGraph:
        """A graph whose runs are agents of such a kind."""


GateMaker: TypeAlias = Callable[[Callable[[], Awaitable[str]], float], RunGate]
"""Makes a gate from what gets the text of the server's metrics page, and the time between two looks at it. [s]"""

LiveGateMaker: TypeAlias = Callable[[Callable[[], Awaitable[str]], float], LiveGate]
"""The same of a gate for a live server."""


def make_gate(
    url: str,
    controller: Controller | str,
    *,
    poll_interval_s: float,
    fetch_metrics: Callable[[], Awaitable[str]] | None = None,
) -> ConcurGate:
    """A gate for one run: what CONCUR_* variables say of gates in general is not to bend a comparison.

    Args:
        url: The server.
        controller: One, or its name as `parse_controller` takes it.
        poll_interval_s: Time between two looks at the metrics. [s]
        fetch_metrics: Gets them, if not over HTTP.

    Raises:
        ValueError: If there is no such controller.
    """
    return ConcurGate(
        url,
        controller=parse_controller(controller) if isinstance(controller, str) else controller,
        fetch_metrics=fetch_metrics,
        poll_interval_s=poll_interval_s,
        mode="enforce",
        disabled=False,
        max_agents=None,
        turns_per_second=None,
    )
