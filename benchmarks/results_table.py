"""What the benchmark of controllers measured: kept in a file, and shown as tables."""

from __future__ import annotations

import json
import threading
from dataclasses import dataclass
from math import exp, log
from statistics import mean
from typing import TYPE_CHECKING

from cases import GROUPS

from concur_agents.control import CONTROLLER_SPECS
from concur_agents.files import write_whole

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from cases import Case

RIVALS = ("thunderagent", "prime-rl", "latency-aimd", "latency-aimd-runs")
OURS = tuple(spec for spec in CONTROLLER_SPECS if spec not in {"none", "fixed:N"})
COLUMNS = ("none", "best-fixed", *OURS, *RIVALS, "unlimited")

Result = dict[str, float | None]


@dataclass(frozen=True)
class Job:
    """One run."""

    case: str
    controller: str
    seed: int

    @property
    def key(self) -> str:
        """In the file of results."""
        return f"{self.case} | {self.controller} | seed {self.seed}"


class Results:
    """What was measured, kept in a file.

    Args:
        path: The file; None: nowhere.
        again: Controllers whose results are forgotten.
    """

    def __init__(self, path: Path | None, again: Iterable[str]) -> None:
        self._path = path
        self._lock = threading.Lock()
        found = json.loads(path.read_text()) if path is not None and path.exists() else {}
        forget = {f" | {name} | " for name in again}
        self.of: dict[str, Result] = {
            key: result for key, result in found.items() if not any(part in key for part in forget)
        }

    def add(self, job: Job, result: Result) -> None:
        """Keep a result, in the file too."""
        with self._lock:
            self.of[job.key] = result
            if self._path is not None:
                write_whole(self._path, json.dumps(self.of, indent=1))


@dataclass(frozen=True)
class Cell:
    """A case under a controller, over the seeds.

    Attributes:
        controller: What ran; of `best-fixed`, the cap.
        ratios: Throughput over that of no gate, a seed each.
        results: What was measured, a seed each.
    """

    controller: str
    ratios: list[float]
    results: list[Result]

    @property
    def ratio(self) -> float:
        """The mean ratio."""
        return mean(self.ratios)

    def of(self, name: str) -> float | None:
        """The mean of a figure; None if no run had it."""
        values = [value for result in self.results if (value := result[name]) is not None]
        return mean(values) if values else None


def cells(case: Case, controller: str, seeds: int, results: Results) -> list[Cell]:
    """What there is of a case in a column: one cell, or one for each cap of the sweep."""
    prefix = f"{case.name} | fixed:"
    names = [controller]
    if controller == "best-fixed":
        names = sorted({key.split(" | ")[1] for key in results.of if key.startswith(prefix)})
    found = []
    for name in names:
        pairs = [
            (results.of.get(Job(case.name, name, seed).key), results.of.get(Job(case.name, "none", seed).key))
            for seed in range(seeds)
        ]
        there = [(mine, none) for mine, none in pairs if mine is not None and none is not None]
        if there:
            ratios = [_speed(mine) / _speed(none) for mine, none in there]
            found.append(Cell(name, ratios, [mine for mine, _ in there]))
    return found


def _speed(result: Result) -> float:
    speed = result["output_tokens_per_s"]
    assert speed is not None
    return speed


def best(case: Case, controller: str, seeds: int, results: Results) -> Cell | None:
    """A column's cell: of a sweep, the cap that is best over all seeds."""
    return max(cells(case, controller, seeds, results), key=lambda cell: cell.ratio, default=None)


def tables(cases: Sequence[Case], columns: Sequence[str], seeds: int, results: Results) -> str:
    """All groups in Markdown."""
    parts = []
    for group in GROUPS:
        members = [case for case in cases if case.group == group]
        rows = {case.name: {name: best(case, name, seeds, results) for name in columns} for case in members}
        if any(cell for row in rows.values() for cell in row.values()):
            parts.append(f"## {group} (simulated)\n\n{_throughputs(rows, columns)}\n\n{_others(rows, columns)}\n")
            if any(name in OURS for name in columns):
                parts.append(_against(rows, columns) + "\n")
    return "\n".join(parts)


def _throughputs(rows: dict[str, dict[str, Cell | None]], columns: Sequence[str]) -> str:
    head = ["case", "agents", "KV ×", "no gate, tok/s", *(name for name in columns if name != "none")]
    lines = [_row(head), _row(["---", *["--:"] * (len(head) - 1)])]
    for name, row in rows.items():
        any_cell = next((cell for cell in row.values() if cell), None)
        if any_cell is None:
            continue
        none = row.get("none")
        rivals_best = max((cell.ratio for other in ("best-fixed", *RIVALS) if (cell := row.get(other))), default=0.0)
        figures = [name, f"{any_cell.of('agents') or 0:.0f}", f"{any_cell.of('oversubscription') or 0:.1f}"]
        figures.append(f"{none.of('output_tokens_per_s') or 0:.0f}" if none else "–")
        figures += [_ratio(column, row[column], rivals_best) for column in columns if column != "none"]
        lines.append(_row(figures))
    means = ["**geometric mean**", "", "", ""]
    for column in columns:
        if column != "none":
            ratios = [cell.ratio for row in rows.values() if (cell := row[column])]
            means.append(f"**{_geometric(ratios):.2f}**" if ratios else "–")
    lines.append(_row(means))
    return "Output tokens/s over those of no gate; ↓: ours, under 0.97 of the best rival or 0.98 of no gate.\n\n" + (
        "\n".join(lines)
    )


def _ratio(column: str, cell: Cell | None, rivals_best: float) -> str:
    if cell is None:
        return "–"
    shown = f"{cell.ratio:.2f}"
    if len(cell.ratios) > 1:
        shown += f" ({min(cell.ratios):.2f}–{max(cell.ratios):.2f})"
    if column == "best-fixed":
        shown += f" at {cell.controller.removeprefix('fixed:')}"
    if column in OURS and cell.ratio < max(0.97 * rivals_best, 0.98):
        shown += " ↓"
    return shown


def _others(rows: dict[str, dict[str, Cell | None]], columns: Sequence[str]) -> str:
    head = ["hit rate · p99 per output token · longest wait", "ideal", *columns]
    lines = [_row(head), _row(["---", *["--:"] * (len(head) - 1)])]
    for name, row in rows.items():
        any_cell = next((cell for cell in row.values() if cell), None)
        if any_cell is None:
            continue
        figures = [name, f"{any_cell.of('ideal_hit_rate') or 0:.2f}"]
        for column in columns:
            cell = row[column]
            figures.append(
                f"{cell.of('hit_rate') or 0:.2f} · {1e3 * (cell.of('p99_time_per_output_token_s') or 0):.0f} ms · "
                f"{cell.of('max_wait_s') or 0:.0f} s"
                if cell
                else "–"
            )
        lines.append(_row(figures))
    return "\n".join(lines)


def _against(rows: dict[str, dict[str, Cell | None]], columns: Sequence[str]) -> str:
    others = [name for name in columns if name not in OURS or name == "aimd"]
    head = ["ours over theirs: geometric mean (worst case)", *others]
    lines = [_row(head), _row(["---", *["--:"] * len(others)])]
    for ours in (name for name in columns if name in OURS):
        figures = [ours]
        for other in others:
            pairs = {
                case: mine.ratio / theirs.ratio
                for case, row in rows.items()
                if (mine := row[ours]) and (theirs := row[other])
            }
            worst = min(pairs, key=pairs.__getitem__, default="")
            figures.append(f"{_geometric(pairs.values()):.2f} ({pairs[worst]:.2f} {worst})" if pairs else "–")
        lines.append(_row(figures))
    return "\n".join(lines)


def _geometric(ratios: Iterable[float]) -> float:
    return exp(mean(map(log, ratios)))


def _row(figures: Iterable[str]) -> str:
    return f"| {' | '.join(figures)} |"
