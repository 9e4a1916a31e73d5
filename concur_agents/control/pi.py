"""A proportional-integral regulator: holds the pressure on the KV cache at a set point."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from concur_agents.control.base import Budget
from concur_agents.control.checks import check_between, check_whole
from concur_agents.control.signals import highest_usage, known, lowest_hit_rate, shown

if TYPE_CHECKING:
    from concur_agents.control.base import EngineView, PoolView

LONGEST_STEP_S = 5.0
"""The longest poll interval that a gate allows. What is more is a gap, in which nothing was seen: it must not be
integrated, or the first look after an idle hour would throw the window to a limit."""

PRESSURE_LIMIT = 2.0
"""Twice the capacity; beyond it everything is equally bad. Bounds what one look can do: with the default
gain the proportional part cuts a window at the set point by at most half, as the paper's law does."""

QUIET_ZONE = 0.05
"""Errors under 0.05 of the capacity are noise: acting on them would pause and resume agents for nothing."""

SMALLEST_MOVE = 0.02
"""The window moves by 2 % or by one agent, whichever is more: a window of hundreds would move at every poll."""


class _Load(NamedTuple):
    """What fills the cache: as a share of its capacity, and in words."""

    share: float
    source: str


@dataclass(kw_only=True, eq=False)
class Pi:
    """Proportional-integral control of the number of active agents.

    A summary of the CONCUR paper describes its regulator so. With p the pressure::

        p  = load + hit_gain · max(0, hit_target - H)
        e  = set_point - p, drawn towards 0 by the larger of QUIET_ZONE and half of what one agent adds
        ln W = I + gain · e,      dI/dt = gain · e / integral_s,      1 ≤ W ≤ max_agents

    **Load** is the working set over the capacity where agents report tokens and the capacity is known, else
    the highest KV usage of any engine. H is the lowest hit rate of any engine; without look-ups nothing is
    added. Where no load can be told the window is held.

    **The logarithm** makes it behave alike at 8 agents and at 2,000. Each agent adds (mean footprint ÷
    capacity) to the load, so the load moves by dp = p · d(ln W): the same relative step of the window moves
    it as much at any size, and the loop gain is gain · set_point (0.35 by default) everywhere. Under 1 it
    cannot ring even if the agents follow at once.

    **Half an agent**: W is whole, so the set point can seldom be met exactly. Within half an agent of it
    nothing is done, and W moves by whole agents; otherwise one would be paused and resumed for ever.

    **Anti-windup.** I moves up only while more agents would really come (some wait, and W are active) and
    down only when the last cut was carried out (agents pause at their next turn, not at once). If fewer than
    W are active while p is too high, W comes down to them first: what lies above is no budget anybody could
    use. At a limit of W, I stops. No step counts for more than `LONGEST_STEP_S`.

    Attributes:
        set_point: The pressure aimed at; share of the capacity. 0.70 is the peak KV usage that the summary gives.
        gain: Relative change of the window for each unit of error. 0.5: an error of 0.1 of the capacity moves
            the window by 5 % at once.
        integral_s: Time in which a lasting error moves the window once more by what it moved at once. 20: the
            window doubles in 43 s at the fastest; `Aimd` takes as long from 16 to 32. [s]
        hit_target: The hit rate under which the pressure is raised; share. The summary holds 0.85.
        hit_gain: What is added to the pressure for each unit that the hit rate is under its target; share of
            the capacity. 0.75 is the most in round numbers at which a hit rate of 0 alone (first prompts are
            honest misses) does not pass the set point in an empty cache, yet does at the usage of 0.27 at
            which a vLLM was seen to thrash (0.32.0, 2.2 times oversubscribed).
        first_window: The window before anything is known; ours, as for `Aimd`. [agents]
        max_agents: Upper limit of the window. [agents]

    Raises:
        ValueError: If a setting is out of its range.
    """

    set_point: float = 0.70
    gain: float = 0.5
    integral_s: float = 20.0
    hit_target: float = 0.85
    hit_gain: float = 0.75
    first_window: int = 8
    max_agents: int = 4096
    _window: int = field(init=False, repr=False)
    _integral: float | None = field(init=False, repr=False, default=None)
    _looked: float | None = field(init=False, repr=False, default=None)

    def __post_init__(self) -> None:
        check_between("set_point", self.set_point, 0.01, 1)
        check_between("gain", self.gain, 0, 1)
        check_between("integral_s", self.integral_s, 0.1, math.inf)
        check_between("hit_target", self.hit_target, 0, 1)
        check_between("hit_gain", self.hit_gain, 0, math.inf)
        check_whole("first_window", self.first_window)
        check_whole("max_agents", self.max_agents)
        self._window = min(self.first_window, self.max_agents)

    @property
    def name(self) -> str:
        """`pi`, as on the command line."""
        return "pi"

    @property
    def needs_metrics(self) -> bool:
        """True: it needs the capacity or the usage, and both come from the metrics."""
        return True

    def decide(self, pool: PoolView, engine: EngineView | None, now: float) -> Budget:
        """The window of agents that brings the pressure towards the set point."""
        step_s = 0.0 if self._looked is None else min(max(now - self._looked, 0.0), LONGEST_STEP_S)
        self._looked = now
        load = _load(pool, engine)
        if load is None:
            held = f"nothing tells the pressure: window {self._window} held"
            return Budget(agents=self._window, reason=held)
        hit_rate = lowest_hit_rate(engine.engines) if engine is not None else None
        raised = 0.0 if hit_rate is None else self.hit_gain * max(0.0, self.hit_target - hit_rate)
        pressure = min(load.share + raised, PRESSURE_LIMIT)
        half_an_agent = load.share / (2 * pool.active)
        error = _outside(max(half_an_agent, QUIET_ZONE), self.set_point - pressure)

        before = self._window
        self._window = self._act(pool, error, step_s)
        cause = f"pressure {shown(pressure)} ({load.source}"
        cause += f", +{raised:.2f} for hit rate {shown(hit_rate)})" if raised else ")"
        side = "near" if error == 0 else "under" if error > 0 else "over"
        move = f"window {before} → {self._window}" if self._window != before else f"window {before} held"
        return Budget(agents=self._window, reason=f"{cause} {side} set point {self.set_point:.2f}: {move}")

    def _act(self, pool: PoolView, error: float, step_s: float) -> int:
        """Moves the integral by one step and gives the window that follows from it."""
        fast = self.gain * error
        if self._integral is None:  # the first look must not jump
            self._integral = math.log(self._window) - fast
        if error < 0 and pool.active < self._window:
            self._integral = min(self._integral, math.log(pool.active) - fast)
        drift = fast * step_s / self.integral_s
        lowest, highest = -fast, math.log(self.max_agents) - fast  # where the window meets its limits
        more_would_come = pool.waiting > 0 and pool.active >= self._window
        cut_is_done = pool.active <= self._window
        if error > 0 and more_would_come:
            self._integral = max(self._integral, min(self._integral + drift, highest))
        elif error < 0 and cut_is_done:
            self._integral = min(self._integral, max(self._integral + drift, lowest))
        wanted = min(max(math.exp(self._integral + fast), 1.0), float(self.max_agents))
        enough = max(1 - 1e-6, SMALLEST_MOVE * self._window)  # not 1: exp(log(20)) may be 19.999…
        return round(wanted) if abs(wanted - self._window) >= enough else self._window


def _load(pool: PoolView, engine: EngineView | None) -> _Load | None:
    """What fills the cache, as well as can be told; None if nothing tells."""
    if engine is None or pool.active < 1:
        return None
    capacity, tokens = known(engine.capacity_tokens), known(pool.working_set_tokens)
    if pool.weighed > 0 and tokens is not None and capacity is not None and capacity > 0:
        return _Load(_bounded(tokens / capacity), f"working set {tokens:,.0f} of {capacity:,.0f} tokens")
    if pool.turns > 0 and pool.running == 0:
        # All are in tool waits: the gauge is stale, or 0 whatever the cache holds (vLLM: idle blocks are free).
        return None
    usage = highest_usage(engine.engines)
    return None if usage is None else _Load(_bounded(usage), f"usage {usage:.2f}")


def _bounded(share: float) -> float:
    return min(max(share, 0.0), PRESSURE_LIMIT)


def _outside(zone: float, error: float) -> float:
    """The part of the error that lies outside ±zone."""
    return math.copysign(max(0.0, abs(error) - zone), error)
