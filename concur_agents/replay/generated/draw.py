"""What numbers are drawn from: lognormal spreads given by what papers publish of them, the median and the p90."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import random

# The 90th percentile of the standard normal distribution.
_Z90 = 1.2815515655446004


@dataclass(frozen=True)
class Spread:
    """A lognormal distribution within limits; what would pass a limit is put on it.

    Of a lognormal variable the logarithm is normal: its mean is ln(median), its standard deviation
    (ln(p90) - ln(median)) / 1.2816.

    Attributes:
        median: Half of the draws are below.
        p90: Nine tenths of the draws are below.
        low: The least.
        high: The most.
    """

    median: float
    p90: float
    low: float
    high: float

    @cached_property
    def _sigma(self) -> float:
        return math.log(self.p90 / self.median) / _Z90

    def draw(self, rng: random.Random) -> float:
        """One value."""
        return min(max(self.median * math.exp(rng.gauss(0.0, self._sigma)), self.low), self.high)


@dataclass(frozen=True)
class Mixture:
    """One spread for a share of the draws, another for the rest.

    Attributes:
        share: Of the draws that come from `first`. [0 to 1]
        first: The one.
        rest: The other.
    """

    share: float
    first: Spread
    rest: Spread

    def draw(self, rng: random.Random) -> float:
        """One value."""
        return (self.first if rng.random() < self.share else self.rest).draw(rng)
