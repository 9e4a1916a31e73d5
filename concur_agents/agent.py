"""Agent and Turn: what an admitted agent holds and reports."""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from contextvars import ContextVar, Token
from typing import TYPE_CHECKING, Literal, Protocol, TypeVar

from .admission import finished
from .errors import AdmissionTimeout, GateClosed
from .place import Place, State

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, Mapping

    from .admission import Admission
    from .hold import Hold
    from .kind import Kind, Totals


Nested = Literal["inherit", "new"]
"""What an agent started inside another one does: share that one's place, or take one of its own."""


class Pacer(Protocol):
    """Lets turns start no faster than a rate."""

    async def acquire(self) -> None:
        """Wait until the next turn may start."""


class Desk(Protocol):
    """What agents need of their gate."""

    admission: Admission
    totals: Totals
    pacer: Pacer | None
    holding: Hold

    @property
    def block_size(self) -> int:
        """Tokens a block of the server's cache; 1 while unknown."""

    def now(self) -> float:
        """Seconds on the gate's clock."""

    async def enter(self, place: Place) -> None:
        """Let a place be admitted."""

    def leave(self, place: Place, admission: Admission) -> None:
        """Give a place back to the admission that it is of."""


class OuterTurn(Protocol):
    """What a turn around other code can be asked for."""

    @property
    def agent(self) -> Agent:
        """Whose turn it is."""

    def dissolve(self) -> None:
        """Become a place to pause: the turns inside are the ones that count."""


_CURRENT: ContextVar[Mapping[int, Agent] | None] = ContextVar("concur_agents_current", default=None)
"""The agent of this context, by `id` of its gate."""

_OUTER: ContextVar[OuterTurn | None] = ContextVar("concur_agents_outer_turn", default=None)
"""The turn around this code, that dissolves into a pause point if another begins inside it."""


def current_agent(desk: Desk) -> Agent | None:
    """The agent of this context at this gate, None outside of any and after its end."""
    agent = (_CURRENT.get() or {}).get(id(desk))
    return None if agent is None or agent.finished else agent


def _bind(agent: Agent) -> Token[Mapping[int, Agent] | None]:
    return _CURRENT.set({**(_CURRENT.get() or {}), id(agent.desk): agent})


class Agent:
    """One long-lived run of turns and tools, from its admission to its end.

    Attributes:
        name: As given, or made up; for people.
        desk: The gate it belongs to.
        session_id: Stable and opaque, the same for all turns; sent as `X-Session-ID`.
        kind: The name of its kind.
        parent: The agent that started it, if it shares that one's place.
        turns: Turns it has ended.
        tool_wait_s: Time it has spent between turns. [s]
        prompt_tokens: Prompt tokens it has reported.
        output_tokens: Output tokens it has reported.
        cached_tokens: Prompt tokens that the server had cached, as reported.
        reusable_tokens: Prompt tokens that the cache could have served.
        recomputed_tokens: Of those, the tokens that were read again all the same.
        when_closed: What a turn that the closed gate refuses raises instead of `GateClosed`; None: that.
    """

    def __init__(self, desk: Desk, name: str, kind: Kind, place: Place, *, parent: Agent | None = None) -> None:
        self.name = name
        self.session_id = uuid.uuid4().hex
        self.parent = parent
        self.turns = 0
        self.tool_wait_s = 0.0
        self.prompt_tokens = 0
        self.output_tokens = 0
        self.cached_tokens = 0
        self.reusable_tokens = 0
        self.recomputed_tokens = 0
        self.when_closed: Callable[[GateClosed], Exception] | None = parent.when_closed if parent is not None else None
        self.desk = desk
        # The one that let it in: the gate makes a new one when an event loop dies under its agents.
        self._admission = desk.admission
        self._kind = kind
        self._place = place
        self._expected = place.footprint if parent is None else 0.0
        self._contexts: dict[Turn, float] = {}
        self._last: tuple[int, int] | None = None
        self._tools_since: float | None = None
        self._over = False

    def __repr__(self) -> str:
        return f"<Agent {self.name!r} {self.state}, {self.footprint:.0f} tokens, {self.turns} turns>"

    @property
    def kind(self) -> str:
        """The name of its kind."""
        return self._kind.name

    @property
    def place(self) -> Place:
        """The place it holds; shared with its parent where it was started inside one."""
        return self._place

    @property
    def finished(self) -> bool:
        """Whether it is over, or the agent whose place it shares."""
        return self._over or self._place.state is State.FINISHED

    @property
    def state(self) -> str:
        """`active`, `paused`, `lent` (its place, to an agent it started) or `finished`."""
        return "finished" if self.finished else self._place.state.value

    @property
    def footprint(self) -> float:
        """KV tokens of its own contexts, the shared prefix included. [KV tokens]"""
        return sum(self._contexts.values()) if self._contexts else self._expected

    def turn(self) -> TurnContext:
        """A turn as a context manager: `async with agent.turn() as turn: …; turn.report(…)`.

        Should another turn of this agent begin inside it (a wrapped client was called), then the inner ones are the
        turns, and this one was only a place to pause.
        """
        return TurnContext(self.begin_turn)

    async def begin_turn(self) -> Turn:
        """Begin a turn: waits here if the agent has to pause. Call `Turn.end` when it is over.

        Raises:
            AgentFinished: If the agent is over.
            GateClosed: If the gate is closed while the agent is paused.
        """
        if self._over:
            raise finished(self.name)
        dissolve_outer(self._place)
        desk = self.desk
        asked = desk.now()
        try:
            await self._begin_unheld()
        except GateClosed as error:
            if self.when_closed is None:
                raise
            raise self.when_closed(error) from error
        if self._tools_since is not None:
            self.tool_wait_s += asked - self._tools_since
            self._tools_since = None
        turn = Turn(self)
        self._open_context(turn)
        return turn

    async def _begin_unheld(self) -> None:
        """Begin a turn at admission; again, if the gate was held while this was paused or paced."""
        holding, pacer = self.desk.holding, self.desk.pacer
        while True:
            if holding.held:
                await holding.wait_until_released()
            await self._admission.begin_turn(self._place)
            try:
                if pacer is not None:
                    await pacer.acquire()
            except BaseException:
                self._give_turn_back()
                raise
            if not holding.held:
                return
            self._give_turn_back()

    def _give_turn_back(self) -> None:
        self._admission.end_turn(self._place, counts=False)
        self.desk.holding.look()

    def finish(self) -> None:
        """End the agent and give its place back; may be called again."""
        if self._over:
            return
        self._over = True
        if self.parent is None:
            self.desk.leave(self._place, self._admission)
        else:
            self._recharge(-self.footprint)
        self._contexts.clear()

    # ------------------------------------------------------------------ accounting

    def _open_context(self, turn: Turn) -> None:
        """Let a turn stand for a context: the agent's one, or one more beside those in flight."""
        running = [other for other in self._contexts if not other.ended]
        if not running:
            footprint = self.footprint
            self._contexts = {turn: footprint}
            return
        self._last = None  # whose prompt the next one continues can no longer be told
        spent = next((other for other in self._contexts if other.ended), None)
        size = self._contexts.pop(spent) if spent is not None else self._contexts[running[0]]
        self._contexts[turn] = size
        if spent is None:
            self._recharge(size)

    def _close_context(self, turn: Turn, usage: tuple[int, int, int | None] | None) -> None:
        """Account for a turn that has ended, with its prompt, output and cached tokens if it told them."""
        self.turns += 1
        totals = self.desk.totals
        totals.turns += 1
        if usage is None:
            self._last = None
        else:
            prompt, output, cached = usage
            self._learn(prompt, cached)
            totals.prompt_tokens += prompt
            totals.output_tokens += output
            totals.cached_tokens += cached or 0
            self.prompt_tokens += prompt
            self.output_tokens += output
            self.cached_tokens += cached or 0
            self._last = (prompt, output) if len(self._contexts) == 1 else None
            before = self._contexts.get(turn)
            if before is not None and not self.finished:
                self._contexts[turn] = prompt + output
                self._recharge(prompt + output - before, weighed=True)

    def _learn(self, prompt: int, cached: int | None) -> None:
        kind, totals = self._kind, self.desk.totals
        if self.turns == 1:
            before = kind.shared_prefix
            kind.learn_first_turn(prompt, cached)
            if kind.shared_prefix != before:
                self._admission.shared_prefix_changed(kind, before)
        if self._last is None:
            return
        last_prompt, last_output = self._last
        if prompt < last_prompt:
            return  # a rewritten history is a reset, not an eviction
        kind.growth.learn(prompt - last_prompt)
        block = self.desk.block_size
        if cached is not None and last_output >= block and cached > last_prompt:
            kind.returned.learn(min(1.0, (cached - last_prompt) / last_output))
        reusable = min(prompt, int(last_prompt + kind.returned.value * last_output)) // block * block
        if not self._place.resumed:
            totals.kept_tokens += reusable
        if cached is None:
            return
        recomputed = max(0, reusable - cached)
        totals.reusable_tokens += reusable
        totals.recomputed_tokens += recomputed
        if not self._place.resumed:
            totals.lost_tokens += recomputed
        self.reusable_tokens += reusable
        self.recomputed_tokens += recomputed

    def _recharge(self, tokens: float, *, weighed: bool = False) -> None:
        place = self._place
        self._admission.resize_place(place, max(0.0, place.footprint + tokens), weighed=weighed)

    def _end_turn(self, turn: Turn, usage: tuple[int, int, int | None] | None, *, counts: bool) -> None:
        try:
            if counts:
                self._close_context(turn, usage)
        finally:
            if all(other.ended for other in self._contexts):
                self._tools_since = self.desk.now()
            self._admission.end_turn(self._place, counts=counts)
            self.desk.holding.look()


class Turn:
    """One LLM call of an agent, from `begin_turn` to `end`."""

    __slots__ = ("_usage", "agent", "ended", "on_end")

    def __init__(self, agent: Agent) -> None:
        self.agent = agent
        self.ended = False
        self.on_end: Callable[[], None] | None = None
        self._usage: tuple[int, int, int | None] | None = None

    def __repr__(self) -> str:
        return f"<Turn of {self.agent.name!r}, {'ended' if self.ended else 'running'}>"

    def report(self, *, prompt_tokens: int, completion_tokens: int, cached_tokens: int | None = None) -> None:
        """Tell what the server said of the call; the last report before `end` counts.

        Args:
            prompt_tokens: The whole prompt. [tokens]
            completion_tokens: What was generated. [tokens]
            cached_tokens: How much of the prompt the prefix cache served; None if the server does not say. [tokens]

        Raises:
            ValueError: If a number is negative.
        """
        if prompt_tokens < 0 or completion_tokens < 0 or (cached_tokens is not None and cached_tokens < 0):
            raise ValueError(
                f"token counts cannot be negative: prompt_tokens={prompt_tokens}, "
                f"completion_tokens={completion_tokens}, cached_tokens={cached_tokens}"
            )
        self._usage = (prompt_tokens, completion_tokens, cached_tokens)

    def note_refusal(self) -> None:
        """Tell that the server refused the call because of its load (429 or 503); once for each attempt."""
        self.agent.desk.totals.refusals += 1

    def end(self) -> None:
        """End the turn; may be called again, and after its agent is over."""
        self._end(counts=True)

    def dissolve(self) -> None:
        """End the turn as if it had only been a place to pause."""
        self._end(counts=False)

    def _end(self, *, counts: bool) -> None:
        if self.ended:
            return
        self.ended = True
        try:
            self.agent._end_turn(self, self._usage, counts=counts)  # noqa: SLF001  two halves of one thing
        finally:
            if counts and self.on_end is not None:
                self.on_end()


def in_a_turn(desk: Desk) -> bool:
    """Whether this code runs inside a turn of this gate."""
    outer = _OUTER.get()
    return outer is not None and outer.agent.desk is desk


def dissolve_outer(place: Place) -> None:
    """Turn the turn around this code, if it is of this place, into a mere pause point."""
    outer = _OUTER.get()
    if outer is not None and outer.agent.place is place:
        outer.dissolve()


def in_turn(place: Place) -> bool:
    """Whether the code around is inside a turn of this place that has not ended."""
    outer = _OUTER.get()
    return isinstance(outer, Turn) and outer.agent.place is place and not outer.ended


def stay_in(agent: Agent) -> None:
    """Make an agent the current one for all that follows in this context, where no block can be put around it."""
    _bind(agent)


def swap_outer(turn: OuterTurn | None) -> OuterTurn | None:
    """Make a turn the one around the code that follows in this context; returns the one that was."""
    outer = _OUTER.get()
    _OUTER.set(turn)
    return outer


@contextlib.contextmanager
def inside(turn: Turn) -> Iterator[None]:
    """Run some code of a turn as inside it, where `TurnContext` cannot hold all of it: a generator's steps."""
    outer, current = _OUTER.set(turn), _bind(turn.agent)
    try:
        yield
    finally:
        _reset(_OUTER, outer)
        _reset(_CURRENT, current)


@contextlib.contextmanager
def as_current(agent: Agent) -> Iterator[None]:
    """Run some code as this agent's, where `AgentContext` cannot hold it: in another thread than the gate's."""
    token = _bind(agent)
    try:
        yield
    finally:
        _reset(_CURRENT, token)


class TurnContext:
    """`async with` around a turn."""

    __slots__ = ("_begin", "_current_token", "_outer_token", "_turn")

    def __init__(self, begin: Callable[[], Awaitable[Turn]]) -> None:
        self._begin = begin

    async def __aenter__(self) -> Turn:
        self._turn = turn = await self._begin()
        self._outer_token = _OUTER.set(turn)
        self._current_token = _bind(turn.agent)
        return turn

    async def __aexit__(self, *exc: object) -> None:
        _reset(_OUTER, self._outer_token)
        _reset(_CURRENT, self._current_token)
        self._turn.end()
        if self._turn.on_end is not None:  # a dissolved turn does not end its agent; the end of the block does
            self._turn.on_end()


class AgentContext:
    """`async with` around an agent: waits for its place, and gives it back however the block is left."""

    __slots__ = ("_admit", "_agent", "_token")

    def __init__(self, admit: Callable[[], Awaitable[Agent]]) -> None:
        self._admit = admit
        self._agent: Agent | None = None

    async def __aenter__(self) -> Agent:
        if self._agent is not None:
            raise RuntimeError("this agent was entered already: call gate.agent() anew for each run")
        self._agent = agent = await self._admit()
        self._token = _bind(agent)
        return agent

    async def __aexit__(self, *exc: object) -> None:
        if self._agent is not None:
            _reset(_CURRENT, self._token)
            self._agent.finish()


async def admit(
    desk: Desk,
    kind: Kind,
    *,
    name: str,
    priority: int = 0,
    expected_tokens: float | None = None,
    timeout: float | None = None,
    nested: Nested = "inherit",
) -> Agent:
    """Let an agent in: beside its parent on the same place, or on a place of its own once there is room.

    Raises:
        AdmissionTimeout: If it waited longer than `timeout` seconds.
        GateClosed: If the gate is closed, before or meanwhile.
        MetricsError: If the gate needs metrics and the server has none.
    """
    parent = current_agent(desk)
    if parent is not None and nested == "inherit":
        return Agent(desk, name, kind, parent.place, parent=parent)
    lender = None
    if parent is not None:
        lender = parent.place
        dissolve_outer(lender)
    place = Place(name, kind, priority=priority, expected_tokens=expected_tokens, lender=lender)
    asked = desk.now()
    try:
        async with asyncio.timeout(timeout) as limit:
            await desk.enter(place)
    except TimeoutError as error:
        if not limit.expired():
            raise
        raise AdmissionTimeout(
            f"agent {name!r} waited {desk.now() - asked:.1f} s for a place, its timeout is {timeout:g} s: "
            "gate.waiting() tells who waits and for what"
        ) from error
    return Agent(desk, name, kind, place)


_V = TypeVar("_V")


def _reset(variable: ContextVar[_V], token: Token[_V]) -> None:
    # Left in another context than it was entered in (an async generator closed elsewhere): that one's value is its own.
    with contextlib.suppress(ValueError):
        variable.reset(token)
