"""A synchronous `OpenAI` client in threads, at a real gate with room for one agent."""

from __future__ import annotations

import asyncio
import contextvars
import gc

import openai
import pytest
from openai import AzureOpenAI, DefaultHttpxClient, OpenAI

from concur_agents import ConcurGate, GateClosed, WrongLoop

from .openai_calls import ASK, ASK_RESPONSE
from .openai_sync_calls import CALLS, chat_create, chat_create_stream, chat_parse


@pytest.fixture
async def gate():
    async with ConcurGate(controller="fixed:1") as gate:
        yield gate
        stats = await settled(gate)
        assert (stats.active, stats.running, stats.queued) == (0, 0, 0)


@pytest.fixture
def plain(vllm):
    """An `OpenAI` client of the server, as its user makes it."""
    http_client = DefaultHttpxClient(verify=False)
    with OpenAI(base_url=vllm.url, api_key="secret", http_client=http_client) as client:
        yield client


@pytest.fixture
def client(gate, plain):
    return gate.openai(plain)


def in_thread(function, *args):
    """Run a function in a thread that is in no agent."""
    return asyncio.create_task(asyncio.to_thread(function, *args), context=contextvars.Context())


async def as_agent(gate, function, *args):
    """Run a function in a thread, as an agent of that thread; returns its result and the agent."""

    def agent():
        with gate.sync.agent():
            return function(*args), gate.current()

    return await in_thread(agent)


async def until_waiting(gate):
    while not gate.waiting():  # noqa: ASYNC110  a thread says nothing when it comes to wait
        await asyncio.sleep(0)


class TestEveryWayOfAsking:
    @pytest.mark.parametrize("call", CALLS.values(), ids=CALLS.keys())
    async def test_is_one_turn_of_its_threads_agent_with_its_usage(self, call, client, gate, vllm):
        answer, agent = await as_agent(gate, call, client)
        assert answer == "the answer is 42"
        assert (agent.turns, agent.prompt_tokens, agent.output_tokens, agent.cached_tokens) == (1, 21, 4, 16)
        assert vllm.last.headers["x-session-id"] == agent.session_id
        assert len(vllm.seen) == 1

    @pytest.mark.parametrize("call", CALLS.values(), ids=CALLS.keys())
    async def test_is_a_turn_of_the_agent_around_to_thread(self, call, client, gate):
        async with gate.agent() as agent:
            assert await asyncio.to_thread(call, client) == "the answer is 42"
        assert (agent.turns, agent.prompt_tokens) == (1, 21)

    @pytest.mark.parametrize("call", [chat_create, chat_create_stream])
    async def test_waits_for_its_place_before_anything_is_sent(self, call, client, gate, vllm):
        async with gate.agent():
            asking = in_thread(call, client)
            await until_waiting(gate)
            assert not vllm.seen
        assert await asking == "the answer is 42"
        assert gate.stats().finished == 2

    @pytest.mark.parametrize("refusals", [[429], [503, 429]], ids=str)
    @pytest.mark.parametrize("call", CALLS.values(), ids=CALLS.keys())
    async def test_is_one_turn_over_its_retries_and_notes_each_refusal(self, call, refusals, client, gate, vllm):
        vllm.refusals = list(refusals[: 1 if "copy" in call.__name__ else 2])
        expected = len(vllm.refusals)
        _, agent = await as_agent(gate, call, client)
        assert (agent.turns, agent.prompt_tokens, gate.totals.refusals) == (1, 21, expected)
        assert len(vllm.seen) == expected + 1

    @pytest.mark.parametrize("call", CALLS.values(), ids=CALLS.keys())
    async def test_ends_its_turn_when_the_server_refuses(self, call, client, gate, vllm):
        vllm.refusals = [400]
        with pytest.raises(openai.BadRequestError):
            await as_agent(gate, call, client)
        assert (gate.stats().turns, gate.stats().prompt_tokens) == (1, 0)

    async def test_notes_the_refusal_that_fails_it(self, client, gate, vllm):
        vllm.refusals = [429] * 3
        with pytest.raises(openai.RateLimitError):
            await as_agent(gate, chat_create_stream, client)
        assert gate.totals.refusals == 3

    async def test_ends_its_turn_with_its_weight_when_the_answer_is_not_what_was_wanted(self, client, gate, vllm):
        vllm.json = "not json"
        with pytest.raises(ValueError, match="Answer"):
            await as_agent(gate, chat_parse, client)
        assert gate.stats().prompt_tokens == 21

    async def test_fails_when_the_gate_closes_while_it_waits(self, client, gate, vllm):
        async with gate.agent():
            asking = in_thread(chat_create, client)
            await until_waiting(gate)
            await gate.aclose()
            with pytest.raises(GateClosed):
                await asking
        assert not vllm.seen


class TestThreads:
    async def test_of_many_agents_take_their_places_one_after_the_other(self, client, gate, vllm):
        def agent(n):
            with gate.sync.agent(f"agent-{n}"):
                return [chat_create(client), chat_create_stream(client)]

        answers = await asyncio.gather(*(in_thread(agent, n) for n in range(6)))
        assert answers == [["the answer is 42"] * 2] * 6
        sessions = [seen.headers["x-session-id"] for seen in vllm.seen]
        assert sessions[::2] == sessions[1::2]
        assert len(set(sessions)) == 6

    async def test_need_no_loop_of_the_users(self, plain, vllm):
        gate = ConcurGate(controller="fixed:1")

        def main():
            client = gate.openai(plain)
            with gate.sync.agent() as agent:
                chat_create(client)
            assert vllm.last.headers["x-session-id"] == agent.session_id
            stats = gate.stats()
            gate.sync.close()
            return stats

        stats = await in_thread(main)
        assert (stats.turns, stats.prompt_tokens, stats.active) == (1, 21, 0)

    @pytest.mark.parametrize("call", [chat_create, chat_create_stream])
    async def test_that_run_an_event_loop_are_told_what_to_do(self, call, client, gate, vllm):
        message = r"gate\.openai\(AsyncOpenAI\(…\)\).*asyncio\.to_thread\(agent\)"
        async with gate.agent():
            with pytest.raises(WrongLoop, match=message):
                call(client)
        with pytest.raises(WrongLoop, match=message):
            call(client)
        assert not vllm.seen

    async def test_a_turn_around_a_call_is_only_a_place_to_pause(self, client, gate):
        def agent():
            with gate.sync.turn():
                return chat_create(client)

        _, agent = await as_agent(gate, agent)
        assert agent.turns == 1


def read(client, **options):
    return [chunk.to_dict() | {"id": ""} for chunk in client.chat.completions.create(**ASK, stream=True, **options)]


def read_raw(client, **options):
    raw = client.chat.completions.with_raw_response.create(**ASK, stream=True, **options)
    return [chunk.to_dict() | {"id": ""} for chunk in raw.parse()]


def read_lines(client, **options):
    with client.chat.completions.with_streaming_response.create(**ASK, stream=True, **options) as response:
        return [line.split(",", 1)[-1] for line in response.iter_lines()]


SAID = [{}, *({"stream_options": {"include_usage": said}} for said in (None, False, True))]


class TestAReader:
    @pytest.mark.parametrize("said", SAID, ids=str)
    @pytest.mark.parametrize("reader", [read, read_raw, read_lines])
    async def test_sees_what_an_ungated_one_sees(self, reader, said, client, plain, gate):
        gated = await in_thread(lambda: reader(client, **said))
        assert gated == await in_thread(lambda: reader(plain, **said))
        weighed = said.get("stream_options", {}).get("include_usage") is not False
        assert gate.stats().prompt_tokens == (21 if weighed else 0)

    async def test_of_bytes_gets_pieces_of_the_size_it_asks_for(self, client):
        def pieces(size):
            with client.chat.completions.with_streaming_response.create(**ASK, stream=True) as response:
                return list(response.iter_bytes(size))

        for size in (1, 7, 64, 100_000):
            got = await in_thread(pieces, size)
            assert {len(piece) for piece in got[:-1]} <= {size}
            assert 0 < len(got[-1]) <= size
            assert b"".join(got).endswith(b"data: [DONE]\n\n")


def leave_context(stream):
    with stream:
        pass


async def settled(gate):
    """What the gate says when it has heard of all that the threads did."""
    for _ in range(5):
        await asyncio.sleep(0)
    return gate.stats()


class TestATurnEnds:
    """Each server here stalls after the first event, so that the end of the stream cannot be what ends the turn."""

    @pytest.fixture
    async def stream(self, client, gate, vllm):
        vllm.stall_after = 1

        def ask():
            stream = client.chat.completions.create(**ASK, stream=True)
            next(stream)
            return [stream]

        stream = await in_thread(ask)
        assert gate.stats().running == 1
        return stream

    @pytest.mark.parametrize(
        "leave",
        [lambda stream: stream.close(), lambda stream: stream.response.close(), leave_context],
        ids=["stream", "response", "context"],
    )
    async def test_when_it_is_closed_in_any_thread(self, leave, stream, gate):
        await in_thread(leave, stream[0])
        assert (await settled(gate)).running == 0

    async def test_when_it_is_closed_on_the_loop_of_the_gate(self, stream, gate):
        stream[0].close()
        assert (await settled(gate)).running == 0

    @pytest.mark.parametrize("elsewhere", [False, True], ids=["on the loop of the gate", "in another thread"])
    async def test_when_it_is_collected(self, elsewhere, stream, gate):
        def drop():
            stream.clear()
            gc.collect()

        await in_thread(drop) if elsewhere else drop()
        assert (await settled(gate)).running == 0

    async def test_when_the_client_is_closed(self, stream, client, gate):
        await in_thread(client.close)
        (outcome,) = await asyncio.gather(in_thread(list, stream[0]), return_exceptions=True)
        assert isinstance(outcome, Exception)
        assert (await settled(gate)).running == 0

    async def test_when_it_is_read_to_its_end_by_another_thread(self, stream, gate, vllm):
        vllm.flow.set()
        await in_thread(list, stream[0])
        stats = await settled(gate)
        assert (stats.running, stats.prompt_tokens) == (0, 21)

    @pytest.mark.parametrize("after", [1, 2, 5])
    async def test_when_the_connection_breaks(self, after, client, gate, vllm):
        vllm.break_after = after
        (outcome,) = await asyncio.gather(in_thread(chat_create_stream, client), return_exceptions=True)
        assert isinstance(outcome, Exception)
        assert (await settled(gate)).running == 0

    @pytest.mark.parametrize(
        "ask",
        [
            lambda client: client.chat.completions.create(**ASK, stream=True),
            lambda client: client.chat.completions.with_raw_response.create(**ASK, stream=True),
            lambda client: client.chat.completions.with_streaming_response.create(**ASK).__enter__(),
            lambda client: client.responses.create(**ASK_RESPONSE, stream=True),
        ],
        ids=["stream", "raw response", "streaming response", "responses stream"],
    )
    async def test_when_nobody_reads_the_answer_and_it_is_dropped(self, ask, client, gate):
        held = await in_thread(lambda: [ask(client)])  # in a list, or the thread may hold it a little longer
        assert gate.stats().running == 1
        held.clear()
        gc.collect()
        assert (await settled(gate)).running == 0


def test_a_stream_is_dropped_in_silence_after_the_loop_of_the_gate_is_closed():
    from .fake_vllm import FakeVllm

    async def leave_a_stream():
        server, gate = FakeVllm(), ConcurGate(controller="fixed:1")
        runner = await server.start()
        client = gate.openai(OpenAI(base_url=server.url, api_key="-", http_client=DefaultHttpxClient(verify=False)))
        async with gate.agent():
            stream = await asyncio.to_thread(lambda: client.chat.completions.create(**ASK, stream=True))
        await runner.cleanup()
        return client, [stream]

    client, held = asyncio.run(leave_a_stream())
    held.clear()
    gc.collect()
    client.close()


class TestTheGatedClient:
    async def test_is_a_copy_with_class_settings_and_connections(self, client, plain, gate):
        assert type(client) is OpenAI
        assert client is not plain
        assert (client.base_url, client.api_key, client._client) == (plain.base_url, "secret", plain._client)
        assert gate.openai(client) is client
        with pytest.raises(TypeError, match="gated by another gate"):
            ConcurGate(controller="none").openai(client)

    async def test_may_be_of_a_subclass(self, gate, vllm):
        url = vllm.url.removesuffix("/v1")
        http_client = DefaultHttpxClient(verify=False)
        azure = AzureOpenAI(azure_endpoint=url, api_key="-", api_version="1", http_client=http_client)
        with azure, pytest.raises(openai.NotFoundError):  # the fake has no Azure deployments
            await in_thread(chat_create, gate.openai(azure))
        assert gate.stats().turns == 1

    async def test_leaves_alone_what_is_no_turn(self, client, gate, vllm):
        models = await in_thread(lambda: [model.id for model in client.models.list()])
        assert models == ["tiny"]
        assert gate.stats().turns == 0
        assert "x-session-id" not in vllm.last.headers
