"""Agents as spans: whose child a span is, when it began, what it says, and that none stays the current one."""

from __future__ import annotations

import asyncio
import contextvars
import logging
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
from gate.gate_helpers import Server
from opentelemetry import context, trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from concur_agents import AdmissionTimeout, ConcurGate
from concur_agents.simulation.virtual_time import run
from concur_agents.telemetry import trace_opentelemetry


class Traced:
    """Where spans and metrics go in a test."""

    def __init__(self):
        self._spans = InMemorySpanExporter()
        self.tracers = TracerProvider(shutdown_on_exit=False)
        self.tracers.add_span_processor(SimpleSpanProcessor(self._spans))
        self._metrics = InMemoryMetricReader()
        self.meters = MeterProvider([self._metrics], shutdown_on_exit=False)
        self.tracer = self.tracers.get_tracer("a test")

    def trace(self, gate):
        return trace_opentelemetry(gate, tracer_provider=self.tracers, meter_provider=self.meters)

    def spans(self, name=None):
        return [span for span in self._spans.get_finished_spans() if name in {None, span.name}]

    def span(self, name):
        (span,) = self.spans(name)
        return span

    def durations(self):
        data = self._metrics.get_metrics_data()
        if data is None:
            return []
        ((metric,),) = [scope.metrics for resource in data.resource_metrics for scope in resource.scope_metrics]
        assert (metric.name, metric.unit) == ("gen_ai.invoke_agent.duration", "s")
        return [(dict(point.attributes), point.count, point.sum) for point in metric.data.data_points]


@pytest.fixture
def traced(caplog):
    caplog.set_level(logging.WARNING)
    yield Traced()
    assert trace.get_current_span() is trace.INVALID_SPAN
    assert [record.getMessage() for record in caplog.records if record.levelno > logging.WARNING] == []


def seconds(span):
    return (span.end_time - span.start_time) / 1e9


def is_child(span, parent):
    return span.parent.span_id == parent.context.span_id and span.context.trace_id == parent.context.trace_id


async def one_agent(gate, name="task-17", *, kind="solver", cached=None, turns=2):
    async with gate.agent(name, kind=kind) as agent:
        for number in range(1, turns + 1):
            async with agent.turn() as turn:
                await asyncio.sleep(1)
                turn.report(prompt_tokens=100 * number, completion_tokens=10, cached_tokens=cached)
            await asyncio.sleep(2)
        return agent.session_id


def test_an_agent_is_a_span_with_its_tokens(traced):
    gate = ConcurGate(controller="fixed:1")
    with traced.trace(gate):
        session_id = run(one_agent(gate, cached=60))
    span = traced.span("invoke_agent solver")
    assert span.kind is trace.SpanKind.INTERNAL
    assert span.status.is_ok or span.status.status_code is trace.StatusCode.UNSET
    assert dict(span.attributes) == {
        "gen_ai.operation.name": "invoke_agent",
        "gen_ai.agent.name": "solver",
        "gen_ai.conversation.id": session_id,
        "gen_ai.usage.input_tokens": 300,
        "gen_ai.usage.output_tokens": 20,
        "gen_ai.usage.cache_read.input_tokens": 120,
        "concur.agent.name": "task-17",
        "concur.admission.wait": 0,
        "concur.turns": 2,
        "concur.turn.wait": 0,
        "concur.tool.wait": 2,
        "concur.reusable_tokens": 100,
        "concur.recomputed_tokens": 40,
    }
    assert seconds(span) == 6
    assert traced.durations() == [({"gen_ai.agent.name": "solver"}, 1, 6)]


def test_tokens_that_nobody_told_are_not_said_to_be_none(traced):
    async def main(gate):
        async with gate.agent() as agent, agent.turn():
            pass

    gate = ConcurGate(controller="fixed:1")
    with traced.trace(gate):
        run(main(gate))
    span = traced.span("invoke_agent")
    assert not [key for key in span.attributes if "tokens" in key]
    assert "gen_ai.agent.name" not in span.attributes  # it was given no kind
    assert span.attributes["concur.agent.name"] == "agent-1"
    assert traced.durations() == [({}, 1, 0)]


def test_the_span_begins_when_the_agent_asks_and_its_wait_is_a_child(traced):
    async def main(gate):
        await asyncio.gather(one_agent(gate, "first", kind="a"), one_agent(gate, "second", kind="b"))

    gate = ConcurGate(controller="fixed:1")
    with traced.trace(gate):
        run(main(gate))
    second = traced.span("invoke_agent b")
    assert seconds(second) == 12
    assert second.attributes["concur.admission.wait"] == 6
    (wait,) = [wait for wait in traced.spans("admission wait") if is_child(wait, second)]
    assert wait.start_time == second.start_time
    assert seconds(wait) == 6
    assert second.context.trace_id != traced.span("invoke_agent a").context.trace_id


def test_the_current_span_at_admission_is_the_parent_and_current_again_afterwards(traced):
    async def main(gate):
        with traced.tracer.start_as_current_span("the request") as request:
            await one_agent(gate)
            assert trace.get_current_span() is request
            await asyncio.gather(*(one_agent(gate) for _ in range(2)))
            assert trace.get_current_span() is request

    gate = ConcurGate(controller="fixed:1")
    with traced.trace(gate):
        run(main(gate))
    agents = traced.spans("invoke_agent solver")
    assert len(agents) == 3
    assert all(is_child(span, traced.span("the request")) for span in agents)


def test_spans_of_the_llm_client_and_of_tools_are_children_also_in_tasks_of_the_agent(traced):
    async def call(name):
        with traced.tracer.start_as_current_span(name):
            await asyncio.sleep(1)

    async def main(gate):
        async with gate.agent(kind="solver") as agent:
            async with agent.turn():
                await call("chat")
            await asyncio.gather(call("tool 1"), call("tool 2"))

    gate = ConcurGate(controller="fixed:1")
    with traced.trace(gate):
        run(main(gate))
    agent = traced.span("invoke_agent solver")
    assert all(is_child(traced.span(name), agent) for name in ("chat", "tool 1", "tool 2"))


def test_in_a_thread_the_agents_span_is_the_current_one_as_long_as_it_lasts(traced):
    gate = ConcurGate(controller="fixed:1")

    def in_a_thread():
        with traced.tracer.start_as_current_span("the request") as request:
            with gate.sync.agent(kind="solver"), gate.sync.turn(), traced.tracer.start_as_current_span("chat"):
                pass
            return trace.get_current_span() is request

    with traced.trace(gate), ThreadPoolExecutor(1) as thread:
        assert thread.submit(in_a_thread).result()
        assert thread.submit(trace.get_current_span).result() is trace.INVALID_SPAN
    gate.sync.close()
    agent = traced.span("invoke_agent solver")
    assert is_child(traced.span("chat"), agent)
    assert is_child(agent, traced.span("the request"))


@pytest.mark.parametrize("nested", ["inherit", "new"])
def test_nested_agents_nest(traced, nested):
    async def sub(gate):
        async with gate.agent(kind="sub", nested=nested):
            with traced.tracer.start_as_current_span("inner chat"):
                await asyncio.sleep(1)

    async def main(gate):
        async with gate.agent(kind="lead"):
            await asyncio.gather(*(asyncio.ensure_future(sub(gate)) for _ in range(2)))
            with traced.tracer.start_as_current_span("outer chat"):
                pass

    gate = ConcurGate(controller="fixed:1")
    with traced.trace(gate):
        run(main(gate))
    lead, subs = traced.span("invoke_agent lead"), traced.spans("invoke_agent sub")
    assert [is_child(span, lead) for span in subs] == [True, True]
    assert [sum(is_child(chat, sub) for chat in traced.spans("inner chat")) for sub in subs] == [1, 1]
    assert is_child(traced.span("outer chat"), lead)
    waits = sum(is_child(wait, sub) for sub in subs for wait in traced.spans("admission wait"))
    assert waits == (2 if nested == "new" else 0)


def test_a_wait_before_a_turn_is_a_child_if_it_is_long_enough_to_tell(traced):
    async def main(gate):
        async with gate.agent(kind="solver") as agent:
            async with agent.turn():
                pass
            async with gate.hold():
                turn = asyncio.ensure_future(agent.begin_turn())
                await asyncio.sleep(30)
            (await turn).end()

    gate = ConcurGate(controller="fixed:1")
    with traced.trace(gate):
        run(main(gate))
    agent, wait = traced.span("invoke_agent solver"), traced.span("turn wait")
    assert is_child(wait, agent)
    assert (seconds(wait), agent.attributes["concur.turn.wait"]) == (30, 30)
    assert agent.start_time <= wait.start_time <= wait.end_time <= agent.end_time


def test_an_agent_that_fails_is_an_error_of_its_type_without_its_message(traced):
    class NoSuchTool(Exception):
        pass

    async def main(gate):
        with pytest.raises(NoSuchTool):
            async with gate.agent(kind="solver"):
                raise NoSuchTool("sk-secret")

    gate = ConcurGate(controller="fixed:1")
    with traced.trace(gate):
        run(main(gate))
    span = traced.span("invoke_agent solver")
    assert span.status.status_code is trace.StatusCode.ERROR
    assert span.attributes["error.type"].endswith("NoSuchTool")
    assert "sk-secret" not in span.to_json()
    ((attributes, _, _),) = traced.durations()
    assert attributes["error.type"] == span.attributes["error.type"]


def test_an_agent_run_while_an_error_is_handled_has_not_failed(traced):
    async def main(gate):
        try:
            raise ConnectionError  # noqa: TRY301  one of the code around
        except ConnectionError:
            await one_agent(gate)

    gate = ConcurGate(controller="fixed:1")
    with traced.trace(gate):
        run(main(gate))
    assert "error.type" not in traced.span("invoke_agent solver").attributes


def test_a_cancelled_agent_is_no_failure(traced):
    async def main(gate):
        task = asyncio.ensure_future(one_agent(gate))
        await asyncio.sleep(0.5)
        task.cancel()
        await asyncio.wait([task])

    gate = ConcurGate(controller="fixed:1")
    with traced.trace(gate):
        run(main(gate))
    span = traced.span("invoke_agent solver")
    assert span.status.status_code is trace.StatusCode.UNSET
    assert span.attributes["concur.cancelled"] is True


def test_who_waited_in_vain_is_a_span_that_says_so(traced):
    async def late(gate):
        async with gate.agent("late", kind="late", timeout=2):
            pass

    async def main(gate):
        results = await asyncio.gather(one_agent(gate), late(gate), return_exceptions=True)
        assert isinstance(results[1], AdmissionTimeout)

    gate = ConcurGate(controller="fixed:1")
    with traced.trace(gate):
        run(main(gate))
    span = traced.span("invoke_agent late")
    assert seconds(span) == span.attributes["concur.admission.wait"] == 2
    assert span.attributes["error.type"] == "TimeoutError"
    assert ({"gen_ai.agent.name": "late", "error.type": "TimeoutError"}, 1, 2) in traced.durations()


def test_an_agent_that_ends_in_another_context_leaves_that_one_alone_and_logs_nothing(traced):
    async def main(gate):
        entered = gate.agent(kind="solver")
        await entered.__aenter__()
        # A copy of this one, and one that knows nothing of the agent.
        await asyncio.ensure_future(entered.__aexit__(None, None, None))
        other = gate.agent(kind="other")
        empty = contextvars.Context()
        await asyncio.get_running_loop().create_task(other.__aenter__(), context=empty)
        with traced.tracer.start_as_current_span("here") as here:
            await other.__aexit__(None, None, None)
            assert trace.get_current_span() is here

    gate = ConcurGate(controller="fixed:1")
    with traced.trace(gate):
        run(main(gate))
    assert len(traced.spans("invoke_agent solver")) == len(traced.spans("invoke_agent other")) == 1


def test_calls_outside_any_agent_that_end_in_the_order_they_began_leave_no_span_behind(traced):
    async def main(gate):
        first, second = await gate.begin_turn(), await gate.begin_turn()
        seconds_span = trace.get_current_span()
        first.end()
        assert trace.get_current_span() is seconds_span
        second.end()
        assert trace.get_current_span() is trace.INVALID_SPAN
        first, second = await gate.begin_turn(), await gate.begin_turn()
        second.end()
        first.end()

    gate = ConcurGate(controller="fixed:2")
    with traced.trace(gate):
        run(main(gate))
    assert len(traced.spans("invoke_agent single-turn")) == 4


def test_the_server_is_named_without_its_password(traced):
    gate = ConcurGate("https://me:secret@inference.example/v1?key=secret", fetch_metrics=Server().fetch)
    with traced.trace(gate):
        run(one_agent(gate))
    span = traced.span("invoke_agent solver")
    assert span.attributes["server.address"] == "inference.example"
    assert span.attributes["server.port"] == 443
    assert span.attributes["gen_ai.provider.name"] == "vllm"
    assert "secret" not in span.to_json()


def test_closing_ends_what_is_open_and_hears_no_more(traced):
    async def main(gate):
        tracing = traced.trace(gate)
        async with gate.agent(kind="solver"):
            tracing.close()
            tracing.close()
            assert trace.get_current_span() is trace.INVALID_SPAN
        await one_agent(gate)

    gate = ConcurGate(controller="fixed:1")
    run(main(gate))
    assert len(traced.spans()) == 2
    assert not gate.listeners


def test_without_a_provider_the_global_one_is_used_and_no_sdk_costs_nothing(traced):
    gate = ConcurGate(controller="fixed:1")
    with trace_opentelemetry(gate):
        run(one_agent(gate))
    assert gate.stats().turns == 2
    assert context.get_current() == {}


def test_without_opentelemetry_the_error_names_the_extra():
    code = (
        "import sys; sys.modules['opentelemetry'] = None\n"
        "import concur_agents.telemetry as telemetry\n"
        "telemetry.export_prometheus\n"
        "try: telemetry.trace_opentelemetry\n"
        "except concur_agents.errors.MissingExtra as error: print(error)"
    )
    said = subprocess.run(
        [sys.executable, "-W", "error", "-c", "import concur_agents.errors\n" + code],
        capture_output=True,
        text=True,
        check=True,
    )
    assert said.stdout == "trace_opentelemetry() needs opentelemetry-api: pip install 'concur-agents[otel]'\n"


def test_the_room_imports_nothing_until_asked():
    code = "import sys, concur_agents.telemetry as t; print('opentelemetry' in sys.modules, t.__all__)"
    said = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout == "False ['export_prometheus', 'log_agents', 'trace_opentelemetry']\n"
    import concur_agents.telemetry

    with pytest.raises(AttributeError, match="no attribute 'trace_everything'"):
        _ = concur_agents.telemetry.trace_everything
