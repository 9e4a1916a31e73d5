"""docs/doctor.md runs as it stands there, and knows every check."""

from __future__ import annotations

import ast
import asyncio
import re
import shlex
from pathlib import Path

from typer.testing import CliRunner

import concur_agents.doctor
from concur_agents.cli.app import app

PAGE = (Path(__file__).parents[2] / "docs" / "doctor.md").read_text(encoding="utf-8")
SOURCES = Path(concur_agents.doctor.__file__).parent.glob("*.py")


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)


async def test_every_python_block_runs(server, capsys):
    for block in blocks("python"):
        code = compile(
            block.replace("http://localhost:8000", server.url), "page", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
        )
        await eval(code, {})

    assert capsys.readouterr().out.startswith("True ")


async def test_every_command_runs(server):
    commands = re.findall(r"^\$ (concur .*?)(?: &&.*| >.*)?$", "".join(blocks("console")), re.MULTILINE)
    assert len(commands) == 3
    for command in commands:
        words = shlex.split(command.replace("http://localhost:8000", server.url))
        assert (await asyncio.to_thread(CliRunner().invoke, app, words[1:])).exit_code == 0


def test_every_check_that_can_complain_is_explained():
    complaints = {
        name
        for source in SOURCES
        for name, level in re.findall(r'Finding\(\s*"([a-z-]+)",\s*("ok"|[^,]+),', source.read_text(encoding="utf-8"))
        if level != '"ok"'
    }

    explained = set(re.findall(r"^\| `([a-z-]+)` \| (?:fail|warn|note)", PAGE, re.MULTILINE))
    assert len(complaints) > 15
    assert complaints == explained
