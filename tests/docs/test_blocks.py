"""Every block of Python on a page runs, one after the other, as its reader would run it."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from docs.pages import PAGES, ROOT, blocks, name_of, python_blocks
from langgraph import errors

RUN = Path(__file__).with_name("run_page.py")
WITH_CODE = [name_of(page) for page in PAGES if python_blocks(page)]
LANGUAGES = {"", "python", "console", "text", "diff", "json", "yaml", "promql", "toml", "ini"}
"""What a block may be called. Of "" and `text` it is checked that they are no Python that nobody runs."""


@pytest.mark.parametrize("page", WITH_CODE)
def test_the_code_of_a_page_runs(page, tmp_path, request):
    if page == "docs/langgraph.md" and not hasattr(errors, "GraphDrained"):
        pytest.skip("it shows what came with LangGraph 1.2")
    environment = {
        name: value
        for name, value in os.environ.items()
        if name != "OPENAI_API_KEY" and not name.startswith(("CONCUR_", "OTEL_"))
    }
    # Who reads a page need not close the clients of its snippets. Clients close by themselves with the process.
    warnings = ["-W", "error", "-W", "ignore::ResourceWarning"]
    for ignored in request.config.getoption("pythonwarnings") or ():  # of old packages in each other
        warnings += ["-W", ignored]
    done = subprocess.run(
        [sys.executable, *warnings, RUN, page],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "never awaited" not in done.stderr
    assert "never retrieved" not in done.stderr


@pytest.mark.parametrize("page", [name_of(page) for page in PAGES])
def test_each_block_says_its_language_and_code_is_called_code(page):
    for block in blocks(ROOT / page):
        if not block.language.startswith("{"):  # a directive of the site
            assert block.language in LANGUAGES, f"{page}:{block.line}"
        if block.language in {"", "text"}:
            assert not is_code(block.text), f"{page}:{block.line} is Python, and not run"


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
