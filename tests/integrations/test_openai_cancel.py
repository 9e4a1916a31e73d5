"""A task that calls a gated client, cancelled wherever it can be: each turn begun is a turn ended."""

from __future__ import annotations

import asyncio
import types

import pytest

from .openai_calls import CALLS


@types.coroutine
def cancelled_at(nth, coroutine):
    """Await a coroutine, and cancel the current task when it suspends for the nth time."""
    resume, value, suspended = coroutine.send, None, 0
    while True:
        try:
            awaited = resume(value)
        except StopIteration as stop:
            return stop.value
        suspended += 1
        if suspended == nth:
            asyncio.current_task().cancel()
        try:
            value = yield awaited
            resume = coroutine.send
        except BaseException as error:  # noqa: BLE001  it belongs to the coroutine
            resume, value = coroutine.throw, error


async def outcome_of(coroutine):
    async def run():
        return await coroutine

    return (await asyncio.gather(asyncio.create_task(run()), return_exceptions=True))[0]


@pytest.mark.parametrize("refusals", [[], [503]], ids=["served at once", "served on a retry"])
@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS.keys())
async def test_a_cancellation_at_any_await_ends_the_turn(call, refusals, client, turns, vllm):
    nth = 0
    while True:
        nth += 1
        vllm.refusals = list(refusals)
        outcome = await outcome_of(cancelled_at(nth, call(client)))
        assert [turn.end_calls for turn in turns.turns] == [1] * len(turns.turns)
        if outcome == "the answer is 42":
            break
        assert isinstance(outcome, asyncio.CancelledError)
    assert nth > 3  # the turn, the connection, the answer
    assert turns.turns[-1].reported == (21, 4, 16)


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS.keys())
async def test_a_timeout_around_a_call_ends_the_turn(call, client, turns, vllm):
    vllm.gate.clear()
    calling = asyncio.create_task(call(client))
    await vllm.received(1)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0):
            await calling
    assert turns.turn.end_calls == 1
