"""A gate's page: what it says, to whom, and what it never says."""

from __future__ import annotations

import asyncio
import logging
import re
import shutil
import subprocess
import threading
from pathlib import Path

import pytest
from gate.gate_helpers import Server, gate_on
from prometheus_client import CollectorRegistry, Counter, generate_latest
from telemetry.prometheus_pages import samples

from concur_agents import AdmissionTimeout, Budget, ConcurGate
from concur_agents.simulation.virtual_time import run
from concur_agents.telemetry import export_prometheus, prometheus
from concur_agents.telemetry.kinds import KINDS

PROMTOOL = shutil.which("promtool")


@pytest.fixture
def registry():
    return CollectorRegistry(auto_describe=True)  # as the default one


async def one_agent(gate, *, prompt=100, cached=None, kind=None, name=None):
    async with gate.agent(name, kind=kind) as agent:
        for turn_number in range(2):
            async with agent.turn() as turn:
                await asyncio.sleep(1)
                turn.report(prompt_tokens=prompt * (turn_number + 1), completion_tokens=10, cached_tokens=cached)


def test_the_page_tells_who_is_active_and_who_waits(registry):
    async def main():
        gate = ConcurGate(controller="fixed:2")
        with export_prometheus(gate, registry=registry):
            agents = asyncio.gather(*(one_agent(gate) for _ in range(5)))
            await asyncio.sleep(1.5)
            return samples(registry), await agents

    page, _ = run(main())
    assert page["concur_agents_active"] == {("default",): 2}
    assert page["concur_agents_running"] == {("default",): 2}
    assert page["concur_agents_queued"] == {("default",): 3}
    assert page["concur_agents_paused"] == {("default",): 0}
    assert page["concur_longest_wait_seconds"] == {("default",): 1.5}
    assert page["concur_longest_pause_seconds"] == {("default",): 0}
    assert page["concur_budget_agents"] == {("default",): 2}
    assert "concur_budget_tokens" not in page
    assert "concur_server_capacity_tokens" not in page
    assert "concur_server_metrics_up" not in page


def test_counters_add_up_what_agents_did(registry):
    async def main():
        gate = ConcurGate(controller="fixed:2")
        with export_prometheus(gate, registry=registry):
            await asyncio.gather(*(one_agent(gate, cached=80) for _ in range(3)))
            return samples(registry)

    page = run(main())
    assert page["concur_agents_finished_total"] == {("default",): 3}
    assert page["concur_turns_total"] == {("default",): 6}
    assert page["concur_prompt_tokens_total"] == {("default",): 900}
    assert page["concur_output_tokens_total"] == {("default",): 60}
    assert page["concur_cached_tokens_total"] == {("default",): 480}
    assert page["concur_reusable_tokens_total"] == {("default",): 300}
    assert page["concur_recomputed_tokens_total"] == {("default",): 60}
    assert page["concur_decisions_total"] == {("default",): 1}
    assert page["concur_longest_wait_seconds"] == {("default",): 0}


def test_waits_and_turns_are_told_by_kind(registry):
    async def main():
        gate = ConcurGate(controller="fixed:1")
        with export_prometheus(gate, registry=registry):
            await asyncio.gather(one_agent(gate, kind="solver"), one_agent(gate, kind="critic"))
            return samples(registry)

    page = run(main())
    assert page["concur_admission_wait_seconds_sum"] == {("default", "solver"): 0, ("default", "critic"): 2}
    assert page["concur_admission_wait_seconds_count"] == {("default", "solver"): 1, ("default", "critic"): 1}
    assert page["concur_agent_turns_sum"] == {("default", "solver"): 2, ("default", "critic"): 2}
    assert page["concur_turn_wait_seconds_count"] == {("default", "solver"): 2, ("default", "critic"): 2}


def test_a_turn_that_was_held_tells_how_long(registry):
    async def main():
        gate = ConcurGate(controller="fixed:1")
        with export_prometheus(gate, registry=registry):
            async with gate.agent() as agent:
                async with gate.hold():
                    turn = asyncio.ensure_future(agent.begin_turn())
                    await asyncio.sleep(7)
                    held = samples(registry)
                (await turn).end()
            return held, samples(registry)

    held, page = run(main())
    assert held["concur_held"] == {("default",): 1}
    assert page["concur_held"] == {("default",): 0}
    assert page["concur_turn_wait_seconds_sum"] == {("default", "default"): 7}


def test_who_is_paused_is_told_apart_from_who_never_had_a_place(registry):
    class Tokens:
        name = "tokens"
        needs_metrics = False

        def decide(self, pool, engine, now):
            return Budget(tokens=1000)

    async def main():
        gate = ConcurGate(controller=Tokens())
        with export_prometheus(gate, registry=registry):
            agents = [asyncio.ensure_future(one_agent(gate, prompt=600)) for _ in range(2)]
            await asyncio.sleep(1.25)
            page = samples(registry)
            await asyncio.gather(*agents)
            return page, samples(registry)

    during, after = run(main())
    assert during["concur_agents_paused"] == {("default",): 1}
    assert during["concur_longest_pause_seconds"] == {("default",): 0.25}
    assert during["concur_budget_tokens"] == {("default",): 1000}
    assert during["concur_working_set_tokens"]["default",] == 610
    assert after["concur_pauses_total"] == {("default",): 1}
    assert after["concur_turn_wait_seconds_sum"] == {("default", "default"): 1}


def test_agents_in_the_place_of_their_parent_waited_for_none(registry):
    async def main():
        gate = ConcurGate(controller="fixed:1")
        with export_prometheus(gate, registry=registry):
            async with gate.agent(kind="lead"):
                await gate.gather(*(one_agent(gate, kind="sub") for _ in range(3)))
            return samples(registry)

    page = run(main())
    assert page["concur_admission_wait_seconds_count"] == {("default", "lead"): 1}
    assert page["concur_agent_turns_count"] == {
        ("default", "default"): 3,
        ("default", "sub"): 3,
        ("default", "lead"): 1,
    }


def test_who_gave_up_is_counted(registry):
    async def late(gate):
        async with gate.agent(kind="late", timeout=1):
            pass

    async def main():
        gate = ConcurGate(controller="fixed:1")
        with export_prometheus(gate, registry=registry):
            first = asyncio.ensure_future(one_agent(gate, prompt=1))
            await asyncio.sleep(0)
            waiting = asyncio.ensure_future(late(gate))
            await asyncio.wait([first, waiting])
            return samples(registry), waiting.exception()

    page, error = run(main())
    assert isinstance(error, AdmissionTimeout)
    assert page["concur_agents_gave_up_total"] == {("default", "late"): 1}


def test_the_server_as_the_gate_sees_it(registry, monkeypatch):
    server = Server(usage=0.4, capacity=1000)

    async def main():
        gate = gate_on(server, monkeypatch)
        with export_prometheus(gate, registry=registry):
            async with gate.agent():
                await asyncio.sleep(2.5)
                up = samples(registry)
                server.down = True
                await asyncio.sleep(4)
                return up, samples(registry)

    up, down = run(main())
    assert up["concur_server_capacity_tokens"] == {("server:8000",): 1000}
    assert up["concur_server_kv_usage_ratio"] == {("server:8000",): 0.4}
    assert up["concur_server_metrics_up"] == {("server:8000",): 1}
    assert up["concur_server_metrics_age_seconds"] == {("server:8000",): 0.5}
    assert down["concur_server_metrics_up"] == {("server:8000",): 0}
    assert down["concur_server_metrics_age_seconds"] == {("server:8000",): 4.5}


def test_several_gates_have_one_page_with_each_metric_named_once(registry):
    critics, solvers = ConcurGate(controller="fixed:1"), ConcurGate(controller="fixed:2")
    with (
        export_prometheus(critics, name="critics", registry=registry),
        export_prometheus(solvers, name="solvers", registry=registry),
    ):
        run(one_agent(critics, prompt=1))
        page = generate_latest(registry).decode()
    names = re.findall(r"^# TYPE (\S+)", page, re.MULTILINE)
    assert len(names) == len(set(names))
    assert 'concur_turns_total{gate="critics"} 2.0' in page
    assert 'concur_turns_total{gate="solvers"} 0.0' in page


def test_two_gates_of_one_name_are_refused_and_the_first_stays(registry):
    first = ConcurGate(controller="fixed:1")
    with export_prometheus(first, registry=registry):
        with pytest.raises(ValueError, match="give this one a name of its own"):
            export_prometheus(ConcurGate(controller="fixed:2"), registry=registry)
        assert samples(registry)["concur_agents_active"] == {("default",): 0}


def test_a_gate_of_a_server_is_named_by_host_and_port_without_the_password(registry):
    gate = ConcurGate("http://user:secret@inference:8000/v1?token=secret")
    with export_prometheus(gate, registry=registry):
        page = generate_latest(registry).decode()
    assert 'concur_agents_active{gate="inference:8000"} 0.0' in page
    assert "secret" not in page


def test_a_closed_export_leaves_nothing_on_the_page(registry):
    gates = [ConcurGate(controller="fixed:1") for _ in range(2)]
    one, other = (export_prometheus(gate, name=f"g{n}", registry=registry) for n, gate in enumerate(gates))
    for gate in gates:
        run(one_agent(gate, prompt=1))
    one.close()
    one.close()
    page = generate_latest(registry).decode()
    assert '"g0"' not in page
    assert '"g1"' in page
    other.close()
    assert generate_latest(registry) == b""
    assert not any(gate.listeners for gate in gates)
    with export_prometheus(gates[0], registry=registry):  # and again
        assert samples(registry)["concur_turns_total"] == {("default",): 2}


def test_a_metric_of_somebody_elses_with_our_name_is_refused_and_ours_not_half_there(registry):
    Counter("concur_turns", "Somebody else's.", registry=registry)
    gate = ConcurGate(controller="fixed:1")
    with pytest.raises(ValueError, match="concur_turns"):
        export_prometheus(gate, registry=registry)
    assert not gate.listeners


def test_the_fifty_first_kind_is_other(registry):
    async def main():
        gate = ConcurGate(controller="fixed:1")
        with export_prometheus(gate, registry=registry):
            for number in range(KINDS + 20):
                async with gate.agent(kind=f"kind {number}"):
                    pass
            async with gate.agent(kind="kind 3"):
                pass
            return samples(registry)["concur_agent_turns_count"]

    counts = run(main())
    assert len(counts) == KINDS + 1
    assert counts["default", "other"] == 20
    assert counts["default", "kind 3"] == 2


def test_no_agent_has_its_name_on_the_page(registry):
    async def main():
        gate = ConcurGate(controller="fixed:1")
        with export_prometheus(gate, registry=registry):
            await asyncio.gather(*(one_agent(gate, name="task-17") for _ in range(3)))
            return generate_latest(registry).decode()

    assert "task-17" not in run(main())


def test_a_scrape_from_another_thread_is_answered_by_the_gates_own_loop(registry):
    """The gate's queue is tidied by whoever looks at it: nobody else may look."""
    gate = ConcurGate(controller="fixed:1")
    export = export_prometheus(gate, registry=registry)
    asked_in, look = [], export._look
    export._look = lambda: asked_in.append(threading.current_thread()) or look()

    async def main():
        async with gate.agent():
            return await asyncio.to_thread(samples, registry)

    page = asyncio.run(main())
    assert asked_in == [threading.current_thread()]
    assert page["concur_agents_active"] == {("default",): 1}
    assert samples(registry)["concur_agents_active"] == {("default",): 0}  # no loop runs any more


def test_a_scrape_of_a_gate_whose_loop_is_stuck_says_what_it_said_last(registry, monkeypatch):
    monkeypatch.setattr(prometheus, "ANSWER_WITHIN_S", 0.01)
    gate = ConcurGate(controller="fixed:1")
    export_prometheus(gate, registry=registry)
    before, stuck = [], []

    async def main():
        scrape = threading.Thread(target=lambda: stuck.append(samples(registry)))
        first = threading.Thread(target=lambda: before.append(samples(registry)))
        async with gate.agent():
            first.start()
            first.join()  # the loop is stuck in here: it has not told anything yet
            await asyncio.sleep(0)
            samples(registry)
            scrape.start()
            scrape.join()

    asyncio.run(main())
    assert "concur_agents_active" not in before[0]
    assert stuck[0]["concur_agents_active"] == {("default",): 1}


def test_nothing_but_the_default_registry_is_needed(caplog):
    caplog.set_level(logging.WARNING)
    with export_prometheus(ConcurGate(controller="fixed:1"), name="of a test"):
        assert b'concur_turns_total{gate="of a test"} 0.0' in generate_latest()
    assert b"concur_" not in generate_latest()
    assert caplog.records == []


@pytest.mark.skipif(PROMTOOL is None, reason="needs promtool, of the package prometheus")
def test_promtool_finds_nothing_to_say_about_the_page(registry, tmp_path):
    async def main():
        gate = ConcurGate(controller="fixed:2")
        with export_prometheus(gate, registry=registry):
            await asyncio.gather(*(one_agent(gate, cached=80) for _ in range(3)))
            return generate_latest(registry)

    page = tmp_path / "page"
    page.write_bytes(run(main()))
    with page.open() as text:
        said = subprocess.run([PROMTOOL, "check", "metrics"], stdin=text, capture_output=True, text=True, check=False)
    assert (said.stdout, said.stderr, said.returncode) == ("", "", 0)


def test_the_page_in_the_docs_lists_every_metric(registry):
    table = (Path(__file__).parents[2] / "docs" / "telemetry.md").read_text(encoding="utf-8")
    listed = set(re.findall(r"^\| `(concur_\w+)`", table, re.MULTILINE))
    with export_prometheus(ConcurGate(controller="fixed:1"), registry=registry):
        names = set(
            re.findall(r"^# TYPE (concur_\w+?)(?<!_created) ", generate_latest(registry).decode(), re.MULTILINE)
        )
    assert listed == names
