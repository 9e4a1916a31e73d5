"""`concur compare --report`: the page, or why there is none."""

from __future__ import annotations

import asyncio
import json
import sys

import pytest
from aiohttp import web
from replay_vllm import FakeVLLM
from typer.testing import CliRunner

from concur_agents.cli.app import app

SMALL = ["workload:no-pressure", "--agents", "5", "--scale", "0.05", "--controllers", "none,fixed:2"]
STEPS = [
    {"context_tokens": 64, "new_input_tokens": 64, "output_tokens": 4, "tool_seconds": 0.0},
    {"context_tokens": 80, "new_input_tokens": 12, "output_tokens": 2, "tool_seconds": None},
]


def concur(*arguments, **environment):
    return CliRunner().invoke(app, ["compare", *map(str, arguments)], env={"OPENAI_API_KEY": None} | environment)


def test_the_report_is_written_beside_the_table_and_the_figures(fit, tmp_path):
    page, figures = tmp_path / "out.html", tmp_path / "out.json"

    result = concur(*SMALL, "--fit", fit, "--report", page, "--json", figures)

    assert result.exit_code == 0, result.output
    assert f"written to {page}" in result.stderr
    text = page.read_text()
    assert "<strong>Simulated</strong>" in text
    assert "5 agents on tiny" in text
    assert "fixed at 2 agents" in text
    assert len(json.loads(figures.read_text())["runs"]) == 2


def test_the_same_command_writes_the_same_page(fit, tmp_path):
    for name in ("a.html", "b.html"):
        concur(*SMALL, "--fit", fit, "--report", tmp_path / name)

    assert (tmp_path / "a.html").read_bytes() == (tmp_path / "b.html").read_bytes()


@pytest.mark.parametrize("missing", ["jinja2", "matplotlib"])
def test_a_missing_package_is_told_with_its_extra_before_any_run(fit, tmp_path, monkeypatch, missing):
    for name in [name for name in sys.modules if name.startswith(("concur_agents.report", f"{missing}."))]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, missing, None)

    result = concur(*SMALL, "--fit", fit, "--report", tmp_path / "out.html")

    assert result.exit_code == 1
    (line,) = result.stderr.splitlines()
    assert line == f"concur: error: the report needs {missing}: pip install 'concur-agents[report]'"
    assert result.stdout == ""


def test_without_a_report_nothing_of_it_is_imported(fit):
    code = (
        "import sys; from typer.testing import CliRunner; from concur_agents.cli.app import app; "
        f"result = CliRunner().invoke(app, {['compare', *SMALL, '--fit', str(fit)]!r}); assert not result.exit_code; "
        "print(sorted({'jinja2', 'matplotlib', 'numpy', 'concur_agents.report'} & set(sys.modules)))"
    )

    async def run():
        process = await asyncio.create_subprocess_exec(sys.executable, "-c", code, stdout=asyncio.subprocess.PIPE)
        return (await process.communicate())[0].decode().strip()

    assert asyncio.run(run()) == "[]"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--report", "/nowhere/out.html"], "--report /nowhere/out.html: no file can be written there"),
        (["--report", "."], "no file can be written there"),
        (["--report", "{folder}/x", "--json", "{folder}/x"], "give each a file of its own"),
    ],
)
def test_a_place_where_it_cannot_be_is_told_before_any_run(fit, tmp_path, arguments, says):
    result = concur(*SMALL, "--fit", fit, *(argument.format(folder=tmp_path) for argument in arguments))

    assert result.exit_code == 1
    (line,) = result.stderr.splitlines()
    assert says in line
    assert result.stdout == ""


def test_a_full_disk_is_told_after_the_table_and_leaves_the_old_page(fit, tmp_path, monkeypatch):
    page = tmp_path / "out.html"
    page.write_text("old")

    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pathlib.Path.replace", fail)
    result = concur(*SMALL, "--fit", fit, "--report", page)

    assert result.exit_code == 1
    assert any(line.startswith("none") for line in result.stdout.splitlines())
    assert "out.html: No space left on device" in result.stderr.splitlines()[-1]
    assert page.read_text() == "old"
    assert sorted(tmp_path.iterdir()) == [fit, page]


async def test_no_secret_comes_into_the_page(tmp_path, monkeypatch):
    """Neither of the address, nor of the environment, nor what a server repeats of it, nor where files are."""
    monkeypatch.setenv("MY_TOKEN", "secret-of-the-environment")
    trace, page = tmp_path / "trace.jsonl", tmp_path / "out.html"
    agents = [{"agent_id": f"a{n}", "prefix_group": "g", "shared_prefix_tokens": 32, "steps": STEPS} for n in range(3)]
    trace.write_text("".join(json.dumps(agent) + "\n" for agent in agents))

    async with FakeVLLM() as vllm:
        vllm.refuse = lambda body: (
            web.json_response({"error": {"message": "wrong key sk-secret"}}, status=400)
            if body["prompt"][32:33] == [101]
            else None
        )
        url = vllm.url.replace("http://", "http://me:hunter2@")
        result = await asyncio.to_thread(
            concur, trace, "--url", url, "--controllers", "none", "--report", page, OPENAI_API_KEY="sk-secret"
        )

    assert result.exit_code == 0, result.output
    text = page.read_text()
    assert "1 of 3 agents failed" in text
    assert "<strong>Measured</strong>" in text
    for secret in ("sk-secret", "hunter2", "secret-of-the-environment", str(tmp_path)):
        assert secret not in text
