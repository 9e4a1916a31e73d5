"""Commands on the pages exist, and their options too, in the text and in the helps of the commands as well."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import tomllib

import click
import pytest
import typer
from docs.pages import DOCS, PAGES, ROOT, blocks, commands, name_of
from docs.treated import HERE

from concur_agents.cli.app import app

COMMANDS = typer.main.get_command(app)
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
FILLED_IN = re.compile(r"…|\.\.\.")


def programs(page):
    """Each program that a page starts, as its words."""
    for block in blocks(page):
        for command in commands(block):
            for part in re.split(r" && |\|", command.text):
                words = shlex.split(FILLED_IN.sub("", part.partition(" > ")[0]))
                if words:
                    yield f"{name_of(page)}:{command.line}", words


ALL = [pair for page in PAGES for pair in programs(page)]
OURS = [(where, words[1:]) for where, words in ALL if words[0] == "concur"]


def command_of(words):
    """The innermost command, and its arguments."""
    command = COMMANDS
    while isinstance(command, click.Group) or hasattr(command, "commands"):
        if not words or words[0].startswith("-"):
            break
        assert words[0] in command.commands, f"there is no command `concur {' '.join(words)}`"
        command, words = command.commands[words[0]], words[1:]
    return command, words


@pytest.mark.parametrize(("where", "words"), OURS, ids=[f"{where} {' '.join(words)}" for where, words in OURS])
def test_a_command_is_understood(where, words):
    command, arguments = command_of(words)
    if "--help" not in arguments:
        command.make_context(str(command.name), list(arguments))


@pytest.mark.parametrize("page", [name_of(page) for page in PAGES])
def test_commands_in_the_text_exist_with_their_options(page):
    for inline in re.findall(r"`(concur [^`]+)`", (ROOT / page).read_text(encoding="utf-8")):
        words = shlex.split(FILLED_IN.sub("", inline))[1:]
        if words and words[0].isupper():
            continue  # `concur COMMAND`
        command, arguments = command_of(words)
        known = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
        asked = {word.partition("=")[0] for word in arguments if word.startswith("-")}
        assert asked <= known | {"--help", "-h"}, f"{page}: `{inline}`"


def examples(command):
    """The command lines that a help shows."""
    lines = iter((command.help or "").splitlines())
    for line in lines:
        if re.match(r"  (?:concur|curl) ", line):
            whole = line
            while whole.endswith("\\"):
                whole = whole[:-1] + next(lines)
            yield whole.strip()


HELPED = [line for command in COMMANDS.commands.values() for line in examples(command)]


@pytest.mark.parametrize("line", [line for line in HELPED if line.startswith("concur ") and "..." not in line])
def test_a_command_in_a_help_is_understood(line):
    words = shlex.split(re.split(r" && | \| | > ", line)[0])
    command, arguments = command_of(words[1:])
    command.make_context(str(command.name), list(arguments))


@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")
def test_the_request_in_the_help_of_serve_is_answered(server):
    (line,) = [line for line in HELPED if line.startswith("curl ")]
    asked = ["bash", "-c", re.sub(HERE, server, line)]
    done = subprocess.run(asked, capture_output=True, text=True, timeout=60, check=False)
    assert json.loads(done.stdout)["choices"][0]["message"]["content"], done.stderr


def test_targets_scripts_and_extras_on_the_pages_exist():
    makefile = (ROOT / "Makefile").read_text()
    extras = set(PROJECT["optional-dependencies"])
    for where, words in ALL:
        if words[0] == "make":
            assert re.search(rf"^{re.escape(words[1])}:", makefile, re.MULTILINE), f"{where}: make {words[1]}"
        if words[0] == "python" and "/" in words[1]:
            assert (ROOT / words[1]).is_file(), f"{where}: {words[1]}"
    for page in PAGES:
        for named in re.findall(r"(?:concur-agents|'\.)\[([\w,-]+)\]", page.read_text(encoding="utf-8")):
            assert set(named.split(",")) <= extras, f"{name_of(page)}: [{named}]"


def test_each_command_has_its_help_in_the_reference():
    page = (DOCS / "reference" / "command-line.md").read_text(encoding="utf-8")
    shown = set(re.findall(r"^```\{concur-help\} ([\w -]+)$", page, re.MULTILINE))
    for name, command in COMMANDS.commands.items():
        below = getattr(command, "commands", None)
        for full in [f"{name} {sub}" for sub in below] if below else [name]:
            assert full in shown, f"`concur {full}` is not in docs/reference/command-line.md"
    for full in shown - {"concur"}:
        assert command_of(full.split())[1] == []
