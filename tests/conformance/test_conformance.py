"""LangGraph's documented behaviours through ungated and gated graphs: no difference but the wait."""

from __future__ import annotations

import asyncio

import pytest

from concur_agents import Budget, ConcurGate

from . import functional_cases, graph_cases, pausing_cases, streaming_cases  # noqa: F401  # fill the table
from .observing import CASES, GraphOnly, Sight, Ungated


class Fickle:
    """A stand-in controller that needs no server: it takes everything back at times, and gives it again."""

    name = "fickle"
    needs_metrics = False

    def __init__(self):
        self.decisions = 0

    def decide(self, pool, engine, now):
        self.decisions += 1
        return Budget(agents=1 + self.decisions % 3, tokens=1000.0, reason="fickle")


DOORS = {
    "one agent at a time": lambda: ConcurGate(controller="fixed:1"),
    "a stand-in controller": lambda: ConcurGate(controller=Fickle()),
    "no turns": lambda: ConcurGate(controller="fixed:1"),
}


EXPECTED = ["ignore:The v3 streaming protocol", "ignore:This API is in beta"]


async def all_ended():
    """As after an `abatch` that raised: the other runs go on in the background."""
    while others := asyncio.all_tasks() - {asyncio.current_task()}:
        await asyncio.wait(others)


@pytest.mark.filterwarnings(*EXPECTED)
@pytest.mark.parametrize("how", DOORS)
@pytest.mark.parametrize("name", CASES)
async def test_a_gated_graph_does_what_the_graph_does(name, how):
    plain, gate = Sight(Ungated()), DOORS[how]()
    await CASES[name](plain)
    await all_ended()
    assert plain.seen
    gated = Sight(GraphOnly(gate) if how == "no turns" else gate)
    await CASES[name](gated)
    await all_ended()
    assert gated.told() == plain.told()
    assert gate.admission.live == 0
    assert gate.totals.finished > 0 or not gate.totals.turns


def test_there_are_enough_cases_to_speak_of_conformance():
    assert len(CASES) >= 40
