from __future__ import annotations

import random

import pytest

from concur_agents.replay.least_squares import fit_non_negative


def test_a_line_through_points_is_found():
    rows = [[1.0, x] for x in (0.0, 1.0, 5.0, 7.0)]

    assert fit_non_negative(rows, [3 + 2 * x for _, x in rows]) == pytest.approx([3, 2])


def test_what_would_be_negative_is_zero_and_the_rest_is_fitted_without_it():
    rows = [[1.0, x] for x in (1.0, 2.0, 3.0)]

    slope_only = fit_non_negative(rows, [1.0, 3.0, 5.0])  # 2x − 1 without the constraint

    assert slope_only == pytest.approx([0, (1 + 6 + 15) / 14])


def test_a_column_that_says_nothing_gets_nothing():
    assert fit_non_negative([[1.0, 0.0], [2.0, 0.0]], [2.0, 4.0]) == pytest.approx([2, 0])


def test_two_columns_that_say_the_same_share_no_blame():
    found = fit_non_negative([[1.0, 2.0], [2.0, 4.0]], [3.0, 6.0])

    assert sum(a * b for a, b in zip(found, [1.0, 2.0], strict=True)) == pytest.approx(3)


@pytest.mark.parametrize("seed", range(20))
def test_no_small_step_from_the_answer_is_better(seed):
    draw = random.Random(seed)
    rows = [[draw.random() * scale for scale in (1, 1e3, 1e6, 1e4)] for _ in range(9)]
    targets = [draw.random() for _ in rows]

    def error(values):
        return sum(
            (sum(a * b for a, b in zip(row, values, strict=True)) - target) ** 2
            for row, target in zip(rows, targets, strict=True)
        )

    found = fit_non_negative(rows, targets)

    assert min(found) >= 0
    for at, scale in enumerate((1, 1e-3, 1e-6, 1e-4)):
        for step in (-1e-4 * scale, 1e-4 * scale):
            near = [*found]
            near[at] = max(0.0, near[at] + step)
            assert error(near) >= error(found) - 1e-12
