"""`gate.dashboard()`: what is shown of a gate, and that no agent ever feels it."""

from __future__ import annotations

import asyncio
import contextlib
import io
import itertools
import logging
import sys
from concurrent.futures import ThreadPoolExecutor

import openai
import pytest
from gate.gate_helpers import Server, gate_on
from telemetry.terminals import Gone, Stuck, Terminal

from concur_agents import ConcurGate
from concur_agents.replay.in_process import http_client
from concur_agents.simulation.api import OpenAIApi
from concur_agents.simulation.profile import EngineProfile, LinearProfile
from concur_agents.simulation.running import RunningEngine
from concur_agents.simulation.virtual_time import run
from concur_agents.telemetry.dashboard import LARGEST_SHARE, Dashboard


@pytest.fixture
def terminal(monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("LINES", "24")
    monkeypatch.setenv("TERM", "xterm")
    return Terminal()


def run_on(terminal, main):
    """In virtual time, with this terminal as stderr."""
    with contextlib.redirect_stderr(terminal):
        return run(main())


async def work(gate, name=None, *, turns=3, kind=None):
    async with gate.agent(name, kind=kind):
        for number in range(turns):
            async with gate.turn() as turn:
                await asyncio.sleep(2.0)
                turn.report(prompt_tokens=1000 + 200 * number, completion_tokens=60, cached_tokens=900)


class Embedded:
    """A gate and a client on an embedded engine of 4,096 tokens, in this process."""

    def __init__(self, **settings):
        profile = EngineProfile(
            name="tiny", blocks=257, max_model_len=2048, step_time=LinearProfile(step=0.025, token=0.001)
        )
        api = OpenAIApi(
            RunningEngine(profile.engine()), model="tiny", version="0", clock=asyncio.get_running_loop().time
        )

        async def fetch():
            return (await api.handle("GET", "/metrics")).body.decode()

        self.gate = ConcurGate("http://user:secret@engine:8000", fetch_metrics=fetch, **settings)
        self.client = self.gate.openai(
            openai.AsyncOpenAI(base_url="http://engine/v1", api_key="secret", http_client=http_client(api))
        )

    async def agent(self, number):
        async with self.gate.agent(f"task-{number}", kind="coder"):
            messages = []
            for turn in range(6):
                messages.append({"role": "user", "content": f"{number} {turn} " * 50})
                answer = await self.client.chat.completions.create(
                    model="tiny", messages=messages, max_tokens=30, extra_body={"ignore_eos": True}
                )
                messages.append({"role": "assistant", "content": answer.choices[0].message.content})
                await asyncio.sleep(0.5)


def test_a_gate_under_pressure_is_seen_with_all_that_matters():
    async def main():
        embedded = Embedded()
        async with embedded.gate as gate, embedded.client:
            with Dashboard(gate, stream=io.StringIO()) as dashboard:
                agents = [asyncio.create_task(embedded.agent(number)) for number in range(24)]
                await asyncio.sleep(25)
                shown = dashboard.look()
                await asyncio.gather(*agents)
                return shown, dashboard.look()

    shown, after = run(main())

    assert shown.title == "working-set at http://engine:8000"
    assert shown.stats.capacity_tokens == 4112
    assert 0 < shown.stats.working_set_tokens <= 4112
    assert shown.stats.active + shown.stats.paused + shown.stats.queued + shown.stats.finished == 24
    assert shown.stats.paused + shown.stats.queued > 5
    assert shown.head is not None
    waits = [one.waited_s for one in shown.waiting]
    assert waits == sorted(waits, reverse=True)
    assert waits[0] > 10
    assert shown.tokens_per_s > 50
    assert 0 <= shown.recomputed <= 1
    assert shown.decisions
    assert shown.decisions[0][0] <= shown.decisions[-1][0]
    for means in (shown.trends.active, shown.trends.usage, shown.trends.hit_rate, shown.trends.tokens_per_s):
        assert means[-1] is not None
        assert means[0] is None
    assert after.stats.finished == 24
    assert after.waiting == ()


def test_on_a_terminal_it_stays_as_it_was_last(terminal):
    async def main():
        gate = ConcurGate(controller="fixed:2")
        with gate.dashboard():
            await asyncio.gather(*(work(gate, f"task-{number}", kind="coder") for number in range(6)))

    run_on(terminal, main)

    seen = terminal.seen()
    assert seen[0].startswith("concur · fixed:2")
    assert seen[0].endswith(" 18 s")
    assert "6 agents finished, 18 turns, 0 pauses, longest wait 12 s" in terminal.text()
    assert seen[-1] == ""  # what comes next starts a line of its own
    assert all(len(line) <= 80 for line in seen)


def test_while_it_goes_on_it_tells_who_waits_and_for_what(terminal):
    async def main():
        gate = ConcurGate(controller="fixed:2")
        agents = [asyncio.create_task(work(gate, f"task-{number}", kind="coder")) for number in range(6)]
        with gate.dashboard():
            await asyncio.sleep(5)
        await asyncio.gather(*agents)

    run_on(terminal, main)

    text = terminal.text()
    assert "2 agents, 2 in a turn" in text
    assert "0 paused, 4 queued" in text
    assert "fixed at 2 agents" in text
    assert "task-2         coder    queued    5 s  a place: 2 active of 2" in text
    assert "its turn in the queue, behind 'task-2'" in text


def test_what_the_program_prints_and_logs_goes_above_it_and_tears_nothing(terminal):
    logger = logging.getLogger("a program")

    async def main():
        gate = ConcurGate(controller="fixed:2")
        with gate.dashboard():
            for number in range(4):
                await work(gate)
                sys.stdout.write(f"printed {number}\n")
                logger.warning("logged %d", number)
                sys.stderr.write(f"said {number}: {'x' * 100}\n")
        return sys.stdout, sys.stderr, handler.stream

    with contextlib.redirect_stdout(terminal), contextlib.redirect_stderr(terminal):
        handler = logging.StreamHandler()  # it keeps the stream it was made with
        logger.addHandler(handler)
        try:
            after = run(main())
        finally:
            logger.removeHandler(handler)

    told = [line for n in range(4) for line in (f"printed {n}", f"logged {n}", f"said {n}: {'x' * 100}")]
    assert terminal.seen()[:12] == told
    assert terminal.text().count("concur ·") == 1
    assert after == (terminal, terminal, terminal)


def test_a_second_one_on_the_same_terminal_is_lines_above_the_first(terminal):
    async def main():
        gates = [ConcurGate(controller=f"fixed:{places}") for places in (2, 3)]
        with gates[0].dashboard(), gates[1].dashboard():
            await asyncio.gather(*(work(gate) for gate in gates for _ in range(6)))

    run_on(terminal, main)

    lines = terminal.seen()
    assert lines[0] == "concur: 0 active 0 paused 0 waiting 0 finished · 0 tok/s"
    assert "concur: 0 active 0 paused 0 waiting 6 finished" in terminal.text()
    assert terminal.text().count("concur · fixed:2") == 1
    assert "concur · fixed:3" not in terminal.text()


def test_stdout_that_is_no_terminal_is_left_alone(terminal, capsys):
    async def main():
        gate = ConcurGate(controller="fixed:2")
        with gate.dashboard():
            sys.stdout.write("a result\n")

    run_on(terminal, main)

    assert capsys.readouterr().out == "a result\n"
    assert "a result" not in terminal.text()


def test_the_cursor_is_never_hidden_so_that_nobody_can_lose_it(terminal):
    async def main():
        gate = ConcurGate(controller="fixed:2")
        with gate.dashboard():
            await asyncio.sleep(3)

    run_on(terminal, main)

    assert "\x1b[?25l" not in terminal.getvalue()


@pytest.mark.parametrize("error", [KeyboardInterrupt, asyncio.CancelledError, RuntimeError])
def test_however_it_is_left_the_streams_are_back(error, terminal):
    async def main():
        gate = ConcurGate(controller="fixed:2")
        with gate.dashboard():
            await work(gate)
            raise error

    with contextlib.redirect_stderr(terminal):
        before = sys.stdout, sys.stderr
        with pytest.raises(error):
            run(main())
        assert (sys.stdout, sys.stderr) == before

    assert terminal.seen()[-1] == ""
    assert "1 agents finished" in terminal.text()


def test_elsewhere_it_is_a_line_every_ten_seconds_if_anything_has_changed(capsys):
    async def main():
        gate = ConcurGate(controller="fixed:2")
        with gate.dashboard():
            await asyncio.gather(*(work(gate, f"task-{number}") for number in range(6)))
            await asyncio.sleep(100)

    run(main())

    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "concur: 0 active 0 paused 0 waiting 0 finished · 0 tok/s"
    assert lines[1].startswith("concur: 2 active 0 paused 2 waiting 2 finished · recomputed 0.")
    assert lines[1].endswith("task-4 (default) queued for 10 s, waits for a place: 2 active of 2")
    assert "6 finished" in lines[2]
    assert len(lines) <= 7  # the rate falls to nothing, then it is still


@pytest.mark.parametrize("stream", [None, Gone()])
def test_without_anybody_to_see_it_nothing_happens(stream, monkeypatch):
    monkeypatch.setattr(sys, "stderr", stream)

    async def main():
        gate = ConcurGate(controller="fixed:2")
        with gate.dashboard():
            await asyncio.gather(*(work(gate) for _ in range(6)))
        return gate

    assert run(main()).stats().finished == 6


def test_a_closed_stderr_is_nobody(monkeypatch):
    closed = Terminal()
    closed.close()
    test_without_anybody_to_see_it_nothing_happens(closed, monkeypatch)


def test_a_terminal_that_takes_nothing_holds_nobody_up(monkeypatch):
    """Ctrl-S, or an ssh connection that is lost."""
    monkeypatch.setattr("concur_agents.telemetry.live.writer.LAST_WORDS_S", 0.01)
    stuck = Stuck()
    monkeypatch.setattr(sys, "stderr", stuck)

    async def main():
        gate = ConcurGate(controller="fixed:2")
        with gate.dashboard():
            for _ in range(3):
                await work(gate)
                sys.stderr.write("printed\n")
        return gate.stats().finished

    assert run(main()) == 3
    stuck.go_on.set()


def test_what_fails_in_it_is_logged_once_and_costs_no_agent_anything(terminal, monkeypatch, caplog):
    async def main():
        gate = ConcurGate(controller="fixed:2")
        monkeypatch.setattr(gate, "waiting", lambda: 1 / 0)
        with gate.dashboard():
            await asyncio.gather(*(work(gate) for _ in range(6)))
        return gate

    gate = run_on(terminal, main)

    assert gate.stats().finished == 6
    assert [record.message for record in caplog.records if "dashboard" in record.message] == [
        "the dashboard could not be shown; its further failures are not logged"
    ]


def test_a_password_in_the_address_is_not_shown(terminal):
    async def main():
        embedded = Embedded()
        async with embedded.gate as gate, embedded.client:
            with gate.dashboard():
                await embedded.agent(1)

    run_on(terminal, main)

    assert "http://engine:8000" in terminal.text()
    assert "secret" not in terminal.getvalue()


def test_names_cannot_steer_the_terminal(terminal):
    async def main():
        gate = ConcurGate(controller="fixed:1")
        agents = [asyncio.create_task(work(gate, "evil\x1b[2J\nname", kind="\x07kind")) for _ in range(3)]
        with gate.dashboard():
            await asyncio.sleep(5)
        await asyncio.gather(*agents)

    run_on(terminal, main)

    assert "\x1b[2J" not in terminal.getvalue()
    assert "evil?[2J name" in terminal.text()


def test_metrics_that_are_gone_and_back_are_told(terminal, monkeypatch):
    async def main():
        server = Server(usage=0.5)
        gate = gate_on(server, monkeypatch)
        with Dashboard(gate, stream=io.StringIO()) as dashboard:
            agent = asyncio.create_task(work(gate, turns=20))
            await asyncio.sleep(5)
            before = dashboard.look()
            server.down = True
            await asyncio.sleep(8)
            away = dashboard.look()
            server.down = False
            await asyncio.sleep(5)
            back = dashboard.look()
            await agent
        return before, away, back

    before, away, back = run_on(terminal, main)

    assert before.notes == back.notes == ()
    assert (before.server.usage, away.server, back.server.usage) == (0.5, None, 0.5)
    assert len(away.notes) == 1
    assert away.notes[0].startswith("no metrics for 9 s: cannot read http://server:8000/metrics: nothing answers")


def test_a_server_that_answers_nothing_is_told_before_it_is_an_error(monkeypatch):
    async def main():
        server = Server(usage=0.5)
        answer, slow = server.fetch, 0.0

        async def fetch():
            await asyncio.sleep(slow)
            return await answer()

        server.fetch = fetch
        gate = gate_on(server, monkeypatch)
        with Dashboard(gate, stream=io.StringIO()) as dashboard:
            agent = asyncio.create_task(work(gate, turns=5))
            await asyncio.sleep(4.5)
            before, slow = dashboard.look(), 4.5
            await asyncio.sleep(4)
            during = dashboard.look()
            await agent
            return before, during, dashboard.look()

    before, during, idle = run(main())

    assert before.notes == idle.notes == ()
    assert during.notes == ("nothing from the server for 4 s",)


def test_a_server_that_nobody_asks_any_more_has_no_figures_of_now(monkeypatch):
    async def main():
        gate = gate_on(Server(usage=0.5), monkeypatch)
        with Dashboard(gate, stream=io.StringIO()) as dashboard:
            await work(gate)
            during = dashboard.look()
            await asyncio.sleep(60)
            return during, dashboard.look()

    during, idle = run(main())

    assert during.server is not None
    assert idle.server is None
    assert idle.trends.usage[-1] is None


def test_sleep_and_hold_are_told(monkeypatch):
    async def main():
        gate = gate_on(Server(asleep=True), monkeypatch, metrics="optional")
        with Dashboard(gate, stream=io.StringIO()) as dashboard:
            agent = asyncio.create_task(work(gate))
            await asyncio.sleep(3)
            async with gate.hold():
                notes = dashboard.look().notes
            await agent
        return notes

    assert run(main()) == ("the server sleeps", "held: no turn begins")


@pytest.mark.parametrize(
    ("settings", "title"),
    [
        ({"mode": "observe"}, "fixed:2, observes, holds nobody"),
        ({"disabled": True}, "disabled, holds nobody"),
    ],
)
def test_a_gate_that_holds_nobody_says_so(settings, title):
    async def main():
        with Dashboard(ConcurGate(controller="fixed:2", **settings), stream=io.StringIO()) as dashboard:
            return dashboard.look().title

    assert run(main()) == title


def test_it_is_entered_once():
    async def main():
        dashboard = Dashboard(ConcurGate(controller="fixed:2"), stream=io.StringIO())
        with dashboard, pytest.raises(RuntimeError, match="shown already"), dashboard:
            pass

    run(main())


def test_a_program_of_threads_has_it_too(terminal):
    gate = ConcurGate(controller="fixed:2")

    def solve(number):
        with gate.sync.agent(f"task-{number}"), gate.sync.turn() as turn:
            turn.report(prompt_tokens=100, completion_tokens=10)

    with contextlib.redirect_stderr(terminal), gate.dashboard(), ThreadPoolExecutor(4) as pool:
        list(pool.map(solve, range(8)))
    gate.sync.close()

    assert "8 agents finished, 8 turns" in terminal.text()


def test_around_asyncio_run_it_says_where_it_belongs(terminal, caplog):
    gate = ConcurGate(controller="fixed:2")

    async def main():
        await work(gate)

    with contextlib.redirect_stderr(terminal), gate.dashboard():
        run(main())
    gate.sync.close()

    assert gate.stats().finished == 1
    assert "inside the coroutine that asyncio.run runs" in caplog.text


def test_it_takes_no_more_of_the_loop_than_its_share(terminal, monkeypatch):
    looks = []

    async def main():
        gate = ConcurGate(controller="fixed:2")
        loop = asyncio.get_running_loop()
        dashboard = gate.dashboard()
        look = dashboard.look

        def slow():
            looks.append(loop.time())
            loop._selector.now += 0.5  # as long as it takes
            return look()

        monkeypatch.setattr(dashboard, "look", slow)
        with dashboard:
            await asyncio.sleep(100)

    run_on(terminal, main)

    apart = [after - before for before, after in itertools.pairwise(looks[:-1])]
    assert min(apart) >= 0.5 / LARGEST_SHARE


def test_no_timer_is_left_behind(terminal):
    async def main():
        loop = asyncio.get_running_loop()
        with ConcurGate(controller="fixed:2").dashboard():
            await asyncio.sleep(3)
        return [handle for handle in loop._scheduled if not handle.cancelled()]

    assert run_on(terminal, main) == []
