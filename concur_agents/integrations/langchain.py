"""LangChain at the gate: a middleware, a callback handler, a rate limiter and a `ChatOpenAI`.

```python
from concur_agents.integrations.langchain import ConcurMiddleware, chat_openai

model = chat_openai(gate, model="qwen3")
agent = gate.graph(create_agent(model, tools=[search]))
```

What each needs is imported when it is asked for: the handler and the rate limiter do with langchain-core alone.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .langchain_callbacks import ConcurCallbackHandler
    from .langchain_middleware import ConcurMiddleware
    from .langchain_models import chat_openai
    from .langchain_pauses import gate_rate_limiter

__all__ = ["ConcurCallbackHandler", "ConcurMiddleware", "chat_openai", "gate_rate_limiter"]

_HOMES = {
    "ConcurCallbackHandler": "langchain_callbacks",
    "ConcurMiddleware": "langchain_middleware",
    "chat_openai": "langchain_models",
    "gate_rate_limiter": "langchain_pauses",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f".{_HOMES[name]}", __package__), name)
