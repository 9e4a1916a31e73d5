"""The law of the CONCUR paper: additive increase, multiplicative decrease of a window of agents."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import inf
from typing import TYPE_CHECKING

from concur_agents.control.base import Budget
from concur_agents.control.checks import check_between, check_whole
from concur_agents.control.signals import highest_usage, known, lowest_hit_rate, shown

if TYPE_CHECKING:
    from concur_agents.control.base import EngineSample, EngineView, PoolView


@dataclass(kw_only=True, eq=False)
class Aimd:
    """CONCUR's regulator (arXiv 2601.22705, §4.3), with its constants (§5.1) as defaults.

    Every `interval_s`, with U the KV usage of an engine and H its prefix hit rate::

        W += increase    if U < low_usage                            (on every engine)
        W *= decrease    if U > high_usage and H < low_hit_rate      (on any engine)
        W unchanged      otherwise

    A window without look-ups has no H: that is no evidence, not 0 %, and cuts nothing. W never falls under 1.

    Ours, where the paper is silent: the interval, the first window, the ceiling, the rule for several
    engines (the paper has one), and that the window grows only while it binds: agents wait and at least
    W are active. Without that an idle gate's window would drift to infinity and brake nobody when the
    crowd comes (Netflix concurrency-limits holds its limits by the same rule).

    On vLLM the law is weaker than on the paper's SGLang: usage does not count what idle agents have
    cached, and a shared prefix puts a floor under H that may lie above `low_hit_rate`.

    Attributes:
        low_usage: The window grows while the usage is under this; share of the KV cache (§5.1).
        high_usage: The window may be cut while the usage is over this; share of the KV cache (§5.1).
        low_hit_rate: The window is cut if the hit rate is under this too; share of looked-up tokens (§5.1).
        increase: What the window grows by (§5.1). [agents]
        decrease: What the window is multiplied by when cut; the result is rounded down (§5.1).
        first_window: The window before anything is known; ours. [agents]
        interval_s: From one look at the signals to the next; ours. [s]
        max_window: Ceiling of the window; None for none; ours. [agents]

    Raises:
        ValueError: If a setting is out of its range.
    """

    low_usage: float = 0.2
    high_usage: float = 0.5
    low_hit_rate: float = 0.2
    increase: int = 2
    decrease: float = 0.5
    first_window: int = 8
    interval_s: float = 5.0
    max_window: int | None = None
    _window: int = field(init=False, repr=False)
    _looked: float = field(init=False, repr=False, default=0.0)
    _budget: Budget | None = field(init=False, repr=False, default=None)

    def __post_init__(self) -> None:
        check_between("high_usage", self.high_usage, 0, 1)
        check_between("low_usage", self.low_usage, 0, self.high_usage)
        check_between("low_hit_rate", self.low_hit_rate, 0, 1)
        check_between("decrease", self.decrease, 0, 1)
        check_between("interval_s", self.interval_s, 0, inf)
        check_whole("increase", self.increase)
        check_whole("first_window", self.first_window)
        if self.max_window is not None:
            check_whole("max_window", self.max_window)
        self._window = self._bounded(self.first_window)

    @property
    def name(self) -> str:
        """`aimd`, as on the command line."""
        return "aimd"

    @property
    def needs_metrics(self) -> bool:
        """True: without usage and hit rate the window never moves."""
        return True

    def decide(self, pool: PoolView, engine: EngineView | None, now: float) -> Budget:
        """The window of agents; within `interval_s` of the last look, what was decided there."""
        if self._budget is None:
            self._looked = now
            self._budget = Budget(agents=self._window, reason=f"first window {self._window}")
        elif now - self._looked >= self.interval_s:
            self._looked = now
            self._budget = self._look(pool, engine)
        return self._budget

    def _look(self, pool: PoolView, engine: EngineView | None) -> Budget:
        engines = engine.engines if engine is not None else ()
        before = self._window
        thrashing = next((each for each in engines if self._thrashes(each)), None)
        if thrashing is not None:
            self._window = max(1, int(before * self.decrease))
            cause = (
                f"usage {shown(thrashing.usage)} > {self.high_usage:.2f} "
                f"and hit rate {shown(thrashing.hit_rate)} < {self.low_hit_rate:.2f}"
            )
        elif not engines:
            cause = "no engine has said anything"
        elif not all(self._has_room(each) for each in engines):
            usage, hit_rate = highest_usage(engines), lowest_hit_rate(engines)
            cause = f"usage {shown(usage)} and hit rate {shown(hit_rate)} ask for no change"
        elif not (pool.waiting > 0 and pool.active >= before):
            cause = f"usage is low, but {pool.active} active and {pool.waiting} waiting do not fill the window"
        else:
            self._window = self._bounded(before + self.increase)
            cause = f"usage {shown(highest_usage(engines))} < {self.low_usage:.2f}"
        move = f"window {before} → {self._window}" if self._window != before else f"window {before} held"
        return Budget(agents=self._window, reason=f"{cause}: {move}")

    def _bounded(self, window: int) -> int:
        return window if self.max_window is None else min(window, self.max_window)

    def _thrashes(self, engine: EngineSample) -> bool:
        usage, hit_rate = known(engine.usage), known(engine.hit_rate)
        if usage is None or hit_rate is None:
            return False
        return usage > self.high_usage and hit_rate < self.low_hit_rate

    def _has_room(self, engine: EngineSample) -> bool:
        usage = known(engine.usage)
        return usage is not None and usage < self.low_usage
