"""What a set of places holds in the cache now, and what it will hold some turns from now."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .life_table import AHEAD_TURNS

if TYPE_CHECKING:
    from .control.base import Budget
    from .place import Place


class Outlook:
    """Sums over places, without the prefixes that their kinds share.

    After k turns of each, an agent holds its footprint and k times its growth if it lives so long, else nothing. So the
    sum to be expected then is::

        W(k) = Σ (footprint + k · growth) · P(it lives k turns more)

    Early in a batch contexts are small and nobody ends for long, so W is highest far ahead, and few may enter for the
    room there is; later, what ends makes room for what grows.

    Attributes:
        private: Σ of the private footprints. [KV tokens]
        growth: Σ of the growth of a turn. [KV tokens]
    """

    __slots__ = ("_ahead", "growth", "private")

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        """Begin anew, which sheds what rounding has left."""
        self.private = 0.0
        self.growth = 0.0
        self._ahead = [0.0] * len(AHEAD_TURNS)

    def add(self, place: Place) -> None:
        """Take a place in, as it is now; it has to go as it came."""
        place.look_ahead()
        self.private += place.private
        self.growth += place.growth
        self._ahead = [mine + its for mine, its in zip(self._ahead, place.ahead, strict=True)]

    def remove(self, place: Place) -> None:
        """Take a place out."""
        self.private -= place.private
        self.growth -= place.growth
        self._ahead = [mine - its for mine, its in zip(self._ahead, place.ahead, strict=True)]

    def beside(self, place: Place) -> Outlook:
        """These and a place that is not among them."""
        both = Outlook.__new__(Outlook)
        both.private, both.growth, both._ahead = self.private, self.growth, self._ahead  # noqa: SLF001  one of its own
        both.add(place)
        return both

    def highest(self, budget: Budget) -> float:
        """What has to fit so that these may be active. [KV tokens]

        The highest of W up to `ahead_turns`, and at least the growth of `admit_turns` with nobody ending.
        """
        highest = self.private + budget.admit_turns * self.growth
        for turns, tokens in zip(AHEAD_TURNS, self._ahead, strict=True):
            if turns > budget.ahead_turns:
                break
            highest = max(highest, tokens)
        return highest
