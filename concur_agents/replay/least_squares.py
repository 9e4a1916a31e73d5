"""Non-negative least squares of a handful of unknowns, exactly: every set of unknowns that may be zero is tried."""

from __future__ import annotations

from itertools import combinations
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

_SINGULAR = 1e-12


def fit_non_negative(rows: Sequence[Sequence[float]], targets: Sequence[float]) -> list[float]:
    """The x ≥ 0 that minimises Σ (row · x − target)².

    At the minimum the unknowns above 0 solve the normal equations of their own columns, so it is among the solutions of
    all sets of columns: with n unknowns there are 2ⁿ − 1 of them.

    Args:
        rows: At least one, each with a value for every unknown.
        targets: One for each row.

    Returns:
        A value for each unknown; 0 where a column says nothing.
    """
    unknowns = range(len(rows[0]))
    scales = [max(abs(row[at]) for row in rows) or 1.0 for at in unknowns]
    scaled = [[value / scale for value, scale in zip(row, scales, strict=True)] for row in rows]
    best = [0.0 for _ in unknowns]
    least = sum(target**2 for target in targets)
    for size in range(1, len(scales) + 1):
        for chosen in combinations(unknowns, size):
            columns = [[row[at] for at in chosen] for row in scaled]
            solved = _least_squares(columns, targets)
            if solved is None or min(solved) < 0:
                continue
            error = sum(
                (sum(a * b for a, b in zip(row, solved, strict=True)) - target) ** 2
                for row, target in zip(columns, targets, strict=True)
            )
            if error < least:
                least = error
                best = [0.0 for _ in unknowns]
                for at, value in zip(chosen, solved, strict=True):
                    best[at] = value / scales[at]
    return best


def _least_squares(rows: Sequence[Sequence[float]], targets: Sequence[float]) -> list[float] | None:
    """The x that solves the normal equations, by Gauss's elimination; None if there is more than one."""
    size = len(rows[0])
    system = [
        [*(sum(row[a] * row[b] for row in rows) for b in range(size)), sum(_products(rows, targets, a))]
        for a in range(size)
    ]
    for at in range(size):
        pivot = max(range(at, size), key=lambda row: abs(system[row][at]))
        if abs(system[pivot][at]) < _SINGULAR:
            return None
        system[at], system[pivot] = system[pivot], system[at]
        for row in range(size):
            if row != at:
                factor = system[row][at] / system[at][at]
                system[row] = [a - factor * b for a, b in zip(system[row], system[at], strict=True)]
    return [system[at][size] / system[at][at] for at in range(size)]


def _products(rows: Sequence[Sequence[float]], targets: Sequence[float], at: int) -> list[float]:
    return [row[at] * target for row, target in zip(rows, targets, strict=True)]
