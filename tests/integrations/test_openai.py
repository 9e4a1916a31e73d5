"""An `AsyncOpenAI` client whose every inference request is a turn."""

from __future__ import annotations

import asyncio
import importlib
import subprocess
import sys

import openai
import pytest
from openai import AsyncAzureOpenAI, AsyncOpenAI
from pydantic import ValidationError

from concur_agents.errors import MissingExtra
from concur_agents.integrations.openai import wrap_openai

from .openai_calls import ASK, ASK_RESPONSE, CALLS, chat_create, chat_create_stream, chat_parse, response_parse
from .stand_in_gate import StandInGate


class TestEveryWayOfAsking:
    @pytest.mark.parametrize("call", CALLS.values(), ids=CALLS.keys())
    async def test_is_one_turn_with_its_usage(self, call, client, turns, vllm):
        assert await call(client) == "the answer is 42"
        assert len(vllm.seen) == 1
        assert turns.turn.reported == (21, 4, 16)
        assert turns.turn.end_calls == 1

    @pytest.mark.parametrize("call", CALLS.values(), ids=CALLS.keys())
    async def test_carries_the_agents_session(self, call, client, turns, vllm):
        await call(client)
        assert vllm.last.headers["x-session-id"] == turns.agent.session_id

    @pytest.mark.parametrize("call", CALLS.values(), ids=CALLS.keys())
    async def test_waits_for_its_turn_before_anything_is_sent(self, call, client, turns, vllm):
        turns.room.clear()
        asking = asyncio.create_task(call(client))
        for _ in range(50):
            await asyncio.sleep(0)
        assert not vllm.seen
        turns.room.set()
        assert await asking == "the answer is 42"


class TestATurn:
    async def test_includes_all_retries(self, client, turns, vllm):
        vllm.refusals = [503, 429]
        assert await chat_create(client) == "the answer is 42"
        assert len(vllm.seen) == 3
        assert turns.turn.reported == (21, 4, 16)
        assert {seen.headers["x-session-id"] for seen in vllm.seen} == {turns.agent.session_id}

    @pytest.mark.parametrize("call", CALLS.values(), ids=CALLS.keys())
    async def test_ends_without_a_weight_when_the_server_refuses(self, call, client, turns, vllm):
        vllm.refusals = [400]
        with pytest.raises(openai.BadRequestError):
            await call(client)
        assert turns.turn.end_calls == 1
        assert turns.turn.reported is None

    async def test_ends_when_the_retries_are_used_up(self, client, turns, vllm):
        vllm.refusals = [503, 503, 503]
        with pytest.raises(openai.InternalServerError):
            await chat_create(client)
        assert turns.turn.end_calls == 1

    async def test_ends_when_the_request_times_out(self, client, turns, vllm):
        vllm.gate.clear()
        with pytest.raises(openai.APITimeoutError):
            await chat_create(client.with_options(timeout=0.01, max_retries=0))
        assert turns.turn.end_calls == 1

    async def test_ends_when_there_is_no_server(self, turns):
        async with AsyncOpenAI(base_url="http://127.0.0.1:9/v1", api_key="-", max_retries=0) as nowhere:
            with pytest.raises(openai.APIConnectionError):
                await chat_create(wrap_openai(turns, nowhere))
        assert turns.turn.end_calls == 1

    async def test_ends_when_the_request_cannot_even_be_built(self, client, turns):
        with pytest.raises(TypeError):
            await client.chat.completions.create(**ASK, extra_body={"not json": object()})
        assert turns.turn.end_calls == 1

    @pytest.mark.parametrize("call", [chat_parse, response_parse])
    async def test_ends_with_its_weight_when_the_answer_is_not_what_was_wanted(self, call, client, turns, vllm):
        vllm.json = "not json"
        with pytest.raises(ValidationError):
            await call(client)
        assert turns.turn.reported == (21, 4, 16)
        assert turns.turn.end_calls == 1

    async def test_is_a_post_to_a_whole_url_too(self, client, turns, vllm):
        url = f"{vllm.url}/chat/completions?api-version=1"
        answer = await client.post(url, cast_to=dict[str, object], body=ASK)
        assert answer["choices"][0]["message"]["content"] == "the answer is 42"
        assert turns.turn.reported == (21, 4, 16)

    async def test_is_not_begun_by_a_call_that_gives_up_waiting(self, client, turns, vllm):
        turns.room.clear()
        asking = asyncio.create_task(chat_create(client))
        await asyncio.sleep(0)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        assert not turns.turns
        assert not vllm.seen

    async def test_is_taken_by_each_of_several_calls_at_once(self, client, turns, vllm):
        vllm.gate.clear()
        asking = [asyncio.create_task(call(client)) for call in (chat_create, chat_create_stream, chat_create)]
        await vllm.received(3)
        assert [turn.end_calls for turn in turns.turns] == [0, 0, 0]
        vllm.gate.set()
        assert await asyncio.gather(*asking) == ["the answer is 42"] * 3
        assert [turn.reported for turn in turns.turns] == [(21, 4, 16)] * 3


class TestTheSessionHeader:
    @pytest.mark.parametrize("name", ["X-Session-ID", "x-session-id", "X-SESSION-ID"])
    async def test_gives_way_to_the_callers(self, name, client, vllm):
        headers = {name: "mine"}
        await client.chat.completions.create(**ASK, extra_headers=headers)
        assert vllm.last.headers["x-session-id"] == "mine"
        assert headers == {name: "mine"}

    async def test_gives_way_to_the_clients(self, client, vllm):
        await chat_create(client.with_options(default_headers={"x-session-id": "of the client"}))
        assert vllm.last.headers["x-session-id"] == "of the client"

    async def test_leaves_other_headers_alone(self, client, turns, vllm):
        await client.chat.completions.create(**ASK, extra_headers={"X-Request-Id": "7"})
        assert vllm.last.headers["x-request-id"] == "7"
        assert vllm.last.headers["x-session-id"] == turns.agent.session_id
        assert vllm.last.headers["authorization"] == "Bearer secret"


class TestWhatIsNoTurn:
    async def test_passes_untouched(self, client, turns, vllm):
        assert [model.id async for model in client.models.list()] == ["tiny"]
        embedding = await client.embeddings.create(model="tiny", input="x", encoding_format="float")
        assert embedding.data[0].embedding == [0.25, 0.5]
        assert not turns.turns
        assert all("x-session-id" not in seen.headers for seen in vllm.seen)

    @pytest.mark.parametrize(
        "call",
        [
            lambda client: client.get("/responses", cast_to=object),
            lambda client: client.chat.completions.list(),
            lambda client: client.chat.completions.retrieve("chatcmpl-1"),
            lambda client: client.chat.completions.update("chatcmpl-1", metadata={}),
            lambda client: client.responses.retrieve("resp_1"),
            lambda client: client.responses.cancel("resp_1"),
            lambda client: client.post("/responses/input_tokens", cast_to=object, body=ASK_RESPONSE),
        ],
        ids=[
            "no POST",
            "stored chats",
            "stored chat",
            "update of a stored chat",
            "stored response",
            "cancel",
            "count of tokens",
        ],
    )
    async def test_does_not_become_one_by_a_path_that_begins_like_one(self, call, client, turns):
        with pytest.raises(openai.APIStatusError, match=r"40[45]"):  # the fake does not have them
            await call(client)
        assert not turns.turns


class TestTheGatedClient:
    async def test_is_a_copy_that_leaves_the_users_own_alone(self, turns, plain, client, vllm):
        before = dict(vars(plain))
        assert await chat_create_stream(plain) == "the answer is 42"
        assert not turns.turns
        assert "stream_options" not in vllm.last.body
        assert "x-session-id" not in vllm.last.headers
        assert client is not plain
        assert not {"request", "copy", "with_options"} & set(before)

    async def test_keeps_class_settings_and_connections(self, client, plain):
        assert type(client) is AsyncOpenAI
        assert (client.base_url, client.api_key, client.max_retries) == (plain.base_url, "secret", 2)
        assert client._client is plain._client

    async def test_lets_copies_change_settings(self, client):
        copy = client.with_options(max_retries=7, timeout=3).copy(default_headers={"X-A": "b"})
        assert (copy.max_retries, copy.timeout, copy.default_headers["X-A"]) == (7, 3, "b")

    async def test_works_for_a_subclass(self, turns, vllm):
        async with AsyncAzureOpenAI(azure_endpoint=vllm.url.removesuffix("/v1"), api_key="-", api_version="1") as azure:
            gated = wrap_openai(turns, azure)
            assert type(gated) is AsyncAzureOpenAI
            with pytest.raises(openai.NotFoundError):  # the fake has no Azure deployments
                await chat_create(gated)
        assert turns.turn.end_calls == 1

    async def test_is_itself_when_gated_again(self, turns, client):
        assert wrap_openai(turns, client) is client
        assert wrap_openai(turns, client.copy()) is not client

    async def test_cannot_be_gated_by_two_gates(self, client):
        with pytest.raises(TypeError, match="gated by another gate"):
            wrap_openai(StandInGate(), client)


class TestSomethingElseInstead:
    def test_a_class_is_refused(self, turns):
        with pytest.raises(TypeError, match=r"pass an instance, as in gate\.openai\(AsyncOpenAI\("):
            wrap_openai(turns, AsyncOpenAI)

    def test_a_resource_of_a_client_is_refused(self, turns, plain):
        with pytest.raises(TypeError, match="not a AsyncCompletions: pass the client itself"):
            wrap_openai(turns, plain.chat.completions)

    @pytest.mark.parametrize("thing", [None, "http://localhost:8000", 3])
    def test_anything_is_refused_with_what_to_pass(self, thing, turns):
        with pytest.raises(TypeError, match=r"takes an openai\.AsyncOpenAI or openai\.OpenAI client"):
            wrap_openai(turns, thing)


class TestWithoutOpenAI:
    def test_the_error_names_the_extra(self, monkeypatch):
        monkeypatch.setitem(sys.modules, "openai", None)
        monkeypatch.delitem(sys.modules, "concur_agents.integrations.openai")
        with pytest.raises(MissingExtra, match=r"pip install 'concur-agents\[openai\]'"):
            importlib.import_module("concur_agents.integrations.openai")

    def test_the_package_is_imported_without_it(self):
        code = "import sys, concur_agents; sys.exit('openai' in sys.modules)"
        assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
