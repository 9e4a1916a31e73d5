"""`gate.sync`: a turn that need not wait begins in the very callback that the thread posts, without a task."""

from __future__ import annotations

import asyncio
import contextvars
import logging
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from concur_agents import Budget, ConcurGate, Listener
from concur_agents.agent import Agent

SEEN = contextvars.ContextVar("seen", default="nothing")


class Ear(Listener):
    """Hears turns begin: in which task, if any, and in whose context."""

    def __init__(self):
        self.began = []

    def turn_began(self, turn, waited_s):
        self.began.append((turn.agent.name, asyncio.current_task() is not None, SEEN.get()))
        SEEN.set("the listener's")


def test_where_nothing_is_waited_for_there_is_no_task_and_else_there_is_one(gate):
    ear = Ear()
    gate.add_listener(ear)
    SEEN.set("the thread's")
    big_may_end = threading.Event()

    def big():
        with gate.sync.agent("big", expected_tokens=2000), gate.sync.turn():
            turned.set()
            big_may_end.wait()

    turned = threading.Event()
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(contextvars.Context().run, big)
        turned.wait()
        with gate.sync.agent("small", expected_tokens=10):
            with gate.sync.turn():
                pass
            gate.sync.begin_turn().end()
            gate.sync.loop().call_soon_threadsafe(gate.admission.resize, Budget(agents=1))
            gate.sync.loop().call_soon_threadsafe(big_may_end_when_small_waits, gate, big_may_end)
            with gate.sync.turn():
                assert gate.stats().pauses == 1
        running.result()

    assert ear.began == [
        ("big", False, "nothing"),
        ("small", False, "the thread's"),
        ("small", False, "the thread's"),
        ("small", True, "the thread's"),
    ]
    assert SEEN.get() == "the thread's"
    assert gate.admission.live == gate.stats().running == 0
    assert gate.stats().turns == 4


def big_may_end_when_small_waits(gate, big_may_end):
    """On the loop, again and again, until it waits."""
    if gate.waiting():
        big_may_end.set()
    else:
        asyncio.get_running_loop().call_soon(big_may_end_when_small_waits, gate, big_may_end)


def test_what_fails_on_the_loop_is_raised_in_the_thread_and_nowhere_else(gate, monkeypatch, caplog):
    def fail(self):
        raise ValueError("of the loop")

    with gate.sync.agent():
        for begin in (gate.sync.turn().__enter__, gate.sync.begin_turn):
            with monkeypatch.context() as patch:
                patch.setattr(Agent, "begin_turn_at_once", fail)
                with pytest.raises(ValueError, match="of the loop"):
                    begin()
        with gate.sync.turn():
            assert gate.stats().running == 1
    assert gate.admission.live == 0
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


def test_ctrl_c_in_the_thread_of_the_loop_ends_the_loop_and_is_raised_in_the_other_too(monkeypatch):
    def interrupted(self):
        raise KeyboardInterrupt

    def work():
        with gate.sync.agent():
            monkeypatch.setattr(Agent, "begin_turn_at_once", interrupted)
            with pytest.raises(KeyboardInterrupt):
                gate.sync.begin_turn()
            monkeypatch.undo()
            raised.set()

    gate, raised = ConcurGate(controller="fixed:1"), threading.Event()

    async def main():
        async with gate.agent():  # now the gate is on this loop
            pass
        await asyncio.to_thread(work)

    with asyncio.Runner() as runner:
        with pytest.raises(KeyboardInterrupt):
            runner.run(main())
        raised.wait()
    assert gate.admission.live == 0
