"""The next turn of a thread begins before the event loop knows, unless anything is against it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading

import openai

from concur_agents import Budget, ConcurGate, Listener
from concur_agents.ahead import begin_ahead
from concur_agents.replay.in_process import httpx
from concur_agents.sync import face
from concur_agents.sync.handover import do
from concur_agents.sync.mailbox import post

PATIENCE_S = 20.0


def on_loop(gate, action):
    do(gate.sync.loop(), action)


def turn(gate):
    """A turn that offers a head start, and of which the loop knows all."""
    gate.sync.begin_turn().end_soon()
    on_loop(gate, lambda: None)


def starts_ahead(gate):
    """Whether the next turn would begin by a head start; it is used up, and its turn undone."""
    ahead = begin_ahead(gate.current())
    claimed = ahead is not None and ahead.claim()
    if ahead is not None:
        on_loop(gate, ahead.undo)
    return claimed


@contextlib.contextmanager
def busy_loop(gate):
    """The gate's loop does nothing else in here; the test fails if it had to be freed because this thread waited."""
    free, begun = threading.Event(), threading.Event()
    waited = []

    def be_busy():
        begun.set()
        waited.append(not free.wait(PATIENCE_S))

    gate.sync.loop().call_soon_threadsafe(be_busy)
    begun.wait()
    yield
    free.set()
    on_loop(gate, lambda: None)
    assert waited == [False]


class Ear(Listener):
    """Hears turns begin and end, in order."""

    def __init__(self):
        self.heard = []

    def turn_began(self, turn, waited_s):
        self.heard.append("began")

    def turn_ended(self, turn):
        self.heard.append("ended")


class HearsWaits(Listener):
    """Hears how long turns waited to begin. [s]"""

    def __init__(self, waits):
        self.waits = waits

    def turn_began(self, turn, waited_s):
        self.waits.append(waited_s)


def test_a_thread_goes_on_from_turn_to_turn_while_the_loop_is_busy(gate):
    ear = Ear()
    gate.add_listener(ear)
    with gate.sync.agent():
        turn(gate)
        with busy_loop(gate):
            for _ in range(3):
                begun = gate.sync.begin_turn()
                begun.report(prompt_tokens=100, completion_tokens=10)
                begun.end_soon()
        assert gate.stats().turns == 4
        assert gate.stats().running == 0
        assert gate.stats().working_set_tokens == 110
    assert ear.heard == ["began", "ended"] * 4
    assert gate.admission.live == 0


def test_so_do_the_calls_of_a_synchronous_openai_client(gate):
    def respond(_):
        usage = {"prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 110}
        choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "hi"}}
        answer = {"id": "1", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice]}
        return httpx.Response(200, content=json.dumps(answer | {"usage": usage}))

    transport = httpx.Client(transport=httpx.MockTransport(respond))
    client = gate.openai(openai.OpenAI(api_key="-", base_url="http://x/v1", http_client=transport))

    def ask():
        return client.chat.completions.create(model="m", messages=[{"role": "user", "content": "x"}])

    with client, gate.sync.agent():
        ask()
        on_loop(gate, lambda: None)
        with busy_loop(gate):
            assert [ask().usage.total_tokens for _ in range(3)] == [110] * 3
        assert gate.stats().turns == 4
        assert gate.stats().running == 0


def test_it_has_to_ask_for_its_first_turn_and_after_one_that_it_waited_for_the_end_of(gate):
    with gate.sync.agent():
        assert not starts_ahead(gate)
        gate.sync.begin_turn().end()
        assert not starts_ahead(gate)
        turn(gate)
        assert starts_ahead(gate)
        assert not starts_ahead(gate)


def test_it_has_to_ask_inside_another_turn_and_beside_one(gate):
    with gate.sync.agent():
        turn(gate)
        with gate.sync.turn():
            assert not starts_ahead(gate)
        first, second = gate.sync.begin_turn(), gate.sync.begin_turn()
        first.end_soon()
        on_loop(gate, lambda: None)
        assert not starts_ahead(gate)
        second.end_soon()
        on_loop(gate, lambda: None)
        assert starts_ahead(gate)


def test_it_has_to_ask_while_more_are_active_than_may_be_and_while_anybody_is_paused(gate):
    def other():
        with gate.sync.agent("other"):
            turn(gate)
            inside.set()
            go_on.wait()
            with gate.sync.turn():  # pauses, as the newer of the two
                pass

    inside, go_on = threading.Event(), threading.Event()
    thread = threading.Thread(target=other)
    with gate.sync.agent():
        turn(gate)
        thread.start()
        inside.wait()
        on_loop(gate, lambda: gate.admission.resize(Budget(agents=1)))
        assert not starts_ahead(gate)
        turn(gate)
        go_on.set()
        while not gate.admission.paused:
            on_loop(gate, lambda: None)
        assert not starts_ahead(gate)
    thread.join()
    assert gate.stats().pauses == 1
    assert gate.admission.live == 0


def test_it_has_to_ask_while_the_next_turns_of_all_would_not_fit(gate):
    with gate.sync.agent(expected_tokens=300):
        turn(gate)
        growth = gate.admission.view().growth_tokens
        assert growth > 0
        on_loop(gate, lambda: gate.admission.resize(Budget(tokens=299 + growth, pause_turns=1, admit_turns=1)))
        assert not starts_ahead(gate)
        on_loop(gate, lambda: gate.admission.resize(Budget(tokens=300 + growth, pause_turns=1, admit_turns=1)))
        assert starts_ahead(gate)


def test_it_has_to_ask_where_turns_are_paced():
    gate = ConcurGate(controller="none", turns_per_second=1000)
    with gate.sync.agent():
        turn(gate)
        assert not starts_ahead(gate)
    gate.sync.close()


def test_a_place_that_was_lent_or_taken_has_no_head_start(gate):
    with gate.sync.agent("lender"):
        turn(gate)
        lender = gate.current()
        with gate.sync.agent("borrower", nested="new"):
            assert begin_ahead(lender) is None
        turn(gate)
        on_loop(gate, lambda: gate.admission.finish(lender.place))
        assert begin_ahead(lender) is None


def test_a_turn_that_has_begun_ahead_is_in_flight_for_who_holds_turns_back(gate):
    with gate.sync.agent():
        turn(gate)
        running = []
        with busy_loop(gate):
            ahead = begin_ahead(gate.current())
            assert ahead.claim()
            gate.sync.loop().call_soon_threadsafe(gate.admission.withdraw_head_starts)
            gate.sync.loop().call_soon_threadsafe(lambda: running.append(gate.stats().running))
        assert running == [1]
        on_loop(gate, ahead.tell)
        assert gate.stats().running == 1
        on_loop(gate, ahead.turn.end)
        assert gate.stats().running == 0


def test_a_turn_that_has_begun_ahead_is_seen_in_flight_before_the_loop_is_told_of_it(gate):
    with gate.sync.agent():
        turn(gate)
        begun = gate.sync.begin_turn()
        assert gate.stats().running == 1
        assert gate.admission.view().running == 1
        begun.end()
        assert gate.stats().running == 0
        assert gate.stats().turns == 2


def test_the_loop_is_not_woken_for_its_beginning_unless_somebody_listens(gate, monkeypatch):
    posted = []
    monkeypatch.setattr(face, "post", lambda loop, action, **how: posted.append(action) or post(loop, action, **how))
    ear = Ear()
    with gate.sync.agent():
        turn(gate)
        posted.clear()
        begun = gate.sync.begin_turn()
        assert posted == []
        begun.end()
        turn(gate)
        gate.add_listener(ear)
        begun = gate.sync.begin_turn()
        on_loop(gate, lambda: None)
        assert ear.heard == ["began"]
        begun.end()
    assert ear.heard == ["began", "ended"]


def test_what_is_expected_of_it_counts_though_the_loop_was_not_told_of_its_beginning(gate):
    with gate.sync.agent():
        turn(gate)
        begun = gate.sync.begin_turn()
        begun.expect(500)
        on_loop(gate, lambda: None)
        assert gate.stats().working_set_tokens == 500
        begun.end()


def test_what_its_agent_waited_for_a_tool_and_itself_is_told_by_when_it_began(gate, monkeypatch):
    waits = []
    with gate.sync.agent():
        monkeypatch.setattr(gate, "now", lambda: now)
        now = 100
        turn(gate)
        now = 105
        begun = gate.sync.begin_turn()
        now = 1000
        gate.add_listener(HearsWaits(waits))
        begun.end()
        assert gate.current().tool_wait_s == 5
    assert waits == [0]


def test_while_turns_are_held_back_none_begins_ahead(gate):
    async def held():
        async with gate.hold():
            inside.set()
            await leave.wait()

    inside, leave = threading.Event(), asyncio.Event()
    with gate.sync.agent():
        turn(gate)
        begun = begin_ahead(gate.current())
        holding = asyncio.run_coroutine_threadsafe(held(), gate.sync.loop())
        inside.wait()
        assert not begun.claim()  # it had looked before
        assert not starts_ahead(gate)
        on_loop(gate, leave.set)
        holding.result()
        turn(gate)
        assert starts_ahead(gate)


def test_an_agent_that_is_over_has_none_even_if_its_thread_had_looked_before(gate):
    with gate.sync.agent():
        turn(gate)
        agent = gate.current()
        begun = begin_ahead(agent)
    assert not begun.claim()
    assert begin_ahead(agent) is None


def test_ended_twice_it_offers_one_head_start(gate):
    with gate.sync.agent():
        begun = gate.sync.begin_turn()
        begun.end_soon()
        begun.end_soon()
        begun.end()
        assert starts_ahead(gate)
        assert not starts_ahead(gate)
        assert gate.stats().turns == 1
