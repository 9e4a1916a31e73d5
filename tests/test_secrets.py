"""A secret that passes through a gated run is told nowhere: no log, metric, span, recording, report or error.

Each place where people put secrets has a canary of its own, so that a leak says where it came from. The server is as
indiscreet as some are: its errors repeat what it was sent. What the OpenAI client raises and logs is its own affair.
"""

from __future__ import annotations

import asyncio
import base64
import contextvars
import json
import logging
import re
import traceback
from contextlib import asynccontextmanager

import openai
import pytest
from aiohttp import web
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from prometheus_client import CollectorRegistry, generate_latest
from pydantic import ValidationError
from simulation.api_clients import MODEL, make_api
from typer.testing import CliRunner

from concur_agents import AdmissionTimeout, ConcurGate, GateConfig, MetricsError
from concur_agents.cli.app import app
from concur_agents.errors import ConcurError
from concur_agents.telemetry import export_prometheus, log_agents, trace_opentelemetry

KEY, HEADER, USER, QUERY, PROMPT, TOOL, VARIABLE = (
    f"canary-{where}-3f9c" for where in ("key", "header", "user", "query", "prompt", "tool", "variable")
)
CANARY = re.compile("canary|" + base64.b64encode(f"me:{USER}".encode()).decode()[4:-4])
THEIR_LOGS = {"openai", "httpx", "httpx2", "httpcore", "httpcore2"}


def leaks(*texts):
    """Where a canary is told, with a little of what is around it."""
    return [text[max(0, at.start() - 60) : at.end() + 30] for text in texts for at in CANARY.finditer(str(text))]


class Server:
    """The embedded engine, behind something that repeats what it was sent when it refuses it."""

    def __init__(self):
        self.api = make_api(speed=100.0)
        self.refuse = {}
        self.seen = []
        self.url = ""

    async def answer(self, request):
        body = await request.read()
        sent = f"{request.path_qs} {dict(request.headers)} {body.decode()}"
        self.seen.append(sent)
        status = self.refuse.get(request.path)
        if status is not None:
            reason = f"refused: {KEY}"
            return web.json_response({"error": {"message": sent, "type": reason}}, status=status, reason=reason)
        got = await self.api.handle(request.method, request.path, body)
        if not isinstance(got.body, bytes):
            got = await self.api.handle(request.method, request.path, json.dumps(json.loads(body)).encode())
        return web.Response(status=got.status, body=got.body, headers={"Content-Type": got.content_type})

    @property
    def secret_url(self):
        return self.url.replace("http://", f"http://me:{USER}@") + f"/v1?token={QUERY}"


@asynccontextmanager
async def listening():
    server = Server()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", server.answer)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    server.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield server
    finally:
        await runner.cleanup()


@pytest.fixture
async def server():
    async with listening() as server:
        yield server


@pytest.fixture
def logged(caplog, monkeypatch):
    """All that was logged, by anyone but the OpenAI client: messages, arguments, extra fields, tracebacks."""
    caplog.set_level(logging.DEBUG)
    for name in ("HF_TOKEN", "OPENAI_ORG_ID", "SOME_PASSWORD"):
        monkeypatch.setenv(name, VARIABLE)

    def texts():
        for record in caplog.records:
            if record.name.partition(".")[0] not in THEIR_LOGS:
                yield repr(vars(record))
                yield caplog.handler.format(record)

    return texts


class Telemetry:
    """All that a gate can be told to tell."""

    def __init__(self, gate, path):
        self.registry = CollectorRegistry()
        self._spans = InMemorySpanExporter()
        tracers = TracerProvider(shutdown_on_exit=False)
        tracers.add_span_processor(SimpleSpanProcessor(self._spans))
        self._metrics = InMemoryMetricReader()
        meters = MeterProvider([self._metrics], shutdown_on_exit=False)
        self.path = path
        export_prometheus(gate, registry=self.registry)
        trace_opentelemetry(gate, tracer_provider=tracers, meter_provider=meters)
        log_agents(gate)
        self.recording = gate.record(path)

    def texts(self):
        self.recording.close()
        yield generate_latest(self.registry).decode()
        yield from (span.to_json() for span in self._spans.get_finished_spans())
        yield self._metrics.get_metrics_data().to_json()
        yield self.path.read_text()

    def count(self):
        return len(self._spans.get_finished_spans())


def told_by(gate):
    """What the gate says of itself, however it is asked."""
    for thing in (gate, gate.config, gate.stats(), gate.history(), gate.waiting(), gate.snapshot, gate.sync):
        yield repr(thing)
        yield str(thing)
    for part in vars(gate).values():
        yield repr(part)
    yield from (str(decision) for decision in gate.history())


def told_by_error(error):
    """What is printed of an error that nobody catches, but for what the OpenAI client says in it."""
    yield "".join(traceback.format_exception(error)) if isinstance(error, ConcurError | ValueError) else ""


async def one_agent(gate, client, seen):
    messages = [{"role": "user", "content": f"The password is {PROMPT}."}]
    async with gate.agent() as agent:
        for _ in range(2):
            answer = await client.chat.completions.create(
                model=MODEL, messages=messages, max_tokens=20, extra_body={"ignore_eos": True}
            )
            seen.extend([repr(agent), str(agent), repr(agent.place)])
            messages.append({"role": "assistant", "content": answer.choices[0].message.content})
            messages.append({"role": "user", "content": f"The tool says {TOOL}."})
        async with agent.turn() as turn:
            seen.append(repr(turn))
        raise RuntimeError(f"the tool failed: {TOOL}")


def openai_client(server):
    return openai.AsyncOpenAI(
        base_url=f"{server.url}/v1",
        api_key=KEY,
        default_headers={"X-Password": HEADER},
        default_query={"token": QUERY},
        max_retries=1,
        timeout=20,
    )


@pytest.mark.parametrize("refused", [None, 401, 429, 500])
async def test_a_gated_run_tells_no_secret(server, logged, tmp_path, capsys, refused):
    said = []
    gate = ConcurGate(server.secret_url, max_agents=2, poll_interval_s=0.25)
    telemetry = Telemetry(gate, tmp_path / "run.jsonl")
    async with openai_client(server) as client, gate:
        with gate.dashboard():
            await asyncio.sleep(0)
        if refused is not None:
            server.refuse = {"/v1/chat/completions": refused, "/metrics": refused}
        agents = [asyncio.ensure_future(one_agent(gate, gate.openai(client), said)) for _ in range(3)]
        await asyncio.sleep(0)
        said.extend(told_by(gate))
        ended = await asyncio.gather(*agents, return_exceptions=True)
        said.extend(told_by(gate))
    assert {type(error) for error in ended} == {
        {
            None: RuntimeError,
            401: openai.AuthenticationError,
            429: openai.RateLimitError,
            500: openai.InternalServerError,
        }[refused]
    }
    assert telemetry.count() >= 6
    assert leaks(*said, *telemetry.texts(), *logged(), *capsys.readouterr()) == []
    sent = "\n".join(server.seen)  # or there would have been nothing to leak
    places = [KEY, HEADER, QUERY, PROMPT] + ([TOOL] if refused is None else [])
    assert [secret for secret in places if secret not in sent] == []
    assert "Basic " in sent


async def test_a_batch_that_tries_again_tells_no_secret(server, logged):
    server.refuse = {"/v1/chat/completions": 500}
    async with openai_client(server) as client, ConcurGate(server.secret_url) as gate:
        gated = gate.openai(client.with_options(max_retries=0))

        async def solve(task):
            await gated.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": task}])

        results = [error async for error in gate.map(solve, [PROMPT], retries=1, return_exceptions=True)]
    assert [type(error) for error in results] == [openai.InternalServerError]
    assert PROMPT in str(results[0])  # it is the client's, and comes whole to who asked
    assert leaks(*logged()) == []
    assert any("item 0 failed and is tried again (1 of 1): InternalServerError" in text for text in logged())


@pytest.mark.parametrize("status", [401, 403, 404, 429, 500])
async def test_a_server_without_metrics_is_told_of_without_its_secrets(server, logged, status):
    server.refuse = {"/metrics": status}
    gate = ConcurGate(server.secret_url)
    with pytest.raises(MetricsError) as caught:
        async with gate:
            pass
    with pytest.raises(MetricsError) as again:
        async with gate.agent("task-1"):
            pass
    assert "cannot read http://127.0.0.1" in str(caught.value)
    told = [*told_by_error(caught.value), *told_by_error(again.value)]
    assert leaks(*told, *told_by(gate), *logged()) == []


async def test_nobody_there_is_told_of_without_secrets(logged):
    gate = ConcurGate(f"http://me:{USER}@127.0.0.1:9/v1?token={QUERY}")
    with pytest.raises(MetricsError) as caught:
        async with gate:
            pass
    assert leaks(*told_by_error(caught.value), *told_by(gate), *logged()) == []


async def test_who_waits_in_vain_is_told_nothing_secret(server, logged):
    async def late(gate):
        async with gate.agent("late", timeout=0):
            pass

    async with ConcurGate(server.secret_url, max_agents=1) as gate:
        outside = contextvars.copy_context()
        async with gate.agent():
            ended = asyncio.get_running_loop().create_task(late(gate), context=outside)
            await asyncio.wait([ended])
            said = list(told_by(gate))
    assert isinstance(ended.exception(), AdmissionTimeout)
    assert leaks(*told_by_error(ended.exception()), *said, *logged()) == []


@pytest.mark.parametrize(
    "wrong",
    [
        {"url": f"ftp://me:{USER}@host"},
        {"url": f"http://me:{USER}@host:port?token={QUERY}"},
        {"url": f"http://me:{USER}@host", "max_agents": -1},
        {"url": f"http://me:{USER}@host", "controller": "nonsense"},
        {"ulr": f"http://me:{USER}@host"},
        {"url": [f"http://me:{USER}@host"]},
        {"api_key": KEY},
    ],
    ids=repr,
)
def test_a_wrong_setting_is_refused_without_its_secret(wrong):
    with pytest.raises((ValueError, TypeError)) as caught:
        ConcurGate(**wrong)
    assert leaks("".join(traceback.format_exception_only(caught.value)), *told_by_error(caught.value)) == []


def test_the_settings_of_the_environment_are_shown_without_their_secrets(monkeypatch):
    monkeypatch.setenv("CONCUR_URL", f"http://me:{USER}@host/v1?token={QUERY}")
    monkeypatch.setenv("HF_TOKEN", VARIABLE)
    config = GateConfig()
    assert QUERY in config.url
    assert leaks(repr(config), str(config), repr(ConcurGate())) == []
    monkeypatch.setenv("CONCUR_MAX_AGENTS", VARIABLE)
    with pytest.raises(ValidationError) as caught:
        GateConfig()
    assert leaks(*told_by_error(caught.value)) == []


STEP = {"context_tokens": 64, "new_input_tokens": 64, "output_tokens": 4, "tool_seconds": None}
TRACE = "".join(json.dumps({"agent_id": name, "steps": [STEP]}) + "\n" for name in "ab")
REPORTS = ["--json", "out.json", "--report", "out.html"]

COMMANDS = {
    "compare": ["compare", "trace.jsonl", "--controllers", "none,fixed:1", *REPORTS],
    "compare, wrong model": ["compare", "trace.jsonl", "--model", "no-such"],
    "doctor": ["doctor"],
    "doctor --json": ["doctor", "--json"],
    "watch": ["watch", "--once", "--interval", "0.25"],
    "watch --json": ["watch", "--once", "--json", "--interval", "0.25"],
}


@pytest.mark.parametrize("form", ["command", "args", "yaml", "compose", "k8s", "systemd"])
def test_a_launch_file_has_no_secret_of_the_environment(form):
    arguments = ["launch", "vllm", "--model", "Qwen/Qwen3-32B", "--gpus", "8", "--agents", "64", "--context", "32k"]
    environment = {"OPENAI_API_KEY": KEY, "VLLM_API_KEY": KEY, "HF_TOKEN": VARIABLE, "HUGGING_FACE_HUB_TOKEN": VARIABLE}
    where = ["--executable", "/opt/vllm/bin/vllm"] if form == "systemd" else []
    result = CliRunner().invoke(app, [*arguments, *where, "--format", form], env=environment)
    assert result.exit_code == 0, result.output
    assert leaks(result.output) == []


@pytest.mark.parametrize("refused", [None, 401, 500])
@pytest.mark.parametrize("command", COMMANDS)
async def test_a_command_tells_no_secret(server, logged, tmp_path, monkeypatch, command, refused):
    if refused is not None:
        server.refuse = dict.fromkeys(["/v1/models", "/v1/completions", "/metrics", "/version"], refused)
    (tmp_path / "trace.jsonl").write_text(TRACE)
    name, *options = COMMANDS[command]
    url = server.secret_url
    where = [*options, "--url", url.partition("?")[0]] if name == "compare" else [url, *options]  # it takes no query
    monkeypatch.chdir(tmp_path)
    environment = {"OPENAI_API_KEY": KEY, "HF_TOKEN": VARIABLE, "SOME_PASSWORD": VARIABLE}
    # In a thread, for a command has an event loop of its own.
    result = await asyncio.to_thread(CliRunner().invoke, app, [name, *where], env=environment)
    written = [path.read_text() for path in tmp_path.iterdir() if path.is_file()]
    assert leaks(result.output, *written, *logged()) == []
    assert result.exit_code == (1 if refused is not None or "wrong" in command else 0), result.output
    sent = "\n".join(server.seen)
    assert (KEY if name == "doctor" else "Basic ") in sent
    assert QUERY in sent or name == "compare"
