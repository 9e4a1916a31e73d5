"""From a look at the server to the budget in force, and the decisions on the way."""

from __future__ import annotations

import logging
from collections import deque
from dataclasses import asdict, replace
from typing import TYPE_CHECKING

from .control import Budget, Fallback, frozen
from .stats import Decision

if TYPE_CHECKING:
    from collections.abc import Callable

    from .admission import Admission
    from .config import GateConfig
    from .control import Controller
    from .engines import EngineSnapshot
    from .errors import MetricsError
    from .listener import Listeners

log = logging.getLogger("concur_agents")

HISTORY = 1000
"""Decisions kept: at one a second, the last quarter of an hour."""

CONTROLLER_FAILED = "the controller fails"


class Regulator:
    """Asks the controller for a budget, or the fallback while the server says nothing, and puts it in force.

    Args:
        controller: What decides.
        config: The gate's settings.
        admission: The gate's admission of the moment.
        now: The gate's clock. [s]
        listeners: Who hears of decisions.

    Attributes:
        snapshot: What the server said last; None while it has said nothing.
        error: Why it says nothing at the moment; None if it does.
        decisions: The last changes of the budget, oldest first.
    """

    def __init__(
        self,
        controller: Controller,
        config: GateConfig,
        admission: Callable[[], Admission],
        now: Callable[[], float],
        listeners: Listeners,
    ) -> None:
        self._controller = controller
        self._config = config
        self._admission = admission
        self._now = now
        self._listeners = listeners
        self._fallback = Fallback(grace_s=config.outage_grace_s, floor_agents=config.floor_agents)
        self._snapshot_at = 0.0
        self._off: str | None = None
        self.snapshot: EngineSnapshot | None = None
        self.error: MetricsError | None = None
        self.decisions: deque[Decision] = deque(maxlen=HISTORY)

    @property
    def requires_metrics(self) -> bool:
        """Whether a server without metrics is an error."""
        return self._controller.needs_metrics and self._config.metrics == "required"

    @property
    def snapshot_age_s(self) -> float | None:
        """How old the snapshot is; None without one. [s]"""
        return self._now() - self._snapshot_at if self.snapshot else None

    def resume(self) -> None:
        """Begin to look again: while nobody looked, there was no outage."""
        self._fallback.ok(self._now())

    def on_snapshot(self, snapshot: EngineSnapshot) -> None:
        """Decide on what the server said."""
        self.snapshot = snapshot
        self._snapshot_at = self._now()
        self.error = None
        if snapshot.sleeping:
            self._fallback.ok(self._now())
            self._set_budget(frozen(self._last_budget, "the server sleeps"), off="asleep")
        else:
            self.decide()

    def on_failure(self, error: MetricsError) -> None:
        """Decide without the server's word; with none ever, wake who waits if metrics are required."""
        if self.error is None:
            log.warning("%s", error)
        self.error = error
        if self._admission().budget is None and self.requires_metrics:
            self._admission().refuse(error)
        elif self._controller.needs_metrics:
            self._fall_back("metrics gone")
        else:
            self.decide()

    def decide(self) -> None:
        """Put in force what the controller says now; should it fail, go on as without metrics."""
        now = self._now()
        try:
            budget = self._controller.decide(self._admission().view(), self.snapshot, now)
        except Exception:  # a fault in somebody's controller must not stop the looks at the server for good
            if self._off != CONTROLLER_FAILED:
                log.exception("the controller %r failed; the gate goes on without it", self._controller.name)
            self._fall_back(CONTROLLER_FAILED)
            return
        self._fallback.ok(now)
        self._set_budget(budget)

    def _fall_back(self, cause: str) -> None:
        now = self._now()
        self._fallback.failed(now)
        capacity = self.snapshot.capacity_tokens if self.snapshot else None
        budget = self._fallback.decide(self._admission().view(), self._last_budget, capacity, now, cause)
        self._set_budget(budget, off=cause)

    @property
    def _last_budget(self) -> Budget:
        if self.decisions:
            return self.decisions[-1].budget
        return Budget(agents=self._config.floor_agents, reason="no metrics yet")

    def _set_budget(self, budget: Budget, *, off: str | None = None) -> None:
        """Put a budget in force, and write it down if it says anything new.

        Args:
            budget: What may be active.
            off: Why it does not come from the controller; None if it does.
        """
        ceiling = self._config.max_agents
        if ceiling is not None and (budget.agents is None or budget.agents > ceiling):
            budget = replace(budget, agents=ceiling, reason=f"{budget.reason}; max_agents={ceiling}")
        enforced = self._config.mode == "enforce" and not self._config.disabled
        last = self.decisions[-1].budget if self.decisions else None
        if last is None or not _same(last, budget) or off != self._off:
            self._off = off
            snapshot = self.snapshot
            decision = Decision(
                time=self._now(),
                budget=budget,
                previous=last,
                enforced=enforced,
                pool=self._admission().view(),
                usage=snapshot.usage if snapshot else None,
                hit_rate=snapshot.hit_rate if snapshot else None,
            )
            self.decisions.append(decision)
            log.info("%s", decision, extra={"decision": asdict(decision)})
            self._listeners.tell(lambda listener: listener.decided(decision))
        allowed = budget if enforced else Budget(reason=f"held by nobody: {budget.reason}")
        if self._admission().budget != allowed:
            self._admission().resize(allowed)
        else:
            self._admission().look_again()


def _same(a: Budget, b: Budget) -> bool:
    # Leases and reserves follow the pool from poll to poll; that is no decision to write down.
    return (a.agents, a.tokens, a.pause_turns) == (b.agents, b.tokens, b.pause_turns)
