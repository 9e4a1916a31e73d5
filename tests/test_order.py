"""The ordered set with sums against a sorted list."""

from __future__ import annotations

import bisect
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from concur_agents.order import Before, OrderedSums

KEYS = st.tuples(st.integers(-1, 1), st.booleans(), st.integers(0, 4))
WEIGHTS = st.integers(0, 50)


class OrderMachine(RuleBasedStateMachine):
    """Weights are whole numbers, so that the sums are exact."""

    def __init__(self) -> None:
        super().__init__()
        self.real: OrderedSums[str] = OrderedSums()
        self.naive: list[tuple[tuple[float, ...], str, int, int]] = []

    def keys(self):
        return [entry[0] for entry in self.naive]

    @rule(key=KEYS, tokens=WEIGHTS, growth=WEIGHTS)
    def add(self, key, tokens, growth):
        if key in self.keys():
            return
        self.real.add(key, f"item {key}", tokens, growth)
        bisect.insort(self.naive, (key, f"item {key}", tokens, growth))

    @precondition(lambda self: self.naive)
    @rule(which=st.integers(0, 1000))
    def remove(self, which):
        key, _, _, _ = self.naive.pop(which % len(self.naive))
        self.real.remove(key)

    @precondition(lambda self: self.naive)
    @rule(which=st.integers(0, 1000), tokens=WEIGHTS, growth=WEIGHTS)
    def reweigh(self, which, tokens, growth):
        which %= len(self.naive)
        key, item, _, _ = self.naive[which]
        self.naive[which] = key, item, tokens, growth
        self.real.reweigh(key, tokens, growth)

    @rule(key=KEYS)
    def ask_for_what_is_not_there(self, key):
        if key not in self.keys():
            with pytest.raises(KeyError):
                self.real.remove(key)
            with pytest.raises(KeyError):
                self.real.reweigh(key, 1, 1)

    @rule(key=KEYS)
    def ask_what_comes_before(self, key):
        before = [entry for entry in self.naive if entry[0] < key]
        assert self.real.before(key) == Before(len(before), sum(e[2] for e in before), sum(e[3] for e in before))

    @rule(key=KEYS | st.just((-math.inf,)), tokens=WEIGHTS)
    def ask_for_the_next_that_is_light_enough(self, key, tokens):
        fitting = [(k, item) for k, item, weight, _ in self.naive if k > key and weight <= tokens]
        assert self.real.next_within(key, tokens) == (fitting[0] if fitting else None)

    @invariant()
    def the_order_is_that_of_the_keys(self):
        items = [entry[1] for entry in self.naive]
        assert list(self.real) == items
        assert len(self.real) == len(items)
        assert self.real.first() == (items[0] if items else None)
        assert self.real.last() == (items[-1] if items else None)


OrderMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=50, deadline=None)
TestOrderedSums = OrderMachine.TestCase


@settings(max_examples=30, deadline=None)
@given(st.lists(st.floats(0, 1e9), min_size=1, max_size=60))
def test_no_rounding_error_is_left_behind_by_what_has_gone(weights):
    order = OrderedSums()
    for n, weight in enumerate(weights):
        order.add((n,), n, weight, weight)
    for n in range(len(weights) - 1):
        order.remove((n,))

    assert order.before((math.inf,)) == Before(1, weights[-1], weights[-1])


def test_ten_thousand_keys_in_order_make_no_deep_tree():
    order = OrderedSums()
    for n in range(10_000):
        order.add((n,), n, 1, 0)

    def depth(node):
        return 0 if node is None else 1 + max(depth(node.left), depth(node.right))

    assert depth(order._root) < 60
    assert order.before((5_000,)) == Before(5_000, 5_000, 0)
    assert list(order) == list(range(10_000))


def test_the_same_calls_give_the_same_tree():
    def shape(node):
        return node and (node.key, shape(node.left), shape(node.right))

    trees = []
    for _ in range(2):
        order = OrderedSums()
        for n in (3, 1, 2, 5, 4):
            order.add((n,), n, 1, 0)
        order.remove((1,))
        trees.append(shape(order._root))

    assert trees[0] == trees[1]


def test_an_empty_order():
    order = OrderedSums()

    assert len(order) == 0
    assert list(order) == []
    assert order.first() is order.last() is None
    assert order.before((1,)) == Before(0, 0, 0)
    assert order.next_within((-math.inf,), 1e9) is None
