"""ConcurGate: the door. It wires admission, controller and poller together, and opens and closes them."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import math
from functools import cached_property
from typing import TYPE_CHECKING, Any, ParamSpec, Self, TypeVar, get_args, overload

from . import pool
from .admission import Admission
from .agent import Agent, Nested, Turn, admit
from .config import GateConfig
from .context import AgentContext, TurnContext, current_agent, in_a_turn
from .control import parse_controller
from .engines import Poller
from .errors import GateClosed, MetricsError, WrongLoop
from .hold import Hold
from .kind import Kind, Totals
from .listener import Listener, Listeners
from .pacing import make_pacer
from .regulator import Regulator
from .stats import GateStats
from .sync import SyncGate
from .sync.handover import running_loop
from .sync.mailbox import read

if TYPE_CHECKING:
    import os
    from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine

    from .control import Controller
    from .engines import EngineSnapshot
    from .place import Place, Waiting
    from .stats import Decision
    from .telemetry.dashboard import Dashboard
    from .telemetry.recording import Recording

log = logging.getLogger("concur_agents")

T = TypeVar("T")
P = ParamSpec("P")
R = TypeVar("R")


class ConcurGate:
    """Admits agents to a server: as many as its KV cache can hold.

    Needs no ceremony: make it anywhere, and use it from any one event loop at a time. It polls the server only while
    an agent is queued or active. `async with ConcurGate(...) as gate:` reports a missing server at once and wakes
    who waits at the end.

    Args:
        url: The server, such as `http://localhost:8000`.
        controller: What decides the budget: a `Controller`, or one of `none`, `fixed:N`, `aimd`, `pi`,
            `working-set` (the default).
        config: Settings; further keyword arguments override single ones.
        fetch_metrics: Gets the text of the server's metrics page, raising `MetricsError` if it cannot: for a page
            behind a login of its own, or a server in this process. Over HTTP from `url` if not given.
        settings: Fields of `GateConfig`, such as `max_agents=64`.

    Raises:
        ValueError: If a setting is out of range, or the controller or `fetch_metrics` needs a server and none is named.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        controller: Controller | str | None = None,
        config: GateConfig | None = None,
        fetch_metrics: Callable[[], Awaitable[str]] | None = None,
        **settings: Any,
    ) -> None:
        if url is not None:
            settings["url"] = url
        if isinstance(controller, str):
            settings["controller"] = controller
            controller = None
        given = config.model_dump(exclude_unset=True) if config is not None else {}
        self.config = GateConfig(**{**given, **settings})
        self._fetch_metrics = fetch_metrics
        self.controller = controller or parse_controller(self.config.controller)
        self.totals = Totals()
        self.listeners = Listeners()
        self.pacer = make_pacer(self.config.turns_per_second) if self.config.turns_per_second else None
        self.admission = self._new_admission()
        self.holding = self._new_hold()
        self._kinds: dict[str, Kind] = {}
        self._names = itertools.count(1)
        self._regulator = Regulator(self.controller, self.config, lambda: self.admission, self.now, self.listeners)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._clock_offset = 0.0
        self._last_now = 0.0
        self._poller: Poller | None = None
        self._polling: asyncio.Task[None] | None = None
        self._closed = False
        self._said_single_turns = False
        if self.controller.needs_metrics and self.config.url is None and not self.config.disabled:
            raise ValueError(
                f"controller {self.controller.name!r} watches the server's metrics: give its URL, as in "
                "ConcurGate('http://localhost:8000'), or a controller that needs none, such as 'fixed:16'"
            )
        if fetch_metrics is not None and self.config.url is None:
            raise ValueError("fetch_metrics reads the page of a server: give its URL too, it is named in errors")
        if self.config.url is not None:
            self._new_poller()  # a wrong URL is told here, not at the first agent

    def __repr__(self) -> str:
        a = self.admission
        return f"<ConcurGate {self.controller.name}: {a.active} active, {a.view().waiting} waiting>"

    # ------------------------------------------------------------------ agents and turns

    def agent(
        self,
        name: str | None = None,
        *,
        kind: str | None = None,
        priority: int = 0,
        expected_tokens: float | None = None,
        timeout: float | None = None,
        nested: Nested = "inherit",
    ) -> AgentContext:
        """An agent: `async with gate.agent("task-17"):` waits until the cache has room for it.

        Args:
            name: For people; made up if not given.
            kind: Agents of one kind share what is learned: first prompt, growth, shared prefix.
            priority: Higher goes first.
            expected_tokens: Its context, if you know how large it will start. [tokens]
            timeout: Longest wait for its place. [s]
            nested: Inside another agent: `inherit` shares that one's place, `new` takes one of its own, and lends
                that one's while it waits.

        Raises:
            ValueError: If an argument is out of range.
        """
        if expected_tokens is not None and not 0 <= expected_tokens < math.inf:
            raise ValueError(f"expected_tokens={expected_tokens} must be a number of tokens, 0 or more")
        if timeout is not None and not timeout >= 0:
            raise ValueError(f"timeout={timeout} must be 0 seconds or more, or None to wait without end")
        if nested not in get_args(Nested):
            raise ValueError(f"nested={nested!r} must be 'inherit' or 'new'")

        async def enter() -> Agent:
            return await admit(
                self,
                self._kind(kind),
                name=name or f"agent-{next(self._names)}",
                priority=priority,
                expected_tokens=expected_tokens,
                timeout=timeout,
                nested=nested,
            )

        return AgentContext(enter)

    def current(self) -> Agent | None:
        """The agent of this context; None outside of any, and after its end."""
        return current_agent(self)

    async def begin_turn(self) -> Turn:
        """Begin a turn of the current agent; outside any agent, of an agent of that one turn.

        Raises:
            GateClosed: If the gate is closed before or while it waits.
            MetricsError: If the gate needs metrics and the server has none.
        """
        agent = self.current()
        if agent is not None:
            return await agent.begin_turn()
        if not self._said_single_turns:
            self._said_single_turns = True
            log.warning(
                "a call was made outside any agent: it counts as an agent of one turn, and its context is forgotten "
                "after it; put the whole run inside `async with gate.agent():`"
            )
        single = await admit(self, self._kind("single-turn"), name=f"call-{next(self._names)}")
        try:
            turn = await single.begin_turn()
        except BaseException:
            single.finish()
            raise
        turn.on_end = single.finish
        return turn

    def turn(self) -> TurnContext:
        """`begin_turn` as a context manager; a turn begun inside it makes it a mere pause point."""
        return TurnContext(self.begin_turn)

    gather = pool.gather
    map = pool.map_items
    as_completed = pool.as_completed

    def TaskGroup(self) -> pool.TaskGroup:  # noqa: N802  it stands for asyncio.TaskGroup
        """`asyncio.TaskGroup` with each task an agent."""
        return pool.TaskGroup(self)

    @cached_property
    def sync(self) -> SyncGate:
        """The gate for agents that run in threads: `with gate.sync.agent():`."""
        return SyncGate(self)

    @contextlib.asynccontextmanager
    async def hold(self) -> AsyncIterator[None]:
        """Let no turn begin: `async with gate.hold():` for an update of the weights, or a restart of the server.

        Entering waits until the turns in flight have ended. Agents keep their places and wait where their next turn
        begins; tools go on. It keeps turns out, not other holders: two may be inside at once.

        Raises:
            RuntimeError: On entering, inside a turn of this gate, for whose end it would wait.
        """
        if in_a_turn(self):
            raise RuntimeError("gate.hold() inside a turn would wait for the end of that turn: hold between turns")
        self._bind_loop()
        self.catch_up()
        holding = self.holding
        self.admission.withdraw_head_starts()  # those used already are turns in flight
        await holding.acquire()
        try:
            yield
        finally:
            holding.release()

    # ------------------------------------------------------------------ doors to the integrations

    def openai(self, client: T) -> T:
        """A copy of an `openai.AsyncOpenAI`, or an `openai.OpenAI` for threads, whose requests are turns."""
        from .integrations.openai import wrap_openai  # noqa: PLC0415  an extra

        return wrap_openai(self, client)

    def graph(self, compiled: T, *, kind: str | None = None, drain: bool = False) -> T:
        """A copy of a compiled LangGraph graph whose every run is an agent.

        With `drain`, a run that is paused when the gate closes stops at its checkpoint instead of failing.
        """
        from .integrations.langgraph import wrap_graph  # noqa: PLC0415  an extra

        return wrap_graph(self, compiled, kind=kind, drain=drain)

    @overload
    def node(
        self, fn: Callable[P, Awaitable[R]], *, kind: str | None = None
    ) -> Callable[P, Coroutine[Any, Any, R]]: ...
    @overload
    def node(self, fn: Callable[P, R], *, kind: str | None = None) -> Callable[P, Coroutine[Any, Any, R]]: ...
    @overload
    def node(
        self, fn: None = None, *, kind: str | None = None
    ) -> Callable[[Callable[P, Any]], Callable[P, Coroutine[Any, Any, Any]]]: ...
    def node(self, fn: Any = None, *, kind: str | None = None) -> Any:
        """Make a LangGraph node a turn: `@gate.node` or `@gate.node(kind="critic")`."""
        from .integrations.langgraph_node import wrap_node  # noqa: PLC0415  an extra

        return wrap_node(self, fn, kind=kind)

    # ------------------------------------------------------------------ what it says of itself

    @property
    def snapshot(self) -> EngineSnapshot | None:
        """What the server said last; None while it has said nothing."""
        return self._regulator.snapshot

    def stats(self) -> GateStats:
        """The gate now."""
        self.catch_up()
        view, totals, snapshot, error = self.admission.view(), self.totals, self.snapshot, self._regulator.error
        return GateStats(
            controller=self.controller.name,
            budget=self.admission.budget,
            active=view.active,
            running=view.running,
            paused=view.paused,
            queued=view.queued,
            finished=totals.finished,
            working_set_tokens=view.working_set_tokens,
            capacity_tokens=snapshot.capacity_tokens if snapshot else None,
            usage=snapshot.usage if snapshot else None,
            hit_rate=snapshot.hit_rate if snapshot else None,
            recompute_ratio=totals.recomputed_tokens / totals.reusable_tokens if totals.reusable_tokens else None,
            turns=totals.turns,
            prompt_tokens=totals.prompt_tokens,
            output_tokens=totals.output_tokens,
            cached_tokens=totals.cached_tokens,
            pauses=totals.pauses,
            longest_wait_s=max(totals.max_wait_s, self.admission.longest_wait_s()),
            held=self.holding.held,
            metrics_age_s=self._regulator.snapshot_age_s,
            metrics_error=str(error) if error else None,
        )

    def history(self) -> tuple[Decision, ...]:
        """The last changes of the budget, oldest first."""
        return tuple(self._regulator.decisions)

    def waiting(self) -> list[Waiting]:
        """Who waits, since when, and for what."""
        self.catch_up()
        return self.admission.waiting()

    def add_listener(self, listener: Listener) -> None:
        """Let someone hear what happens here."""
        self.listeners.add(listener)

    def remove_listener(self, listener: Listener) -> None:
        """Let them hear it no longer; may be called again."""
        self.listeners.remove(listener)

    def record(self, path: str | os.PathLike[str]) -> Recording:
        """Write what agents do from now on as a trace, for `concur compare PATH`: token counts and times, no text.

        Each agent is written as it finishes; what is unfinished when the recording is closed, as far as it came.
        Use it as a context manager, or let `gate.aclose()` end it.

        Args:
            path: A `.jsonl` or `.jsonl.gz` file; what is there is replaced.

        Raises:
            ValueError: If the name ends otherwise.
            OSError: If it cannot be written.
        """
        from .telemetry.recording import Recording  # noqa: PLC0415  nobody who does not record needs it

        return Recording(self, path)

    def dashboard(self) -> Dashboard:
        """A live view of the gate and its server on stderr: `with gate.dashboard():`.

        Raises:
            MissingExtra: If rich is not installed.
        """
        from .telemetry.dashboard import Dashboard  # noqa: PLC0415  an extra

        return Dashboard(self)

    # ------------------------------------------------------------------ opening and closing

    async def __aenter__(self) -> Self:
        """Open the gate, and look whether the server has metrics.

        Raises:
            MetricsError: If the controller needs metrics and the server has none.
        """
        self._bind_loop()
        if self._poller is not None and not self.config.disabled:
            try:
                self._regulator.on_snapshot(await self._poller.poll_once())
            except MetricsError as error:
                if self._regulator.requires_metrics:
                    await self._poller.aclose()
                    raise
                self._regulator.on_failure(error)
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the gate: who waits is woken with `GateClosed`, active agents may finish."""
        self.catch_up()
        self._closed = True
        self.admission.close()
        polling, self._polling = self._polling, None
        if polling is not None and self._loop is asyncio.get_running_loop():
            polling.cancel()
            await asyncio.gather(polling, return_exceptions=True)
        if self._poller is not None:
            await self._poller.aclose()
        self.listeners.tell(lambda listener: listener.closed())

    # ------------------------------------------------------------------ what agents need of their gate (agent.Desk)

    @property
    def block_size(self) -> int:
        """Tokens a block of the server's cache; 1 while unknown."""
        return (self.snapshot.block_size if self.snapshot else None) or 1

    def now(self) -> float:
        """Seconds on the gate's clock: the loop's, made to go on from one `asyncio.run` to the next. In any thread."""
        now = self._last_now
        if self._loop is not None:
            now = self._last_now = max(now, self._loop.time() + self._clock_offset)
        return now

    async def enter(self, place: Place) -> None:
        """Let a place be admitted."""
        if self._closed:
            raise GateClosed("this gate is closed: make a new one, or keep agents inside its `async with`")
        self._bind_loop()
        if self.admission.budget is None and (self._poller is None or self.config.disabled):
            self._regulator.decide()
        if self._polling is None and self._poller is not None and not self.config.disabled:
            self._regulator.resume()
            self._polling = asyncio.get_running_loop().create_task(self._poller.run(), name="concur-agents poller")
        try:
            await self.admission.acquire(place)
        except BaseException:
            self._rest()
            raise

    def leave(self, place: Place, admission: Admission) -> None:
        """Give a place back to the admission that it is of."""
        admission.finish(place)
        self.holding.look()
        self.totals.finished += 1
        self._rest()

    def catch_up(self) -> None:
        """Do what threads have posted to its event loop until now, if this is called on it."""
        if self._loop is not None and self._loop is running_loop():
            read(self._loop)

    # ------------------------------------------------------------------ the loop and the poller

    def _new_admission(self) -> Admission:
        return Admission(
            self.now,
            self.totals,
            passing_limit_s=self.config.passing_limit_s,
            longest_pause_s=self.config.longest_pause_s,
        )

    def _new_hold(self) -> Hold:
        return Hold(lambda: self.admission.running)

    def _new_poller(self) -> None:
        assert self.config.url is not None  # noqa: S101  narrows the type; callers have looked
        self._poller = Poller(
            self.config.url,
            interval_s=self.config.poll_interval_s,
            on_snapshot=self._regulator.on_snapshot,
            on_failure=self._regulator.on_failure,
            ours_in_flight=self._in_flight,
            fetch=self._fetch_metrics,
        )

    def _in_flight(self) -> int:
        # Agents that never told of a turn may have any number of requests on the server.
        return self.admission.running if self.totals.turns else self.admission.active

    def _bind_loop(self) -> None:
        loop = asyncio.get_running_loop()
        if self._loop is loop:
            return
        if self._loop is not None and not self._loop.is_closed() and self.admission.live:
            raise WrongLoop(
                f"this gate has {self.admission.live} agents on another event loop that is still running: use one gate "
                "an event loop, or run all agents on one"
            )
        last, budget = self.now(), self.admission.budget
        self._clock_offset = last - loop.time()
        self._loop = loop
        self._polling = None
        self.holding = self._new_hold()
        if self.admission.live:  # their loop died under them
            self.admission = self._new_admission()
            for kind in self._kinds.values():
                kind.active = kind.cold = 0
            if budget is not None:
                self.admission.resize(budget)
        if self.config.url is not None:
            self._new_poller()

    def _rest(self) -> None:
        """Stop polling when the last agent has left."""
        if self.admission.live == 0 and self._polling is not None:
            self._polling.cancel()
            self._polling = None

    def _kind(self, name: str | None) -> Kind:
        name = name or "default"
        kind = self._kinds.get(name)
        if kind is None:
            kind = self._kinds[name] = Kind(name, given_prefix=self.config.shared_prefix_tokens.get(name))
        return kind
