"""How a case looks at a graph, so that what it saw can be compared between two runs of it."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from langgraph import errors

_ID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}|\b[0-9a-f]{32}\b")
_TIME = re.compile(r"\d{4}-\d\d-\d\dT[\d:.]+(?:\+00:00|Z)?|datetime\.datetime\([^()]*(?:\([^()]*\))?[^()]*\)")
_STAMP = re.compile(r"(?<='timestamp': )\d+|(?<='node_first_attempt_time': )[\d.]+")
_ADDRESS = re.compile(r"\b0x[0-9a-f]{6,}")


class Ungated:
    """The doors of a gate, leading nowhere: what a case runs without one."""

    @staticmethod
    def graph(compiled):
        return compiled

    @staticmethod
    def node(fn):
        return fn


class GraphOnly:
    """A gate whose runs are agents, and whose nodes are no turns."""

    def __init__(self, gate):
        self.graph = gate.graph

    @staticmethod
    def node(fn):
        return fn


@dataclass
class Sight:
    """The doors that a case builds its graphs with, and what it saw, in order."""

    door: Any
    seen: list[str] = field(default_factory=list)

    def graph(self, compiled):
        return self.door.graph(compiled)

    def node(self, fn):
        return self.door.node(fn)

    def saw(self, what):
        self.seen.append(repr(what))

    async def outcome(self, awaitable):
        """What a caller gets, be it a result or an error."""
        try:
            result = await awaitable
        except Exception as error:  # noqa: BLE001  # which one is what is compared
            self.saw((type(error), error))
            return None
        self.saw(result)
        return result

    async def items(self, stream):
        """What a reader gets, and the error at the end if there is one."""
        items = []
        try:
            async for item in stream:
                self.saw(item)
                items.append(item)
        except Exception as error:  # noqa: BLE001  # which one is what is compared
            self.saw((type(error), error))
        return items

    async def checkpoints(self, graph, config):
        """The history of a thread, newest first, with the writes and tasks of each checkpoint."""
        return await self.items(graph.aget_state_history(config))

    def told(self):
        """All it saw, each id by the order of its first appearance, times and addresses left out."""
        numbers: dict[str, str] = {}
        text = _TIME.sub("<time>", "\n".join(self.seen))
        text = _ADDRESS.sub("<address>", _STAMP.sub("<time>", text))
        return _ID.sub(lambda found: numbers.setdefault(found[0], f"<id {len(numbers)}>"), text).splitlines()


CASES: dict[str, Any] = {}
"""By name: functions of a `Sight`."""


def case(function):
    """Enter a function in the table, by its name in words."""
    name = function.__name__.replace("_", " ")
    assert name not in CASES, name
    CASES[name] = function
    return function


def newer_case(function):
    """Enter a function that needs LangGraph 1.2, if that is here."""
    return case(function) if hasattr(errors, "GraphDrained") else function


def thread(name="t", **configurable):
    return {"configurable": {"thread_id": name, **configurable}}
