"""The notebook runs from top to bottom, as in Jupyter: on a running event loop."""

from __future__ import annotations

import json
from pathlib import Path

import matplotlib as mpl
import pytest

NOTEBOOK = Path(__file__).parents[2] / "examples" / "collapse_and_cure.ipynb"


@pytest.fixture
def cells():
    return json.loads(NOTEBOOK.read_text())["cells"]


async def test_it_shows_the_collapse_and_the_cure(cells, capsys):
    mpl.use("Agg")
    names = {}
    for cell in cells:
        if cell["cell_type"] == "code":
            exec("".join(cell["source"]), names)

    none, cured = names["runs"]["none"], names["runs"]["working-set"]
    cache = names["engine"].capacity_tokens
    assert max(moment.working_set_tokens for moment in none.timeline) > 1.5 * cache
    assert max(moment.working_set_tokens for moment in cured.timeline) <= cache
    assert cured.hit_rate > 0.9
    assert none.hit_rate < 0.7
    assert cured.output_tokens_per_s > 2 * none.output_tokens_per_s
    assert "output tokens/s" in capsys.readouterr().out
    axes = names["figure"].axes
    assert [axis.get_ylabel() for axis in axes] == [
        "active agents",
        "working set / cache",
        "hit rate",
        "output tokens/s",
    ]
    assert all(len(axis.lines) >= 2 for axis in axes)
    names["figure"].canvas.draw()
    names["plt"].close(names["figure"])


def test_it_is_saved_without_outputs(cells):
    for cell in cells:
        if cell["cell_type"] == "code":
            assert (cell["outputs"], cell["execution_count"]) == ([], None)


def test_it_is_a_valid_notebook():
    nbformat = pytest.importorskip("nbformat")
    nbformat.validate(nbformat.read(NOTEBOOK, as_version=4))
