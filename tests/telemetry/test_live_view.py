"""The parts of a live view: signs, pages that fit any terminal, screens for any stream."""

from __future__ import annotations

import contextlib
import importlib
import io
import os
import re
import sys

import pytest
from rich.console import Console
from telemetry.terminals import Gone, Terminal

from concur_agents.control.base import Budget, PoolView
from concur_agents.engines.snapshot import EngineSnapshot, EngineWindow
from concur_agents.errors import MissingExtra
from concur_agents.place import Waiting
from concur_agents.stats import Decision, GateStats
from concur_agents.telemetry.live.gate_view import GateShown, Trends, gate_line, gate_page
from concur_agents.telemetry.live.recent import PARTS, STEP_S, Recent
from concur_agents.telemetry.live.screen import open_screen
from concur_agents.telemetry.live.server_view import ServerShown, server_line, servers_page
from concur_agents.telemetry.live.sparks import PLAIN, bar, printable, span, spark_line
from concur_agents.telemetry.live.writer import MOST_PENDING, Writer


def snapshot(**changes):
    known = {
        "time": 10.0,
        "window_s": 5.0,
        "usage": 0.75,
        "hit_rate": 0.81,
        "running": 18.0,
        "waiting": 3.0,
        "sleeping": False,
        "capacity_tokens": 1316384.0,
        "block_size": 16,
        "preemptions": 2.0,
        "restarts": 0,
        "prompt_tokens": 5000.0,
        "computed_prompt_tokens": 1000.0,
        "generation_tokens": 710.0,
        "engines": (EngineWindow(engine="0", usage=0.75, hit_rate=0.81, running=18.0, waiting=3.0),),
    }
    return EngineSnapshot(**known | changes)


def gate_shown(**changes):
    budget = Budget(tokens=1053107.0, reason="1,053,107 tokens, 0.80 of a cache of 1,316,384; active agents lost 12%")
    decision = Decision(time=1.0, budget=budget, previous=None, enforced=True, pool=PoolView(), usage=0.7, hit_rate=0.4)
    stats = GateStats(
        controller="working-set",
        budget=budget,
        active=112,
        running=96,
        paused=31,
        queued=113,
        finished=7,
        working_set_tokens=1113271.0,
        capacity_tokens=1316384.0,
        usage=0.75,
        hit_rate=0.81,
        recompute_ratio=0.04,
        turns=1234,
        prompt_tokens=9,
        output_tokens=9,
        cached_tokens=9,
        pauses=40,
        longest_wait_s=4000.0,
        held=False,
        metrics_age_s=0.5,
        metrics_error=None,
    )
    waiting = tuple(
        Waiting(
            name=f"任务-{number}" if number % 2 else f"a-task-with-a-rather-long-name-{number}",
            kind="coder-of-a-long-kind",
            state="paused",
            waited_s=10.0**number,
            footprint=31000.0,
            reason="its turn in the queue, behind 'a-task-with-a-rather-long-name'",
        )
        for number in range(8, 0, -1)
    )
    means = tuple(None if part < 30 else part / PARTS for part in range(PARTS))
    known = {
        "title": "working-set at http://gpu-server.example:8000",
        "watched_s": 200.0,
        "stats": stats,
        "server": snapshot(),
        "decisions": ((12.0, decision),) * 8,
        "waiting": waiting,
        "head": waiting[0],
        "recomputed": 0.12,
        "tokens_per_s": 142.0,
        "trends": Trends(means, means, means, means, means, tuple(1000 * m if m else m for m in means)),
    }
    return GateShown(**known | changes)


def servers_shown(count):
    means = tuple(part / PARTS for part in range(PARTS))
    there = [
        ServerShown(f"http://gpu-{number}:8000", snapshot(), running=means, usage=means, tokens_per_s=means)
        for number in range(count - 1)
    ]
    away = ServerShown(
        "http://gone:8000", snapshot(), "nothing answers (connection refused): is it up, is the port right?", 75.0
    )
    return [*there, away]


def drawn(page, width, **options):
    """The lines of a page on a terminal of so many columns."""
    console = Console(file=io.StringIO(), width=width, height=24, force_terminal=True, highlight=False, **options)
    console.print(page, end="")
    return console.file.getvalue().split("\n")


class TestSigns:
    def test_a_trend_remembers_means_and_forgets_what_is_old(self):
        recent = Recent()
        recent.add(0.0, 1.0)
        recent.add(1.0, 3.0)
        recent.add(STEP_S, None)
        recent.add(2 * STEP_S, 5.0)

        assert recent.means(2 * STEP_S)[-3:] == (2.0, None, 5.0)
        assert recent.means(2 * STEP_S)[:-3] == (None,) * (PARTS - 3)
        assert recent.means(PARTS * STEP_S)[0] is None
        recent.add(10 * PARTS * STEP_S, 1.0)
        assert len(recent._parts) == 1

    def test_spark_lines_and_bars(self):
        assert spark_line([0.0, None, 0.5, 1.0, 2.0], 1.0) == "▁ ▅██"
        assert spark_line([0.0, None], 0.0) == "▁ "
        assert bar(0.5, 10, mark=0.8) == "█████░░░┃░"
        assert bar(3.0, 4) == "████"
        assert bar(0.0, 4, mark=0.0) == "░░░░"

    @pytest.mark.parametrize(
        ("seconds", "text"),
        [(0.4, "0 s"), (99.4, "99 s"), (120, "2 min"), (7200, "2.0 h"), (360000, "4 d"), (8e6, "93 d")],
    )
    def test_spans(self, seconds, text):
        assert span(seconds) == text
        assert len(text) <= 6

    def test_nothing_steers_a_terminal(self):
        assert printable("a\x1b[2J\nb\tc\x07\u202e") == "a?[2J b c??"


class TestPages:
    @pytest.mark.parametrize("height", [1, 8, 14, 21, 37, 100])
    @pytest.mark.parametrize("width", [20, 40, 79, 80, 100, 120, 300])
    def test_a_gate_fits_any_width_and_any_height_that_its_figures_fit(self, width, height):
        lines = drawn(gate_page(gate_shown(notes=("no metrics: " + "x " * 60,)), width, height), width, no_color=True)

        bare = [Console(width=400).render_str(re.sub(r"\x1b\[[\d;]*m", "", line)) for line in lines]
        assert max(line.cell_len for line in bare) <= width
        figures = len(gate_page(gate_shown(decisions=(), waiting=()), width, 0).lines)
        notes = -(-132 // max(20, width - 8))
        assert len(lines) - 1 <= max(height, figures + notes)

    def test_on_eighty_columns_every_figure_can_be_read(self):
        text = "\n".join(drawn(gate_page(gate_shown(), 80, 21), 80, no_color=True))

        for told in [
            "concur · working-set at http://gpu-server.example:8000",
            " 112 agents, 96 in a turn",
            " 31 paused, 113 queued",
            " 85%: 1,113,271 of 1,316,384",
            " 0.75\n",
            " 0.81\n",
            " 0.12 of late, 0.04 in all",
            " 142, peak 983 in 2.5 min",
            "18 requests running, 3 in its queue, 2 preempted in 5 s",
            "7 agents finished, 1,234 turns, 40 pauses, longest wait 67 min",
            "0.80 of a cache of 1,316,384; active agents",
            "1157 d",
        ]:
            assert told in re.sub(r"\x1b\[[\d;]*m", "", text)

    def test_sizes_are_shown_where_there_is_room(self):
        assert "31,000" not in "".join(drawn(gate_page(gate_shown(), 80, 30), 80))
        assert "31,000" in "".join(drawn(gate_page(gate_shown(), 120, 30), 120))

    def test_without_colour_there_is_none(self, monkeypatch):
        monkeypatch.setenv("NO_COLOR", "1")

        codes = set(re.findall(r"\x1b\[([\d;]*)m", "".join(drawn(gate_page(gate_shown(), 80, 30), 80))))

        assert codes <= {"0", "1", "2"}  # plain, bold, weak

    def test_a_terminal_that_has_only_ascii_gets_only_ascii(self):
        console = Console(file=(ascii_only := io.TextIOWrapper(io.BytesIO(), "ascii")), width=80, force_terminal=True)
        shown = gate_shown(waiting=(), head=None)
        console.print(gate_page(shown, 80, 30))
        console.print(servers_page(servers_shown(3), 80, 30))
        ascii_only.flush()

        assert b"hit rate" in ascii_only.buffer.getvalue()

    def test_every_sign_has_one_for_ascii(self):
        assert "".join("▁▂▃▄▅▆▇█░┃·–→…×".translate(PLAIN)).isascii()

    def test_few_servers_have_a_block_each_and_many_a_row(self):
        few = "\n".join(drawn(servers_page(servers_shown(2), 80, 21), 80, no_color=True))
        many = drawn(servers_page(servers_shown(20), 80, 21), 80, no_color=True)
        too_many = drawn(servers_page(servers_shown(40), 80, 21), 80, no_color=True)

        assert "18 running, 3 in its queue" in few
        assert "142, peak 1" in few
        assert "1,000 tok/s in, 20% of it computed, 2 preempted" in few
        assert "away for 75 s: nothing answers (connection refused): is it up, is the port" in few
        assert len(many) - 1 == 21
        assert re.search(r"http://gpu-0:8000 +[▁-█]+ +0.75 +0.81 +18 +3 +142", re.sub(r"\x1b\[[\d;]*m", "", many[1]))
        assert "away for 75 s: nothing" in many[20]
        assert len(too_many) - 1 == 21
        assert "21 more: the window is not high enough" in too_many[20]

    @pytest.mark.parametrize("count", [1, 2, 20, 40])
    @pytest.mark.parametrize("width", [20, 79, 80, 120, 300])
    def test_servers_fit_any_width(self, width, count):
        lines = drawn(servers_page(servers_shown(count), width, 21), width, no_color=True)

        assert max(len(re.sub(r"\x1b\[[\d;]*m", "", line)) for line in lines) <= width
        assert len(lines) - 1 <= 21

    def test_of_several_engines_the_fullest_and_the_emptiest_are_told(self):
        engines = tuple(EngineWindow(str(number), 0.2 * number, None, 1.0, 0.0) for number in range(4))
        page = servers_page([ServerShown("http://x", snapshot(engines=engines))], 80, 21)

        assert "0.60 at most, 0.00 at least of 4" in "\n".join(drawn(page, 80))

    def test_lines_for_a_log(self):
        assert gate_line(gate_shown()) == (
            "112 active 31 paused 113 waiting 7 finished · working set 85%: 1,113,271 of 1,316,384 · KV 0.75 hit 0.81 "
            "· recomputed 0.04 · 142 tok/s"
        )
        there, away = servers_shown(2)
        assert server_line(there) == (
            "http://gpu-0:8000: KV 0.75 hit 0.81 · 18 running 3 waiting · 142 tok/s out · "
            "1,000 tok/s in, 20% of it computed · 2 preempted"
        )
        assert server_line(away).startswith("http://gone:8000: away: nothing answers")
        asleep = ServerShown("http://x", snapshot(sleeping=True, preemptions=0.0, prompt_tokens=0.0, window_s=0.0))
        assert server_line(asleep).endswith("– tok/s out · – tok/s in · sleeps")


class View:
    def __init__(self, text="a"):
        self.text = text

    def page(self, width, height):
        return gate_page(gate_shown(), width, height)

    def lines(self):
        return [(self.text, " end")]


class TestScreens:
    @pytest.mark.parametrize("kind", ["dumb", "xterm"])
    def test_a_terminal_that_cannot_move_its_cursor_gets_lines(self, kind, monkeypatch):
        monkeypatch.setenv("TERM", kind)
        terminal = Terminal()

        screen = open_screen(terminal)
        screen.show(View())
        screen.close()

        assert (terminal.getvalue() == "concur: a end\n") == (kind == "dumb")

    def test_a_line_is_written_again_only_if_it_has_changed(self):
        stream = io.StringIO()

        screen = open_screen(stream)
        for text in ["a", "a", "", "a", "b", "b", "a"]:
            screen.show(View(text))
        screen.close()

        assert stream.getvalue() == "".join(f"concur: {text} end\n" for text in "aba")

    def test_what_is_printed_after_the_end_comes_through(self):
        """Log handlers that were made meanwhile keep the stream they found."""
        terminal = Terminal()

        with contextlib.redirect_stderr(terminal):
            screen = open_screen(terminal)
            found = sys.stderr
            screen.close()
            found.write("late\n")

        assert found is not terminal
        assert terminal.seen()[-2:] == ["late", ""]

    def test_a_screen_that_is_gone_says_so_and_fails_nobody(self):
        screen = open_screen(Gone())
        for _ in range(3):
            screen.show(View())
        screen.close()

        assert screen.gone

    def test_it_may_be_closed_again(self):
        for stream in (Terminal(), io.StringIO(), None):
            screen = open_screen(stream)
            screen.close()
            screen.close()


class TestWriter:
    def test_a_real_file_gets_everything_in_order(self, tmp_path):
        with (tmp_path / "file").open("w", encoding="utf-8") as stream:
            writer = Writer(stream)
            for number in range(1000):
                writer.write(f"{number} – ✓\n")
            writer.close()
            writer.write("after\n")

        expected = "".join(f"{number} – ✓\n" for number in range(1000)) + "after\n"
        assert (tmp_path / "file").read_text(encoding="utf-8") == expected

    def test_a_pipe_that_nobody_reads_fills_no_memory(self, monkeypatch):
        monkeypatch.setattr("concur_agents.telemetry.live.writer.LAST_WORDS_S", 0.01)
        reading, writing = os.pipe()
        with os.fdopen(writing, "w", encoding="utf-8") as stream:
            writer = Writer(stream)
            for _ in range(40):
                writer.write("x" * 100_000)
            assert writer.busy
            assert writer._pending <= MOST_PENDING + 100_000
            writer.close()
            os.close(reading)  # which ends the thread's write, too
            writer._thread.join(10)
            assert writer.broken

    def test_a_pipe_that_does_not_block_gets_everything(self):
        reading, writing = os.pipe()
        os.set_blocking(writing, False)
        with os.fdopen(writing, "w", encoding="utf-8") as stream, os.fdopen(reading, encoding="utf-8") as read:
            writer = Writer(stream)
            writer.write("x" * 300_000)
            assert len(read.read(300_000)) == 300_000
            writer.close()

    @pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
    def test_a_forked_process_writes_by_itself(self, tmp_path):
        with (tmp_path / "file").open("w", encoding="utf-8") as stream:
            writer = Writer(stream)
            pid = os.getpid()
            writer._pid = -1  # as it would look to a child
            writer.write("from a child\n")
            writer._pid = pid
            writer.close()

        assert (tmp_path / "file").read_text() == "from a child\n"


def test_without_rich_the_error_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "rich.text", None)
    monkeypatch.delitem(sys.modules, "concur_agents.telemetry.live.page")
    with pytest.raises(MissingExtra, match=r"pip install 'concur-agents\[cli\]'"):
        importlib.import_module("concur_agents.telemetry.live.page")
