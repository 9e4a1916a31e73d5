"""Starting, stopping, outages: the gate needs no ceremony and leaves nothing behind."""

from __future__ import annotations

import asyncio
import logging

import pytest
from gate.gate_helpers import Server, gate_on

from concur_agents import (
    AdmissionTimeout,
    Budget,
    ConcurGate,
    GateClosed,
    GateConfig,
    MetricsError,
    WrongLoop,
)
from concur_agents.simulation.virtual_time import run


async def work(gate: ConcurGate, seconds: float = 10.0, **options) -> float:
    """An agent that works for so long; says when it was let in."""
    async with gate.agent(**options):
        admitted = asyncio.get_running_loop().time()
        await asyncio.sleep(seconds)
        return admitted


def pollers() -> list[asyncio.Task]:
    return [task for task in asyncio.all_tasks() if task.get_name() == "concur-agents poller"]


def test_a_gate_made_at_import_lets_agents_in_and_polls_only_while_one_is_there(monkeypatch):
    gate = gate_on(Server(), monkeypatch, controller="fixed:2")

    async def main():
        assert pollers() == []
        agents = gate.gather(*(asyncio.sleep(1, i) for i in range(5)))
        await asyncio.sleep(2.5)
        assert len(pollers()) == 1
        results = await agents
        await asyncio.sleep(0)
        assert pollers() == []
        return results

    assert run(main()) == [0, 1, 2, 3, 4]


def test_a_fixed_budget_of_two_runs_five_agents_two_by_two():
    gate = ConcurGate(controller="fixed:2")

    async def main():
        return await asyncio.gather(*(work(gate) for _ in range(5)))

    assert run(main()) == [0, 0, 10, 10, 20]


def test_no_gate_means_everybody_at_once():
    gate = ConcurGate(controller="none")

    async def main():
        return await asyncio.gather(*(work(gate) for _ in range(5)))

    assert run(main()) == [0] * 5


def test_aimd_starts_with_eight_and_grows_by_two_every_five_seconds_on_an_idle_cache(monkeypatch):
    gate = gate_on(Server(usage=0.1), monkeypatch, controller="aimd")

    async def main():
        agents = [asyncio.create_task(work(gate, 100)) for _ in range(40)]
        await asyncio.sleep(0.5)
        seen = [gate.stats().active]
        for _ in range(3):
            await asyncio.sleep(5)
            seen.append(gate.stats().active)
        await asyncio.gather(*agents)
        return seen

    assert run(main()) == [8, 10, 12, 14]
    assert gate.stats().active == 0
    assert [str(decision) for decision in gate.history()][1].startswith("budget 8 agents → 10 agents: usage 0.10")


def test_a_missing_server_is_told_at_once_and_to_every_waiting_agent(monkeypatch):
    gate = gate_on(Server(down=True), monkeypatch)

    async def main():
        with pytest.raises(MetricsError, match=r"http://server:8000/metrics.*nothing answers"):
            async with gate:
                pass
        second = gate_on(Server(down=True), monkeypatch)
        outcomes = await asyncio.gather(*(work(second) for _ in range(3)), return_exceptions=True)
        assert [type(outcome) for outcome in outcomes] == [MetricsError] * 3
        assert second.stats().active == second.stats().queued == 0
        await asyncio.sleep(0)
        assert pollers() == []

    run(main())


def test_a_server_that_is_missing_at_first_can_be_tried_again(monkeypatch):
    server = Server(down=True)
    gate = gate_on(server, monkeypatch)

    async def main():
        with pytest.raises(MetricsError):
            await work(gate)
        server.down = False
        await work(gate)

    run(main())


def test_optional_metrics_start_at_the_floor_without_a_server(monkeypatch):
    gate = gate_on(Server(down=True), monkeypatch, metrics="optional", floor_agents=3)

    async def main():
        return await asyncio.gather(*(work(gate) for _ in range(6)))

    assert run(main()) == [0] * 3 + [10] * 3


def test_a_fixed_budget_needs_no_metrics_and_says_so_only_in_the_log(monkeypatch, caplog):
    gate = gate_on(Server(down=True), monkeypatch, controller="fixed:2")
    with caplog.at_level(logging.WARNING, "concur_agents"):
        assert run(work(gate)) == 0
    assert caplog.text.count("nothing answers") == 1


def test_an_outage_freezes_the_budget_then_falls_to_the_floor_and_recovers(monkeypatch):
    server = Server(usage=0.1)
    gate = gate_on(server, monkeypatch, controller="aimd", floor_agents=2, outage_grace_s=30)

    async def main():
        agents = [asyncio.create_task(work(gate, 200)) for _ in range(60)]
        await asyncio.sleep(11)
        before = gate.stats().budget.agents
        server.down = True
        await asyncio.sleep(20)
        frozen = gate.stats()
        await asyncio.sleep(20)
        fallen = gate.stats()
        server.down = False
        await asyncio.sleep(2)
        recovered = gate.stats()
        await asyncio.gather(*agents)
        return before, frozen, fallen, recovered

    before, frozen, fallen, recovered = run(main())
    assert frozen.budget.agents == before
    assert "metrics gone" in frozen.metrics_error or "nothing answers" in frozen.metrics_error
    assert fallen.budget.agents == 2
    assert fallen.active == before, "nobody in flight is cut off"
    assert recovered.metrics_error is None
    assert recovered.budget.agents >= before
    reasons = [decision.budget.reason for decision in gate.history()]
    assert any("metrics gone" in reason and "frozen" in reason for reason in reasons)


def test_a_sleeping_server_freezes_the_budget_for_as_long_as_it_sleeps(monkeypatch):
    server = Server(usage=0.1)
    gate = gate_on(server, monkeypatch, controller="aimd")

    async def main():
        agents = [asyncio.create_task(work(gate, 300)) for _ in range(60)]
        await asyncio.sleep(6)
        server.asleep = True
        await asyncio.sleep(2)
        before = gate.stats().budget.agents
        await asyncio.sleep(100)
        during = gate.stats().budget
        server.asleep = False
        await asyncio.sleep(12)
        after = gate.stats().budget.agents
        await asyncio.gather(*agents)
        return before, during, after

    before, during, after = run(main())
    assert during.agents == before
    assert "sleeps" in during.reason
    assert after > before


def test_closing_wakes_who_waits_and_lets_the_active_finish():
    async def main():
        gate = ConcurGate(controller="fixed:1")
        async with gate:
            active = asyncio.create_task(work(gate))
            waiting = asyncio.create_task(work(gate))
            await asyncio.sleep(1)
        assert isinstance((await asyncio.gather(waiting, return_exceptions=True))[0], GateClosed)
        assert await active == 0
        with pytest.raises(GateClosed, match="make a new one"):
            await work(gate)

    run(main())


def test_a_wait_is_bounded_by_its_timeout_and_gives_nothing_away():
    gate = ConcurGate(controller="fixed:1")

    async def main():
        first = asyncio.create_task(work(gate))
        await asyncio.sleep(0)
        with pytest.raises(AdmissionTimeout, match=r"waited 3\.0 s.*gate\.waiting"):
            await work(gate, timeout=3)
        await first
        assert await work(gate, timeout=0) == 10

    run(main())


def test_one_asyncio_run_after_another_works():
    gate = ConcurGate(controller="fixed:1")
    for _ in range(3):
        run(work(gate))
    asyncio.run(work(gate, 0))
    assert gate.stats().finished == 4


def test_two_event_loops_at_the_same_time_are_refused_with_what_to_do():
    gate = ConcurGate(controller="fixed:1")
    first = asyncio.new_event_loop()
    agent = gate.agent()
    first.run_until_complete(agent.__aenter__())
    with pytest.raises(WrongLoop, match="one gate an event loop"):
        run(work(gate))
    first.run_until_complete(agent.__aexit__())
    first.close()
    run(work(gate))


def test_a_loop_that_died_under_its_agents_does_not_hold_their_places_for_ever():
    gate = ConcurGate(controller="fixed:1")
    dead = asyncio.new_event_loop()
    dead.run_until_complete(gate.agent().__aenter__())
    dead.close()
    run(work(gate))


def test_an_agent_of_a_dead_loop_that_ends_late_takes_nothing_from_the_living():
    gate = ConcurGate(controller="fixed:1")
    dead = asyncio.new_event_loop()
    task = dead.create_task(work(gate))
    dead.run_until_complete(asyncio.sleep(0))
    dead.close()

    async def main():
        async with gate.agent():
            task.get_coro().close()
            assert gate.stats().active == gate.admission.live == 1

    run(main())
    assert gate.stats().active == gate.admission.live == 0
    task._log_destroy_pending = False


def test_the_clock_goes_on_from_one_run_to_the_next(monkeypatch):
    server = Server(usage=0.1)
    gate = gate_on(server, monkeypatch)

    async def main():
        await asyncio.gather(*(work(gate, 20) for _ in range(30)))

    run(main())
    first = gate.stats().budget.agents
    run(main())
    assert gate.stats().budget.agents > first, "the window goes on growing where it stood"


def test_max_agents_is_a_ceiling_whatever_the_controller_says():
    gate = ConcurGate(controller="none", max_agents=2)

    async def main():
        return await asyncio.gather(*(work(gate) for _ in range(3)))

    assert run(main()) == [0, 0, 10]


def test_observe_mode_holds_nobody_and_records_what_it_would_have_done(monkeypatch):
    gate = gate_on(Server(usage=0.1), monkeypatch, controller="aimd", mode="observe")

    async def main():
        return await asyncio.gather(*(work(gate) for _ in range(20)))

    assert run(main()) == [0] * 20
    assert gate.history()[0].budget.agents == 8
    assert not gate.history()[0].enforced


def test_concur_disabled_is_no_gate_at_all(monkeypatch):
    monkeypatch.setenv("CONCUR_DISABLED", "1")
    gate = gate_on(Server(down=True), monkeypatch)

    async def main():
        times = await asyncio.gather(*(work(gate) for _ in range(20)))
        assert pollers() == []
        return times

    assert run(main()) == [0] * 20


def test_settings_come_from_the_environment_and_arguments_win(monkeypatch):
    monkeypatch.setenv("CONCUR_MAX_AGENTS", "3")
    monkeypatch.setenv("CONCUR_CONTROLLER", "fixed:7")
    assert ConcurGate().config.max_agents == 3
    assert ConcurGate().controller.name == "fixed:7"
    assert ConcurGate(config=GateConfig(max_agents=4), controller="none").config.max_agents == 4
    assert ConcurGate(config=GateConfig(max_agents=4), controller="none", max_agents=5).config.max_agents == 5


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (ConcurGate, r"give its URL"),
        (lambda: ConcurGate("localhost:8000"), r"http://localhost:8000"),
        (lambda: ConcurGate(controller="fixed:0"), r"fixed"),
        (lambda: ConcurGate(controller="adaptive"), r"aimd"),
        (lambda: ConcurGate(controller="none", max_agents=-4), r"greater than 0"),
        (lambda: ConcurGate(controller="none", max_agent=4), r"max_agent\b"),
        (lambda: ConcurGate(controller="none", poll_interval_s=0), r"0\.25"),
        (lambda: Budget(agents=-1), r"give 1 or more"),
        (lambda: Budget(tokens=-1), r"more than 0"),
        (lambda: Budget(tokens=9, pause_turns=2, admit_turns=1), r"paused at once"),
        (lambda: ConcurGate(controller="none").agent(expected_tokens=-1), r"0 or more"),
        (lambda: ConcurGate(controller="none").agent(expected_tokens=float("inf")), r"0 or more"),
        (lambda: ConcurGate(controller="none").agent(timeout=-1), r"0 seconds or more"),
        (lambda: ConcurGate(controller="none").agent(nested="sibling"), r"'inherit' or 'new'"),
    ],
)
def test_a_wrong_argument_is_answered_with_what_to_give(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_waiting_tells_who_waits_since_when_and_for_what():
    gate = ConcurGate(controller="fixed:1")

    async def main():
        tasks = [asyncio.create_task(work(gate, name=name)) for name in "abc"]
        await asyncio.sleep(4)
        waiting = gate.waiting()
        await asyncio.gather(*tasks)
        return waiting

    b, c = run(main())
    assert (b.name, b.state, b.waited_s, b.reason) == ("b", "queued", 4.0, "a place: 1 active of 1")
    assert (c.name, c.reason) == ("c", "its turn in the queue, behind 'b'")
    assert gate.stats().longest_wait_s == 20


def test_turns_per_second_paces_the_starts_of_turns(monkeypatch):
    import concur_agents.gate

    started = []

    class Pacer:
        async def acquire(self) -> None:
            await asyncio.sleep(1)
            started.append(asyncio.get_running_loop().time())

    monkeypatch.setattr(concur_agents.gate, "make_pacer", lambda rate: Pacer())
    gate = ConcurGate(controller="none", turns_per_second=1)

    async def main():
        async with gate.agent() as agent:
            for _ in range(2):
                async with agent.turn():
                    pass
            pending = asyncio.create_task(agent.begin_turn())
            await asyncio.sleep(0.5)
            pending.cancel()
            await asyncio.gather(pending, return_exceptions=True)
            assert gate.stats().running == 0, "a turn cancelled while it is paced is no turn"

    run(main())
    assert started == [1, 2]


def test_metrics_are_fetched_as_told_instead_of_over_http():
    server = Server(usage=0.1)
    polled = []

    async def fetch() -> str:
        polled.append(asyncio.get_running_loop().time())
        return await server.fetch()

    gate = ConcurGate("http://embedded.engine", controller="aimd", fetch_metrics=fetch)

    async def main():
        async with gate:
            await work(gate, 3.5)
        return gate.stats()

    stats = run(main())
    assert polled == [0, 0, 1, 2, 3]  # at the door, then while an agent is there
    assert (stats.usage, stats.capacity_tokens) == (0.1, 16384)


def test_metrics_that_cannot_be_fetched_as_told_are_an_outage():
    server = Server(down=True)
    gate = ConcurGate("http://user:secret@embedded.engine", controller="aimd", fetch_metrics=server.fetch)

    with pytest.raises(MetricsError, match=r"cannot read http://embedded\.engine/metrics: nothing answers") as caught:
        run(work(gate))
    assert "secret" not in str(caught.value)


def test_a_way_to_fetch_metrics_of_no_server_is_refused(monkeypatch):
    monkeypatch.delenv("CONCUR_URL", raising=False)

    with pytest.raises(ValueError, match="give its URL too"):
        ConcurGate(controller="fixed:2", fetch_metrics=Server().fetch)


class Faulty:
    """A controller that fails from its third decision to its fortieth."""

    name = "faulty"
    needs_metrics = True

    def __init__(self) -> None:
        self.calls = 0

    def decide(self, pool, engine, now):
        self.calls += 1
        if 3 <= self.calls <= 40:
            raise ZeroDivisionError("a fault of the controller's own")
        return Budget(agents=4, reason=f"call {self.calls}")


def test_a_controller_that_fails_freezes_the_budget_then_the_gate_goes_on_without_it_until_it_recovers(
    monkeypatch, caplog
):
    async def main():
        gate = gate_on(Server(), monkeypatch, controller=Faulty(), outage_grace_s=10.0)
        async with gate.agent():
            await asyncio.sleep(5)
            frozen = gate.stats().budget
            await asyncio.sleep(20)
            without = gate.stats().budget
            await asyncio.sleep(30)
            return frozen, without, gate.stats().budget

    with caplog.at_level(logging.ERROR):
        frozen, without, after = run(main())
    assert frozen.agents == 4
    assert "the controller fails" in frozen.reason
    assert "no agent reports tokens" in without.reason
    assert after.reason.startswith("call ")
    assert [record.getMessage() for record in caplog.records] == [
        "the controller 'faulty' failed; the gate goes on without it"
    ]


def test_a_controller_that_fails_at_once_leaves_the_floor():
    class Broken:
        name = "broken"
        needs_metrics = False

        def decide(self, pool, engine, now):
            raise ZeroDivisionError

    async def main():
        gate = ConcurGate(controller=Broken(), floor_agents=3)
        async with gate.agent():
            return gate.stats().budget.agents

    assert run(main()) == 3
