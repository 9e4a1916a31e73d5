"""What a set of places holds in the cache now, and what it will hold some turns from now."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .life_table import FAR, MIDDLE, NEAR

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

    __slots__ = ("_far", "_middle", "_near", "growth", "private")

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        """Begin anew, which sheds what rounding has left."""
        self.private = self.growth = 0.0
        self._near = self._middle = self._far = 0.0  # written out, as they change several times a turn

    def add(self, place: Place) -> None:
        """Take a place in, as it is now; it has to go as it came."""
        place.look_ahead()
        self.private += place.private
        self.growth += place.growth
        self._shift(place.ahead, 1)

    def remove(self, place: Place) -> None:
        """Take a place out."""
        self.private -= place.private
        self.growth -= place.growth
        self._shift(place.ahead, -1)

    def renew(self, place: Place) -> None:
        """Take note that a place is older, and otherwise what it was."""
        self._shift(place.ahead, -1)
        place.look_ahead()
        self._shift(place.ahead, 1)

    def beside(self, place: Place) -> Outlook:
        """These and a place that is not among them."""
        both = Outlook.__new__(Outlook)
        both.private, both.growth = self.private, self.growth
        both._near, both._middle, both._far = self._near, self._middle, self._far  # noqa: SLF001  one of its own
        both.add(place)
        return both

    def highest(self, budget: Budget) -> float:
        """What has to fit so that these may be active. [KV tokens]

        The highest of W up to `ahead_turns`, and at least the growth of `admit_turns` with nobody ending.
        """
        highest = self.private + budget.admit_turns * self.growth
        if budget.ahead_turns >= NEAR:
            highest = max(highest, self._near)
        if budget.ahead_turns >= MIDDLE:
            highest = max(highest, self._middle)
        if budget.ahead_turns >= FAR:
            highest = max(highest, self._far)
        return highest

    def _shift(self, ahead: tuple[float, float, float], sign: int) -> None:
        near, middle, far = ahead
        self._near += sign * near
        self._middle += sign * middle
        self._far += sign * far
