"""Streams in every mode, events, callbacks, batches, and graphs used as tools and runnables; agents made of them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator  # noqa: TC003  # pydantic resolves the annotation
from typing import Annotated, Any

from langchain.agents import create_agent
from langchain_core.callbacks import AsyncCallbackHandler
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, HumanMessage, ToolMessage
from langchain_core.messages.tool import tool_call_chunk
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langchain_core.tools import tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.config import get_stream_writer
from langgraph.graph import START, StateGraph
from langgraph.prebuilt import InjectedState, ToolNode, tools_condition
from langgraph.types import Command, interrupt

from .graph_cases import Talk, Tally, chain, says
from .observing import case, newer_case, thread

HELLO = {"messages": [HumanMessage("hello", id="h")]}
MODES: list[Any] = ["values", "updates", "messages", "custom", "debug", "tasks", "checkpoints"]


class Model(BaseChatModel):
    """Says what it was given, word by word; takes tools, and calls those that it was told to."""

    said: Iterator[AIMessage]

    @property
    def _llm_type(self):
        return "told"

    def bind_tools(self, tools, **kwargs):
        return self

    def _generate(self, messages, stop=None, run_manager=None, **kwargs):
        return ChatResult(generations=[ChatGeneration(message=next(self.said))])

    def _stream(self, messages, stop=None, run_manager=None, **kwargs):
        message = next(self.said)
        for word in str(message.content).split(" "):
            yield ChatGenerationChunk(message=AIMessageChunk(f"{word} ", id=message.id))
        called = [
            tool_call_chunk(name=call["name"], args=json.dumps(call["args"]), id=call["id"], index=n)
            for n, call in enumerate(message.tool_calls)
        ]
        usage = {"input_tokens": 9, "output_tokens": 4, "total_tokens": 13}
        last = AIMessageChunk("", id=message.id, tool_call_chunks=called, usage_metadata=usage, chunk_position="last")
        yield ChatGenerationChunk(message=last)


def calls(name, n, **args):
    return AIMessage("let me see", id=f"ai{n}", tool_calls=[{"name": name, "args": args, "id": f"call{n}"}])


@tool
def lookup(city: str) -> str:
    """The weather of a city."""
    return f"rain in {city}"


@tool
def count(state: Annotated[dict[str, Any], InjectedState]) -> str:
    """The messages so far."""
    return f"{len(state['messages'])} messages"


@tool
def ask(question: str) -> str:
    """Asks a person."""
    return str(interrupt(question))


@tool
def breaks() -> str:
    """Fails."""
    raise LookupError("no such city")


def talker(see, *said, tools=(lookup, count, ask), handle_tool_errors=True, **compiled_with):
    model = Model(said=iter(said))

    async def thinks(state: Talk) -> Talk:
        get_stream_writer()(f"thinking about {len(state['messages'])}")
        return {"messages": [await model.ainvoke(state["messages"])]}

    builder = StateGraph(Talk).add_node("thinks", see.node(thinks))
    builder.add_node("tools", ToolNode(list(tools), handle_tool_errors=handle_tool_errors)).add_edge(START, "thinks")
    builder.add_conditional_edges("thinks", tools_condition).add_edge("tools", "thinks")
    return see.graph(builder.compile(**compiled_with))


def weather(see, **compiled_with):
    said = (calls("lookup", 1, city="Ulm"), AIMessage("rain it is", id="ai2"))
    return talker(see, *said, **compiled_with)


# ---------------------------------------------------------------------------- streams


def _in_mode(mode, version):
    async def streamed(see):
        graph = weather(see, checkpointer=InMemorySaver())
        await see.items(graph.astream(HELLO, thread(), stream_mode=mode, version=version))

    streamed.__name__ = f"a_stream_in_mode_{mode if isinstance(mode, str) else 'all'}_{version}"
    return streamed


for _mode in [*MODES, MODES]:
    for _version in ("v1", "v2"):
        case(_in_mode(_mode, _version))


@case
async def a_stream_of_subgraphs_in_every_mode(see):
    inner = weather(see, name="inner")
    builder = StateGraph(Talk).add_node("inner", inner).add_edge(START, "inner")
    graph = see.graph(builder.compile(checkpointer=InMemorySaver()))
    await see.items(graph.astream(HELLO, thread(), stream_mode=MODES, subgraphs=True))


@case
async def an_invocation_may_return_what_it_streamed(see):
    await see.outcome(weather(see).ainvoke(HELLO, stream_mode="updates"))
    await see.outcome(weather(see).ainvoke(HELLO, stream_mode=["updates", "custom"], version="v2"))


@case
async def events_of_the_second_version(see):
    await see.items(weather(see, checkpointer=InMemorySaver()).astream_events(HELLO, thread(), version="v2"))


@case
async def events_are_filtered_by_name_and_type(see):
    await see.items(weather(see).astream_events(HELLO, version="v2", include_types=["chat_model", "tool"]))
    await see.items(weather(see).astream_events(HELLO, version="v2", include_names=["thinks"]))


@newer_case
async def events_of_the_third_version(see):
    run = await weather(see, checkpointer=InMemorySaver()).astream_events(HELLO, thread(), version="v3")
    async for event in run:
        see.saw((event["method"], event["params"].get("namespace")))
    await see.outcome(run.output())
    see.saw((await run.interrupted(), await run.interrupts()))


class Book(AsyncCallbackHandler):
    """Writes down what a graph tells its callbacks."""

    run_inline = True

    def __init__(self, see):
        self.see = see

    async def on_chain_start(self, serialized, inputs, *, name=None, tags=None, metadata=None, **kwargs):
        self.see.saw(("start", name, inputs, tags, metadata))

    async def on_chain_end(self, outputs, **kwargs):
        self.see.saw(("end", outputs))

    async def on_chain_error(self, error, **kwargs):
        self.see.saw(("error", error))

    async def on_chat_model_start(self, serialized, messages, **kwargs):
        self.see.saw(("model", messages))

    async def on_tool_end(self, output, **kwargs):
        self.see.saw(("tool", output))


@case
async def callbacks_are_told_the_same_in_the_same_order(see):
    config = {"callbacks": [Book(see)], "tags": ["t"], "metadata": {"m": 1}, "run_name": "told"}
    await see.outcome(weather(see).with_config(tags=["bound"]).ainvoke(HELLO, config))

    async def fails(state: Tally) -> Tally:
        raise LookupError("no such city")

    graph = see.graph(StateGraph(Tally).add_node("fails", see.node(fails)).add_edge(START, "fails").compile())
    await see.outcome(graph.ainvoke({"seen": []}, config))


# ---------------------------------------------------------------------------- batches and runnables


@case
async def a_batch_returns_its_results_in_order(see):
    graph = chain(see, "one", "two", checkpointer=InMemorySaver())
    inputs = [{"seen": [str(n)]} for n in range(5)]
    await see.outcome(graph.abatch(inputs, [thread(str(n)) for n in range(5)]))
    few = [{**thread(f"other {n}"), "max_concurrency": 2} for n in range(5)]
    await see.outcome(graph.abatch(inputs, few, return_exceptions=True))


@case
async def a_batch_hands_out_or_raises_its_errors(see):
    async def odd(state: Tally) -> Tally:
        if len(state["seen"]) % 2:
            raise LookupError("odd")
        return {"seen": ["even"]}

    graph = see.graph(StateGraph(Tally).add_node("odd", see.node(odd)).add_edge(START, "odd").compile())
    inputs = [{"seen": ["x"] * n} for n in range(4)]
    await see.outcome(graph.abatch(inputs, return_exceptions=True))
    await see.outcome(graph.abatch(inputs))


@case
async def a_batch_is_handed_out_as_it_completes(see):
    graph = chain(see, "one", "two")
    see.saw(sorted([done async for done in graph.abatch_as_completed([{"seen": [str(n)]} for n in range(4)])]))


@case
async def a_graph_is_a_tool_and_a_runnable(see):
    graph = chain(see, "one", name="solver")
    as_tool = graph.as_tool(name="solve", description="Solves.", arg_types={"seen": list[str]})
    see.saw((as_tool.name, as_tool.description, as_tool.args))
    await see.outcome(as_tool.ainvoke({"seen": ["x"]}))
    await see.outcome((graph | (lambda state: state["last"])).ainvoke({"seen": []}))
    await see.outcome(graph.with_retry().ainvoke({"seen": []}))
    see.saw((graph.get_name(), graph.get_graph().draw_mermaid(), graph.get_context_jsonschema()))


@case
async def a_graph_is_bound_to_a_configuration(see):
    graph = chain(see, "one", "two", checkpointer=InMemorySaver()).with_config(**thread(), recursion_limit=1)
    await see.outcome(graph.ainvoke({"seen": []}))
    await see.outcome(graph.with_config(recursion_limit=5).copy({"name": "copied"}).ainvoke({"seen": []}))
    see.saw(await graph.aget_state(thread()))


# ---------------------------------------------------------------------------- tools and agents


@case
async def tools_are_called_with_the_state_they_ask_for(see):
    both = AIMessage("", id="ai1", tool_calls=calls("count", 1).tool_calls + calls("lookup", 2, city="X").tool_calls)
    await see.outcome(talker(see, both, AIMessage("done", id="ai2")).ainvoke(HELLO))


@case
async def a_tool_asks_a_person(see):
    said = (calls("ask", 1, question="really?"), AIMessage("good", id="ai2"))
    graph = talker(see, *said, checkpointer=InMemorySaver())
    await see.outcome(graph.ainvoke(HELLO, thread()))
    await see.items(graph.astream(Command(resume="yes"), thread(), stream_mode=["updates", "messages"]))
    await see.checkpoints(graph, thread())


@case
async def a_failing_tool_is_told_to_the_model_or_raised(see):
    for handled in (True, False):
        said = (calls("breaks", 1), AIMessage("a pity", id="ai2"))
        await see.outcome(talker(see, *said, tools=[breaks], handle_tool_errors=handled).ainvoke(HELLO))


@case
async def a_graph_is_called_by_a_tool_of_another(see):
    inner = chain(see, "one", name="inner")

    @tool
    async def delegate(word: str) -> str:
        """Lets another graph do it."""
        return str((await inner.ainvoke({"seen": [word]}))["seen"])

    graph = talker(see, calls("delegate", 1, word="x"), AIMessage("done", id="ai2"), tools=[delegate])
    await see.items(graph.astream(HELLO, stream_mode="updates", subgraphs=True))


@case
async def an_agent_of_langchain_calls_its_tools(see):
    @tool
    def leave(city: str) -> Command[Any]:
        """Changes the state itself."""
        return Command(update={"messages": [ToolMessage(f"left {city}", tool_call_id="call2", id="t2")]})

    said = [calls("lookup", 1, city="Ulm"), calls("leave", 2, city="Ulm"), AIMessage("gone", id="ai3")]
    agent = create_agent(Model(said=iter(said)), [lookup, leave], checkpointer=InMemorySaver(), name="traveller")
    graph = see.graph(agent)
    await see.items(graph.astream(HELLO, thread(), stream_mode=["updates", "messages"]))
    await see.checkpoints(graph, thread())


@case
async def several_graphs_share_a_checkpointer(see):
    saver = InMemorySaver()
    first, second = (chain(see, word, checkpointer=saver) for word in ("one", "two"))
    await see.outcome(first.ainvoke({"seen": []}, thread()))
    await see.outcome(second.ainvoke({"seen": []}, thread()))
    await see.checkpoints(second, thread())


@case
async def a_node_that_is_a_gated_graph_streams_its_values(see):
    builder = StateGraph(Tally).add_node("child", chain(see, "one", "two", name="child"))
    builder.add_node("end", says("end")).add_edge(START, "child").add_edge("child", "end")
    graph = builder.compile(checkpointer=InMemorySaver())  # itself not gated
    await see.items(graph.astream({"seen": []}, thread(), stream_mode=["values", "debug"], subgraphs=True))


@case
async def a_synchronous_run_in_a_thread(see):
    def plain(state: Tally) -> Tally:
        return {"seen": [f"{len(state['seen'])}"], "last": "plain"}

    def asks(state: Tally) -> Tally:
        return {"seen": [interrupt("who?")]}

    builder = StateGraph(Tally).add_node("plain", plain).add_node("asks", asks)
    graph = see.graph(builder.add_edge(START, "plain").add_edge("plain", "asks").compile(checkpointer=InMemorySaver()))
    await see.outcome(asyncio.to_thread(graph.invoke, {"seen": []}, thread()))
    await see.outcome(asyncio.to_thread(lambda: list(graph.stream(Command(resume="me"), thread(), stream_mode=MODES))))
    threads = [thread(f"{n}") for n in range(3)]
    await see.outcome(asyncio.to_thread(graph.batch, [{"seen": []}] * 3, threads))
    await see.outcome(asyncio.to_thread(graph.invoke, {"seen": []}, {**thread("short"), "recursion_limit": 1}))
    await see.checkpoints(graph, thread())
