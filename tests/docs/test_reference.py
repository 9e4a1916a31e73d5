"""The reference names all that is public."""

from __future__ import annotations

import re

from docs.pages import DOCS

import concur_agents
from concur_agents import ConcurGate

REFERENCE = "".join(page.read_text(encoding="utf-8") for page in sorted((DOCS / "reference").glob("*.md")))


def test_each_public_name_is_in_the_reference():
    listed = set(re.findall(r"^\.\. auto(?:class|function|exception|method):: ([\w.]+)$", REFERENCE, re.MULTILINE))
    assert set(concur_agents.__all__) <= listed


def test_each_method_of_the_gate_is_in_the_reference():
    members = re.search(r"autoclass:: ConcurGate\n   :members: (.+)", REFERENCE)[1].split(", ")
    methods = set(re.findall(r"automethod:: ConcurGate\.(\w+)", REFERENCE))
    of_agents = {"block_size", "catch_up", "enter", "leave", "now"}  # what agents need of their gate
    public = {name for name in vars(ConcurGate) if not name.startswith("_")}
    assert public - of_agents == {*members, *methods}
