"""A gate's numbers as Prometheus metrics: read from it when they are scraped, and free between two scrapes.

Waits and turns are the exception: their distributions are kept as they happen, two microseconds an event.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import threading
import weakref
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar
from urllib.parse import urlsplit

from prometheus_client import REGISTRY, Counter, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from concur_agents.telemetry.until_closed import UntilClosed

from .kinds import Kinds

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from prometheus_client import CollectorRegistry
    from prometheus_client.core import Metric

    from concur_agents.agent import Agent, Turn
    from concur_agents.gate import ConcurGate
    from concur_agents.stats import Decision, GateStats

ANSWER_WITHIN_S = 1.0
"""How long a scrape waits for the gate's event loop before it repeats what it said last; Prometheus itself gives up
after 10 s (`scrape_timeout`). [s]"""

WAIT_BUCKETS_S = (0.01, 0.1, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0)
"""From what nobody feels to the half hour after which others make room for a paused agent. [s]"""

TURNS_BUCKETS = (1, 2, 5, 10, 20, 50, 100, 200, 500)


@dataclass(frozen=True, slots=True)
class _Moment:
    """What is read from a gate at a scrape."""

    stats: GateStats
    longest_wait_s: float
    longest_pause_s: float
    refusals: int
    reusable_tokens: int
    recomputed_tokens: int


@dataclass(frozen=True, slots=True)
class _Metric:
    """A metric, and where its value is."""

    name: str
    text: str
    value: Callable[[_Moment], float | None]

    def family(self) -> GaugeMetricFamily | CounterMetricFamily:
        if self.name.endswith("_total"):
            return CounterMetricFamily(self.name, self.text, labels=["gate"])
        return GaugeMetricFamily(self.name, self.text, labels=["gate"])


_METRICS = (
    _Metric("concur_agents_active", "Agents that hold a place.", lambda now: now.stats.active),
    _Metric("concur_agents_running", "Agents with a turn in flight.", lambda now: now.stats.running),
    _Metric(
        "concur_agents_paused", "Agents that gave their place up and wait for another.", lambda now: now.stats.paused
    ),
    _Metric("concur_agents_queued", "Agents that were never admitted yet.", lambda now: now.stats.queued),
    _Metric(
        "concur_budget_agents",
        "Agents that may be active; no sample: no limit in agents.",
        lambda now: now.stats.budget.agents if now.stats.budget else None,
    ),
    _Metric(
        "concur_budget_tokens",
        "KV tokens that the working set may fill; no sample: no limit in tokens.",
        lambda now: now.stats.budget.tokens if now.stats.budget else None,
    ),
    _Metric(
        "concur_working_set_tokens",
        "KV tokens of the contexts of the active agents.",
        lambda now: now.stats.working_set_tokens,
    ),
    _Metric(
        "concur_server_capacity_tokens", "KV tokens that fit on the server.", lambda now: now.stats.capacity_tokens
    ),
    _Metric(
        "concur_server_kv_usage_ratio",
        "KV usage of the server's fullest engine as the gate saw it last, 0 to 1.",
        lambda now: now.stats.usage,
    ),
    _Metric(
        "concur_server_prefix_hit_ratio",
        "Prefix cache hits over queries in the gate's last window, 0 to 1.",
        lambda now: now.stats.hit_rate,
    ),
    _Metric(
        "concur_longest_wait_seconds",
        "How long the agent that waits longest has waited by now, for its first place or paused.",
        lambda now: now.longest_wait_s,
    ),
    _Metric(
        "concur_longest_pause_seconds",
        "How long the agent that has been paused for longest has been so by now.",
        lambda now: now.longest_pause_s,
    ),
    _Metric("concur_held", "1 while gate.hold() keeps turns from beginning.", lambda now: now.stats.held),
    _Metric(
        "concur_server_metrics_up",
        "1 if the last look at the server's metrics succeeded, 0 if it failed; no sample before the first.",
        lambda now: (
            None
            if now.stats.metrics_age_s is None and now.stats.metrics_error is None
            else now.stats.metrics_error is None
        ),
    ),
    _Metric(
        "concur_server_metrics_age_seconds",
        "Age of what the gate knows of the server. It looks only while an agent waits or is active.",
        lambda now: now.stats.metrics_age_s,
    ),
    _Metric("concur_agents_finished_total", "Agents that have given their place back.", lambda now: now.stats.finished),
    _Metric("concur_turns_total", "Turns ended.", lambda now: now.stats.turns),
    _Metric("concur_pauses_total", "Times that an agent was paused.", lambda now: now.stats.pauses),
    _Metric("concur_prompt_tokens_total", "Prompt tokens that turns reported.", lambda now: now.stats.prompt_tokens),
    _Metric("concur_output_tokens_total", "Output tokens that turns reported.", lambda now: now.stats.output_tokens),
    _Metric(
        "concur_cached_tokens_total",
        "Prompt tokens that the server had cached, as turns reported.",
        lambda now: now.stats.cached_tokens,
    ),
    _Metric(
        "concur_reusable_tokens_total",
        "Prompt tokens that the cache could have served.",
        lambda now: now.reusable_tokens,
    ),
    _Metric(
        "concur_recomputed_tokens_total",
        "Reusable tokens that the server read again all the same.",
        lambda now: now.recomputed_tokens,
    ),
    _Metric(
        "concur_refusals_total",
        "Calls that the server refused because of its load: 429 or 503.",
        lambda now: now.refusals,
    ),
)


def export_prometheus(
    gate: ConcurGate, *, name: str | None = None, registry: CollectorRegistry = REGISTRY
) -> PrometheusExport:
    """Let Prometheus read a gate: its metrics are on the registry's page from now on.

    The page itself is `prometheus_client`'s: `start_http_server(9464, addr="127.0.0.1")`, or whatever shows the default
    registry already. It may be asked for in any thread.

    Args:
        gate: The gate.
        name: Value of the label `gate`; the server's host and port if not given, `default` without a server.
        registry: Where to; prometheus_client's default if not given.

    Returns:
        What ends it again: `close()`, or `with`.

    Raises:
        ValueError: If this registry has another gate of that name, or somebody else's metrics of our names.
    """
    return PrometheusExport(gate, name or _name(gate), registry)


class PrometheusExport(UntilClosed):
    """One gate on the page of a registry, until closed. Made by `export_prometheus`.

    Args:
        gate: The gate.
        name: Value of the label `gate`.
        registry: Where to.

    Raises:
        ValueError: If this registry has another gate of that name, or somebody else's metrics of our names.
    """

    def __init__(self, gate: ConcurGate, name: str, registry: CollectorRegistry) -> None:
        self.name = name
        self._gate = gate
        self._registry = registry
        self._last: _Moment | None = None
        self._kinds = Kinds()
        self._page = _Page.of(registry)
        self._page.add(self, registry)
        gate.add_listener(self)

    def close(self) -> None:
        """Take the gate off the page; may be called again."""
        self._gate.remove_listener(self)
        self._page.remove(self, self._registry, self._kinds.seen)

    def read(self) -> _Moment | None:
        """The gate now; as it was last if its event loop is too busy to tell, None if it never told.

        The gate belongs to its loop, and a scrape comes in any thread: whoever looks at its queue tidies it, too.
        """
        loop = self._gate._loop  # noqa: SLF001  which loop to ask is nobody else's question
        if loop is None or not loop.is_running() or _running_loop() is loop:
            self._last = self._look()
            return self._last
        answer: concurrent.futures.Future[_Moment] = concurrent.futures.Future()
        # Closed meanwhile, or busy.
        with contextlib.suppress(RuntimeError, TimeoutError):
            loop.call_soon_threadsafe(self._answer, answer)
            self._last = answer.result(ANSWER_WITHIN_S)
        return self._last

    def _answer(self, answer: concurrent.futures.Future[_Moment]) -> None:
        try:
            answer.set_result(self._look())
        except Exception as error:  # noqa: BLE001  it is told to who asked
            answer.set_exception(error)

    def _look(self) -> _Moment:
        totals, admission = self._gate.totals, self._gate.admission
        return _Moment(
            stats=self._gate.stats(),
            longest_wait_s=admission.longest_wait_s(),
            longest_pause_s=admission.longest_wait_s(once_admitted=True),
            refusals=totals.refusals,
            reusable_tokens=totals.reusable_tokens,
            recomputed_tokens=totals.recomputed_tokens,
        )

    # ------------------------------------------------------------------ what it hears

    def agent_admitted(self, agent: Agent, waited_s: float) -> None:
        """An agent got its place; one that shares its parent's waited for none."""
        if agent.parent is None:
            self._page.admission_waits.labels(self.name, self._kinds.label(agent.kind)).observe(waited_s)

    def agent_gave_up(self, name: str, kind: str, waited_s: float) -> None:  # noqa: ARG002  no name is a label
        """An agent left the queue."""
        self._page.gave_up.labels(self.name, self._kinds.label(kind)).inc()

    def turn_began(self, turn: Turn, waited_s: float) -> None:
        """A turn began."""
        self._page.turn_waits.labels(self.name, self._kinds.label(turn.agent.kind)).observe(waited_s)

    def agent_finished(self, agent: Agent) -> None:
        """An agent is over."""
        self._page.turns.labels(self.name, self._kinds.label(agent.kind)).observe(agent.turns)

    def decided(self, decision: Decision) -> None:  # noqa: ARG002  they are only counted
        """The budget changed."""
        self._page.decisions.labels(self.name).inc()


class _Page(Collector):
    """All gates of one registry: a page names each metric once."""

    _pages: ClassVar[weakref.WeakKeyDictionary[CollectorRegistry, _Page]] = weakref.WeakKeyDictionary()
    _lock: ClassVar[threading.Lock] = threading.Lock()

    def __init__(self) -> None:
        self._gates: dict[str, PrometheusExport] = {}
        by_kind = ("gate", "kind")
        self.admission_waits = Histogram(
            "concur_admission_wait_seconds",
            "How long agents waited for their first place.",
            by_kind,
            buckets=WAIT_BUCKETS_S,
            registry=None,
        )
        self.turn_waits = Histogram(
            "concur_turn_wait_seconds",
            "How long agents were paused, held or paced before a turn.",
            by_kind,
            buckets=WAIT_BUCKETS_S,
            registry=None,
        )
        self.turns = Histogram(
            "concur_agent_turns", "Turns of an agent that is over.", by_kind, buckets=TURNS_BUCKETS, registry=None
        )
        self.gave_up = Counter(
            "concur_agents_gave_up_total", "Agents that left the queue without a place.", by_kind, registry=None
        )
        self.decisions = Counter("concur_decisions_total", "Changes of the budget.", ("gate",), registry=None)

    @classmethod
    def of(cls, registry: CollectorRegistry) -> _Page:
        """The page of a registry."""
        with cls._lock:
            return cls._pages.setdefault(registry, cls())

    def add(self, export: PrometheusExport, registry: CollectorRegistry) -> None:
        """Show a gate.

        Raises:
            ValueError: If there is another of that name.
        """
        with self._lock:
            if export.name in self._gates:
                raise ValueError(
                    f"another gate is exported as {export.name!r}: give this one a name of its own, as in "
                    "export_prometheus(gate, name='critics')"
                )
            if not self._gates:
                registry.register(self)
            self._gates[export.name] = export
        self.decisions.labels(export.name)  # there from the start: a rate needs the 0 before the first

    def remove(self, export: PrometheusExport, registry: CollectorRegistry, kinds: set[str]) -> None:
        """Show it no longer."""
        with self._lock:
            if self._gates.get(export.name) is not export:
                return
            del self._gates[export.name]
            if not self._gates:
                registry.unregister(self)
        for counted in (self.admission_waits, self.turn_waits, self.turns, self.gave_up):
            for kind in kinds:
                with contextlib.suppress(KeyError):  # not every kind has been seen to do everything
                    counted.remove(export.name, kind)
        with contextlib.suppress(KeyError):
            self.decisions.remove(export.name)

    def describe(self) -> Iterator[Metric]:
        """The names, so that registering asks no gate for its numbers."""
        for metric in _METRICS:
            yield metric.family()
        for counted in self._counted():
            yield from counted.describe()

    def collect(self) -> Iterator[Metric]:
        """The numbers."""
        with self._lock:
            gates = list(self._gates.values())
        moments = [(export.name, moment) for export in gates if (moment := export.read()) is not None]
        for metric in _METRICS:
            family = metric.family()
            for name, moment in moments:
                value = metric.value(moment)
                if value is not None:
                    family.add_metric([name], value)
            yield family
        for counted in self._counted():
            yield from counted.collect()

    def _counted(self) -> tuple[Histogram | Counter, ...]:
        return (self.admission_waits, self.turn_waits, self.turns, self.gave_up, self.decisions)


def _name(gate: ConcurGate) -> str:
    if gate.config.url is None:
        return "default"
    return urlsplit(gate.config.url.strip()).netloc.rpartition("@")[2]  # the label must not tell a password


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None
