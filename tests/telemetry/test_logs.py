"""Records with numbers: one for each agent's beginning and end, one for each decision."""

from __future__ import annotations

import asyncio
import json
import logging

import pytest
from pythonjsonlogger.json import JsonFormatter

from concur_agents import AdmissionTimeout, ConcurGate
from concur_agents.simulation.virtual_time import run
from concur_agents.telemetry import log_agents


@pytest.fixture
def records(caplog):
    caplog.set_level(logging.INFO, "concur_agents")
    return lambda: [record for record in caplog.records if hasattr(record, "agent")]


async def one_agent(gate, name="task-17", **how):
    async with gate.agent(name, **how) as agent, agent.turn() as turn:
        await asyncio.sleep(3)
        turn.report(prompt_tokens=100, completion_tokens=10, cached_tokens=60)


def test_an_agents_records_have_its_numbers(records):
    async def main(gate):
        await asyncio.gather(one_agent(gate), one_agent(gate, "task-18"))

    gate = ConcurGate(controller="fixed:1")
    with log_agents(gate):
        run(main(gate))
    assert [record.getMessage() for record in records()] == [
        "agent 'task-17' admitted after 0.0 s",
        "agent 'task-17' finished: 1 turns, 100 prompt tokens (60 cached), 10 output tokens",
        "agent 'task-18' admitted after 3.0 s",
        "agent 'task-18' finished: 1 turns, 100 prompt tokens (60 cached), 10 output tokens",
    ]
    last = records()[-1].agent
    assert len(last.pop("session_id")) == 32
    assert last == {
        "name": "task-18",
        "kind": "default",
        "parent": None,
        "waited_s": 3,
        "tool_wait_s": 0,
        "turns": 1,
        "prompt_tokens": 100,
        "cached_tokens": 60,
        "output_tokens": 10,
        "reusable_tokens": 0,
        "recomputed_tokens": 0,
    }


def test_nested_agents_and_those_who_gave_up_are_logged(records):
    async def main(gate):
        async with gate.agent("lead"):
            await one_agent(gate, "sub")
            await asyncio.gather(outside(gate), asyncio.sleep(3))

    async def outside(gate):
        async with gate.agent("sub 2"):
            pass

    async def both(gate):
        lead = asyncio.ensure_future(main(gate))
        await asyncio.sleep(0.5)
        with pytest.raises(AdmissionTimeout):
            await one_agent(gate, "late", timeout=1)
        await lead

    gate = ConcurGate(controller="fixed:1")
    with log_agents(gate, level=logging.WARNING):
        run(both(gate))
    said = records()
    assert {record.levelno for record in said} == {logging.WARNING}
    assert said[1].getMessage() == "agent 'sub' shares the place of 'lead'"
    assert said[1].agent["parent"] == "lead"
    assert said[2].getMessage() == "agent 'late' gave up after 1.0 s in the queue"
    assert said[2].agent == {"name": "late", "kind": "default", "waited_s": 1}


def test_a_decision_is_logged_with_its_numbers_and_becomes_json(caplog):
    caplog.handler.setFormatter(JsonFormatter("%(levelname)s %(message)s"))
    caplog.set_level(logging.INFO, "concur_agents")
    gate = ConcurGate(controller="fixed:3")
    run(one_agent(gate))
    (line,) = caplog.text.splitlines()
    said = json.loads(line)
    assert said["message"].startswith("budget undecided → 3 agents")
    assert said["decision"]["budget"]["agents"] == 3
    assert said["decision"]["previous"] is None
    assert said["decision"]["pool"]["active"] == 0


def test_a_closed_log_says_no_more(records):
    gate = ConcurGate(controller="fixed:1")
    agents = log_agents(gate)
    agents.close()
    agents.close()
    run(one_agent(gate))
    assert records() == []
