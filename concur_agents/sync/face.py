"""`gate.sync`: the gate for agents that run in threads."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

from concur_agents.ahead import begin_ahead, end_with_head_start
from concur_agents.context import inside
from concur_agents.errors import WrongLoop
from concur_agents.head_start import HeadStart

from .handover import Call, LoopThread, do, running_loop
from .mailbox import post

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Iterator

    from concur_agents.agent import Agent, Nested, Turn
    from concur_agents.ahead import AheadTurn
    from concur_agents.gate import ConcurGate


class SyncAgent:
    """An agent that runs in a thread.

    Attributes:
        name: As given, or made up; for people.
        kind: The name of its kind.
        session_id: Stable and opaque, the same for all turns.
    """

    __slots__ = ("kind", "name", "session_id")

    def __init__(self, agent: Agent) -> None:
        self.name = agent.name
        self.kind = agent.kind
        self.session_id = agent.session_id

    def __repr__(self) -> str:
        return f"<SyncAgent {self.name!r}>"


class SyncTurn:
    """One LLM call of an agent that runs in a thread.

    Attributes:
        turn: The turn itself; only the gate's event loop may end it.
        loop: That event loop.
    """

    __slots__ = ("_ahead", "_head_starts", "loop", "turn")

    def __init__(self, turn: Turn, loop: asyncio.AbstractEventLoop, ahead: AheadTurn | None = None) -> None:
        self.turn = turn
        self.loop = loop
        self._ahead = ahead
        self._head_starts = [HeadStart()]

    def __repr__(self) -> str:
        return f"<SyncTurn of {self.turn.agent.name!r}, {'ended' if self.turn.ended else 'running'}>"

    @property
    def agent(self) -> SyncAgent:
        """Whose turn it is."""
        return SyncAgent(self.turn.agent)

    def report(self, *, prompt_tokens: int, completion_tokens: int, cached_tokens: int | None = None) -> None:
        """Tell what the server said of the call; the last report before the end counts.

        Args:
            prompt_tokens: The whole prompt. [tokens]
            completion_tokens: What was generated. [tokens]
            cached_tokens: How much of the prompt the prefix cache served; None if the server does not say. [tokens]

        Raises:
            ValueError: If a number is negative.
        """
        self.turn.report(prompt_tokens=prompt_tokens, completion_tokens=completion_tokens, cached_tokens=cached_tokens)

    def expect(self, prompt_tokens: float) -> None:
        """Tell how long the prompt will be, before the call, as `Turn.expect` does.

        Args:
            prompt_tokens: About how many. [tokens]
        """
        post(self.loop, lambda: self._told().expect(prompt_tokens))

    def note_refusal(self) -> None:
        """Tell that the server refused the call because of its load (429 or 503); once for each attempt."""
        do(self.loop, self.turn.note_refusal)

    def end(self) -> None:
        """End the turn; may be called again, and after its agent is over."""
        self._head_starts.clear()
        do(self.loop, lambda: self._told().end())

    def end_soon(self) -> None:
        """End the turn without waiting until that is done, in any thread.

        If nothing is against it, the next turn of the agent may begin in its thread before the loop knows.
        """
        try:
            start = self._head_starts.pop()
        except IndexError:  # this is not the first call
            post(self.loop, lambda: self._told().end())
            return
        post(self.loop, lambda: end_with_head_start(self._told(), start), urgent=False)
        self.turn.agent.head_start = start

    def _told(self) -> Turn:
        """The turn, of which the gate knows from now on. On the loop only."""
        if self._ahead is not None:
            self._ahead.tell()
        return self.turn


class SyncGate:
    """The gate for agents that run in threads; made by `gate.sync`.

    The gate itself lives on one event loop: the one that it is used on, if that runs, else one in a thread of its own,
    which is started when it is first needed. Calls block the calling thread only.
    """

    def __init__(self, gate: ConcurGate) -> None:
        self._gate = gate
        self._lock = threading.Lock()
        self._own: LoopThread | None = None

    @contextmanager
    def agent(
        self,
        name: str | None = None,
        *,
        kind: str | None = None,
        priority: int = 0,
        expected_tokens: float | None = None,
        timeout: float | None = None,
        nested: Nested = "inherit",
    ) -> Iterator[SyncAgent]:
        """An agent: `with gate.sync.agent("task-17"):` blocks until the cache has room for it.

        Turns that begin in this thread are its turns, until the block is left.

        Args:
            name: For people; made up if not given.
            kind: Agents of one kind share what is learned.
            priority: Higher goes first.
            expected_tokens: Its context, if you know how large it will start. [tokens]
            timeout: Longest wait for its place. [s]
            nested: Inside another agent of this thread: `inherit` shares that one's place, `new` takes its own.

        Raises:
            AdmissionTimeout: If it waited longer than `timeout` seconds.
            GateClosed: If the gate is closed, or its event loop has ended.
            MetricsError: If the gate needs metrics and the server has none.
            WrongLoop: In a thread that runs an event loop, which this would block.
            ValueError: If an argument is out of range.
        """
        loop = self.loop()
        asked = self._gate.agent(
            name, kind=kind, priority=priority, expected_tokens=expected_tokens, timeout=timeout, nested=nested
        )
        call = Call(loop, asked.__aenter__, undo=_finish, leave=_finish)
        try:
            agent = call.result()
            with call.seen():
                yield SyncAgent(agent)
        finally:
            try:
                call.end()
            except BaseException:  # interrupted on its way in: inline, as a function's first step can be interrupted
                call.end_soon()
                raise

    @contextmanager
    def turn(self) -> Iterator[SyncTurn]:
        """A turn: `with gate.sync.turn() as turn: …; turn.report(…)`; blocks if its agent has to pause.

        Should another turn of this agent begin inside it, then the inner ones are the turns, and this one was only a
        place to pause.

        Raises:
            GateClosed: If the gate is closed, or its event loop has ended.
            MetricsError: If the gate needs metrics and the server has none.
            WrongLoop: In a thread that runs an event loop, which this would block.
        """
        call = self._begin()
        try:
            turn = call.result()
            with inside(turn):
                yield SyncTurn(turn, call.loop)
        finally:
            try:
                call.end()
            except BaseException:  # as above
                call.end_soon()
                raise

    def begin_turn(self) -> SyncTurn:
        """Begin a turn of the current agent; outside any agent, of an agent of that one turn. `end` ends it.

        Raises:
            GateClosed: If the gate is closed, or its event loop has ended.
            MetricsError: If the gate needs metrics and the server has none.
            WrongLoop: In a thread that runs an event loop, which this would block.
        """
        ahead = self._begin_ahead()
        if ahead is not None:
            return ahead
        call = self._begin()
        try:
            return SyncTurn(call.result(), call.loop)
        except BaseException:
            call.end_soon()
            raise

    def _begin_ahead(self) -> SyncTurn | None:
        """Begin a turn without asking the loop, if its agent may."""
        agent = self._gate.current()
        ahead = begin_ahead(agent) if agent is not None else None
        if ahead is None:
            return None
        loop = self.loop()
        try:
            if not ahead.claim():
                return None
            if ahead.awaited:
                post(loop, ahead.tell)
            return SyncTurn(ahead.turn, loop, ahead)
        except BaseException:
            post(loop, ahead.undo)
            raise

    def close(self) -> None:
        """Close the gate, and stop the thread of its event loop if it has one of its own.

        Threads that wait are woken with `GateClosed`. Active agents may finish.

        Raises:
            WrongLoop: In a thread that runs an event loop: there it is `await gate.aclose()`.
        """
        call = Call(self.loop(), self._gate.aclose, undo=_nothing, leave=_nothing)
        try:
            call.result()
        except BaseException:
            call.end_soon()
            raise
        with self._lock:
            own, self._own = self._own, None
        if own is not None:
            own.stop()

    def _begin(self) -> Call[Turn]:
        return Call(self.loop(), self._gate.begin_turn, at_once=self._begin_at_once, undo=_undo, leave=_leave)

    def _begin_at_once(self) -> Turn | None:
        agent = self._gate.current()
        return agent.begin_turn_at_once() if agent is not None else None

    def loop(self) -> asyncio.AbstractEventLoop:
        """The event loop that the gate is on, running in another thread; one is started where there is none.

        Raises:
            WrongLoop: In a thread that runs an event loop.
        """
        if running_loop() is not None:
            raise WrongLoop(
                "gate.sync would block the event loop that runs in this thread: use `async with gate.agent()` and "
                "`async with gate.turn()` here, or call the blocking code by asyncio.to_thread"
            )
        bound = self._gate._loop  # noqa: SLF001  two halves of one thing
        with self._lock:
            own = self._own
            if own is not None and not own.alive:  # in a forked process the loop still says that it runs
                bound = None if bound is own.loop else bound
                own = None
            if bound is not None and bound.is_running():
                return bound
            if own is None:
                own = self._own = LoopThread()
            return own.loop


def _finish(agent: Agent) -> None:
    agent.finish()


def _undo(turn: Turn) -> None:
    turn.dissolve()
    if turn.on_end is not None:
        turn.on_end()


def _leave(turn: Turn) -> None:
    turn.end()
    if turn.on_end is not None:  # as in TurnContext: a dissolved turn does not end its agent
        turn.on_end()


def _nothing(_: None) -> None:
    pass
