"""The tutorial's `agents.py`, whole, prints what the page says that it prints."""

from __future__ import annotations

import re

import pytest
from docs.agents_file import GATED, LOGGED, MAIN, PLAIN, SERVER, printed
from docs.pages import DOCS, blocks, commands

PAGE = DOCS / "tutorial.md"
IMPORTED = "from concur_agents import ConcurGate\n"
FIGURE = r"\d[\d,]*(?:\.\d+)?"
TOLERANCE = 0.2
"""Of a figure: the page's were measured, and its reader's will differ too."""


def figures(line):
    return [float(figure.replace(",", "")) for figure in re.findall(FIGURE, line)]


def without_figures(line):
    return re.sub(FIGURE, "#", line)


def shown_of_agents_py():
    return [one.shown for block in blocks(PAGE) for one in commands(block) if one.text == "python agents.py"]


def test_the_engine_is_the_one_that_the_page_starts():
    (started,) = [one.text for block in blocks(PAGE) for one in commands(block) if one.text.startswith("concur serve")]
    assert (
        started == f"concur serve --model {SERVER['model']} --hardware {SERVER['hardware']} --speed {SERVER['speed']:g}"
    )


@pytest.mark.parametrize(("source", "number"), [(PLAIN, 0), (PLAIN[:MAIN] + GATED, 1)], ids=["without", "with a gate"])
def test_it_takes_the_time_and_tells_the_figures_of_the_page(source, number, monkeypatch):
    said, shown = printed(source, monkeypatch).splitlines(), shown_of_agents_py()[number].splitlines()
    assert list(map(without_figures, said)) == list(map(without_figures, shown))
    for line, expected in zip(said, shown, strict=True):
        if "active agents lost" not in line:  # which differs from turn to turn
            assert figures(line) == pytest.approx(figures(expected), rel=TOLERANCE)


def test_its_log_and_its_prints_read_as_on_the_page(monkeypatch):
    said = printed(PLAIN[:MAIN] + IMPORTED + LOGGED, monkeypatch).splitlines()
    (shown,) = [block.text.splitlines() for block in blocks(PAGE) if block.text.startswith("concur_agents: budget")]
    assert said[:2] == shown[:2]
    assert set(map(without_figures, shown)) - {"…"} <= set(map(without_figures, said))
