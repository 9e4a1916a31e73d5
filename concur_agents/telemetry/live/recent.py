"""How a figure went over the last minutes, in equal parts of time."""

from __future__ import annotations

PARTS = 60
"""As many as a spark line on a wide terminal has columns."""
STEP_S = 5.0
"""Length of a part: a snapshot's differences reach as far back, so that shorter ones would say nothing more. [s]"""


class Recent:
    """Means of a figure in the last `PARTS` parts of time.

    The parts lie at fixed times: a line drawn of them moves by a whole column or not at all.

    Args:
        step_s: Length of a part. [s]
    """

    def __init__(self, step_s: float = STEP_S) -> None:
        self._step_s = step_s
        self._parts: dict[int, tuple[float, int]] = {}

    def add(self, time: float, value: float | None) -> None:
        """Take in a value.

        Args:
            time: When it was, on a clock that does not go back. [s]
            value: None if it is not known.
        """
        part = int(time // self._step_s)
        if value is not None:
            total, count = self._parts.get(part, (0.0, 0))
            self._parts[part] = (total + value, count + 1)
        for old in [old for old in self._parts if old <= part - PARTS]:
            del self._parts[old]

    def means(self, time: float) -> tuple[float | None, ...]:
        """The mean of each part, the oldest first; None where nothing is known.

        Args:
            time: Now: the last part is the one that goes on. [s]
        """
        last = int(time // self._step_s)
        known = (self._parts.get(part) for part in range(last - PARTS + 1, last + 1))
        return tuple(part[0] / part[1] if part is not None else None for part in known)
