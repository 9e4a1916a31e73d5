"""Commands on the pages exist, and their options too; what prints at once is run."""

from __future__ import annotations

import re
import shlex
import tomllib

import click
import pytest
import typer
from docs.pages import DOCS, PAGES, ROOT, blocks, name_of
from typer.testing import CliRunner

from concur_agents.cli.app import app

COMMANDS = typer.main.get_command(app)
SHELL = {"", "console", "text"}
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
FILLED_IN = re.compile(r"…|\.\.\.")


def lines_of(block):
    """The lines of a block that a shell would run, those that end in a backslash put together."""
    text = block.text.replace("\\\n", " ")
    for line in text.splitlines():
        if block.language == "console":
            if line.startswith("$ "):
                yield line[2:]
        elif re.match(r"(concur|make|pip|python|vllm) [\w.'-]", line):
            yield line


def commands(page):
    """Each command of a page as its words."""
    for block in blocks(page):
        if block.language in SHELL:
            for line in lines_of(block):
                for part in re.split(r" && |\|", line):
                    words = shlex.split(FILLED_IN.sub("", part.partition(" > ")[0]), comments=True)
                    if words:
                        yield f"{name_of(page)}:{block.line}", words


ALL = [pair for page in PAGES for pair in commands(page)]
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


@pytest.mark.parametrize(
    ("where", "words"), [pair for pair in OURS if pair[1][:1] == ["launch"] and "--exec" not in pair[1]]
)
def test_a_command_that_only_prints_runs(where, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, f"{where}: {result.output}"


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
