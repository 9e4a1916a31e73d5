"""`ConcurMiddleware`: every model call of a `create_agent` agent is a turn."""

from __future__ import annotations

import logging
from contextlib import AsyncExitStack, ExitStack
from typing import TYPE_CHECKING, Any

from concur_agents.errors import MissingExtra

from .langchain_usage import report_messages

try:
    from langchain.agents.middleware import AgentMiddleware
except ImportError as missing:
    raise MissingExtra("LangChain is not installed: pip install 'concur-agents[langchain]'") from missing

from .langchain_pauses import loop_beside

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from langchain.agents.middleware import ModelRequest, ModelResponse

    from concur_agents.gate import ConcurGate

    from .openai_usage import TurnOfRequest

log = logging.getLogger("concur_agents")


class ConcurMiddleware(AgentMiddleware):
    """Middleware that makes every model call a turn of the current agent.

    ```python
    agent = gate.graph(create_agent(model, tools=[search], middleware=[ConcurMiddleware(gate)]))
    ```

    The agent can be paused before the call; its tokens are read from the answer; the time between two calls is its
    tool wait. If the model's client is gated too (`chat_openai`, `gate.openai`), that one's calls are the turns.
    As the first in the list it pauses before all other middleware of the call; as the last, each retry is a turn.

    The middleware makes no agent of a run: `gate.graph` around the graph does, or `async with gate.agent()` around its
    call. `after_agent` could not end one, an interrupted run never gets there. Without either, each call is an agent
    of one turn, and the log says so once.

    Args:
        gate: Whose turns these are.
        kind: The kind of the agent that a call is outside any agent.
    """

    def __init__(self, gate: ConcurGate, kind: str | None = None) -> None:
        super().__init__()
        self.tools = []
        self._gate = gate
        self._kind = kind
        self._said = False

    async def awrap_model_call(
        self, request: ModelRequest[Any], handler: Callable[[ModelRequest[Any]], Awaitable[ModelResponse[Any]]]
    ) -> Any:
        """Begin a turn, call the model, report its tokens, end the turn."""
        async with AsyncExitStack() as held:
            if self._gate.current() is None:
                self._say_what_to_write()
                await held.enter_async_context(self._gate.agent(kind=self._kind or "single-turn"))
            turn = await held.enter_async_context(self._gate.turn())
            response = await handler(request)
            _report(turn, response)
        return response

    def wrap_model_call(
        self, request: ModelRequest[Any], handler: Callable[[ModelRequest[Any]], ModelResponse[Any]]
    ) -> Any:
        """The same in a thread: blocks it until the agent has its turn.

        Raises:
            WrongLoop: In a thread that runs an event loop; the message says what to do.
        """
        loop_beside(self._gate)
        with ExitStack() as held:
            if self._gate.current() is None:
                self._say_what_to_write()
                held.enter_context(self._gate.sync.agent(kind=self._kind or "single-turn"))
            turn = held.enter_context(self._gate.sync.turn())
            response = handler(request)
            _report(turn, response)
        return response

    def _say_what_to_write(self) -> None:
        if not self._said:
            self._said = True
            log.warning(
                "ConcurMiddleware: this run is no agent, so each of its model calls counts as an agent of one turn and "
                "its context is forgotten after it; write agent = gate.graph(create_agent(…)), or run it inside "
                "`async with gate.agent():`, or `with gate.sync.agent():`"
            )


def _report(turn: TurnOfRequest, response: Any) -> None:
    response = getattr(response, "model_response", response)
    report_messages(turn, getattr(response, "result", [response]))
