from __future__ import annotations

import json
import os
import re
import shlex
import stat
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from concur_agents.cli.app import app
from concur_agents.launch import VllmProfile

LOAD = ("--model", "Qwen/Qwen3-32B", "--gpus", "8", "--agents", "256", "--context", "40k")

PAGE = Path(__file__).parents[2] / "docs" / "launch.md"
SHOWN = re.findall(
    r"```console\n\$ concur launch ((?:\\\n|[^\n])+)\n((?!\$ )[^`]*)```", PAGE.read_text(encoding="utf-8")
)
"""Each command of the page that is shown with what it prints."""


def concur(*arguments):
    return CliRunner().invoke(app, ["launch", *map(str, arguments)])


def test_the_command_is_printed_with_a_reason_for_each_flag():
    result = concur("vllm", *LOAD)

    assert result.exit_code == 0
    assert result.stderr == ""
    assert "# About 2,017,000 tokens of KV cache: 49 agents of 40,960 tokens at once." in result.stdout
    assert "  --enable-prompt-tokens-details              # answers tell cached tokens" in result.stdout
    assert result.stdout.endswith('vllm serve "${args[@]}"\n')


@pytest.mark.parametrize(("text", "tokens"), [("40960", 40_960), ("32k", 32_768), ("32K", 32_768)])
def test_contexts_are_written_as_people_do(text, tokens):
    result = concur("vllm", *LOAD[:-1], text, "--format", "yaml")

    assert yaml.safe_load(result.stdout)["max-model-len"] == tokens


def test_a_million_is_a_million_times_1024():
    result = concur("vllm", *LOAD[:-1], "1m")

    assert "not 1,048,576" in result.stderr


def test_gpus_and_their_number_may_be_told_at_once():
    told = concur("vllm", *LOAD[:2], "--hardware", "h200:4", *LOAD[4:], "--format", "yaml")
    assert yaml.safe_load(told.stdout)["tensor-parallel-size"] == 4

    both = concur("vllm", *LOAD, "--hardware", "h200:4")
    assert both.exit_code == 1
    assert "tell two numbers" in both.stderr


def test_more_arguments_go_through_behind_two_dashes():
    result = concur("vllm", *LOAD, "--format", "args", "--", "--max-num-seqs", "64", "--seed=7")

    assert result.stdout.endswith("--max-num-seqs 64 --seed 7\n")
    assert "warning: --max-num-seqs 64 is under the 256 agents" in result.stderr


def test_what_fits_is_said_beside_the_bare_arguments():
    result = concur("vllm", *LOAD, "--format", "args")

    assert "49 agents of 40,960 tokens at once" in result.stderr
    assert "49 agents" not in result.stdout


@pytest.mark.parametrize("form", ["command", "args", "yaml", "compose", "k8s"])
def test_a_file_is_written_whole(form, tmp_path):
    file = tmp_path / "server"

    result = concur("vllm", *LOAD, "--format", form, "--output", file)

    assert result.exit_code == 0
    assert result.stdout == ""
    assert f"written to {file}" in result.stderr
    assert file.read_text() == concur("vllm", *LOAD, "--format", form).stdout
    assert list(tmp_path.iterdir()) == [file]


def test_nothing_is_written_where_nothing_would_start(tmp_path):
    file = tmp_path / "server"

    result = concur("vllm", "--model", "deepseek-v3", *LOAD[2:], "--output", file)

    assert result.exit_code == 1
    assert "error: deepseek-v3 does not fit h100:8" in result.stderr
    assert not file.exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["llama.cpp", *LOAD], "no engine 'llama.cpp': use one of vllm, sglang, tensorrt-llm"),
        (["vllm", *LOAD, "--format", "toml"], "no format 'toml'"),
        (["vllm", *LOAD[:-1], "64x"], "--context is '64x': write a number of tokens"),
        (["vllm", *LOAD, "--hardware", "h9"], "no GPU is known as 'h9'"),
        (["vllm", *LOAD, "--vllm-version", "0.8.5"], "before 0.9"),
        (["sglang", *LOAD, "--vllm-version", "0.12"], "--vllm-version is for vllm"),
        (["vllm", *LOAD, "--gpu-memory-gib", "-1"], "--gpu-memory-gib: Input should be greater than 0"),
        (["vllm", *LOAD, "stray"], "'stray' is no option: after -- come the server's own"),
        (["vllm", *LOAD, "--model-config", "/nowhere"], "/nowhere: cannot be read"),
        (["vllm", *LOAD, "--output", "/nowhere/file"], "No such file or directory"),
        (["tensorrt-llm", *LOAD, "--format", "k8s"], "use the format command, args or yaml"),
        (["tensorrt-llm", *LOAD, "--exec"], "needs a file of options beside it"),
        (["vllm", *LOAD, "--exec", "--executable", "/nowhere/vllm"], "cannot be run here: install vLLM"),
        (["vllm", *LOAD, "--format", "systemd", "--executable", "vllm"], "systemd needs the whole path of 'vllm'"),
    ],
)
def test_what_cannot_be_done_is_said_in_one_line(arguments, said):
    result = concur(*arguments)

    assert result.exit_code == 1
    assert result.stdout == ""
    assert said in result.stderr
    assert result.stderr.startswith("concur: error: ")
    assert result.stderr.count("\n") == 1


def test_a_key_is_never_repeated():
    result = concur("vllm", *LOAD, "--", "--api-key", "sk-secret")

    assert result.exit_code == 1
    assert "set VLLM_API_KEY" in result.stderr
    assert "sk-secret" not in result.output


def test_exec_becomes_the_server_with_the_very_arguments(tmp_path):
    """A program of the name stands in for it, and is found on PATH."""
    program = tmp_path / "vllm"
    program.write_text(f"#!{sys.executable}\nimport os, sys, json\nprint(json.dumps([os.getpid(), *sys.argv[1:]]))\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    extra = ("--override-generation-config", '{"a": "$HOME; rm -rf /"}')
    command = [sys.executable, "-c", "from concur_agents.cli import main; main()", "launch", "vllm", *LOAD, "--exec"]

    with subprocess.Popen(
        [*command, "--", *extra],
        env=os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as running:
        stdout, stderr = running.communicate(timeout=60)

    pid, *arguments = json.loads(stdout)
    wanted = VllmProfile(model="Qwen/Qwen3-32B", gpus=8, agents=256, context=40_960, extra=extra)
    assert pid == running.pid  # it took the command's place, and no shell was in between
    assert arguments == ["serve", *wanted.arguments()]
    assert "49 agents of 40,960 tokens at once" in stderr


def test_a_unit_names_the_program_that_is_found(tmp_path, monkeypatch):
    program = tmp_path / "vllm"
    program.touch(mode=0o755)
    monkeypatch.setenv("PATH", str(tmp_path))

    result = concur("vllm", *LOAD, "--format", "systemd")

    assert f"ExecStart={program} serve Qwen/Qwen3-32B" in result.stdout


@pytest.mark.parametrize(("command", "shown"), SHOWN, ids=[command[:40] for command, _ in SHOWN])
def test_the_page_shows_what_is_printed(command, shown, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    result = concur(*shlex.split(command.replace("\\\n", " ")))

    assert result.output == shown


def test_the_page_shows_commands():
    assert len(SHOWN) == 3
