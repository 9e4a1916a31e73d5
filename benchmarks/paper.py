"""The paper's three settings on the embedded engine, in virtual time: simulated figures beside its measured ones.

CONCUR (arXiv 2601.22705) does not publish its agents, so the generated ones stand in, whole: `workload:swe` and
`workload:search`, seed 0. It was measured on SGLang; this models vLLM.

Run it: `python benchmarks/paper.py` (some minutes; it prints a table and draws `docs/pictures/middle-phase.svg`).
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
from matplotlib import pyplot as plt

from concur_agents.replay.shape import Shape
from concur_agents.replay.simulated import run_simulated
from concur_agents.replay.workload import Workload
from concur_agents.simulation.profile import EngineProfile

if TYPE_CHECKING:
    from collections.abc import Sequence

    from concur_agents.replay.results import Moment, RunResult

PICTURE = Path(__file__).parents[1] / "docs" / "pictures" / "middle-phase.svg"
WORKLOADS = ("swe", "search")


@dataclass(frozen=True)
class Setting:
    """One of the paper's.

    Attributes:
        model: The model.
        hardware: The GPUs.
        agents: How many agents.
        caps: Fixed caps to sweep.
        paper: Its speedup of AIMD over no gate.
    """

    model: str
    hardware: str
    agents: int
    caps: tuple[int, ...]
    paper: float


SETTINGS = (
    Setting("qwen3-32b", "h100:8", 256, (16, 24, 32, 40, 48, 56, 64, 80, 96, 128), 4.09),
    Setting("qwen3-32b", "h100:2", 256, (2, 4, 6, 8, 10, 12, 16, 64), 2.99),
    Setting("deepseek-v3", "h100:16", 40, (4, 6, 8, 10, 12, 16, 20, 24), 1.90),
)
COLORS = {"none": "#c1443c", "aimd": "#8a6fb0", "working-set": "#2f7f5f"}


def main() -> None:
    """Run, print, draw."""
    print("simulated; speedup over no gate, hit rate of the whole run")
    print("| setting | agents | no gate, tok/s | hit | aimd | hit | best cap | hit | paper's aimd |")
    print("|---|---|---|---|---|---|---|---|---|")
    for setting in SETTINGS:
        for name in WORKLOADS:
            runs = run_all(setting, name)
            print(row(setting, name, runs), flush=True)
            if setting is SETTINGS[0] and name == WORKLOADS[0]:
                draw({spec: runs[spec] for spec in COLORS}, setting)
    print(f"picture: {PICTURE.relative_to(Path.cwd()) if PICTURE.is_relative_to(Path.cwd()) else PICTURE.name}")


def run_all(setting: Setting, name: str) -> dict[str, RunResult]:
    """No gate, AIMD and every cap."""
    workload = Workload.load(f"workload:{name}", Shape(agents=setting.agents))
    profile = EngineProfile.from_hardware(setting.model, setting.hardware)
    profile = profile.model_copy(update={"max_model_len": max(profile.max_model_len, workload.longest)})
    specs = ["none", "aimd", "working-set", *(f"fixed:{cap}" for cap in setting.caps)]
    runs = {}
    for spec in specs:
        print(f"  {setting.model} {setting.hardware} {name} {spec}", file=sys.stderr)
        runs[spec] = run_simulated(workload, spec, profile, on_progress=lambda _: None)
    return runs


def row(setting: Setting, name: str, runs: dict[str, RunResult]) -> str:
    """One line of the table."""
    none, aimd = runs["none"], runs["aimd"]
    best = max((runs[f"fixed:{cap}"] for cap in setting.caps), key=lambda run: run.output_tokens_per_s)

    def times(run: RunResult) -> str:
        return f"{run.output_tokens_per_s / none.output_tokens_per_s:.2f}×"

    return (
        f"| {setting.model}, {setting.hardware}, {name} | {setting.agents} | {none.output_tokens_per_s:,.0f} "
        f"| {none.hit_rate:.2f} | {times(aimd)} | {aimd.hit_rate:.2f} | {times(best)} ({best.controller}) "
        f"| {best.hit_rate:.2f} | {setting.paper:.2f}× |"
    )


def draw(runs: dict[str, RunResult], setting: Setting) -> None:
    """The two runs over time, the phases of the one without a gate shaded."""
    mpl.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "concur-agents", "font.size": 9})
    capacity = EngineProfile.from_hardware(setting.model, setting.hardware).capacity_tokens
    figure, axes = plt.subplots(4, 1, sharex=True, figsize=(8, 7.5), layout="constrained")
    panels: list[tuple[Any, str]] = list(
        zip(axes, ("active agents", "working set / cache", "hit rate", "output tokens/s"), strict=True)
    )
    for spec, run in runs.items():
        times = [moment.time_s / 60 for moment in run.timeline]
        values = (
            [moment.active for moment in run.timeline],
            [moment.working_set_tokens / capacity for moment in run.timeline],
            [moment.hit_rate for moment in run.timeline],
            rates(run.timeline),
        )
        for axis, series in zip(axes, values, strict=True):
            axis.plot(times, series, color=COLORS[spec], label="no gate" if spec == "none" else spec, linewidth=1.3)
    begin, end = middle(runs["none"].timeline, capacity)
    for axis, title in panels:
        axis.set_ylabel(title)
        axis.set_ylim(bottom=0)
        axis.axvspan(begin, end, color="#c1443c", alpha=0.08, linewidth=0)
        axis.grid(visible=True, alpha=0.25)
        axis.spines[["top", "right"]].set_visible(False)
    axes[1].axhline(1.0, color="#555", linewidth=0.8, linestyle="--")
    top = axes[0].get_ylim()[1]
    for place, text in (((begin + end) / 2, "middle-phase thrashing"), ((end + times_end(runs)) / 2, "cool-down")):
        axes[0].text(place, top * 0.96, text, ha="center", va="top", color="#7a2b26")
    axes[0].annotate(
        "warm-up",
        (begin / 2, top * 0.9),
        (begin + (end - begin) * 0.08, top * 0.55),
        color="#7a2b26",
        arrowprops={"arrowstyle": "->", "color": "#7a2b26"},
    )
    axes[0].legend(loc="center right", frameon=False)
    axes[-1].set_xlabel("minutes")
    figure.suptitle(
        f"{setting.agents} coding agents, {setting.model} on {setting.hardware.replace(':', ' × ')} (simulated)"
    )
    PICTURE.parent.mkdir(exist_ok=True)
    figure.savefig(PICTURE, metadata={"Date": None})
    plt.close(figure)


def rates(timeline: Sequence[Moment], over: int = 4) -> list[float | None]:
    """Output tokens a second over the last `over` moments."""
    found: list[float | None] = [None] * over
    for before, after in zip(timeline, timeline[over:], strict=False):
        span = after.time_s - before.time_s
        found.append((after.output_tokens - before.output_tokens) / span if span else None)
    return found[: len(timeline)]


def middle(timeline: Sequence[Moment], capacity: int) -> tuple[float, float]:
    """When the working set passes the cache, and when it is back under it. [minutes]"""
    over = [moment.time_s / 60 for moment in timeline if moment.working_set_tokens > capacity]
    return over[0], over[-1]


def times_end(runs: dict[str, RunResult]) -> float:
    """When the last run ends. [minutes]"""
    return max(run.makespan_s for run in runs.values()) / 60


if __name__ == "__main__":
    main()
