"""Kinds of agents as label values: only so many, whatever a program calls them."""

from __future__ import annotations

KINDS = 50
"""Kinds that are told apart. Each has some 45 time series on the Prometheus page, and a program that makes up a kind
for each task would fill the memory of whoever stores them."""

OTHER = "other"


class Kinds:
    """Tells the first kinds apart; all further ones are `other`.

    Attributes:
        seen: The values given out.
    """

    def __init__(self) -> None:
        self.seen: set[str] = set()

    def label(self, kind: str) -> str:
        """What to call a kind."""
        if kind not in self.seen:
            if len(self.seen - {OTHER}) >= KINDS:
                kind = OTHER
            self.seen.add(kind)
        return kind
