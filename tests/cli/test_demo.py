from __future__ import annotations

import asyncio
import json
import sys

import pytest
from replay_vllm import FakeVLLM
from typer.testing import CliRunner

from concur_agents.cli import demo as demo_module
from concur_agents.cli.app import app


def concur(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_the_demo_shows_both_runs_and_says_what_to_do_next():
    result = concur("demo", "--agents", 4)

    assert result.exit_code == 0, result.output
    assert "no gate: " in result.stdout
    rows = [line.split()[0] for line in result.stdout.splitlines() if line.startswith(("none ", "working-set "))]
    assert rows == ["none", "working-set"]
    assert "simulated" in result.stdout
    assert "concur demo --url http://localhost:8000" in result.stdout
    assert "ConcurGate(" in result.stdout


def test_another_controller_model_and_hardware_can_be_named():
    result = concur(
        "demo", "--agents", 3, "--controller", "fixed:2", "--model", "qwen3-8b", "--hardware", "l40s", "--seed", 5
    )

    assert result.exit_code == 0, result.output
    assert "\nfixed:2 " in result.stdout
    assert "qwen3-8b simulated: Qwen/Qwen3-8B on l40s" in result.stdout


def test_the_same_demo_twice_prints_the_same_table():
    def table():
        output = concur("demo", "--agents", 3).stdout
        return output[output.index("controller") :]

    assert table() == table()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--controller", "magic"], "no controller is called 'magic'"),
        (["--hardware", "abacus"], "abacus"),
        (["--model", "gpt-2"], "gpt-2"),
        (["--agents", "0"], "give 1 or more"),
        (["--url", "http://127.0.0.1:1"], "nothing answers at http://127.0.0.1:1"),
        (["--url", "localhost"], "is no http or https address"),
        (["--url", "http://x", "--hardware", "h100"], "with --url a real server is asked"),
    ],
)
def test_a_mistake_is_told_in_one_line(arguments, says):
    result = concur("demo", *arguments)

    assert result.exit_code == 1
    assert result.stderr.splitlines()[-1].startswith("concur: error: ")
    assert says in result.stderr
    assert "Traceback" not in result.output


def test_without_its_packages_it_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "langgraph", None)
    monkeypatch.setitem(sys.modules, "langgraph.graph", None)
    for name in ("agent", "server", "runner"):
        monkeypatch.delitem(sys.modules, f"concur_agents.replay.{name}", raising=False)

    result = concur("demo")

    assert result.exit_code == 1
    assert "pip install 'concur-agents[demo]'" in result.stderr


def test_ctrl_c_ends_it_without_a_traceback(monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(demo_module, "run", lambda main: (main.close(), interrupted()))

    result = concur("demo", "--agents", 3)

    assert result.exit_code == 130
    assert result.stderr.splitlines()[-1] == "concur: stopped"


async def test_on_a_live_server_the_contexts_are_scaled_to_its_cache(monkeypatch, tmp_path):
    step = {"context_tokens": 90_000, "new_input_tokens": 90_000, "output_tokens": 900, "tool_seconds": 0}
    trace = tmp_path / "large.jsonl"
    trace.write_text("".join(json.dumps({"agent_id": f"{n}", "steps": [step]}) + "\n" for n in range(3)))
    monkeypatch.setattr(demo_module, "SOURCE", str(trace))
    async with FakeVLLM() as vllm:
        result = await asyncio.to_thread(concur, "demo", "--url", vllm.url, "--agents", 12)

    assert result.exit_code == 0, result.output
    assert "\nworking-set " in result.stdout
    lengths = {len(body["prompt"]) for body in vllm.bodies if len(body["prompt"]) > 1}
    assert lengths == {round(demo_module.LIVE_PRESSURE * vllm.capacity / 12)}
