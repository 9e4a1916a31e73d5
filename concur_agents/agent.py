"""Agent and Turn: what an admitted agent holds and reports."""

from __future__ import annotations

import asyncio
import math
import uuid
from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol

from .admission import finished
from .context import TurnContext, current_agent, dissolve_outer, outer_turn
from .errors import AdmissionTimeout, GateClosed
from .place import Place, State

if TYPE_CHECKING:
    from collections.abc import Callable

    from .admission import Admission
    from .head_start import HeadStart
    from .hold import Hold
    from .kind import Kind, Totals
    from .listener import Listeners


Nested = Literal["inherit", "new"]
"""What an agent started inside another one does: share that one's place, or take one of its own."""


class Usage(NamedTuple):
    """What the server said of a call.

    Attributes:
        prompt_tokens: The whole prompt. [tokens]
        completion_tokens: What was generated. [tokens]
        cached_tokens: How much of the prompt the prefix cache served; None if the server does not say. [tokens]
    """

    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int | None = None


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
    listeners: Listeners

    @property
    def block_size(self) -> int:
        """Tokens a block of the server's cache; 1 while unknown."""

    def now(self) -> float:
        """Seconds on the gate's clock."""

    async def enter(self, place: Place) -> None:
        """Let a place be admitted."""

    def leave(self, place: Place, admission: Admission) -> None:
        """Give a place back to the admission that it is of."""

    def catch_up(self) -> None:
        """Do what threads have posted to its event loop until now."""


class Agent:
    """One long-lived run of turns and tools, from its admission to its end.

    Attributes:
        name: As given, or made up; for people.
        desk: The gate it belongs to.
        session_id: Stable and opaque, the same for all turns; sent as `X-Session-ID`.
        kind: The name of its kind.
        parent: The agent that started it, if it shares that one's place.
        turns: Turns it has ended. Of turns in threads this and the counts below may be told some milliseconds later.
        tool_wait_s: Time it has spent between turns. [s]
        prompt_tokens: Prompt tokens it has reported.
        output_tokens: Output tokens it has reported.
        cached_tokens: Prompt tokens that the server had cached, as reported.
        reusable_tokens: Prompt tokens that the cache could have served.
        recomputed_tokens: Of those, the tokens that were read again all the same.
        when_closed: What a turn that the closed gate refuses raises instead of `GateClosed`; None: that.
        head_start: By which its next turn may begin in a thread, if it has one; set there, at the end of a turn.
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
        self.head_start: HeadStart | None = None
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
    def shared_prefix(self) -> int:
        """The opening that agents of its kind share, as far as it is known. [tokens]"""
        return self._kind.shared_prefix

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

    def begin_turn_at_once(self) -> Turn | None:
        """Begin a turn if it need not wait for anything; None if it may have to, or is refused: see `begin_turn`."""
        desk = self.desk
        if self._over or desk.holding.held or desk.pacer is not None:
            return None
        dissolve_outer(self._place)
        asked = desk.now()
        return self._begun(Turn(self), asked, 0.0) if self._admission.begin_turn_at_once(self._place) else None

    async def begin_turn(self) -> Turn:
        """Begin a turn: waits here if the agent has to pause. Call `Turn.end` when it is over.

        Raises:
            AgentFinished: If the agent is over.
            GateClosed: If the gate is closed while the agent is paused.
        """
        if self._over:
            raise finished(self.name)
        dissolve_outer(self._place)
        asked = self.desk.now()
        try:
            await self._begin_unheld()
        except GateClosed as error:
            if self.when_closed is None:
                raise
            raise self.when_closed(error) from error
        return self._begun(Turn(self), asked, self.desk.now() - asked)

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

    def _begun(self, turn: Turn, asked: float, waited_s: float) -> Turn:
        """Account for a turn that admission has let begin, asked for at such a time and begun so much later."""
        if self._tools_since is not None:
            self.tool_wait_s += asked - self._tools_since
            self._tools_since = None
        self._open_context(turn)
        desk = self.desk
        if desk.listeners:
            desk.listeners.tell(lambda listener: listener.turn_began(turn, waited_s))
        return turn

    def _give_turn_back(self) -> None:
        self._admission.end_turn(self._place, counts=False)
        self.desk.holding.look()

    def finish(self) -> None:
        """End the agent and give its place back; may be called again."""
        self.desk.catch_up()  # the end of its last turn may be among it
        if self._over:
            return
        self._over = True
        if self.parent is None:
            self.desk.leave(self._place, self._admission)
        else:
            self._recharge(-self.footprint)
        self._contexts.clear()
        if self.desk.listeners:
            self.desk.listeners.tell(lambda listener: listener.agent_finished(self))

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

    def _expect(self, turn: Turn, prompt: float) -> None:
        if self.finished or turn not in self._contexts:
            return
        if not self.turns:
            self._kind.announced_prompt.learn(prompt)
        more = max(0.0, prompt - self._contexts[turn])  # a smaller one is believed when the server has counted it
        self._contexts[turn] += more
        self._recharge(more)

    def _close_context(self, turn: Turn) -> None:
        """Account for a turn that has ended, with its tokens if it told them."""
        self.turns += 1
        totals = self.desk.totals
        totals.turns += 1
        if turn.usage is None:
            self._last = None
        else:
            prompt, output, cached = turn.usage
            self._learn(turn, prompt, cached)
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

    def _learn(self, turn: Turn, prompt: int, cached: int | None) -> None:
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
            turn.kept_tokens = min(prompt, kind.shared_prefix)
            return  # a rewritten history is a reset, not an eviction
        kind.growth.learn(prompt - last_prompt)
        block = self.desk.block_size
        if cached is not None and last_output >= block and cached > last_prompt:
            kind.returned.learn(min(1.0, (cached - last_prompt) / last_output))
        turn.kept_tokens = min(prompt, int(last_prompt + kind.returned.value * last_output))
        reusable = turn.kept_tokens // block * block
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

    def _end_turn(self, turn: Turn, *, counts: bool) -> None:
        try:
            if counts:
                self._close_context(turn)
        finally:
            if all(other.ended for other in self._contexts):
                self._tools_since = self.desk.now()
            self._admission.end_turn(self._place, counts=counts)
            self.desk.holding.look()
        if self.desk.listeners:
            self.desk.listeners.tell(lambda listener: listener.turn_ended(turn))


class Turn:
    """One LLM call of an agent, from `begin_turn` to `end`.

    Attributes:
        agent: Whose turn it is.
        ended: Whether it is over.
        dissolved: Whether it was only a place to pause.
        usage: What was reported of it; None: nothing.
        kept_tokens: How much of its prompt its agent should have had in the cache, once that is known; None for an
            agent's first turn, and for one of several at once. [tokens]
    """

    __slots__ = ("agent", "dissolved", "ended", "kept_tokens", "on_end", "usage")

    def __init__(self, agent: Agent) -> None:
        self.agent = agent
        self.ended = False
        self.dissolved = False
        self.on_end: Callable[[], None] | None = None
        self.usage: Usage | None = None
        self.kept_tokens: int | None = None

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
        self.usage = Usage(prompt_tokens, completion_tokens, cached_tokens)

    def expect(self, prompt_tokens: float) -> None:
        """Tell how long the prompt will be, before the call: others of its kind then need not wait to learn it.

        Args:
            prompt_tokens: About how many. [tokens]

        Raises:
            ValueError: If it is negative, or no number.
        """
        if not 0 <= prompt_tokens < math.inf:
            raise ValueError(f"prompt_tokens={prompt_tokens} must be a number of tokens, 0 or more")
        if not self.ended:
            self.agent._expect(self, prompt_tokens)  # noqa: SLF001  two halves of one thing

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
        self.dissolved = not counts
        try:
            self.agent._end_turn(self, counts=counts)  # noqa: SLF001  two halves of one thing
        finally:
            if counts and self.on_end is not None:
                self.on_end()


def in_turn(place: Place) -> bool:
    """Whether the code around is inside a turn of this place that has not ended."""
    outer = outer_turn()
    return isinstance(outer, Turn) and outer.agent.place is place and not outer.ended


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
        return _told(Agent(desk, name, kind, parent.place, parent=parent), 0.0)
    lender = None
    if parent is not None:
        lender = parent.place
        dissolve_outer(lender)
    place = Place(name, kind, priority=priority, expected_tokens=expected_tokens, lender=lender)
    asked = desk.now()
    try:
        async with asyncio.timeout(timeout) as limit:
            await desk.enter(place)
    except BaseException as error:
        waited_s = desk.now() - asked
        if desk.listeners:
            desk.listeners.tell(lambda listener: listener.agent_gave_up(name, kind.name, waited_s))
        if isinstance(error, TimeoutError) and limit.expired():
            raise AdmissionTimeout(
                f"agent {name!r} waited {waited_s:.1f} s for a place, its timeout is {timeout:g} s: "
                "gate.waiting() tells who waits and for what"
            ) from error
        raise
    return _told(Agent(desk, name, kind, place), desk.now() - asked)


def _told(agent: Agent, waited_s: float) -> Agent:
    if agent.desk.listeners:
        agent.desk.listeners.tell(lambda listener: listener.agent_admitted(agent, waited_s))
    return agent
