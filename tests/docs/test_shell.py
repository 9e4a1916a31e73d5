"""Every command on a page is run, in the order of the page, and prints what the page shows."""

from __future__ import annotations

import json
import re

import pytest
from docs.pages import PAGES, blocks, commands, name_of
from docs.shell import may_run
from docs.treated import FILES, NOT_RUN, SMALLER

ALL = {name_of(page): [one for block in blocks(page) for one in commands(block)] for page in PAGES}
RUN = {page: [one for one in found if one.text not in NOT_RUN] for page, found in ALL.items()}


@pytest.mark.parametrize("page", [page for page, found in ALL.items() if found])
def test_each_command_may_be_run_or_is_listed(page):
    for command in ALL[page]:
        assert may_run(command.text) or command.text in NOT_RUN, f"{page}:{command.line}: list it in treated.py"


@pytest.mark.parametrize("page", [page for page, found in RUN.items() if found])
def test_the_commands_of_a_page_run_and_print_what_it_shows(page, ran_on):
    ran = ran_on(page)
    for command in RUN[page]:
        result = ran[command.text]
        said = result.out + result.err
        assert "Traceback" not in said
        assert "Warning" not in said
        if command.shown:  # notes go to stderr: on a terminal the lines are mixed
            assert sorted(said.splitlines()) == sorted(command.shown.splitlines()), f"{page}:{command.line}"


def test_files_that_the_pages_commands_write_are_there_and_can_be_read(ran_on, folder_of):
    for page, name in (
        ("README.md", "mine.json"),
        ("docs/doctor.md", "report.json"),
        ("docs/simulation.md", "mine.json"),
    ):
        ran_on(page)
        assert json.loads((folder_of(page) / name).read_text(encoding="utf-8"))
    ran_on("docs/report.md")
    assert (folder_of("docs/report.md") / "report.html").read_text(encoding="utf-8").startswith("<!DOCTYPE html>")
    ran_on("docs/launch.md")
    assert {path.name for path in folder_of("docs/launch.md").iterdir()} == {"serve.sh", "options.yaml"}


def test_what_is_watched_is_told_in_plain_lines_or_json(ran_on):
    ran = ran_on("docs/watch.md")
    for command, result in ran.items():
        lines = result.out.splitlines()
        servers = len(re.findall("http://", command))
        assert len(lines) >= servers, command
        for line in lines:
            if "--json" in command:
                assert {"url", "time", "usage"} <= set(json.loads(line))
            else:
                assert re.search(r"http://127\.0\.0\.1:\d+: KV \d\.\d\d hit .* running \d+ waiting", line), command


def test_a_compared_recording_is_the_one_that_the_page_makes(ran_on):
    for command, result in ran_on("docs/recordings.md").items():
        agents = 256 if "--agents 256" in command else 3
        assert f"run.jsonl: {agents} agents, " in result.out, command


def test_what_is_said_of_commands_is_of_commands_that_are_on_a_page():
    typed = {command.text for page in ALL.values() for command in page}
    assert set(SMALLER) - typed == set()
    assert set(NOT_RUN) - typed == set()
    assert set(SMALLER) & set(NOT_RUN) == set()
    for page, names in FILES.items():
        for name in names:
            assert any(name in command.text for command in ALL[page]), f"{page}: {name}"
