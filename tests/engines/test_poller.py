"""The poller asks again and again, tells what it hears, and leaves nothing behind. In virtual time, without sockets."""

from __future__ import annotations

import asyncio
import gc

import detangle
import pytest

from concur_agents.engines import Poller
from concur_agents.errors import MetricsError


def page(prompt_tokens=0, running=0):
    return (
        f"vllm:num_requests_running {running}\nvllm:kv_cache_usage_perc 0.9\nvllm:prompt_tokens_total {prompt_tokens}\n"
    )


class Heard:
    """What a poller told, and when."""

    def __init__(self):
        self.snapshots, self.failures = [], []

    def on_snapshot(self, snapshot):
        self.snapshots.append(snapshot)

    def on_failure(self, error):
        self.failures.append((asyncio.get_running_loop().time(), str(error)))


def poller(heard, fetch, *, ours=lambda: 1, interval_s=1.0, timeout_s=5.0, url="http://h:8000"):
    return Poller(
        url,
        interval_s=interval_s,
        on_snapshot=heard.on_snapshot,
        on_failure=heard.on_failure,
        ours_in_flight=ours,
        timeout_s=timeout_s,
        fetch=fetch,
    )


async def run_for(seconds, poller):
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(seconds):
            await poller.run()


def test_it_polls_at_once_and_then_after_each_interval(run_virtually):
    heard = Heard()

    async def fetch():
        return page(prompt_tokens=100 * asyncio.get_running_loop().time())

    run_virtually(run_for(3.5, poller(heard, fetch)))
    assert [s.time for s in heard.snapshots] == [0, 1, 2, 3]
    assert [s.prompt_tokens for s in heard.snapshots] == [0, 100, 200, 300]
    assert heard.failures == []


def test_polls_never_overlap_when_the_server_is_slow(run_virtually):
    heard, under_way = Heard(), 0

    async def fetch():
        nonlocal under_way
        under_way += 1
        assert under_way == 1
        await asyncio.sleep(3)
        under_way -= 1
        return page()

    run_virtually(run_for(9.5, poller(heard, fetch)))
    assert [s.time for s in heard.snapshots] == [3, 7]


def test_an_outage_is_told_at_each_poll_and_ends_by_itself(run_virtually):
    heard = Heard()

    async def fetch():
        if 1 <= asyncio.get_running_loop().time() < 3:
            raise MetricsError("nothing answers")
        return page()

    run_virtually(run_for(4.5, poller(heard, fetch)))
    assert [s.time for s in heard.snapshots] == [0, 3, 4]
    assert heard.failures == [
        (1, "cannot read http://h:8000/metrics: nothing answers"),
        (2, "cannot read http://h:8000/metrics: nothing answers"),
    ]


def test_a_page_that_cannot_be_read_is_a_failure_that_names_the_address(run_virtually):
    heard = Heard()

    async def fetch():
        return "<html></html>"

    run_virtually(run_for(0.5, poller(heard, fetch, url="http://me:secret@h:8000/v1?key=secret")))
    ((_, error),) = heard.failures
    assert error.startswith("cannot read http://h:8000/metrics: a web page")
    assert "secret" not in error


def test_a_poll_that_takes_too_long_is_a_failure(run_virtually):
    heard = Heard()

    async def fetch():
        await asyncio.sleep(3600)

    run_virtually(run_for(13.0, poller(heard, fetch, timeout_s=5)))
    assert [time for time, _ in heard.failures] == [5, 11]
    assert "within 5 s" in heard.failures[0][1]


def test_a_restart_is_seen_through_the_outage_that_goes_with_it(run_virtually):
    heard = Heard()

    async def fetch():
        time = asyncio.get_running_loop().time()
        if 2 <= time < 30:
            raise MetricsError("nothing answers")
        return page(prompt_tokens=1000 if time < 2 else 10)

    run_virtually(run_for(31.5, poller(heard, fetch)))
    assert [s.restarts for s in heard.snapshots] == [0, 0, 1, 1]


@pytest.mark.parametrize(
    ("before", "after", "usage"), [(0, 0, 0.0), (1, 0, 0.9), (0, 1, 0.9)], ids=["idle", "ended", "began"]
)
def test_gauges_are_stale_only_if_nothing_of_ours_was_there_during_the_poll(run_virtually, before, after, usage):
    heard, ours = Heard(), 0

    async def fetch():
        nonlocal ours
        ours = after
        return page()

    async def polls():
        nonlocal ours
        asked = poller(heard, fetch, ours=lambda: ours)
        await asked.poll_once()
        ours = before
        return await asked.poll_once()

    assert run_virtually(polls()).usage == usage


def test_what_a_callback_raises_ends_the_run(run_virtually):
    heard = Heard()

    async def fetch():
        return page()

    def fail(snapshot):
        raise ZeroDivisionError

    heard.on_snapshot = fail
    with pytest.raises(ZeroDivisionError):
        run_virtually(poller(heard, fetch).run())


@pytest.mark.parametrize(
    "times", [{"interval_s": 0}, {"interval_s": -1}, {"timeout_s": 0}, {"interval_s": float("nan")}]
)
def test_times_that_are_not_above_zero_are_refused(times):
    with pytest.raises(ValueError, match="above 0"):
        poller(Heard(), None, **times)


def test_an_address_without_scheme_is_refused_at_once():
    with pytest.raises(ValueError, match="http://localhost:8000"):
        poller(Heard(), None, url="localhost:8000")


async def test_it_may_be_closed_before_it_ever_polled_and_again():
    never_used = Poller("http://h:8000", interval_s=1, on_snapshot=print, on_failure=print, ours_in_flight=lambda: 0)
    await never_used.aclose()
    await never_used.aclose()


@detangle.test(runs=100)
async def test_cancelled_at_any_await_it_ends_and_tells_nothing_more():
    heard, open_fetches = Heard(), 0

    async def fetch():
        nonlocal open_fetches
        open_fetches += 1
        try:
            await asyncio.sleep(0.3)
            return page()
        finally:
            open_fetches -= 1

    running = asyncio.create_task(poller(heard, fetch).run())
    await asyncio.sleep(detangle.uniform(0, 3))
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    told = len(heard.snapshots)
    await asyncio.sleep(10)
    assert (open_fetches, len(heard.snapshots)) == (0, told)


async def test_a_run_that_is_cancelled_again_and_again_leaves_no_connection(raw_server):
    async def talk(reader, writer):
        body = page().encode()
        while True:
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
            await reader.readuntil(b"\r\n\r\n")

    async with raw_server(talk) as url:
        for steps in range(40):
            running = asyncio.create_task(poller(Heard(), None, url=url, interval_s=0.001).run())
            for _ in range(steps):
                await asyncio.sleep(0)
            while not running.done():  # also while it is closing its connection
                running.cancel()
                await asyncio.sleep(0)
    for _ in range(3):
        await asyncio.sleep(0)
    gc.collect()  # a session that was not closed would warn here
    assert asyncio.all_tasks() == {asyncio.current_task()}
