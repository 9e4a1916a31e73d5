"""`concur watch`: servers as they are, away and back; lines, JSON and exit status for scripts."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import os
import signal
import subprocess
import sys
import time
from urllib.parse import urlsplit

import pytest
from gate.gate_helpers import Server
from telemetry.terminals import Gone, Terminal
from typer.testing import CliRunner

import concur_agents.cli.watch
from concur_agents.cli.app import app
from concur_agents.cli.watch import WatchedServer, _once, _watch
from concur_agents.engines import Poller
from concur_agents.simulation.virtual_time import run


@pytest.fixture
def servers(monkeypatch):
    """Two servers that are played by functions."""
    played = {"a": Server(usage=0.5), "b": Server(usage=0.25)}

    def make(url, **settings):
        return Poller(url, fetch=played[urlsplit(url).hostname].fetch, **settings)

    monkeypatch.setattr(concur_agents.cli.watch, "Poller", make)
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("LINES", "24")
    monkeypatch.setenv("TERM", "xterm")
    return played


def watched(stdout, seconds, meanwhile=lambda _: None, *, interval_s=1.0, as_json=False):
    """What `concur watch` wrote in so many seconds; `meanwhile` is called at each of them."""

    async def main():
        watching = asyncio.create_task(
            _watch([WatchedServer(f"http://{name}:8000", interval_s) for name in "ab"], interval_s, as_json=as_json)
        )
        for second in range(seconds):
            await asyncio.sleep(1)
            meanwhile(second)
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)

    with contextlib.redirect_stdout(stdout):
        run(main())
    return stdout.getvalue()


def test_on_a_terminal_each_server_has_its_figures(servers):
    terminal = Terminal()
    watched(terminal, 10)

    seen = terminal.seen()
    assert seen[0].startswith("http://a:8000 ")
    assert seen[0].endswith("cache of 16,384 tokens")
    assert "KV usage" in terminal.text()
    assert " 0.50\n" in terminal.text()
    assert " 0.25\n" in terminal.text()
    assert "1 running, 0 in its queue" in terminal.text()
    assert seen[-1] == ""
    assert all(len(line) <= 80 for line in seen)


def test_a_server_that_is_away_is_shown_as_away_and_comes_back(servers):
    terminals = [Terminal(), Terminal()]

    def away(second):
        servers["b"].down = second >= 5

    def away_and_back(second):
        servers["b"].down = 5 <= second < 10

    watched(terminals[0], 20, away)
    watched(terminals[1], 20, away_and_back)

    assert "away for 14 s: nothing answers (connection refused)" in terminals[0].text()
    assert " 0.50\n" in terminals[0].text()
    assert "away" not in terminals[1].text()


def test_elsewhere_it_writes_a_line_for_each_server_that_has_changed(servers):
    servers["b"].down = True

    lines = watched(io.StringIO(), 35).splitlines()

    assert lines[0] == "concur: http://a:8000: KV 0.50 hit – · 1 running 0 waiting · – tok/s out · – tok/s in"
    assert lines[1].startswith("concur: http://b:8000: away: nothing answers")
    assert lines[2] == "concur: http://a:8000: KV 0.50 hit – · 1 running 0 waiting · 1 tok/s out · 0 tok/s in"
    assert len(lines) == 3


def test_json_is_a_line_for_each_look(servers):
    servers["b"].down = True

    lines = [json.loads(line) for line in watched(io.StringIO(), 5, as_json=True).splitlines()]

    assert len(lines) in {10, 12}  # the last look may be at the very end
    there, away = lines[-2:]
    assert (there["url"], there["usage"], there["window_s"]) == ("http://a:8000", 0.5, there["generation_tokens"])
    assert there["engines"] == [{"engine": "0", "usage": 0.5, "hit_rate": None, "running": 1.0, "waiting": None}]
    assert set(away) == {"url", "time", "error"}
    assert abs(away["time"] - time.time()) < 60


def test_a_slow_interval_is_kept(servers):
    looks = watched(io.StringIO(), 61, interval_s=20.0, as_json=True).splitlines()

    assert len(looks) == 2 * 4


def test_it_ends_when_nobody_can_see_it_any_more(servers):
    async def main():
        return await _watch([WatchedServer("http://a:8000", 1.0)], 1.0, as_json=False)

    with contextlib.redirect_stdout(Gone()):
        assert run(main()) == 1


@pytest.mark.parametrize(("down", "status"), [((), 0), (("b",), 1), (("a", "b"), 1)])
def test_once_prints_one_reading_and_tells_by_its_status(down, status, servers, capsys):
    for name in down:
        servers[name].down = True

    async def main():
        return await _once([WatchedServer(f"http://{name}:8000", 1.0) for name in "ab"], 1.0, as_json=False)

    assert run(main()) == status
    out, err = capsys.readouterr()
    assert len(out.splitlines()) == 2 - len(down)
    assert [line.partition(": nothing")[0] for line in err.splitlines()] == [
        f"concur: error: http://{name}:8000" for name in down
    ]
    if not down:
        assert "http://a:8000: KV 0.50 hit – · 1 running 0 waiting · 1 tok/s out" in out


def test_once_as_json_tells_errors_too(servers, capsys):
    servers["b"].down = True

    async def main():
        return await _once([WatchedServer(f"http://{name}:8000", 1.0) for name in "ab"], 1.0, as_json=True)

    assert run(main()) == 1
    there, away = map(json.loads, capsys.readouterr().out.splitlines())
    assert there["usage"] == 0.5
    assert away["error"].startswith("nothing answers")


@pytest.mark.parametrize(
    "url", ["localhost:8000", "ftp://user:secret@host", "http://user:secret@[bad", "http://host:8000000/?key=secret"]
)
def test_a_wrong_address_is_an_error_that_keeps_the_secret(url):
    result = CliRunner().invoke(app, ["watch", url])

    assert result.exit_code == 1
    assert result.stderr.startswith("concur: error: ")
    assert "http://localhost:8000" in result.stderr
    assert "secret" not in result.output


def test_no_secret_of_an_address_is_shown(servers):
    terminal = Terminal()

    async def main():
        servers["a"].down = True
        watching = asyncio.create_task(
            _watch([WatchedServer("http://me:secret@a:8000/?key=secret", 1.0)], 1.0, as_json=False)
        )
        await asyncio.sleep(3)
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)

    with contextlib.redirect_stdout(terminal):
        run(main())

    assert "http://a:8000" in terminal.text()
    assert "secret" not in terminal.getvalue()


@pytest.mark.parametrize("option", [["--interval", "0"], ["--interval", "nan"], []])
def test_bad_options_are_told(option):
    assert CliRunner().invoke(app, ["watch", *option]).exit_code == 2


def test_once_on_a_port_where_nothing_is():
    result = CliRunner().invoke(app, ["watch", "--once", "--interval", "0.25", "http://127.0.0.1:9"])

    assert result.exit_code == 1
    assert "concur: error: http://127.0.0.1:9: nothing answers" in result.stderr


@pytest.mark.skipif(os.name != "posix", reason="needs signals")
def test_ctrl_c_ends_it():
    command = [sys.executable, "-c", "from concur_agents.cli import main; main()", "watch", "http://127.0.0.1:9"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        said = process.stdout.readline()
        process.send_signal(signal.SIGINT)
        rest = process.communicate(timeout=20)
    finally:
        process.kill()
        process.communicate()

    assert "away: nothing answers" in said
    assert rest == ("", "")
    assert process.returncode == 130
