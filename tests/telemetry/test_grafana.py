"""The dashboard and the alerts, asked of a real Prometheus that scrapes an engine and its gate under load.

In real time, some ten seconds: Prometheus has no other.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import json
import re
import shutil
import socket
import subprocess
import sys
from importlib.resources import files
from pathlib import Path

import aiohttp
import openai
import pytest
from prometheus_client import CollectorRegistry, start_http_server

from concur_agents import ConcurGate
from concur_agents.simulation.api import OpenAIApi
from concur_agents.simulation.http import serving
from concur_agents.simulation.profile import EngineProfile
from concur_agents.simulation.running import RunningEngine
from concur_agents.telemetry import export_prometheus

PROMETHEUS, PROMTOOL = shutil.which("prometheus"), shutil.which("promtool")
SHIPPED = files("concur_agents.telemetry") / "grafana"
DASHBOARD = json.loads((SHIPPED / "concur.json").read_text(encoding="utf-8"))
SCRIPT = Path(__file__).parents[2] / "scripts" / "grafana_dashboard.py"

# A cache of 20,000 tokens for 16 agents of up to 4,000: they have to be paused, and lose some of what they had.
PROFILE = EngineProfile(
    name="tiny",
    blocks=1251,
    max_model_len=8000,
    step_time={"kind": "linear", "step": 0.002, "token": 1e-5, "request": 1e-4},
)
AGENTS, TURNS = 16, 400
READY_WITHIN_S = 20.0
RANGE_S = 6
NEVER_HERE = {"concur_agents_gave_up_total"}
"""Nobody gives up under this load."""

needs_prometheus = pytest.mark.skipif(PROMETHEUS is None, reason="needs Prometheus, as of Debian's package prometheus")
needs_promtool = pytest.mark.skipif(PROMTOOL is None, reason="needs promtool, of Debian's package prometheus")


def expressions():
    """Everything that the dashboard asks, as Grafana would fill it in."""
    for panel in DASHBOARD["panels"]:
        for target in panel["targets"]:
            filled = target["expr"].replace("$__rate_interval", f"{RANGE_S}s")
            yield panel["title"], filled.replace("$gate", ".+").replace("$server", ".+")


@contextlib.contextmanager
def prometheus(folder, *targets):
    """A Prometheus that scrapes each target once a second; yields its address."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    config = {
        "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
        "rule_files": [str(SHIPPED / "alerts.yml")],
        "scrape_configs": [{"job_name": "test", "static_configs": [{"targets": list(targets)}]}],
    }
    (folder / "prometheus.yml").write_text(json.dumps(config))  # JSON is YAML
    command = [PROMETHEUS, f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/data"]
    log = (folder / "log").open("w")
    with (
        log,
        subprocess.Popen(
            [*command, f"--web.listen-address=127.0.0.1:{port}"], stdout=log, stderr=subprocess.STDOUT
        ) as server,
    ):
        try:
            yield f"http://127.0.0.1:{port}"
        finally:
            server.terminate()


@contextlib.contextmanager
def shown(registry):
    """A registry's page on loopback, in a thread of its own, as a program would show it."""
    server, thread = start_http_server(0, addr="127.0.0.1", registry=registry)
    try:
        yield f"127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


async def converse(gate, client, number):
    messages = [{"role": "user", "content": f"Agent {number}. " + "Read this. " * 300}]
    async with gate.agent(f"agent {number}", kind=f"kind {number % 2}"):
        for turn in range(TURNS):
            answer = await client.chat.completions.create(
                model="tiny", messages=messages, max_tokens=30, extra_body={"ignore_eos": True}
            )
            messages.append({"role": "assistant", "content": answer.choices[0].message.content})
            messages.append({"role": "user", "content": f"And then? {turn} " + "More. " * 40})
            if len(messages) > 40:
                return


async def forever(gate, client, number):
    while True:
        await converse(gate, client, number)


@needs_prometheus
async def test_every_expression_of_the_dashboard_gives_data_under_load(tmp_path):
    api = OpenAIApi(RunningEngine(PROFILE.engine()), model="tiny", version="0.32.0")
    registry = CollectorRegistry()
    async with contextlib.AsyncExitStack() as stack:
        url = await stack.enter_async_context(serving(api))
        gate = await stack.enter_async_context(ConcurGate(url, poll_interval_s=0.25, max_agents=12))
        client = await stack.enter_async_context(
            openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="-", max_retries=0, timeout=60)
        )
        stack.enter_context(export_prometheus(gate, registry=registry))
        page = stack.enter_context(shown(registry))
        server = stack.enter_context(prometheus(tmp_path, page, url.removeprefix("http://")))
        http = await stack.enter_async_context(aiohttp.ClientSession(server))
        gated = gate.openai(client)
        agents = [asyncio.ensure_future(forever(gate, gated, number)) for number in range(AGENTS)]
        try:
            without = await until_all_have_data(http)
            async with http.get("/api/v1/rules") as answer:
                groups = (await answer.json())["data"]["groups"]
            values = {name: await labels(http, query) for name, query in (("gate", "gate"), ("server", "instance"))}
        finally:
            for agent in agents:
                agent.cancel()
            await asyncio.gather(*agents, return_exceptions=True)
    assert without == []
    assert [rule["health"] for group in groups for rule in group["rules"]] == ["ok"] * 8
    host = url.removeprefix("http://")
    assert values["gate"] == [host]
    assert host in values["server"]


async def until_all_have_data(http):
    """Ask until every expression has numbers; what has none in time."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + READY_WITHIN_S
    while True:
        await asyncio.sleep(1)
        with contextlib.suppress(aiohttp.ClientConnectionError):  # it is still starting
            without = [(title, query) for title, query in expressions() if not await has_data(http, query)]
            without = [one for one in without if not any(name in one[1] for name in NEVER_HERE)]
            if not without or loop.time() > deadline:
                return without


async def has_data(http, query):
    async with http.get("/api/v1/query", params={"query": query}) as answer:
        said = await answer.json()
    if answer.status == 503:
        return False  # not ready yet
    assert said["status"] == "success", (query, said)
    return any(sample["value"][1] != "NaN" for sample in said["data"]["result"])


async def labels(http, name):
    async with http.get(f"/api/v1/label/{name}/values") as answer:
        return (await answer.json())["data"]


def test_the_dashboard_is_what_its_script_writes():
    spec = importlib.util.spec_from_file_location("grafana_dashboard", SCRIPT)
    script = sys.modules["grafana_dashboard"] = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(script)
    finally:
        del sys.modules["grafana_dashboard"]
    assert (SHIPPED / "concur.json").read_text(encoding="utf-8") == script.text()


async def test_the_dashboard_asks_for_nothing_that_nobody_says():
    """Its gate's metrics are the gate's; its server's are those of the embedded engine, or vLLM's older names."""
    registry = CollectorRegistry()
    with export_prometheus(ConcurGate(controller="fixed:1"), registry=registry):
        ours = {family.name for family in registry.collect()}
    api = OpenAIApi(RunningEngine(PROFILE.engine()), model="tiny", version="0.32.0")
    page = (await api.handle("GET", "/metrics")).body.decode()
    said = ours | set(re.findall(r"^# TYPE (\S+)", page, re.MULTILINE))
    asked = {name for _, query in expressions() for name in re.findall(r"(?:concur_|vllm:)\w+", query)}
    older = {name for name in asked if name.startswith("vllm:gpu_")}
    unknown = {re.sub(r"_(total|sum|count|bucket)$", "", name) for name in asked - older} - {
        re.sub(r"_total$", "", name) for name in said
    }
    assert unknown == set()
    assert len(older) == 3


def test_the_panels_lie_side_by_side_and_none_on_another():
    taken = [
        (x, y)
        for panel in DASHBOARD["panels"]
        for x in range(panel["gridPos"]["x"], panel["gridPos"]["x"] + panel["gridPos"]["w"])
        for y in range(panel["gridPos"]["y"], panel["gridPos"]["y"] + panel["gridPos"]["h"])
    ]
    assert len(taken) == len(set(taken))
    assert max(x for x, _ in taken) == 23
    assert all(panel["datasource"]["uid"] == "${datasource}" for panel in DASHBOARD["panels"])


@needs_promtool
@pytest.mark.parametrize("what", ["check", "test"])
def test_promtool_accepts_the_alerts_and_they_fire_when_they_should(what):
    target = SHIPPED / "alerts.yml" if what == "check" else Path(__file__).with_name("alerts_test.yml")
    done = subprocess.run([PROMTOOL, what, "rules", str(target)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
