from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from docs.pages import ROOT, blocks, commands
from docs.treated import NOT_RUN

from docs import shell

RUN = Path(__file__).with_name("run_page.py")
ELSEWHERE_THE_SAME = ("concur demo", "concur doctor http://localhost:8000", "concur serve")
"""These write no file, and some are on several pages: they are run once."""


@pytest.fixture(scope="session")
def folder_of(tmp_path_factory):
    """A folder that a page has for itself."""
    folders = {}

    def folder_of(page):
        if page not in folders:
            folders[page] = tmp_path_factory.mktemp(page.replace("/", "-").removesuffix(".md"))
        return folders[page]

    return folder_of


@pytest.fixture(scope="session")
def python_of(folder_of, request):
    """Runs the Python of a page, once."""
    done = {}

    def python_of(page):
        if page not in done:
            # Who reads a page need not close the clients of its snippets. Clients close by themselves with the process.
            warnings = ["-W", "error", "-W", "ignore::ResourceWarning"]
            for ignored in request.config.getoption("pythonwarnings") or ():  # of old packages in each other
                warnings += ["-W", ignored]
            done[page] = subprocess.run(
                [sys.executable, *warnings, RUN, page],
                cwd=folder_of(page),
                env=shell.reader_environment(),
                capture_output=True,
                text=True,
                timeout=60,
                check=False,
            )
        return done[page]

    return python_of


@pytest.fixture(scope="session")
def server():
    """The server of all pages: the embedded engine over HTTP, with a cache of some 28,000 tokens."""
    with shell.serving("--model qwen3-32b --hardware h100 --speed 100") as (url, _, _):
        yield url


@pytest.fixture(scope="session")
def ran_on(server, folder_of, python_of):
    """What became of each command of a page: they are run in the order of the page, once."""
    done, alone = {}, {}

    def ran_on(page):
        if page not in done:
            done[page] = {}
            shell.give_files(page, folder_of(page))
            if page == "docs/recordings.md":
                assert python_of(page).returncode == 0  # its Python writes the recording that its commands read
            for command in [one for block in blocks(ROOT / page) for one in commands(block)]:
                text = command.text
                if text in NOT_RUN or text in done[page]:
                    continue
                if text not in alone:
                    result = shell.run(text, folder_of(page), server)
                    if text.startswith(ELSEWHERE_THE_SAME) and ">" not in text:
                        alone[text] = result
                done[page][text] = alone.get(text) or result
                assert done[page][text].code == 0, f"{page}:{command.line} {text}\n{done[page][text]}"
        return done[page]

    return ran_on
