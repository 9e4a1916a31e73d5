from __future__ import annotations

import pytest
from aiohttp import web

from concur_agents.engines import EngineReading
from concur_agents.errors import MetricsError
from concur_agents.replay.counted import Counters
from concur_agents.replay.server import ReplayError, open_server

from .replay_vllm import FakeVLLM


@pytest.fixture
async def vllm():
    async with FakeVLLM() as server:
        yield server


@pytest.mark.parametrize("suffix", ["", "/", "/v1", "/v1/"])
async def test_a_server_tells_its_model_version_and_cache(vllm, suffix):
    async with open_server(vllm.url + suffix, model_name=None, api_key="k") as server:
        assert server.info.model == "tiny"
        assert server.info.version == "0.32.0"
        assert (server.info.capacity_tokens, server.info.block_size, server.info.max_model_len) == (16384, 16, 8192)
        assert server.returns_ids


async def test_it_notices_a_server_that_returns_no_token_ids(vllm):
    vllm.returns_ids = False

    async with open_server(vllm.url, model_name="tiny", api_key="k") as server:
        assert not server.returns_ids


async def test_an_unknown_model_is_told_with_those_there_are(vllm):
    with pytest.raises(ReplayError, match=r"has no model 'big': it has tiny"):
        async with open_server(vllm.url, model_name="big", api_key="k"):
            pass


async def test_a_server_that_is_not_there_is_told_by_its_address():
    with pytest.raises(ReplayError, match=r"nothing answers at http://127\.0\.0\.1:1: is the server up"):
        async with open_server("http://user:secret@127.0.0.1:1", model_name=None, api_key="k"):
            pass


async def test_a_refused_key_says_where_to_put_it_and_does_not_show_it(vllm):
    vllm.refuse = lambda body: web.json_response({"error": {"message": "bad key sk-secret"}}, status=401)

    with pytest.raises(ReplayError, match="OPENAI_API_KEY") as caught:
        async with open_server(vllm.url, model_name=None, api_key="sk-secret"):
            pass

    assert "sk-secret" not in str(caught.value)


async def test_a_password_in_the_address_is_used_and_not_shown(vllm):
    url = vllm.url.replace("//", "//user:secret@")

    async with open_server(url, model_name=None, api_key="k") as server:
        assert server.info.url == vllm.url
        assert vllm.headers[0]["Authorization"].startswith("Basic ")


async def test_an_address_with_a_query_is_refused():
    with pytest.raises(ValueError, match="query"):
        async with open_server("http://localhost:8000/metrics/x?key=1", model_name=None, api_key="k"):
            pass


async def test_a_server_without_metrics_is_told_by_the_address_of_the_page(vllm):
    vllm.serves_metrics = False

    with pytest.raises(MetricsError, match=r"cannot read http://127.*/metrics: .*404"):
        async with open_server(vllm.url, model_name=None, api_key="k"):
            pass


async def test_a_server_that_stays_busy_is_told_after_the_limit(vllm):
    async with open_server(vllm.url, model_name=None, api_key="k") as server:
        vllm.stuck_running = 3

        with pytest.raises(ReplayError, match=r"3 requests still run or wait .* after 0 s: .* stop its other clients"):
            await server.wait_until_idle(0.0)


async def test_an_idle_server_is_not_waited_for(vllm):
    async with open_server(vllm.url, model_name=None, api_key="k") as server:
        await server.wait_until_idle(0.0)


def reading(engine="0", **values):
    return EngineReading(engine=engine, **values)


def test_counts_are_differences_summed_over_the_engines():
    before = [reading("0", queries=10.0, hits=1.0), reading("1", queries=20.0, hits=2.0)]
    after = [reading("0", queries=15.0, hits=4.0), reading("1", queries=21.0, hits=2.0)]

    counted = Counters.between(before, after)

    assert (counted.queries, counted.hits) == (6.0, 3.0)
    assert counted.prompt_tokens is None


@pytest.mark.parametrize(
    "before",
    [
        [reading("0", queries=10.0), reading("1", queries=99.0)],
        [reading("0", queries=10.0)],
        [reading("0", queries=10.0), reading("1")],
    ],
    ids=["restarted", "appeared", "said nothing"],
)
def test_an_engine_whose_counts_do_not_join_up_makes_them_unknown(before):
    after = [reading("0", queries=15.0), reading("1", queries=21.0)]

    assert Counters.between(before, after).queries is None


async def test_an_error_is_told_in_a_line_without_the_key(vllm):
    async with open_server(vllm.url, model_name=None, api_key="sk-secret") as server:
        assert server.told(ValueError("a\nb sk-secret")) == "ValueError: a b [API key]"
        assert len(server.told(ValueError("x" * 1000))) == 300
