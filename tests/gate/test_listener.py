"""What a listener hears, and that its faults are its own."""

from __future__ import annotations

import asyncio
import logging

import pytest

from concur_agents import AdmissionTimeout, ConcurGate, Listener
from concur_agents.simulation.virtual_time import run


class Heard(Listener):
    """Writes down what it hears."""

    def __init__(self):
        self.events = []

    def agent_admitted(self, agent, waited_s):
        self.events.append(("admitted", agent.name, waited_s))

    def agent_gave_up(self, name, kind, waited_s):
        self.events.append(("gave up", name, kind, waited_s))

    def turn_began(self, turn, waited_s):
        self.events.append(("began", turn.agent.name, waited_s))

    def turn_ended(self, turn):
        self.events.append(("ended", turn.agent.name, turn.usage, turn.dissolved))

    def agent_finished(self, agent):
        self.events.append(("finished", agent.name))

    def decided(self, decision):
        self.events.append(("decided", decision.budget.agents))

    def closed(self):
        self.events.append(("closed",))


class Failing(Listener):
    """Fails whenever it hears anything."""

    def __getattribute__(self, name):
        if name.startswith("_"):
            return super().__getattribute__(name)
        raise RuntimeError("a listener's own fault")


async def one_agent(gate, name="a", seconds=1.0):
    async with gate.agent(name) as agent, agent.turn() as turn:
        await asyncio.sleep(seconds)
        turn.report(prompt_tokens=100, completion_tokens=10, cached_tokens=5)


def test_it_hears_the_life_of_an_agent_in_its_order():
    heard = Heard()

    async def main():
        async with ConcurGate(controller="fixed:1") as gate:
            gate.add_listener(heard)
            await one_agent(gate)

    run(main())
    assert heard.events == [
        ("decided", 1),
        ("admitted", "a", 0.0),
        ("began", "a", 0.0),
        ("ended", "a", (100, 10, 5), False),
        ("finished", "a"),
        ("closed",),
    ]


def test_it_hears_how_long_an_agent_was_queued():
    heard = Heard()

    async def main():
        gate = ConcurGate(controller="fixed:1")
        gate.add_listener(heard)
        await asyncio.gather(one_agent(gate, "first", 3.0), one_agent(gate, "second"))

    run(main())
    assert ("admitted", "second", 3.0) in heard.events


def test_it_hears_who_gave_up():
    heard = Heard()

    async def main():
        gate = ConcurGate(controller="fixed:1")
        gate.add_listener(heard)
        holder = asyncio.create_task(one_agent(gate, "holder", 9.0))
        await asyncio.sleep(1.0)
        with pytest.raises(AdmissionTimeout):
            async with gate.agent("late", kind="critic", timeout=2.0):
                pass
        await holder

    run(main())
    assert ("gave up", "late", "critic", 2.0) in heard.events


def test_a_pause_point_is_told_as_dissolved():
    heard = Heard()

    async def main():
        gate = ConcurGate(controller="none")
        gate.add_listener(heard)
        async with gate.agent("a") as agent, agent.turn(), agent.turn() as inner:
            inner.report(prompt_tokens=10, completion_tokens=1)

    run(main())
    assert [event[2:] for event in heard.events if event[0] == "ended"] == [(None, True), ((10, 1, None), False)]


def test_a_failing_listener_costs_nobody_a_place_and_is_logged_once(caplog):
    heard = Heard()

    async def main():
        gate = ConcurGate(controller="fixed:1")
        gate.add_listener(Failing())
        gate.add_listener(heard)
        await asyncio.gather(*(one_agent(gate, str(number)) for number in range(3)))
        return gate.stats()

    with caplog.at_level(logging.ERROR):
        stats = run(main())
    assert (stats.active, stats.finished) == (0, 3)
    assert [event[0] for event in heard.events].count("finished") == 3
    assert [record.message for record in caplog.records] == ["Failing failed; its further failures are not logged"]


def test_who_was_removed_hears_no_more():
    heard = Heard()

    async def main():
        gate = ConcurGate(controller="none")
        gate.add_listener(heard)
        gate.remove_listener(heard)
        gate.remove_listener(heard)
        await one_agent(gate)

    run(main())
    assert heard.events == []


def test_a_listener_may_remove_itself_while_it_is_told():
    class Once(Heard):
        def agent_admitted(self, agent, waited_s):
            super().agent_admitted(agent, waited_s)
            gate.remove_listener(self)

    once, heard = Once(), Heard()
    gate = ConcurGate(controller="none")
    gate.add_listener(once)
    gate.add_listener(heard)

    run(one_agent(gate))

    assert once.events == [("decided", None), ("admitted", "a", 0.0)]
    assert ("admitted", "a", 0.0) in heard.events
