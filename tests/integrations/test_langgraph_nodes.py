"""A node decorated with `@gate.node` does what the node does, as one turn of the agent around it."""

from __future__ import annotations

import asyncio
import functools
import inspect
import operator
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

import pytest
from langchain_core.messages import AIMessage, AnyMessage, HumanMessage
from langchain_core.runnables import RunnableConfig, RunnableLambda
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.config import get_config, get_stream_writer
from langgraph.func import entrypoint, task
from langgraph.graph import START, StateGraph
from langgraph.graph.message import add_messages
from langgraph.runtime import Runtime  # noqa: TC002  # LangGraph resolves the annotation
from langgraph.store.base import BaseStore  # noqa: TC002  # as above
from langgraph.store.memory import InMemoryStore
from langgraph.types import Command, StreamWriter, interrupt
from pydantic import BaseModel
from typing_extensions import TypedDict  # pydantic needs this one before Python 3.12

from concur_agents.integrations.langgraph import wrap_graph
from concur_agents.integrations.langgraph_node import wrap_node

from . import langgraph_standins as standins
from .langgraph_standins import items_of


@pytest.fixture
def gate():
    return standins.StandInGate()


class State(TypedDict, total=False):
    seen: Annotated[list[str], operator.add]
    messages: Annotated[list[AnyMessage], add_messages]


class OnlySeen(TypedDict):
    seen: list[str]


@dataclass
class Settings:
    city: str = "Ulm"


# ---------------------------------------------------------------------------- nodes of every form


async def think(state: State) -> State:
    """Thinks."""
    await asyncio.sleep(0)
    return {"seen": ["thought"]}


def think_in_a_thread(state: State) -> State:
    assert threading.current_thread() is not threading.main_thread()
    return {"seen": ["thought"]}


class Thinker:
    hint: str = "an annotation of the class, not of its call"

    async def by_method(self, state: State) -> State:
        return {"seen": ["thought"]}

    def by_sync_method(self, state: State) -> State:
        return {"seen": ["thought"]}

    async def __call__(self, state: State) -> State:
        return {"seen": ["thought"]}


class SyncThinker:
    def __call__(self, state: State) -> State:
        return {"seen": ["thought"]}


async def think_of(word: str, state: State) -> State:
    return {"seen": [word]}


def hands_on(state):
    return think(state)


FORMS = {
    "a coroutine function": think,
    "a function": think_in_a_thread,
    "a method": Thinker().by_method,
    "a synchronous method": Thinker().by_sync_method,
    "a callable object": Thinker(),
    "a synchronous callable object": SyncThinker(),
    "a partial": functools.partial(think_of, "thought"),
    "a function that hands on a coroutine": hands_on,
}
every_form = pytest.mark.parametrize("form", FORMS.values(), ids=FORMS.keys())


def one_node(node, name=None, **compiled_with):
    builder = StateGraph(State, context_schema=Settings)
    builder.add_node(*([name, node] if name else [node]))
    (name,) = builder.nodes
    return builder.add_edge(START, name).compile(**compiled_with)


@every_form
async def test_every_form_of_a_node_is_one_turn(gate, form):
    graph = wrap_graph(gate, one_node(wrap_node(gate, form)))
    assert await graph.ainvoke({"seen": []}) == {"seen": ["thought"], "messages": []}
    assert [turn.state for turn in gate.turns] == ["ended"]
    assert len(gate.admitted) == 1
    assert gate.all_returned


@every_form
def test_a_wrapped_node_has_the_name_and_signature_of_what_it_wraps(gate, form):
    plain, gated = one_node(form), one_node(wrap_node(gate, form))
    assert list(gated.builder.nodes) == list(plain.builder.nodes)
    assert inspect.signature(wrap_node(gate, form)) == inspect.signature(form)


def test_a_wrapped_function_keeps_its_documentation(gate):
    assert wrap_node(gate, think).__doc__ == "Thinks."
    assert wrap_node(gate, think).__qualname__ == think.__qualname__


async def test_both_forms_of_the_decorator_work_on_functions_and_methods(gate):
    @functools.partial(wrap_node, gate)
    async def bare(state: State) -> State:
        return {"seen": ["bare"]}

    @wrap_node(gate, kind="critic")
    def called(state: State) -> State:
        return {"seen": ["called"]}

    class Team:
        word = "method"

        @wrap_node(gate)
        async def method(self, state: State, config: RunnableConfig) -> State:
            return {"seen": [self.word]}

    builder = StateGraph(State).add_node(bare).add_node(called).add_node(Team().method)
    builder.add_edge(START, "bare").add_edge("bare", "called").add_edge("called", "method")
    result = await wrap_graph(gate, builder.compile()).ainvoke({"seen": []})
    assert result["seen"] == ["bare", "called", "method"]
    assert len(gate.turns) == 3


# ---------------------------------------------------------------------------- the same as ungated


async def injected(
    state: State, config: RunnableConfig, *, runtime: Runtime[Settings], store: BaseStore, writer: StreamWriter
) -> State:
    writer({"from": "writer"})
    runtime.stream_writer({"from": "runtime"})
    await store.aput(("a",), "key", {"n": 1})
    item = await store.aget(("a",), "key")
    return {"seen": [config["configurable"]["thread_id"], runtime.context.city, str(item.value)]}


def injected_in_a_thread(state: State, config: RunnableConfig, runtime: Runtime[Settings]) -> State:
    get_stream_writer()({"from": "a thread"})
    return {"seen": [get_config()["configurable"]["thread_id"], runtime.context.city]}


@pytest.mark.parametrize("node", [injected, injected_in_a_thread])
async def test_what_langgraph_injects_arrives_as_before(gate, node):
    results = []
    for form in (node, wrap_node(gate, node)):
        graph = one_node(form, store=InMemoryStore(), checkpointer=InMemorySaver())
        config = {"configurable": {"thread_id": "t1"}}
        stream = graph.astream(
            {"seen": []}, config, context=Settings("Bonn"), stream_mode=["custom", "updates", "debug"]
        )
        results.append(await items_of(stream))
    assert results[1] == results[0]
    assert "t1" in results[0][-1]
    assert "Bonn" in results[0][-1]


async def test_the_previous_result_is_injected_and_tasks_can_be_turns(gate):
    @task
    @functools.partial(wrap_node, gate)
    async def double(n: int) -> int:
        return 2 * n

    @entrypoint(checkpointer=InMemorySaver())
    @functools.partial(wrap_node, gate)
    async def work(n: int, *, previous: int | None) -> int:
        return await double(n) + (previous or 0)

    config = {"configurable": {"thread_id": "t1"}}
    assert [await work.ainvoke(n, config) for n in (1, 2)] == [2, 6]
    assert gate.all_returned


class Router:
    async def __call__(self, state: State) -> Command[Literal["there", "__end__"]]:
        return Command(goto="there")


async def route(state: State) -> Command[Literal["there", "__end__"]]:
    return Command(goto="there")


async def only_seen(state: OnlySeen) -> State:
    return {"seen": [str(sorted(state))]}


@pytest.mark.parametrize("node", [route, Router()])
async def test_edges_by_command_annotation_are_drawn_and_taken(gate, node):
    def graph_of(form):
        builder = StateGraph(State).add_node("node", form).add_node("there", think).add_edge(START, "node")
        return builder.compile()

    plain, gated = graph_of(node), graph_of(wrap_node(gate, node))
    assert gated.get_graph().draw_mermaid() == plain.get_graph().draw_mermaid()
    assert "there" in gated.get_graph().draw_mermaid()
    assert (await gated.ainvoke({"seen": []}))["seen"] == ["thought"]


async def test_the_input_schema_is_read_from_the_annotation(gate):
    graph = one_node(wrap_node(gate, only_seen))
    result = await graph.ainvoke({"seen": [], "messages": [HumanMessage("x")]})
    assert result["seen"] == ["['seen']"]


def test_a_subgraph_that_a_node_calls_is_still_found(gate):
    child = one_node(think, name="deep")

    async def calls(state: State) -> State:
        return await child.ainvoke(state)

    assert [name for name, _ in one_node(wrap_node(gate, calls)).get_subgraphs()] == ["calls"]


@pytest.mark.parametrize("asking", ["async", "sync"])
async def test_an_interrupt_in_a_node_ends_the_turn_and_resuming_begins_another(gate, asking):
    async def aask(state: State) -> State:
        return {"seen": [interrupt("who?")]}

    def ask(state: State) -> State:
        return {"seen": [interrupt("who?")]}

    node = wrap_node(gate, aask if asking == "async" else ask)
    graph = wrap_graph(gate, one_node(node, checkpointer=InMemorySaver()))
    config = {"configurable": {"thread_id": "t1"}}
    assert (await graph.ainvoke({"seen": []}, config))["__interrupt__"][0].value == "who?"
    assert gate.all_returned
    assert (await graph.ainvoke(Command(resume="me"), config))["seen"] == ["me"]
    assert len(gate.turns) == 2
    assert gate.all_returned


# ---------------------------------------------------------------------------- the turn


@pytest.mark.parametrize("body", [think, think_in_a_thread])
async def test_the_body_waits_while_its_agent_is_paused(gate, body):
    gate.unpaused.clear()
    ran = []

    def note(state):
        ran.append(state)
        return body(state)

    node = wrap_node(gate, functools.wraps(body)(note))
    running = asyncio.create_task(node({"seen": []}))
    for _ in range(20):
        await asyncio.sleep(0)
    assert ran == []
    gate.unpaused.set()
    assert await running == {"seen": ["thought"]}
    assert len(ran) == 1


async def test_paused_synchronous_nodes_take_no_thread(gate):
    gate.unpaused.clear()
    with ThreadPoolExecutor(max_workers=1) as pool:
        asyncio.get_running_loop().set_default_executor(pool)
        paused = [asyncio.create_task(wrap_node(gate, think_in_a_thread)({"seen": []})) for _ in range(3)]
        await asyncio.sleep(0)
        assert await asyncio.to_thread(lambda: "a free thread") == "a free thread"
        gate.unpaused.set()
        assert len(await asyncio.gather(*paused)) == 3


async def test_a_synchronous_body_is_in_its_agent(gate):
    met = []
    node = wrap_node(gate, lambda state: met.append(gate.current()))
    async with gate.agent("a") as agent:
        await node({})
    assert met == [agent]


@pytest.mark.parametrize("failing", ["async", "sync"])
async def test_a_failing_body_ends_its_turn(gate, failing):
    async def afails(state: State) -> State:
        raise LookupError("no such city")

    def fails(state: State) -> State:
        raise LookupError("no such city")

    with pytest.raises(LookupError, match="no such city"):
        await wrap_node(gate, afails if failing == "async" else fails)({})
    assert [turn.state for turn in gate.turns] == ["ended"]
    assert gate.all_returned


async def test_a_synchronous_body_that_raises_stop_iteration_fails_rather_than_hangs(gate):
    with pytest.raises(RuntimeError):
        async with asyncio.timeout(5):
            await wrap_node(gate, lambda state: next(iter([])))({})
    assert gate.all_returned


async def test_a_cancelled_body_ends_its_turn(gate):
    async def waits(state: State) -> State:
        await asyncio.Event().wait()

    for point in range(4):
        running = asyncio.create_task(wrap_node(gate, waits)({}))
        for _ in range(point):
            await asyncio.sleep(0)
        running.cancel()
        await asyncio.wait([running])
        assert running.cancelled()
        assert gate.all_returned
    assert gate.turns


async def test_a_node_around_calls_that_are_turns_is_only_a_pause_point(gate):
    async def calls(state: State) -> State:
        async with gate.turn() as call:
            call.report(prompt_tokens=7, completion_tokens=1)
        return {"messages": [answer(100, 10)]}

    async with gate.agent("a"):
        await wrap_node(gate, calls)({})
    assert [(turn.state, turn.usage) for turn in gate.turns] == [
        ("dissolved", None),
        ("ended", {"prompt_tokens": 7, "completion_tokens": 1}),
    ]


async def test_outside_any_agent_a_node_is_an_agent_of_its_kind(gate):
    await wrap_node(gate, think, kind="critic")({})
    assert [(a.name, a.kind) for a in gate.admitted] == [("think", "critic")]
    await wrap_node(gate, think)({})
    assert len(gate.admitted) == 2
    assert gate.all_returned


async def test_inside_an_agent_a_node_is_no_agent(gate):
    async with gate.agent("a"):
        await wrap_node(gate, think, kind="critic")({})
    assert len(gate.admitted) == 1
    assert gate.inherited == []


# ---------------------------------------------------------------------------- tokens


def answer(prompt, output, **details):
    usage = {"input_tokens": prompt, "output_tokens": output, "total_tokens": prompt + output, **details}
    return AIMessage("words", usage_metadata=usage)


@dataclass
class DataState:
    messages: list[AnyMessage] = field(default_factory=list)


class ModelState(BaseModel):
    messages: list[Any]


silent = AIMessage("no usage")
UPDATES = {
    "a list": {"messages": [answer(9, 4)]},
    "a single message": {"draft": answer(9, 4)},
    "any key": {"count": 3, "draft": [HumanMessage("x"), answer(9, 4)], "words": ["x"]},
    "a tuple": {"messages": (answer(9, 4),)},
    "a history, the last with usage": {"messages": [answer(5, 1), answer(9, 4), silent, HumanMessage("x")]},
    "a Command": Command(goto="there", update={"messages": [answer(9, 4)]}),
    "a Command of pairs": Command(update=[("seen", ["x"]), ("messages", [answer(9, 4)])]),
    "several Commands": [Command(update={"messages": [answer(5, 1)]}), Command(update={"messages": answer(9, 4)})],
    "a Command and an update": [Command(goto="there"), {"messages": [answer(9, 4)]}],
    "a dataclass": DataState([answer(9, 4)]),
    "a model": ModelState(messages=[answer(9, 4)]),
    "a message": answer(9, 4),
    "messages": [answer(5, 1), answer(9, 4)],
}


async def turn_of(gate, update):
    async def node(state):
        return update

    async with gate.agent("a"):
        assert await wrap_node(gate, node)({}) is update
    (turn,) = gate.turns
    return turn


@pytest.mark.parametrize("update", UPDATES.values(), ids=UPDATES.keys())
async def test_the_tokens_of_the_last_message_are_reported(gate, update):
    turn = await turn_of(gate, update)
    assert turn.usage == {"prompt_tokens": 9, "completion_tokens": 4, "cached_tokens": None}


@pytest.mark.parametrize("cached", [0, 8])
async def test_cached_tokens_are_reported_where_they_are_told(gate, cached):
    turn = await turn_of(gate, {"messages": [answer(9, 4, input_token_details={"cache_read": cached})]})
    assert turn.usage == {"prompt_tokens": 9, "completion_tokens": 4, "cached_tokens": cached}


@pytest.mark.parametrize("details", [{}, {"audio": 1}])
async def test_untold_cached_tokens_are_unknown_not_zero(gate, details):
    turn = await turn_of(gate, {"messages": [answer(9, 4, input_token_details=details)]})
    assert turn.usage["cached_tokens"] is None


@pytest.mark.parametrize(
    "update",
    [
        None,
        {},
        {"messages": [silent]},
        {"messages": []},
        "words",
        7,
        Command(goto="x"),
        {"messages": [HumanMessage("x")]},
        {"usage_metadata": {"input_tokens": 1, "output_tokens": 1}},
    ],
    ids=repr,
)
async def test_an_update_that_tells_no_tokens_reports_none(gate, update):
    assert (await turn_of(gate, update)).usage is None


# ---------------------------------------------------------------------------- mistakes


def yields(state):
    yield {}


async def ayields(state):
    yield {}


@pytest.mark.parametrize(
    ("fn", "says"),
    [
        (staticmethod(think), "goes below @staticmethod"),
        (classmethod(think), "goes below @classmethod"),
        (Thinker, "an instance of Thinker"),
        (yields, "do not yield"),
        (ayields, "do not yield"),
        (RunnableLambda(think), r"not RunnableLambda; .* runnable\.ainvoke\(state, config\)"),
        (one_node(think), r"not CompiledStateGraph; .* runnable\.ainvoke"),
        ("think", "not str"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_cannot_be_a_node_is_refused_with_what_to_do(gate, fn, says):
    with pytest.raises(TypeError, match=rf"@gate\.node.*{says}"):
        wrap_node(gate, fn)


async def test_a_synchronous_run_of_a_gated_node_is_refused_by_langgraph(gate):
    graph = one_node(wrap_node(gate, think_in_a_thread))
    with pytest.raises(TypeError, match="invoke via the async API"):
        graph.invoke({"seen": []})
    assert gate.turns == []
