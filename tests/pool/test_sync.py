"""`gate.sync`: agents in threads, on the gate's own loop or on one in a thread; no test waits for time to pass."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from concur_agents import AdmissionTimeout, ConcurGate, GateClosed, WrongLoop

THREADS = 16


class Counter:
    """Counts who is inside at the same time."""

    def __init__(self):
        self.lock = threading.Lock()
        self.inside = self.most = self.entered = 0

    def __enter__(self):
        with self.lock:
            self.inside += 1
            self.entered += 1
            self.most = max(self.most, self.inside)

    def __exit__(self, *exc):
        with self.lock:
            self.inside -= 1


def empty(gate):
    return gate.admission.live == gate.stats().active == gate.stats().running == 0


def test_of_many_threads_no_more_than_the_budget_are_active_and_none_is_lost(gate):
    counter = Counter()
    start = threading.Barrier(THREADS)

    def work(number):
        start.wait()
        for _ in range(5):
            with gate.sync.agent(f"{number}"), counter, gate.sync.turn() as turn:
                turn.report(prompt_tokens=100, completion_tokens=10, cached_tokens=50)
        return number

    with ThreadPoolExecutor(THREADS) as pool:
        assert sorted(pool.map(work, range(THREADS))) == list(range(THREADS))

    assert counter.entered == THREADS * 5
    assert counter.most <= 2
    assert empty(gate)
    stats = gate.stats()
    assert (stats.finished, stats.turns) == (THREADS * 5, THREADS * 5)
    assert (stats.prompt_tokens, stats.output_tokens, stats.cached_tokens) == (8000, 800, 4000)


def test_errors_give_the_place_back(gate):
    for error in (ValueError, KeyboardInterrupt, GeneratorExit):
        with pytest.raises(error), gate.sync.agent(), gate.sync.turn():
            raise error
        assert empty(gate)


def test_turns_begun_in_the_thread_belong_to_its_agent(gate):
    with gate.sync.agent("a", kind="coder") as agent:
        assert (agent.name, agent.kind, repr(agent)) == ("a", "coder", "<SyncAgent 'a'>")
        current = gate.current()
        assert current is not None
        assert current.session_id == agent.session_id
        with gate.sync.turn() as turn:
            turn.report(prompt_tokens=10, completion_tokens=1)
            assert repr(turn) == "<SyncTurn of 'a', running>"
        by_hand = gate.sync.begin_turn()
        by_hand.note_refusal()
        by_hand.end()
        by_hand.end()
        assert current.turns == 2
        assert gate.totals.refusals == 1
        with gate.sync.agent("inner"):
            assert gate.stats().active == 1, "it shares its parent's place"
            inner = gate.current()
            assert inner is not None
            assert inner.parent is current
        assert gate.current() is current
    assert gate.current() is None
    assert empty(gate)


def test_a_turn_inside_a_turn_makes_it_a_mere_pause_point(gate):
    with gate.sync.agent():
        with gate.sync.turn(), gate.sync.turn() as turn:
            turn.report(prompt_tokens=10, completion_tokens=1)
        assert gate.stats().turns == 1


def test_a_turn_outside_any_agent_is_an_agent_of_one_turn(gate):
    with gate.sync.turn():
        assert gate.stats().active == 1
    gate.sync.begin_turn().end()
    with gate.sync.turn(), gate.sync.turn():
        assert gate.stats().active == 1
    assert empty(gate)


def test_bad_counts_are_refused_in_the_thread(gate):
    with gate.sync.turn() as turn, pytest.raises(ValueError, match="negative"):
        turn.report(prompt_tokens=-1, completion_tokens=0)
    with pytest.raises(ValueError, match="0 seconds or more"), gate.sync.agent(timeout=-1):
        pass


def test_a_wait_is_bounded_by_its_timeout(gate):
    leave = threading.Event()
    inside = threading.Barrier(3)

    def hold():
        with gate.sync.agent():
            inside.wait()
            leave.wait()

    with ThreadPoolExecutor(2) as pool:
        for _ in range(2):
            pool.submit(hold)
        inside.wait()
        with pytest.raises(AdmissionTimeout, match="its timeout is 0 s"), gate.sync.agent(timeout=0):
            pass
        leave.set()
    assert empty(gate)


def test_in_a_thread_that_runs_an_event_loop_it_says_what_to_use():
    async def main(gate):
        for blocking in (gate.sync.agent(), gate.sync.turn()):
            with pytest.raises(WrongLoop, match=r"async with gate\.agent\(\).*asyncio\.to_thread"), blocking:
                pass
        with pytest.raises(WrongLoop), gate.sync.begin_turn():
            pass
        with pytest.raises(WrongLoop):
            gate.sync.close()
        async with gate.agent():
            with pytest.raises(WrongLoop), gate.sync.turn():
                pass
        assert threading.active_count() == before

    before = threading.active_count()
    asyncio.run(main(ConcurGate(controller="fixed:1")))


def test_beside_the_loop_that_the_gate_is_on_threads_are_served_by_that_loop():
    def work(gate, counter):
        with gate.sync.agent(), counter, gate.sync.turn():
            pass
        return threading.current_thread()

    async def main():
        counter = Counter()
        async with ConcurGate(controller="fixed:2") as gate:
            async with gate.agent():
                threads = await asyncio.gather(*(asyncio.to_thread(work, gate, counter) for _ in range(4)))
                assert gate.stats().active == 1, "in the threads of to_thread they share the place of its caller"
            with ThreadPoolExecutor(THREADS) as pool:
                loop = asyncio.get_running_loop()
                jobs = [loop.run_in_executor(pool, work, gate, counter) for _ in range(THREADS)]
                async with gate.agent():
                    threads += await asyncio.gather(*jobs)
            assert empty(gate)
        assert not [thread for thread in threading.enumerate() if thread.name == "concur-agents sync"]
        return counter

    assert asyncio.run(main()).entered == THREADS + 4


def test_from_one_loop_to_another_it_goes_along():
    gate = ConcurGate(controller="fixed:1")

    def work():
        with gate.sync.agent():
            return gate.stats().active

    async def main():
        async with gate.agent():
            pass
        return await asyncio.to_thread(work)

    assert [work(), asyncio.run(main()), asyncio.run(main()), work()] == [1, 1, 1, 1]
    gate.sync.close()


def test_closing_wakes_who_waits_and_stops_the_thread():
    gate = ConcurGate(controller="fixed:1")
    waits = threading.Event()

    def wait():
        waits.set()
        with gate.sync.agent():
            pass

    with ThreadPoolExecutor(1) as pool, gate.sync.agent():
        waiting = pool.submit(wait)
        waits.wait()
        while gate.admission.live < 2:
            pass
        gate.sync.close()
        with pytest.raises(GateClosed):
            waiting.result()
    assert not [thread for thread in threading.enumerate() if thread.name == "concur-agents sync"]
    with pytest.raises(GateClosed), gate.sync.agent():
        pass
    gate.sync.close()


def test_a_loop_that_ends_under_its_threads_wakes_them():
    gate = ConcurGate(controller="fixed:1")
    entered, leave = threading.Event(), threading.Event()

    def hold():
        with gate.sync.agent():
            entered.set()
            leave.wait()

    def wait():
        with gate.sync.agent():
            pass

    async def main(pool):
        async with gate.agent():  # now the gate is on this loop
            pass
        held = pool.submit(hold)
        await asyncio.to_thread(entered.wait)
        waiting = pool.submit(wait)
        while gate.admission.live < 2:  # noqa: ASYNC110  nobody tells
            await asyncio.sleep(0)
        return held, waiting

    with ThreadPoolExecutor(2) as pool:
        held, waiting = asyncio.run(main(pool))
        with pytest.raises(GateClosed, match=r"event loop .* has ended"):
            waiting.result()
        leave.set()
        held.result()


CTRL_C = """
import sys, threading, signal, os
from concur_agents import ConcurGate
gate = ConcurGate(controller="fixed:1")
inside, leave = threading.Event(), threading.Event()

def hold():
    with gate.sync.agent("held"):
        inside.set()
        leave.wait()

thread = threading.Thread(target=hold)
thread.start()
inside.wait()

def interrupt():
    while gate.admission.live < 2:
        pass
    os.kill(os.getpid(), signal.SIGINT)

threading.Thread(target=interrupt).start()
try:
    with gate.sync.agent("interrupted"):
        print("never")
except KeyboardInterrupt:
    print("interrupted")
leave.set()
thread.join()
with gate.sync.agent("after"):
    print("places", gate.stats().active, gate.stats().queued)
print("left", gate.admission.live)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGINT to oneself")
def test_ctrl_c_while_it_waits_takes_no_place_and_the_interpreter_ends_in_silence():
    done = subprocess.run(
        [sys.executable, "-W", "error", "-X", "dev", "-c", CTRL_C],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )

    assert (done.returncode, done.stdout, done.stderr) == (0, "interrupted\nplaces 1 0\nleft 0\n", "")


def test_a_result_that_comes_after_nobody_waits_for_it_is_undone(gate, monkeypatch):
    """The moment of a Ctrl-C between the admission and the news of it."""
    import concur_agents.sync.handover as room

    real = room._wait

    def interrupted(outcome, loop):
        real(outcome, loop)
        raise KeyboardInterrupt

    for enter in (gate.sync.agent, gate.sync.turn):
        with monkeypatch.context() as patch:
            patch.setattr(room, "_wait", interrupted)
            with pytest.raises(KeyboardInterrupt), enter():
                pass
        with gate.sync.agent():  # after whatever was posted before
            assert gate.stats().active == gate.admission.live == 1
            with monkeypatch.context() as patch:
                patch.setattr(room, "_wait", interrupted)
                with pytest.raises(KeyboardInterrupt), gate.sync.turn():
                    pass
            with gate.sync.agent():  # on the same place
                assert gate.stats().running == 0
        assert gate.stats().turns == 0


FORK = """
import os
from concur_agents import ConcurGate
gate = ConcurGate(controller="fixed:1")

def work():
    with gate.sync.agent(), gate.sync.turn():
        return gate.stats().active

work()
child = os.fork()
print(work(), flush=True)
if child:
    assert os.waitpid(child, 0)[1] == 0
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no fork")
def test_in_a_forked_process_it_starts_a_loop_of_its_own():
    done = subprocess.run([sys.executable, "-c", FORK], capture_output=True, text=True, check=False, timeout=60)

    assert (done.returncode, done.stdout) == (0, "1\n1\n"), done.stderr


def test_a_gate_that_nobody_holds_any_more_takes_its_thread_along():
    import gc

    gate = ConcurGate(controller="fixed:1")
    with gate.sync.agent():
        [thread] = [thread for thread in threading.enumerate() if thread.name == "concur-agents sync"]
    del gate
    gc.collect()
    thread.join(30)
    assert not thread.is_alive()
