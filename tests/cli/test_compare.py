from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys

import pytest
from aiohttp import web
from replay_vllm import FakeVLLM
from typer.testing import CliRunner

from concur_agents import cli
from concur_agents.cli import compare as compare_module
from concur_agents.cli.app import app

STEPS = [
    {"context_tokens": 640, "new_input_tokens": 640, "output_tokens": 40, "tool_seconds": 900.0},
    {"context_tokens": 800, "new_input_tokens": 120, "output_tokens": 20, "tool_seconds": None},
]
ARGUMENTS = ["--scale", "0.1", "--scale-tools", "0"]


@pytest.fixture
def trace(tmp_path):
    path = tmp_path / "trace.jsonl"
    agents = [{"agent_id": f"a{n}", "prefix_group": "g", "shared_prefix_tokens": 320, "steps": STEPS} for n in range(3)]
    path.write_text("".join(json.dumps(agent) + "\n" for agent in agents))
    return path


@pytest.fixture
async def vllm():
    async with FakeVLLM() as server:
        yield server


async def concur(*arguments, **environment):
    """Runs the command in a thread, for it has an event loop of its own."""
    env = {"OPENAI_API_KEY": None} | environment
    arguments = [str(argument) for argument in arguments]
    return await asyncio.to_thread(CliRunner().invoke, app, arguments, env=env)


def refuse_one(message):
    """Refuses the calls of the second agent, known by the first token after the 32 shared ones."""

    def refuse(body):
        if body["prompt"][32:33] != [101]:
            return None
        return web.json_response({"error": {"message": message}}, status=400)

    return refuse


async def test_a_comparison_prints_a_row_a_run_and_writes_the_figures(vllm, trace, tmp_path):
    out = tmp_path / "out.json"

    result = await concur(
        "compare", trace, "--url", vllm.url, "--controllers", "none, fixed:2,aimd", "--json", out, *ARGUMENTS
    )

    assert result.exit_code == 0, result.output
    rows = [line.split()[0] for line in result.stdout.splitlines() if line.startswith(("none", "fixed", "aimd"))]
    assert rows == ["none", "fixed:2", "aimd"]
    written = json.loads(out.read_text())
    assert [run["controller"] for run in written["runs"]] == rows
    assert written["runs"][0]["speedup_vs_none"] == 1.0
    assert written["engine"]["model"] == "tiny"
    assert written["workload"]["agents"] == 3
    assert written["workload"]["oversubscription"] == 3 * 80 / 16384
    assert [len(run) for run in vllm.bodies_by_salt().values()] == [6, 6, 6]


async def test_the_table_fits_a_hundred_columns_where_there_is_no_terminal(vllm, trace):
    result = await concur("compare", trace, "--url", vllm.url, "--controllers", "fixed:123456789", *ARGUMENTS)

    table = result.stdout.splitlines()[:4]
    assert "fixed:123456789" in table[3]
    assert max(len(line) for line in table) <= 100


async def test_progress_goes_to_stderr_in_plain_lines(vllm, trace):
    result = await concur("compare", trace, "--url", vllm.url, "--controllers", "none,fixed:2", *ARGUMENTS)

    lines = result.stderr.splitlines()
    assert lines[0] == "1/2 none: 0/6 turns, begins when the server is idle"
    assert any(line.startswith("1/2 none: 6/6 turns, 3/3 agents") for line in lines)
    assert any(line.startswith("2/2 fixed:2: 6/6 turns, 3/3 agents") for line in lines)
    assert "turns" not in result.stdout.splitlines()[0]


async def test_options_shape_the_workload(vllm, trace):
    result = await concur(
        *("compare", trace, "--url", vllm.url, "--controllers", "none", "--agents", 5, "--seed", 9),
        *("--scale", 0.1, "--scale-output", 0.5, "--scale-tools", 0, "--max-context", 75, "--model", "tiny"),
    )

    assert result.exit_code == 0, result.output
    (run,) = vllm.bodies_by_salt().values()
    assert [(len(body["prompt"]), body["max_tokens"]) for body in run] == [(64, 2)] * 5


async def test_the_key_of_the_environment_is_sent_and_never_shown(vllm, trace, tmp_path):
    out = tmp_path / "out.json"
    vllm.refuse = refuse_one("wrong key sk-secret")

    result = await concur(
        *("compare", trace, "--url", vllm.url, "--controllers", "none", "--json", out, *ARGUMENTS),
        OPENAI_API_KEY="sk-secret",
    )

    assert {headers["Authorization"] for headers in vllm.headers} == {"Bearer sk-secret"}
    assert "wrong key [API key]" in result.stdout
    assert "sk-secret" not in result.output + out.read_text()


async def test_without_a_key_a_placeholder_is_sent(vllm, trace):
    await concur("compare", trace, "--url", vllm.url, "--controllers", "none", *ARGUMENTS)

    assert {headers["Authorization"] for headers in vllm.headers} == {"Bearer EMPTY"}


async def test_failed_agents_are_in_the_table_and_told_below_it(vllm, trace):
    vllm.refuse = refuse_one("no room")

    result = await concur("compare", trace, "--url", vllm.url, "--controllers", "none", *ARGUMENTS)

    assert result.exit_code == 0
    row = next(line for line in result.stdout.splitlines() if line.startswith("none"))
    assert row.split()[-1] == "1"
    assert "none: 1 of 3 agents failed, the first with: BadRequestError" in result.stdout


async def test_an_error_in_a_later_run_still_prints_and_writes_the_earlier_ones(vllm, trace, tmp_path):
    out = tmp_path / "out.json"
    vllm.refuse = lambda body: (
        web.json_response({"error": {"message": "broken"}}, status=400) if len(vllm.bodies_by_salt()) > 1 else None
    )

    result = await concur(
        "compare", trace, "--url", vllm.url, "--controllers", "none,fixed:2", "--json", out, *ARGUMENTS
    )

    assert result.exit_code == 1
    assert "concur: error: all 3 agents failed under fixed:2" in result.stderr
    assert [run["controller"] for run in json.loads(out.read_text())["runs"]] == ["none"]
    assert any(line.startswith("none") for line in result.stdout.splitlines())


async def test_figures_that_cannot_be_written_are_told_after_the_table(vllm, trace, tmp_path, monkeypatch):
    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(compare_module, "write_json", fail)
    result = await concur(
        "compare", trace, "--url", vllm.url, "--controllers", "none", "--json", tmp_path / "out.json", *ARGUMENTS
    )

    assert result.exit_code == 1
    assert any(line.startswith("none") for line in result.stdout.splitlines())
    assert "out.json: No space left on device" in result.stderr.splitlines()[-1]


async def test_a_server_that_returns_no_ids_is_noted_once(vllm, trace):
    vllm.returns_ids = False

    result = await concur("compare", trace, "--url", vllm.url, "--controllers", "none,fixed:1", *ARGUMENTS)

    assert result.exit_code == 0
    assert result.stderr.count("note: the server does not return token ids") == 1


async def test_contexts_too_long_for_the_model_are_told_before_any_run(vllm, trace):
    vllm.max_model_len = 500

    result = await concur("compare", trace, "--url", vllm.url)

    assert result.exit_code == 1
    assert "820 tokens of prompt and output, and tiny takes 500: give --max-context 500" in result.stderr
    assert not vllm.bodies_by_salt()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--hardware", "h100:x"], "h100:x"),
        (["--model", "gpt-2"], "gpt-2"),
        (["--fit", "there-is-none.json"], "there-is-none.json: cannot be read"),
        (["--fit", "f.json", "--model", "qwen3-8b"], "leave --model and --hardware out, or --fit"),
        (["--url", "{url}", "--hardware", "h100"], "with --url a real server is asked"),
        (["--url", "localhost:8000"], "is no http or https address"),
        (["--url", "http://127.0.0.1:1"], "nothing answers at http://127.0.0.1:1"),
        (["--url", "{url}", "--model", "big"], "has no model 'big': it has tiny"),
        (["--url", "{url}", "--controllers", "none,fixed:0"], "write fixed:N with N agents, 1 or more"),
        (["--url", "{url}", "--controllers", "magic"], "no controller is called 'magic'"),
        (["--url", "{url}", "--controllers", " , "], "--controllers names none"),
        (["--url", "{url}", "--scale", "0"], "give more than 0"),
        (["--url", "{url}", "--agents", "0"], "give 1 or more"),
        (["--url", "{url}", "--max-context", "10"], "raise --max-context, or lower --scale"),
        (["--url", "{url}", "--json", "/nowhere/out.json"], "no file can be written there"),
        (["--url", "{url}", "--json", "."], "no file can be written there"),
    ],
)
async def test_a_mistake_is_told_in_one_line_before_any_run(vllm, trace, arguments, says):
    result = await concur("compare", trace, *(argument.format(url=vllm.url) for argument in arguments))

    assert result.exit_code == 1
    (line,) = result.stderr.splitlines()
    assert line.startswith("concur: error: ")
    assert says in line
    assert result.stdout == ""
    assert not vllm.bodies_by_salt()


async def test_a_bad_trace_is_told_by_file_and_line(vllm, tmp_path):
    path = tmp_path / "bad.jsonl"
    path.write_text("{}\n")

    result = await concur("compare", path, "--url", vllm.url)

    assert result.exit_code == 1
    assert "bad.jsonl, line 1: agent_id: Field required" in result.stderr


def test_help_names_every_option_with_an_example():
    result = CliRunner().invoke(app, ["compare", "--help"])

    assert result.exit_code == 0
    assert "concur compare trace.jsonl.gz --url http://localhost:8000" in result.stdout
    for option in ("url", "controllers", "agents", "seed", "scale", "scale-output", "scale-tools", "max-context"):
        assert f"--{option} " in result.stdout
    assert "null" in result.stdout


def test_concur_alone_lists_its_commands():
    assert "compare" in CliRunner().invoke(app, ["--help"]).stdout
    assert "compare" in CliRunner().invoke(app, []).output


@pytest.mark.parametrize("missing", ["typer", "rich"])
def test_without_the_cli_extra_the_command_names_it(monkeypatch, missing):
    monkeypatch.setitem(sys.modules, missing, None)
    for name in [name for name in sys.modules if name.startswith("concur_agents.cli.")]:
        monkeypatch.delitem(sys.modules, name)

    with pytest.raises(SystemExit, match=rf"needs {missing}: pip install 'concur-agents\[demo\]'"):
        cli.main()


@pytest.mark.parametrize("missing", ["openai", "langgraph"])
def test_without_the_replays_packages_the_command_names_the_extra(monkeypatch, trace, missing):
    for name in [name for name in sys.modules if name.partition(".")[0] == missing]:
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.setitem(sys.modules, missing, None)
    for name in ("agent", "server", "runner"):
        monkeypatch.delitem(sys.modules, f"concur_agents.replay.{name}", raising=False)

    result = CliRunner().invoke(app, ["compare", str(trace), "--url", "http://localhost:1"])

    assert result.exit_code == 1
    assert f"a replay needs {missing}" in result.stderr
    assert "pip install 'concur-agents[demo]'" in result.stderr


def test_an_interrupt_before_the_first_run_is_done_prints_no_table(monkeypatch, trace):
    async def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(compare_module, "_run_live", interrupted)
    result = CliRunner().invoke(app, ["compare", str(trace), "--url", "http://localhost:1"])

    assert result.exit_code == 130
    assert result.stdout == ""
    assert result.stderr.splitlines()[-1] == "concur: stopped; 0 of the runs are done"


async def test_ctrl_c_prints_and_writes_the_runs_that_are_done(vllm, trace, tmp_path):
    out = tmp_path / "out.json"
    hear = "signal.signal(signal.SIGINT, signal.default_int_handler)"
    command = await asyncio.create_subprocess_exec(
        # A shell starts background jobs deaf to Ctrl-C, and so their children: also where a script runs this suite.
        *(sys.executable, "-W", "error", "-c", f"import signal; {hear}; from concur_agents.cli import main; main()"),
        *("compare", str(trace), "--url", vllm.url, "--controllers", "none,fixed:2", "--json", str(out), *ARGUMENTS),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
    )
    vllm.refuse = lambda body: _hold_the_second_run(vllm)
    try:
        await vllm.until(lambda: len(vllm.bodies_by_salt()) == 2 and vllm.at_once == 2, limit_s=60)
        command.send_signal(signal.SIGINT)
        stdout, stderr = (stream.decode() for stream in await asyncio.wait_for(command.communicate(), 60))
    finally:
        if command.returncode is None:
            command.kill()

    assert command.returncode == 130, stderr
    assert "Traceback" not in stderr
    assert "Error" not in stderr
    assert "concur: stopped; 1 of the runs are done" in stderr
    rows = [line for line in stdout.splitlines() if line.startswith(("none", "fixed"))]
    assert [row.split()[0] for row in rows] == ["none"]
    assert [run["controller"] for run in json.loads(out.read_text())["runs"]] == ["none"]
    await vllm.until(lambda: vllm.at_once == 0)


def _hold_the_second_run(vllm):
    if len(vllm.bodies_by_salt()) == 2 and vllm.hold is None:
        vllm.hold = asyncio.Event()
