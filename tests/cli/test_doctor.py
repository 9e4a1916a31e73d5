from __future__ import annotations

import asyncio
import io
import json
import os

import pytest
from doctor.odd_servers import KEY, OddServer
from rich.console import Console
from typer.testing import CliRunner

import concur_agents.doctor.examination as examination_module
from concur_agents.cli import doctor as doctor_module
from concur_agents.cli.app import app
from concur_agents.cli.doctor import print_report
from concur_agents.doctor import Finding, Report


@pytest.fixture(autouse=True)
def no_pauses_between_looks(monkeypatch):
    monkeypatch.setattr(examination_module, "POLL_PAUSE_S", 0)


@pytest.fixture
async def server():
    async with OddServer() as server:
        yield server


async def concur(*arguments, **environment):
    """Runs the command in a thread, for it has an event loop of its own."""
    env = {name: None for name in ("OPENAI_API_KEY",) if name in os.environ} | environment
    return await asyncio.to_thread(CliRunner(env=env).invoke, app, ["doctor", *arguments])


def shown(report, width=80):
    file = io.StringIO()
    print_report(report, Console(file=file, width=width, highlight=False))
    return file.getvalue()


async def test_a_good_server_ends_with_0_and_a_verdict(server):
    result = await concur(server.url)

    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines()[0] == server.url
    assert "ok    prefix-test     the cache works" in result.stdout
    assert result.stdout.splitlines()[-1] == "a gate will work: 2 notes"


async def test_a_server_that_is_no_use_ends_with_1_and_says_what_to_do(server):
    server.refuse("/metrics", 404)

    result = await concur(server.url)

    assert result.exit_code == 1
    assert result.stdout.splitlines()[-1] == "a gate will not work: 1 failure"
    assert "fail  metrics  the server has no such page (404)" in result.stdout


async def test_warnings_alone_end_with_0(server):
    server.refuse("/v1/completions", 503)

    result = await concur(server.url)

    assert result.exit_code == 0
    assert "a gate will work: 1 warning" in result.stdout


async def test_json_is_all_that_is_printed(server):
    result = await concur(server.url, "--json")

    report = json.loads(result.stdout)
    assert (result.exit_code, report["ok"], report["url"]) == (0, True, server.url)
    assert {tuple(finding) for finding in report["findings"]} == {("check", "level", "says", "do")}
    assert report["facts"]["models"] == ["tiny"]


async def test_json_of_a_server_that_is_not_there():
    result = await concur("http://127.0.0.1:1", "--json")

    assert result.exit_code == 1
    assert json.loads(result.stdout)["ok"] is False


async def test_no_requests_sends_none(server):
    result = await concur(server.url, "--no-requests")

    assert result.exit_code == 0
    assert server.completions() == []


@pytest.mark.parametrize("arguments", [["localhost:8000"], [], ["http://h", "--fix"], ["http://h", "http://i"]])
async def test_a_wrong_command_ends_with_2(arguments):
    result = await concur(*arguments)

    assert result.exit_code == 2
    assert result.stdout == ""


async def test_key_and_password_are_used_and_never_shown(server):
    server.key = KEY
    url = server.url.replace("//", "//me:hunter2@")

    outputs = [
        (await concur(url, OPENAI_API_KEY=KEY)).output,
        (await concur(url, "--json", OPENAI_API_KEY=KEY)).output,
        (await concur(url, OPENAI_API_KEY="sk-wrong-secret")).output,
        (await concur("me:hunter2@h")).output,
    ]

    assert "a gate will work" in outputs[0]
    assert "OPENAI_API_KEY" in outputs[2]
    for output in outputs:
        assert not any(secret in output for secret in (KEY, "hunter2", "sk-wrong-secret"))


async def test_ctrl_c_ends_with_130(monkeypatch):
    async def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(doctor_module, "examine", interrupted)

    result = await concur("http://h")

    assert result.exit_code == 130
    assert result.stderr == "concur: stopped\n"


def test_lines_keep_to_the_terminal_and_flags_stay_whole():
    long = "words " * 30 + "--a-flag-that-is-not-to-be-broken " * 5
    report = Report("http://h", (Finding("prefix-caching", "warn", long, long), Finding("a", "ok", "b")))

    for width in (40, 80, 300):
        lines = shown(report, width).splitlines()
        assert max(map(len, lines)) <= max(min(width, 120), 22 + 33)
        assert all(line == line.rstrip() for line in lines)
        assert "--a-flag-that-is-not-to-be-broken" in " ".join(lines)


def test_a_server_writes_no_markup():
    report = Report("http://h", (Finding("model", "ok", "serves [red]x[/red] [link=a]y"),))

    assert "serves [red]x[/red] [link=a]y" in shown(report)


def test_the_help_teaches():
    result = CliRunner().invoke(app, ["doctor", "--help"])

    assert result.exit_code == 0
    for part in ("concur doctor http://localhost:8000", "exit status", "OPENAI_API_KEY", "--no-requests", "--json"):
        assert part in result.stdout
