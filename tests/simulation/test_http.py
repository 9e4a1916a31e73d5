"""The server over loopback, with the clients that people use."""

from __future__ import annotations

import asyncio
import io
import json
import resource
from contextlib import asynccontextmanager

import aiohttp
import openai
import pytest
from simulation.api_clients import MODEL, TOOL, make_api

from concur_agents.engines.vllm import read_vllm
from concur_agents.simulation.http import serving

HELLO = [{"role": "user", "content": "Hello"}]


@pytest.fixture
async def server():
    api = make_api(speed=50.0)
    async with serving(api) as url:
        yield api, url


@pytest.fixture
async def client(server):
    async with openai.AsyncOpenAI(base_url=f"{server[1]}/v1", api_key="none", max_retries=0, timeout=20) as client:
        yield client


@asynccontextmanager
async def connected(url, limit=0):
    async with aiohttp.ClientSession(url, connector=aiohttp.TCPConnector(limit=limit)) as session:
        yield session


async def until_running(api, requests):
    """Wait until so many requests run, and none waits; a test that never gets there fails."""
    for _ in range(500):
        counters = api.engine.counters()
        if (counters.num_requests_running, counters.num_requests_waiting) == (requests, 0):
            return
        await asyncio.sleep(0.01)
    raise AssertionError(f"{counters.num_requests_running} requests run, {counters.num_requests_waiting} wait")


# --- the official client ----------------------------------------------------------------------------------------------


async def test_the_openai_client_chats_and_completes(client):
    answer = await client.chat.completions.create(model=MODEL, messages=HELLO, max_tokens=30)
    assert answer.choices[0].message.content.startswith("Filler text")
    assert answer.usage.prompt_tokens_details.cached_tokens == 0
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens
    completion = await client.completions.create(model=MODEL, prompt=[7, 8, 9] * 20, max_tokens=8)
    assert completion.usage.prompt_tokens == 60
    again = await client.completions.create(model=MODEL, prompt=[7, 8, 9] * 20, max_tokens=8)
    assert again.usage.prompt_tokens_details.cached_tokens == 48
    assert again.choices[0].text == completion.choices[0].text
    models = [model async for model in client.models.list()]
    assert [(model.id, model.max_model_len) for model in models] == [(MODEL, 8192)]


async def test_the_openai_client_streams(client):
    usage, text = None, ""
    async for chunk in await client.chat.completions.create(
        model=MODEL, messages=HELLO, max_tokens=60, stream=True, stream_options={"include_usage": True}
    ):
        usage = chunk.usage or usage
        text += "".join(choice.delta.content or "" for choice in chunk.choices)
    whole = await client.chat.completions.create(model=MODEL, messages=HELLO, max_tokens=60)
    assert text == whole.choices[0].message.content
    assert usage.completion_tokens == whole.usage.completion_tokens
    async with client.chat.completions.stream(model=MODEL, messages=HELLO) as stream:
        assert (await stream.get_final_completion()).choices[0].message.content.startswith(text)
    pieces = [
        piece.choices[0].text
        async for piece in await client.completions.create(model=MODEL, prompt="Hi", max_tokens=40, stream=True)
    ]
    assert "".join(pieces).startswith(" Filler text")


async def test_the_openai_client_calls_tools(client):
    strict = {**TOOL, "function": {**TOOL["function"], "strict": True}}  # the helper of older clients takes no other
    async with client.chat.completions.stream(model=MODEL, messages=HELLO, tools=[strict]) as stream:
        streamed = (await stream.get_final_completion()).choices[0]
    whole = (await client.chat.completions.create(model=MODEL, messages=HELLO, tools=[TOOL])).choices[0]
    for choice in (streamed, whole):
        (call,) = choice.message.tool_calls
        assert choice.finish_reason == "tool_calls"
        assert call.function.name == "get_weather"
        assert set(json.loads(call.function.arguments)) == {"city", "days"}


async def test_the_openai_client_raises_its_own_errors(client):
    with pytest.raises(openai.NotFoundError) as raised:
        await client.chat.completions.create(model="other", messages=HELLO)
    assert raised.value.body["type"] == "NotFoundError"
    with pytest.raises(openai.BadRequestError, match="maximum context length is 8192 tokens"):
        await client.completions.create(model=MODEL, prompt=[1] * 9000)
    with pytest.raises(openai.BadRequestError, match="pattern") as raised:
        await client.chat.completions.create(
            model=MODEL,
            messages=HELLO,
            tools=[{"type": "function", "function": {"name": "f", "parameters": {"pattern": "a"}}}],
        )
    assert raised.value.param == "tools"
    with pytest.raises(openai.NotFoundError):
        await client.embeddings.create(model=MODEL, input="a")


async def test_chat_openai_talks_calls_tools_and_streams(server):
    from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
    from langchain_openai import ChatOpenAI

    model = ChatOpenAI(model=MODEL, base_url=f"{server[1]}/v1", api_key="none", stream_usage=True, max_retries=0)
    with_tools = model.bind_tools([TOOL])
    messages = [HumanMessage("What is the weather? " * 20)]
    hits = []
    while (answer := await with_tools.ainvoke(messages)).tool_calls:
        hits.append(answer.usage_metadata["input_token_details"]["cache_read"])
        messages += [answer, *(ToolMessage("Rain.", tool_call_id=call["id"]) for call in answer.tool_calls)]
    assert len(hits) == 3
    assert hits[0] == 0
    assert hits[2] > hits[1] > 100
    assert isinstance(answer, AIMessage)
    assert answer.content.startswith("Filler text")
    whole = None
    async for chunk in model.astream(messages):
        whole = chunk if whole is None else whole + chunk
    assert whole.content == (await model.ainvoke(messages)).content
    assert whole.usage_metadata["output_tokens"] > 0
    await model.root_async_client.close()


# --- plain HTTP -------------------------------------------------------------------------------------------------------


async def test_pages_and_statuses(server):
    async with connected(server[1]) as session:
        for method, path, status in (
            ("GET", "/health", 200),
            ("POST", "/ping", 200),
            ("GET", "/version?full=1", 200),
            ("GET", "/metrics", 200),
            ("GET", "/nothing", 404),
            ("GET", "/v1/chat/completions", 405),
            ("DELETE", "/metrics", 405),
        ):
            async with session.request(method, path) as response:
                assert response.status == status, path
        async with session.post("/v1/completions", data=b"{") as response:
            assert (response.status, response.content_type) == (400, "application/json")
            assert (await response.json())["error"]["code"] == 400
        async with session.post("/v1/completions", data=io.BytesIO(b"x" * 65 * 2**20)) as response:
            assert response.status == 413
        body = {"model": MODEL, "prompt": "a", "stream": True}
        async with session.post("/v1/completions", json=body) as response:
            assert response.headers["Content-Type"].startswith("text/event-stream")
            assert (await response.read()).endswith(b"data: [DONE]\n\n")


@pytest.mark.parametrize("stream", [False, True])
async def test_a_client_that_goes_away_frees_the_engine(server, stream):
    api, url = server
    body = {"model": MODEL, "prompt": "a", "max_tokens": 8000, "ignore_eos": True, "stream": stream}
    async with connected(url) as session:
        tasks = [asyncio.create_task(session.post("/v1/completions", json=body)) for _ in range(5)]
        await until_running(api, 5)
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        for task in tasks:
            if not task.cancelled():  # a stream has begun
                task.result().close()
    await until_running(api, 0)
    assert api.engine.counters().request_success == 0


@pytest.mark.parametrize("stream", [False, True])
async def test_the_end_of_the_server_cuts_off_what_is_under_way(stream):
    api = make_api()
    body = {"model": MODEL, "prompt": "a", "max_tokens": 8000, "ignore_eos": True, "stream": stream}
    async with aiohttp.ClientSession() as session:
        before = asyncio.all_tasks()

        async def read(url):
            async with session.post(f"{url}/v1/completions", json=body) as response:
                await response.read()

        async with serving(api) as url:
            task = asyncio.create_task(read(url))
            await until_running(api, 1)
        with pytest.raises(aiohttp.ClientError):
            await task
        assert asyncio.all_tasks() == before
        with pytest.raises(aiohttp.ClientConnectionError):
            await session.get(f"{url}/health")
    await until_running(api, 0)


async def test_a_port_that_is_taken_is_an_os_error(server):
    port = int(server[1].rpartition(":")[2])
    with pytest.raises(OSError, match="in use"):
        async with serving(make_api(), port=port):
            pass


# --- two thousand -----------------------------------------------------------------------------------------------------

CLIENTS = 2000


@pytest.fixture
def many_files():
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = 2 * CLIENTS + 200
    if hard != resource.RLIM_INFINITY and hard < needed:
        pytest.skip(f"{needed} open files are needed, {hard} are allowed")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, needed), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def test_two_thousand_clients_at_once_lose_no_request_and_no_token(many_files):
    api = make_api(blocks=20_001, speed=20.0, step=0.02)
    ready = asyncio.Event()
    connected_now = 0

    async def agent(session, number):
        nonlocal connected_now
        async with session.get("/health") as response:  # its connection stays its own until all have one
            assert response.status == 200
            connected_now += 1
            if connected_now == CLIENTS:
                ready.set()
            await ready.wait()
        body = {
            "model": MODEL,
            "messages": [{"role": "user", "content": f"Client {number} says: " + "same words " * (number % 50)}],
            "max_tokens": 10 + number % 40,
            "stream": number % 2 == 0,
        }
        if body["stream"]:
            body["stream_options"] = {"include_usage": True}
        async with session.post("/v1/chat/completions", json=body) as response:
            assert response.status == 200
            got = await response.read()
        if not body["stream"]:
            return json.loads(got)["usage"]
        events = got.split(b"\n\n")
        assert events[-2:] == [b"data: [DONE]", b""]
        return json.loads(events[-3][6:])["usage"]

    async with serving(api) as url, connected(url) as session:
        used = await asyncio.gather(*(agent(session, number) for number in range(CLIENTS)))
        async with session.get("/metrics") as response:
            (reading,) = read_vllm(await response.text())
    counters = api.engine.counters()
    assert counters.request_success == CLIENTS
    assert sum(one["completion_tokens"] for one in used) == counters.generation_tokens == reading.generation_tokens
    assert sum(one["prompt_tokens"] for one in used) == counters.prompt_tokens == reading.prompt_tokens
    cached = sum(one["prompt_tokens_details"]["cached_tokens"] for one in used)
    assert cached == counters.prompt_tokens_cached == reading.prompt_tokens - reading.computed_prompt_tokens
    assert (counters.num_requests_running, counters.num_requests_waiting) == (0, 0)
