"""A loop whose clock jumps, and servers that behave as badly as a test wants."""

from __future__ import annotations

import asyncio
import selectors
from contextlib import asynccontextmanager
from pathlib import Path

import pytest


class _JumpingSelector(selectors.DefaultSelector):
    loop: _VirtualLoop

    def select(self, timeout=None):
        ready = super().select(0)
        if not ready:
            assert timeout is not None, "deadlock: nothing is scheduled and nothing can happen"
            self.loop.now += timeout
        return ready


class _VirtualLoop(asyncio.SelectorEventLoop):
    def __init__(self):
        self.now = 0.0
        selector = _JumpingSelector()
        selector.loop = self
        super().__init__(selector)

    def time(self):
        return self.now


@pytest.fixture
def run_virtually():
    """Runs a coroutine on a loop whose clock jumps to the next timer when nothing is ready."""

    def run(coroutine):
        with asyncio.Runner(loop_factory=_VirtualLoop) as runner:
            return runner.run(coroutine)

    return run


@pytest.fixture
def page_of():
    """The text of a page in `pages/`, by vLLM release."""
    folder = Path(__file__).parent / "pages"
    return lambda release: (folder / f"vllm-{release}.txt").read_text(encoding="utf-8")


@pytest.fixture
def raw_server():
    """A server on loopback whose every connection is given to `talk(reader, writer)` after the request's head."""

    @asynccontextmanager
    async def serve(talk, port=0):
        async def handle(reader, writer):
            try:
                await reader.readuntil(b"\r\n\r\n")
                await talk(reader, writer)
            except (ConnectionError, asyncio.IncompleteReadError):
                pass  # the client hung up, as it should
            finally:
                writer.close()

        server = await asyncio.start_server(handle, "127.0.0.1", port)
        try:
            yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        finally:
            server.close()

    return serve
