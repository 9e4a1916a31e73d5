"""Other people's laws, as they are published, beside ours in one table.

Each is a gate of its own, since each has an order and a timing of its own. What a source does not say, or what cannot
be had here, is marked "ours". A whole run, with all the agents that an agent spawns, is one unit of each law.
"""

from __future__ import annotations

import asyncio
import contextlib
import statistics
from collections import deque
from functools import partial
from typing import TYPE_CHECKING

from rival_gate import Program, RivalAgent, RivalGate

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from concur_agents.engines import EngineSnapshot
    from concur_agents.replay.gates import LiveGateMaker
    from concur_agents.replay.workload import Workload

LOOK_S = 5.0
"""Between two looks of ThunderAgent's scheduler (`scheduler_interval`), and of prime-rl's collector. [s]"""


class ThunderAgent(RivalGate):
    """ThunderAgent (arXiv 2602.13692, and the router of ThunderAgent-org/ThunderAgent with its default flags).

    Every 5 s: while the tokens of the programs that are in, 100 more for each, pass the capacity, pause the one with
    the fewest tokens of those that wait for a tool, and if none does, mark the one with the fewest that runs: it
    pauses at the end of its turn. Then resume those with the fewest tokens, one after the other, into what is free. A
    new program enters at once if nobody waits and it fits. Whoever waited for 1800 s is resumed whatever there is.

    Ours: the output of a running turn counts when it ends (the router counts it in the stream); its prompt is known
    exactly (the router estimates it from its characters); what is marked counts as gone at the next mark (in the
    router's code it does not, so that it marks everybody: this is kinder); agents of one program add up.

    Args:
        fetch: Gets the text of the metrics page.
        poll_interval_s: Between two pages. [s]
        prompts: The prompts of each agent by its name: a proxy reads the request before it lets it through. [tokens]
    """

    BUFFER = 100
    """Kept free for each program that is in (`BUFFER_PER_PROGRAM`). [tokens]"""
    FORCED_S = 1800.0
    """The longest wait (`_wait_for_resume`). [s]"""

    def __init__(
        self,
        fetch: Callable[[], Awaitable[str]],
        poll_interval_s: float,
        *,
        prompts: Mapping[str, Sequence[int]],
    ) -> None:
        super().__init__(fetch, poll_interval_s, look_s=LOOK_S)
        self._prompts = prompts

    @property
    def _free(self) -> float:
        return self.capacity_tokens - sum(p.tokens + self.BUFFER for p in self.programs if not p.paused)

    async def enter(self, program: Program) -> None:
        """Let it in if nobody waits and it fits; otherwise its first turn waits."""
        free = self._free + self.BUFFER  # its own place is among those counted
        program.contexts[program] = next(iter(self._prompts.get(program.name, ())), 0)  # until its first turn
        nobody_waits = not any(other.paused for other in self.programs)
        if nobody_waits and program.tokens + self.BUFFER <= free:
            program.seen = True
        else:
            self._pause(program)

    async def begin(self, program: Program, agent: RivalAgent) -> None:
        """Wait while it is paused, for 1800 s at most."""
        program.contexts.pop(program, None)
        prompts = self._prompts.get(agent.name, ())
        if agent.begun < len(prompts):
            program.contexts[agent] = prompts[agent.begun]
        if program.paused:
            async with self.waiting():
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(self.FORCED_S):
                        await program.resumed.wait()
            self._resume(program)

    def end(self, program: Program, took_s: float, output_tokens: int) -> None:  # noqa: ARG002  not asked for here
        """Pause it now if it was marked."""
        if program.marked and not program.turns:
            self._pause(program)

    def look(self, snapshot: EngineSnapshot) -> None:  # noqa: ARG002  it asks the server for its capacity only
        """Pause until the rest fits, then resume what fits."""
        inside = sorted((p for p in self.programs if not p.paused and not p.marked), key=lambda p: p.tokens)
        order = [p for p in inside if not p.turns] + [p for p in inside if p.turns]
        over = -self._free - sum(p.tokens + self.BUFFER for p in self.programs if p.marked)
        for program in order:
            if over <= 0:
                break
            over -= program.tokens + self.BUFFER
            if program.turns:
                program.marked = True
            else:
                self._pause(program)
        free = self._free
        for program in sorted((p for p in self.programs if p.paused), key=lambda p: p.tokens):
            if program.tokens + self.BUFFER <= free:
                free -= program.tokens + self.BUFFER
                self._resume(program)

    def _pause(self, program: Program) -> None:
        program.marked, program.paused = False, True
        program.resumed.clear()

    def _resume(self, program: Program) -> None:
        program.paused, program.seen = False, True
        program.resumed.set()


class PrimeRl(RivalGate):
    """prime-rl's ConcurrencyController (orchestrator/concurrency.py, as merged; later its growth tapers with the usage)

    A cap on the runs in flight, from capacity / max_model_len on. Every 5 s it looks at the engines. With a usage under
    0.6, nothing queued and no drain, each run that ends raises the cap by 1.25 ^ (1 / runs in flight), if at least
    0.9 of the cap is in flight. A usage over 0.8 lowers it to inflight · 0.7 / usage, and then not for 6 looks;
    preemptions to 0.8 of what is in flight, a queue of more than half of what runs for 6 looks to 0.9 of it. After
    such a cut come no others until as many runs are over, and one within 6 looks of that takes half.

    Ours: nothing that runs is cancelled (it cancels the youngest when it cuts, and over a usage of 0.9: their work is
    lost); the queue is all that waits, as for a server that gives no reasons.

    Args:
        fetch: Gets the text of the metrics page.
        poll_interval_s: Between two pages. [s]
        max_model_len: The server's. [tokens]
    """

    def __init__(self, fetch: Callable[[], Awaitable[str]], poll_interval_s: float, *, max_model_len: int) -> None:
        super().__init__(fetch, poll_interval_s, look_s=LOOK_S)
        self._max_model_len = max_model_len
        self._cap: float | None = None
        self._queue: deque[Program] = deque()
        self._may_grow = False
        self._queued_looks = 0
        self._cooldown = 0
        self._draining = False
        self._harsher = 0

    @property
    def cap(self) -> int:
        """Runs that may be in flight."""
        if self._cap is None:
            self._cap = max(1.0, self.capacity_tokens / self._max_model_len)
        return int(self._cap)

    @property
    def _inflight(self) -> int:
        return len(self.programs) - len(self._queue)

    async def enter(self, program: Program) -> None:
        """Wait for a place, first come, first served."""
        program.paused = True
        self._queue.append(program)
        self._admit()
        if program.paused:
            async with self.waiting():
                await program.resumed.wait()

    def leave(self, program: Program) -> None:
        """A run more is over: the pipeline has turned over a little."""
        if program in self._queue:
            self._queue.remove(program)
            return
        inflight = self._inflight + 1  # itself counts
        if self._may_grow and self._cap is not None and inflight >= 0.9 * self.cap:
            self._cap *= 1.25 ** (1 / inflight)
        self._admit()

    def look(self, snapshot: EngineSnapshot) -> None:
        """Gate the growth, and lower the cap where the engines are too full."""
        usage, waiting, running = snapshot.usage or 0.0, snapshot.waiting or 0.0, snapshot.running or 0.0
        self._queued_looks = self._queued_looks + 1 if running and waiting > 0.5 * running else 0
        overload = "queue" if self._queued_looks >= 6 else "preemptions" if snapshot.preemptions else None
        if self._draining and self._inflight <= self.cap and overload is None:
            self._draining, self._harsher = False, 6
        elif not self._draining:
            self._harsher = max(0, self._harsher - 1)
        self._cooldown = max(0, self._cooldown - 1)
        self._may_grow = usage < 0.6 and not waiting and overload is None and not self._draining
        if self._draining:
            return
        if overload is not None:
            share = 0.5 if self._harsher else 0.9 if overload == "queue" else 0.8
            self._queued_looks = 0
            self._draining = True
            self._lower(self._inflight * share)
        elif usage > 0.8 and self._inflight and not self._cooldown:
            self._cooldown = 6
            self._lower(self._inflight * 0.7 / usage)

    def _lower(self, cap: float) -> None:
        self._cap = max(1.0, min(float(self.cap), float(int(cap))))

    def _admit(self) -> None:
        while self._queue and self._inflight < self.cap:
            program = self._queue.popleft()
            program.paused, program.seen = False, True
            program.resumed.set()


class LatencyAimd(RivalGate):
    """A limiter by latency, in the manner of Inspect, HiveMind and Netflix: additive up, multiplicative down.

    Whenever as many calls have ended as the limit is high, the median of their time per output token is held against
    the smallest such median so far: within twice of it the limit rises by one if somebody waited, beyond it falls to
    0.9 of itself (the ratio of Netflix concurrency-limits' AIMDLimit). First come, first served.

    What it limits is calls in flight, as those do: agents take turns, and each comes back to a cache that the others
    have been through. With `runs` it limits runs in flight, which is kinder.

    Ours: `runs`, the window, the median, twice (Netflix's Gradient2 has 1.5, of a smoothed mean), the first limit, 20.

    Args:
        fetch: Gets the text of the metrics page.
        poll_interval_s: Between two pages. [s]
        runs: Whether it limits runs instead of calls.
    """

    def __init__(self, fetch: Callable[[], Awaitable[str]], poll_interval_s: float, *, runs: bool = False) -> None:
        super().__init__(fetch, poll_interval_s, look_s=None)
        self._runs = runs
        self._limit = 20.0
        self._inside = 0
        self._queue: deque[asyncio.Event] = deque()
        self._samples: list[float] = []
        self._best = float("inf")
        self._reached = False

    @property
    def limit(self) -> int:
        """Calls, or runs, that may be in flight."""
        return int(self._limit)

    async def enter(self, program: Program) -> None:
        """A run waits for room, if runs are what is limited."""
        if self._runs:
            program.paused = True
            await self._wait()
            program.paused = False
        program.seen = True

    async def begin(self, program: Program, agent: RivalAgent) -> None:  # noqa: ARG002  all are alike
        """A call waits for room, if calls are what is limited."""
        if not self._runs:
            await self._wait()

    def end(self, program: Program, took_s: float, output_tokens: int) -> None:  # noqa: ARG002  all are alike
        """Learn from a call."""
        if not self._runs:
            self._inside -= 1
        if output_tokens:
            self._samples.append(took_s / output_tokens)
        self._reached = self._reached or bool(self._queue)
        if len(self._samples) >= self.limit:
            median = statistics.median(self._samples)
            self._best = min(self._best, median)
            if median > 2.0 * self._best:
                self._limit = max(1.0, 0.9 * self._limit)
            elif self._reached:
                self._limit += 1.0
            self._samples.clear()
            self._reached = False
        self._admit()

    def leave(self, program: Program) -> None:
        """A run is over."""
        if self._runs and program.seen:
            self._inside -= 1
            self._admit()

    async def _wait(self) -> None:
        admitted = asyncio.Event()
        self._queue.append(admitted)
        self._admit()
        if not admitted.is_set():
            async with self.waiting():
                await admitted.wait()

    def _admit(self) -> None:
        while self._queue and self._inside < self.limit:
            self._inside += 1
            self._queue.popleft().set()


def maker(name: str, workload: Workload, *, max_model_len: int) -> LiveGateMaker | None:
    """What makes a rival's gate for a run of this workload, by the rival's name; None if it is no rival.

    Args:
        name: As in the tables.
        workload: What will run.
        max_model_len: The server's. [tokens]
    """
    if name == "thunderagent":
        prompts = {agent.agent_id: [step.context_tokens for step in agent.steps] for agent in workload.agents}
        return partial(ThunderAgent, prompts=prompts)
    if name == "prime-rl":
        return partial(PrimeRl, max_model_len=max_model_len)
    if name == "latency-aimd":
        return LatencyAimd
    if name == "latency-aimd-runs":
        return partial(LatencyAimd, runs=True)
    return None
