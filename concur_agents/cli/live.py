"""A live server for a command, or what is missing to talk to one."""

from __future__ import annotations

import os
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from concur_agents.engines import metrics_url
from concur_agents.errors import MissingExtra

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from concur_agents.replay.results import RunResult
    from concur_agents.replay.server import LiveServer

_EXTRAS = {"openai", "langgraph", "langchain_core"}


@asynccontextmanager
async def live_server(
    url: str, model_name: str | None
) -> AsyncIterator[tuple[LiveServer, Callable[..., Awaitable[RunResult]]]]:
    """A server that answers, and `run_live`, which replays a workload on it.

    The API key is that of the environment variable OPENAI_API_KEY.

    Args:
        url: Its address.
        model_name: The model to ask; None: the first of its list.

    Raises:
        MissingExtra: If a package that a replay needs is not installed.
        ConcurError: If the server does not answer or has no metrics.
    """
    open_server, run_live = needed_packages()
    api_key = os.environ.get("OPENAI_API_KEY") or "EMPTY"
    async with open_server(url, model_name=model_name, api_key=api_key) as server:
        yield server, run_live


def check_live(url: str, *, hardware: str | None = None, fit: str | None = None) -> None:
    """Refuse an address that is none, and options that are of no use with one.

    Raises:
        ValueError: If something is wrong.
    """
    if hardware is not None or fit is not None:
        raise ValueError("--hardware and --fit choose an engine to simulate; with --url a real server is asked")
    metrics_url(url)


def needed_packages() -> tuple[Any, Any]:
    """`open_server` and `run_live`.

    Raises:
        MissingExtra: If a package that they need is not installed.
    """
    try:
        from concur_agents.replay.runner import run_live  # noqa: PLC0415  an extra
        from concur_agents.replay.server import open_server  # noqa: PLC0415  an extra
    except ImportError as error:
        if (error.name or "").partition(".")[0] not in _EXTRAS:
            raise
        raise MissingExtra(f"a replay needs {error.name}: pip install 'concur-agents[demo]'") from error
    return open_server, run_live
