"""LangGraph at the gate: every run of a compiled graph is an agent, and is known again when it is resumed.

Importing this module needs LangGraph; `gate.graph` imports it when it is called.
"""

from __future__ import annotations

import copy
import functools
from typing import TYPE_CHECKING, Any, TypeVar, cast

from concur_agents.errors import MissingExtra
from concur_agents.sync.handover import running_loop

try:
    from langgraph import errors
    from langgraph.pregel import Pregel
except ImportError as error:
    raise MissingExtra("LangGraph is not installed: pip install 'concur-agents[langgraph]'") from error

from .langgraph_run import Agents, Graph

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Generator

    from langchain_core.runnables import RunnableConfig

    from concur_agents.gate import ConcurGate

G = TypeVar("G")


def wrap_graph(gate: ConcurGate, compiled: G, *, kind: str | None = None, drain: bool = False) -> G:
    """A copy of a compiled graph whose every run is an agent of the gate.

    A run waits for its place before its first step and gives it back when it ends: with a result, an
    interrupt, an error, a cancellation, or because nobody reads its stream any more. `ainvoke`, `astream`,
    `astream_events`, `abatch` and what `with_config` returns are gated; drawing, state, checkpoints,
    subgraphs and use as a node of another graph stay what they were. A run inside an agent of the same gate
    shares that agent's place. The agent is called by the run's `run_name`, else as it was called before on
    its thread, else by its `thread_id`, else by the graph's name.

    A graph with a checkpointer knows its agents again: the next run on the same `thread_id`, as by
    `Command(resume=…)`, waits for a place of the size that the agent had, and goes on with its name, its
    session id and its count of turns.

    The graph that was given is left as it is. To wrap a graph that this gate wraps already changes at most
    its kind and its draining.

    Args:
        gate: Who admits the runs.
        compiled: What `StateGraph.compile()`, `create_agent` or `@entrypoint` made.
        kind: Agents of one kind share what the gate learns of them. Default: the graph's name, which is
            `LangGraph` for all graphs compiled without one: give `compile(name=…)` to what differs.
        drain: Let a run whose agent is paused when the gate closes stop with LangGraph's `GraphDrained`
            rather than fail with `GateClosed`. Parallel branches end their step first, and nothing that has
            ended is lost: `ainvoke(None, config)` goes on from the checkpoint, under another gate.

    Returns:
        The gated graph. Its `invoke`, `stream` and `batch` block their thread until there is a place; called
        in a thread that runs an event loop they raise a TypeError that says what to call instead.

    Raises:
        TypeError: If `compiled` is not a compiled graph.
        ValueError: If `drain` is asked for and the graph has no checkpointer.
        MissingExtra: If `drain` is asked for and this LangGraph has no draining (it came with 1.2).
    """
    if not isinstance(compiled, Pregel):
        raise TypeError(_not_compiled(compiled))
    if drain:
        _refuse_what_cannot_drain(compiled)
    base: Any = type(compiled)
    before: Agents | None = getattr(base, "_concur_agents", None)
    if before is not None and before.gate is gate:
        agents = Agents(gate, kind if kind is not None else before.kind, drain=drain or before.drain)
        if agents == before:
            return compiled
        base = base.__base__
    else:
        agents = Agents(gate, kind if kind is not None else compiled.get_name(), drain=drain)
    gated: Any = copy.copy(compiled)
    gated.__class__ = _gated_class(agents, base)
    return cast("G", gated)


def _not_compiled(given: object) -> str:
    if callable(getattr(given, "compile", None)):
        return "gate.graph() takes a compiled graph: gate.graph(builder.compile())"
    return (
        f"gate.graph() takes a compiled graph, as builder.compile() returns, not {type(given).__name__}; "
        "call .bind(), .with_retry() and the like on what gate.graph() returns"
    )


def _refuse_what_cannot_drain(graph: Graph) -> None:
    if not graph.checkpointer:
        raise ValueError("drain=True stops a run at its checkpoint: builder.compile(checkpointer=…)")
    if not hasattr(errors, "GraphDrained"):
        raise MissingExtra("drain=True needs a newer LangGraph: pip install 'langgraph>=1.2'")


def _refuse_to_block_a_loop(graph: Graph) -> None:
    if running_loop() is None:
        return
    raise TypeError(
        f"the graph {graph.get_name()!r} is gated, and to wait for its place here would block the event loop of this "
        "thread: use `await graph.ainvoke(...)`, `graph.astream(...)` or `await graph.abatch(...)`"
    )


def _gated_class(agents: Agents, base: type[Graph]) -> type[Graph]:
    """A subclass, because `with_config` and the like make their copies by `self.__class__(**attributes)`.

    Only `astream` and `stream` start agents: all else that runs a graph ends in one of these two
    (langgraph 1.2 pregel/main.py), so that no run can pass by the gate, and none is an agent twice.
    """

    @functools.wraps(base.astream)
    def astream(
        self: Graph,
        input: Any,  # noqa: A002  # LangGraph's name of the parameter
        config: RunnableConfig | None = None,
        **kwargs: Any,
    ) -> AsyncGenerator[Any, None]:
        items = cast("AsyncGenerator[Any, None]", base.astream(self, input, config, **kwargs))
        return agents.run(self, config, items)

    @functools.wraps(base.stream)
    def stream(
        self: Graph,
        input: Any,  # noqa: A002  # as above
        config: RunnableConfig | None = None,
        **kwargs: Any,
    ) -> Generator[Any, None, None]:
        _refuse_to_block_a_loop(self)
        return agents.blocking_run(self, config, base.stream(self, input, config, **kwargs))

    def of_threads(method: Callable[..., Any]) -> Callable[..., Any]:
        # Its threads have no loop that could be seen, and would wait for the one that waits for them.
        @functools.wraps(method)
        def guarded(self: Graph, *args: Any, **kwargs: Any) -> Any:
            _refuse_to_block_a_loop(self)
            return method(self, *args, **kwargs)

        return guarded

    own = {
        "astream": astream,
        "stream": stream,
        "batch": of_threads(base.batch),
        "batch_as_completed": of_threads(base.batch_as_completed),
        "_concur_agents": agents,
        "__module__": base.__module__,
        "__qualname__": base.__qualname__,
        "__doc__": base.__doc__,
    }
    return type(base.__name__, (base,), own)
