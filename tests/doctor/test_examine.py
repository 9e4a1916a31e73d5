"""A server, good or odd, is examined over loopback: whatever it does is a finding, and no secret is in it."""

from __future__ import annotations

import asyncio
import json

import pytest
from aiohttp import web
from doctor.odd_servers import KEY, OddServer, error, setting, with_engines, without_details

import concur_agents.doctor.asking as asking_module
from concur_agents.doctor import examine

NO_VALUES = "# HELP vllm:cache_config_info a\n# TYPE vllm:cache_config_info gauge\n"


def levels(report):
    return {finding.check: finding.level for finding in report.findings}


def one(report, check):
    (finding,) = [finding for finding in report.findings if finding.check == check]
    return finding


class TestAGoodServer:
    async def test_every_check_is_made_and_none_complains(self, server):
        report = await examine(server.url)

        assert report.ok
        assert levels(report) == {
            "version": "ok",
            "model": "ok",
            "metrics": "ok",
            "capacity": "ok",
            "scheduler": "note",
            "prefix-caching": "ok",
            "prefix-test": "ok",
            "cached-tokens": "ok",
            "stream-usage": "note",
            "polling": "ok",
            "restarts": "ok",
            "counters": "ok",
            "clock": "ok",
        }
        assert report.facts["capacity_tokens"] == server.api.engine.engine.capacity_tokens
        assert report.facts["prefix_test"] == {
            "prompt_tokens": 257,
            "reusable_tokens": 256,
            "cached_tokens": 256,
            "hits": 256,
            "foreign_prompt_tokens": 0,
            "streamed_usage": False,
        }
        assert report.facts["polling"]["looks"] == 10

    async def test_two_requests_of_one_token_with_a_prompt_that_no_cache_knows(self, server):
        await examine(server.url)
        await examine(server.url)

        first, second, third, fourth = server.completions()
        assert first["prompt"] == second["prompt"] != third["prompt"] == fourth["prompt"]
        assert {body["max_tokens"] for body in server.completions()} == {1}
        assert "stream_options" not in first

    async def test_without_requests_it_only_reads(self, server):
        report = await examine(server.url, requests=False)

        assert report.ok
        assert one(report, "prefix-test").level == "note"
        assert server.completions() == []
        assert report.facts["prefix_test"] is None

    @pytest.mark.parametrize("end", ["/", "/v1", "/metrics", "/?token=hunter2"])
    async def test_the_address_may_be_written_as_for_a_gate(self, server, end):
        report = await examine(server.url + end)

        assert report.ok
        assert report.url == server.url

    async def test_a_report_is_plain_json(self, server):
        report = (await examine(server.url)).as_json()

        assert json.loads(json.dumps(report))["ok"] is True

    async def test_blocks_larger_than_the_prompt_get_a_larger_prompt(self, server):
        server.changed["/metrics"] = lambda page: page.replace('block_size="16"', 'block_size="784"')

        report = await examine(server.url)

        assert report.facts["prefix_test"]["prompt_tokens"] == 4 * 784 + 1
        assert report.facts["prefix_test"]["reusable_tokens"] == 4 * 784


class TestWhatIsReported:
    async def test_without_details_the_counters_prove_that_the_cache_works(self, server):
        server.changed["/v1/completions"] = without_details

        report = await examine(server.url)

        assert report.ok
        assert "256 more hits" in one(report, "prefix-test").says
        cached = one(report, "cached-tokens")
        assert (cached.level, cached.do) == ("warn", "start vLLM with --enable-prompt-tokens-details")

    async def test_without_details_other_traffic_blurs_it(self, server):
        server.changed["/v1/completions"] = without_details
        pages = iter(range(1000))

        def change(page):
            return setting("vllm:prompt_tokens_total", 5000 * next(pages))(page)

        server.changed["/metrics"] = change

        finding = one(await examine(server.url), "prefix-test")

        assert finding.level == "warn"
        assert "prompt tokens of others came in between" in finding.says

    async def test_a_cache_that_gives_nothing_back_is_a_failure(self, server):
        server.changed["/v1/completions"] = lambda text: text.replace('"cached_tokens":256', '"cached_tokens":0')

        report = await examine(server.url)

        assert not report.ok
        assert one(report, "prefix-test").level == "fail"
        assert "does not work" in one(report, "prefix-test").says

    async def test_prefix_caching_that_is_off_is_told_by_its_flag(self, server):
        server.changed["/metrics"] = lambda page: page.replace(
            'enable_prefix_caching="True"', 'enable_prefix_caching="False"'
        )

        report = await examine(server.url)

        assert not report.ok
        assert one(report, "prefix-caching").do == "start vLLM with --enable-prefix-caching"
        assert "prefix-test" not in levels(report)

    async def test_streams_that_tell_usage_unasked_are_seen(self, server):
        def force(text):
            return text.replace("data: [DONE]", 'data: {"choices":[],"usage":{"prompt_tokens":257}}\n\ndata: [DONE]')

        server.changed["/v1/completions"] = force

        assert one(await examine(server.url), "stream-usage").level == "ok"

    async def test_development_mode_shows_the_scheduler(self, server):
        config = {"vllm_config": {"scheduler_config": {"max_num_seqs": 128, "policy": "priority"}}}
        server.odd["/server_info"] = lambda request: web.json_response(config)

        report = await examine(server.url)

        assert one(report, "development-mode").level == "note"
        finding = one(report, "scheduler")
        assert finding.level == "ok"
        assert "at most 128 requests run at once, policy priority" in finding.says

    async def test_counters_that_do_not_count_our_requests_are_another_servers(self, server):
        first = await server.api.handle("GET", "/metrics")
        server.odd["/metrics"] = lambda request: web.Response(body=first.body)

        report = await examine(server.url)

        assert one(report, "counters").level == "fail"
        assert "514 prompt tokens were served, but the page counted 0" in one(report, "counters").says

    async def test_counters_that_go_back_and_forth_are_several_servers(self, server):
        pages = iter(range(1000))

        def change(page):
            return setting("vllm:prompt_tokens_total", 5000.0 if next(pages) % 2 else 7000.0)(page)

        server.changed["/metrics"] = change

        finding = one(await examine(server.url, requests=False), "restarts")

        assert finding.level == "fail"
        assert "load balancer" in finding.do

    async def test_a_clock_that_is_an_hour_behind_is_a_note(self, server):
        server.headers["Date"] = "Sun, 06 Nov 1994 08:49:37 GMT"

        finding = one(await examine(server.url), "clock")

        assert finding.level == "note"
        assert "behind this machine's" in finding.says


class TestSeveralEngines:
    async def test_the_prompt_is_repeated_until_an_engine_had_it_twice(self, server):
        server.changed["/metrics"] = with_engines(3)

        report = await examine(server.url)

        assert report.ok
        assert one(report, "engines").level == "note"
        assert len(server.completions()) == 4
        asked = [headers["X-data-parallel-rank"] for path, headers, _ in server.seen if path == "/v1/completions"]
        assert asked == ["0"] * 4
        assert len(report.facts["engines"]) == 3
        assert report.facts["capacity_tokens"] == 3 * report.facts["engines"][0]["capacity_tokens"]

    async def test_of_very_many_engines_none_need_have_had_it_twice(self, server):
        server.changed["/metrics"] = with_engines(20)
        server.changed["/v1/completions"] = lambda text: text.replace('"cached_tokens":256', '"cached_tokens":0')

        report = await examine(server.url)

        assert one(report, "prefix-test").level == "warn"
        assert len(server.completions()) == 9

    async def test_one_that_sleeps_is_a_failure_and_nothing_is_sent(self, server):
        server.changed["/metrics"] = lambda page: page.replace('sleep_state="awake"} 1.0', 'sleep_state="awake"} 0.0')

        report = await examine(server.url)

        assert not report.ok
        assert one(report, "asleep").do == f"wake it: curl -X POST {server.url}/wake_up"
        assert server.completions() == []


class TestServersThatDoNotServe:
    async def test_no_server(self):
        async with OddServer() as gone:
            url = gone.url

        (finding,) = (await examine(url)).findings

        assert (finding.check, finding.level) == ("server", "fail")
        assert "nothing answers" in finding.says

    async def test_no_such_host(self):
        (finding,) = (await examine("http://no-such-host.invalid:8000")).findings

        assert (finding.check, finding.level) == ("server", "fail")

    async def test_tls_where_there_is_none(self, server):
        (finding,) = (await examine(server.url.replace("http", "https"))).findings

        assert finding.level == "fail"
        assert "no secure connection" in finding.says

    async def test_a_web_page(self, server):
        for path in ("/metrics", "/version", "/v1/models"):
            server.odd[path] = lambda request: web.Response(text="<html>hello</html>", content_type="text/html")

        (finding,) = (await examine(server.url)).findings

        assert (finding.check, finding.level) == ("metrics", "fail")
        assert "HTML" in finding.says

    async def test_a_server_without_metrics_is_told_which_flag_does_it(self, server):
        server.odd["/metrics"] = lambda request: web.Response(
            text="# HELP python_info a\n# TYPE python_info gauge\npython_info 1.0\n"
        )

        finding = one(await examine(server.url), "metrics")

        assert finding.level == "fail"
        assert "--disable-log-stats" in finding.do

    async def test_an_openai_server_that_is_no_vllm(self, server):
        server.refuse("/metrics", 404)
        server.refuse("/version", 404)

        finding = one(await examine(server.url), "metrics")

        assert finding.level == "fail"
        assert "no vLLM" in finding.do

    @pytest.mark.parametrize("status", [401, 403])
    async def test_metrics_behind_a_login(self, server, status):
        server.refuse("/metrics", status)
        server.refuse("/version", status)

        finding = one(await examine(server.url), "metrics")

        assert str(status) in finding.says
        assert finding.level == "fail"

    async def test_a_key_that_is_needed(self, server):
        server.key = KEY
        missing = await examine(server.url)
        wrong = await examine(server.url, api_key="sk-another-secret")
        right = await examine(server.url, api_key=KEY)

        for report in (missing, wrong):
            assert not report.ok
            assert "OPENAI_API_KEY" in one(report, "api-key").do
        assert right.ok
        assert "sk-another-secret" not in json.dumps(wrong.as_json())

    async def test_a_vllm_before_its_first_step_is_woken_by_the_request(self, server):
        server.changed["/metrics"] = lambda page: page if server.completions() else NO_VALUES

        assert not (await examine(server.url, requests=False)).ok
        report = await examine(server.url)

        assert report.ok
        assert levels(report)["prefix-test"] == "ok"

    async def test_a_vllm_whose_page_stays_without_values_has_its_log_stats_off(self, server):
        server.changed["/metrics"] = lambda page: (
            "# HELP vllm:cache_config_info a\n# TYPE vllm:cache_config_info gauge\n"
        )

        finding = one(await examine(server.url), "metrics")

        assert (finding.level, finding.do) == ("fail", "start vLLM without --disable-log-stats")
        assert len(server.completions()) == 2

    async def test_a_vllm_before_its_first_step_that_refuses_is_told_as_such(self, server):
        server.changed["/metrics"] = lambda page: (
            "# HELP vllm:cache_config_info a\n# TYPE vllm:cache_config_info gauge\n"
        )
        server.refuse("/v1/completions", 503)

        report = await examine(server.url)

        assert "not taken a step" in one(report, "metrics").says

    @pytest.mark.parametrize(("status", "level"), [(400, "warn"), (404, "warn"), (429, "warn"), (503, "warn")])
    async def test_a_completion_that_is_refused_is_told_with_the_servers_words(self, server, status, level):
        server.refuse("/v1/completions", status, "the model 'tiny'\nhas \x1b[31mno\x1b[0m time")

        finding = one(await examine(server.url), "prefix-test")

        assert finding.level == level
        assert f"HTTP status {status}" in finding.says
        assert finding.says.isprintable()

    async def test_an_error_in_the_midst_of_a_stream_is_told(self, server):
        text = 'data: {"error": {"message": "engine died", "code": 500}}\n\ndata: [DONE]\n\n'
        server.odd["/v1/completions"] = lambda request: web.Response(text=text, content_type="text/event-stream")

        assert "engine died" in one(await examine(server.url), "prefix-test").says

    async def test_a_server_without_models(self, server):
        server.odd["/v1/models"] = lambda request: web.json_response({"object": "list", "data": []})

        report = await examine(server.url)

        assert levels(report)["model"] == levels(report)["prefix-test"] == "warn"

    async def test_a_request_that_is_never_answered(self, server, monkeypatch):
        monkeypatch.setattr(asking_module, "REQUEST_LIMIT_S", 0.01)
        server.odd["/v1/completions"] = lambda request: asyncio.Event().wait()

        finding = one(await examine(server.url), "prefix-test")

        assert finding.level == "warn"
        assert "no answer within" in finding.says

    @pytest.mark.parametrize(
        "body", ["", "[]", "null", '{"data": 3}', '{"data": [3, {"id": 4}, null]}', "[" * 100_000, '{"version": [1]}']
    )
    async def test_nonsense_is_no_traceback(self, server, body):
        for path in ("/version", "/v1/models", "/server_info"):
            server.odd[path] = lambda request: web.Response(text=body)

        assert levels(await examine(server.url))["model"] == "warn"

    async def test_nonsense_as_a_completion_is_no_traceback(self, server):
        server.odd["/v1/completions"] = lambda request: web.Response(text='{"usage": {"prompt_tokens_details": 3}}')

        assert levels(await examine(server.url))["cached-tokens"] == "warn"

    async def test_an_endless_answer_is_cut_off(self, server):
        async def endless(request):
            response = web.StreamResponse()
            await response.prepare(request)
            while True:
                await response.write(b" " * 65536)

        server.odd["/v1/models"] = endless

        assert "too large" in one(await examine(server.url), "model").says

    async def test_a_redirect_is_not_followed_with_the_key(self, server):
        server.odd["/v1/models"] = lambda request: web.Response(status=302, headers={"Location": "/elsewhere"})

        report = await examine(server.url, api_key=KEY)

        assert "HTTP status 302" in one(report, "model").says
        assert "/elsewhere" not in [path for path, _, _ in server.seen]


class TestSecrets:
    async def test_key_password_and_query_are_sent_and_never_shown(self, server):
        url = server.url.replace("//", "//me:hunter%32secret@") + "?token=query-secret"
        server.odd["/v1/completions"] = lambda request: error(
            400, f"{dict(request.headers)} {request.url} {KEY} hunter2secret query-secret"
        )

        report = await examine(url, api_key=KEY)

        sent = {path: headers["Authorization"] for path, headers, _ in server.seen if "Authorization" in headers}
        assert sent["/v1/models"] == f"Bearer {KEY}"
        assert sent["/metrics"] == sent["/version"]
        assert sent["/metrics"].startswith("Basic ")
        shown = json.dumps(report.as_json())
        assert "***" in shown
        for secret in (KEY, "hunter", "query-secret", sent["/metrics"].removeprefix("Basic ")):
            assert secret not in shown

    async def test_the_key_goes_to_the_api_alone(self, server):
        await examine(server.url, api_key=KEY)

        with_key = {path for path, headers, _ in server.seen if KEY in headers.get("Authorization", "")}
        assert with_key == {"/v1/models", "/v1/completions"}

    async def test_a_wrong_address_shows_no_password(self):
        with pytest.raises(ValueError, match="for example") as caught:
            await examine("ftp://me:hunter2@h")
        assert "hunter2" not in str(caught.value)
