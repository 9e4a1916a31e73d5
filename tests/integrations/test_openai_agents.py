"""The OpenAI Agents SDK at a real gate with room for one agent: turns, and whose they are."""

from __future__ import annotations

import asyncio
import importlib
import inspect
import sys

import pytest
from agents import ModelProvider, MultiProvider, RunConfig, RunHooks, Runner
from agents.lifecycle import RunHooksBase

from concur_agents import ConcurGate
from concur_agents.errors import MissingExtra
from concur_agents.integrations.openai_agents import ConcurModel, ConcurModelProvider, ConcurRunHooks
from concur_agents.replay.in_process import open_in_process
from concur_agents.simulation.profile import EngineProfile
from concur_agents.simulation.virtual_time import run

from .openai_agents_standins import CONFIG, Scripted, agent, call, look_up, on_engine, text

HOWS = ["model", "hooks", "model and hooks"]


class Gated:
    """One way of putting an agent at the gate."""

    def __init__(self, gate, how):
        self.gate = gate
        self.how = how
        self.hooks = ConcurRunHooks(gate) if "hooks" in how else None

    def model(self, model):
        return ConcurModel(self.gate, model) if "model" in self.how else model

    async def run(self, starting, *, stream=False, **options):
        options = {"run_config": CONFIG, "hooks": self.hooks} | options
        if not stream:
            return await Runner.run(starting, "what is a word?", **options)
        result = Runner.run_streamed(starting, "what is a word?", **options)
        async for _ in result.stream_events():
            pass
        return result


def idle(gate):
    stats = gate.stats()
    return (stats.active, stats.running, stats.paused, stats.queued) == (0, 0, 0, 0)


def at_gate(scenario, *args, **options):
    """Run a scenario in virtual time at a gate for one agent, and look that it is empty afterwards."""

    async def main():
        async with ConcurGate(controller="fixed:1") as gate:
            result = await scenario(gate, *args, **options)
            await asyncio.sleep(1)
            assert idle(gate), gate.stats()
            return result

    return run(main())


STREAMED = pytest.mark.parametrize("stream", [False, True], ids=["run", "run_streamed"])
GATED = pytest.mark.parametrize("how", HOWS)


@STREAMED
@GATED
class TestARun:
    def test_takes_a_turn_for_each_call_with_its_tokens_and_none_for_its_tools(self, how, stream):
        async def scenario(gate):
            gated = Gated(gate, how)
            model = Scripted(call("look_up", word="x"), call("look_up", word="y"), text("done"), gate=gate)
            async with gate.agent("task") as task:
                result = await gated.run(agent(gated.model(model), tools=[look_up]), stream=stream)
            assert result.final_output == "done"
            assert model.running == [1, 1, 1]
            assert (task.turns, task.prompt_tokens, task.output_tokens, task.cached_tokens) == (3, 306, 21, 144)
            assert task.tool_wait_s == pytest.approx(4)

        at_gate(scenario)

    def test_is_paused_before_its_next_call_while_another_one_has_the_place(self, how, stream):
        async def scenario(gate):
            gated = Gated(gate, how)

            async def one(name):
                model = Scripted(call("look_up", word="x"), text(name), gate=gate)
                async with gate.agent(name):
                    await gated.run(agent(gated.model(model), tools=[look_up]), stream=stream)
                return model.agents, asyncio.get_running_loop().time()

            (first, first_at), (second, second_at) = await asyncio.gather(one("a"), one("b"))
            assert (first, second) == (["a", "a"], ["b", "b"])
            assert second_at - first_at == pytest.approx(4)  # two calls of 1 s and a tool of 2 s, after the other's

        at_gate(scenario)

    def test_stays_one_agent_over_a_handoff(self, how, stream):
        async def scenario(gate):
            gated = Gated(gate, how)
            model = Scripted(call("transfer_to_reviewer"), call("look_up", word="x"), text("reviewed"), gate=gate)
            reviewer = agent(gated.model(model), name="reviewer", tools=[look_up])
            async with gate.agent("task") as task:
                result = await gated.run(agent(gated.model(model), handoffs=[reviewer]), stream=stream)
            assert (result.final_output, result.last_agent.name) == ("reviewed", "reviewer")
            assert model.agents == ["task"] * 3
            assert task.turns == 3

        at_gate(scenario)

    def test_stays_one_agent_with_an_agent_as_its_tool(self, how, stream):
        async def scenario(gate):
            gated = Gated(gate, how)
            inside = Scripted(call("look_up", word="x"), text("found"), gate=gate)
            outside = Scripted(call("ask", input="?"), text("done"), gate=gate)
            helper = agent(gated.model(inside), name="helper", tools=[look_up])
            tool = helper.as_tool(tool_name="ask", tool_description="Ask.", hooks=gated.hooks, run_config=CONFIG)
            async with gate.agent("task") as task:
                result = await gated.run(agent(gated.model(outside), tools=[tool]), stream=stream)
            assert result.final_output == "done"
            assert outside.agents + inside.agents == ["task"] * 4
            assert outside.running + inside.running == [1] * 4
            assert task.turns == 4

        at_gate(scenario)

    def test_may_be_inside_a_turn_of_the_users_which_is_then_only_a_pause_point(self, how, stream):
        async def scenario(gate):
            gated = Gated(gate, how)
            async with gate.agent("task") as task, task.turn():
                await gated.run(agent(gated.model(Scripted(text("done")))), stream=stream)
            assert task.turns == 1

        at_gate(scenario)


class TestOnTheEmbeddedEngine:
    """Through the SDK's own chat completions model, with tools, in every combination with a gated client."""

    @STREAMED
    @pytest.mark.parametrize("how", ["client", "client and model", "client and hooks", *HOWS, "client and all"])
    def test_each_way_counts_the_same_turns_and_tokens(self, how, stream):
        async def main():
            async with (
                open_in_process(EngineProfile.from_hardware("qwen3-8b", "a10")) as server,
                ConcurGate(controller="fixed:1") as gate,
            ):
                gated = Gated(gate, "model and hooks" if how == "client and all" else how)
                client = gate.openai(server.client) if "client" in how else server.client
                other = agent(gated.model(on_engine(server, client)), name="other", tools=[look_up])
                first = agent(gated.model(on_engine(server, client)), handoffs=[other])

                async def one(name):
                    async with gate.agent(name) as task:
                        result = await gated.run(first, stream=stream)
                    assert result.last_agent.name == "other"
                    usage = result.context_wrapper.usage
                    if usage.input_tokens:  # a stream whose usage is hidden tells the SDK nothing, and the gate all
                        assert (task.prompt_tokens, task.output_tokens) == (usage.input_tokens, usage.output_tokens)
                    assert task.turns == len(result.raw_responses)
                    return task

                tasks = await asyncio.gather(*(one(f"task-{n}") for n in range(3)))
                assert idle(gate)
                return [(task.turns, task.prompt_tokens > 100, task.cached_tokens > 0) for task in tasks]

        told = run(main())
        silent = stream and "client" not in how  # the SDK asks for no usage in streams of other servers
        assert told == [(told[0][0], not silent, not silent)] * 3
        assert told[0][0] >= 3

    def test_calls_of_a_gated_client_carry_the_session_and_are_not_counted_twice(self):
        async def main():
            profile = EngineProfile.from_hardware("qwen3-8b", "a10")
            async with open_in_process(profile) as server, ConcurGate(controller="fixed:1") as gate:
                model = ConcurModel(gate, on_engine(server, gate.openai(server.client)))
                await Runner.run(agent(model), "hi", run_config=CONFIG)  # outside any agent
                assert idle(gate)
                return gate.stats().finished, gate.stats().turns

        assert run(main()) == (1, 1)


class TestOutsideAnyAgent:
    @STREAMED
    def test_a_model_makes_each_call_an_agent_of_one_turn_which_is_logged_once(self, stream, caplog):
        async def scenario(gate):
            model = Scripted(call("look_up", word="x"), text("done"), gate=gate)
            await Gated(gate, "model").run(agent(ConcurModel(gate, model), tools=[look_up]), stream=stream)
            assert (gate.stats().finished, gate.stats().turns) == (2, 2)
            assert gate.current() is None

        at_gate(scenario)
        assert sum("outside any agent" in record.message for record in caplog.records) == 1

    @STREAMED
    def test_hooks_say_what_to_do(self, stream):
        async def scenario(gate):
            model = Scripted(text("done"))
            with pytest.raises(RuntimeError, match=r"async with gate\.agent\(\): await Runner\.run"):
                await Gated(gate, "hooks").run(agent(model), stream=stream)
            assert model.calls == 0

        at_gate(scenario)


class TestTheModel:
    def test_is_asked_for_everything_else_through_the_gated_one(self):
        async def scenario(gate):
            model = Scripted(text("done"))
            gated = ConcurModel(gate, model)
            assert gated.model == "scripted"
            assert not hasattr(gated, "nothing_of_the_kind")
            await gated.close()
            assert model.closed == 1
            if hasattr(model, "get_retry_advice"):
                model.get_retry_advice = lambda request: ("advice", request)
                assert gated.get_retry_advice(7) == ("advice", 7)

        at_gate(scenario)

    def test_cannot_be_a_name_or_something_else(self):
        gate = ConcurGate(controller="none")
        with pytest.raises(TypeError, match="leave 'gpt-x' with the agent"):
            ConcurModel(gate, "gpt-x")
        with pytest.raises(TypeError, match="not a NoneType"):
            ConcurModel(gate, None)

    def test_of_a_provider_is_gated_too(self):
        class Provider(ModelProvider):
            closed = 0

            def get_model(self, model_name):
                assert model_name == "by name"
                return Scripted(text("done"))

            async def aclose(self):
                self.closed += 1

        async def scenario(gate):
            inner = Provider()
            provider = ConcurModelProvider(gate, inner)
            config = RunConfig(tracing_disabled=True, model_provider=provider)
            async with gate.agent() as task:
                await Runner.run(agent("by name"), "hi", run_config=config)
            assert task.turns == 1
            await provider.aclose()
            assert inner.closed == 1
            assert isinstance(ConcurModelProvider(gate)._provider, MultiProvider)

        at_gate(scenario)

    def test_that_tells_nothing_of_the_cache_counts_as_telling_nothing(self):
        async def scenario(gate):
            async with gate.agent() as task:
                for cached in (0, 0, 48, 0):
                    model = Scripted(text("done"), cached=cached)
                    await Runner.run(agent(ConcurModel(gate, model)), "hi", run_config=CONFIG)
            # Only the last two count: before a server tells of its cache, nothing cached may be nothing told.
            assert gate.totals.reusable_tokens == 202
            return task.recomputed_tokens

        assert at_gate(scenario) == 53 + 101

    def test_that_tells_no_tokens_gives_a_turn_without_a_weight(self):
        async def scenario(gate):
            async with gate.agent(expected_tokens=500) as task:
                await Runner.run(agent(ConcurModel(gate, Scripted(text("done"), told=False))), "hi", run_config=CONFIG)
                assert (task.turns, task.footprint) == (1, 500)

        at_gate(scenario)


class TestTheUsersOwnHooks:
    def test_get_every_event_as_if_they_were_alone(self):
        class Noting(RunHooks):
            def __init__(self):
                self.seen = []

        def noting(name):
            async def note(self, *args, **kwargs):
                self.seen.append((name, len(args) + len(kwargs)))

            return note

        events = [name for name, _ in inspect.getmembers(RunHooksBase) if name.startswith("on_")]
        for name in events:
            setattr(Noting, name, noting(name))

        async def scenario(gate):
            seen = []
            for wrap in (lambda hooks: hooks, lambda hooks: ConcurRunHooks(gate, hooks)):
                hooks = Noting()
                last = agent(Scripted(call("look_up", word="x"), text("done")), name="last", tools=[look_up])
                async with gate.agent():
                    first = agent(Scripted(call("transfer_to_last")), handoffs=[last])
                    await Runner.run(first, "hi", run_config=CONFIG, hooks=wrap(hooks))
                seen.append(hooks.seen)
            assert seen[0] == seen[1]
            assert {name for name, _ in seen[0]} == set(events)

        at_gate(scenario)

    def test_see_the_start_of_a_call_after_the_wait_and_its_end_after_the_turn(self):
        class Timed(RunHooks):
            async def on_llm_start(self, *args):
                self.running = gate_of[0].stats().running
                self.at = asyncio.get_running_loop().time()

            async def on_llm_end(self, *args):
                self.left = gate_of[0].stats().running

        gate_of = []

        async def scenario(gate):
            gate_of.append(gate)
            hooks = Timed()

            async def late():
                async with gate.agent():
                    gated = ConcurRunHooks(gate, hooks)
                    await Runner.run(agent(Scripted(text("done"))), "hi", run_config=CONFIG, hooks=gated)

            async with gate.agent():
                waiting = asyncio.create_task(late(), context=__import__("contextvars").Context())
                await asyncio.sleep(5)
            await waiting
            assert (hooks.running, hooks.at, hooks.left) == (1, 5, 0)

        at_gate(scenario)

    def test_are_passed_in_and_neither_gated_twice_nor_made_of_these(self):
        gate = ConcurGate(controller="none")
        with pytest.raises(TypeError, match="gated already"):
            ConcurRunHooks(gate, ConcurRunHooks(gate))
        with pytest.raises(TypeError, match=r"ConcurRunHooks\(gate, MyHooks\(\)\)"):
            type("Mine", (ConcurRunHooks,), {})


def test_without_the_sdk_the_error_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "agents", None)
    monkeypatch.delitem(sys.modules, "concur_agents.integrations.openai_agents")
    with pytest.raises(MissingExtra, match=r"pip install 'concur-agents\[openai-agents\]'"):
        importlib.import_module("concur_agents.integrations.openai_agents")
