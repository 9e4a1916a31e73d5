"""The room stands on the server's side of the wire."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import concur_agents.simulation

FILES = sorted(Path(concur_agents.simulation.__file__).parent.rglob("*.py"))


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_the_simulation_knows_nothing_of_the_rest_of_the_package(file):
    modules = []
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            modules += [name.name for name in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0
            modules.append(node.module or "")
    ours = [module for module in modules if module.split(".")[0] == "concur_agents"]
    assert all(
        module.startswith(("concur_agents.simulation", "concur_agents.errors", "concur_agents.files"))
        for module in ours
    )
