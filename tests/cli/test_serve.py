"""`concur serve`: what it says, what it serves, how it ends."""

from __future__ import annotations

import asyncio
import json
import re
import signal
import socket
import subprocess
import sys
import urllib.request
from contextlib import contextmanager

import pytest
from typer.testing import CliRunner

from concur_agents.cli.app import app
from concur_agents.simulation.profile import EngineProfile


def concur(*arguments):
    return CliRunner().invoke(app, ["serve", *arguments])


@contextmanager
def serving(*arguments):
    """The command in a process of its own, and where it says that it listens."""
    command = [sys.executable, "-c", "from concur_agents.cli import main; main()", "serve", "--port", "0", *arguments]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        said = process.stderr.readline() + process.stderr.readline()
        yield process, re.search(r"http://127\.0\.0\.1:\d+", said).group(), said
    finally:
        process.kill()
        process.communicate()


def get(url, body=None):
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data=data, headers={"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=10) as response:
        return response.read()


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGTERM])
def test_it_serves_until_it_is_told_to_stop(end):
    with serving("--model", "qwen3-32b", "--hardware", "h100:8", "--speed", "100") as (process, url, said):
        assert "qwen3-32b" in said
        assert "h100:8" in said
        assert "100 times as fast" in said
        assert re.search(r"KV cache of \d,\d{3},\d{3} tokens", said)
        assert "filler text" in said
        body = {"model": "qwen3-32b", "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 20}
        answer = json.loads(get(f"{url}/v1/chat/completions", body))
        assert answer["choices"][0]["message"]["content"].startswith("Filler")
        assert json.loads(get(f"{url}/version"))["version"].startswith("0.32.0+concur")
        process.send_signal(end)
        _, rest = process.communicate(timeout=10)
        assert process.returncode == 0
        assert rest == "concur: stopped\n"


def test_a_measured_engine_is_served_from_its_file(tmp_path):
    profile = EngineProfile(name="mine", blocks=1000, max_model_len=8000, step_time={"kind": "linear", "step": 0.001})
    path = tmp_path / "fit.json"
    path.write_text(profile.model_dump_json())
    with serving("--fit", str(path), "--max-model-len", "4000", "--tool-rounds", "0") as (_, url, said):
        assert "mine" in said
        (model,) = json.loads(get(f"{url}/v1/models"))["data"]
        assert (model["id"], model["max_model_len"]) == ("mine", 4000)
        tools = [{"type": "function", "function": {"name": "f"}}]
        body = {"messages": [{"role": "user", "content": "Hello"}], "tools": tools}
        assert "tool_calls" not in json.loads(get(f"{url}/v1/chat/completions", body))["choices"][0]["message"]


async def test_it_leaves_nothing_behind_when_a_client_is_connected():
    with serving() as (process, url, _):
        port = int(url.rpartition(":")[2])
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        body = json.dumps({"prompt": "a", "max_tokens": 8000, "ignore_eos": True}).encode()
        writer.write(b"POST /v1/completions HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
        await writer.drain()
        while b'vllm:num_requests_running{engine="0",model_name="qwen3-32b"} 1.0' not in await asyncio.to_thread(
            get, f"{url}/metrics"
        ):
            pass
        process.send_signal(signal.SIGINT)
        await asyncio.to_thread(process.wait, 10)
        assert process.returncode == 0
        writer.close()
        await writer.wait_closed()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--model", "unheard-of"], "no model is known as 'unheard-of'"),
        (["--hardware", "abacus:2"], "abacus"),
        (["--speed", "0"], "speed of 0"),
        (["--max-model-len", "1"], "max_model_len is 1"),
        (["--max-model-len", "100000000"], "max_model_len is 100000000"),
        (["--fit", "missing.json"], "missing.json"),
        (["--fit", "missing.json", "--max-model-len", "5"], "missing.json"),
        (["--host", "192.0.2.1"], "no address of this machine"),
    ],
)
def test_what_cannot_be_served_is_told_in_a_line(arguments, message):
    result = concur("--port", "0", *arguments)
    assert result.exit_code == 1
    assert message in result.stderr
    assert result.stderr.startswith("concur: error: ")
    assert result.stderr.count("\n") == 1


def test_a_port_in_use_is_told_with_what_to_do():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        result = concur("--port", str(taken.getsockname()[1]))
    assert result.exit_code == 1
    assert "is in use: give another with --port" in result.stderr


def test_the_help_teaches():
    result = concur("--help")
    assert result.exit_code == 0
    for part in ("concur serve --model qwen3-32b --hardware h100:8", "filler", "--speed", "--fit", "Ctrl-C"):
        assert part in result.stdout
