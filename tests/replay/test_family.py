from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from concur_agents.replay.family import families, renamed, without
from concur_agents.replay.shape import Shape, cut_family, sample
from concur_agents.replay.trace import AgentTrace, TraceError, TraceStep

from .trace_strategies import patient


def agent(name, *spawns, parent=None, context=100):
    """One call for each argument, which spawns what it names, and one call more."""
    steps = [TraceStep(context_tokens=context, new_input_tokens=context, output_tokens=10, spawns=s) for s in spawns]
    last = TraceStep(context_tokens=context + 50, new_input_tokens=1, output_tokens=10)
    return AgentTrace(agent_id=name, parent=parent, steps=(*steps, last))


def ids(agents):
    return [a.agent_id for a in agents]


LEAD = agent("lead", ("a", "b"), (), ("c",))
FAMILY = (LEAD, agent("a", ("a1",), parent="lead"), *(agent(n, parent="lead") for n in "bc"), agent("a1", parent="a"))
ALONE = agent("alone")


def test_a_family_is_an_agent_that_nobody_spawns_and_all_below_it():
    together, alone = families([FAMILY[4], *FAMILY[:4], ALONE])

    assert ids(together) == ["lead", "a", "b", "c", "a1"]
    assert ids(alone) == ["alone"]


def test_a_parent_that_does_not_spawn_its_child_leaves_it_alone():
    assert [ids(f) for f in families([agent("a"), agent("b", parent="a")])] == [["a"], ["b"]]


def test_names_that_are_there_twice_do_no_harm_as_long_as_nobody_spawns_them():
    assert len(families([agent("x"), agent("x")])) == 2
    assert len(families([agent("x"), agent("x"), *FAMILY])) == 3


@pytest.mark.parametrize(
    ("agents", "says"),
    [
        ([agent("x", ("y",))], "x spawns y, which is not in the trace"),
        ([agent("x", ("y",)), agent("y")], "x spawns y, whose parent is None"),
        ([agent("x", ("y",)), agent("y", parent="z")], "x spawns y, whose parent is z"),
        ([agent("x", ("y",), ("y",)), agent("y", parent="x")], "y is spawned twice"),
        ([agent("x", ("y",)), *[agent("y", parent="x")] * 2, agent("y", parent="x")], "one of the two names"),
        ([agent("x", ("y",)), agent("x"), agent("y", parent="x")], "one of the two names"),
        ([agent("x", ("x",), parent="x")], "x is spawned in a circle"),
        ([ALONE, agent("x", ("y",), parent="y"), agent("y", ("x",), parent="x")], "x is spawned in a circle"),
    ],
)
def test_agents_that_do_not_agree_on_who_spawns_whom_are_named(agents, says):
    with pytest.raises(TraceError, match=says):
        families(agents)
    with pytest.raises(TraceError, match=says):
        Shape().apply(agents)


def test_whoever_does_not_run_is_spawned_by_nobody_nor_are_those_below():
    left = without(FAMILY, {"a"})

    assert ids(left) == ["lead", "b", "c"]
    assert [s.spawns for s in left[0].steps] == [("b",), (), ("c",), ()]
    assert without(FAMILY, set()) == FAMILY


def test_a_family_under_other_names_is_the_same_family():
    (family,) = families(renamed(FAMILY, "#2"))

    assert ids(family) == ["lead#2", "a#2", "b#2", "c#2", "a1#2"]
    assert [a.parent for a in family] == [None, "lead#2", "lead#2", "lead#2", "a#2"]
    assert renamed((agent("x", parent="elsewhere"),), "#2")[0].parent == "elsewhere"


def test_a_cut_leaves_out_those_whose_call_is_not_reached():
    long = agent("lead", ("a",), ("b",), context=500)
    family = (long, agent("a", parent="lead"), agent("b", parent="lead"))
    growing = long.model_copy(
        update={"steps": (long.steps[0], long.steps[1].model_copy(update={"context_tokens": 700}), long.steps[2])}
    )

    cut = cut_family((growing, *family[1:]), 600)

    # The second call is too long; the first is then the last, and nobody would await what it spawns.
    assert ids(cut) == ["lead"]
    assert [s.spawns for s in cut[0].steps] == [()]
    assert AgentTrace.model_validate(cut[0].model_dump()) == cut[0]
    assert cut_family(family, 100) is None


def test_a_subagent_without_a_call_left_is_not_spawned():
    family = (agent("lead", ("a", "b")), agent("a", parent="lead", context=5000), agent("b", parent="lead"))

    shaped = Shape(max_context=1000).apply(family)

    assert ids(shaped) == ["lead", "b"]
    assert shaped[0].steps[0].spawns == ("b",)


@patient
@given(st.integers(1, 12), st.integers(1, 6), st.integers(0, 5))
def test_a_sample_counts_families_and_keeps_them_together(count, others, seed):
    trace = [*FAMILY, *(agent(f"alone{n}") for n in range(others))]

    chosen = sample(trace, count, seed)

    assert len(families(chosen)) == count
    assert len(set(ids(chosen))) == len(chosen)
    assert chosen == sample(trace, count, seed)
    assert ids(Shape(agents=count, seed=seed).apply(trace)) == ids(chosen)
    for family in families(chosen):
        if family[0].agent_id.startswith("lead"):
            assert len(family) == len(FAMILY)
