"""The functional API: entrypoints and tasks, their memory, what is injected, interrupts, and policies."""

from __future__ import annotations

import asyncio
from typing import Any

from langchain_core.runnables import RunnableConfig  # noqa: TC002  # LangGraph resolves the annotation
from langgraph.cache.memory import InMemoryCache
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.func import entrypoint, task
from langgraph.runtime import Runtime  # noqa: TC002  # as above
from langgraph.store.base import BaseStore  # noqa: TC002  # as above
from langgraph.store.memory import InMemoryStore
from langgraph.types import CachePolicy, Command, RetryPolicy, StreamWriter, interrupt

from .observing import case, thread


def doubling(see, ran=None, **policies):
    async def double(n: int) -> int:
        if ran is not None:
            ran.append(n)
        for _ in range(n):
            await asyncio.sleep(0)
        return 2 * n

    return task(see.node(double), **policies)


@case
async def a_workflow_awaits_its_tasks(see):
    double = doubling(see)

    @entrypoint()
    async def work(n: int) -> int:
        return await double(await double(n))

    graph = see.graph(work)
    await see.outcome(graph.ainvoke(2))
    await see.items(graph.astream(2, stream_mode=["updates", "values", "tasks"]))


@case
async def tasks_run_beside_one_another(see):
    double = doubling(see)

    @entrypoint(checkpointer=InMemorySaver())
    async def work(numbers: list[int]) -> list[int]:
        return await asyncio.gather(*[double(n) for n in numbers])

    graph = see.graph(work)
    await see.outcome(graph.ainvoke([5, 1, 3], thread()))
    await see.checkpoints(graph, thread())


@case
async def a_synchronous_task_is_awaited_too(see):
    @task
    @see.node
    def shout(word: str) -> str:
        return word.upper()

    @entrypoint()
    async def work(word: str) -> str:
        return await shout(word)

    await see.outcome(see.graph(work).ainvoke("hello"))


@case
async def a_workflow_remembers_what_it_returned_or_saved(see):
    double = doubling(see)

    @entrypoint(checkpointer=InMemorySaver())
    async def adds(n: int, *, previous: int | None = None) -> int:
        return (previous or 0) + await double(n)

    @entrypoint(checkpointer=InMemorySaver())
    async def saves(n: int, *, previous: Any = None) -> entrypoint.final[int, str]:
        return entrypoint.final(value=await double(n), save=f"{previous}, {n}")

    for work in (adds, saves):
        graph = see.graph(work)
        for n in (1, 2):
            await see.outcome(graph.ainvoke(n, thread()))
        await see.checkpoints(graph, thread())


@case
async def a_workflow_gets_what_it_asks_for(see):
    async def notes(n: int) -> int:
        return n

    @entrypoint(checkpointer=InMemorySaver(), store=InMemoryStore(), context_schema=dict)
    async def work(
        n: int, *, config: RunnableConfig, store: BaseStore, writer: StreamWriter, runtime: Runtime[dict[str, str]]
    ) -> str:
        writer({"n": await task(see.node(notes))(n)})
        await store.aput(("n",), "last", {"n": n})
        found = await store.aget(("n",), "last")
        return f"{config['configurable']['thread_id']} {found.value} {runtime.context}"

    stream = see.graph(work).astream(3, thread(), context={"city": "Ulm"}, stream_mode=["custom", "values"])
    await see.items(stream)


@case
async def a_resumed_workflow_does_not_repeat_its_tasks(see):
    ran: list[int] = []
    double = doubling(see, ran)

    @entrypoint(checkpointer=InMemorySaver())
    async def work(n: int) -> list[Any]:
        doubled = await double(n)
        answer = interrupt(f"{doubled}, and now?")
        return [doubled, answer, await double(n + 1)]

    graph = see.graph(work)
    await see.items(graph.astream(1, thread(), stream_mode="updates"))
    await see.items(graph.astream(Command(resume="on"), thread(), stream_mode="updates"))
    see.saw(ran)
    await see.checkpoints(graph, thread())


@case
async def a_task_asks_a_person(see):
    async def asks(question: str) -> str:
        return str(interrupt(question))

    asking = task(see.node(asks))

    @entrypoint(checkpointer=InMemorySaver())
    async def work(question: str) -> str:
        return await asking(question)

    graph = see.graph(work)
    await see.outcome(graph.ainvoke("who?", thread()))
    await see.outcome(graph.ainvoke(Command(resume="me"), thread()))


@case
async def a_failed_workflow_goes_on_without_repeating_its_tasks(see):
    ran: list[int] = []
    double = doubling(see, ran)
    fails = [True]

    @entrypoint(checkpointer=InMemorySaver())
    async def work(n: int) -> int:
        doubled = await double(n)
        if fails.pop():
            fails.append(False)
            raise LookupError("no such city")
        return doubled

    graph = see.graph(work)
    await see.outcome(graph.ainvoke(1, thread(), durability="sync"))
    await see.outcome(graph.ainvoke(None, thread()))
    see.saw(ran)


@case
async def tasks_are_retried_and_cached(see):
    ran: list[int] = []
    cached = doubling(see, ran, cache_policy=CachePolicy())
    tries = []

    async def flaky(n: int) -> int:
        tries.append(n)
        if len(tries) < 3:
            raise ConnectionError("not yet")
        return n

    retried = task(see.node(flaky), retry_policy=RetryPolicy(initial_interval=0, jitter=False))

    @entrypoint(cache=InMemoryCache())
    async def work(n: int) -> int:
        return await cached(n) + await retried(n)

    graph = see.graph(work)
    for _ in range(2):
        await see.items(graph.astream(4, stream_mode="updates"))
    see.saw((ran, tries))


@case
async def a_failing_task_can_be_caught(see):
    async def fails(n: int) -> int:
        raise LookupError(f"no {n}")

    failing = task(see.node(fails))

    @entrypoint()
    async def work(n: int) -> str:
        try:
            return str(await failing(n))
        except LookupError as error:
            return f"caught {error}"

    await see.outcome(see.graph(work).ainvoke(3))


@case
async def a_workflow_calls_another_and_a_graph_calls_a_workflow(see):
    double = doubling(see)

    @entrypoint()
    async def inner(n: int) -> int:
        return await double(n) + 1

    gated_inner = see.graph(inner)

    @entrypoint()
    async def outer(n: int) -> int:
        return await gated_inner.ainvoke(await double(n))

    await see.items(see.graph(outer).astream(1, stream_mode="updates", subgraphs=True))
