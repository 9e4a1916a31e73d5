"""An ordered set with sums: who comes first, and how much comes before a given one, in O(log n).

A treap: a search tree by key that is a heap by a pseudo-random rank, so that its depth stays logarithmic
(Seidel and Aragon 1996, "Randomized search trees"). Sums are rebuilt from the children at every change, so
that no rounding error piles up. The ranks come from a seeded generator: same calls, same tree.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterator

T = TypeVar("T")
Key = tuple[float, ...]


class _Node(Generic[T]):
    __slots__ = ("count", "growth", "item", "key", "least", "left", "rank", "right", "tokens", "weight")

    def __init__(self, key: Key, item: T, weight: tuple[float, float], rank: float) -> None:
        self.key = key
        self.item = item
        self.weight = weight
        self.rank = rank
        self.left: _Node[T] | None = None
        self.right: _Node[T] | None = None
        self.count = 1
        self.tokens, self.growth = weight
        self.least = weight[0]

    def sum_up(self) -> None:
        count = 1
        tokens, growth = self.weight
        least = tokens
        for child in (self.left, self.right):
            if child is not None:
                count += child.count
                tokens += child.tokens
                growth += child.growth
                least = min(least, child.least)
        self.count, self.tokens, self.growth, self.least = count, tokens, growth, least


@dataclass(frozen=True, slots=True)
class Before:
    """What comes before a key: how many, and their sums of tokens and of growth a turn. [KV tokens]"""

    count: int
    tokens: float
    growth: float


class OrderedSums(Generic[T]):
    """Items by unique key, each with its tokens and its growth a turn. [KV tokens]"""

    __slots__ = ("_random", "_root")

    def __init__(self) -> None:
        self._root: _Node[T] | None = None
        self._random = random.Random(0)  # noqa: S311  balance of a tree, no secret

    def __len__(self) -> int:
        return self._root.count if self._root is not None else 0

    def __iter__(self) -> Iterator[T]:
        stack: list[_Node[T]] = []
        node = self._root
        while stack or node is not None:
            while node is not None:
                stack.append(node)
                node = node.left
            node = stack.pop()
            yield node.item
            node = node.right

    def add(self, key: Key, item: T, tokens: float, growth: float) -> None:
        """Put an item in; its key must not be there yet."""
        self._root = _insert(self._root, _Node(key, item, (tokens, growth), self._random.random()))

    def remove(self, key: Key) -> None:
        """Take the item with this key out.

        Raises:
            KeyError: If it is not there.
        """
        self._root = _remove(self._root, key)

    def reweigh(self, key: Key, tokens: float, growth: float) -> None:
        """Set what the item with this key weighs, as by `remove` and `add`, for less than half of what they take.

        Raises:
            KeyError: If it is not there.
        """
        path: list[_Node[T]] = []
        node = self._root
        while node is not None:
            path.append(node)
            if node.key == key:
                break
            node = node.left if key < node.key else node.right
        else:
            raise KeyError(key)
        path[-1].weight = (tokens, growth)
        for node in reversed(path):
            node.sum_up()

    def first(self) -> T | None:
        """The item with the smallest key, or None."""
        node = self._root
        while node is not None and node.left is not None:
            node = node.left
        return node.item if node is not None else None

    def last(self) -> T | None:
        """The item with the greatest key, or None."""
        node = self._root
        while node is not None and node.right is not None:
            node = node.right
        return node.item if node is not None else None

    def before(self, key: Key) -> Before:
        """What comes before a key, whether the key itself is there or not."""
        count, tokens, growth = 0, 0.0, 0.0
        node = self._root
        while node is not None:
            if key <= node.key:
                node = node.left
                continue
            count += 1
            tokens += node.weight[0]
            growth += node.weight[1]
            if node.left is not None:
                count += node.left.count
                tokens += node.left.tokens
                growth += node.left.growth
            node = node.right
        return Before(count, tokens, growth)

    def next_within(self, key: Key, tokens: float) -> tuple[Key, T] | None:
        """The first item after a key that weighs no more than so many tokens, or None."""
        return _next_within(self._root, key, tokens)


def _insert(node: _Node[T] | None, new: _Node[T]) -> _Node[T]:
    if node is None:
        return new
    if new.rank > node.rank:
        new.left, new.right = _split(node, new.key)
        new.sum_up()
        return new
    if new.key < node.key:
        node.left = _insert(node.left, new)
    else:
        node.right = _insert(node.right, new)
    node.sum_up()
    return node


def _split(node: _Node[T] | None, key: Key) -> tuple[_Node[T] | None, _Node[T] | None]:
    if node is None:
        return None, None
    if node.key < key:
        node.right, rest = _split(node.right, key)
        node.sum_up()
        return node, rest
    rest, node.left = _split(node.left, key)
    node.sum_up()
    return rest, node


def _remove(node: _Node[T] | None, key: Key) -> _Node[T] | None:
    if node is None:
        raise KeyError(key)
    if node.key == key:
        return _merge(node.left, node.right)
    if key < node.key:
        node.left = _remove(node.left, key)
    else:
        node.right = _remove(node.right, key)
    node.sum_up()
    return node


def _merge(left: _Node[T] | None, right: _Node[T] | None) -> _Node[T] | None:
    if left is None or right is None:
        return left if right is None else right
    if left.rank > right.rank:
        left.right = _merge(left.right, right)
        left.sum_up()
        return left
    right.left = _merge(left, right.left)
    right.sum_up()
    return right


def _next_within(node: _Node[T] | None, key: Key, tokens: float) -> tuple[Key, T] | None:
    if node is None or node.least > tokens:
        return None
    if node.key <= key:
        return _next_within(node.right, key, tokens)
    found = _next_within(node.left, key, tokens)
    if found is not None:
        return found
    if node.weight[0] <= tokens:
        return node.key, node.item
    return _next_within(node.right, key, tokens)
