from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from concur_agents.replay.shape import Shape, cut_agent, sample, scale_agent
from concur_agents.replay.trace import AgentTrace, TraceError, TraceStep

from .trace_strategies import agents, patient


def step(context, new, output, tool=None):
    return TraceStep(context_tokens=context, new_input_tokens=new, output_tokens=output, tool_seconds=tool)


def agent(*steps, name="a", shared=0):
    return AgentTrace(agent_id=name, steps=steps, shared_prefix_tokens=shared)


GROWING = agent(step(1000, 1000, 100, 2.0), step(1300, 200, 50), step(1350, 0, 30, 1.0), shared=400)


def test_scale_multiplies_contexts_outputs_and_the_shared_prefix():
    scaled = scale_agent(GROWING, 0.1)

    assert [(s.context_tokens, s.new_input_tokens, s.output_tokens) for s in scaled.steps] == [
        (100, 100, 10),
        (130, 20, 5),
        (135, 0, 3),
    ]
    assert scaled.shared_prefix_tokens == 40
    assert [s.tool_seconds for s in scaled.steps] == [2.0, None, 1.0]


def test_outputs_scaled_apart_move_the_contexts_that_keep_them():
    scaled = scale_agent(GROWING, 1.0, output=0.5)

    assert [(s.context_tokens, s.new_input_tokens, s.output_tokens) for s in scaled.steps] == [
        (1000, 1000, 50),
        (1250, 200, 25),
        (1275, 0, 15),
    ]


def test_outputs_that_are_not_kept_do_not_move_contexts():
    thinking_dropped = agent(step(1000, 1000, 100), step(1300, 300, 50))

    scaled = scale_agent(thinking_dropped, 1.0, output=3.0)

    assert [(s.context_tokens, s.output_tokens) for s in scaled.steps] == [(1000, 300), (1300, 150)]


def test_tool_waits_are_scaled_apart_and_the_unrecorded_stay_so():
    scaled = scale_agent(GROWING, 1.0, tools=0.25)

    assert [s.tool_seconds for s in scaled.steps] == [0.5, None, 0.25]
    assert [s.context_tokens for s in scaled.steps] == [1000, 1300, 1350]


def test_the_start_is_scaled_with_the_tool_waits():
    scaled = scale_agent(GROWING.model_copy(update={"start_seconds": 8.0}), 0.5, tools=0.25)

    assert scaled.start_seconds == 2.0


def test_a_reset_keeps_its_share_of_what_was_there():
    cut = agent(step(1000, 1000, 100), step(500, 250, 10))

    scaled = scale_agent(cut, 0.1)

    assert (scaled.steps[1].context_tokens, scaled.steps[1].kept_tokens) == (50, 25)


def test_rounding_errors_do_not_add_up():
    many = agent(step(104, 104, 13), *(step(104 + 14 * n, 1, 13) for n in range(1, 200)))

    scaled = scale_agent(many, 0.1)

    assert scaled.steps[-1].context_tokens == pytest.approx(0.1 * many.steps[-1].context_tokens, abs=1)


@patient
@given(agents())
def test_scaled_by_one_nothing_changes_but_empty_outputs(trace):
    scaled = scale_agent(trace, 1.0)

    assert [s.output_tokens for s in scaled.steps] == [max(1, s.output_tokens) for s in trace.steps]
    assert [s.context_tokens for s in scaled.steps] == [s.context_tokens for s in trace.steps]
    assert [s.new_input_tokens for s in scaled.steps] == [s.new_input_tokens for s in trace.steps]


@patient
@given(
    agents(honest=False),
    st.floats(0.001, 20),
    st.floats(0.001, 20),
)
def test_scaled_counts_are_consistent_with_each_other(trace, factor, output):
    scaled = scale_agent(trace, factor, output=output)

    assert len(scaled.steps) == len(trace.steps)
    there = 0
    for s in scaled.steps:
        assert s.output_tokens >= 1
        assert s.context_tokens >= 1
        assert 0 <= s.kept_tokens <= there
        there = s.context_tokens + s.output_tokens


@patient
@given(agents(), st.floats(0.01, 1))
def test_what_kept_everything_still_keeps_everything(trace, factor):
    scaled = scale_agent(trace, factor)

    there = scaled_there = 0
    for before, after in zip(trace.steps, scaled.steps, strict=True):
        if there and before.kept_tokens == there and all(s.output_tokens for s in trace.steps):
            assert after.kept_tokens == scaled_there
        there = before.context_tokens + before.output_tokens
        scaled_there = after.context_tokens + after.output_tokens


def test_an_agent_ends_before_the_call_that_passes_the_largest_context():
    assert cut_agent(GROWING, 1380) == GROWING  # 1350 + 30
    assert cut_agent(GROWING, 1379).steps == GROWING.steps[:2]
    assert cut_agent(GROWING, 1100).steps == GROWING.steps[:1]
    assert cut_agent(GROWING, 1099) is None


def test_the_largest_context_is_counted_after_scaling():
    (shaped,) = Shape(scale=0.1, max_context=137).apply([GROWING])

    assert len(shaped.steps) == 2


def test_agents_without_a_call_left_are_not_chosen():
    big = agent(step(5000, 5000, 10), name="big")

    chosen = Shape(agents=4, max_context=2000).apply([big, GROWING])

    assert {a.agent_id.partition("#")[0] for a in chosen} == {"a"}


def test_no_call_left_at_all_says_what_to_change():
    with pytest.raises(TraceError, match="raise --max-context, or lower --scale"):
        Shape(max_context=100).apply([GROWING])


def test_without_a_number_all_agents_come_in_the_order_of_the_trace():
    trace = [agent(step(1, 1, 1), name=str(n)) for n in range(20)]

    assert [a.agent_id for a in Shape(seed=3).apply(trace)] == [str(n) for n in range(20)]


@patient
@given(st.integers(1, 12), st.integers(1, 40), st.integers(0, 3))
def test_a_sample_repeats_nobody_before_everybody_is_in(there, count, seed):
    trace = [agent(step(1, 1, 1), name=str(n)) for n in range(there)]

    chosen = sample(trace, count, seed)

    names = [a.agent_id for a in chosen]
    assert len(set(names)) == len(names) == count
    originals = [name.partition("#")[0] for name in names]
    counts = [originals.count(str(n)) for n in range(there)]
    assert max(counts) - min(counts) <= 1
    assert sample(trace, count, seed) == chosen


def test_another_seed_chooses_others():
    trace = [agent(step(1, 1, 1), name=str(n)) for n in range(50)]

    assert sample(trace, 10, 1) != sample(trace, 10, 2)


@pytest.mark.parametrize(
    "wrong",
    [
        {"agents": 0},
        {"scale": 0.0},
        {"scale": -1.0},
        {"scale": float("inf")},
        {"scale": float("nan")},
        {"scale_output": 0.0},
        {"scale_tools": -0.5},
        {"scale_tools": float("nan")},
        {"max_context": 0},
    ],
)
def test_a_number_out_of_range_says_what_to_give(wrong):
    with pytest.raises(ValueError, match="give"):
        Shape(**wrong)
