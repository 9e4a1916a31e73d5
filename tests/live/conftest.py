"""A real vLLM for the live suite: one server for the whole session."""

from __future__ import annotations

import importlib
import json
import logging
import os
import sys
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"


@dataclass(frozen=True)
class BorrowedServer:
    """A server that somebody else runs, named by CONCUR_LIVE_URL: not ours to kill."""

    url: str


@pytest.fixture(scope="session", autouse=True)
def only_our_own_progress_in_the_live_log():
    for chatty in ("httpx", "httpx2", "openai"):
        logging.getLogger(chatty).setLevel(logging.WARNING)


@pytest.fixture(scope="session")
def vllm_server() -> Iterator[Any]:
    """A running server with a `url` (without /v1). CONCUR_LIVE_URL names one to use instead of starting it."""
    if url := os.environ.get("CONCUR_LIVE_URL"):
        yield BorrowedServer(url.rstrip("/"))
        return
    sys.path.insert(0, str(SCRIPTS))
    live_vllm = importlib.import_module("live_vllm")
    python = live_vllm.ensure_env(live_vllm.default_venv())
    with live_vllm.Server(python, live_vllm.free_port()) as server:
        yield server


@pytest.fixture
def killable_server(vllm_server: Any) -> Iterator[Any]:
    """The server with `kill()` and `restart()` (they block: call them with `asyncio.to_thread`).

    It runs again when the test is over. A borrowed server is not ours to kill, and the test is skipped.
    """
    if isinstance(vllm_server, BorrowedServer):
        pytest.skip("the server of CONCUR_LIVE_URL is not ours to kill")
    yield vllm_server
    if not vllm_server.running:
        vllm_server.restart()


@pytest.fixture(scope="session")
def model(vllm_server: Any) -> str:
    """The name under which the server serves its model: "tiny" on our own."""
    with urllib.request.urlopen(f"{vllm_server.url}/v1/models", timeout=10) as answer:
        name: str = json.load(answer)["data"][0]["id"]
        return name
