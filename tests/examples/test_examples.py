"""Every example runs as its reader would run it: as a process of its own, on the embedded engine over HTTP."""

from __future__ import annotations

import ast
import difflib
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"
SCRIPTS = sorted(path.name for path in EXAMPLES.glob("*.py"))
MODEL = "qwen3-32b"
LEAVE_A_CLIENT_OPEN = {"langgraph_agents.py", "create_agent_middleware.py"}
"""`ChatOpenAI` shares an HTTP client with all others of the process, and never closes it."""


@pytest.fixture(scope="module")
def url():
    command = [sys.executable, "-c", "from concur_agents.cli import main; main()", "serve", "--port", "0"]
    with subprocess.Popen([*command, "--speed", "20"], stderr=subprocess.PIPE, text=True) as server:
        try:
            yield re.search(r"http://\S+?(?=/v1)", server.stderr.readline()).group()
        finally:
            server.terminate()


@pytest.fixture
def run(url):
    """Runs an example; returns what it prints. Whatever it says on stderr, but for lines of progress, is an error."""
    environment = {name: value for name, value in os.environ.items() if name != "OPENAI_API_KEY"}

    def run(script, *arguments):
        # What nobody closed is told only if one asks.
        asked = [] if script in LEAVE_A_CLIENT_OPEN else ["-W", "always::ResourceWarning"]
        done = subprocess.run(
            [sys.executable, *asked, EXAMPLES / script, "--url", url, "--model", MODEL, *map(str, arguments)],
            capture_output=True,
            text=True,
            timeout=120,
            env=environment,
            check=False,
        )
        assert [line for line in done.stderr.splitlines() if not line.startswith("concur: ")] == []
        assert done.returncode == 0
        return done.stdout

    return run


def test_langgraph_agents_read_files_with_their_tool(run):
    said = run("langgraph_agents.py", "--agents", 4)
    assert len(re.findall(r"^\w+\.py: Filler text", said, re.MULTILINE)) == 4
    assert "0 queued, 4 finished" in said
    assert "16 turns" in said  # the engine calls tools three times, then answers
    assert "0 active (0 in a turn), 0 paused, 0 queued" in said


def test_the_middleware_makes_the_calls_of_create_agent_turns(run):
    said = run("create_agent_middleware.py", "--agents", 4)
    assert said.count(": Filler text") == 4
    tokens = re.search(r"^4 agents, 16 turns, ([\d,]+) prompt tokens from the cache$", said, re.MULTILINE).group(1)
    assert int(tokens.replace(",", "")) > 0


def test_subagents_share_their_leads_place_but_for_the_one_with_its_own(run):
    said = run("orchestrator.py", "--agents", 2, "--subagents", 3)
    # A lead has 2 turns, each of its researchers 2, the editor 2; the lead and the editor have a place each.
    assert said.endswith("2 leads, 4 places taken and given back, 20 turns\n")


def test_a_stopped_batch_goes_on_where_it_was(run, tmp_path):
    checkpoint = tmp_path / "answers.jsonl"
    first = run("openai_tools.py", "--agents", 3, "--checkpoint", checkpoint)
    assert first.endswith(f"3 agents ran, 3 answers are in {checkpoint}\n")
    second = run("openai_tools.py", "--agents", 5, "--checkpoint", checkpoint)
    assert second.endswith(f"2 agents ran, 5 answers are in {checkpoint}\n")
    assert second.startswith(first.rpartition("3 agents ran")[0])


def test_a_run_of_the_agents_sdk_with_handoffs_is_one_agent(run):
    said = run("openai_agents_sdk.py", "--agents", 4)
    assert len(re.findall(r"^\w+\.py, by the (reader|critic): Filler text", said, re.MULTILINE)) == 4
    assert re.search(r"^4 agents, 16 turns, [\d,]+ prompt tokens from the cache$", said, re.MULTILINE)


def test_rollouts_go_on_with_the_new_weights(run):
    said = run("rollouts.py", "--groups", 3, "--agents", 3)
    assert re.findall(r"^weights (\d)$", said, re.MULTILINE) == ["1", "2", "3"]
    assert len(re.findall(r"^Write a proof of theorem \d\.: 3 rollouts of .* by weights \[\d", said, re.MULTILINE)) == 3
    assert said.endswith("9 rollouts, 36 turns, 3 updates\n")


def test_a_rollout_that_fails_ends_all_of_them_and_leaves_no_error_unseen(url):
    command = [sys.executable, EXAMPLES / "rollouts.py", "--url", url, "--model", "unheard-of", "--groups", "3"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 1
    assert "The model `unheard-of` does not exist." in done.stderr
    assert "never" not in done.stderr


def test_the_gate_in_place_of_the_semaphore_changes_no_result(run):
    before, after = run("semaphore_before.py", "--agents", 4), run("semaphore_after.py", "--agents", 4)
    assert before.startswith("4 stories, the last of them: Filler text")
    assert after == before


def test_the_difference_that_the_readme_shows_is_the_real_one_and_small():
    (shown,) = re.findall(r"^```diff\n(.*?)^```$", (EXAMPLES / "README.md").read_text(), re.DOTALL | re.MULTILINE)
    names = ("semaphore_before.py", "semaphore_after.py")
    before, after = ((EXAMPLES / name).read_text().splitlines(keepends=True) for name in names)
    assert shown == "".join(difflib.unified_diff(before, after, *names, n=1))
    changed = [line for line in shown.splitlines()[2:] if line[0] in "+-"]
    assert len(changed) < 10


def test_the_readme_has_a_line_for_each_example():
    listed = re.findall(r"\[([\w.]+)\]\(([\w.]+)\)", (EXAMPLES / "README.md").read_text())
    assert all(text == link for text, link in listed)
    assert sorted(text for text, _ in listed) == sorted([*SCRIPTS, "collapse_and_cure.ipynb"])


@pytest.mark.parametrize("script", SCRIPTS)
def test_an_example_is_short_and_says_how_to_run_it(script):
    text = (EXAMPLES / script).read_text()
    assert 40 <= len(text.splitlines()) <= 90
    told = ast.get_docstring(ast.parse(text)).splitlines()
    assert any(line.startswith("pip install 'concur-agents[") for line in told)
    assert any("vllm serve " in line for line in told)
    assert any(line.startswith(f"python {script} --model ") for line in told)
