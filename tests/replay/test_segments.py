"""Prompts by content share exactly what prompts of token ids share."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import takewhile

from hypothesis import given
from hypothesis import strategies as st

from concur_agents.replay.prompt import Conversation
from concur_agents.replay.segments import SegmentConversation
from concur_agents.replay.trace import AgentTrace, TraceStep

from .trace_strategies import agents, patient

IDS = range(100_000)
"""So many that two random ids do not agree by chance in the length of these tests; agents differ by their first."""


@dataclass
class Answer:
    """What a conversation reads of a finished request."""

    generated: int
    output_id: object = field(default_factory=object)


def common(one: list[int], other: list[int]) -> int:
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False)))


def both_ways(conversing: list[AgentTrace]):
    """Every prompt and every prompt with its output, as ids and as segments."""
    as_ids, as_segments = [], []
    token = 1_000_000  # outputs are ids that no prompt is made of
    for number, agent in enumerate(conversing):
        ids, segments = Conversation(agent, number, ids=IDS), SegmentConversation(agent, number)
        for step in agent.steps:
            as_ids.append(ids.prompt(step))
            as_segments.append(segments.prompt(step))
            answer = Answer(step.output_tokens)
            output = list(range(token, token + step.output_tokens))
            token += step.output_tokens
            ids.answered(output)
            segments.answered(answer)
            as_ids.append(as_ids[-1] + output)
            as_segments.append(as_segments[-1].then((answer.output_id, answer.generated)))
    return as_ids, as_segments


@given(st.lists(agents(honest=False, max_tokens=60), min_size=1, max_size=3))
@patient
def test_segments_are_as_long_and_share_as_much_as_token_ids(conversing):
    as_ids, as_segments = both_ways(conversing)

    assert [prompt.tokens for prompt in as_segments] == [len(prompt) for prompt in as_ids]
    for at, ours in enumerate(as_segments):
        for other in range(at):
            assert ours.common_tokens(as_segments[other]) == common(as_ids[at], as_ids[other])


def agent(*steps: tuple[int, int, int], shared: int = 20, group: str = "g") -> AgentTrace:
    return AgentTrace(
        agent_id="a",
        prefix_group=group,
        shared_prefix_tokens=shared,
        steps=tuple(
            TraceStep(context_tokens=context, new_input_tokens=new, output_tokens=output)
            for context, new, output in steps
        ),
    )


def test_agents_of_one_group_share_their_opening_and_nothing_else():
    step = TraceStep(context_tokens=50, new_input_tokens=50, output_tokens=5)
    first = SegmentConversation(agent((50, 50, 5)), 0).prompt(step)

    assert SegmentConversation(agent((50, 50, 5)), 1).prompt(step).common_tokens(first) == 20
    assert SegmentConversation(agent((50, 50, 5), shared=12), 1).prompt(step).common_tokens(first) == 12
    assert SegmentConversation(agent((50, 50, 5), group="h"), 1).prompt(step).common_tokens(first) == 0


def test_a_context_that_is_cut_keeps_its_beginning_and_goes_on_with_something_else():
    trace = agent((50, 50, 10), (70, 10, 10), (40, 5, 10), (25, 25, 1))
    conversation = SegmentConversation(trace, 0)
    prompts = []
    for step in trace.steps:
        prompts.append(conversation.prompt(step))
        conversation.answered(Answer(step.output_tokens))

    assert [prompt.tokens for prompt in prompts] == [50, 70, 40, 25]
    assert prompts[1].common_tokens(prompts[0]) == 50
    assert prompts[2].common_tokens(prompts[1]) == 35
    assert prompts[3].common_tokens(prompts[0]) == 0  # not even its opening is kept


def test_what_is_kept_of_an_output_is_the_beginning_of_that_output():
    trace = agent((50, 50, 10), (60, 4, 1))
    conversation = SegmentConversation(trace, 0)
    conversation.prompt(trace.steps[0])
    answer = Answer(10)
    conversation.answered(answer)

    assert conversation.prompt(trace.steps[1]).segments[2] == (answer.output_id, 6)


def test_a_long_conversation_costs_a_few_segments_a_turn():
    trace = agent(*((1000 * turn, 900, 100) for turn in range(1, 200)))
    conversation = SegmentConversation(trace, 0)
    for step in trace.steps:
        prompt = conversation.prompt(step)
        conversation.answered(Answer(step.output_tokens))

    assert prompt.tokens == 199_000
    assert len(prompt.segments) <= 2 * 199 + 1
