from __future__ import annotations

import pytest

from .fake_vllm import FakeVllm
from .stand_in_gate import StandInGate


@pytest.fixture
async def turns():
    """A stand-in gate. Whatever a test does, each of its turns must have been ended exactly once."""
    gate = StandInGate()
    yield gate
    assert [turn.end_calls for turn in gate.turns] == [1] * len(gate.turns)


@pytest.fixture
async def vllm():
    server = FakeVllm()
    runner = await server.start()
    yield server
    server.gate.set()
    server.flow.set()
    await runner.cleanup()


@pytest.fixture
async def plain(vllm):
    """An `AsyncOpenAI` client of the server, as its user makes it."""
    from openai import AsyncOpenAI, DefaultAsyncHttpxClient

    http_client = DefaultAsyncHttpxClient(verify=False)  # reading the certificates is all that would take time
    async with AsyncOpenAI(base_url=vllm.url, api_key="secret", http_client=http_client) as client:
        yield client


@pytest.fixture
def client(turns, plain):
    """The gated client."""
    from concur_agents.integrations.openai import wrap_openai

    return wrap_openai(turns, plain)
