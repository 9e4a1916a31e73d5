"""What a server says of its tokens, right or wrong."""

from __future__ import annotations

import pytest

from concur_agents.integrations.openai_usage import report_usage

from .openai_calls import CALLS
from .stand_in_gate import StandInAgent, StandInTurn


def reported(answer: object):
    turn = StandInTurn(StandInAgent())
    assert report_usage(turn, answer) is (turn.reported is not None)
    return turn.reported


class Model:
    """An answer as an object, as the SDK gives it."""

    def __init__(self, **fields):
        vars(self).update(fields)


def chat_usage(prompt=5, output=2, **more):
    return {"prompt_tokens": prompt, "completion_tokens": output, "total_tokens": 7, **more}


class TestUsage:
    def test_is_read_from_json_and_from_models(self):
        details = {"cached_tokens": 4}
        assert reported({"usage": chat_usage(prompt_tokens_details=details)}) == (5, 2, 4)
        model = Model(usage=Model(**chat_usage(prompt_tokens_details=Model(**details))))
        assert reported(model) == (5, 2, 4)

    def test_is_read_in_the_names_of_the_responses_api(self):
        usage = {"input_tokens": 5, "output_tokens": 2, "input_tokens_details": {"cached_tokens": 0}}
        assert reported({"usage": usage}) == (5, 2, 0)

    def test_may_be_of_a_prompt_without_output(self):
        assert reported({"usage": chat_usage(output=0)}) == (5, 0, None)

    @pytest.mark.parametrize(
        "details",
        [None, {}, [], "4", 4, *({"cached_tokens": wrong} for wrong in (None, -1, "4", 4.0, True, [4], 6))],
        ids=str,
    )
    def test_counts_without_cached_tokens_that_cannot_be(self, details):
        assert reported({"usage": chat_usage(prompt_tokens_details=details)}) == (5, 2, None)

    @pytest.mark.parametrize("answer", [None, "text", 7, [], {}, Model(), {"usage": None}, {"usage": "7"}], ids=str)
    def test_that_is_not_there_is_not_reported(self, answer):
        assert reported(answer) is None

    @pytest.mark.parametrize("wrong", [None, -1, "5", 5.0, float("nan"), True, [5], {}], ids=str)
    def test_that_is_wrong_is_not_reported(self, wrong):
        assert reported({"usage": chat_usage(prompt=wrong)}) is None
        assert reported({"usage": chat_usage(output=wrong)}) is None


# What parses or accumulates stumbles over a wrong usage by itself, gated or not.
LENIENT = {name: call for name, call in CALLS.items() if "helper" not in name and "parse" not in name}


class TestAServerWithWrongUsage:
    @pytest.mark.parametrize("field", [{}, {"usage": None}, {"usage": {}}], ids=str)
    @pytest.mark.parametrize("call", CALLS.values(), ids=CALLS.keys())
    async def test_that_says_nothing_is_served_without_a_weight(self, call, field, client, turns, vllm):
        vllm.usage_field = field
        assert await call(client) == "the answer is 42"
        assert (turns.turn.reported, turns.turn.end_calls) == (None, 1)

    @pytest.mark.parametrize(
        "usage", [[], "many", chat_usage(prompt=-1), chat_usage(output="two"), {"input_tokens": 2.5}], ids=str
    )
    @pytest.mark.parametrize("call", LENIENT.values(), ids=LENIENT.keys())
    async def test_that_says_nonsense_is_served_without_a_weight(self, call, usage, client, turns, vllm):
        vllm.usage_field = {"usage": usage}
        assert await call(client) == "the answer is 42"
        assert (turns.turn.reported, turns.turn.end_calls) == (None, 1)

    @pytest.mark.parametrize("call", CALLS.values(), ids=CALLS.keys())
    async def test_without_prompt_tokens_details_is_weighed_without_cached_tokens(self, call, client, turns, vllm):
        vllm.usage = (21, 4, None)
        await call(client)
        prompt, output, cached = turns.turn.reported
        assert (prompt, output) == (21, 4)
        assert not cached  # the Responses API of vLLM has no way not to say it: it says 0
