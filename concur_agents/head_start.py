"""The right of a place to begin its next turn in a thread, before the event loop knows of it."""

from __future__ import annotations

from typing import Protocol


class Beginning(Protocol):
    """A turn that begins by a head start."""

    def count(self) -> None:
        """Let it count at admission from now on; may be called again. On the loop only."""


class HeadStart:
    """The right to begin one turn without asking: used by a thread or withdrawn by the loop, whichever is first.

    Neither waits for the other. Who has it is settled by `dict.setdefault`, a single step of the interpreter that no
    thread and no signal can come into.
    """

    __slots__ = ("_claims",)

    def __init__(self) -> None:
        self._claims: dict[None, Beginning | None] = {}

    def claim(self, beginning: Beginning) -> bool:
        """Use it for this turn; whether it was still to be had. In any thread."""
        return self._claims.setdefault(None, beginning) is beginning

    @property
    def used(self) -> bool:
        """Whether a turn has begun by it. In any thread, where it may be of a moment ago."""
        return self._claims.get(None) is not None

    def withdraw(self) -> Beginning | None:
        """See to it that nobody uses it from now on; the turn that has begun by it, if one has. On the loop only."""
        return self._claims.setdefault(None, None)
