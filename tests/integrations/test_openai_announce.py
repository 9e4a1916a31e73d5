"""The first request of an agent tells about how long its prompt is, before anybody has counted it."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from concur_agents import ConcurGate
from concur_agents.integrations.openai_request import CHARACTERS_A_TOKEN, announce

from .openai_calls import ASK
from .stand_in_gate import StandInAgent, StandInTurn


def expected(body, *, first=True):
    turn = StandInTurn(StandInAgent())
    announce(SimpleNamespace(json_data=body), turn, first=first)
    return turn.expected


@pytest.mark.parametrize(
    ("body", "tokens"),
    [
        ({"messages": [{"role": "user", "content": "x" * 385}]}, 100),
        ({"prompt": "x" * 400}, 100),
        ({"prompt": ["x" * 200, "y" * 200]}, 100),
        ({"prompt": list(range(100))}, 100),
        ({"input": "x" * 200, "instructions": "y" * 200}, 100),
        ({"prompt": "", "tools": [{"name": "x" * 396}]}, 100),
        ({"prompt": None, "stream": True}, 0),
        ({}, 0),
    ],
)
def test_text_tools_and_token_ids_are_counted(body, tokens):
    assert expected(body) == pytest.approx(tokens, abs=1.5)


def test_an_image_in_the_text_is_not():
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 1_000_000}}

    assert expected({"messages": [{"role": "user", "content": [image]}]}) < 20


def test_later_turns_tell_nothing_as_the_server_has_counted_before():
    assert expected({"prompt": "x" * 400}, first=False) is None


@pytest.mark.parametrize("body", [None, b"x", "x"])
def test_a_body_that_is_no_json_object_tells_nothing(body):
    assert expected(body) is None


async def test_it_weighs_the_turn_in_flight_and_the_server_sets_it_right(plain):
    long = ASK | {"messages": [{"role": "user", "content": "x" * int(4000 * CHARACTERS_A_TOKEN)}]}
    async with ConcurGate(controller="fixed:1") as gate, gate.agent() as agent:
        client = gate.openai(plain)
        stream = await client.chat.completions.create(**long, stream=True)
        assert agent.footprint == pytest.approx(4000, rel=0.01)

        async for _ in stream:
            pass

        assert agent.footprint == 25
