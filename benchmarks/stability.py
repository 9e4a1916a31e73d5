"""What controllers and rival laws do after a step in load, in virtual time: one table a step.

    python benchmarks/stability.py                                       all steps, all controllers: some minutes
    python benchmarks/stability.py --steps doubling,foreign --controllers working-set,thunderagent
    python benchmarks/stability.py --seeds 3 --json FILE                 three loads; the figures of each run as JSON

The load is that of `steps.Load`: in its steady state before the step, and again, another one, after it. Every figure
is of one phase, from a step to the next or to the end of the run, and simulated:

settles [s]
    From the step until what the law holds stays within ±10 % of its new mean. What it holds is the working set (Σ of
    the contexts of the agents with a place, in tokens) for laws that weigh agents, and the number of agents with a
    place for laws that count them. Its new mean is that over the last third of the phase. Single turns are smoothed
    away: a mean over 30 s is looked at. "–": it does not stay there before the last third begins. A law that holds a
    number and never changes it settles at once, whatever the cache does: see the next two.
passes the room [%]
    The working set at its most over the room for it, less 100 %. The room is the KV cache, less what foreign requests
    hold; it may shrink at once, a working set cannot, so that a law may begin the phase far above it.
over it [s]
    For how long the working set was larger than the room, all together.
swing [%]
    The standard deviation over the mean in the last third of the phase: of the number of agents with a place, and of
    the working set. Where contexts grow one of the two has to move.
pauses
    Turns that had to wait at the gate, of 100, in the last third; first turns of agents are not counted as waiting.
longest pause [s]
    The longest that an agent in mid-run waited at any one time of the phase, what it waited before it included.
tokens/s
    Output tokens of finished turns over the phase, and as a share of those of the best law in the table. Turns that
    large agents never begin cost nothing here: see the longest pause beside it.

Of several seeds the mean is shown; of the settling time the median, of two the longer; of overshoot and longest pause
the most.
"""

from __future__ import annotations

import argparse
import json
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from itertools import repeat
from math import inf
from pathlib import Path
from statistics import mean, pstdev
from typing import TYPE_CHECKING

from steps import SAMPLE_S, Load, Phase, Sample, Story, simulate

from concur_agents.control import parse_controller
from concur_agents.files import write_whole

if TYPE_CHECKING:
    from collections.abc import Sequence

BAND = 0.10
"""Half of the band about the new mean, as a share of it."""
SMOOTH_S = 30.0
"""What is looked at is a mean over so long: some turns of each agent. [s]"""
REST_S = 1_500.0
"""Before the step: agents are of all ages, and prime-rl, whose cap starts at nine agents, has found its own. [s]"""
AFTER_S = 900.0
"""After a step: three lives of an agent. [s]"""
LONG_AFTER_S = 1_800.0
"""After tools became slow: thirty turns. [s]"""
CAP_SHARES = (0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.1)
"""The caps of the sweep, over how many mean contexts the cache holds."""

BEST_FIXED = "best-fixed"
CONTROLLERS = ("working-set", "pi", "aimd", BEST_FIXED, "thunderagent", "prime-rl")
RIVALS = ("thunderagent", "prime-rl")
WEIGH = ("working-set", "thunderagent")
"""Laws that hold a working set; the others hold a number of agents, `pi` one that it takes from the working set."""

STEPS = {
    "doubling": Story((Phase("", REST_S), Phase("the agents double", AFTER_S, agents=2.0))),
    "halving": Story((Phase("", REST_S, agents=2.0), Phase("half of the agents end at once", AFTER_S))),
    "tools": Story(
        (
            Phase("", REST_S, tools_s=0.1),
            Phase("tools go from 0.1 s to 60 s", LONG_AFTER_S, tools_s=60.0),
            Phase("tools go from 60 s to 0.1 s", AFTER_S, tools_s=0.1),
        )
    ),
    "foreign": Story((Phase("", REST_S), Phase("foreign traffic takes half of the cache", AFTER_S, foreign=0.5))),
    "late": Story((Phase("", REST_S), Phase("the agents double, metrics 5 s late", AFTER_S, agents=2.0)), late_s=5.0),
}
STEADY = Story((Phase("", REST_S), Phase("no step", AFTER_S)))


@dataclass(frozen=True)
class Figures:
    """What was measured of a controller in a phase; the module says what each means.

    Attributes:
        step: What the phase begins with.
        controller: As named; of `best-fixed`, with the cap.
        seed: Of the load; of several, the first.
        settling_s: None: it did not settle. [s]
        overshoot: Over the room, as a share of it; 0 if it was never passed.
        over_s: [s]
        swing_agents: As a share of the mean.
        swing_tokens: As a share of the mean.
        pauses: As a share of the turns.
        longest_pause_s: [s]
        tokens_per_s: Output tokens a second.
    """

    step: str
    controller: str
    seed: int
    settling_s: float | None
    overshoot: float
    over_s: float
    swing_agents: float
    swing_tokens: float
    pauses: float
    longest_pause_s: float
    tokens_per_s: float


def settling_s(values: Sequence[float], *, every_s: float = SAMPLE_S) -> float | None:
    """How long it takes until values stay within `BAND` of their mean over the last third.

    Args:
        values: From the step on, at equal distances; at least three.
        every_s: The distance. [s]

    Returns:
        None if they are still outside when the last third begins, or leave the band in it. [s]
    """
    half = round(SMOOTH_S / every_s / 2)
    smooth = [mean(values[max(0, at - half) : at + half + 1]) for at in range(len(values))]
    last = last_third(values)
    aim = mean(last)
    outside = [at for at, value in enumerate(smooth) if abs(value - aim) > BAND * abs(aim)]
    settled = outside[-1] + 1 if outside else 0
    return settled * every_s if settled <= len(values) - len(last) else None


def overshoot(working_sets: Sequence[float], rooms: Sequence[float]) -> float:
    """By how much a working set passed the room at most, as a share of it; 0 if it did not."""
    return max(0.0, *(held / room - 1 for held, room in zip(working_sets, rooms, strict=True)))


def swing(values: Sequence[float]) -> float:
    """The standard deviation over the mean; 0 if all are."""
    return pstdev(values) / mean(values) if any(values) else 0.0


def last_third(values: Sequence[float]) -> Sequence[float]:
    """The last third of a phase, at least one."""
    return values[-max(1, len(values) // 3) :]


def figures(step: str, controller: str, seed: int, samples: Sequence[Sample]) -> Figures:
    """What came of a phase.

    Args:
        step: What it begins with.
        controller: What ran.
        seed: Of the load.
        samples: Of the phase, at equal distances of `SAMPLE_S`; at least three.
    """
    active = [float(sample.active) for sample in samples]
    held = [sample.working_set for sample in samples]
    first, last = samples[-len(last_third(active))], samples[-1]
    return Figures(
        step=step,
        controller=controller,
        seed=seed,
        settling_s=settling_s(held if controller in WEIGH else active),
        overshoot=overshoot(held, [sample.room for sample in samples]),
        over_s=SAMPLE_S * sum(sample.working_set > sample.room for sample in samples),
        swing_agents=swing(last_third(active)),
        swing_tokens=swing(last_third(held)),
        pauses=(last.pauses - first.pauses) / max(1, last.turns - first.turns),
        longest_pause_s=max(sample.paused_s for sample in samples),
        tokens_per_s=(last.output_tokens - samples[0].output_tokens) / (last.time_s - samples[0].time_s),
    )


def measure(load: Load, story: Story, controller: str) -> list[Figures]:
    """Run a story once; what came of each of its phases but the first.

    Args:
        load: The agents.
        story: What happens.
        controller: As `steps.simulate` takes it.
    """
    samples = simulate(load, story, controller)
    return [
        figures(phase.name, controller, load.seed, [sample for sample in samples if sample.phase == number])
        for number, phase in enumerate(story.phases)
        if number
    ]


def over_seeds(rows: Sequence[Figures]) -> Figures:
    """One row for the runs of a law with several seeds."""
    settled = sorted(inf if row.settling_s is None else row.settling_s for row in rows)[len(rows) // 2]
    return replace(
        rows[0],
        settling_s=None if settled == inf else settled,
        overshoot=max(row.overshoot for row in rows),
        over_s=mean(row.over_s for row in rows),
        swing_agents=mean(row.swing_agents for row in rows),
        swing_tokens=mean(row.swing_tokens for row in rows),
        pauses=mean(row.pauses for row in rows),
        longest_pause_s=max(row.longest_pause_s for row in rows),
        tokens_per_s=mean(row.tokens_per_s for row in rows),
    )


def caps(load: Load) -> list[str]:
    """The fixed caps that are tried on a load."""
    fit = load.profile.capacity_tokens / load.mean_tokens
    return [f"fixed:{max(1, round(share * fit))}" for share in CAP_SHARES]


def best_cap(pool: ProcessPoolExecutor, loads: Sequence[Load]) -> str:
    """The fixed cap that is best over all loads, while nothing happens: what who tunes by hand would find."""
    tried = [(load, cap) for load in loads for cap in caps(load)]
    rests = pool.map(measure, [load for load, _ in tried], repeat(STEADY), [cap for _, cap in tried])
    speeds: dict[str, float] = {}
    for (_, cap), (rest,) in zip(tried, rests, strict=True):
        speeds[cap] = speeds.get(cap, 0.0) + rest.tokens_per_s
    return max(speeds, key=speeds.__getitem__)


def table(step: str, rows: Sequence[Figures]) -> str:
    """The controllers after one step, in Markdown."""
    head = ["law", "settles", "passes the room", "over it", "swing: agents · tokens"]
    head += ["pauses", "longest pause", "tokens/s", "of best"]
    lines = [_row(head), _row(["---", *["--:"] * (len(head) - 1)])]
    best = max(row.tokens_per_s for row in rows)
    lines += [
        _row(
            [
                row.controller,
                "–" if row.settling_s is None else f"{row.settling_s:.0f} s",
                f"{row.overshoot:.0%}",
                f"{row.over_s:.0f} s",
                f"{row.swing_agents:.0%} · {row.swing_tokens:.0%}",
                f"{100 * row.pauses:.1f} of 100",
                f"{row.longest_pause_s:.0f} s",
                f"{row.tokens_per_s:.0f}",
                f"{row.tokens_per_s / best:.2f}",
            ]
        )
        for row in rows
    ]
    return f"## {step} (simulated)\n\n" + "\n".join(lines) + "\n"


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _names(text: str, known: Sequence[str]) -> list[str]:
    names = [name.strip() for name in text.split(",") if name.strip()]
    for name in names:
        if name not in known:
            raise ValueError(f"{name!r} is not one of {', '.join(known)}")
    return names


def _controllers(text: str) -> list[str]:
    names = [name.strip() for name in text.split(",") if name.strip()]
    for name in names:
        if name not in {BEST_FIXED, *RIVALS}:
            try:
                parse_controller(name)
            except ValueError as error:
                raise ValueError(f"{error}; or one of {', '.join((BEST_FIXED, *RIVALS))}") from None
    return names


def main() -> None:
    parser = argparse.ArgumentParser(description="What controllers do after a step in load, in virtual time.")
    parser.add_argument("--controllers", default=",".join(CONTROLLERS), help="with commas; all: %(default)s")
    parser.add_argument("--steps", default=",".join(STEPS), help="with commas; all: %(default)s")
    parser.add_argument("--seeds", type=int, default=1, help="how many, from 0 on")
    parser.add_argument("--jobs", type=int, default=2, help="worker processes")
    parser.add_argument("--json", type=Path, help="where the figures are written")
    options = parser.parse_args()
    try:
        controllers = _controllers(options.controllers)
        steps = _names(options.steps, list(STEPS))
    except ValueError as error:
        parser.error(str(error))
    if not controllers or not steps or options.seeds < 1:
        parser.error("give at least one controller, one step and one seed")
    loads = [Load(seed=seed) for seed in range(options.seeds)]
    with ProcessPoolExecutor(options.jobs) as pool:
        if BEST_FIXED in controllers:
            controllers[controllers.index(BEST_FIXED)] = best_cap(pool, loads)
        names = dict.fromkeys(controllers)
        jobs = [(load, STEPS[step], name) for step in steps for name in names for load in loads]
        measured = [row for rows in pool.map(measure, *zip(*jobs, strict=True)) for row in rows]
    for step in dict.fromkeys(row.step for row in measured):
        runs = [[row for row in measured if (row.step, row.controller) == (step, name)] for name in names]
        print(table(step, [over_seeds(rows) for rows in runs]))
    if options.json is not None:
        write_whole(options.json, json.dumps([asdict(row) for row in measured], indent=1) + "\n")


if __name__ == "__main__":
    main()
