"""The jumping loop: the order and the times of a program are its own, and nothing is waited for in real time."""

from __future__ import annotations

import asyncio
import gc
import random
import signal
import threading
import time

import aiohttp
import pytest
from aiohttp import web

from concur_agents.errors import Deadlock
from concur_agents.simulation import virtual_time
from concur_agents.simulation.virtual_time import LISTED, LONGEST_S, VirtualLoop, run


def now() -> float:
    return asyncio.get_running_loop().time()


async def forever(*_) -> None:
    await asyncio.get_running_loop().create_future()


def test_the_clock_starts_at_zero_and_jumps_from_timer_to_timer_in_their_order():
    async def main():
        seen = []

        async def wait(name, seconds):
            await asyncio.sleep(seconds)
            seen.append((name, now()))

        started = time.monotonic()
        await asyncio.gather(wait("day", 86400 * 3.0), wait("second", 1.0), wait("hour", 3600.0), wait("also", 1.0))
        assert time.monotonic() - started < 60
        return seen

    assert run(main()) == [("second", 1.0), ("also", 1.0), ("hour", 3600.0), ("day", 259200.0)]


def test_what_is_ready_goes_before_the_clock():
    async def main():
        for _ in range(1000):
            await asyncio.sleep(0)
        return now()

    assert run(main()) == 0.0


def busy(seed: int) -> list[tuple[float, int, str]]:
    """Agents that wait, contend, time out and fan out, at times drawn from the seed."""

    async def main():
        seen = []
        places = asyncio.Semaphore(3)

        async def agent(number):
            draw = random.Random(f"{seed} {number}")
            for _ in range(10):
                await asyncio.sleep(draw.expovariate(1.0))
                try:
                    async with asyncio.timeout(draw.random()), places:
                        seen.append((now(), number, "in"))
                        await asyncio.sleep(draw.random())
                except TimeoutError:
                    seen.append((now(), number, "late"))

        await asyncio.gather(*(agent(number) for number in range(20)))
        return seen

    return run(main())


def test_the_same_program_does_the_same_at_the_same_times_to_the_last_digit():
    first = busy(1)

    assert len({when for when, _, _ in first}) > 100
    assert {what for _, _, what in first} == {"in", "late"}
    assert busy(1) == first
    assert busy(2) != first


@pytest.mark.parametrize("how", ["to_thread", "run_in_executor"])
def test_timers_do_not_overtake_a_thread(how):
    async def main():
        loop = asyncio.get_running_loop()
        seen = []
        let_go = threading.Event()

        def work(name):
            let_go.wait(10)
            return name

        async def in_a_thread(name):
            working = asyncio.to_thread(work, name) if how == "to_thread" else loop.run_in_executor(None, work, name)
            seen.append((await working, now()))

        async def timer():
            await asyncio.sleep(5)
            seen.append(("timer", now()))

        async def at_once():
            seen.append(("at once", now()))
            threading.Timer(0.05, let_go.set).start()

        await asyncio.gather(timer(), in_a_thread("a"), in_a_thread("b"), at_once())
        return seen

    seen = run(main())
    assert seen[0] == ("at once", 0.0)
    assert sorted(seen[1:3]) == [("a", 0.0), ("b", 0.0)]
    assert seen[3] == ("timer", 5.0)


def test_a_thread_that_fails_lets_the_clock_go_on():
    async def main():
        with pytest.raises(ZeroDivisionError):
            await asyncio.to_thread(lambda: 1 / 0)
        await asyncio.sleep(7)
        return now()

    assert run(main()) == 7.0


def test_a_thread_that_nobody_waits_for_any_more_lets_the_clock_go_on():
    async def main():
        let_go = threading.Event()
        task = asyncio.create_task(asyncio.to_thread(let_go.wait, 10))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.sleep(7)
        let_go.set()
        return now()

    assert run(main()) == 7.0


def test_the_executor_is_shut_down_in_real_time_and_without_a_warning():
    done = []

    async def main():
        asyncio.get_running_loop().run_in_executor(None, lambda: (time.sleep(0.05), done.append(True)))

    run(main())  # warnings are errors
    assert done == [True]


def test_a_timeout_fires_after_virtual_seconds():
    async def main():
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1000):
                await forever()
        first = now()
        async with asyncio.timeout(1000):
            await asyncio.sleep(999)
        return first, now()

    assert run(main()) == (1000.0, 1999.0)


def test_a_deadlock_names_the_tasks_and_where_they_wait():
    async def fetch_the_key(lock):
        async with lock:
            await forever()

    async def main():
        lock = asyncio.Lock()
        waiting = [asyncio.create_task(fetch_the_key(lock), name=f"agent {number}") for number in range(2)]
        await asyncio.sleep(3)
        await asyncio.wait(waiting)

    with pytest.raises(Deadlock) as caught:
        run(main())

    head, *lines = str(caught.value).splitlines()
    assert head.endswith("3 tasks wait for one another")
    agents = [line for line in lines if "agent" in line]
    assert agents[0].startswith("  agent 0 in forever (line ")
    assert agents[1].startswith("  agent 1 in Lock.acquire (line ")
    assert any("in wait" in line or "in _wait" in line for line in lines)


def test_a_deadlock_of_many_names_the_first_few():
    async def main():
        async with asyncio.TaskGroup() as tasks:
            for number in range(40):
                tasks.create_task(forever(), name=f"agent {number:02}")

    with pytest.raises(Deadlock) as caught:
        run(main())

    lines = str(caught.value).splitlines()
    assert len(lines) == 1 + LISTED + 1
    assert lines[-1] == f"  and {41 - LISTED} more"


def test_a_task_that_waits_in_an_asynchronous_generator_is_named_by_who_reads_it():
    async def numbers():
        await forever()
        yield 1

    async def reader():
        async for _ in numbers():
            pass

    with pytest.raises(Deadlock, match=r"in .*reader \(line"):
        run(reader())


def test_there_is_no_deadlock_while_a_timer_is_set():
    async def main():
        woken = asyncio.Event()
        asyncio.get_running_loop().call_later(1e6, woken.set)
        await woken.wait()
        return now()

    assert run(main()) == 1e6


def test_there_is_no_deadlock_while_a_thread_is_about_to_call():
    async def main():
        loop = asyncio.get_running_loop()
        woken = asyncio.Event()
        threading.Timer(0.05, loop.call_soon_threadsafe, [woken.set]).start()
        await woken.wait()
        return now()

    assert run(main()) == 0.0


def test_threads_that_do_not_call_in_time_are_no_reason_to_wait_for_ever(monkeypatch):
    monkeypatch.setattr(virtual_time, "THREAD_GRACE_S", 0.01)

    async def main():
        await asyncio.to_thread(lambda: None)  # its thread stays
        await forever()

    with pytest.raises(Deadlock):
        run(main())


def test_after_a_deadlock_every_task_is_cancelled_and_the_loop_closed():
    ended = []

    async def waiting():
        try:
            await forever()
        finally:
            ended.append(asyncio.get_running_loop())

    async def main():
        tasks = [asyncio.create_task(waiting()) for _ in range(3)]
        await asyncio.wait(tasks)

    with pytest.raises(Deadlock):
        run(main())

    assert len(ended) == 3
    assert ended[0].is_closed()
    assert run(asyncio.sleep(1, "again")) == "again"


@pytest.mark.parametrize("what", [KeyboardInterrupt, SystemExit, ZeroDivisionError])
def test_whatever_ends_a_run_leaves_nothing_behind(what):
    ended = []

    async def waiting():
        try:
            await asyncio.sleep(1e9)
        finally:
            await asyncio.sleep(1)
            ended.append(now())

    async def main():
        left = [asyncio.create_task(waiting()) for _ in range(3)]
        await asyncio.sleep(5)
        assert len(left) == 3
        raise what

    with pytest.raises(what):
        run(main())

    assert ended == [6.0] * 3
    gc.collect()  # what was not awaited would warn now
    with pytest.raises(RuntimeError, match="no running event loop"):
        asyncio.get_running_loop()


def test_ctrl_c_cancels_the_program_and_is_raised():
    heard = []

    async def main():
        try:
            while True:
                if now() == 100:
                    signal.raise_signal(signal.SIGINT)
                await asyncio.sleep(1)
        except asyncio.CancelledError:
            heard.append(now())
            raise

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            run(main())
    finally:
        signal.signal(signal.SIGINT, before)
    assert heard == [100.0]


def test_a_cancelled_timer_does_not_move_the_clock():
    async def main():
        asyncio.get_running_loop().call_later(50, lambda: None).cancel()
        task = asyncio.create_task(asyncio.sleep(1000))
        await asyncio.sleep(2)
        task.cancel()
        await asyncio.wait([task])
        return now()

    assert run(main()) == 2.0


@pytest.mark.parametrize("start", [0.0, 0.1, 1e5 / 3, 1e7 + 0.1])
def test_the_clock_reaches_every_timer_however_its_time_is_rounded(start):
    async def main():
        await asyncio.sleep(start)
        began = now()
        for _ in range(300):
            await asyncio.sleep(0.1)
        assert now() == pytest.approx(began + 30, abs=1e-5)
        asyncio.get_running_loop().call_later(0, asyncio.current_task().cancel)
        with pytest.raises(asyncio.CancelledError):
            await forever()
        asyncio.current_task().uncancel()

    run(main())


def test_a_time_that_asyncio_cannot_tell_from_the_next_one_is_refused():
    async def main(seconds):
        await asyncio.sleep(seconds)
        await asyncio.sleep(1e-9)

    run(main(LONGEST_S - 86400))
    with pytest.raises(ValueError, match="passed 194 days: shorten"):
        run(main(LONGEST_S))


def test_a_server_and_a_client_on_loopback_answer_while_nothing_is_scheduled():
    async def main():
        async def hello(request):
            return web.json_response({"asked": await request.text()})

        app = web.Application()
        app.router.add_post("/", hello)
        runner = web.AppRunner(app)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        port = runner.addresses[0][1]
        no_timer = aiohttp.ClientTimeout(total=None, sock_connect=None)
        async with aiohttp.ClientSession(timeout=no_timer) as session:
            answers = []
            for number in range(3):
                async with session.post(f"http://127.0.0.1:{port}/", data=f"{number}") as response:
                    answers.append(await response.json())
        await runner.cleanup()
        return answers

    assert run(main()) == [{"asked": str(number)} for number in range(3)]


def test_a_run_within_a_run_is_refused():
    async def main():
        with pytest.raises(RuntimeError, match="inside a running event loop"):
            run(asyncio.sleep(1))

    run(main())


def test_loops_have_clocks_of_their_own():
    one, other = VirtualLoop(), VirtualLoop()
    try:
        one.run_until_complete(asyncio.sleep(5))
        assert (one.time(), other.time()) == (5.0, 0.0)
        one.run_until_complete(asyncio.sleep(5))
        assert one.time() == 10.0
    finally:
        one.close()
        other.close()
