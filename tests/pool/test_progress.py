"""`progress=True`: lines on stderr, a bar on a terminal; it shows and never disturbs."""

from __future__ import annotations

import asyncio
import io
import sys

import pytest

from concur_agents import ConcurGate
from concur_agents.simulation.virtual_time import run


class Terminal(io.StringIO):
    def isatty(self):
        return True


def make_gate(places=2):
    return ConcurGate(controller=f"fixed:{places}")


async def work(gate, seconds=6.0):
    async with gate.turn() as turn:
        await asyncio.sleep(seconds)
        turn.report(prompt_tokens=100, completion_tokens=60)


async def by_map(gate):
    await gate.map(lambda _: work(gate), range(6), progress=True)


async def by_gather(gate):
    await gate.gather(*(work(gate) for _ in range(6)), progress=True)


async def by_as_completed(gate):
    for one in gate.as_completed([work(gate) for _ in range(6)], progress=True):
        await one


@pytest.mark.parametrize("call", [by_gather, by_as_completed])
def test_a_line_every_ten_seconds_and_one_at_the_end(call, capsys):
    run(call(make_gate()))

    assert capsys.readouterr().err.splitlines() == [
        "concur: 0/6 agents · 0 active 0 paused 0 waiting · hit – · 0 tok/s",
        "concur: 2/6 agents · 2 active 0 paused 2 waiting · hit – · 12 tok/s",
        "concur: 6/6 agents · 0 active 0 paused 0 waiting · hit – · 20 tok/s",
    ]


def test_a_map_says_the_same_with_one_item_waiting(capsys):
    run(by_map(make_gate()))

    assert capsys.readouterr().err.splitlines() == [
        "concur: 0/6 agents · 0 active 0 paused 0 waiting · hit – · 0 tok/s",
        "concur: 2/6 agents · 2 active 0 paused 1 waiting · hit – · 12 tok/s",
        "concur: 6/6 agents · 0 active 0 paused 0 waiting · hit – · 20 tok/s",
    ]


def test_of_items_that_nobody_has_counted_there_is_no_total(capsys):
    async def main():
        gate = make_gate()
        await gate.map(lambda _: work(gate), iter(range(2)), progress=True)

    run(main())
    assert capsys.readouterr().err.splitlines()[-1].startswith("concur: 2 agents · 0 active")


def test_a_batch_that_is_left_half_way_says_how_far_it_came(capsys):
    async def main():
        gate = make_gate()
        task = asyncio.ensure_future(by_map(gate))
        await asyncio.sleep(7)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert gate.admission.live == 0

    run(main())
    assert capsys.readouterr().err.splitlines()[-1].startswith("concur: 2/6 agents · 0 active")


@pytest.mark.parametrize("call", [by_map, by_gather, by_as_completed])
def test_on_a_terminal_it_is_a_bar(call, monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("COLUMNS", "120")

    run(call(make_gate()))

    assert "━" in terminal.getvalue()
    assert "6/6 agents · 0 active 0 paused 0 waiting" in terminal.getvalue()


def test_without_rich_a_terminal_gets_lines(monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setitem(sys.modules, "concur_agents.pool.bar", None)

    run(by_map(make_gate()))

    assert terminal.getvalue().splitlines()[-1].startswith("concur: 6/6 agents")


@pytest.mark.parametrize("call", [by_map, by_gather, by_as_completed])
@pytest.mark.parametrize("is_there", [False, True])
def test_a_stderr_that_is_closed_or_none_does_not_stop_the_batch(call, is_there, monkeypatch):
    closed = io.StringIO()
    closed.close()
    monkeypatch.setattr(sys, "stderr", closed if is_there else None)

    run(call(make_gate()))


def test_nothing_to_gather_shows_nothing(capsys):
    async def main():
        return await make_gate().gather(progress=True)

    assert run(main()) == []
    assert capsys.readouterr().err == ""


def test_unasked_nothing_is_said(capsys):
    async def main():
        gate = make_gate()
        await gate.map(lambda _: work(gate), range(6))
        await gate.gather(work(gate))

    run(main())
    assert capsys.readouterr().err == ""
