"""`concur doctor` on a real vLLM: what it says is so."""

from __future__ import annotations

import asyncio
import json

import aiohttp
from typer.testing import CliRunner

from concur_agents.cli.app import app
from concur_agents.doctor import examine


async def test_a_real_server_passes_every_check(vllm_server, killable_server):
    report = await examine(vllm_server.url)

    assert report.ok
    levels = {finding.check: finding.level for finding in report.findings}
    assert levels == {
        "version": "ok",
        "model": "ok",
        "metrics": "ok",
        "capacity": "note",  # contexts of 8,192 in a cache of 16,384
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
    facts = report.facts
    assert facts["capacity_tokens"] == killable_server.kv_tokens
    assert facts["max_model_len"] == killable_server.max_model_len
    assert facts["prefix_test"]["cached_tokens"] == facts["prefix_test"]["reusable_tokens"] == 256
    assert facts["prefix_test"]["hits"] == 256
    assert facts["prefix_test"]["foreign_prompt_tokens"] == 0
    assert None not in facts["metrics"].values()


async def test_other_traffic_does_not_hide_that_the_cache_works(vllm_server, model):
    body = {"model": model, "prompt": list(range(100, 200)), "max_tokens": 20, "ignore_eos": True}
    done = asyncio.Event()

    async def others(http):
        while not done.is_set():
            async with http.post(f"{vllm_server.url}/v1/completions", json=body) as answer:
                await answer.read()

    async with aiohttp.ClientSession() as http, asyncio.TaskGroup() as group:
        group.create_task(others(http))
        report = await examine(vllm_server.url)
        done.set()

    assert report.ok
    assert report.facts["prefix_test"]["cached_tokens"] == 256


async def test_the_command_prints_the_findings_and_ends_with_0(vllm_server):
    shown, as_json = [
        await asyncio.to_thread(CliRunner().invoke, app, ["doctor", vllm_server.url, *options])
        for options in ([], ["--json"])
    ]

    assert (shown.exit_code, as_json.exit_code) == (0, 0)
    assert "a gate will work" in shown.stdout
    assert "the cache works" in shown.stdout
    assert json.loads(as_json.stdout)["ok"] is True
