"""Streams of a gated client: what their readers see of usage, and when their turns end."""

from __future__ import annotations

import asyncio
import gc
import threading

import pytest
from openai import AsyncOpenAI

from concur_agents.integrations.openai import wrap_openai

from .fake_vllm import FakeVllm
from .openai_calls import ASK, ASK_RESPONSE, ASK_TEXT
from .stand_in_gate import StandInGate


async def create(client, **options):
    return [chunk async for chunk in await client.chat.completions.create(**ASK, stream=True, **options)]


async def create_text(client, **options):
    return [chunk async for chunk in await client.completions.create(**ASK_TEXT, stream=True, **options)]


async def raw(client, **options):
    answer = await client.chat.completions.with_raw_response.create(**ASK, stream=True, **options)
    return [chunk async for chunk in answer.parse()]


async def streaming(client, **options):
    asking = client.chat.completions.with_streaming_response.create(**ASK, stream=True, **options)
    async with asking as response:
        return [chunk async for chunk in await response.parse()]


async def helper(client, **options):
    async with client.chat.completions.stream(**ASK, **options) as stream:
        events = [event async for event in stream]
        final = await stream.get_final_completion()
    return [*(event.chunk for event in events if event.type == "chunk"), final]


READERS = [create, create_text, raw, streaming, helper]

SAID = [
    {},
    {"stream_options": None},
    {"stream_options": {}},
    {"stream_options": {"include_usage": None}},
    {"stream_options": {"include_usage": False}},
    {"stream_options": {"include_usage": True}},
    {"stream_options": {"continuous_usage_stats": True}},
    {"stream_options": {"include_usage": True, "continuous_usage_stats": True}},
    {"extra_body": {"stream_options": {"include_usage": True}}},
    {"stream_options": {"include_usage": True}, "extra_body": {"stream_options": {"include_usage": False}}},
    {"stream_options": {"include_usage": False}, "extra_body": {"stream_options": {"include_usage": True}}},
    {"stream_options": {}, "extra_body": {"stream_options": {"include_usage": False}}},
    {"extra_body": {"stream_options": {"include_usage": None}}},
]


def sends(said):
    """The options that go to the server, as the SDK puts them together."""
    options = said.get("extra_body", {}).get("stream_options") or said.get("stream_options") or {}
    return {"include_usage": None} | options


def shown(chunks):
    return [chunk.to_dict() | {"id": ""} for chunk in chunks]


async def lines(client, **options):
    asking = client.chat.completions.with_streaming_response.create(**ASK, stream=True, **options)
    async with asking as response:
        # The id of an answer is between the first two colons.
        return [line.split(",", 1)[-1] async for line in response.iter_lines()]


class TestAReader:
    @pytest.mark.parametrize("said", SAID, ids=str)
    @pytest.mark.parametrize("read", READERS)
    async def test_sees_what_an_ungated_one_sees(self, read, said, client, plain, turns):
        assert shown(await read(client, **said)) == shown(await read(plain, **said))
        assert turns.turn.end_calls == 1

    @pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r"], ids=repr)
    @pytest.mark.parametrize("said", SAID, ids=str)
    async def test_of_lines_sees_what_an_ungated_one_sees(self, said, line_end, client, plain, vllm):
        vllm.line_end = line_end
        assert await lines(client, **said) == await lines(plain, **said)

    @pytest.mark.parametrize("read", READERS)
    async def test_who_asks_for_usage_gets_it(self, read, client):
        chunks = await read(client, stream_options={"include_usage": True})
        assert chunks[-1].usage.prompt_tokens == 21

    @pytest.mark.parametrize("read", READERS)
    async def test_who_does_not_ask_gets_none_though_the_server_was_asked(self, read, client, vllm):
        chunks = await read(client)
        assert vllm.last.body["stream_options"] == {"include_usage": True}
        assert all(chunk.choices and chunk.usage is None for chunk in chunks)

    async def test_keeps_what_else_the_request_says(self, client, vllm):
        await create(client, stream_options={"include_obfuscation": False}, extra_body={"top_k": 3})
        assert vllm.last.body["top_k"] == 3
        assert vllm.last.body["stream_options"] == {"include_obfuscation": False, "include_usage": True}

    async def test_of_responses_sees_all_events_and_sends_no_stream_options(self, client, plain, vllm):
        def names(events):
            return [event.type for event in events]

        gated = [event async for event in await client.responses.create(**ASK_RESPONSE, stream=True)]
        assert "stream_options" not in vllm.last.body
        ungated = [event async for event in await plain.responses.create(**ASK_RESPONSE, stream=True)]
        assert names(gated) == names(ungated)
        assert gated[-1].response.usage.input_tokens == 21

    async def test_sees_usage_in_each_chunk_of_a_server_that_forces_it(self, client, vllm):
        vllm.force_include_usage = True
        chunks = await create(client)
        assert [chunk.usage.completion_tokens for chunk in chunks] == [0, 1, 2, 3, 4, 4]

    async def test_of_bytes_gets_pieces_of_the_size_it_asks_for(self, client, vllm):
        for chunk_size in (1, 7, 64, 100_000):
            asking = client.chat.completions.with_streaming_response.create(**ASK, stream=True)
            async with asking as response:
                pieces = [piece async for piece in response.iter_bytes(chunk_size)]
            assert {len(piece) for piece in pieces[:-1]} <= {chunk_size}
            assert 0 < len(pieces[-1]) <= chunk_size
            assert b"".join(pieces).endswith(b"data: [DONE]\n\n")

    async def test_of_a_compressed_document_reads_it_as_ever(self, client, turns, vllm):
        vllm.gzip = True
        async with client.chat.completions.with_streaming_response.create(**ASK) as response:
            assert response.headers["content-encoding"] == "gzip"
            assert (await response.parse()).choices[0].message.content == "the answer is 42"
        assert turns.turn.reported == (21, 4, 16)

    async def test_of_the_raw_bytes_on_the_wire_ends_the_turn_without_a_weight(self, client, turns):
        async with client.chat.completions.with_streaming_response.create(**ASK) as response:
            assert b"".join([piece async for piece in response.http_response.aiter_raw()])
            assert turns.turn.end_calls == 1
        assert turns.turn.reported is None

    async def test_can_read_a_whole_body_twice(self, client):
        async with client.chat.completions.with_streaming_response.create(**ASK, stream=True) as response:
            assert await response.read() == await response.read()
            assert len([line async for line in response.iter_lines()]) > 10


class TestWeight:
    @pytest.mark.parametrize("read", READERS)
    @pytest.mark.parametrize("said", [said for said in SAID if sends(said)["include_usage"] is not False], ids=str)
    async def test_is_reported_whether_asked_for_or_not(self, read, said, client, turns):
        await read(client, **said)
        assert turns.turn.reported == (21, 4, 16)

    @pytest.mark.parametrize("read", READERS)
    @pytest.mark.parametrize("said", [said for said in SAID if sends(said)["include_usage"] is False], ids=str)
    async def test_is_not_reported_where_the_caller_wants_no_usage(self, read, said, client, turns, vllm):
        await read(client, **said)
        assert vllm.last.body["stream_options"] == {"include_usage": False}
        assert turns.turn.reported is None

    async def test_is_known_as_far_as_a_reader_came_who_asked_for_continuous_usage(self, client, turns):
        options = {"include_usage": True, "continuous_usage_stats": True}
        async with await client.chat.completions.create(**ASK, stream=True, stream_options=options) as stream:
            async for chunk in stream:
                if chunk.usage.completion_tokens == 2:
                    break
        prompt, output, cached = turns.turn.reported
        assert (prompt, cached) == (21, None)
        assert output >= 2  # what arrived together with it is known as well


class TestATurnEnds:
    """Each server here stalls after the first event, so that the end of the stream cannot be what ends the turn."""

    @pytest.fixture
    async def stream(self, client, turns, vllm):
        vllm.stall_after = 1
        stream = await client.chat.completions.create(**ASK, stream=True)
        assert (await anext(stream)).choices[0].delta.role == "assistant"
        assert not turns.turn.end_calls
        return [stream]

    async def test_when_the_stream_is_closed(self, stream, turns):
        await stream[0].close()
        assert turns.turn.end_calls == 1

    async def test_when_the_http_response_is_closed(self, stream, turns):
        await stream[0].response.aclose()
        assert turns.turn.end_calls == 1

    async def test_when_its_context_is_left(self, stream, turns):
        async with stream[0]:
            pass
        assert turns.turn.end_calls == 1

    async def test_when_the_reader_fails(self, stream, turns):
        with pytest.raises(ZeroDivisionError):
            async with stream[0]:
                raise ZeroDivisionError
        assert turns.turn.end_calls == 1

    async def test_when_the_reader_is_cancelled(self, stream, turns):
        reading = asyncio.create_task(anext(stream[0]))
        await asyncio.sleep(0)
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
        assert turns.turn.end_calls == 1

    async def test_when_the_reader_drops_it(self, stream, turns):
        stream.clear()
        gc.collect()
        for _ in range(5):
            await asyncio.sleep(0)
        assert turns.turn.end_calls == 1

    async def test_when_the_client_is_closed(self, stream, client, turns):
        await client.close()
        (outcome,) = await asyncio.gather(anext(stream[0]), return_exceptions=True)
        assert isinstance(outcome, Exception)
        assert turns.turn.end_calls == 1

    @pytest.mark.parametrize("after", [1, 2, 5])
    async def test_when_the_connection_breaks(self, after, client, turns, vllm):
        vllm.break_after = after
        (outcome,) = await asyncio.gather(create(client), return_exceptions=True)
        assert isinstance(outcome, Exception)
        assert turns.turn.end_calls == 1
        assert turns.turn.reported is None


ASKING = {
    "stream": lambda client: client.chat.completions.create(**ASK, stream=True),
    "raw response": lambda client: client.chat.completions.with_raw_response.create(**ASK, stream=True),
    "streaming response": lambda client: client.chat.completions.with_streaming_response.create(**ASK).__aenter__(),
    "responses stream": lambda client: client.responses.create(**ASK_RESPONSE, stream=True),
}


class TestAnAnswerThatNobodyReads:
    @pytest.mark.parametrize("ask", ASKING.values(), ids=ASKING.keys())
    async def test_ends_its_turn_when_it_is_dropped(self, ask, client, turns):
        answer = await ask(client)
        assert not turns.turn.end_calls
        del answer
        gc.collect()
        await asyncio.sleep(0)
        assert turns.turn.end_calls == 1

    async def test_ends_its_turn_on_the_loop_wherever_it_is_collected(self, client, turns):
        held = [await client.chat.completions.create(**ASK, stream=True)]

        def drop():
            held.clear()
            gc.collect()
            return threading.get_ident()

        collector = await asyncio.to_thread(drop)
        await asyncio.sleep(0)
        assert collector != threading.get_ident()
        assert turns.turn.ended_in == threading.get_ident()

    def test_is_dropped_in_silence_after_its_loop_is_closed(self):
        async def leave_a_stream():
            server, gate = FakeVllm(), StandInGate()
            runner = await server.start()
            async with wrap_openai(gate, AsyncOpenAI(base_url=server.url, api_key="-")) as client:
                stream = await client.chat.completions.create(**ASK, stream=True)
            await runner.cleanup()
            return gate, [stream]

        gate, held = asyncio.run(leave_a_stream())
        held.clear()
        gc.collect()
        assert not gate.turn.end_calls  # there is no loop left to end it on, and nobody who waits
