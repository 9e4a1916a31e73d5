"""`/v1/chat/completions`: conversations in, messages and tool calls out.

The shapes are those of vLLM 0.32 entrypoints/openai/chat_completion (protocol.py, serving.py).
"""

from __future__ import annotations

from itertools import accumulate
from typing import TYPE_CHECKING, Any

from concur_agents.simulation.filler import choose, seed_of
from concur_agents.simulation.schema_rules import SchemaError
from concur_agents.simulation.tokens import unpacked
from concur_agents.simulation.wire import ApiError, malformed

if TYPE_CHECKING:
    from concur_agents.simulation.filler import Filler, Length, Output

_TOOL_CHOICE_USAGE = 'Correct usage: `{"type": "function", "function": {"name": "my_function"}}`'


class Chat:
    """A chat request, read and checked.

    Args:
        body: The request.
        model: Name of the model, for errors.
        tool_rounds: With `tool_choice` `auto`, tools are called until the conversation holds so many results.

    Attributes:
        messages: The conversation.
        tools: The tools, as given; None without any.

    Raises:
        ApiError: If it makes no sense.
    """

    prefix = "chatcmpl-"
    whole = "chat.completion"
    piece = "chat.completion.chunk"

    def __init__(self, body: dict[str, Any], *, model: str, tool_rounds: int) -> None:
        self.messages = _checked_messages(body.get("messages"), model)
        self.tools = _checked_tools(body.get("tools"))
        self._choice = _checked_choice(body, self.tools)
        self._format = _checked_format(body.get("response_format"))
        self._tool_rounds = tool_rounds

    def output(self, filler: Filler, prompt: bytes, seed: object, length: Length) -> Output:
        """What is answered.

        Args:
            filler: Writes it.
            prompt: The packed ids of the conversation.
            seed: The request's seed.
            length: How long it is to be.

        Raises:
            ApiError: If a schema cannot be met.
        """
        drawn = seed_of(prompt, seed)
        function = self._function(drawn)
        try:
            if function is not None:
                return filler.tool_call(drawn, function, length)
            if self._format is not None:
                return filler.json_text(drawn, self._format, length)
        except SchemaError as error:
            where = "response_format" if function is None else "tools"
            of = "" if function is None else f" of the tool `{function['name']}`"
            raise ApiError(f"The schema{of} cannot be met: {error}.", where) from None
        return filler.words(drawn, length)

    def _function(self, drawn: bytes) -> dict[str, Any] | None:
        """The function to call."""
        tools, choice = self.tools, self._choice
        if tools is None or choice == "none":
            return None
        functions: list[dict[str, Any]] = [tool["function"] for tool in tools]
        if isinstance(choice, dict):
            name = choice["function"]["name"]
            return next(function for function in functions if function["name"] == name)
        results = sum(message["role"] == "tool" for message in self.messages)
        if choice == "auto" and results >= self._tool_rounds:
            return None
        function: dict[str, Any] = choose(drawn, functions)
        return function

    # --- the answer ---------------------------------------------------------------------------------------------------

    def choice(self, index: int, prompt: bytes, output: Output, answer_id: str, *, ids: bool) -> dict[str, Any]:  # noqa: ARG002  as Completion's
        """The choice of an answer in one piece."""
        text = "".join(output.pieces)
        call = output.call
        message: dict[str, Any] = {
            "role": "assistant",
            "content": text[: output.said],
            "refusal": None,
            "annotations": None,
            "audio": None,
            "function_call": None,
        }
        told = call is not None and len(text) > call.start
        if call is not None and told:
            function = {"name": call.name, "arguments": text[call.start : call.end]}
            message["tool_calls"] = [{"id": _call_id(answer_id), "type": "function", "function": function}]
            if self._choice == "auto":
                message["content"] = message["content"] or None
        message["reasoning"] = None
        return {
            "index": index,
            "message": message,
            "logprobs": None,
            "finish_reason": self._reason(output, told=told and self._choice == "auto"),
            "stop_reason": None,
            "token_ids": unpacked(output.ids) if ids else None,
            "routed_experts": None,
        }

    def _reason(self, output: Output, *, told: bool = False) -> str:
        """Why the answer ended: a tool that had to be called by name counts as `stop`, as in the OpenAI API."""
        ended_in_call = (
            output.call is not None and output.finish_reason == "stop" and not isinstance(self._choice, dict)
        )
        return "tool_calls" if ended_in_call or told else output.finish_reason

    def whole_extras(self, prompt: bytes, *, ids: bool) -> dict[str, Any]:
        """What an answer in one piece tells beside its choices."""
        return {
            "prompt_logprobs": None,
            "prompt_token_ids": unpacked(prompt) if ids else None,
            "prompt_text": None,
            "kv_transfer_params": None,
            "ec_transfer_params": None,
            "metrics": None,
        }

    def opening(self, prompt: bytes, *, ids: bool) -> dict[str, Any] | None:
        """The first piece of a stream: the role."""
        choice = {"index": 0, "delta": {"role": "assistant", "content": ""}, "logprobs": None, "finish_reason": None}
        return {"choices": [choice], "prompt_token_ids": unpacked(prompt) if ids else None}

    def pieces(self, index: int, prompt: bytes, output: Output, answer_id: str, *, ids: bool) -> Deltas:  # noqa: ARG002  as Completion's
        """What makes the further pieces of a stream."""
        return Deltas(output, self._reason(output), _call_id(answer_id), ids=ids)


class Deltas:
    """The pieces of one streamed message.

    Args:
        output: What it says.
        reason: Why it ends.
        call_id: Id of its tool call.
        ids: Whether the pieces tell the ids of their tokens.
    """

    def __init__(self, output: Output, reason: str, call_id: str, *, ids: bool) -> None:
        self._output = output
        self._reason = reason
        self._call_id = call_id
        self._ids = unpacked(output.ids) if ids else None
        self._text = "".join(output.pieces)
        self._ends = list(accumulate(map(len, output.pieces), initial=0))

    def between(self, start: int, stop: int) -> dict[str, Any] | None:
        """The choice that tells the tokens from `start` to `stop`; None if there is nothing to tell of them yet."""
        last = stop == len(self._output.pieces)
        delta = self._delta(self._ends[start], self._ends[stop])
        if not delta and not last and self._ids is None:
            return None
        choice: dict[str, Any] = {
            "index": 0,
            "delta": delta,
            "logprobs": None,
            "finish_reason": self._reason if last else None,
        }
        if last:
            choice["stop_reason"] = None
        choice["token_ids"] = None if self._ids is None else self._ids[start:stop]
        return choice

    def _delta(self, begin: int, end: int) -> dict[str, Any]:
        output, text, call = self._output, self._text, self._output.call
        delta: dict[str, Any] = {}
        if begin < output.said:
            delta["content"] = text[begin : min(end, output.said)]
        if call is None or end <= call.start:
            return delta
        if begin <= call.start:
            function = {"name": call.name, "arguments": text[call.start : min(end, call.end)]}
            delta["tool_calls"] = [{"id": self._call_id, "type": "function", "index": 0, "function": function}]
        elif begin < call.end:
            delta["tool_calls"] = [{"index": 0, "function": {"arguments": text[begin : min(end, call.end)]}}]
        return delta


def _call_id(answer_id: str) -> str:
    return f"chatcmpl-tool-{answer_id.partition('-')[2]}"


# --- checks -----------------------------------------------------------------------------------------------------------


def _checked_messages(messages: Any, model: str) -> list[dict[str, Any]]:
    if not isinstance(messages, list):
        raise malformed("1 validation error: messages: a list of messages is required", "body.messages")
    if not messages:
        raise ApiError("`messages` must not be empty.", "messages")
    for at, message in enumerate(messages):
        where = f"body.messages.{at}"
        if not isinstance(message, dict) or not isinstance(message.get("role"), str):
            raise malformed("1 validation error: a message must be an object with a `role`", f"{where}.role")
        _check_content(message.get("content"), where, model)
        calls = message.get("tool_calls")
        if calls is not None and not (isinstance(calls, list) and all(map(_is_call, calls))):
            raise malformed(
                "1 validation error: a tool call must have a `function` with a `name` and `arguments` as a string",
                f"{where}.tool_calls",
            )
    return messages


def _check_content(content: Any, where: str, model: str) -> None:
    if content is None or isinstance(content, str):
        return
    if not isinstance(content, list):
        raise malformed("1 validation error: `content` must be a string or a list of parts", f"{where}.content")
    for part in content:
        if isinstance(part, str) or (isinstance(part, dict) and isinstance(part.get("text"), str)):
            continue
        kind = part.get("type") if isinstance(part, dict) else None
        if isinstance(kind, str) and kind != "text":
            raise ApiError(f"{model} is not a multimodal model: it reads text only, not `{kind}`.", "messages")
        raise malformed("1 validation error: a part must be an object with a `text`", f"{where}.content")


def _is_call(call: Any) -> bool:
    function = call.get("function") if isinstance(call, dict) else None
    return (
        isinstance(function, dict)
        and isinstance(function.get("name"), str)
        and isinstance(function.get("arguments", ""), str | None)
    )


def _checked_tools(tools: Any) -> list[dict[str, Any]] | None:
    if tools is None:
        return None
    if not isinstance(tools, list):
        raise malformed("1 validation error: tools: Input should be a valid list", "body.tools")
    if not tools:
        raise ApiError(
            "`tools` must not be an empty array. Either provide at least one tool or omit the field entirely.", "tools"
        )
    for at, tool in enumerate(tools):
        function = tool.get("function") if isinstance(tool, dict) else None
        name = function.get("name") if isinstance(function, dict) else None
        if not isinstance(name, str) or not name:
            raise malformed("1 validation error: a tool must have a `function` with a `name`", f"body.tools.{at}")
    return tools


def _checked_choice(body: dict[str, Any], tools: list[dict[str, Any]] | None) -> str | dict[str, Any]:
    choice = body.get("tool_choice")
    if choice is None:
        return "auto" if tools else "none"
    if choice == "none":
        return "none"
    if tools is None:
        raise ApiError("When using `tool_choice`, `tools` must be set.", "tool_choice")
    if choice in ("auto", "required"):
        return str(choice)
    if not isinstance(choice, dict):
        raise ApiError(
            f"Invalid value for `tool_choice`: {choice!r}! Only named tools, "
            '"none", "auto" or "required" are supported.',
            "tool_choice",
        )
    function = choice.get("function")
    name = function.get("name") if isinstance(function, dict) else None
    if not isinstance(name, str) or not name:
        raise ApiError(f"Invalid `function` in `tool_choice`! {_TOOL_CHOICE_USAGE}", "tool_choice.function")
    if name not in [tool["function"]["name"] for tool in tools]:
        raise ApiError("The tool specified in `tool_choice` does not match any of the specified `tools`", "tool_choice")
    return choice


def _checked_format(response_format: Any) -> Any:
    """The schema that the text must meet; None for any text."""
    if response_format is None:
        return None
    kind = response_format.get("type") if isinstance(response_format, dict) else None
    if kind == "text":
        return None
    if kind == "json_object":
        return {"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]}
    if kind != "json_schema":
        raise ApiError(
            "`response_format` must be of the type `text`, `json_object` or `json_schema` here.", "response_format"
        )
    told = response_format.get("json_schema")
    if not isinstance(told, dict):
        raise ApiError(
            "When response_format type is 'json_schema', the 'json_schema' field must be provided.", "response_format"
        )
    return told.get("schema", True)
