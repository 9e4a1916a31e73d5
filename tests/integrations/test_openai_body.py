"""The body of one answer, piece by piece: what is passed on, what is learned from it, when its turn ends."""

from __future__ import annotations

import asyncio
import json
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from concur_agents.integrations.openai_stream import follow_body

from .stand_in_gate import StandInAgent, StandInTurn

CHUNK = {"choices": [{"index": 0, "delta": {"content": 'say "usage": {} and [DONE]\n\n'}}]}
LAST = {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
USAGE = {"choices": [], "usage": {"prompt_tokens": 5, "total_tokens": 7, "completion_tokens": 2}}


class FakeResponse:
    """As much of an httpx response as is followed."""

    def __init__(self, *pieces: bytes, content_type: str = "text/event-stream; charset=utf-8") -> None:
        self.headers = {"content-type": content_type}
        self.pieces = pieces
        self.closed = 0

    async def aiter_bytes(self):
        for piece in self.pieces:
            await asyncio.sleep(0)
            yield piece

    async def aclose(self):
        self.closed += 1


def followed(*pieces: bytes, hide_usage: bool = True, content_type: str = "text/event-stream"):
    response, turn = FakeResponse(*pieces, content_type=content_type), StandInTurn(StandInAgent())
    follow_body(response, turn, hide_usage=hide_usage)
    return response, turn


async def read(response):
    return b"".join([piece async for piece in response.aiter_bytes()])


def event(data: object, line_end: str = "\n") -> bytes:
    text = data if isinstance(data, str) else json.dumps(data)
    return f"data: {text}{line_end * 2}".encode()


def cut(body: bytes, places: list[int]) -> list[bytes]:
    bounds = [0, *sorted(place % (len(body) + 1) for place in places), len(body)]
    return [body[start:end] for start, end in pairwise(bounds)]


def stream_of(line_end: str) -> tuple[bytes, bytes, bytes]:
    """A stream before its usage chunk, that chunk, and what follows."""
    named = f"id: 7{line_end}".encode() + event(CHUNK, line_end)
    comment = f": keep-alive{line_end * 2}".encode()
    usage = f"id: 8{line_end}".encode() + event(USAGE, line_end)
    return comment + named + event(LAST, line_end), usage, event("[DONE]", line_end)


@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r"], ids=repr)
class TestWhereverTheNetworkCutsAStream:
    async def check(self, line_end, places):
        before, usage, after = stream_of(line_end)
        response, turn = followed(*cut(before + usage + after, places))
        assert await read(response) == before + after
        assert (turn.reported, turn.end_calls) == ((5, 2, None), 1)

    async def test_all_but_the_usage_chunk_is_passed_on_to_who_did_not_ask(self, line_end):
        for place in range(len(b"".join(stream_of(line_end)))):
            await self.check(line_end, [place])

    @given(places=st.lists(st.integers(0, 600)))
    @settings(deadline=None)
    def test_often_it_is_still_so(self, line_end, places):
        asyncio.run(self.check(line_end, places))

    @given(places=st.lists(st.integers(0, 600)), chunk_size=st.integers(1, 300))
    @settings(deadline=None)
    def test_who_asked_gets_every_byte(self, line_end, places, chunk_size):
        body = b"".join(stream_of(line_end))

        async def check():
            response, turn = followed(*cut(body, places), hide_usage=False)
            pieces = [piece async for piece in response.aiter_bytes(chunk_size)]
            assert b"".join(pieces) == body
            assert {len(piece) for piece in pieces[:-1]} <= {chunk_size}
            assert (turn.reported, turn.end_calls) == ((5, 2, None), 1)

        asyncio.run(check())


class TestTheReader:
    async def test_waits_for_no_more_than_the_end_of_an_event(self):
        response, _ = followed(event(CHUNK) + b"data: {", b"}\n\n")
        assert await anext(aiter(response.aiter_bytes())) == event(CHUNK)

    async def test_gets_an_event_that_was_never_completed(self):
        response, turn = followed(event(CHUNK) + b"data: {")
        assert await read(response) == event(CHUNK) + b"data: {"
        assert turn.end_calls == 1

    async def test_who_asked_gets_an_event_that_was_never_completed_once(self):
        response, turn = followed(event(CHUNK) + event(USAGE).rstrip(), hide_usage=False)
        assert await read(response) == event(CHUNK) + event(USAGE).rstrip()
        assert turn.reported == (5, 2, None)

    async def test_does_not_get_the_usage_chunk_though_it_ends_without_an_empty_line(self):
        response, turn = followed(event(CHUNK) + event(USAGE).rstrip())
        assert await read(response) == event(CHUNK)
        assert turn.reported == (5, 2, None)

    @pytest.mark.parametrize(
        "data",
        [
            '{"usage": ',
            '"usage"',
            '["usage"]',
            '{"usage": null, "choices": []}',
            '{"usage": {}, "choices": [{"index": 0}]}',
            '{"usage": {"prompt_tokens": 1e999}}',
            '{"response": "usage", "usage"',
            '{"response": [{"usage": 1}]}',
            '{"a": ' + "[" * 200_000 + '"usage"',
            "x[DONE]",
        ],
        ids=lambda data: data[:40],
    )
    async def test_gets_what_cannot_be_understood_as_it_is(self, data):
        response, turn = followed(event(data) + event("[DONE]"))
        assert await read(response) == event(data) + event("[DONE]")
        assert (turn.reported, turn.end_calls) == (None, 1)

    async def test_gets_bytes_that_are_no_text_as_they_are(self):
        body = b'data: {"usage": "\xff\xfe"}\n\n'
        response, turn = followed(body)
        assert await read(response) == body
        assert turn.reported is None

    @pytest.mark.parametrize("body", [b"", b"{", b"[]", b"null", b"<html>", b'{"usage": 3}', b"\xff"])
    async def test_gets_a_document_as_it_is(self, body):
        response, turn = followed(body, content_type="application/json")
        assert await read(response) == body
        assert (turn.reported, turn.end_calls) == (None, 1)


class TestTheTurn:
    async def test_is_over_when_the_server_says_so_though_the_reader_goes_no_further(self):
        response, turn = followed(event(CHUNK), event(LAST) + event(USAGE) + event("[DONE]"), b"never read")
        reading = response.aiter_bytes()
        await anext(reading)
        assert not turn.end_calls
        assert await anext(reading) == event(LAST) + event("[DONE]")
        assert (turn.reported, turn.end_calls) == ((5, 2, None), 1)
        await reading.aclose()
        await response.aclose()
        assert turn.end_calls == 1

    async def test_of_responses_is_over_with_the_event_that_has_usage(self):
        usage = {"input_tokens": 5, "output_tokens": 2, "input_tokens_details": {"cached_tokens": 4}}
        created = {"type": "response.created", "response": {"usage": None}}
        completed = {"type": "response.completed", "response": {"usage": usage}}
        response, turn = followed(event(created), event(completed), b"never read", hide_usage=False)
        reading = response.aiter_bytes()
        await anext(reading)
        assert not turn.end_calls
        await anext(reading)
        assert (turn.reported, turn.end_calls) == ((5, 2, 4), 1)
        await reading.aclose()

    async def test_is_over_when_the_reader_leaves(self):
        response, turn = followed(event(CHUNK), event(LAST))
        reading = response.aiter_bytes()
        await anext(reading)
        await reading.aclose()
        assert turn.end_calls == 1

    async def test_is_over_when_the_response_cannot_even_be_closed(self):
        response, turn = FakeResponse(), StandInTurn(StandInAgent())

        async def fail():
            raise OSError("broken")

        response.aclose = fail
        follow_body(response, turn, hide_usage=True)
        with pytest.raises(OSError, match="broken"):
            await response.aclose()
        assert turn.end_calls == 1

    async def test_leaves_the_response_as_it_was(self):
        response, _ = followed(event(CHUNK))
        before = set(vars(FakeResponse()))
        await read(response)
        await response.aclose()
        assert set(vars(response)) == before
        assert response.closed == 1
