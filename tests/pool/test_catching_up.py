"""What threads have posted is done before anybody on the loop looks at the gate."""

from __future__ import annotations

import asyncio
import threading

import pytest

from concur_agents import ConcurGate
from concur_agents.sync.mailbox import post


@pytest.fixture
async def gate():
    async with ConcurGate(controller="none") as gate:
        yield gate


def posted(tell=lambda: "posted"):
    """What is told by something posted to the loop of the test, which comes to do it when the test next pauses."""
    told = []
    post(asyncio.get_running_loop(), lambda: told.append(tell()))
    return told


@pytest.mark.parametrize("look", [ConcurGate.stats, ConcurGate.waiting])
async def test_who_asks_the_gate_hears_of_it(gate, look):
    done = posted()
    look(gate)
    assert done == ["posted"]


async def test_so_does_who_holds_turns_back(gate):
    done = posted()
    async with gate.hold():
        assert done == ["posted"]


async def test_it_is_done_before_an_agent_is_over(gate):
    async with gate.agent() as agent:
        over = posted(lambda: agent.finished)
    assert over == [False]


async def test_it_is_done_before_the_gate_closes(gate, monkeypatch):
    done = posted()
    monkeypatch.setattr(gate.admission, "close", lambda: done.append("closed"))
    await gate.aclose()
    assert done == ["posted", "closed"]


async def test_who_asks_in_another_thread_leaves_it_to_the_loop(gate):
    done = posted()
    thread = threading.Thread(target=gate.stats)
    thread.start()
    thread.join()
    assert done == []
    await asyncio.sleep(0)
    assert done == ["posted"]
