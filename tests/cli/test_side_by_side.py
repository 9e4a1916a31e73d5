from __future__ import annotations

import io

from rich.console import Console

from concur_agents.cli.side_by_side import SideBySide
from concur_agents.replay.progress import Progress
from concur_agents.telemetry.live.sparks import SPARKS, spark_line


def progress(elapsed, *, turns_done=5, hit_rate=0.8, rate=100.0, agents_done=1, waiting=False):
    return Progress(
        controller="aimd",
        waiting_for_server=waiting,
        elapsed_s=elapsed,
        agents_done=agents_done,
        agents=4,
        turns_done=turns_done,
        turns=20,
        active=2,
        paused=1,
        queued=3,
        working_set_tokens=30000.0,
        capacity_tokens=10000.0,
        hit_rate=hit_rate,
        output_tokens_per_s=rate,
    )


def shown(*, terminal, width=100, steps=()):
    out = io.StringIO()
    console = Console(file=out, force_terminal=terminal, width=width, color_system=None, highlight=False)
    with SideBySide(("no gate", "gate"), console) as view:
        for number, step in steps:
            view.show(number, step)
    return out.getvalue()


def test_a_spark_line_runs_from_nothing_to_the_top_with_gaps_where_nothing_is_known():
    assert spark_line([0.0, 0.5, 1.0, None, 2.0], 1.0) == f"{SPARKS[0]}{SPARKS[4]}{SPARKS[-1]} {SPARKS[-1]}"
    assert spark_line([0.0, 0.0], 0.0) == SPARKS[0] * 2
    assert not spark_line([], 1.0)


def test_on_a_terminal_two_panels_show_both_runs_within_80_columns():
    steps = [(0, progress(t, hit_rate=1 - t / 100)) for t in range(1, 100)] + [(1, progress(50, turns_done=12))]

    text = shown(terminal=True, width=80, steps=steps)

    last = text[text.rindex(" no gate ") :]
    assert "12/20" in last
    assert "3.0× cache" in last
    assert SPARKS[-1] in last
    assert "…" not in last
    assert max(len(line) for line in last.splitlines()[1:]) <= 80


def test_a_run_that_has_not_begun_says_so():
    assert "waits for its turn" in shown(terminal=True, steps=[(0, progress(1)), (1, progress(0, waiting=True))])


def test_elsewhere_it_writes_lines_and_the_last_one_always():
    steps = [(0, progress(1)), (1, progress(1)), (0, progress(2)), (1, progress(2))]
    steps += [(0, progress(9, agents_done=4, turns_done=20)), (1, progress(7, agents_done=4, turns_done=20))]

    lines = shown(terminal=False, steps=steps).splitlines()

    assert len(lines) == 2
    assert lines[-1].startswith("no gate: 9 s, 20/20 turns, 2 active, 3.0× cache, hit 0.80, 100 tok/s | gate: 7 s")
