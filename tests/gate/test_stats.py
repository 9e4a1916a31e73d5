"""What the gate says of itself, for people."""

from __future__ import annotations

import asyncio

from gate.gate_helpers import Server, gate_on

from concur_agents import ConcurGate
from concur_agents.simulation.virtual_time import run


def test_stats_are_printed_as_a_few_lines(monkeypatch):
    server = Server(usage=0.5, queries=100, hits=80)

    async def main():
        gate = gate_on(server, monkeypatch, controller="fixed:1")
        async with gate.agent() as agent:
            await asyncio.sleep(1.5)
            server.queries, server.hits = 200, 170
            async with agent.turn() as turn:
                turn.report(prompt_tokens=1000, completion_tokens=234)
            await asyncio.sleep(1)
            return str(gate.stats())

    assert run(main()).splitlines() == [
        "fixed:1, 1 agent",
        "agents   1 active (0 in a turn), 0 paused, 0 queued, 0 finished",
        "tokens   1,234 of 16,384 in the working set",
        "server   KV usage 50%, hit rate 90%, recomputed unknown",
        "so far   1 turns, 234 output tokens, 0 pauses, longest wait 0.0 s",
    ]


def test_what_is_unknown_is_said_to_be(monkeypatch):
    text = str(ConcurGate(controller="none").stats())

    assert text.splitlines()[0] == "none, undecided"
    assert "KV usage unknown, hit rate unknown" in text


def test_a_metrics_outage_is_in_it(monkeypatch):
    async def main():
        gate = gate_on(Server(down=True), monkeypatch, controller="aimd", metrics="optional")
        async with gate.agent():
            await asyncio.sleep(2)
            return str(gate.stats())

    assert "metrics  cannot read http://server:8000/metrics: nothing answers" in run(main())
