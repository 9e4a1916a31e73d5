"""What the gate itself costs, beside what people use today, in one run.

    python benchmarks/overhead.py            all tables, about two minutes
    python benchmarks/overhead.py --quick    fewer sizes and rounds

Each figure is the median of several rounds, with the smallest and the largest; rivals take turns within a round, so
that a slow moment of the machine hits all of them.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import statistics
import time
import tracemalloc
from typing import TYPE_CHECKING, Any

import anyio
import control
import poll
from rich.console import Console
from rich.table import Table

from concur_agents import Budget, ConcurGate
from concur_agents.admission import Admission
from concur_agents.kind import Kind, Totals
from concur_agents.place import Place

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

PLACES = 64
"""Places that are held at once while the others wait: a usual hand-tuned cap."""

console = Console(width=130)


class Spread:
    """Figures of several rounds."""

    def __init__(self) -> None:
        self.figures: list[float] = []

    def __str__(self) -> str:
        return f"{statistics.median(self.figures):.2f} ({min(self.figures):.2f}–{max(self.figures):.2f})"


async def _through(enter: Callable[[], Any], agents: int) -> float:
    """Microseconds an agent, for so many agents that all wait at once and then pass one after the other."""

    async def agent() -> None:
        async with enter():
            await asyncio.sleep(0)

    tasks = [asyncio.create_task(agent()) for _ in range(agents)]
    start = time.perf_counter()
    await asyncio.gather(*tasks)
    return (time.perf_counter() - start) / agents * 1e6


async def _pass_semaphore(agents: int) -> float:
    semaphore = asyncio.Semaphore(PLACES)
    return await _through(lambda: semaphore, agents)


async def _pass_limiter(agents: int) -> float:
    limiter = anyio.CapacityLimiter(PLACES)
    return await _through(lambda: limiter, agents)


async def _pass_admission(agents: int) -> float:
    """The bare semaphore inside the gate: what `acquire` and `finish` of a place cost."""
    admission = Admission(asyncio.get_running_loop().time, Totals(), passing_limit_s=30)
    admission.resize(Budget(agents=PLACES))
    kind = Kind("agent")

    class Entry:
        async def __aenter__(self) -> None:
            self.place = Place("agent", kind)
            await admission.acquire(self.place)

        async def __aexit__(self, *exc: object) -> None:
            admission.finish(self.place)

    return await _through(Entry, agents)


async def _pass_gate(agents: int) -> float:
    gate = ConcurGate(controller=f"fixed:{PLACES}")
    return await _through(gate.agent, agents)


def admit_and_finish(sizes: list[int], rounds: int) -> None:
    """Admit and finish, as the number of waiting agents grows."""
    rivals: dict[str, Callable[[int], Coroutine[Any, Any, float]]] = {
        "asyncio.Semaphore": _pass_semaphore,
        "anyio.CapacityLimiter": _pass_limiter,
        "concur_agents, the bare place": _pass_admission,
        "concur_agents, gate.agent()": _pass_gate,
    }
    table = Table(title=f"admit + finish, µs an agent, {PLACES} places: median (min–max) of {rounds}")
    table.add_column("")
    figures: dict[tuple[str, int], Spread] = {}
    for size in sizes:
        table.add_column(f"{size:,} agents", justify="right")
        for _ in range(rounds):
            for name, rival in rivals.items():
                gc.collect()
                figures.setdefault((name, size), Spread()).figures.append(asyncio.run(rival(size)))
    for name in rivals:
        table.add_row(name, *(str(figures[name, size]) for size in sizes))
    console.print(table)


def resizes(sizes: list[int], rounds: int) -> None:
    """A resize, and a turn with its report, as the number of active agents grows."""
    table = Table(title=f"with N weighed agents active and N waiting, µs: median (min–max) of {rounds}")
    table.add_column("")
    resize, turn = [], []
    for size in sizes:
        table.add_column(f"{size:,} agents", justify="right")
        resized, turned = Spread(), Spread()
        for _ in range(rounds):
            a, b = asyncio.run(_resize_and_turn(size))
            resized.figures.append(a)
            turned.figures.append(b)
        resize.append(str(resized))
        turn.append(str(turned))
    table.add_row("resize by one token, nobody enters", *resize)
    table.add_row("turn: begin, report, end", *turn)
    console.print(table)


async def _resize_and_turn(agents: int) -> tuple[float, float]:
    admission = Admission(asyncio.get_running_loop().time, Totals(), passing_limit_s=0)
    admission.resize(Budget())
    kind = Kind("agent")
    places = [Place(str(i), kind, expected_tokens=1000 + i % 97) for i in range(agents)]
    for place in places:
        await admission.acquire(place)
        await admission.begin_turn(place)
        admission.end_turn(place)
    full = admission.working_set
    room = full + 2 * admission.view().growth_tokens  # for the next turns of all, and not for who waits
    admission.resize(Budget(tokens=room, pause_turns=1, admit_turns=2))
    waiting = [asyncio.create_task(admission.acquire(Place("w", kind, expected_tokens=full))) for _ in range(agents)]
    await asyncio.sleep(0)
    start = time.perf_counter()
    for i in range(1000):
        admission.resize(Budget(tokens=room + i, pause_turns=1, admit_turns=2))
    resized = (time.perf_counter() - start) / 1000 * 1e6
    start = time.perf_counter()
    for i in range(1000):
        place = places[i * 7919 % agents]
        await admission.begin_turn(place)
        admission.resize_place(place, 1000 + i % 89, weighed=True)
        admission.end_turn(place)
    turned = (time.perf_counter() - start) / 1000 * 1e6
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    return resized, turned


async def _nothing() -> None:
    return None


async def _gather_plain(agents: int) -> None:
    await asyncio.gather(*(_nothing() for _ in range(agents)))


async def _gather_gated(agents: int) -> None:
    await ConcurGate(controller=f"fixed:{PLACES}").gather(*(_nothing() for _ in range(agents)))


async def _gather_guarded(agents: int) -> None:
    semaphore = asyncio.Semaphore(PLACES)

    async def held() -> None:
        async with semaphore:
            await _nothing()

    await asyncio.gather(*(held() for _ in range(agents)))


def gathers(agents: int, rounds: int) -> None:
    """`gate.gather` against `asyncio.gather`, agents that do nothing."""
    table = Table(title=f"gather of {agents:,} agents that do nothing: median (min–max) of {rounds}")
    for column in ("", "ms", "peak memory, MB"):
        table.add_column(column, justify="right" if column else "left")
    rivals = {
        "asyncio.gather": _gather_plain,
        "asyncio.gather + Semaphore": _gather_guarded,
        "gate.gather": _gather_gated,
    }
    seconds = {name: Spread() for name in rivals}
    memory = dict.fromkeys(rivals, 0.0)
    for _ in range(rounds):
        for name, rival in rivals.items():
            gc.collect()
            start = time.perf_counter()
            asyncio.run(rival(agents))
            seconds[name].figures.append((time.perf_counter() - start) * 1e3)
    for name, rival in rivals.items():
        gc.collect()
        tracemalloc.start()
        asyncio.run(rival(agents))
        memory[name] = tracemalloc.get_traced_memory()[1] / 1e6
        tracemalloc.stop()
    for name in rivals:
        table.add_row(name, str(seconds[name]), f"{memory[name]:.1f}")
    console.print(table)


def small_parts() -> None:
    """One control decision, one poll's parse."""
    table = Table(title="the parts that run once a poll: median (min–max)")
    for column in ("", "figure"):
        table.add_column(column, justify="right" if column else "left")
    for name, figure in control.measure().items():
        table.add_row(f"decide, {name}", f"{figure:.2f} µs")
    for name, figure in poll.measure().items():
        table.add_row(f"read a page, {name.removesuffix(' ms')}", f"{figure:.2f} ms")
    console.print(table)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer sizes and rounds")
    quick = parser.parse_args().quick
    rounds = 3 if quick else 5
    admit_and_finish([100, 1_000] if quick else [100, 1_000, 10_000, 100_000], rounds)
    resizes([100, 1_000] if quick else [100, 1_000, 10_000, 100_000], rounds)
    gathers(2_000 if quick else 20_000, rounds)
    small_parts()


if __name__ == "__main__":
    main()
