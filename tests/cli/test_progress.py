from __future__ import annotations

import io

from rich.console import Console

from concur_agents.cli.progress import LINE_EVERY_S, figures, make_reporter
from concur_agents.replay.progress import Progress


def progress(**changes):
    return Progress(
        **{
            "controller": "aimd",
            "waiting_for_server": False,
            "elapsed_s": 0.0,
            "agents_done": 1,
            "agents": 4,
            "turns_done": 5,
            "turns": 20,
            "active": 2,
            "paused": 1,
            "queued": 3,
            "working_set_tokens": 9000.0,
            "capacity_tokens": 16384.0,
            "hit_rate": 0.815,
            "output_tokens_per_s": 142.4,
        }
        | changes
    )


def console(*, terminal):
    return Console(file=io.StringIO(), force_terminal=terminal, width=120, highlight=False)


def test_the_figures_are_those_people_watch():
    assert figures(progress()) == "1/4 agents · 2 active 1 paused 3 waiting · hit 0.81 · 142 tok/s"


def test_a_hit_rate_without_evidence_is_not_zero():
    assert "hit –" in figures(progress(hit_rate=None))


def test_lines_come_at_the_start_now_and_then_and_at_the_end():
    to = console(terminal=False)

    with make_reporter(2, to) as reporter:
        reporter.show(progress(waiting_for_server=True))
        for second in range(25):
            reporter.show(progress(elapsed_s=float(second), turns_done=second))
        reporter.show(progress(elapsed_s=24.5, agents_done=4, turns_done=20))

    lines = to.file.getvalue().splitlines()
    done = [line.partition(": ")[2].partition("/")[0] for line in lines[1:]]
    assert lines[0].startswith("1/2 aimd: ")
    assert done == ["0", str(int(LINE_EVERY_S)), str(2 * int(LINE_EVERY_S)), "20"]


def test_every_run_has_its_number_and_starts_its_lines_anew():
    to = console(terminal=False)

    with make_reporter(2, to) as reporter:
        for controller in ("none", "aimd"):
            reporter.show(progress(controller=controller, waiting_for_server=True))
            reporter.show(progress(controller=controller, elapsed_s=0.1))

    assert [line.partition(":")[0] for line in to.file.getvalue().splitlines()] == [
        *["1/2 none"] * 2,
        *["2/2 aimd"] * 2,
    ]


def test_a_narrow_terminal_cuts_off_the_end_of_a_bar():
    to = Console(file=io.StringIO(), force_terminal=True, width=60, highlight=False)

    with make_reporter(1, to) as reporter:
        reporter.show(progress(waiting_for_server=True))
        reporter.show(progress())

    assert "1/1 aimd 5/20 turns · 1/4 agents" in to.file.getvalue()


def test_on_a_terminal_each_run_has_a_bar():
    to = console(terminal=True)

    with make_reporter(2, to) as reporter:
        for controller in ("none", "aimd"):
            reporter.show(progress(controller=controller, waiting_for_server=True))
            reporter.show(progress(controller=controller))
        reporter.note("filler")

    shown = to.file.getvalue()
    assert "1/2 none" in shown
    assert "2/2 aimd" in shown
    assert "5/20 turns" in shown
    assert "note: filler" in shown
