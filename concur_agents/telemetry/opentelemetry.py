"""A gate's agents as OpenTelemetry spans, by the conventions for generative AI.

Names and attributes are those of the "invoke agent internal span" and of `gen_ai.invoke_agent.duration` in
github.com/open-telemetry/semantic-conventions-genai (docs/gen-ai/gen-ai-agent-spans.md and gen-ai-metrics.md, status:
development, 2026); what they have no word for is `concur.*`. Turns are no spans of the gate, and their tokens no
metrics of it: those are the LLM client's, whose instrumentation makes them children of the agent's span.
"""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from concur_agents.errors import MissingExtra
from concur_agents.telemetry.until_closed import UntilClosed

from .kinds import Kinds

try:
    from opentelemetry import context, metrics, trace
except ImportError as missing:
    raise MissingExtra("trace_opentelemetry() needs opentelemetry-api: pip install 'concur-agents[otel]'") from missing

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.metrics import MeterProvider
    from opentelemetry.trace import Span, TracerProvider
    from opentelemetry.util.types import AttributeValue

    from concur_agents.agent import Agent, Turn
    from concur_agents.gate import ConcurGate

DURATION_BUCKETS_S = (0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 25.6, 51.2, 102.4, 204.8, 409.6)
"""As the conventions advise for `gen_ai.invoke_agent.duration`. [s]"""

TOLD_WAIT_S = 0.01
"""Shortest wait before a turn that gets a span of its own: a pause is seconds, what is shorter is the way through the
event loop. [s]"""

UNNAMED = "default"
"""What the gate calls the kind of agents that were given none."""

_RUN = context.create_key("concur-agents run")


@dataclass(slots=True, eq=False)
class _Run:
    """An agent's span.

    Attributes:
        span: The span.
        began_s: When the agent asked for its place, on the gate's clock. [s]
        began_ns: The same, since 1970. [ns]
        outer: The context around it.
        inner: The context in it.
        handled: What was being handled when it began: no failure of it.
        paused_s: How long its turns waited to begin. [s]
        cached: Whether a turn told its cached tokens.
        over: Whether it has ended.
    """

    span: Span
    began_s: float
    began_ns: int
    outer: Context
    inner: Context
    handled: BaseException | None
    paused_s: float = 0.0
    cached: bool = False
    over: bool = False


def trace_opentelemetry(
    gate: ConcurGate,
    *,
    tracer_provider: TracerProvider | None = None,
    meter_provider: MeterProvider | None = None,
) -> OpenTelemetryTracing:
    """Make each agent of a gate a span from now on, with its waits as children, and its duration a metric.

    The span of an agent is the current one inside it, so that spans of LLM clients and tools become its children.

    Args:
        gate: The gate.
        tracer_provider: Where spans go; the global one if not given.
        meter_provider: Where the metric goes; the global one if not given.

    Returns:
        What ends it again: `close()`, or `with`.
    """
    return OpenTelemetryTracing(gate, tracer_provider, meter_provider)


class OpenTelemetryTracing(UntilClosed):
    """The spans of one gate's agents, until closed. Made by `trace_opentelemetry`.

    Args:
        gate: The gate.
        tracer_provider: Where spans go; None: the global one.
        meter_provider: Where the metric goes; None: the global one.
    """

    def __init__(
        self, gate: ConcurGate, tracer_provider: TracerProvider | None, meter_provider: MeterProvider | None
    ) -> None:
        ours, our_version = "concur_agents", version("concur-agents")
        self._gate = gate
        self._tracer = trace.get_tracer(ours, our_version, tracer_provider)
        self._duration = metrics.get_meter(ours, our_version, meter_provider).create_histogram(
            "gen_ai.invoke_agent.duration",
            unit="s",
            description="Duration of an agent, from asking for its place to giving it back.",
            explicit_bucket_boundaries_advisory=DURATION_BUCKETS_S,
        )
        self._server = _server(gate)
        self._kinds = Kinds()
        self._runs: dict[Agent, _Run] = {}
        gate.add_listener(self)

    def close(self) -> None:
        """Trace no more; spans of agents that are not over end here. May be called again."""
        self._gate.remove_listener(self)
        for agent in list(self._runs):
            self._end(agent, None)

    # ------------------------------------------------------------------ what it hears

    def agent_admitted(self, agent: Agent, waited_s: float) -> None:
        """An agent has its place: its span began when it asked."""
        now_s, now_ns = self._gate.now(), time.time_ns()
        outer = context.get_current()
        span = self._tracer.start_span(
            _span_name(agent.kind),
            outer,
            attributes=self._attributes(agent.name, agent.kind)
            | {"gen_ai.conversation.id": agent.session_id, "concur.admission.wait": waited_s},
            start_time=now_ns - _ns(waited_s),
        )
        inner = trace.set_span_in_context(span, outer)
        run = _Run(span, now_s - waited_s, now_ns - _ns(waited_s), outer, inner, sys.exception())
        run.inner = inner = context.set_value(_RUN, run, inner)
        self._runs[agent] = run
        if agent.parent is None:
            self._wait(run, "admission wait", now_s, waited_s)
        # Not detached by its token later on: that is good only in this very context, and agents end anywhere.
        context.attach(inner)

    def agent_gave_up(self, name: str, kind: str, waited_s: float) -> None:
        """An agent waited in vain: a span without children."""
        now_ns = time.time_ns()
        span = self._tracer.start_span(
            _span_name(kind),
            attributes=self._attributes(name, kind) | {"concur.admission.wait": waited_s},
            start_time=now_ns - _ns(waited_s),
        )
        error = _say_how_it_ended(span, sys.exception())
        self._duration.record(waited_s, self._measured(kind, error))
        span.end(now_ns)

    def turn_began(self, turn: Turn, waited_s: float) -> None:
        """A turn began: what it waited for its agent's place is a span."""
        run = self._runs.get(turn.agent)
        if run is None:
            return
        run.paused_s += waited_s
        if waited_s >= TOLD_WAIT_S:
            self._wait(run, "turn wait", self._gate.now(), waited_s)

    def turn_ended(self, turn: Turn) -> None:
        """A turn is over."""
        run = self._runs.get(turn.agent)
        if run is not None and turn.usage is not None and turn.usage.cached_tokens is not None:
            run.cached = True

    def agent_finished(self, agent: Agent) -> None:
        """An agent is over."""
        self._end(agent, sys.exception())

    # ------------------------------------------------------------------ spans

    def _end(self, agent: Agent, error: BaseException | None) -> None:
        run = self._runs.pop(agent, None)
        if run is None:
            return
        span, lasted_s = run.span, self._gate.now() - run.began_s
        span.set_attributes(
            {"concur.turns": agent.turns, "concur.turn.wait": run.paused_s, "concur.tool.wait": agent.tool_wait_s}
        )
        if agent.prompt_tokens or agent.output_tokens:
            span.set_attributes(
                {
                    "gen_ai.usage.input_tokens": agent.prompt_tokens,
                    "gen_ai.usage.output_tokens": agent.output_tokens,
                }
            )
        if run.cached:
            span.set_attributes(
                {
                    "gen_ai.usage.cache_read.input_tokens": agent.cached_tokens,
                    "concur.reusable_tokens": agent.reusable_tokens,
                    "concur.recomputed_tokens": agent.recomputed_tokens,
                }
            )
        # What was being handled when it began is the trouble of the code around it.
        kind_of_error = _say_how_it_ended(span, None if error is run.handled else error)
        self._duration.record(lasted_s, self._measured(agent.kind, kind_of_error), run.inner)
        span.end(run.began_ns + _ns(lasted_s))
        run.over = True
        _step_out()

    def _wait(self, run: _Run, name: str, now_s: float, waited_s: float) -> None:
        # By the gate's clock since the agent began, so that no step of the other clock comes in between.
        ended_ns = run.began_ns + _ns(now_s - run.began_s)
        self._tracer.start_span(name, run.inner, start_time=ended_ns - _ns(waited_s)).end(ended_ns)

    def _attributes(self, name: str, kind: str) -> dict[str, AttributeValue]:
        attributes: dict[str, AttributeValue] = {"gen_ai.operation.name": "invoke_agent", "concur.agent.name": name}
        if kind != UNNAMED:
            attributes["gen_ai.agent.name"] = kind
        return attributes | self._server

    def _measured(self, kind: str, error: str | None) -> dict[str, AttributeValue]:
        attributes: dict[str, AttributeValue] = {}
        if kind != UNNAMED:
            attributes["gen_ai.agent.name"] = self._kinds.label(kind)
        if error is not None:
            attributes["error.type"] = error
        return attributes


def _span_name(kind: str) -> str:
    return "invoke_agent" if kind == UNNAMED else f"invoke_agent {kind}"


def _server(gate: ConcurGate) -> dict[str, AttributeValue]:
    if gate.config.url is None:
        return {}
    parts = urlsplit(gate.config.url.strip())
    return {
        "gen_ai.provider.name": "vllm",
        "server.address": parts.hostname or "",
        "server.port": parts.port or (443 if parts.scheme == "https" else 80),
    }


def _say_how_it_ended(span: Span, error: BaseException | None) -> str | None:
    """Mark a span as failed; only by the type of the error, for its message may hold anything."""
    if error is None:
        return None
    if not isinstance(error, Exception):  # a cancellation, or the interpreter ends: nobody's failure
        span.set_attribute("concur.cancelled", True)  # noqa: FBT003  a value, no switch
        return None
    name = type(error).__qualname__
    span.set_attribute("error.type", name)
    span.set_status(trace.StatusCode.ERROR)
    return name


def _step_out() -> None:
    """Let no span that has ended be the current one of this context, if it is one of ours."""
    here = inner = context.get_current()
    while isinstance(run := context.get_value(_RUN, inner), _Run) and run.over and inner is run.inner:
        inner = run.outer
    if inner is not here:
        context.attach(inner)


def _ns(seconds: float) -> int:
    return round(seconds * 1e9)
