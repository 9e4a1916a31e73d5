"""`chat_openai(gate, model=…)`: a `ChatOpenAI` whose calls are turns and whose streams tell their tokens."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit, urlunsplit

from concur_agents.errors import MissingExtra

from .openai import wrap_openai

try:
    from langchain_openai import ChatOpenAI
except ImportError as missing:
    raise MissingExtra("langchain-openai is not installed: pip install 'concur-agents[langchain]'") from missing

if TYPE_CHECKING:
    from concur_agents.gate import ConcurGate


def chat_openai(gate: ConcurGate, *, model: str, base_url: str | None = None, **kwargs: Any) -> ChatOpenAI:
    """A `ChatOpenAI` on the gate's server, each of whose calls is a turn of the current agent.

    `ainvoke`, `astream`, `abatch`, `bind_tools`, `with_structured_output` and the Responses API are gated, and all
    that is asked of the SDK's clients (timeouts, retries, headers, HTTP clients) stays as given. Streams tell their
    usage (`stream_usage=True`), which `ChatOpenAI` does not ask of a server other than OpenAI's. `invoke`, `stream` and
    `batch` are gated too, in threads: inside `with gate.sync.agent():`, or in synchronous nodes and tools.

    Args:
        gate: Where the turns are taken.
        model: As the server calls it.
        base_url: The API, such as `http://localhost:8000/v1`; that of the gate's server if not given.
        kwargs: Anything else that `ChatOpenAI` takes. Without an `api_key` here or in `OPENAI_API_KEY`, it is `EMPTY`,
            which vLLM takes unless it was started with a key.

    Raises:
        ValueError: If there is no `base_url` and the gate has no server.
    """
    if base_url is None:
        if gate.config.url is None:
            raise ValueError("this gate has no server: give chat_openai() a base_url, such as http://localhost:8000/v1")
        parts = urlsplit(gate.config.url)
        path = parts.path.rstrip("/").removesuffix("/v1").removesuffix("/metrics") + "/v1"
        base_url = urlunsplit((parts.scheme, parts.netloc, path, "", ""))
    if not {"api_key", "openai_api_key"} & set(kwargs) and not os.environ.get("OPENAI_API_KEY"):
        kwargs["api_key"] = "EMPTY"
    kwargs.setdefault("stream_usage", True)
    chat = ChatOpenAI(model=model, base_url=base_url, **kwargs)
    chat.root_async_client = wrap_openai(gate, chat.root_async_client)
    chat.async_client = chat.root_async_client.chat.completions
    if chat.root_client is not None:  # there is none where the API key is a coroutine's
        chat.root_client = wrap_openai(gate, chat.root_client)
        chat.client = chat.root_client.chat.completions
    return chat
