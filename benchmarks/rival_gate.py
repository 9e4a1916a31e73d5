"""What the gates of other people's laws have in common: the face that a run asks for, and the books on who waits."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

from concur_agents.engines import Poller

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from contextlib import AbstractAsyncContextManager

    from openai import AsyncOpenAI

    from concur_agents.engines import EngineSnapshot
    from concur_agents.errors import MetricsError

URL = "http://embedded.engine"


@dataclass(eq=False)
class Program:
    """One run: an agent that nobody spawned, and those it spawns.

    Attributes:
        name: The agent's.
        contexts: Of each of its agents that is there, prompt and output of the last turn. [tokens]
        turns: Turns of it that are in flight.
        paused: Whether its next turn has to wait.
        seen: Whether it ever was let in.
        marked: Whether it is paused as soon as no turn of it is in flight.
        resumed: Wakes its turns that wait.
    """

    name: str
    contexts: dict[object, int] = field(default_factory=dict)
    turns: int = 0
    paused: bool = False
    seen: bool = False
    marked: bool = False
    resumed: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def tokens(self) -> int:
        """The contexts of all its agents, whole: an opening that is shared is counted each time."""
        return sum(self.contexts.values())


_program: ContextVar[Program | None] = ContextVar("program", default=None)
_agent: ContextVar[RivalAgent] = ContextVar("agent")


@dataclass(frozen=True, slots=True)
class Stats:
    """What a run asks of a gate at a moment, as `concur_agents.replay.gates.RunStats` has it."""

    active: int
    paused: int
    queued: int
    working_set_tokens: float
    capacity_tokens: float | None
    usage: float | None
    hit_rate: float | None
    longest_wait_s: float


class RivalGate:
    """What all of them have: a poller, a look at regular times, and the books on who waits.

    Args:
        fetch: Gets the text of the metrics page.
        poll_interval_s: Between two pages. [s]
        look_s: Between two looks of the law at what it knows; None: it acts on events alone. [s]
    """

    def __init__(self, fetch: Callable[[], Awaitable[str]], poll_interval_s: float, *, look_s: float | None) -> None:
        self.snapshot: EngineSnapshot | None = None
        self.programs: dict[Program, None] = {}  # in the order of their coming
        self._poller = Poller(
            URL,
            interval_s=poll_interval_s,
            on_snapshot=self._on_snapshot,
            on_failure=self._on_failure,
            ours_in_flight=lambda: sum(program.turns for program in self.programs),
            fetch=fetch,
        )
        self._look_s = look_s
        self._tasks: list[asyncio.Task[None]] = []
        self._waits: dict[object, float] = {}
        self._longest_wait_s = 0.0

    # ------------------------------------------------------------------ what a law says

    async def enter(self, program: Program) -> None:
        """A program is new."""

    async def begin(self, program: Program, agent: RivalAgent) -> None:
        """One of its agents begins a turn."""

    def end(self, program: Program, took_s: float, output_tokens: int) -> None:
        """A turn has ended."""

    def leave(self, program: Program) -> None:
        """A program is over."""

    def look(self, snapshot: EngineSnapshot) -> None:
        """It is time to look."""

    # ------------------------------------------------------------------ what a run uses

    def stats(self) -> Stats:
        """The gate now; a program counts once, however many agents it has."""
        now = asyncio.get_running_loop().time()
        active = [program for program in self.programs if not program.paused]
        snapshot = self.snapshot
        return Stats(
            active=len(active),
            paused=sum(program.paused and program.seen for program in self.programs),
            queued=sum(program.paused and not program.seen for program in self.programs),
            working_set_tokens=sum(program.tokens for program in active),
            capacity_tokens=snapshot.capacity_tokens if snapshot else None,
            usage=snapshot.usage if snapshot else None,
            hit_rate=snapshot.hit_rate if snapshot else None,
            longest_wait_s=max([self._longest_wait_s, *(now - since for since in self._waits.values())]),
        )

    def history(self) -> None:
        """None: it keeps no account of what it decides."""

    @asynccontextmanager
    async def agent(self, name: str | None = None, *, kind: str | None = None) -> AsyncIterator[RivalAgent]:  # noqa: ARG002  the face of `ConcurGate`
        """An agent; one that another spawns belongs to that one's program."""
        around = _program.get()
        program = around or Program(name or "")
        agent = RivalAgent(self, program, name or "")
        if around is not None:
            try:
                yield agent
            finally:
                program.contexts.pop(agent, None)
            return
        self.programs[program] = None
        token = _program.set(program)
        try:
            await self.enter(program)
            yield agent
        finally:
            _program.reset(token)
            del self.programs[program]
            self.leave(program)

    def openai(self, client: AsyncOpenAI) -> AsyncOpenAI:
        """A copy of a client whose completions are turns of the agent around them."""
        copy = client.copy()
        send: Any = copy.request

        async def request(cast_to: Any, options: Any, **kwargs: Any) -> Any:
            async with _agent.get().turn() as turn:
                answer = await send(cast_to, options, **kwargs)
                turn.report(prompt_tokens=answer.usage.prompt_tokens, completion_tokens=answer.usage.completion_tokens)
            return answer

        vars(copy).update(request=request)
        return copy

    def graph(self, compiled: Any, *, kind: str) -> RivalGraph:
        """A graph whose runs are agents."""
        return RivalGraph(self, compiled, kind)

    async def __aenter__(self) -> Self:
        """Look at the server, and begin to poll it."""
        self._on_snapshot(await self._poller.poll_once())
        loop = asyncio.get_running_loop()
        self._tasks = [loop.create_task(self._poller.run())]
        if self._look_s is not None:
            self._tasks.append(loop.create_task(self._look_again_and_again(self._look_s)))
        return self

    async def __aexit__(self, *exc: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._poller.aclose()

    # ------------------------------------------------------------------ for the laws

    @asynccontextmanager
    async def waiting(self) -> AsyncIterator[None]:
        """Around a wait, so that it is counted."""
        loop = asyncio.get_running_loop()
        ticket, since = object(), loop.time()
        self._waits[ticket] = since
        try:
            yield
        finally:
            del self._waits[ticket]
            self._longest_wait_s = max(self._longest_wait_s, loop.time() - since)

    @property
    def capacity_tokens(self) -> float:
        """KV tokens that fit; no limit while the server does not say."""
        capacity = self.snapshot.capacity_tokens if self.snapshot else None
        return capacity if capacity is not None else float("inf")

    def _on_snapshot(self, snapshot: EngineSnapshot) -> None:
        self.snapshot = snapshot

    def _on_failure(self, error: MetricsError) -> None:
        raise error  # a benchmark has no outages

    async def _look_again_and_again(self, every_s: float) -> None:
        while True:
            await asyncio.sleep(every_s)
            if self.snapshot is not None:
                self.look(self.snapshot)


class RivalAgent:
    """An agent of a rival's gate.

    Attributes:
        name: As the run calls it.
        begun: Turns of it that have begun.
    """

    def __init__(self, gate: RivalGate, program: Program, name: str) -> None:
        self.name = name
        self.begun = 0
        self._gate = gate
        self._program = program

    @asynccontextmanager
    async def _turn(self) -> AsyncIterator[RivalTurn]:
        gate, program = self._gate, self._program
        await gate.begin(program, self)
        self.begun += 1
        loop = asyncio.get_running_loop()
        began = loop.time()
        turn = RivalTurn()
        program.turns += 1
        try:
            yield turn
        finally:
            program.turns -= 1
            program.contexts[self] = turn.tokens
            gate.end(program, loop.time() - began, turn.output_tokens)

    def turn(self) -> AbstractAsyncContextManager[RivalTurn]:
        """One call."""
        return self._turn()


class RivalTurn:
    """A turn of a rival's gate.

    Attributes:
        tokens: Prompt and output.
        output_tokens: Of those, the output.
    """

    def __init__(self) -> None:
        self.tokens = 0
        self.output_tokens = 0

    def expect(self, prompt_tokens: float) -> None:
        """Nothing that these laws would use."""

    def report(self, *, prompt_tokens: int, completion_tokens: int, cached_tokens: int | None = None) -> None:  # noqa: ARG002  the face of `Turn`
        """The server's token counts of the call."""
        self.tokens = prompt_tokens + completion_tokens
        self.output_tokens = completion_tokens


class RivalGraph:
    """A graph whose runs are agents of a rival's gate, by the names of the runs.

    Args:
        gate: The gate.
        compiled: The graph.
        kind: Of its agents.
    """

    def __init__(self, gate: RivalGate, compiled: Any, kind: str) -> None:
        self._gate = gate
        self._compiled = compiled
        self._kind = kind

    async def ainvoke(self, state: Any, config: Any) -> Any:
        """Run an agent from its beginning to its end."""
        async with self._gate.agent(config["run_name"], kind=self._kind) as agent:
            token = _agent.set(agent)
            try:
                return await self._compiled.ainvoke(state, config)
            finally:
                _agent.reset(token)
