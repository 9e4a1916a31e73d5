"""Imports run one way: who may know whom at import time, room by room."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import concur_agents

PACKAGE = "concur_agents"
HOUSE = Path(concur_agents.__file__).parent

FOUNDATION = {"errors", "order", "kind", "config", "control.base"}
GATE = {
    *("", "gate", "hold", "agent", "context", "listener", "admission", "place", "pool", "regulator", "stats", "sync"),
    *("pacing", *FOUNDATION),
}
MAY_KNOW = {
    "errors": set(),
    "files": set(),
    "order": set(),
    "life_table": set(),
    "head_start": set(),
    "kind": {"life_table"},
    "config": set(),
    "control": {"errors"},
    "engines": {"errors"},
    "simulation": {"errors", "files"},  # stands on the server's side of the wire
    "launch": {"errors", "simulation"},  # a server's numbers, and nothing of the gate
    "place": {"head_start", "life_table", "order", "kind"},
    "outlook": {"life_table"},
    "active": {"order", "outlook", "place"},
    "lines": {"active", "place"},
    "stats": {"control.base"},
    "pacing": {"errors"},
    "hold": set(),
    "context": set(),
    "listener": set(),
    "regulator": {"control", "stats"},
    "sync": {"agent", "ahead", "context", "errors", "head_start"},  # like the pool, it meets the gate only at run time
    "pool": {"errors"},  # the gate's door imports it, so it meets the gate only at run time
    "admission": {"active", "control.base", "head_start", "lines", "place", "kind", "errors"},
    "agent": {"control.base", "context", "admission", "head_start", "place", "order", "kind", "errors"},
    "ahead": {"agent", "context"},
    "gate": (GATE - {"", "gate"}) | {"control", "engines"},
    "": {"gate", "agent", "listener", "place", "pool", "stats", "config", "control.base", "errors"},
    "integrations": GATE,
    "telemetry": GATE | {"engines", "replay.trace"},  # a recording is a trace
    "doctor": {"control", "engines", "errors"},
    "replay": GATE | {"control", "engines", "files", "integrations", "simulation"},
    "report": {"replay.results", "files", "errors"},
    "cli": GATE
    | {"control", "doctor", "engines", "files", "integrations", "launch", "simulation", "replay", "telemetry"},
}
"""By room: the modules (dotted, with all below them) that it may import beside its own; `""` is the package itself."""

OPTIONAL = [
    "jinja2",
    "matplotlib",
    "yaml",
    "openai",
    "langgraph",
    "langchain",
    "langchain_core",
    "typer",
    "rich",
    "asyncio_throttle",
    "opentelemetry",
]


def modules():
    for path in sorted(HOUSE.rglob("*.py")):
        parts = path.relative_to(HOUSE).with_suffix("").parts
        yield path, ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(source, name, *, is_package=False):
    """What a module of the house imports from the house when it is imported itself, dotted, without the package."""
    found = []
    todo = list(ast.parse(source).body)
    while todo:
        node = todo.pop()
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            todo.extend(node.orelse)
            continue
        if isinstance(node, ast.Import):
            found.extend(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            found.extend(_from(node, name, is_package=is_package))
        todo.extend(child for child in ast.iter_child_nodes(node) if isinstance(child, ast.stmt | ast.ExceptHandler))
    inside = (dotted for dotted in found if dotted == PACKAGE or dotted.startswith(f"{PACKAGE}."))
    return sorted({dotted.removeprefix(PACKAGE).removeprefix(".") for dotted in inside})


def _from(node, name, *, is_package):
    base = node.module or ""
    if node.level:
        here = [PACKAGE, *filter(None, name.split("."))]
        up = here[: len(here) - node.level + is_package]
        base = ".".join(filter(None, [*up, base]))
    for alias in node.names:  # `from . import pool` means the module, `from . import Agent` the package
        child = HOUSE.parent.joinpath(*base.split("."), alias.name)
        yield f"{base}.{alias.name}" if child.is_dir() or child.with_suffix(".py").exists() else base


def strangers(room, imported):
    own = {room} if room else set()
    known = MAY_KNOW[room] | own
    return [one for one in imported if not any(one == a or (a and one.startswith(f"{a}.")) for a in known)]


@pytest.mark.parametrize(("path", "name"), [pytest.param(*module, id=module[1] or "__init__") for module in modules()])
def test_a_room_imports_only_whom_it_may_know(path, name):
    room = name.split(".")[0]
    assert room in MAY_KNOW, f"a new room: say in MAY_KNOW whom {room!r} may import, as docs and design have it"

    imported = imports(path.read_text(), name, is_package=path.name == "__init__.py")

    assert strangers(room, imported) == []


def test_nobody_may_know_the_command_line():
    assert all("cli" not in known for known in MAY_KNOW.values())


def test_the_direction_has_no_circle():
    """Of two rooms at most one knows the other, over any number of steps."""
    rooms = {room: {one.split(".")[0] for one in known} for room, known in MAY_KNOW.items()}

    def reach(room, seen):
        for other in rooms[room] - seen:
            seen.add(other)
            reach(other, seen)
        return seen

    assert [room for room in rooms if room in reach(room, set())] == []


@pytest.mark.parametrize(
    "source",
    [
        "import concur_agents.gate",
        "from concur_agents import gate",
        "from concur_agents.gate import ConcurGate",
        "from ..gate import ConcurGate",
        "from .. import gate",
        "try:\n    from ..gate import ConcurGate\nexcept ImportError:\n    pass",
        "class A:\n    from ..gate import ConcurGate",
        "if TYPE_CHECKING:\n    pass\nelse:\n    from ..gate import ConcurGate",
    ],
)
def test_the_check_sees_an_import_however_it_is_written(source):
    assert imports(source, "engines.poller") == ["gate"]
    assert strangers("engines", ["gate"]) == ["gate"]


@pytest.mark.parametrize(
    "source",
    [
        "if TYPE_CHECKING:\n    from ..gate import ConcurGate",
        "def later():\n    from ..gate import ConcurGate",
        "import os",
    ],
)
def test_the_check_looks_only_at_what_is_imported_with_the_module(source):
    assert imports(source, "engines.poller") == []


def test_the_package_is_imported_without_any_extra():
    code = f"import sys, concur_agents; print(sorted(set({OPTIONAL!r}) & set(sys.modules)))"

    result = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True)

    assert result.stdout.strip() == "[]"
