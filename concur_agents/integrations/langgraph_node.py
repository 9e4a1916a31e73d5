"""A LangGraph node, or a task of its functional API, as a turn of its agent: `@gate.node`.

Importing this module needs LangGraph; `gate.node` imports it when it is called.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Mapping
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, overload

from concur_agents.errors import MissingExtra

try:
    from langchain_core.messages import AIMessage
    from langchain_core.runnables.config import run_in_executor
    from langgraph.types import Command
except ImportError as error:
    raise MissingExtra("LangGraph is not installed: pip install 'concur-agents[langgraph]'") from error

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Iterator

    from langchain_core.messages.ai import UsageMetadata

    from concur_agents.gate import ConcurGate

P = ParamSpec("P")
R = TypeVar("R")


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
