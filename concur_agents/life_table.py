"""How long agents of a kind live, in turns: a life table, learned from those that ended and those that did not."""

from __future__ import annotations

AHEAD_TURNS = NEAR, MIDDLE, FAR = 2, 4, 8
"""The turns ahead at which a survival is told. Twice as many points gave the same throughput in simulation."""

ALIKE_TURNS = 4.0
"""So many turns of the kind as a whole are mixed into what is known of an age, so that the first end at an age does not
count for certain. From 1 to 16 throughput was the same within 1 % in simulation."""

MEMORY_TURNS = 4096
"""Whenever so many turns have been seen all counts are halved: some hundred lives, of which a few end at each age."""

MOST_ENDING = 0.9
"""However many ended at an age, no more than this share is expected to."""

RENEWED_TURNS = 16
"""Survivals are told anew after so many turns, and after every end; in between they are kept."""

EXACT_AGES = 16
"""Up to this age a survival is kept for each age, beyond it one for each band."""


class LifeTable:
    """The share of the agents that end at each age, and from it the chance to live on.

    The age of an agent is the number of turns behind it, in its present context: a context that is rewritten begins a
    new life. The share that ends with the turn at age a is that of the actuarial estimate: ends at that age over turns
    taken at it, whoever took them and whether they have ended or not. Ages lie in bands, two to each doubling, as there
    are ever fewer to learn from.

    A single share for all ages would be wrong by the whole life of an agent: of a batch that begins together nobody
    ends for long, and then many at once.
    """

    __slots__ = ("_all_ended", "_all_turns", "_ended", "_kept", "_turns")

    def __init__(self) -> None:
        self._turns: dict[int, float] = {}
        self._ended: dict[int, float] = {}
        self._all_turns = 0.0
        self._all_ended = 0.0
        self._kept: dict[int, tuple[float, float, float]] = {}

    def turn_ended(self, age: int) -> None:
        """An agent with so many turns behind it has ended one more."""
        band = _band(age)
        self._turns[band] = self._turns.get(band, 0.0) + 1
        self._all_turns += 1
        if self._all_turns % RENEWED_TURNS < 1:
            self._kept.clear()
        if self._all_turns >= MEMORY_TURNS:
            self._forget()

    def life_ended(self, age: int) -> None:
        """An agent, or its context, has ended after so many turns, at least 1."""
        band = _band(age - 1)
        self._ended[band] = self._ended.get(band, 0.0) + 1
        self._all_ended += 1
        self._kept.clear()

    def survival(self, age: int) -> tuple[float, float, float]:
        """The chance of an agent with so many turns behind it to be there still after `AHEAD_TURNS` more, 0 to 1 each.

        1 throughout while nobody has ended.
        """
        key = age if age < EXACT_AGES else EXACT_AGES + _band(age)
        kept = self._kept.get(key)
        if kept is None:
            near, middle, far = self._chances(age)
            kept = self._kept[key] = (near, middle, far)
        return kept

    def _chances(self, age: int) -> list[float]:
        chances, chance, done = [], 1.0, 0
        for ahead in AHEAD_TURNS:
            for turn in range(done, ahead):
                chance *= 1 - self._ending(_band(age + turn))
            chances.append(chance)
            done = ahead
        return chances

    def _ending(self, band: int) -> float:
        """Share of the agents of these ages that end with their next turn."""
        if not self._all_ended:
            return 0.0
        overall = self._all_ended / self._all_turns
        ended, turns = self._ended.get(band, 0.0), self._turns.get(band, 0.0)
        return min(MOST_ENDING, (ended + ALIKE_TURNS * overall) / (turns + ALIKE_TURNS))

    def _forget(self) -> None:
        for counts in (self._turns, self._ended):
            for band in counts:
                counts[band] /= 2
        self._all_turns /= 2
        self._all_ended /= 2


def _band(age: int) -> int:
    """0, 1, 2, 3, 4–5, 6–7, 8–11, 12–15, 16–23 and so on, numbered."""
    if age < 4:
        return age
    doublings = age.bit_length()
    return 2 * doublings - 2 + (age >> (doublings - 2) & 1)
