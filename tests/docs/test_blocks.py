"""Every block of Python on a page runs, one after the other, as its reader would run it."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from docs.pages import PAGES, ROOT, blocks, name_of, python_blocks
from docs.treated import BLOCKS
from langgraph import errors

RUN = Path(__file__).with_name("run_page.py")
PRINTS = {"docs/batches.md": "['WHY', 'HOW', 'WHO']", "docs/openai-agents.md": "untouched calls look_up"}
WITH_CODE = [name_of(page) for page in PAGES if python_blocks(page)]


@pytest.mark.parametrize("page", WITH_CODE)
def test_the_code_of_a_page_runs(page, python_of):
    if page == "docs/langgraph.md" and not hasattr(errors, "GraphDrained"):
        pytest.skip("it shows what came with LangGraph 1.2")
    done = python_of(page)
    assert done.returncode == 0, done.stderr
    assert PRINTS.get(page, "") in done.stdout
    assert "never awaited" not in done.stderr
    assert "never retrieved" not in done.stderr


@pytest.mark.parametrize("page", [name_of(page) for page in PAGES])
def test_each_block_is_of_a_kind_that_something_is_done_with(page):
    for block in blocks(ROOT / page):
        assert block.language.partition(" ")[0] in BLOCKS, f"{page}:{block.line}: treated.py says what is done with it"
        if block.language == "text":
            assert not is_code(block.text), f"{page}:{block.line} is Python, and not run"


def test_what_is_said_of_kinds_of_blocks_is_of_kinds_that_there_are():
    assert {block.language.partition(" ")[0] for page in PAGES for block in blocks(page)} == set(BLOCKS)


def is_code(text):
    try:
        tree = ast.parse(text)
    except SyntaxError:
        return False
    return any(isinstance(node, ast.Import | ast.ImportFrom | ast.FunctionDef | ast.Call) for node in ast.walk(tree))


@pytest.mark.parametrize("page", [name_of(page) for page in PAGES])
def test_data_on_a_page_can_be_read(page):
    for block in blocks(ROOT / page):
        if block.language == "yaml":
            assert list(yaml.safe_load_all(block.text)), f"{page}:{block.line}"
        if block.language == "json":
            decoder, text = json.JSONDecoder(), block.text.strip()
            while text:  # one after the other, as in JSON Lines
                _, end = decoder.raw_decode(text)
                text = text[end:].lstrip()


@pytest.mark.parametrize(
    ("page", "fault"),
    [
        ("```python\nassert False\n```\n", "AssertionError"),
        ("```python\nimport warnings\nwarnings.warn('old', stacklevel=1)\n```\n", "UserWarning"),
    ],
)
def test_code_that_does_not_run_is_told_with_its_line(page, fault, tmp_path):
    path = tmp_path / "page.md"
    path.write_text("# A page\n\n" + page)
    command = [sys.executable, "-W", "error", RUN, path]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert fault in done.stderr
    assert "page.md" in done.stderr
