"""`map`: what `gate.map` takes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, TypeVar, overload

from .batch import Batch, Work

if TYPE_CHECKING:
    import os
    from collections.abc import AsyncIterable, Awaitable, Callable, Iterable

    from concur_agents.agent import Nested
    from concur_agents.gate import ConcurGate

T = TypeVar("T")
R = TypeVar("R")


@overload
def map_items(
    gate: ConcurGate,
    fn: Callable[[T], Awaitable[R]],
    items: Iterable[T] | AsyncIterable[T],
    *,
    name: Callable[[T], str] | None = None,
    kind: str | Callable[[T], str] | None = None,
    nested: Nested = "inherit",
    retries: int = 0,
    checkpoint: str | os.PathLike[str] | None = None,
    key: Callable[[T], object] | None = None,
    progress: bool = False,
    return_exceptions: Literal[False] = False,
) -> Batch[R]: ...
@overload
def map_items(
    gate: ConcurGate,
    fn: Callable[[T], Awaitable[R]],
    items: Iterable[T] | AsyncIterable[T],
    *,
    name: Callable[[T], str] | None = None,
    kind: str | Callable[[T], str] | None = None,
    nested: Nested = "inherit",
    retries: int = 0,
    checkpoint: str | os.PathLike[str] | None = None,
    key: Callable[[T], object] | None = None,
    progress: bool = False,
    return_exceptions: bool,
) -> Batch[R | BaseException]: ...
def map_items(
    gate: ConcurGate,
    fn: Callable[[T], Awaitable[Any]],
    items: Iterable[T] | AsyncIterable[T],
    *,
    name: Callable[[T], str] | None = None,
    kind: str | Callable[[T], str] | None = None,
    nested: Nested = "inherit",
    retries: int = 0,
    checkpoint: str | os.PathLike[str] | None = None,
    key: Callable[[T], object] | None = None,
    progress: bool = False,
    return_exceptions: bool = False,
) -> Batch[Any]:
    """Call an asynchronous function for each item, each call an agent; the results come in the order of the items.

    `async for result in gate.map(solve, tasks):`, or `await gate.map(solve, tasks)` for a list. Items are taken only
    as agents are admitted, one waiting at a time, and no more than `HELD_RESULTS` results wait for a slower one before
    them (with `await`, any number). The error of an item is raised at its place; from when it fails no more items are
    taken, and when it is raised the agents that still run are cancelled and awaited.

    Args:
        gate: Who admits the agents.
        fn: Called inside the agent of its item.
        items: An iterable or asynchronous iterable; it is read by one task, one item at a time.
        name: What an item's agent is called, as in `name=lambda task: task.id`; made up if not given.
        kind: Agents of one kind share what is learned: one kind for all, or a function that tells an item's.
        nested: Inside another agent: `inherit` shares that one's place, so all run at once; `new` takes a place for
            each.
        retries: How often an item that fails is tried again, as a new agent, at once. Not if the gate itself refused
            it.
        checkpoint: A file to which each result is written as its item ends, one line of JSON each, and from which the
            next run takes the results of items that it has. Its results are what JSON gives back, in the first run
            too: a tuple becomes a list. Failed items are not in it.
        key: What tells an item from others in the checkpoint, anything that JSON can hold; the item itself if not
            given. Items with equal keys have a stored result each.
        progress: Show on stderr how far it is.
        return_exceptions: Exceptions stand among the results instead of being raised. One of `items` is raised still.

    Returns:
        The batch, to be iterated or awaited, once.

    Raises:
        ValueError: If `retries` is negative, or a `key` has no checkpoint.
        TypeError: If `items` cannot be iterated. From the batch: if an item's key or a result is not JSON.
        CheckpointError: From the batch: if the file is no checkpoint, is damaged, or is in use.
    """
    if retries < 0:
        raise ValueError(f"retries={retries} must be 0 or more")
    if key is not None and checkpoint is None:
        raise ValueError("key= tells items apart in a checkpoint: give checkpoint= too, or leave it out")
    return Batch(
        Work(
            gate,
            fn,
            items,
            name=name,
            kind=kind,
            nested=nested,
            retries=retries,
            checkpoint=checkpoint,
            key=key,
            progress=progress,
            return_exceptions=return_exceptions,
        )
    )
