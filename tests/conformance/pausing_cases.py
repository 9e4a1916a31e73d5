"""Interrupts and resumption, checkpoints and history, subgraphs, draining, and what a cut leaves behind."""

from __future__ import annotations

import asyncio
import operator
from typing import Annotated, Any

from langgraph import runtime
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, StateGraph
from langgraph.types import Command, StateUpdate, interrupt
from typing_extensions import TypedDict  # pydantic needs this one before Python 3.12

from .graph_cases import Tally, chain, says
from .observing import case, newer_case, thread


class Inner(TypedDict, total=False):
    words: Annotated[list[str], operator.add]


def asks(see, *questions, sync=False, **compiled_with):
    """A node that asks, and one after it."""

    async def ask(state: Tally) -> Tally:
        return {"seen": [interrupt(question) for question in questions]}

    def ask_in_a_thread(state: Tally) -> Tally:
        return {"seen": [interrupt(question) for question in questions]}

    builder = StateGraph(Tally).add_node("ask", see.node(ask_in_a_thread if sync else ask))
    builder.add_node("after", see.node(says("after"))).add_edge(START, "ask").add_edge("ask", "after")
    return builder.compile(**compiled_with)


def saved(see, *questions, **kwargs):
    return see.graph(asks(see, *questions, checkpointer=InMemorySaver(), **kwargs))


# ---------------------------------------------------------------------------- interrupts


@case
async def an_interrupt_is_resumed_with_its_answer(see):
    graph = saved(see, "who?")
    await see.outcome(graph.ainvoke({"seen": []}, thread()))
    see.saw(await graph.aget_state(thread()))
    await see.outcome(graph.ainvoke(Command(resume="me"), thread()))
    await see.checkpoints(graph, thread())


@case
async def an_interrupt_in_a_synchronous_node_is_resumed(see):
    graph = saved(see, "who?", sync=True)
    await see.outcome(graph.ainvoke({"seen": []}, thread(), version="v2"))
    await see.outcome(graph.ainvoke(Command(resume="me"), thread(), version="v2"))


@case
async def several_interrupts_of_one_node_are_answered_in_order(see):
    graph = saved(see, "who?", "where?", "when?")
    for given in ({"seen": []}, Command(resume="me"), Command(resume="here"), Command(resume="now")):
        await see.items(graph.astream(given, thread(), stream_mode="updates"))
    await see.checkpoints(graph, thread())


@case
async def parallel_interrupts_are_answered_by_their_ids(see):
    async def who(state: Tally) -> Tally:
        return {"seen": [interrupt("who?")]}

    async def where(state: Tally) -> Tally:
        return {"seen": [interrupt("where?")]}

    builder = StateGraph(Tally).add_node("who", see.node(who)).add_node("where", see.node(where))
    graph = see.graph(builder.add_edge(START, "who").add_edge(START, "where").compile(checkpointer=InMemorySaver()))
    stopped = await see.outcome(graph.ainvoke({"seen": []}, thread()))
    await see.outcome(graph.ainvoke(Command(resume="which?"), thread()))
    answers = {asked.id: f"re {asked.value}" for asked in stopped["__interrupt__"]}
    await see.outcome(graph.ainvoke(Command(resume=answers), thread()))


@case
async def an_interrupt_without_a_checkpointer_and_a_resume_without_an_interrupt_are_told(see):
    graph = see.graph(asks(see, "who?"))
    await see.outcome(graph.ainvoke({"seen": []}))
    await see.outcome(graph.ainvoke(Command(resume="me")))


@case
async def a_resume_may_update_and_go_elsewhere(see):
    graph = saved(see, "who?")
    await see.outcome(graph.ainvoke({"seen": []}, thread()))
    await see.outcome(graph.ainvoke(Command(resume="me", update={"last": "updated"}), thread()))
    await see.outcome(graph.ainvoke({"seen": []}, thread("other")))
    await see.outcome(graph.ainvoke(Command(goto="after"), thread("other")))
    await see.checkpoints(graph, thread("other"))


@case
async def breakpoints_of_the_compilation_stop_before_and_after(see):
    stops = {"interrupt_before": ["two"], "interrupt_after": ["two"]}
    graph = chain(see, "one", "two", "three", checkpointer=InMemorySaver(), **stops)
    await see.outcome(graph.ainvoke({"seen": []}, thread()))
    for _ in range(2):
        see.saw((await graph.aget_state(thread())).next)
        await see.items(graph.astream(None, thread(), stream_mode="updates"))


@case
async def breakpoints_of_the_call_stop_everywhere(see):
    graph = chain(see, "one", "two", checkpointer=InMemorySaver())
    await see.outcome(graph.ainvoke({"seen": []}, thread(), interrupt_before="*"))
    await see.outcome(graph.ainvoke(None, thread(), interrupt_after=["one"]))
    await see.outcome(graph.ainvoke(None, thread()))


# ---------------------------------------------------------------------------- checkpoints


@case
async def a_thread_goes_on_where_it_ended(see):
    graph = chain(see, "one", "two", checkpointer=InMemorySaver())
    for n in range(3):
        await see.outcome(graph.ainvoke({"seen": [str(n)]}, thread()))
    await see.outcome(graph.ainvoke({"seen": []}, thread("other")))
    await see.checkpoints(graph, thread())


@case
async def every_durability_leaves_its_checkpoints(see):
    for durability in ("sync", "async", "exit"):
        graph = chain(see, "one", "two", checkpointer=InMemorySaver())
        await see.outcome(graph.ainvoke({"seen": []}, thread(), durability=durability))
        await see.checkpoints(graph, thread())


@case
async def a_failed_step_goes_on_without_repeating_what_had_ended(see):
    ran = []

    async def fine(state: Tally) -> Tally:
        ran.append("fine")
        return {"seen": ["fine"]}

    async def fails_once(state: Tally) -> Tally:
        ran.append("fails once")
        for _ in range(5):
            await asyncio.sleep(0)
        if ran.count("fails once") == 1:
            raise LookupError("no such city")
        return {"seen": ["not any more"]}

    for durability in ("sync", "exit"):
        ran.clear()
        builder = StateGraph(Tally).add_node("fine", see.node(fine)).add_node("fails", see.node(fails_once))
        builder.add_edge(START, "fine").add_edge(START, "fails")
        graph = see.graph(builder.compile(checkpointer=InMemorySaver()))
        await see.outcome(graph.ainvoke({"seen": []}, thread(), durability=durability))
        see.saw(await graph.aget_state(thread()))
        await see.outcome(graph.ainvoke(None, thread(), durability=durability))
        see.saw(ran)


@case
async def a_run_goes_on_from_an_earlier_checkpoint(see):
    graph = chain(see, "one", "two", "three", checkpointer=InMemorySaver())
    await see.outcome(graph.ainvoke({"seen": []}, thread()))
    early = [state async for state in graph.aget_state_history(thread())][2]
    see.saw(early.next)
    await see.outcome(graph.ainvoke(None, early.config))
    fork = await graph.aupdate_state(early.config, {"seen": ["forked"]})
    await see.outcome(graph.ainvoke(None, fork))
    await see.checkpoints(graph, thread())


@case
async def a_state_is_read_and_written_from_outside(see):
    graph = saved(see, "who?")
    await see.outcome(graph.ainvoke({"seen": []}, thread()))
    await graph.aupdate_state(thread(), {"seen": ["written"]}, as_node="ask")
    see.saw(await graph.aget_state(thread()))
    see.saw(graph.get_state(thread()))
    graph.update_state(thread(), {"seen": ["and again"]}, as_node="after")
    await graph.abulk_update_state(
        thread("bulk"), [[StateUpdate({"seen": ["a"]}, "ask")], [StateUpdate({"seen": ["b"]}, "after")]]
    )
    see.saw(list(graph.get_state_history(thread("bulk"))))
    await see.outcome(graph.aupdate_state(thread("new"), {"seen": []}, as_node="nobody"))
    await see.checkpoints(graph, thread())


@case
async def a_reader_that_leaves_leaves_its_checkpoints(see):
    graph = chain(see, "one", "two", "three", checkpointer=InMemorySaver())
    stream = graph.astream({"seen": []}, thread(), stream_mode="updates", durability="sync")
    see.saw(await anext(stream))
    await stream.aclose()
    await see.outcome(anext(stream, "nothing more"))
    see.saw((await graph.aget_state(thread())).next)
    await see.outcome(graph.ainvoke(None, thread()))


@case
async def a_cancelled_run_goes_on_from_its_checkpoint(see):
    entered, go = asyncio.Event(), asyncio.Event()

    async def waits(state: Tally) -> Tally:
        entered.set()
        await go.wait()
        return {"seen": ["waited"]}

    builder = StateGraph(Tally).add_node("one", see.node(says("one"))).add_node("waits", see.node(waits))
    graph = see.graph(builder.add_edge(START, "one").add_edge("one", "waits").compile(checkpointer=InMemorySaver()))
    running = asyncio.create_task(graph.ainvoke({"seen": []}, thread(), durability="sync"))
    await entered.wait()
    running.cancel()
    await asyncio.wait([running])
    see.saw(running.cancelled())
    see.saw((await graph.aget_state(thread())).next)
    go.set()
    await see.outcome(graph.ainvoke(None, thread()))


@newer_case
async def a_run_that_is_told_to_drain_stops_at_its_next_step_and_goes_on_later(see):
    control = runtime.RunControl()

    async def asked_to_stop(state: Tally) -> Tally:
        control.request_drain("deploy")
        return {"seen": ["asked to stop"]}

    builder = StateGraph(Tally).add_node("asked", see.node(asked_to_stop)).add_node("next", see.node(says("next")))
    graph = see.graph(builder.add_edge(START, "asked").add_edge("asked", "next").compile(checkpointer=InMemorySaver()))
    await see.outcome(graph.ainvoke({"seen": []}, thread(), control=control))
    see.saw((await graph.aget_state(thread())).next)
    await see.outcome(graph.ainvoke(None, thread()))


# ---------------------------------------------------------------------------- subgraphs


def nested(see, inner, **compiled_with):
    builder = StateGraph(Tally).add_node("outer", see.node(says("outer"))).add_node("inner", inner)
    return see.graph(builder.add_edge(START, "outer").add_edge("outer", "inner").compile(**compiled_with))


@case
async def a_subgraph_shares_keys_and_streams_its_namespace(see):
    graph = nested(see, chain(see, "one", "two", name="inner"), checkpointer=InMemorySaver())
    await see.items(graph.astream({"seen": []}, thread(), stream_mode=["updates", "values"], subgraphs=True))
    await see.checkpoints(graph, thread())
    see.saw([name for name, _ in graph.get_subgraphs(recurse=True)])
    see.saw(graph.get_graph(xray=True).draw_mermaid())
    see.saw((await graph.aget_graph(xray=1)).to_json())


@case
async def a_subgraph_is_interrupted_and_its_state_read(see):
    graph = nested(see, see.graph(asks(see, "who?")), checkpointer=InMemorySaver())
    await see.outcome(graph.ainvoke({"seen": []}, thread()))
    state = await graph.aget_state(thread(), subgraphs=True)
    see.saw(state)
    await graph.aupdate_state(state.tasks[0].state.config, {"last": "written inside"})
    await see.items(graph.astream(Command(resume="me"), thread(), subgraphs=True))
    await see.checkpoints(graph, thread())


@case
async def a_subgraph_with_its_own_keys_is_called_in_a_node(see):
    async def word(state: Inner) -> Inner:
        return {"words": [f"{len(state['words'])}"]}

    inner = see.graph(StateGraph(Inner).add_node("word", see.node(word)).add_edge(START, "word").compile())

    async def calls(state: Tally) -> Tally:
        found = await inner.ainvoke({"words": state["seen"]})
        return {"seen": found["words"]}

    builder = StateGraph(Tally).add_node("calls", see.node(calls)).add_edge(START, "calls")
    await see.items(see.graph(builder.compile()).astream({"seen": ["x"]}, stream_mode="updates", subgraphs=True))


@case
async def a_subgraph_keeps_a_memory_of_its_own(see):
    graph = nested(see, chain(see, "one", checkpointer=True), checkpointer=InMemorySaver())
    for _ in range(3):
        await see.outcome(graph.ainvoke({"seen": ["x"]}, thread()))
    await see.checkpoints(graph, thread())


@case
async def a_subgraph_commands_its_parent(see):
    async def leaves(state: Tally) -> Command[Any]:
        return Command(graph=Command.PARENT, goto="there", update={"seen": ["left"]})

    inner = see.graph(StateGraph(Tally).add_node("leaves", see.node(leaves)).add_edge(START, "leaves").compile())
    builder = StateGraph(Tally).add_node("inner", inner, destinations=("there",))
    graph = see.graph(builder.add_node("there", see.node(says("there"))).add_edge(START, "inner").compile())
    await see.items(graph.astream({"seen": []}, stream_mode="updates", subgraphs=True))


@case
async def a_failing_subgraph_fails_its_parent(see):
    async def fails(state: Tally) -> Tally:
        raise LookupError("no such city")

    inner = see.graph(StateGraph(Tally).add_node("fails", see.node(fails)).add_edge(START, "fails").compile())
    graph = nested(see, inner, checkpointer=InMemorySaver())
    await see.outcome(graph.ainvoke({"seen": []}, thread()))
    see.saw(await graph.aget_state(thread(), subgraphs=True))
