"""LangGraph at the gate: every run of a compiled graph is an agent, and a node can be a turn of it.

Importing this module needs LangGraph; `gate.graph` and `gate.node` import it when they are called.
"""

from __future__ import annotations

import asyncio
import copy
import functools
import inspect
from collections.abc import Mapping
from contextlib import AsyncExitStack, aclosing
from contextvars import copy_context
from typing import TYPE_CHECKING, Any, NoReturn, ParamSpec, TypeAlias, TypeVar, cast, overload

from concur_agents.errors import MissingExtra

try:
    from langchain_core.messages import AIMessage
    from langchain_core.runnables.config import run_in_executor
    from langgraph.pregel import Pregel
    from langgraph.types import Command
except ImportError as error:
    raise MissingExtra("LangGraph is not installed: pip install 'concur-agents[langgraph]'") from error

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Iterator

    from langchain_core.messages.ai import UsageMetadata
    from langchain_core.runnables import RunnableConfig

    from concur_agents.gate import ConcurGate

G = TypeVar("G")
P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")
_Graph: TypeAlias = "Pregel[Any, Any, Any, Any]"


def wrap_graph(gate: ConcurGate, compiled: G, *, kind: str | None = None) -> G:
    """A copy of a compiled graph whose every run is an agent of the gate.

    A run waits for its place before its first step and gives it back when it ends: with a result, an
    interrupt, an error, a cancellation, or because nobody reads its stream any more. `ainvoke`, `astream`,
    `astream_events`, `abatch` and what `with_config` returns are gated; drawing, state, checkpoints,
    subgraphs and use as a node of another graph stay what they were. A run inside an agent of the same gate
    shares that agent's place. The agent is called by the run's `run_name`, else its `thread_id`, else the
    graph's name.

    The graph that was given is left as it is. To wrap a graph that this gate wraps already changes at most
    its kind.

    Args:
        gate: Who admits the runs.
        compiled: What `StateGraph.compile()`, `create_agent` or `@entrypoint` made.
        kind: Agents of one kind share what the gate learns of them. Default: the graph's name, which is
            `LangGraph` for all graphs compiled without one: give `compile(name=…)` to what differs.

    Returns:
        The gated graph. Its `invoke`, `stream` and `batch` raise a TypeError that says what to call: to wait
        for a place there would block the thread, and not to wait would run outside the gate.

    Raises:
        TypeError: If `compiled` is not a compiled graph.
    """
    if not isinstance(compiled, Pregel):
        raise TypeError(_not_compiled(compiled))
    base: Any = type(compiled)
    if getattr(base, "_concur_gate", None) is gate:
        if kind is None:
            return compiled
        base = base.__base__
    gated: Any = copy.copy(compiled)
    gated.__class__ = _gated_class(gate, base, kind if kind is not None else compiled.get_name())
    return cast("G", gated)


def _not_compiled(given: object) -> str:
    if callable(getattr(given, "compile", None)):
        return "gate.graph() takes a compiled graph: gate.graph(builder.compile())"
    return (
        f"gate.graph() takes a compiled graph, as builder.compile() returns, not {type(given).__name__}; "
        "call .bind(), .with_retry() and the like on what gate.graph() returns"
    )


def _gated_class(gate: ConcurGate, base: type[_Graph], kind: str) -> type[_Graph]:
    """A subclass, because `with_config` and the like make their copies by `self.__class__(**attributes)`.

    Only `astream` and `stream` are replaced: all else that runs a graph ends in one of these two
    (langgraph 1.2 pregel/main.py), so that no run can pass by the gate, and none is an agent twice.
    """

    @functools.wraps(base.astream)
    def astream(
        self: _Graph,
        input: Any,  # noqa: A002  # LangGraph's name of the parameter
        config: RunnableConfig | None = None,
        **kwargs: Any,
    ) -> AsyncGenerator[Any, None]:
        items = cast("AsyncGenerator[Any, None]", base.astream(self, input, config, **kwargs))
        return _in_own_context(_as_agent(gate, _agent_name(self, config), kind, items))

    @functools.wraps(base.stream)
    def stream(self: _Graph, *_: Any, **__: Any) -> NoReturn:
        raise TypeError(
            f"the graph {self.get_name()!r} is gated, and a synchronous run cannot wait for its place "
            "without blocking its thread: use `await graph.ainvoke(...)`, `graph.astream(...)` or "
            "`await graph.abatch(...)`"
        )

    own = {
        "astream": astream,
        "stream": stream,
        "_concur_gate": gate,
        "__module__": base.__module__,
        "__qualname__": base.__qualname__,
        "__doc__": base.__doc__,
    }
    return type(base.__name__, (base,), own)


def _agent_name(graph: _Graph, config: RunnableConfig | None) -> str:
    given: list[Mapping[str, Any]] = [c for c in (config, graph.config) if c]
    names = [c.get("run_name") for c in given]
    threads = [(c.get("configurable") or {}).get("thread_id") for c in given]
    return next((str(name) for name in (*names, *threads) if name), graph.get_name())


async def _as_agent(gate: ConcurGate, name: str, kind: str, items: AsyncGenerator[T, None]) -> AsyncGenerator[T, None]:
    async with gate.agent(name, kind=kind), aclosing(items):
        async for item in items:
            yield item


async def _in_own_context(items: AsyncGenerator[T, None]) -> AsyncGenerator[T, None]:
    """The same items, each made in one context that is nobody else's.

    An async generator runs in the context of whoever asks for the next item. So an agent entered in one would
    be the current agent of its reader, too, and could not be left when another task closes the generator.

    The generator's own awaitables are the tasks' coroutines, with nothing around them: a task cancelled
    before its first step then raises in the generator, which gives the place back, and not merely around it.
    """
    loop = asyncio.get_running_loop()
    context = copy_context()
    try:
        while True:
            try:
                item = await loop.create_task(items.__anext__(), context=context)
            except StopAsyncIteration:
                return
            yield item
    finally:
        await loop.create_task(items.aclose(), context=context)


@overload
def wrap_node(
    gate: ConcurGate, fn: Callable[P, Awaitable[R]], *, kind: str | None = None
) -> Callable[P, Coroutine[Any, Any, R]]: ...


@overload
def wrap_node(
    gate: ConcurGate, fn: Callable[P, R], *, kind: str | None = None
) -> Callable[P, Coroutine[Any, Any, R]]: ...


@overload
def wrap_node(
    gate: ConcurGate, fn: None = None, *, kind: str | None = None
) -> Callable[[Callable[P, Any]], Callable[P, Coroutine[Any, Any, Any]]]: ...


def wrap_node(gate: ConcurGate, fn: Callable[..., Any] | None = None, *, kind: str | None = None) -> Any:
    """Makes a LangGraph node a turn of the current agent: `@gate.node`, `@gate.node(kind=…)`.

    The agent can be paused before the node's body runs. Outside any agent, the node is an agent of one turn.
    If the body makes calls that are turns themselves (a client from `gate.openai`), those count and the
    node is only a pause point.

    The tokens of the turn are read from the state update that the node returns: those of the last AIMessage
    with `usage_metadata` in it, under whichever key. With several calls in one node that is the best guess at
    what the agent holds in the cache now, which is what a footprint is; the sum would count the same
    history once a call.

    The wrapped node is always a coroutine function. A synchronous body runs in a thread, as LangGraph runs
    it, and the wait for the turn never takes one. Everything LangGraph injects by a parameter's name or
    annotation, and the edges it reads from a `Command[...]` return annotation, stay as they were.

    Args:
        gate: Whose turns these are.
        fn: A function, a method, or an object that can be called; synchronous or not.
        kind: The kind of the agent that the node is when it runs outside any agent.

    Returns:
        The node, or, without `fn`, a decorator.

    Raises:
        TypeError: If `fn` cannot be a node's body.
    """
    if fn is None:
        return functools.partial(wrap_node, gate, kind=kind)
    _refuse_what_is_no_body(fn)
    body: Any = fn
    # An object's own dict and annotations say nothing of how it is called; those of its __call__ do.
    has_own_face = inspect.isroutine(body) or isinstance(body, functools.partial)
    face: Any = body if has_own_face else body.__call__
    name: str = getattr(body, "__name__", type(body).__name__)
    in_thread = not inspect.iscoroutinefunction(body) and not inspect.iscoroutinefunction(face)

    @functools.wraps(face)
    async def node(*args: Any, **kwargs: Any) -> Any:
        async with AsyncExitStack() as held:
            if kind is not None and gate.current() is None:
                await held.enter_async_context(gate.agent(name, kind=kind))
            turn = await held.enter_async_context(gate.turn())
            if in_thread:
                update = await run_in_executor(None, body, *args, **kwargs)
                # A plain function may hand on the coroutine of another.
                update = await update if inspect.isawaitable(update) else update
            else:
                update = await body(*args, **kwargs)
            usage = _last_usage(update)
            if usage is not None:
                turn.report(
                    prompt_tokens=usage["input_tokens"],
                    completion_tokens=usage["output_tokens"],
                    cached_tokens=usage.get("input_token_details", {}).get("cache_read"),
                )
        return update

    node.__name__ = name
    return node


def _refuse_what_is_no_body(fn: object) -> None:
    if isinstance(fn, staticmethod | classmethod):
        raise TypeError(f"@gate.node goes below @{type(fn).__name__}, next to the function")
    if isinstance(fn, type):
        raise TypeError(f"@gate.node takes what runs at each step: an instance of {fn.__name__}, or a method")
    if inspect.isgeneratorfunction(fn) or inspect.isasyncgenfunction(fn):
        raise TypeError("@gate.node cannot wrap a generator: return the state update, do not yield it")
    if not callable(fn):
        raise TypeError(
            f"@gate.node takes a function or an object that can be called, not {type(fn).__name__}; for a "
            "runnable: `async def node(state, config): return await runnable.ainvoke(state, config)`"
        )


def _last_usage(update: Any) -> UsageMetadata | None:
    last = None
    for value in _written(update):
        for part in value if isinstance(value, list | tuple) else (value,):
            if isinstance(part, AIMessage):
                last = part.usage_metadata or last
    return last


def _written(update: Any) -> Iterator[Any]:
    """What a node's result writes, in each of the shapes that LangGraph takes."""
    if isinstance(update, AIMessage):
        yield update
    elif isinstance(update, Command):
        yield from _written(update.update)
    elif isinstance(update, Mapping):
        yield from update.values()
    elif isinstance(update, list | tuple):  # messages, several commands, or pairs of key and value
        for part in update:
            yield from _written(part)
    elif hasattr(update, "__dict__"):  # a dataclass or a pydantic model
        yield from vars(update).values()
