from __future__ import annotations

from itertools import takewhile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from concur_agents.replay.prompt import IDS, Conversation
from concur_agents.replay.trace import AgentTrace, TraceStep

from .trace_strategies import agents, patient


def common(one, other):
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False)))


def step(context, new, output=5):
    return TraceStep(context_tokens=context, new_input_tokens=new, output_tokens=output)


def agent(*steps, shared=0, group="g"):
    return AgentTrace(agent_id="a", steps=steps, shared_prefix_tokens=shared, prefix_group=group)


def outputs(count, at):
    return [1000 + at] * count  # ids that no prompt is made of


@patient
@given(agents(honest=False), st.integers(0, 300), st.integers(0, 5))
def test_every_prompt_has_the_length_and_the_kept_prefix_of_its_step(trace, number, seed):
    conversation = Conversation(trace, number, seed=seed)
    there: list[int] = []
    for index, s in enumerate(trace.steps):
        prompt = conversation.prompt(s)

        assert len(prompt) == s.context_tokens
        if index:
            assert common(prompt, there) == min(s.kept_tokens, len(there))
        answer = outputs(s.output_tokens, index)
        conversation.answered(answer)
        there = prompt + answer


@patient
@given(agents(), agents(), st.integers(0, 140), st.integers(1, 9), st.integers(0, 400))
def test_two_agents_share_exactly_the_prefix_of_their_group(one, other, number, apart, shared):
    one, other = (a.model_copy(update={"prefix_group": "g", "shared_prefix_tokens": shared}) for a in (one, other))

    first = Conversation(one, number).prompt(one.steps[0])
    second = Conversation(other, number + apart).prompt(other.steps[0])

    assert common(first, second) == min(shared, len(first), len(second))


def test_groups_open_with_other_tokens():
    one, other = (agent(step(64, 64), shared=64, group=name) for name in "gh")

    first, second = (Conversation(a, 0).prompt(a.steps[0]) for a in (one, other))

    assert common(first, second) < 8


def test_agents_differ_from_their_first_own_token_on():
    prompts = [Conversation(agent(step(40, 40), shared=10), number).prompt(step(40, 40)) for number in range(len(IDS))]

    assert {tuple(p[:10]) for p in prompts} == {tuple(prompts[0][:10])}
    assert len({p[10] for p in prompts}) == len(IDS)


def test_more_agents_than_ids_still_have_prompts_of_their_own():
    prompts = {tuple(Conversation(agent(step(16, 16)), n).prompt(step(16, 16))) for n in range(3 * len(IDS))}

    assert len(prompts) == 3 * len(IDS)


def test_the_first_prompt_is_shared_no_further_than_it_is_long():
    short = agent(step(6, 6), step(20, 9), shared=10)
    long = agent(step(12, 12), shared=10)

    conversation = Conversation(short, 0)
    first = conversation.prompt(short.steps[0])

    assert first == Conversation(long, 1).prompt(long.steps[0])[:6]
    conversation.answered([1, 2, 3, 4, 5])
    assert conversation.prompt(short.steps[1])[:11] == [*first, 1, 2, 3, 4, 5]


def test_a_prompt_handed_out_is_not_changed_by_later_turns():
    conversation = Conversation(agent(step(8, 8), step(14, 1)), 0)
    first = conversation.prompt(step(8, 8))
    kept = list(first)

    conversation.answered([1, 2, 3, 4, 5])
    conversation.prompt(step(14, 1))

    assert first == kept


def test_an_output_shorter_than_asked_is_filled_up_with_new_input():
    conversation = Conversation(agent(step(8, 8), step(15, 2)), 0)
    first = conversation.prompt(step(8, 8))
    conversation.answered([7, 7])

    second = conversation.prompt(step(15, 2))

    assert second[:10] == [*first, 7, 7]
    assert len(second) == 15


def test_the_same_seed_makes_the_same_tokens_and_another_seed_others():
    trace = agent(step(64, 64), shared=16)

    prompt = Conversation(trace, 3, seed=1).prompt(trace.steps[0])

    assert prompt == Conversation(trace, 3, seed=1).prompt(trace.steps[0])
    assert prompt != Conversation(trace, 3, seed=2).prompt(trace.steps[0])


def test_what_was_cut_off_is_not_written_again_by_chance():
    two_ids = range(1000, 1002)
    for number in range(20):
        conversation = Conversation(agent(step(8, 8)), number, ids=two_ids)
        first = conversation.prompt(step(8, 8))

        second = conversation.prompt(step(8, 5))

        assert common(first, second) == 3


@pytest.mark.parametrize("ids", [IDS, range(1000, 1002), range(5, 50_000)])
def test_tokens_come_from_the_given_ids_only(ids):
    trace = agent(step(500, 500), shared=100)
    conversation = Conversation(trace, 7, ids=ids)

    assert set(conversation.prompt(trace.steps[0])) <= set(ids)
    assert set(conversation.filler(100)) <= set(ids)


def test_the_ids_fit_a_byte_level_vocabulary():
    assert IDS.start > 0
    assert IDS.stop <= 256
