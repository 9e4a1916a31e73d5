"""The OpenAI Agents SDK at the gate: each model call of a run is a turn of the agent around the run.

```python
model = OpenAIChatCompletionsModel("qwen3", AsyncOpenAI(base_url="http://localhost:8000/v1", api_key="-"))
coder = Agent("coder", model=ConcurModel(gate, model), tools=[…])
async with gate.agent("task-17"):
    result = await Runner.run(coder, "…")
```

Whatever the run does inside that block, handoffs and agents used as tools included, is the one agent "task-17" of
the gate. There are three ways to make its calls turns; should several be in use, the innermost counts:

* `gate.openai(client)` below the model: sees tokens, retries and refusals exactly. The best where there is a client.
* `ConcurModel`, `ConcurModelProvider`: for any other model. A turn ends with its call, however that ends.
* `ConcurRunHooks`: where models are out of reach. The SDK tells its hooks of calls that succeed only.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any, final

from concur_agents.context import dissolve_outer, inside, swap_outer
from concur_agents.errors import MissingExtra

from .openai_usage import usage_of

try:
    from agents import Model, ModelProvider, MultiProvider, RunHooks
    from openai import APIStatusError
except ImportError as missing:
    raise MissingExtra(
        "this needs the OpenAI Agents SDK, 0.4 or newer: pip install 'concur-agents[openai-agents]'"
    ) from missing

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Coroutine, Iterator

    import agents
    from agents.items import ModelResponse, TResponseInputItem, TResponseStreamEvent

    from concur_agents.agent import Agent, Turn
    from concur_agents.context import OuterTurn
    from concur_agents.gate import ConcurGate

_LAST_EVENTS = ("response.completed", "response.incomplete", "response.failed")
"""What a stream of Responses events ends with, and what carries its usage."""


class ConcurModel(Model):
    """A model whose every call is a turn at the gate.

    A turn begins before the call is made (here a paused agent waits), gets the tokens that the answer tells, and ends
    with the call: with its answer, the last event of its stream, an error, a cancellation, or a stream that is closed.
    Calls that the SDK repeats (`ModelSettings.retry`) are a turn each. Outside any agent a call is
    an agent of one turn.

    Everything else that the SDK asks of a model is answered by the one inside.

    Args:
        gate: Where the turns are taken.
        model: The model that answers.

    Raises:
        TypeError: If `model` is not a model.
    """

    def __init__(self, gate: ConcurGate, model: Model) -> None:
        self._gate = gate
        self._model = _checked(model)

    def __getattr__(self, name: str) -> Any:
        if name == "_model":  # before __init__, as copies are made
            raise AttributeError(name)
        return getattr(self._model, name)

    async def get_response(self, *args: Any, **kwargs: Any) -> ModelResponse:
        """The model's answer, as a turn."""
        async with self._gate.turn() as turn:
            with _noting_refusal(turn):
                response = await self._model.get_response(*args, **kwargs)
            _report(turn, response)
        return response

    async def stream_response(self, *args: Any, **kwargs: Any) -> AsyncGenerator[TResponseStreamEvent, None]:
        """The events of the model's answer, as a turn."""
        turn = await self._gate.begin_turn()
        try:
            with inside(turn):
                events = self._model.stream_response(*args, **kwargs)
            try:
                while True:
                    with inside(turn), _noting_refusal(turn):
                        event = await anext(events, None)
                    if event is None:
                        break
                    if event.type in _LAST_EVENTS:
                        _report(turn, getattr(event, "response", None))
                        turn.end()  # readers may leave it at this one
                    yield event
            finally:
                if hasattr(events, "aclose"):
                    await events.aclose()
        finally:
            turn.end()
            if turn.on_end is not None:  # a turn that was dissolved does not end its agent
                turn.on_end()

    async def close(self) -> None:
        """Close the model."""
        await self._model.close()

    def get_retry_advice(self, request: Any) -> Any:
        """What the model says of repeating a call."""
        return self._model.get_retry_advice(request)

    async def _cleanup_on_run_end(self, owner: object) -> None:
        await self._model._cleanup_on_run_end(owner)  # noqa: SLF001  the SDK calls it on each model of a run


class ConcurModelProvider(ModelProvider):
    """A provider whose models are `ConcurModel`: `RunConfig(model_provider=ConcurModelProvider(gate))`.

    It is asked for models that are given by their names, or not at all; an agent with a model object keeps that one.

    Args:
        gate: Where the turns are taken.
        provider: Where the models come from; the SDK's own `MultiProvider` if not given.
    """

    def __init__(self, gate: ConcurGate, provider: ModelProvider | None = None) -> None:
        self._gate = gate
        self._provider = provider or MultiProvider()

    def get_model(self, model_name: str | None) -> Model:
        """The provider's model of that name, gated."""
        return ConcurModel(self._gate, self._provider.get_model(model_name))

    async def aclose(self) -> None:
        """Close the provider."""
        await self._provider.aclose()


@final
class ConcurRunHooks(RunHooks[Any]):
    """Hooks that make the model calls of a run turns: `Runner.run(…, hooks=ConcurRunHooks(gate, my_hooks))`.

    `on_llm_start` begins a turn (here a paused agent waits) and `on_llm_end` ends it with the tokens of the answer. The
    SDK calls no hook when a call fails, is cancelled, or falls to a guardrail. Such a turn ends with the task that made
    the call, when the next call begins there, or with the agent of the gate, whichever is first. So that no place hangs
    on it, a run with these hooks must be inside an agent.

    An agent used as a tool is a run of its own: give `as_tool(…, hooks=…)` the same hooks.

    Args:
        gate: Where the turns are taken.
        inner: Your own hooks; each is called as if it were alone, `on_llm_start` after the wait.

    Raises:
        TypeError: If `inner` is gated already, and for a subclass.
    """

    def __init_subclass__(cls) -> None:
        raise TypeError("ConcurRunHooks cannot be a base class: pass your own hooks, ConcurRunHooks(gate, MyHooks())")

    def __init__(self, gate: ConcurGate, inner: RunHooks[Any] | None = None) -> None:
        if isinstance(inner, ConcurRunHooks):
            raise TypeError("these hooks are gated already: pass the ones that were given to them")
        self._gate = gate
        self._inner: RunHooks[Any] = inner if inner is not None else RunHooks()

    # The SDK gathers hooks, so that the body of an `async def` runs in a task and a context of its own. These are
    # plain functions that return a coroutine: what they do at once is done in the task and the context of the run.

    def on_llm_start(
        self,
        context: agents.RunContextWrapper[Any],
        agent: agents.Agent[Any],
        system_prompt: str | None,
        input_items: list[TResponseInputItem],
    ) -> Coroutine[Any, Any, None]:
        """Begin a turn.

        Raises:
            RuntimeError: If the run is outside any agent of the gate.
            GateClosed: If the gate is closed while the agent is paused.
        """
        owner = self._gate.current()
        call = _Call(owner) if owner is not None else None
        return self._start(call, context, agent, system_prompt, input_items)

    async def _start(self, call: _Call | None, *args: Any) -> None:
        if call is None:
            raise RuntimeError(
                "ConcurRunHooks cannot see the end of a model call that fails, so its runs need an agent to give "
                "the place back: `async with gate.agent(): await Runner.run(…)`. ConcurModel needs none"
            )
        try:
            await call.begin()
            await self._inner.on_llm_start(*args)
        except BaseException:
            call.end()
            raise

    def on_llm_end(
        self, context: agents.RunContextWrapper[Any], agent: agents.Agent[Any], response: ModelResponse
    ) -> Coroutine[Any, Any, None]:
        """Report the tokens of an answer, and end its turn."""
        call = _Call.leave()
        if call is not None:
            if call.turn is not None:
                _report(call.turn, response)
            call.end()
        return self._inner.on_llm_end(context, agent, response)

    async def on_agent_start(self, *args: Any, **kwargs: Any) -> None:
        """Pass on."""
        await self._inner.on_agent_start(*args, **kwargs)

    async def on_agent_end(self, *args: Any, **kwargs: Any) -> None:
        """Pass on."""
        await self._inner.on_agent_end(*args, **kwargs)

    async def on_handoff(self, *args: Any, **kwargs: Any) -> None:
        """Pass on."""
        await self._inner.on_handoff(*args, **kwargs)

    async def on_tool_start(self, *args: Any, **kwargs: Any) -> None:
        """Pass on."""
        await self._inner.on_tool_start(*args, **kwargs)

    async def on_tool_end(self, *args: Any, **kwargs: Any) -> None:
        """Pass on."""
        await self._inner.on_tool_end(*args, **kwargs)


class _Call:
    """A model call that the hooks have seen begin, and the turn around it as soon as that has begun.

    Made in the task and the context of the run, where turns inside the call (of a gated client) and the end of the
    call find it. The next call in that context finds it too, and dissolves it if it has failed and so has no end.
    """

    def __init__(self, agent: Agent) -> None:
        self.agent = agent
        self.turn: Turn | None = None
        self.over = False
        self._task = asyncio.current_task()
        if self._task is not None:
            self._task.add_done_callback(self._task_done)
        dissolve_outer(agent.place)
        around = swap_outer(self)
        while isinstance(around, _Call) and around.over:  # one that failed
            around = around.around
        self.around: OuterTurn | None = around

    @staticmethod
    def leave() -> _Call | None:
        """Be in the call of this context no longer; returns it, if there is one."""
        call = swap_outer(None)
        swap_outer(call.around if isinstance(call, _Call) else call)
        return call if isinstance(call, _Call) else None

    async def begin(self) -> None:
        """Begin the turn; waits here if its agent has to pause."""
        turn = await self.agent.begin_turn()
        if self.over:  # nobody waits for it any more: a hook beside it has failed, and the run with it
            turn.dissolve()
        else:
            self.turn = turn

    def end(self) -> None:
        """End the turn; may be called again, and in any context."""
        self._close()
        if self.turn is not None:
            self.turn.end()

    def dissolve(self) -> None:
        """Be only a place to pause; not before that, as the pause is inside this call's context too."""
        if self.turn is not None:
            self._close()
            self.turn.dissolve()

    def _close(self) -> None:
        self.over = True
        if self._task is not None:
            self._task.remove_done_callback(self._task_done)

    def _task_done(self, _: asyncio.Task[Any]) -> None:
        self.end()


def _checked(model: object) -> Model:
    if isinstance(model, Model):
        return model
    if isinstance(model, str):
        raise TypeError(
            f"ConcurModel takes a model, not its name: leave {model!r} with the agent, and give the run "
            "RunConfig(model_provider=ConcurModelProvider(gate))"
        )
    raise TypeError(f"ConcurModel takes a model of the OpenAI Agents SDK, not a {type(model).__qualname__}")


@contextlib.contextmanager
def _noting_refusal(turn: Turn) -> Iterator[None]:
    """Note that a model was refused by its server, if no client inside has a turn of its own and has noted it."""
    try:
        yield
    except APIStatusError as error:
        if error.status_code in {429, 503} and not turn.ended:
            turn.note_refusal()
        raise


def _report(turn: Turn, response: object) -> None:
    """Report what the SDK made of the usage.

    Where the server told none, the SDK says 0 tokens; where it told nothing of its cache, 0 cached ones. So a prompt
    of 0 is none, and 0 cached tokens count only at a gate that has been told of more.
    """
    usage = usage_of(response)
    if usage is None or usage[0] == 0:
        return
    prompt, output, cached = usage
    if not cached and not turn.agent.desk.totals.cached_tokens:
        cached = None
    turn.report(prompt_tokens=prompt, completion_tokens=output, cached_tokens=cached)
