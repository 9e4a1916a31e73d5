"""`gate.sync` under Ctrl-C, at every moment that CPython may raise it."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import pytest
from interrupting import every_moment

from concur_agents import ConcurGate
from concur_agents.ahead import begin_ahead
from concur_agents.sync.handover import do

MOMENTS = 30
"""Far fewer than there are: that they were looked for at all."""


@pytest.fixture
def gate():
    gate = ConcurGate(controller="fixed:1")
    with gate.sync.turn():
        pass
    yield gate
    gate.sync.close()


def check_that_nothing_is_lost(gate):
    """A thread gets the only place, and gives it back; in a thread, as a loop that hangs would hang the test too."""

    def use():
        with gate.sync.agent("after", timeout=20), gate.sync.turn():
            served.append(gate.stats().active)

    served = []
    thread = threading.Thread(target=use, daemon=True)
    thread.start()
    thread.join(30)
    assert served == [1]
    assert gate.admission.live == gate.stats().active == gate.stats().running == 0
    assert gate.current() is None


def agent(gate):
    with gate.sync.agent():
        pass


def turns(gate):
    with gate.sync.agent(), gate.sync.turn() as turn:
        turn.note_refusal()


def single(gate):
    with gate.sync.turn():
        pass


def by_hand(gate):
    turn = gate.sync.begin_turn()
    sys.setprofile(None)  # from here on it is the caller's
    sys.settrace(None)
    turn.end()


def by_hand_as_an_agent(gate):
    with gate.sync.agent():
        by_hand(gate)


def by_head_start(gate):
    with gate.sync.agent():
        for _ in range(3):
            gate.sync.begin_turn().end_soon()


@pytest.mark.parametrize("work", [agent, turns, single, by_hand, by_hand_as_an_agent, by_head_start])
def test_wherever_ctrl_c_comes_no_place_is_lost(gate, work):
    moments = 0
    for interrupter in every_moment(lambda: work(gate)):
        moments = max(moments, interrupter.moments)
        check_that_nothing_is_lost(gate)
    assert moments > MOMENTS


@pytest.mark.parametrize("work", [agent, turns, single, by_hand, by_hand_as_an_agent, by_head_start])
def test_wherever_ctrl_c_comes_while_the_loop_is_busy_no_place_is_lost(gate, work):
    """What was asked of the loop is seen by it only after the interrupt, or once the thread waits for it."""
    free = threading.Event()

    def busy():
        free.clear()
        gate.sync.loop().call_soon_threadsafe(free.wait)

    busy()
    for _ in every_moment(lambda: work(gate), before=free.set, at_waits=free.set):
        free.set()
        check_that_nothing_is_lost(gate)
        busy()
    free.set()


def test_wherever_ctrl_c_comes_as_a_turn_begins_by_a_head_start_none_runs_on(gate):
    begun = []

    def turn_that_ends():
        gate.sync.begin_turn().end_soon()
        do(gate.sync.loop(), lambda: None)

    with gate.sync.agent():
        turn_that_ends()
        for _ in every_moment(lambda: begun.append(gate.sync.begin_turn())):
            for turn in begun:
                turn.end()
            begun.clear()
            turn_that_ends()
            assert gate.stats().running == 0
            assert begin_ahead(gate.current()) is not None
    check_that_nothing_is_lost(gate)


def test_wherever_ctrl_c_comes_the_gate_stays_on_its_loop(gate):
    loop = gate.sync.loop()
    for _ in every_moment(gate.sync.loop):
        assert gate.sync.loop() is loop


def test_wherever_ctrl_c_comes_while_it_waits_for_a_place_none_is_lost(gate):
    def hold():
        with gate.sync.agent("holder"):
            held.set()
            leave.wait()

    held, leave = threading.Event(), threading.Event()
    thread = threading.Thread(target=hold)
    thread.start()
    held.wait()
    moments = 0
    for interrupter in every_moment(lambda: agent(gate), in_waits=True):
        assert interrupter.done
        moments = max(moments, interrupter.moments)
        leave.set()
        thread.join()
        check_that_nothing_is_lost(gate)
        held.clear()
        leave.clear()
        thread = threading.Thread(target=hold)
        thread.start()
        held.wait()
    leave.set()
    thread.join()
    assert moments > MOMENTS


STARTS = """
import threading
from concur_agents import ConcurGate
from interrupting import every_moment

class Fresh:
    def __call__(self):
        with self.gate.sync.agent():
            pass

fresh, moments = Fresh(), 0
fresh.gate = ConcurGate(controller="fixed:1")
for interrupter in every_moment(fresh):
    moments = max(moments, interrupter.moments)
    served = []
    def use():
        with fresh.gate.sync.agent("after", timeout=20):
            served.append(fresh.gate.stats().active)
    thread = threading.Thread(target=use, daemon=True)
    thread.start()
    thread.join(30)
    assert served == [1], interrupter.moments
    assert fresh.gate.admission.live == 0
    fresh.gate.sync.close()
    fresh.gate = ConcurGate(controller="fixed:1")
print(moments)
"""


def test_wherever_ctrl_c_comes_while_the_loop_is_started_the_gate_serves_on():
    """In a process of its own: a thread that `threading` was interrupted while starting hangs in there."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-X", "dev", "-c", STARTS],
        env={"PYTHONPATH": str(Path(__file__).parents[1])},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert int(done.stdout) > MOMENTS
