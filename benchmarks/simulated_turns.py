"""What a simulated turn costs, with the real gate in the loop.

    python benchmarks/simulated_turns.py            100, 1,000 and 10,000 agents, about ten minutes
    python benchmarks/simulated_turns.py --quick    without the 10,000

Plain asyncio agents take 40 turns each through a gate, on an embedded engine, in virtual time: what is measured is the
loop, the gate, the engine and little else. Every round is a process of its own, so that none finds what another left
in memory, and sizes take turns, so that a slow moment of the machine hits all of them. The cost is processor time: the
same as time on the wall, where nothing else runs.

To hold: under 300 µs a turn on two cores, flat within ±20 % from the smallest size to the largest, and 10,000 agents
within 4 GB.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import resource
import statistics
import subprocess
import sys
import time
from dataclasses import asdict, dataclass

from rich.console import Console
from rich.table import Table

from concur_agents import ConcurGate
from concur_agents.simulation import Engine, LinearStepTime, Prompt
from concur_agents.simulation.metrics_page import MetricsPage
from concur_agents.simulation.running import RunningEngine
from concur_agents.simulation.virtual_time import run

TURNS = 40
ROUNDS = 3
BLOCKS = 60_000
"""Of 16 tokens: about twice what the agents of `fixed:64` hold at their ends."""

console = Console(width=130)


@dataclass(frozen=True)
class Figures:
    """What one round measured.

    Attributes:
        microseconds: Processor time of a turn. [µs]
        megabytes: The most memory that the process had. [MB]
        virtual_s: What the agents took on their own clock. [s]
        steps: Steps of the engine.
    """

    microseconds: float
    megabytes: float
    virtual_s: float
    steps: int


async def _agents(count: int, controller: str) -> tuple[float, int]:
    """Let so many agents run: their virtual seconds, and the engine's steps."""
    loop = asyncio.get_running_loop()
    engine = RunningEngine(Engine(BLOCKS, LinearStepTime(step=0.02, token=2e-5)))
    page = MetricsPage(engine.engine, model="benchmark", created=0.0)

    async def fetch() -> str:
        return page.render(engine.counters())

    async with ConcurGate("http://embedded.engine", controller=controller, fetch_metrics=fetch) as gate:

        async def agent(number: int) -> None:
            draw = random.Random(number)
            async with gate.agent(kind="benchmark") as place:
                prompt = Prompt([("system", 1000), (number, 500)])
                for turn_number in range(TURNS):
                    async with place.turn() as turn:
                        request = await engine.generate(prompt, draw.randint(20, 200))
                        turn.report(
                            prompt_tokens=request.prompt_tokens,
                            completion_tokens=request.generated,
                            cached_tokens=request.cached_tokens,
                        )
                    tool = ((number, turn_number), draw.randint(50, 500))
                    prompt = prompt.then((request.output_id, request.generated), tool)
                    await asyncio.sleep(draw.expovariate(1))

        await asyncio.gather(*(agent(number) for number in range(count)))
    return loop.time(), engine.engine.steps


def measure(agents: int, controller: str) -> Figures:
    """One round, in this process."""
    start = time.process_time()
    virtual_s, steps = run(_agents(agents, controller))
    spent = time.process_time() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)  # Linux: KiB
    return Figures(
        microseconds=spent / (agents * TURNS) * 1e6,
        megabytes=peak / 1e6,
        virtual_s=virtual_s,
        steps=steps,
    )


def _in_a_process(agents: int, controller: str) -> Figures:
    command = [sys.executable, __file__, "--one", str(agents), "--controllers", controller]
    return Figures(**json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout))


def _spread(values: list[float], form: str) -> str:
    low, mid, high = (format(value, form) for value in (min(values), statistics.median(values), max(values)))
    return f"{mid} ({low}–{high})"


def compare(sizes: list[int], controllers: list[str], rounds: int) -> None:
    """Every size under every controller, round after round, and a table of them."""
    seen: dict[tuple[str, int], list[Figures]] = {}
    for _ in range(rounds):
        for controller in controllers:
            for size in sizes:
                seen.setdefault((controller, size), []).append(_in_a_process(size, controller))
    table = Table(title=f"a simulated turn, {TURNS} turns an agent: median (min–max) of {rounds}")
    for column in ("controller", "agents", "µs a turn", f"of {sizes[0]:,} agents", "peak MB", "virtual s", "steps"):
        table.add_column(column, justify="right")
    for (controller, size), figures in seen.items():
        microseconds = [one.microseconds for one in figures]
        first = statistics.median(one.microseconds for one in seen[controller, sizes[0]])
        table.add_row(
            controller,
            f"{size:,}",
            _spread(microseconds, ".0f"),
            f"{statistics.median(microseconds) / first:.2f}×",
            _spread([one.megabytes for one in figures], ".0f"),
            f"{figures[0].virtual_s:,.0f}",
            f"{figures[0].steps:,}",
        )
    console.print(table)
    console.print(f"load of the machine in the last minute: {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="without the 10,000 agents")
    parser.add_argument("--controllers", default="fixed:64", help="with commas between (default: %(default)s)")
    parser.add_argument("--one", type=int, metavar="AGENTS", help="a single round in this process, as JSON")
    given = parser.parse_args()
    if given.one is not None:
        print(json.dumps(asdict(measure(given.one, given.controllers))))
    else:
        sizes = [100, 1_000] if given.quick else [100, 1_000, 10_000]
        compare(sizes, given.controllers.split(","), ROUNDS)


if __name__ == "__main__":
    main()
