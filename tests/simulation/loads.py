"""Random loads, and a driver that plays them on the engine and keeps what it did, to be repeated elsewhere."""

from __future__ import annotations

import heapq
import random
from dataclasses import dataclass, field
from itertools import count
from typing import TYPE_CHECKING, Any

from simulation.naive_vllm import Submission

from concur_agents.simulation import Engine, Finished, FirstToken, LinearStepTime, Prompt, Request, SchedulerLimits

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

STEP_TIME = LinearStepTime(step=0.013, token=0.000_7, attended=0.000_003, read=0.000_02)


@dataclass
class Load:
    """A server and the agents that use it."""

    seed: int
    blocks: int = 60
    block_size: int = 4
    agents: int = 6
    turns: int = 4
    limits: SchedulerLimits = field(default_factory=SchedulerLimits)
    longest_output: int = 40
    abort_share: float = 0.0


@dataclass
class Played:
    engine: Engine
    submissions: list[Submission]
    requests: list[Request]
    events: list[tuple[float, str, int]]  # time, kind, which request


def play(load: Load, *, single: bool = False, look: Callable[[Engine, float], None] | None = None) -> Played:
    """Let agents take their turns: prompt, output, cut output quoted, a tool's answer, a wait, and again.

    With `single`, the engine plans no step ahead. `look` is called whenever time has moved. All randomness is drawn per
    agent, so it does not depend on the order of events.
    """
    engine = Engine(load.blocks, STEP_TIME, block_size=load.block_size, limits=load.limits)
    if single:
        engine._scheduler.quiet_steps = lambda: 1
    player = Player(load, engine)
    while player.next_instant():
        if look is not None:
            look(engine, player.now)
    return player.played


def turns_of(load: Load, name: int, longest: int) -> Iterator[float | Turn]:
    """One agent's life: waits in seconds, and turns."""
    draw = random.Random(f"{load.seed} {name}")
    prompt = Prompt([("system", draw.choice([3, 9, 22]))])
    yield draw.choice([0.0, 0.0, draw.random() * 3])
    for turn in range(draw.randint(1, load.turns)):
        asked = draw.choice([name, 0])  # some ask what another asks too
        prompt = prompt.then(((asked, turn, "said"), draw.choice([5, draw.randint(1, 40)])))
        outputs = draw.choice([1, draw.randint(1, 12), draw.randint(1, load.longest_output)])
        if prompt.tokens + outputs > longest:
            return
        output_id = (name, turn, "out")
        yield Turn(prompt, outputs, output_id, draw.random() * 2 if draw.random() < load.abort_share else None)
        prompt = prompt.then((output_id, draw.choice([outputs, draw.randint(0, outputs)])))
        yield draw.choice([0.0, draw.random(), draw.random() * 4])


@dataclass(frozen=True)
class Turn:
    prompt: Prompt
    outputs: int
    output_id: Any
    patience: float | None


class Player:
    """Advances the engine from instant to instant and lets the agents answer."""

    def __init__(self, load: Load, engine: Engine):
        self.now = 0.0
        self.played = Played(engine, [], [], [])
        self._todo: list[
            tuple[float, int, Any]
        ] = []  # a heap of (time, ticket, an agent to go on or a request to abort)
        self._ticket = count()
        self._number: dict[Request, int] = {}
        self._agent_of: dict[Request, Iterator[float | Turn]] = {}
        for name in range(load.agents):
            self._go_on(turns_of(load, name, engine.max_model_len))

    def next_instant(self) -> bool:
        """Move to the next time at which anything happens; False if there is none."""
        engine = self.played.engine
        times = [engine.next_event(), self._todo[0][0] if self._todo else None]
        if times == [None, None]:
            return False
        self.now = min(time for time in times if time is not None)
        for event in engine.advance(self.now):
            kind = {FirstToken: "first", Finished: "finished"}[type(event)]
            self.played.events.append((event.time, kind, self._number[event.request]))
            if kind == "finished":
                self._go_on(self._agent_of.pop(event.request))
        while self._todo and self._todo[0][0] <= self.now:
            what = heapq.heappop(self._todo)[2]
            if not isinstance(what, Request):
                self._go_on(what)
            elif what in self._agent_of:
                engine.abort(self.now, what)
                self.played.submissions[self._number[what]].aborted = self.now
                self._go_on(self._agent_of.pop(what))
        return True

    def _later(self, seconds: float, what: Any) -> None:
        heapq.heappush(self._todo, (self.now + seconds, next(self._ticket), what))

    def _go_on(self, agent: Iterator[float | Turn]) -> None:
        what = next(agent, None)
        if isinstance(what, float):
            self._later(what, agent)
        elif what is not None:
            played = self.played
            request = played.engine.submit(self.now, what.prompt, what.outputs, output_id=what.output_id)
            self._number[request] = len(played.requests)
            self._agent_of[request] = agent
            played.requests.append(request)
            played.submissions.append(Submission(self.now, what.prompt, what.outputs, what.output_id))
            if what.patience is not None:
                self._later(what.patience, request)


def repeat(load: Load, played: Played, times: list[float]) -> Iterator[Engine]:
    """Send the same requests to a new engine, and stop at each of the times."""
    engine = Engine(load.blocks, STEP_TIME, block_size=load.block_size, limits=load.limits)
    calls = [(one.time, False, at) for at, one in enumerate(played.submissions)]
    calls += [(one.aborted, True, at) for at, one in enumerate(played.submissions) if one.aborted is not None]
    calls.sort()
    requests: dict[int, Request] = {}
    for stop in times:
        while calls and calls[0][0] < stop:
            time, aborts, at = calls.pop(0)
            one = played.submissions[at]
            if aborts:
                engine.abort(time, requests[at])
            else:
                requests[at] = engine.submit(time, one.prompt, one.max_output_tokens, output_id=one.output_id)
        engine.advance(stop)
        yield engine
