"""Runs of the OpenAI Agents SDK that do not come to their end: no turn runs on, and no place is lost.

Where hooks alone make the turns, a call that fails may leave its turn running, but no longer than its task, that
task's next call, and its agent.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import gc
import types

import openai
import pytest
from agents import (
    InputGuardrailTripwireTriggered,
    MaxTurnsExceeded,
    ModelSettings,
    ModelTracing,
    OpenAIChatCompletionsModel,
    RunHooks,
    Runner,
    function_tool,
)
from agents.lifecycle import AgentHooks

from concur_agents import ConcurGate, GateClosed
from concur_agents.integrations.openai_agents import ConcurModel, ConcurRunHooks

from .openai_agents_standins import CONFIG, Scripted, agent, call, look_up, text, tripping
from .test_openai_agents import GATED, STREAMED, Gated, at_gate, idle
from .test_openai_cancel import cancelled_at, outcome_of


def running(gate):
    return gate.stats().running


async def fails(error, awaitable):
    with pytest.raises(error) as caught:
        await awaitable
    return caught.value  # held on to, as a caller may, with all the frames of the run


@STREAMED
@GATED
class TestNoTurnRunsOn:
    def test_when_the_model_fails(self, how, stream):
        async def scenario(gate):
            gated = Gated(gate, how)
            failing = agent(gated.model(Scripted(call("look_up", word="x"), ZeroDivisionError())), tools=[look_up])
            async with gate.agent() as task:
                running_run = asyncio.create_task(gated.run(failing, stream=stream))
                held = await fails(ZeroDivisionError, running_run)
                await asyncio.sleep(0)
                assert running(gate) == 0
                assert task.turns == 2
                await gated.run(agent(gated.model(Scripted(text("done")))), stream=stream)
                assert task.turns == 3
            del held

        at_gate(scenario)

    def test_when_the_run_is_repeated_in_the_same_task_after_a_failure(self, how, stream):
        async def scenario(gate):
            gated = Gated(gate, how)
            look = call("look_up", word="x")
            script = (look, ZeroDivisionError(), ZeroDivisionError(), look, ZeroDivisionError(), look, text("done"))
            model = Scripted(*script, gate=gate)
            failing = agent(gated.model(model), tools=[look_up])
            async with gate.agent() as task:
                first = await fails(ZeroDivisionError, gated.run(failing, stream=stream))
                second = await fails(ZeroDivisionError, gated.run(failing, stream=stream))
                third = await fails(ZeroDivisionError, gated.run(failing, stream=stream))
                await gated.run(failing, stream=stream)
                assert running(gate) == 0
            assert len({id(first), id(second), id(third)}) == 3
            assert model.running == [1] * len(script)
            assert task.prompt_tokens == sum(100 + n for n in (1, 4, 6, 7))

        at_gate(scenario)

    def test_when_a_tool_fails(self, how, stream):
        @function_tool(failure_error_function=None)
        async def broken() -> str:
            """Break."""
            raise ZeroDivisionError

        async def scenario(gate):
            gated = Gated(gate, how)
            async with gate.agent() as task:
                running_run = gated.run(agent(gated.model(Scripted(call("broken"))), tools=[broken]), stream=stream)
                await fails(Exception, running_run)
                assert (running(gate), task.turns) == (0, 1)

        at_gate(scenario)

    def test_when_it_takes_too_many_turns(self, how, stream):
        async def scenario(gate):
            gated = Gated(gate, how)
            endless = agent(gated.model(Scripted(call("look_up", word="x"))), tools=[look_up])
            async with gate.agent() as task:
                await fails(MaxTurnsExceeded, gated.run(endless, stream=stream, max_turns=3))
                assert (running(gate), task.turns) == (0, 3)

        at_gate(scenario)

    @pytest.mark.parametrize("after_s", [0, 0.5, 1.0, 3.0])
    def test_when_a_guardrail_trips_beside_the_call(self, after_s, how, stream):
        async def scenario(gate):
            gated = Gated(gate, how)
            guarded = agent(
                gated.model(Scripted(call("look_up", word="x"), text("done"))),
                tools=[look_up],
                input_guardrails=[tripping(after_s)],
            )
            async with gate.agent():
                await fails(InputGuardrailTripwireTriggered, asyncio.create_task(gated.run(guarded, stream=stream)))
                await asyncio.sleep(5)
                assert running(gate) == 0

        at_gate(scenario)

    # The SDK drops a coroutine of its own that was cancelled before it started, at the gate or not.
    @pytest.mark.filterwarnings("ignore:coroutine 'run_single_turn' was never awaited")
    @pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
    def test_when_it_is_cancelled_at_any_await(self, how, stream):
        async def scenario(gate):
            gated = Gated(gate, how)

            async def whole():
                script = call("look_up", word="x"), text("done")
                last = agent(gated.model(Scripted(*script)), name="last", tools=[look_up])
                starting = agent(gated.model(Scripted(call("transfer_to_last"))), handoffs=[last])
                async with gate.agent():
                    return (await gated.run(starting, stream=stream)).final_output

            nth = 0
            while True:
                nth += 1
                outcome = await outcome_of(cancelled_at(nth, whole()))
                for _ in range(50):  # what the SDK leaves to tasks of its own
                    await asyncio.sleep(0)
                assert idle(gate), nth
                if outcome == "done":
                    return nth
                assert isinstance(outcome, asyncio.CancelledError)

        assert at_gate(scenario) > 5 or stream  # old SDKs keep a cancellation from who reads a stream

    def test_when_it_is_cancelled_at_any_time(self, how, stream):
        async def scenario(gate):
            gated = Gated(gate, how)
            for tenths in range(1, 50, 3):
                model = gated.model(Scripted(call("look_up", word="x"), text("done")))
                async with gate.agent():
                    running_run = asyncio.create_task(gated.run(agent(model, tools=[look_up]), stream=stream))
                    await asyncio.sleep(tenths / 10)
                    running_run.cancel()
                    (outcome,) = await asyncio.gather(running_run, return_exceptions=True)
                    await asyncio.sleep(0.01)
                    assert running(gate) == 0, tenths
                    assert isinstance(outcome, asyncio.CancelledError) or tenths > 40 or stream

        at_gate(scenario)

    def test_when_the_gate_closes_while_it_is_paused(self, how, stream):
        async def scenario(gate):
            gated = Gated(gate, how)
            model = Scripted(text("done"))

            async def late():
                async with gate.agent():
                    await gated.run(agent(gated.model(model)), stream=stream)

            async with gate.agent():
                waiting = asyncio.create_task(late(), context=contextvars.Context())
                await asyncio.sleep(1)
                await gate.aclose()
                await fails(GateClosed, waiting)
            assert model.calls == 0

        at_gate(scenario)


class TestAStreamedRun:
    @GATED
    @pytest.mark.parametrize("leave", ["cancel", "cancel after the turn", "drop", "close the events"])
    def test_that_is_not_read_to_its_end_leaves_its_place_with_its_agent(self, leave, how):
        async def scenario(gate):
            gated = Gated(gate, how)
            model = Scripted(call("look_up", word="x"), text("done"))
            async with gate.agent():
                starting = agent(gated.model(model), tools=[look_up])
                result = Runner.run_streamed(starting, "?", run_config=CONFIG, hooks=gated.hooks)
                events = result.stream_events()
                await anext(events)
                await anext(events)
                if leave == "cancel":
                    result.cancel()
                elif leave == "cancel after the turn" and "mode" in result.cancel.__annotations__:
                    result.cancel(mode="after_turn")
                elif leave == "close the events":
                    await events.aclose()
                del result, events
                gc.collect()
                await asyncio.sleep(60)
                assert running(gate) == 0

        at_gate(scenario)

    def test_whose_reader_leaves_the_agent_first_does_not_use_its_place(self):
        async def scenario(gate):
            model = ConcurModel(gate, Scripted(call("look_up", word="x"), text("done")))
            async with gate.agent():
                result = Runner.run_streamed(agent(model, tools=[look_up]), "?", run_config=CONFIG)
                await asyncio.sleep(0.5)
            assert idle(gate)
            async for _ in result.stream_events():
                pass
            assert result.final_output == "done"

        at_gate(scenario)


class TestAModelCalledByHand:
    @staticmethod
    def stream_of(model):
        more = dict.fromkeys(("previous_response_id", "conversation_id", "prompt"))
        return model.stream_response(None, "hi", ModelSettings(), [], None, [], ModelTracing.DISABLED, **more)

    @pytest.mark.parametrize("leave", ["close", "drop", "another task", "break off before it starts"])
    def test_ends_the_turn_of_a_stream_that_is_left(self, leave):
        async def scenario(gate):
            model = Scripted(text("done"), stall=True)
            events = self.stream_of(ConcurModel(gate, model))
            if leave != "break off before it starts":
                await anext(events)
                assert (running(gate), gate.current()) == (1, None)
            if leave == "drop":
                del events
                gc.collect()
            elif leave == "another task":
                await asyncio.create_task(events.aclose(), context=contextvars.Context())
            else:
                await events.aclose()
            await asyncio.sleep(0.01)
            assert idle(gate)
            assert model.closed_streams == (leave != "break off before it starts")

        at_gate(scenario)

    def test_is_in_its_turn_and_its_reader_is_not(self):
        async def scenario(gate):
            model = Scripted(text("done"), gate=gate)
            names = [gate.current() async for _ in self.stream_of(ConcurModel(gate, model))]
            assert names == [None, None]
            assert model.agents == ["call-1"]
            assert idle(gate)

        at_gate(scenario)


class TestARefusal:
    @STREAMED
    @pytest.mark.parametrize(("status", "noted"), [(429, 1), (503, 1), (500, 0), (400, 0)])
    def test_that_fails_a_call_is_noted(self, status, noted, stream):
        async def scenario(gate):
            response = types.SimpleNamespace(status_code=status, headers={}, request=None)
            error = openai.APIStatusError("no", response=response, body=None)
            async with gate.agent():
                await fails(openai.APIStatusError, Gated(gate, "model").run(agent(ConcurModel(gate, Scripted(error)))))
            assert gate.totals.refusals == noted

        at_gate(scenario)

    @STREAMED
    async def test_is_noted_once_where_a_gated_client_is_below_the_model(self, stream, plain, vllm):
        async with ConcurGate(controller="fixed:1") as gate:
            model = OpenAIChatCompletionsModel("tiny", gate.openai(plain.with_options(max_retries=1)))
            vllm.refusals = [503, 429]
            async with gate.agent():
                await fails(
                    openai.RateLimitError, Gated(gate, "model").run(agent(ConcurModel(gate, model)), stream=stream)
                )
            assert gate.totals.refusals == len(vllm.seen) == 2
            assert idle(gate)


class TestHooksThatFail:
    class Failing(RunHooks):
        def __init__(self, event):
            async def fail(*args, **kwargs):
                await asyncio.sleep(0.5)
                raise ZeroDivisionError

            setattr(self, event, fail)

    @STREAMED
    @pytest.mark.parametrize("event", [name for name in dir(RunHooks()) if name.startswith("on_")])
    def test_of_the_users_fail_the_run_and_leave_no_turn(self, event, stream):
        async def scenario(gate):
            hooks = ConcurRunHooks(gate, self.Failing(event))
            last = agent(Scripted(call("look_up", word="x"), text("done")), name="last", tools=[look_up])
            starting = agent(Scripted(call("transfer_to_last")), handoffs=[last])
            async with gate.agent():
                await fails(Exception, Gated(gate, "").run(starting, stream=stream, hooks=hooks))
                await asyncio.sleep(5)
                assert running(gate) == 0

        at_gate(scenario)

    @STREAMED
    @pytest.mark.parametrize("busy", [False, True], ids=["at once", "while the gate's own still wait"])
    def test_beside_the_gates_leave_no_turn_behind_the_run(self, busy, stream):
        class Failing(AgentHooks):
            async def on_llm_start(self, *args, **kwargs):
                await asyncio.sleep(0.5)
                raise ZeroDivisionError

        async def scenario(gate):
            async def one():
                gated = Gated(gate, "hooks")
                async with gate.agent():
                    starting = agent(Scripted(text("done")), hooks=Failing())
                    await fails(ZeroDivisionError, asyncio.create_task(gated.run(starting, stream=stream)))
                    await asyncio.sleep(5)
                    assert running(gate) == 0

            async with contextlib.AsyncExitStack() as other:
                if busy:
                    await other.enter_async_context(gate.agent())
                failing = asyncio.create_task(one(), context=contextvars.Context())
                await asyncio.sleep(3)
            await failing

        at_gate(scenario)
