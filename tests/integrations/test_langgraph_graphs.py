"""A gated graph does what the graph does; its every run is one agent, whose place always comes back."""

from __future__ import annotations

import asyncio
import gc
import operator
from dataclasses import dataclass
from typing import Annotated, Any

import pytest
from langchain_core.messages import AIMessage, AnyMessage, HumanMessage
from langchain_core.tools import tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.errors import GraphRecursionError
from langgraph.func import entrypoint, task
from langgraph.graph import START, StateGraph
from langgraph.graph.message import add_messages
from langgraph.prebuilt import ToolNode, tools_condition
from langgraph.types import Command, Send, interrupt
from typing_extensions import TypedDict  # pydantic needs this one before Python 3.12

from concur_agents.integrations.langgraph import wrap_graph

from . import langgraph_standins as standins
from .langgraph_standins import items_of, outcome, since_1_2, told

STREAM_MODES = ["values", "updates", "custom", "messages", "checkpoints", "tasks", "debug"]


@pytest.fixture
def gate():
    return standins.StandInGate()


# ---------------------------------------------------------------------------- graphs under test


class Talk(TypedDict):
    messages: Annotated[list[AnyMessage], add_messages]


class Tally(TypedDict, total=False):
    seen: Annotated[list[str], operator.add]
    item: str


@tool
def lookup(city: str) -> str:
    """The weather of a city."""
    return f"rain in {city}"


def tool_loop(**compiled_with):
    async def model(state: Talk) -> Talk:
        n = sum(isinstance(m, AIMessage) for m in state["messages"])
        calls = [{"name": "lookup", "args": {"city": "Ulm"}, "id": f"call{n}"}] if n < 2 else []
        return {"messages": [AIMessage(f"thought {n}", id=f"ai{n}", tool_calls=calls)]}

    builder = StateGraph(Talk)
    builder.add_node("model", model)
    builder.add_node("tools", ToolNode([lookup]))
    builder.add_edge(START, "model")
    builder.add_conditional_edges("model", tools_condition)
    builder.add_edge("tools", "model")
    return builder.compile(**compiled_with)


def fan_out(**compiled_with):
    async def one(state: Tally) -> Tally:
        await asyncio.sleep(0)
        return {"seen": [state["item"]]}

    async def plan(state: Tally) -> Tally:
        return {"seen": ["plan"]}

    builder = StateGraph(Tally)
    builder.add_node("plan", plan)
    builder.add_node("one", one)
    builder.add_edge(START, "plan")
    builder.add_conditional_edges("plan", lambda _: [Send("one", {"item": c}) for c in "abc"], ["one"])
    return builder.compile(**compiled_with)


def with_subgraph(**compiled_with):
    async def inside(state: Tally) -> Tally:
        return {"seen": ["inside"]}

    def outside(state: Tally) -> Tally:
        return {"seen": ["outside"]}

    inner = StateGraph(Tally).add_node("inside", inside).add_edge(START, "inside").compile()
    builder = StateGraph(Tally).add_node("outside", outside).add_node("inner", inner)
    return builder.add_edge(START, "outside").add_edge("outside", "inner").compile(**compiled_with)


def with_interrupt(**compiled_with):
    async def ask(state: Tally) -> Tally:
        return {"seen": [interrupt("who?")]}

    async def after(state: Tally) -> Tally:
        return {"seen": ["after"]}

    builder = StateGraph(Tally).add_node("ask", ask).add_node("after", after)
    return builder.add_edge(START, "ask").add_edge("ask", "after").compile(**compiled_with)


def endless(**compiled_with):
    async def again(state: Tally) -> Tally:
        return {"seen": ["again"]}

    builder = StateGraph(Tally).add_node("again", again).add_edge(START, "again").add_edge("again", "again")
    return builder.compile(**compiled_with).with_config(recursion_limit=4)


def failing(**compiled_with):
    async def fine(state: Tally) -> Tally:
        return {"seen": ["fine"]}

    def fails(state: Tally) -> Tally:
        raise LookupError("no such city")

    builder = StateGraph(Tally).add_node("fine", fine).add_node("fails", fails)
    return builder.add_edge(START, "fine").add_edge("fine", "fails").compile(**compiled_with)


TALK = {"messages": [HumanMessage("hello", id="h")]}
CASES = {
    "a tool loop": (tool_loop, [TALK]),
    "a fan-out": (fan_out, [{"seen": []}]),
    "a subgraph": (with_subgraph, [{"seen": ["start"]}]),
    "an interrupt and its resumption": (with_interrupt, [{"seen": []}, Command(resume="me")]),
    "a recursion limit": (endless, [{"seen": []}]),
    "a failing node": (failing, [{"seen": []}]),
}
every_case = pytest.mark.parametrize(("build", "inputs"), CASES.values(), ids=CASES.keys())


def twins(gate, build):
    """The same graph ungated and gated, each with checkpoints of its own."""
    return build(checkpointer=InMemorySaver()), wrap_graph(gate, build(checkpointer=InMemorySaver()))


def thread():
    return {"configurable": {"thread_id": "t1"}}


# ---------------------------------------------------------------------------- the same as ungated


@every_case
@pytest.mark.parametrize("version", ["v1", "v2"])
async def test_ainvoke_gives_the_same_results_and_checkpoints(gate, build, inputs, version):
    plain, gated = twins(gate, build)
    for given in inputs:
        expected = await outcome(plain.ainvoke(given, thread(), version=version))
        assert await outcome(gated.ainvoke(given, thread(), version=version)) == expected
    history = await items_of(plain.aget_state_history(thread()))
    assert len(history) > 1
    assert await items_of(gated.aget_state_history(thread())) == history
    assert [a.name for a in gate.admitted] == ["t1"] * len(inputs)
    assert gate.all_returned
    assert not gate.inherited


@every_case
@pytest.mark.parametrize("mode", [*STREAM_MODES, STREAM_MODES])
async def test_astream_gives_the_same_items_in_every_mode(gate, build, inputs, mode):
    plain, gated = twins(gate, build)
    for given in inputs:
        expected = await items_of(plain.astream(given, thread(), stream_mode=mode, subgraphs=True))
        assert await items_of(gated.astream(given, thread(), stream_mode=mode, subgraphs=True)) == expected
    assert len(gate.admitted) == len(inputs)
    assert gate.all_returned


@every_case
async def test_astream_events_gives_the_same_events(gate, build, inputs):
    plain, gated = twins(gate, build)
    for given in inputs:
        expected = await items_of(plain.astream_events(given, thread(), version="v2"))
        assert len(expected) > 2
        assert await items_of(gated.astream_events(given, thread(), version="v2")) == expected
    assert len(gate.admitted) == len(inputs)
    assert gate.all_returned


@since_1_2
@pytest.mark.filterwarnings("ignore:The v3 streaming protocol")
@every_case
async def test_the_third_version_of_events_is_gated_too(gate, build, inputs):
    plain, gated = twins(gate, build)
    for given in inputs:
        runs = [await graph.astream_events(given, thread(), version="v3") for graph in (plain, gated)]
        expected, got = [[e.get("method") for e in await _all_events(run)] for run in runs]
        assert len(expected) > 1
        assert got == expected
    assert len(gate.admitted) == len(inputs)
    assert gate.all_returned


async def _all_events(run):
    events = []
    try:
        async for event in run:
            events.append(event)  # noqa: PERF401  # an error must not lose the events before it
    except (GraphRecursionError, LookupError) as error:
        events.append({"method": str(error)})
    return events


@dataclass
class Count:
    n: int = 0


@since_1_2
async def test_a_state_that_is_a_class_comes_out_as_that_class(gate):
    builder = StateGraph(Count).add_node("one", lambda state: {"n": state.n + 1}).add_edge(START, "one")
    plain, gated = twins(gate, builder.compile)
    for graph in (plain, gated):
        assert (await graph.ainvoke(Count(1), thread(), version="v2")).value == Count(2)


async def test_abatch_gives_the_same_results_with_an_agent_for_each_input(gate):
    plain, gated = twins(gate, fan_out)
    inputs = [{"seen": [str(n)]} for n in range(4)]
    configs = [{"configurable": {"thread_id": f"task-{n}"}} for n in range(4)]
    assert await gated.abatch(inputs, configs) == await plain.abatch(inputs, configs)
    assert sorted(a.name for a in gate.admitted) == ["task-0", "task-1", "task-2", "task-3"]
    assert gate.all_returned


async def test_abatch_hands_out_errors_where_they_are_asked_for(gate):
    gated = wrap_graph(gate, failing())
    results = await gated.abatch([{"seen": []}] * 3, return_exceptions=True)
    assert [type(r) for r in results] == [LookupError] * 3
    assert gate.all_returned


async def test_abatch_as_completed_is_gated(gate):
    gated = wrap_graph(gate, fan_out())
    done = [n async for n, _ in gated.abatch_as_completed([{"seen": []}] * 3)]
    assert sorted(done) == [0, 1, 2]
    assert len(gate.admitted) == 3
    assert gate.all_returned


@pytest.mark.parametrize("build", [tool_loop, fan_out, with_subgraph])
@pytest.mark.parametrize("xray", [False, True])
def test_the_drawing_is_the_same(gate, build, xray):
    plain, gated = twins(gate, build)
    assert gated.get_graph(xray=xray).draw_mermaid() == plain.get_graph(xray=xray).draw_mermaid()


async def test_the_state_can_be_read_and_written_as_before(gate):
    plain, gated = twins(gate, with_interrupt)
    for graph in (plain, gated):
        await graph.ainvoke({"seen": []}, thread())
        await graph.aupdate_state(thread(), {"seen": ["written"]})
        graph.update_state(thread(), {"seen": ["again"]})
    assert told(gated.get_state(thread())) == told(plain.get_state(thread()))
    assert told(await gated.aget_state(thread())) == told(await plain.aget_state(thread()))
    assert told(list(gated.get_state_history(thread()))) == told(list(plain.get_state_history(thread())))
    assert len(gate.admitted) == 1


def test_schemas_name_and_subgraphs_are_those_of_the_graph(gate):
    plain, gated = twins(gate, with_subgraph)
    assert gated.get_input_jsonschema() == plain.get_input_jsonschema()
    assert gated.get_output_jsonschema() == plain.get_output_jsonschema()
    assert [name for name, _ in gated.get_subgraphs(recurse=True)] == ["inner"]
    assert gated.get_name() == plain.get_name()
    assert isinstance(gated, type(plain))
    assert repr(type(gated)) == repr(type(plain))


async def test_the_functional_api_is_gated(gate):
    @task
    async def double(n: int) -> int:
        assert gate.current() is not None
        return 2 * n

    @entrypoint()
    async def work(n: int) -> int:
        return await double(n) + 1

    assert await wrap_graph(gate, work).ainvoke(4) == 9
    assert len(gate.admitted) == 1
    assert gate.all_returned


# ---------------------------------------------------------------------------- who the agent is


async def test_the_agent_is_called_by_run_name_else_thread_id_else_graph_name(gate):
    gated = wrap_graph(gate, fan_out(name="solver"))
    await gated.ainvoke({"seen": []}, {"run_name": "task-17", "configurable": {"thread_id": 4}})
    await gated.ainvoke({"seen": []}, {"configurable": {"thread_id": 4}})
    await gated.ainvoke({"seen": []})
    await gated.with_config(run_name="mine").ainvoke({"seen": []}, {"configurable": {"thread_id": 4}})
    assert [a.name for a in gate.admitted] == ["task-17", "4", "solver", "mine"]


async def test_the_kind_is_the_graph_name_unless_given(gate):
    await wrap_graph(gate, fan_out(name="solver")).ainvoke({"seen": []}, {"run_name": "task-17"})
    await wrap_graph(gate, fan_out(name="solver"), kind="judge").ainvoke({"seen": []})
    assert [a.kind for a in gate.admitted] == ["solver", "judge"]


def who_is_current(gate, met):
    """A graph that notes the current agent in an async node, a sync node, a fan-out, a tool and a subgraph."""

    @tool
    def note() -> str:
        """Notes the agent."""
        met["tool"] = gate.current()
        return ""

    async def anode(state: Talk) -> Talk:
        met["async"] = gate.current()
        call = {"name": "note", "args": {}, "id": "1"}
        return {"messages": [AIMessage("", tool_calls=[call])]}

    def node(state: Talk) -> Talk:
        met["sync"] = gate.current()
        return {}

    async def sent(state: Talk) -> Talk:
        met["sent"] = gate.current()
        return {}

    async def deep(state: Talk) -> Talk:
        met["deep"] = gate.current()
        return {}

    inner = StateGraph(Talk).add_node(deep).add_edge(START, "deep").compile()
    builder = StateGraph(Talk).add_node(anode).add_node(node).add_node(sent)
    builder.add_node("inner", inner).add_node("tools", ToolNode([note]))
    builder.add_edge(START, "anode").add_edge("anode", "tools").add_edge("tools", "node")
    builder.add_conditional_edges("node", lambda _: [Send("sent", {})], ["sent"]).add_edge("sent", "inner")
    return builder.compile()


async def test_all_parts_of_a_run_are_in_its_agent_and_its_reader_is_not(gate):
    met = {}
    async for _ in wrap_graph(gate, who_is_current(gate, met)).astream({"messages": []}):
        assert gate.current() is None
        assert gate.held == 1
    (agent,) = gate.admitted
    assert met == dict.fromkeys(["async", "sync", "sent", "tool", "deep"], agent)
    assert gate.all_returned


async def test_no_more_runs_than_places_go_on_at_once():
    gate = standins.StandInGate(places=2)
    results = await wrap_graph(gate, fan_out()).abatch([{"seen": []}] * 7)
    assert len(results) == len(gate.admitted) == 7
    assert gate.most_held == 2
    assert gate.all_returned


async def test_nothing_of_a_run_happens_before_its_place_is_free():
    gate = standins.StandInGate(places=1)
    gated = wrap_graph(gate, fan_out(checkpointer=InMemorySaver()))
    await gate.places.acquire()
    waiting = asyncio.create_task(gated.ainvoke({"seen": []}, thread()))
    await settle()
    assert [s async for s in gated.aget_state_history(thread())] == []
    gate.places.release()
    assert (await waiting)["seen"] == ["plan", "a", "b", "c"]
    assert gate.all_returned


async def test_a_run_inside_an_agent_of_the_gate_shares_its_place(gate):
    gated = wrap_graph(gate, fan_out())
    async with gate.agent("outer") as outer:
        await gated.ainvoke({"seen": []})
        async for _ in gated.astream({"seen": []}):
            assert gate.current() is outer
    assert [a.name for a in gate.admitted] == ["outer"]
    assert [a.parent for a in gate.inherited] == [outer, outer]
    assert gate.all_returned


async def test_a_gated_graph_called_in_a_node_of_a_gated_graph_needs_no_second_place():
    gate = standins.StandInGate(places=1)
    child = wrap_graph(gate, fan_out())

    async def call(state: Tally) -> Tally:
        return await child.ainvoke({"seen": []})

    parent = wrap_graph(gate, StateGraph(Tally).add_node(call).add_edge(START, "call").compile())
    assert (await parent.ainvoke({"seen": []}))["seen"] == ["plan", "a", "b", "c"]
    assert (len(gate.admitted), len(gate.inherited)) == (1, 1)
    assert gate.all_returned


# ---------------------------------------------------------------------------- as a node of another graph


async def test_as_a_node_of_an_ungated_graph_each_run_of_the_node_is_an_agent(gate):
    def parent_of(child):
        builder = StateGraph(Tally).add_node("child", child).add_edge(START, "child")
        return builder.compile(checkpointer=InMemorySaver())

    plain, gated = parent_of(with_subgraph()), parent_of(wrap_graph(gate, with_subgraph()))
    for mode in STREAM_MODES:
        expected = await items_of(plain.astream({"seen": []}, thread(), stream_mode=mode, subgraphs=True))
        got = await items_of(gated.astream({"seen": []}, thread(), stream_mode=mode, subgraphs=True))
        assert got == expected
    assert gated.get_graph(xray=True).draw_mermaid() == plain.get_graph(xray=True).draw_mermaid()
    assert len(gate.admitted) == len(STREAM_MODES)
    assert gate.all_returned


async def test_an_interrupt_in_a_gated_node_gives_its_place_back_and_can_be_resumed(gate):
    builder = StateGraph(Tally).add_node("child", wrap_graph(gate, with_interrupt()))
    parent = builder.add_edge(START, "child").compile(checkpointer=InMemorySaver())
    stopped = await parent.ainvoke({"seen": []}, thread())
    assert stopped["__interrupt__"][0].value == "who?"
    assert gate.all_returned
    assert (await parent.ainvoke(Command(resume="me"), thread()))["seen"] == ["me", "after"]
    assert len(gate.admitted) == 2
    assert gate.all_returned


async def test_a_gated_node_can_command_its_parent_graph(gate):
    async def leave(state: Tally) -> Command:
        return Command(graph=Command.PARENT, goto="there", update={"seen": ["left"]})

    async def there(state: Tally) -> Tally:
        return {"seen": ["there"]}

    child = StateGraph(Tally).add_node(leave).add_edge(START, "leave").compile()
    builder = StateGraph(Tally).add_node("child", wrap_graph(gate, child), destinations=("there",))
    parent = builder.add_node(there).add_edge(START, "child").compile()
    assert (await parent.ainvoke({"seen": []}))["seen"] == ["left", "there"]
    assert gate.all_returned


# ---------------------------------------------------------------------------- copies


async def test_copies_made_by_with_config_stay_gated(gate):
    gated = wrap_graph(gate, endless()).with_config(tags=["x"]).with_config(recursion_limit=3)
    with pytest.raises(GraphRecursionError, match="limit of 3"):
        await gated.ainvoke({"seen": []})
    assert len(gate.admitted) == 1
    assert gate.all_returned


async def test_bound_and_retried_graphs_stay_gated(gate):
    gated = wrap_graph(gate, fan_out())
    await gated.with_retry().ainvoke({"seen": []})
    await (gated | (lambda state: state["seen"])).ainvoke({"seen": []})
    assert len(gate.admitted) == 2
    assert gate.all_returned


async def test_the_graph_that_was_given_stays_ungated(gate):
    plain = StateGraph(Tally).add_node("one", lambda _: {"seen": ["one"]}).add_edge(START, "one").compile()
    wrap_graph(gate, plain)
    assert plain.invoke({"seen": []}) == await plain.ainvoke({"seen": []}) == {"seen": ["one"]}
    assert not gate.admitted


async def test_wrapping_twice_makes_one_agent_a_run(gate):
    once = wrap_graph(gate, fan_out(name="solver"))
    assert wrap_graph(gate, once) is once
    await wrap_graph(gate, once, kind="judge").ainvoke({"seen": []})
    await wrap_graph(gate, once.with_config(tags=["x"])).ainvoke({"seen": []})
    assert [a.kind for a in gate.admitted] == ["judge", "solver"]
    assert not gate.inherited


async def test_a_graph_can_pass_two_gates(gate):
    other = standins.StandInGate()
    await wrap_graph(other, wrap_graph(gate, fan_out())).ainvoke({"seen": []})
    assert len(gate.admitted) == len(other.admitted) == 1
    assert gate.all_returned
    assert other.all_returned


# ---------------------------------------------------------------------------- places come back


def waits_for_ever(entered, **compiled_with):
    async def fine(state: Tally) -> Tally:
        return {"seen": ["fine"]}

    async def waits(state: Tally) -> Tally:
        entered.set()
        await asyncio.Event().wait()

    builder = StateGraph(Tally).add_node(fine).add_node(waits)
    return builder.add_edge(START, "fine").add_edge("fine", "waits").compile(**compiled_with)


async def settle():
    for _ in range(50):
        await asyncio.sleep(0)


async def test_a_timeout_of_the_caller_gives_the_place_back(gate):
    entered = asyncio.Event()
    gated = wrap_graph(gate, waits_for_ever(entered))

    async def run_out_of_time():
        async with asyncio.timeout(None) as limit:
            run = asyncio.create_task(gated.ainvoke({"seen": []}))
            await entered.wait()
            limit.reschedule(0)
            await run

    with pytest.raises(TimeoutError):
        await run_out_of_time()
    assert len(gate.admitted) == 1
    assert gate.all_returned


async def test_a_step_timeout_of_the_graph_gives_the_place_back(gate):
    gated = wrap_graph(gate, waits_for_ever(asyncio.Event()))
    gated.step_timeout = 1e-6
    with pytest.raises(TimeoutError):
        await gated.ainvoke({"seen": []})
    assert gate.all_returned


@pytest.mark.parametrize("build", [fan_out, with_subgraph, with_interrupt, failing])
@pytest.mark.parametrize("face", ["ainvoke", "astream", "astream_events"])
async def test_a_cancellation_at_any_point_returns_the_place_once(build, face):
    async def run(gated):
        if face == "ainvoke":
            return await gated.ainvoke({"seen": []}, thread())
        kwargs = {"version": "v2"} if face == "astream_events" else {"stream_mode": ["updates", "custom"]}
        return [item async for item in getattr(gated, face)({"seen": []}, thread(), **kwargs)]

    cancelled = 0
    for point in range(1000):
        gate = standins.StandInGate(places=1)
        gated = wrap_graph(gate, build(checkpointer=InMemorySaver()))
        running = asyncio.create_task(run(gated))
        for _ in range(point):
            await asyncio.sleep(0)
        finished = running.done()
        running.cancel()
        await asyncio.wait([running])
        cancelled += running.cancelled()
        if finished:
            running.exception()
        await settle()
        assert gate.all_returned, f"cancelled after {point} turns of the loop"
        async with asyncio.timeout(5), gate.agent("next"):
            pass
        if finished:
            break
    assert finished
    assert cancelled > 10


async def test_a_cancellation_at_any_point_of_a_close_returns_the_place_once():
    for point in range(100):
        gate = standins.StandInGate(places=1)
        stream = wrap_graph(gate, waits_for_ever(asyncio.Event())).astream({"seen": []})
        await anext(stream)
        assert gate.held == 1
        closing = asyncio.create_task(stream.aclose())
        for _ in range(point):
            await asyncio.sleep(0)
        finished = closing.done()
        closing.cancel()
        await asyncio.wait([closing])
        await settle()
        assert gate.all_returned, f"cancelled after {point} turns of the loop"
        if finished:
            break
    assert finished
    assert point > 2


async def test_a_cancelled_wait_for_a_place_takes_none():
    gate = standins.StandInGate(places=1)
    gated = wrap_graph(gate, fan_out())
    await gate.places.acquire()
    waiting = asyncio.create_task(gated.ainvoke({"seen": []}))
    await settle()
    waiting.cancel()
    await asyncio.wait([waiting])
    assert waiting.cancelled()
    assert gate.admitted == []
    gate.places.release()
    await gated.ainvoke({"seen": []})
    assert gate.all_returned


async def test_a_reader_that_closes_the_stream_gives_the_place_back_at_once(gate):
    stream = wrap_graph(gate, tool_loop()).astream(TALK)
    await anext(stream)
    await stream.aclose()
    assert gate.all_returned
    assert len(gate.admitted) == 1
    with pytest.raises(StopAsyncIteration):
        await anext(stream)


async def test_the_nodes_of_a_closed_stream_have_ended_before_the_place_is_given_back(gate):
    held = []

    async def first(state: Tally) -> Tally:
        return {"seen": ["first"]}

    async def leaves_slowly(state: Tally) -> Tally:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            held.append(gate.held)

    builder = StateGraph(Tally).add_node(first).add_node(leaves_slowly)
    graph = wrap_graph(gate, builder.add_edge(START, "first").add_edge(START, "leaves_slowly").compile())
    stream = graph.astream({"seen": []}, stream_mode="updates")
    await anext(stream)
    await stream.aclose()
    assert held == [1]
    assert gate.all_returned


async def test_another_task_may_close_the_stream(gate):
    stream = wrap_graph(gate, tool_loop()).astream(TALK)
    await asyncio.create_task(anext(stream))
    await asyncio.create_task(anext(stream))
    await asyncio.create_task(stream.aclose())
    assert gate.all_returned


async def test_a_reader_that_breaks_off_gives_the_place_back(gate):
    async for _ in wrap_graph(gate, tool_loop()).astream(TALK):
        break
    gc.collect()
    await settle()
    assert len(gate.admitted) == 1
    assert gate.all_returned


async def test_a_reader_that_fails_gives_the_place_back(gate):
    async def read():
        async for _ in wrap_graph(gate, tool_loop()).astream(TALK):
            raise LookupError

    with pytest.raises(LookupError):
        await read()
    gc.collect()
    await settle()
    assert len(gate.admitted) == 1
    assert gate.all_returned


async def test_a_stream_of_events_that_is_left_gives_the_place_back(gate):
    events = wrap_graph(gate, tool_loop()).astream_events(TALK, version="v2")
    for _ in range(4):
        await anext(events)
    assert gate.held == 1
    await events.aclose()
    await settle()
    assert gate.all_returned


async def test_a_stream_that_is_never_read_is_no_agent(gate):
    stream = wrap_graph(gate, tool_loop()).astream(TALK)
    await settle()
    del stream
    gc.collect()
    never_read = wrap_graph(gate, tool_loop()).astream(TALK)
    await never_read.aclose()
    assert not gate.admitted


# ---------------------------------------------------------------------------- mistakes


@pytest.mark.parametrize("run", ["invoke", "stream", "batch", "batch_as_completed"])
async def test_a_synchronous_run_on_an_event_loop_is_refused_with_the_call_to_make_instead(gate, run):
    gated = wrap_graph(gate, fan_out(name="solver"))
    with pytest.raises(TypeError, match=r"'solver' is gated.*await graph\.ainvoke"):
        getattr(gated, run)([{"seen": []}] * 2 if run.startswith("batch") else {"seen": []})
    assert not gate.admitted


def test_a_graph_that_is_not_compiled_is_refused_with_the_call_to_make(gate):
    with pytest.raises(TypeError, match=r"gate\.graph\(builder\.compile\(\)\)"):
        wrap_graph(gate, StateGraph(Tally))


def some_function(state):
    return state


@pytest.mark.parametrize("thing", [some_function, None, fan_out().with_retry()], ids=repr)
def test_what_is_no_graph_is_refused_by_its_type(gate, thing: Any):
    with pytest.raises(TypeError, match=rf"builder\.compile\(\) returns, not {type(thing).__name__}"):
        wrap_graph(gate, thing)
