"""The waits of agents by their size: what is counted as one, and who is in which group."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from concur_agents.replay.simulated import run_simulated
from concur_agents.simulation.virtual_time import run

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))  # its scripts import each other by their plain names
waits = pytest.importorskip("waits")


class Slow:
    """A gate that holds an agent for some time, and each of its turns."""

    def __init__(self, entry_s, turns_s):
        self.entry_s = entry_s
        self.turns_s = iter(turns_s)

    @asynccontextmanager
    async def agent(self, name=None, *, kind=None):
        await asyncio.sleep(self.entry_s)
        yield self

    @asynccontextmanager
    async def turn(self):
        held = next(self.turns_s)
        if held:
            await asyncio.sleep(held)
        yield None


def test_what_is_held_before_the_first_turn_is_one_wait_and_a_turn_that_went_on_is_none():
    seen = waits.AgentWaits("a", 100)

    async def main():
        async with waits.WatchedGate(Slow(3.0, [4.0, 0.0, 5.0]), {"a": seen}).agent("a") as place:
            for _ in range(3):
                async with place.turn():
                    await asyncio.sleep(10.0)

    run(main())
    assert seen.waits_s == [7.0, 5.0]
    assert seen.pauses_s == [5.0]
    assert seen.took_s == 42.0


def test_agents_stand_in_quarters_by_their_last_prompts_and_the_largest_once_more():
    agents = [waits.AgentWaits(f"a{tokens}", tokens) for tokens in range(40, 0, -1)]
    groups = waits.by_size(agents)
    assert [len(members) for members in groups.values()] == [10, 10, 10, 10, 2, 40]
    assert [agent.tokens for agent in groups["largest 5%"]] == [39, 40]
    assert max(agent.tokens for agent in groups["smallest quarter"]) == 10


@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_few_agents_leave_no_group_empty_and_none_is_in_two_quarters(count):
    groups = waits.by_size([waits.AgentWaits(str(number), number) for number in range(count)])
    assert all(groups.values())
    assert sum(len(groups.get(name, ())) for name in waits.QUARTERS) == count


def test_waits_are_told_of_the_waits_and_shares_of_the_makespan():
    agents = (
        waits.AgentWaits("small", 1_000, entry_s=10.0, pauses_s=[20.0, 30.0], took_s=100.0),
        waits.AgentWaits("large", 9_000, took_s=200.0),
    )
    row = waits.rows("a case", waits.Watched("none", 200.0, 1.0, agents))[-1]
    assert (row.group, row.agents, row.least, row.most) == ("all", 2, 1_000, 9_000)
    assert (row.waits, row.median_s, row.longest_s, row.longest_pause_s) == (3, 20.0, 30.0, 30.0)
    assert (row.waited, row.most_waited, row.done_after_s) == (0.15, 0.3, 150.0)


@pytest.mark.parametrize("controller", ["fixed:3", "thunderagent"])
def test_a_gate_that_is_looked_at_does_what_it_does_otherwise(controller):
    watched = waits.watch("no-pressure", controller, None)
    workload, profile = waits.load("no-pressure", 0, None)
    alone = run_simulated(
        workload,
        controller,
        profile,
        on_progress=lambda _: None,
        gate=waits.rivals.maker(controller, workload, max_model_len=profile.max_model_len),
    )
    assert watched.makespan_s == alone.makespan_s
    assert max(wait for agent in watched.agents for wait in [0.0, *agent.waits_s]) == pytest.approx(alone.max_wait_s)


def command(*arguments):
    return subprocess.run(
        [sys.executable, str(BENCHMARKS / "waits.py"), *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_the_command_prints_a_table_and_writes_the_figures(tmp_path):
    written = tmp_path / "waits.json"
    done = command("--cases", "no-pressure", "--controllers", "working-set,fixed:4", "--json", str(written))
    assert done.returncode == 0, done.stderr
    assert "## no-pressure (simulated)" in done.stdout
    assert "largest quarter" in done.stdout
    assert {row["controller"] for row in json.loads(written.read_text())} == {"working-set", "fixed:4"}


def test_the_command_refuses_what_it_cannot_run(monkeypatch):
    monkeypatch.delenv("CONCUR_TRACES", raising=False)
    assert "no case or group 'nonsense'" in command("--cases", "nonsense").stderr
    assert "name the folder of the traces with --traces" in command("--cases", "glm").stderr
    assert "no controller is called 'nonsense'" in command("--cases", "search", "--controllers", "nonsense").stderr
    assert "unlimited is another engine" in command("--cases", "search", "--controllers", "unlimited").stderr
