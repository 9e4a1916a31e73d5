"""The server is killed in mid-run and comes back: the gate freezes, tells why, recovers, and loses no place."""

from __future__ import annotations

import asyncio

from openai import APIConnectionError, APIStatusError, AsyncOpenAI

from concur_agents import ConcurGate

AGENTS = 7  # with the doomed one, as many as the first window of aimd
TURNS = 6


class Load:
    """Agents that try a turn again while the server is away, as agents do."""

    def __init__(self, gate, client, model) -> None:
        self.gate = gate
        self.client = client
        self.model = model
        self.done: list[str] = []
        self.all_are_at_work = asyncio.Event()

    async def call(self, prompt: list[int], output: int = 32) -> None:
        await self.client.completions.create(
            model=self.model, prompt=prompt, max_tokens=output, extra_body={"ignore_eos": True}
        )

    async def turn(self, prompt: list[int]) -> None:
        while True:
            try:
                return await self.call(prompt)
            except (APIConnectionError, APIStatusError):
                await asyncio.sleep(0.5)

    async def agent(self, name: str, first_token: int) -> None:
        async with self.gate.agent(name):
            for i in range(TURNS):
                await self.turn([first_token] * (200 + 50 * i))
                if self.gate.stats().turns >= AGENTS:
                    self.all_are_at_work.set()
                await asyncio.sleep(0.2)
            self.done.append(name)

    async def doomed(self) -> None:
        """An agent that does not try again fails with the client's own error."""
        async with self.gate.agent("doomed"):
            while True:
                await self.call([9] * 100)


async def outage_seen(gate) -> None:
    while gate.stats().metrics_error is None:  # noqa: ASYNC110  the gate has no event for it
        await asyncio.sleep(0.1)


async def test_agents_outlive_a_server_that_is_killed_and_started_again(killable_server, model):
    server = killable_server
    names = [f"agent-{n}" for n in range(AGENTS)]
    async with (
        ConcurGate(server.url, poll_interval_s=0.25, outage_grace_s=600) as gate,
        AsyncOpenAI(base_url=f"{server.url}/v1", api_key="EMPTY", max_retries=0) as plain,
    ):
        load = Load(gate, gate.openai(plain), model)
        fails = asyncio.create_task(load.doomed())
        agents = [asyncio.create_task(load.agent(name, 100 + n)) for n, name in enumerate(names)]
        await load.all_are_at_work.wait()
        before = gate.stats().budget
        await asyncio.to_thread(server.kill)
        await outage_seen(gate)
        during = gate.stats()
        await asyncio.to_thread(server.restart)
        await asyncio.wait_for(asyncio.gather(*agents), 240)
        outcome = (await asyncio.gather(fails, return_exceptions=True))[0]
        after = gate.stats()

    assert (during.budget.agents, during.budget.tokens) == (before.agents, before.tokens)
    assert "nothing answers" in during.metrics_error
    assert any("metrics gone" in d.budget.reason and "frozen" in d.budget.reason for d in gate.history())
    assert isinstance(outcome, APIConnectionError | APIStatusError)
    assert sorted(load.done) == names
    assert after.metrics_error is None
    assert gate.snapshot.restarts == 1
    assert (after.active, after.running, after.paused, after.queued) == (0, 0, 0, 0)
    assert after.working_set_tokens == 0
