"""`concur compare` without a server: the embedded engine, in virtual time."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from concur_agents.cli import compare as compare_module
from concur_agents.cli.app import app
from concur_agents.errors import Deadlock
from concur_agents.replay import simulated

SMALL = ["workload:no-pressure", "--agents", "5", "--scale", "0.05"]
STEPS = [
    {"context_tokens": 640, "new_input_tokens": 640, "output_tokens": 40, "tool_seconds": 900.0},
    {"context_tokens": 800, "new_input_tokens": 120, "output_tokens": 20, "tool_seconds": None},
]


@pytest.fixture
def trace(tmp_path):
    return write_trace(tmp_path / "trace.jsonl", STEPS)


def write_trace(path, steps, *, agents=3):
    lines = [
        {"agent_id": f"a{n}", "prefix_group": "g", "shared_prefix_tokens": 320, "steps": steps} for n in range(agents)
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def concur(*arguments):
    return CliRunner().invoke(app, ["compare", *(str(argument) for argument in arguments)])


def rows(stdout):
    """The first words of the table's rows."""
    return [line.split()[0] for line in stdout.splitlines() if line.startswith(("none", "fixed:", "aimd "))]


def test_a_generated_workload_runs_under_each_controller_and_is_said_to_be_simulated(fit, tmp_path):
    out = tmp_path / "out.json"

    result = concur(*SMALL, "--fit", fit, "--controllers", "none,fixed:2,aimd", "--json", out)

    assert result.exit_code == 0, result.output
    assert rows(result.stdout) == ["none", "fixed:2", "aimd"]
    assert "workload:no-pressure: 5 agents, " in result.stdout
    assert "tiny simulated: fitted to a tiny server, KV cache of " in result.stdout
    assert "±" not in result.stdout
    written = json.loads(out.read_text())
    assert written["engine"]["simulated"] == "fitted to a tiny server"
    assert written["engine"]["url"] is None
    assert [run["controller"] for run in written["runs"]] == ["none", "fixed:2", "aimd"]
    assert written["runs"][0]["speedup_vs_none"] == 1.0
    assert {run["output_tokens"] for run in written["runs"]} == {written["workload"]["output_tokens"]}
    assert {run["failed_agents"] for run in written["runs"]} == {0}


def test_hours_of_tool_waits_are_no_wait(trace, fit):
    result = concur(trace, "--fit", fit, "--controllers", "none")

    assert result.exit_code == 0, result.output
    (row,) = [line for line in result.stdout.splitlines() if line.startswith("none")]
    assert float(row.split()[1]) > 900


def test_the_same_command_writes_the_same_figures(fit, tmp_path):
    outs = [tmp_path / "one.json", tmp_path / "other.json"]
    for out in outs:
        assert concur(*SMALL, "--fit", fit, "--controllers", "none,aimd", "--json", out).exit_code == 0

    assert outs[0].read_text() == outs[1].read_text()


def test_without_options_the_default_model_and_hardware_are_simulated(trace):
    result = concur(trace, "--controllers", "none")

    assert result.exit_code == 0, result.output
    assert "qwen3-32b simulated: Qwen/Qwen3-32B on " in result.stdout
    assert "h100" in result.stdout


def test_model_and_hardware_choose_what_is_simulated(trace):
    result = concur(trace, "--controllers", "none", "--model", "qwen3-8b", "--hardware", "h100:2")

    assert "qwen3-8b simulated: Qwen/Qwen3-8B on h100:2" in result.stdout


def test_several_seeds_show_their_spread_and_each_run_says_its_own(fit, tmp_path):
    out = tmp_path / "out.json"

    result = concur(*SMALL, "--fit", fit, "--controllers", "none,fixed:2", "--seed", 7, "--seeds", 3, "--json", out)

    assert result.exit_code == 0, result.output
    assert rows(result.stdout) == ["none", "fixed:2"]
    for line in result.stdout.splitlines():
        if line.startswith(("none", "fixed")):
            assert line.split()[3].startswith("±")
            assert line.split()[3].endswith("%")
    assert "medians of 3 seeds; ± half the range" in result.stdout
    written = json.loads(out.read_text())
    runs = written["runs"]
    assert [(run["seed"], run["controller"]) for run in runs] == [
        (seed, controller) for seed in (7, 8, 9) for controller in ("none", "fixed:2")
    ]
    assert len({run["makespan_s"] for run in runs if run["controller"] == "none"}) == 3
    assert [run["speedup_vs_none"] for run in runs if run["controller"] == "none"] == [1.0] * 3
    capped = [run for run in runs if run["controller"] == "fixed:2"]
    for run in capped:
        (none,) = [one for one in runs if one["seed"] == run["seed"] and one["controller"] == "none"]
        assert run["speedup_vs_none"] == pytest.approx(run["output_tokens_per_s"] / none["output_tokens_per_s"])


def test_the_table_of_several_seeds_fits_a_hundred_columns(fit):
    result = concur(*SMALL, "--fit", fit, "--controllers", "fixed:123456", "--seeds", 2)

    assert max(len(line) for line in result.stdout.splitlines()[:4]) <= 100


def test_several_sources_have_a_table_each_and_an_array_of_figures(trace, fit, tmp_path):
    out = tmp_path / "out.json"

    result = concur(*SMALL, trace, "--fit", fit, "--controllers", "none,fixed:1", "--json", out)

    assert result.exit_code == 0, result.output
    assert rows(result.stdout) == ["none", "fixed:1"] * 2
    written = json.loads(out.read_text())
    assert [one["workload"]["source"] for one in written] == ["workload:no-pressure", "trace.jsonl"]
    assert [[run["controller"] for run in one["runs"]] for one in written] == [["none", "fixed:1"]] * 2
    assert "1/4 none" in result.stderr
    assert "4/4 fixed:1" in result.stderr


def test_one_source_given_twice_has_two_tables(trace, fit):
    assert rows(concur(trace, trace, "--fit", fit, "--controllers", "none").stdout) == ["none", "none"]


def test_progress_ends_with_every_turn_and_agent(trace, fit):
    result = concur(trace, "--fit", fit, "--controllers", "none,fixed:1")

    lines = result.stderr.splitlines()
    assert any(line.startswith("1/2 none: 6/6 turns, 3/3 agents") for line in lines)
    assert any(line.startswith("2/2 fixed:1: 6/6 turns, 3/3 agents") for line in lines)


def test_a_known_model_is_served_with_the_context_that_the_workload_needs_and_this_is_noted(tmp_path):
    long = write_trace(
        tmp_path / "long.jsonl", [STEPS[0] | {"context_tokens": 50_000, "new_input_tokens": 50_000}], agents=1
    )

    result = concur(long, "--controllers", "none,fixed:1", "--hardware", "h100:2", "--json", tmp_path / "out.json")

    assert result.exit_code == 0, result.output
    assert result.stderr.count("note: contexts reach 50,040 tokens, past the ") == 1
    assert "that qwen3-32b is configured for: taken to be served with --max-model-len and rope scaling" in result.stderr
    assert json.loads((tmp_path / "out.json").read_text())["engine"]["max_model_len"] == 50_040


def test_contexts_that_the_cache_cannot_hold_are_told_before_any_run(tmp_path):
    step = STEPS[0] | {"context_tokens": 5_000_000, "new_input_tokens": 5_000_000}

    result = concur(write_trace(tmp_path / "long.jsonl", [step], agents=1))

    assert result.exit_code == 1
    assert "note:" not in result.stderr
    (line,) = result.stderr.splitlines()
    assert line.startswith("concur: error: a call has 5,000,040 tokens of prompt and output, and qwen3-32b takes ")
    assert result.stdout == ""


def test_a_measured_server_is_not_given_longer_contexts_than_it_had(trace, fit):
    result = concur(trace, "--fit", fit, "--scale", 10)

    assert result.exit_code == 1
    (line,) = result.stderr.splitlines()
    assert "and tiny takes 4,096: give --max-context 4096, or a smaller --scale" in line


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["workload:"], "no-pressure"),
        (["workload:magic"], "magic"),
        (["{fit}"], "a trace is a .jsonl or .jsonl.gz file"),
        (["{trace}", "there-is-none.jsonl"], "there-is-none.jsonl: cannot be read"),
        (["{trace}", "--controllers", "magic"], "no controller is called 'magic'"),
        (["{trace}", "--fit", "{fit}", "--hardware", "h100"], "leave --model and --hardware out, or --fit"),
        (["{trace}", "--fit", "{trace}"], "trace.jsonl"),
        (["{trace}", "--fit", "{fit}", "--json", "/nowhere/out.json"], "no file can be written there"),
        (["{trace}", "--model", "deepseek-v3", "--hardware", "l40s"], "deepseek-v3 does not fit l40s:1"),
    ],
)
def test_a_mistake_is_told_in_one_line_before_any_run(trace, fit, arguments, says):
    result = concur(*(argument.format(trace=trace, fit=fit) for argument in arguments))

    assert result.exit_code == 1
    (line,) = result.stderr.splitlines()
    assert line.startswith("concur: error: ")
    assert says in line
    assert result.stdout == ""


def test_no_seed_at_all_is_a_mistake(trace, fit):
    assert concur(trace, "--fit", fit, "--seeds", 0).exit_code == 2


@pytest.mark.parametrize(
    ("error", "code", "says"),
    [
        (KeyboardInterrupt(), 130, "concur: stopped; 1 of the runs are done"),
        (Deadlock("nothing is scheduled:\n  agent 1 in wait (line 7)"), 1, "scheduled: agent 1 in wait (line 7)"),
    ],
)
def test_a_run_that_ends_early_leaves_the_runs_before_it(trace, fit, tmp_path, monkeypatch, error, code, says):
    out = tmp_path / "out.json"
    run_simulated = simulated.run_simulated

    def fail_the_second(workload, controller, profile, *, on_progress):
        if controller != "none":
            raise error
        return run_simulated(workload, controller, profile, on_progress=on_progress)

    monkeypatch.setattr(simulated, "run_simulated", fail_the_second)
    result = concur(trace, "--fit", fit, "--controllers", "none,fixed:1", "--json", out)

    assert result.exit_code == code
    assert any(says in line for line in result.stderr.splitlines())
    assert rows(result.stdout) == ["none"]
    assert [run["controller"] for run in json.loads(out.read_text())["runs"]] == ["none"]


async def test_ctrl_c_in_mid_run_prints_and_writes_the_runs_that_are_done(fit, tmp_path):
    out = tmp_path / "out.json"
    steps = [STEPS[0] | {"tool_seconds": 1.0}] * 1
    steps += [{"context_tokens": 700, "new_input_tokens": 20, "output_tokens": 40, "tool_seconds": 1.0}] * 5_000
    long = write_trace(tmp_path / "long.jsonl", steps, agents=40)
    hear = "signal.signal(signal.SIGINT, signal.default_int_handler)"
    command = await asyncio.create_subprocess_exec(
        # A shell starts background jobs deaf to Ctrl-C, and so their children: also where a script runs this suite.
        *(sys.executable, "-W", "error", "-c", f"import signal; {hear}; from concur_agents.cli import main; main()"),
        *("compare", "workload:no-pressure", str(long), "--scale", "0.05", "--agents", "40"),
        *("--fit", str(fit), "--controllers", "fixed:40", "--json", str(out)),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
    )
    told = []
    try:
        async with asyncio.timeout(60):
            while not told or not told[-1].startswith("2/2 fixed:40: ") or "/200040 turns, 0/40" not in told[-1]:
                line = (await command.stderr.readline()).decode()
                assert line, "".join(told)
                told.append(line)
        command.send_signal(signal.SIGINT)
        stdout, stderr = (stream.decode() for stream in await asyncio.wait_for(command.communicate(), 60))
    finally:
        if command.returncode is None:
            command.kill()

    assert command.returncode == 130, stderr
    assert "Traceback" not in stderr
    assert "Error" not in stderr
    assert "concur: stopped; 1 of the runs are done" in stderr
    assert rows(stdout) == ["fixed:40"]
    assert json.loads(out.read_text())["workload"]["source"] == "workload:no-pressure"


def test_an_interrupt_before_the_first_run_is_done_prints_no_table(trace, fit, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(compare_module, "_run_simulated", interrupted)
    result = concur(trace, "--fit", fit)

    assert result.exit_code == 130
    assert result.stdout == ""
    assert result.stderr.splitlines()[-1] == "concur: stopped; 0 of the runs are done"
