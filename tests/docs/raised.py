"""The errors that the package raises, and what they say, read from its source."""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass

from docs.pages import ROOT

PACKAGE = ROOT / "concur_agents"
VALUE = "…"
"""Stands in a message for what is filled in."""


@dataclass(frozen=True)
class Raised:
    """One place in the source that makes an error, and the sentence that it says."""

    error: str
    says: str
    where: str


def trees():
    for path in sorted(PACKAGE.rglob("*.py")):
        yield path, ast.parse(path.read_text(encoding="utf-8"))


def error_classes():
    """The names of all classes that come from `ConcurError`, itself included."""
    bases = {
        node.name: {base.id for base in node.bases if isinstance(base, ast.Name)}
        for _, tree in trees()
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef)
    }
    found = {"ConcurError"}
    while more := {name for name, of in bases.items() if of & found} - found:
        found |= more
    return found


def sentence(node):
    """What a message says, with … where values are filled in."""
    if isinstance(node, ast.Constant):
        said = str(node.value)
    elif isinstance(node, ast.JoinedStr):
        said = "".join(part.value if isinstance(part, ast.Constant) else VALUE for part in node.values)
    elif isinstance(node, ast.BinOp):
        said = sentence(node.left) + sentence(node.right)
    elif isinstance(node, ast.IfExp):
        said = sentence(node.body)
    else:
        said = VALUE
    return re.sub(r"…(\s*…)+", VALUE, " ".join(said.split()))


def raised():
    classes = error_classes()
    for path, tree in trees():
        functions = {node.name: node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in classes:
                where = f"{path.relative_to(ROOT)}:{node.lineno}"
                for said in sentences(node, functions):
                    yield Raised(node.func.id, said, where)


def sentences(call, functions):
    """What an error says; if a function of the same file writes its sentence, all that that function may say."""
    said = call.args[0] if call.args else None
    if isinstance(said, ast.Call):
        name = said.func.id if isinstance(said.func, ast.Name) else getattr(said.func, "attr", "")
        if name in functions:
            returned = [node.value for node in ast.walk(functions[name]) if isinstance(node, ast.Return)]
            return [sentence(node) for node in returned]
    return [sentence(said)] if said is not None else []


def every_sentence():
    """What anything that is raised says, errors of Python included."""
    for _, tree in trees():
        for node in ast.walk(tree):
            if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call) and node.exc.args:
                yield sentence(node.exc.args[0])
