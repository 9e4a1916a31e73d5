"""Who waits at the gate, by size: agents in quartiles by their last prompt, and the largest 5 %, in virtual time.

    python benchmarks/waits.py                                  search-giants, search and swe, which are generated
    python benchmarks/waits.py --traces DIR                     glm and claude of the traces in DIR, and search-giants
    python benchmarks/waits.py --cases search --controllers working-set,prime-rl --json FILE

Cases are those of `cases.py`, controllers those of `controllers.py`. All figures are simulated:

waits
    Every time that an agent was held at the gate, before its first turn or a later one: the median, the 95th
    percentile and the longest. A turn that went on at once is none. [s]
longest pause
    The longest wait of an agent that had begun: between two of its turns. [s]
waited
    All the waits of an agent together, as a share of the makespan: the mean over the agents, and the most.
done after
    The mean time from an agent's arrival to its end. Without a gate nobody waits there, but in the server, and this is
    where it shows. [s]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
from concurrent.futures import ProcessPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, field
from functools import partial
from itertools import repeat
from pathlib import Path
from statistics import mean
from typing import TYPE_CHECKING, Self

import rivals
from cases import CASES, chosen
from controllers import check_controllers, load, sweep

from concur_agents.files import write_whole
from concur_agents.replay.gates import make_gate
from concur_agents.replay.results import percentile
from concur_agents.replay.simulated import URL, run_simulated

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
    from contextlib import AbstractAsyncContextManager
    from types import TracebackType

    from concur_agents.engines import EngineSnapshot
    from concur_agents.replay.gates import GateMaker, RunAgent, RunGate, RunStats, RunTurn
    from concur_agents.stats import Decision

BEST_FIXED = "best-fixed"
CONTROLLERS = ("working-set", "thunderagent", BEST_FIXED, "none")
RECORDED = ("glm", "claude", "search-giants")
"""The cases, if there are traces."""
GENERATED = ("swe", "search", "search-giants")
"""The cases, if there are none."""
QUARTERS = ("smallest quarter", "second quarter", "third quarter", "largest quarter")
TOP = 0.05
"""The share of the agents that is shown as the largest."""


@dataclass
class AgentWaits:
    """What the gate did to one agent.

    Attributes:
        name: The agent's.
        tokens: Its last prompt. [tokens]
        entry_s: Its wait before its first turn; 0: none. [s]
        pauses_s: Its waits before later turns. [s]
        took_s: From when it asked for its place to its end. [s]
    """

    name: str
    tokens: int
    entry_s: float = 0.0
    pauses_s: list[float] = field(default_factory=list)
    took_s: float = 0.0

    @property
    def waits_s(self) -> list[float]:
        """All of them. [s]"""
        return [wait for wait in (self.entry_s, *self.pauses_s) if wait > 0]


@dataclass(frozen=True)
class Watched:
    """A run.

    Attributes:
        controller: What ran.
        makespan_s: From the first agent's start to the last one's end. [s]
        output_tokens_per_s: Over the makespan.
        agents: What the gate did to each.
    """

    controller: str
    makespan_s: float
    output_tokens_per_s: float
    agents: tuple[AgentWaits, ...]


@dataclass(frozen=True)
class Row:
    """Some agents of a run; the module says what the figures mean.

    Attributes:
        case: By its name.
        controller: What ran.
        group: Which agents.
        agents: How many.
        least: The shortest of their last prompts. [tokens]
        most: The longest of these. [tokens]
        waits: How many waits they had.
        median_s: Of the waits; 0 without any. [s]
        p95_s: Of the waits; 0 without any. [s]
        longest_s: Of the waits; 0 without any. [s]
        longest_pause_s: Of the waits between two turns; 0 without any. [s]
        waited: All waits of an agent, as a share of the makespan; the mean.
        most_waited: The most of these.
        done_after_s: From arrival to end; the mean. [s]
    """

    case: str
    controller: str
    group: str
    agents: int
    least: int
    most: int
    waits: int
    median_s: float
    p95_s: float
    longest_s: float
    longest_pause_s: float
    waited: float
    most_waited: float
    done_after_s: float


class WatchedGate:
    """A gate, with a look at how long each agent is held.

    Args:
        gate: What is looked at.
        agents: What is written down, by the agents' names.
    """

    def __init__(self, gate: RunGate, agents: dict[str, AgentWaits]) -> None:
        self._gate = gate
        self._agents = agents

    @property
    def snapshot(self) -> EngineSnapshot | None:
        """As the gate has it."""
        return self._gate.snapshot

    def stats(self) -> RunStats:
        """As the gate has them."""
        return self._gate.stats()

    def history(self) -> Sequence[Decision] | None:
        """As the gate has it."""
        return self._gate.history()

    @asynccontextmanager
    async def agent(self, name: str | None = None, *, kind: str | None = None) -> AsyncIterator[WatchedAgent]:
        """An agent of the gate."""
        waits = self._agents[name or ""]
        loop = asyncio.get_running_loop()
        asked = loop.time()
        try:
            async with self._gate.agent(name, kind=kind) as place:
                waits.entry_s = loop.time() - asked
                yield WatchedAgent(place, waits)
        finally:
            waits.took_s = loop.time() - asked

    async def __aenter__(self) -> Self:
        await self._gate.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None, /
    ) -> bool | None:
        return await self._gate.__aexit__(kind, error, where)


class WatchedAgent:
    """An agent of a watched gate.

    Args:
        place: The gate's own.
        waits: What is written down.
    """

    def __init__(self, place: RunAgent, waits: AgentWaits) -> None:
        self._place = place
        self._waits = waits
        self._begun = False

    @asynccontextmanager
    async def _turn(self) -> AsyncIterator[RunTurn]:
        loop = asyncio.get_running_loop()
        asked = loop.time()
        async with self._place.turn() as turn:
            waited = loop.time() - asked
            if not self._begun:
                self._waits.entry_s += waited  # some laws let everybody in, and hold the first turn
            elif waited > 0:
                self._waits.pauses_s.append(waited)
            self._begun = True
            yield turn

    def turn(self) -> AbstractAsyncContextManager[RunTurn]:
        """One call."""
        return self._turn()


def watch(case: str, controller: str, traces: Path | None) -> Watched:
    """Run a case under a controller, and look at who waits.

    Args:
        case: By its name.
        controller: As `parse_controller` takes it, or a rival's name.
        traces: The folder of the traces.

    Raises:
        ValueError: If two agents of the case have the same name.
    """
    workload, profile = load(case, 0, traces)
    agents = {agent.agent_id: AgentWaits(agent.agent_id, agent.steps[-1].context_tokens) for agent in workload.agents}
    if len(agents) < len(workload.agents):
        raise ValueError(f"{case}: two agents have the same name, and their waits could not be told apart")
    rival = rivals.maker(controller, workload, max_model_len=profile.max_model_len)
    make = rival or partial(_ours, controller)
    run = run_simulated(workload, controller, profile, on_progress=lambda _: None, gate=partial(_watched, make, agents))
    return Watched(controller, run.makespan_s, run.output_tokens_per_s, tuple(agents.values()))


def _ours(controller: str, fetch: Callable[[], Awaitable[str]], poll_interval_s: float) -> RunGate:
    return make_gate(URL, controller, poll_interval_s=poll_interval_s, fetch_metrics=fetch)


def _watched(
    make: GateMaker, agents: dict[str, AgentWaits], fetch: Callable[[], Awaitable[str]], poll_interval_s: float
) -> RunGate:
    return WatchedGate(make(fetch, poll_interval_s), agents)


def by_size(agents: Sequence[AgentWaits]) -> dict[str, list[AgentWaits]]:
    """Agents in four quarters by their last prompts, the largest of them once more, and all; none of them empty."""
    ordered = sorted(agents, key=lambda agent: agent.tokens)
    count = len(ordered)
    groups = {name: ordered[number * count // 4 : (number + 1) * count // 4] for number, name in enumerate(QUARTERS)}
    groups[f"largest {TOP:.0%}"] = ordered[count - max(1, round(TOP * count)) :]
    groups["all"] = ordered
    return {name: members for name, members in groups.items() if members}


def rows(case: str, run: Watched) -> list[Row]:
    """The figures of a run, a row a group."""
    made = []
    for group, members in by_size(run.agents).items():
        waits = [wait for agent in members for wait in agent.waits_s]
        shares = [sum(agent.waits_s) / run.makespan_s for agent in members]
        made.append(
            Row(
                case=case,
                controller=run.controller,
                group=group,
                agents=len(members),
                least=members[0].tokens,
                most=members[-1].tokens,
                waits=len(waits),
                median_s=percentile(waits, 0.5) if waits else 0.0,
                p95_s=percentile(waits, 0.95) if waits else 0.0,
                longest_s=max(waits, default=0.0),
                longest_pause_s=max((wait for agent in members for wait in agent.pauses_s), default=0.0),
                waited=mean(shares),
                most_waited=max(shares),
                done_after_s=mean(agent.took_s for agent in members),
            )
        )
    return made


def table(case: str, runs: Sequence[Watched]) -> str:
    """A case in Markdown."""
    speeds = ", ".join(
        f"{run.controller} {run.output_tokens_per_s:.0f} tok/s in {run.makespan_s:.0f} s" for run in runs
    )
    head = ["agents by last prompt", "tokens", "law", "waits an agent", "median · p95 · longest", "longest pause"]
    head += ["waited: mean (most)", "done after"]
    lines = [_row(head), _row(["---", "---", "---", *["--:"] * (len(head) - 3)])]
    for same in zip(*(rows(case, run) for run in runs), strict=True):
        for number, row in enumerate(same):
            lines.append(
                _row(
                    [
                        "" if number else f"{row.group} ({row.agents})",
                        "" if number else f"{row.least / 1000:.0f}–{row.most / 1000:.0f}K",
                        row.controller,
                        f"{row.waits / row.agents:.1f}",
                        f"{row.median_s:.0f} · {row.p95_s:.0f} · {row.longest_s:.0f} s",
                        f"{row.longest_pause_s:.0f} s",
                        f"{row.waited:.0%} ({row.most_waited:.0%})",
                        f"{row.done_after_s:.0f} s",
                    ]
                )
            )
    return f"## {case} (simulated)\n\n{speeds}\n\n" + "\n".join(lines) + "\n"


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description="Who waits at the gate, by size, in virtual time.")
    traces = os.environ.get("CONCUR_TRACES")
    parser.add_argument("--traces", type=Path, default=Path(traces) if traces else None, help="folder of the traces")
    parser.add_argument("--cases", default="", help=f"with commas, of {', '.join(CASES)}")
    parser.add_argument("--controllers", default=",".join(CONTROLLERS), help="with commas; all: %(default)s")
    parser.add_argument("--jobs", type=int, default=2, help="worker processes")
    parser.add_argument("--json", type=Path, help="where the figures are written")
    options = parser.parse_args()
    names = _names(options.cases) or (GENERATED if options.traces is None else RECORDED)
    controllers = _names(options.controllers)
    try:
        cases = [case.name for case in chosen(names, traces=options.traces is not None)]
        check_controllers(controllers)
    except ValueError as error:
        parser.error(str(error))
    if not cases:
        parser.error(f"{', '.join(names)}: name the folder of the traces with --traces")
    if "unlimited" in controllers:
        parser.error("unlimited is another engine, not a gate at which anybody could wait")
    kept = []
    with ProcessPoolExecutor(options.jobs) as pool:
        for case in cases:
            specs = [name for name in controllers if name != BEST_FIXED]
            tried = []
            if BEST_FIXED in controllers:
                tried = [f"fixed:{cap}" for cap in sweep(CASES[case], 0, options.traces)]
            runs = {run.controller: run for run in pool.map(watch, repeat(case), specs + tried, repeat(options.traces))}
            if tried:
                runs[BEST_FIXED] = max((runs[cap] for cap in tried), key=lambda run: run.output_tokens_per_s)
            shown = [runs[name] for name in controllers]
            print(table(case, shown), flush=True)
            kept += [asdict(row) for run in shown for row in rows(case, run)]
    if options.json is not None:
        write_whole(options.json, json.dumps(kept, indent=1) + "\n")


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


if __name__ == "__main__":
    main()
