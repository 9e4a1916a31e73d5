"""The graph API: state and reducers, edges, fan-outs, commands, policies, injected things, errors."""

from __future__ import annotations

import asyncio
import itertools
import operator
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from langchain_core.messages import AIMessage, AnyMessage, HumanMessage, RemoveMessage
from langchain_core.runnables import RunnableConfig  # noqa: TC002  # LangGraph resolves the annotation
from langgraph import types
from langgraph.cache.memory import InMemoryCache
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.config import get_config, get_store, get_stream_writer
from langgraph.graph import END, START, StateGraph
from langgraph.graph.message import add_messages
from langgraph.managed import RemainingSteps  # noqa: TC002  # as above
from langgraph.runtime import Runtime  # noqa: TC002  # as above
from langgraph.store.base import BaseStore  # noqa: TC002  # as above
from langgraph.store.memory import InMemoryStore
from langgraph.types import CachePolicy, Command, RetryPolicy, Send, StreamWriter
from pydantic import BaseModel
from typing_extensions import TypedDict  # pydantic needs this one before Python 3.12

from .observing import case, newer_case, thread


class Tally(TypedDict, total=False):
    seen: Annotated[list[str], operator.add]
    last: str
    item: str


class Talk(TypedDict):
    messages: Annotated[list[AnyMessage], add_messages]


class Asked(TypedDict):
    question: str


class Answered(TypedDict):
    answer: str


class Whole(Asked, Answered):
    draft: str


class Steps(TypedDict):
    seen: Annotated[list[int], operator.add]
    left: RemainingSteps


class Checked(BaseModel):
    n: int
    words: Annotated[list[str], operator.add] = []


@dataclass
class Counted:
    n: int = 0
    words: Annotated[list[str], operator.add] = field(default_factory=list)


@dataclass
class Settings:
    city: str = "Ulm"


def says(word, *, after=0):
    """A node that takes `after` turns of the loop, so that the order of parallel ones is told by the case."""

    async def node(state):
        for _ in range(after):
            await asyncio.sleep(0)
        return {"seen": [word], "last": word}

    node.__name__ = word
    return node


def chain(see, *words, schema=Tally, **compiled_with):
    builder = StateGraph(schema)
    for word in words:
        builder.add_node(word, see.node(says(word)))
    builder.add_edge(START, words[0])
    for one, other in itertools.pairwise(words):
        builder.add_edge(one, other)
    return see.graph(builder.compile(**compiled_with))


# ---------------------------------------------------------------------------- state


@case
async def reducers_add_up_and_other_keys_are_overwritten(see):
    await see.outcome(chain(see, "one", "two").ainvoke({"seen": ["zero"], "last": "zero"}))


@case
async def messages_are_appended_replaced_by_id_and_removed(see):
    async def rewrite(state: Talk) -> Talk:
        return {"messages": [AIMessage("new", id="a"), RemoveMessage("h"), AIMessage("more", id="b")]}

    builder = StateGraph(Talk).add_node("rewrite", see.node(rewrite)).add_edge(START, "rewrite")
    given = {"messages": [HumanMessage("hello", id="h"), AIMessage("old", id="a")]}
    await see.outcome(see.graph(builder.compile()).ainvoke(given))


@case
async def input_output_and_private_schemas_filter_what_is_seen(see):
    async def drafts(state: Asked) -> Whole:
        return {"draft": f"{state['question']}?"}

    async def answers(state: Whole) -> Answered:
        return {"answer": state["draft"].upper()}

    builder = StateGraph(Whole, input_schema=Asked, output_schema=Answered)
    builder.add_sequence([see.node(drafts), see.node(answers)]).add_edge(START, "drafts")
    graph = see.graph(builder.compile())
    await see.outcome(graph.ainvoke({"question": "where"}))
    see.saw((graph.get_input_jsonschema(), graph.get_output_jsonschema()))


@case
async def a_pydantic_state_is_validated(see):
    async def grows(state: Checked) -> dict[str, Any]:
        return {"n": state.n + 1, "words": ["grown"]}

    graph = see.graph(StateGraph(Checked).add_node("grows", see.node(grows)).add_edge(START, "grows").compile())
    await see.outcome(graph.ainvoke({"n": 1}))
    await see.outcome(graph.ainvoke(Checked(n=2)))
    await see.outcome(graph.ainvoke({"n": "many"}))


@case
async def a_dataclass_state_is_handed_on_as_one(see):
    async def grows(state: Counted) -> Counted:
        return Counted(state.n + 1, ["grown"])

    graph = see.graph(StateGraph(Counted).add_node("grows", see.node(grows)).add_edge(START, "grows").compile())
    await see.outcome(graph.ainvoke(Counted(1)))
    await see.outcome(graph.ainvoke(Counted(1), version="v2"))


@newer_case
async def a_reducer_can_be_overwritten(see):
    async def resets(state: Tally) -> Tally:
        return {"seen": types.Overwrite(["fresh"])}

    builder = StateGraph(Tally).add_node("one", see.node(says("one"))).add_node("resets", see.node(resets))
    graph = see.graph(builder.add_edge(START, "one").add_edge("one", "resets").compile())
    await see.outcome(graph.ainvoke({"seen": []}))


@case
async def output_keys_choose_what_is_returned(see):
    graph = chain(see, "one", "two")
    await see.outcome(graph.ainvoke({"seen": []}, output_keys="last"))
    await see.outcome(graph.ainvoke({"seen": []}, output_keys=["seen"]))


# ---------------------------------------------------------------------------- edges


@case
async def conditional_edges_choose_the_next_node(see):
    async def even(state: Tally) -> Tally:
        return {"seen": ["even"]}

    async def odd(state: Tally) -> Tally:
        return {"seen": ["odd"]}

    builder = StateGraph(Tally).add_node("even", see.node(even)).add_node("odd", see.node(odd))
    builder.add_conditional_edges(START, lambda state: len(state["seen"]) % 2, {0: "even", 1: "odd"})
    graph = see.graph(builder.compile())
    await see.outcome(graph.ainvoke({"seen": []}))
    await see.outcome(graph.ainvoke({"seen": ["x"]}))


@case
async def parallel_branches_join_in_one_step(see):
    builder = StateGraph(Tally)
    for node in (says("start"), says("left", after=3), says("right"), says("join")):
        builder.add_node(node.__name__, see.node(node))
    builder.add_edge(START, "start").add_edge("start", "left").add_edge("start", "right")
    graph = see.graph(builder.add_edge(["left", "right"], "join").compile())
    await see.outcome(graph.ainvoke({"seen": []}, output_keys="seen"))


@case
async def two_writers_of_one_plain_key_are_an_error(see):
    builder = StateGraph(Tally).add_node("a", see.node(says("a"))).add_node("b", see.node(says("b")))
    graph = see.graph(builder.add_edge(START, "a").add_edge(START, "b").compile())
    await see.outcome(graph.ainvoke({"seen": []}))


@case
async def a_deferred_node_waits_for_the_longest_branch(see):
    async def short(state: Tally) -> Tally:
        return {"seen": ["short"]}

    async def long(state: Tally) -> Tally:
        return {"seen": ["long"]}

    async def longer(state: Tally) -> Tally:
        return {"seen": ["longer"]}

    async def last(state: Tally) -> Tally:
        return {"seen": [f"last of {len(state['seen'])}"]}

    builder = StateGraph(Tally)
    for node in (short, long, longer):
        builder.add_node(node.__name__, see.node(node))
    builder.add_node("last", see.node(last), defer=True)
    builder.add_edge(START, "short").add_edge(START, "long").add_edge("long", "longer")
    graph = see.graph(builder.add_edge("short", "last").add_edge("longer", "last").compile())
    await see.items(graph.astream({"seen": []}, stream_mode="tasks"))


@case
async def send_maps_over_items_and_their_results_are_in_order(see):
    async def one(state: Tally) -> Tally:
        for _ in range(5 - int(state["item"])):
            await asyncio.sleep(0)
        return {"seen": [state["item"]]}

    async def gathered(state: Tally) -> Tally:
        return {"seen": [f"{len(state['seen'])} items"]}

    builder = StateGraph(Tally).add_node("one", see.node(one)).add_node("gathered", see.node(gathered))
    builder.add_conditional_edges(START, lambda _: [Send("one", {"item": str(n)}) for n in range(5)], ["one"])
    graph = see.graph(builder.add_edge("one", "gathered").compile(checkpointer=InMemorySaver()))
    await see.outcome(graph.ainvoke({"seen": []}, thread()))
    await see.checkpoints(graph, thread())


@case
async def a_command_updates_and_goes(see):
    async def decides(state: Tally) -> Command[Literal["there", "elsewhere"]]:
        return Command(update={"seen": ["decided"]}, goto="there" if not state["seen"] else "elsewhere")

    builder = StateGraph(Tally).add_node("decides", see.node(decides)).add_node("there", see.node(says("there")))
    builder.add_node("elsewhere", see.node(says("elsewhere"))).add_edge(START, "decides")
    graph = see.graph(builder.compile())
    await see.outcome(graph.ainvoke({"seen": []}))
    await see.outcome(graph.ainvoke({"seen": ["x"]}))
    see.saw(graph.get_graph().draw_mermaid())


@case
async def a_command_goes_to_several_and_sends(see):
    async def decides(state: Tally) -> Command[Literal["one", "two"]]:
        return Command(goto=["one", Send("two", {"seen": ["sent"]})])

    async def one(state: Tally) -> Tally:
        return {"seen": ["one"]}

    async def two(state: Tally) -> Tally:
        return {"seen": [f"two after {state['seen']}"]}

    builder = StateGraph(Tally)
    for node in (decides, one, two):
        builder.add_node(node.__name__, see.node(node))
    await see.outcome(see.graph(builder.add_edge(START, "decides").compile()).ainvoke({"seen": []}))


@case
async def a_recursion_limit_is_an_error_and_keeps_its_checkpoints(see):
    builder = StateGraph(Tally).add_node("again", see.node(says("again"))).add_edge(START, "again")
    graph = see.graph(builder.add_edge("again", "again").compile(checkpointer=InMemorySaver()))
    await see.outcome(graph.ainvoke({"seen": []}, {**thread(), "recursion_limit": 3}))
    await see.checkpoints(graph, thread())


@case
async def remaining_steps_count_down(see):
    async def careful(state: Steps) -> dict[str, Any]:
        return {"seen": [state["left"]]}

    builder = StateGraph(Steps).add_node("careful", see.node(careful)).add_edge(START, "careful")
    builder.add_conditional_edges("careful", lambda state: END if state["left"] <= 2 else "careful")
    await see.outcome(see.graph(builder.compile()).ainvoke({"seen": []}, {"recursion_limit": 6}))


# ---------------------------------------------------------------------------- nodes and what is injected


class CallsItself:
    async def __call__(self, state: Tally) -> Tally:
        return {"seen": ["an object"]}

    def method(self, state: Tally) -> Tally:
        return {"seen": ["a method"]}


@case
async def functions_methods_and_objects_are_nodes(see):
    def plain(state: Tally) -> Tally:
        return {"seen": ["a function"]}

    builder = StateGraph(Tally).add_node("plain", see.node(plain)).add_node("object", see.node(CallsItself()))
    builder.add_node("method", see.node(CallsItself().method))
    builder.add_edge(START, "plain").add_edge("plain", "object").add_edge("object", "method")
    await see.outcome(see.graph(builder.compile()).ainvoke({"seen": []}))


@case
async def config_runtime_store_writer_and_context_are_injected(see):
    async def looks(
        state: Tally, config: RunnableConfig, runtime: Runtime[Settings], *, store: BaseStore, writer: StreamWriter
    ) -> Tally:
        writer({"thread": config["configurable"]["thread_id"], "same": get_config()["configurable"]["user"]})
        await store.aput(("cities",), runtime.context.city, {"seen": True})
        found = await runtime.store.aget(("cities",), runtime.context.city)
        return {"seen": [runtime.context.city, str(found.value), runtime.execution_info.thread_id]}

    def looks_around(state: Tally) -> Tally:
        get_stream_writer()("from a thread")
        return {"seen": [item.key for item in get_store().search(("cities",))]}

    builder = StateGraph(Tally, context_schema=Settings).add_sequence([see.node(looks), see.node(looks_around)])
    builder.add_edge(START, "looks")
    graph = see.graph(builder.compile(checkpointer=InMemorySaver(), store=InMemoryStore()))
    config = thread(user="u")
    await see.items(graph.astream({"seen": []}, config, context=Settings("Bonn"), stream_mode=["custom", "values"]))
    await see.outcome(graph.ainvoke({"seen": []}, thread("other", user="v"), context={"city": "Köln"}))
    see.saw(graph.get_context_jsonschema())


# ---------------------------------------------------------------------------- policies and errors


def fails_first(times, error=ConnectionError):
    tries = []

    async def flaky(state: Tally) -> Tally:
        tries.append(None)
        if len(tries) <= times:
            raise error("not yet")
        return {"seen": [f"try {len(tries)}"]}

    return flaky


@case
async def a_retry_policy_runs_a_node_again(see):
    policy = RetryPolicy(initial_interval=0, jitter=False, max_attempts=3)
    for times, error in ((2, ConnectionError), (3, ConnectionError), (1, ValueError)):
        builder = StateGraph(Tally).add_node("flaky", see.node(fails_first(times, error)), retry_policy=policy)
        await see.outcome(see.graph(builder.add_edge(START, "flaky").compile()).ainvoke({"seen": []}))


@case
async def a_cached_node_is_not_run_again_until_the_cache_is_cleared(see):
    runs = []

    async def costly(state: Tally) -> Tally:
        runs.append(state["last"])
        return {"seen": [f"run {len(runs)}"]}

    builder = StateGraph(Tally).add_node("costly", see.node(costly), cache_policy=CachePolicy())
    graph = see.graph(builder.add_edge(START, "costly").compile(cache=InMemoryCache()))
    for _ in range(2):
        await see.items(graph.astream({"seen": [], "last": "x"}, stream_mode="updates"))
    await graph.aclear_cache()
    await see.items(graph.astream({"seen": [], "last": "x"}, stream_mode="updates"))
    see.saw(runs)


@case
async def what_a_node_may_not_return_is_an_error(see):
    async def wrong(state: Tally) -> Any:
        return "words"

    async def unknown(state: Tally) -> Any:
        return Command(goto="nowhere")

    for node in (wrong, unknown):
        builder = StateGraph(Tally).add_node("node", see.node(node)).add_edge(START, "node")
        await see.outcome(see.graph(builder.compile()).ainvoke({"seen": []}))


@case
async def wrong_input_and_missing_thread_are_errors(see):
    graph = chain(see, "one", checkpointer=InMemorySaver())
    await see.outcome(graph.ainvoke({"seen": []}))
    await see.outcome(graph.ainvoke({}, thread()))
    await see.outcome(graph.ainvoke({"no": "key"}, thread()))
    await see.outcome(graph.ainvoke(None, thread("empty")))
    await see.outcome(graph.ainvoke({"seen": []}, {"recursion_limit": 0}))
    await see.outcome(graph.ainvoke({"seen": []}, thread(), stream_mode="no such mode"))


@case
async def a_step_timeout_is_an_error(see):
    async def hangs(state: Tally) -> Tally:
        await asyncio.Event().wait()

    graph = see.graph(StateGraph(Tally).add_node("hangs", see.node(hangs)).add_edge(START, "hangs").compile())
    graph.step_timeout = 1e-6
    await see.outcome(graph.ainvoke({"seen": []}))
