"""Of the commands that are not run it is seen what can be seen: that what they name exists, and takes their options."""

from __future__ import annotations

import importlib
import re
import shlex
import shutil
import subprocess
import sys
import tomllib

import pytest
from docs.pages import ROOT
from docs.treated import NOT_RUN

from concur_agents.launch import VllmProfile

SEEN = {
    "make": "test_make_knows_the_target",
    "python3": "test_make_sets_up_its_environment_by_the_same_steps",
    "pip": "test_make_sets_up_its_environment_by_the_same_steps",
    "vllm": "test_vllm_is_started_with_flags_of_the_launch_profile",
    "python": "test_a_script_takes_the_options",
}
OF = {program: [command for command in NOT_RUN if command.split()[0] == program] for program in SEEN}


def test_each_is_seen_in_some_way():
    assert {command.split()[0] for command in NOT_RUN} == set(SEEN)
    for name in SEEN.values():
        assert name in globals()


@pytest.mark.skipif(shutil.which("make") is None, reason="needs make")
@pytest.mark.parametrize("command", OF["make"])
def test_make_knows_the_target(command):
    words = shlex.split(command)
    made = subprocess.run([*words, "--dry-run"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert made.returncode == 0, made.stderr
    for word in words[2:]:
        assert word.partition("=")[2] in made.stdout
    for name in re.findall(r"\btest_\w+", command):
        assert (ROOT / "tests" / "live" / f"{name}.py").is_file()


def test_make_sets_up_its_environment_by_the_same_steps():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for command in (*OF["python3"], *OF["pip"]):
        for step in command.split(" && "):
            words = shlex.split(step)
            if words[:3] == ["python3", "-m", "venv"]:
                assert "-m venv $(VENV)" in makefile
            elif words[0] == ".":
                assert words[1] == f"{shlex.split(command)[3]}/bin/activate"
            else:
                assert words[:2] == ["pip", "install"]
                assert re.search(r"pip install .*'\.\[all\]'", makefile)
                assert words[2:] == [".[all]"]
    assert "all" in tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]


@pytest.mark.parametrize("command", OF["vllm"])
def test_vllm_is_started_with_flags_of_the_launch_profile(command):
    """The profile's flags are read by the parser of the real vLLM in tests/live."""
    program, verb, model, *flags = shlex.split(command)
    known = {flag.words[0] for flag in VllmProfile(model=model, gpus=1, agents=8, context=8192).flags()}
    assert (program, verb) == ("vllm", "serve")
    assert set(flags) <= known


@pytest.mark.parametrize("command", [command for command in OF["python"] if "/" in command])
def test_a_script_takes_the_options(command, monkeypatch, tmp_path):
    _, script, *options = shlex.split(command)
    monkeypatch.syspath_prepend((ROOT / script).parent)
    module = importlib.import_module((ROOT / script).stem)
    asked = []
    if script == "scripts/live_vllm.py":
        monkeypatch.setattr(module, "_serve", lambda *given: asked.append(given))
    else:
        monkeypatch.setattr(module, "specs", lambda case, *_: asked.append(case.name) or [])
        monkeypatch.setattr(module, "between", lambda *_: [])
        monkeypatch.setattr(module, "tables", lambda *_: "")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [script, *options])
    module.main()
    assert asked
    if script == "scripts/live_vllm.py":
        assert asked == [(8000, *(int(number) for number in re.findall(r"\d+", " ".join(options))))]
