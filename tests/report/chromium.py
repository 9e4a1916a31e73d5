"""A real browser without a window, told what to do over its DevTools protocol."""

from __future__ import annotations

import asyncio
import base64
import itertools
import shutil
from contextlib import asynccontextmanager

import aiohttp

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
START_WITHIN_S = 60
ANSWER_WITHIN_S = 60


def find():
    """The browser's path; None if there is none."""
    return next(filter(None, map(shutil.which, NAMES)), None)


class Page:
    """The browser's one tab, and everything that it told of itself.

    `requests` are the addresses that it asked for; `messages` what came to its console, by whomever.
    """

    def __init__(self, socket):
        self.requests = []
        self.messages = []
        self._socket = socket
        self._numbers = itertools.count(1)
        self._seen = []

    async def call(self, method, **parameters):
        number = next(self._numbers)
        await self._socket.send_json({"id": number, "method": method, "params": parameters})
        answer = await self._until(lambda message: message.get("id") == number)
        assert "error" not in answer, answer
        return answer["result"]

    async def open(self, path):
        for domain in ("Page", "Network", "Log", "Runtime"):
            await self.call(f"{domain}.enable")
        self._seen.clear()
        await self.call("Page.navigate", url=path.as_uri())
        if "Page.loadEventFired" not in self._seen:
            await self._until(lambda message: message.get("method") == "Page.loadEventFired")

    async def show(self, *, width=1280, scheme="light", media="screen"):
        await self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=False
        )
        await self.call(
            "Emulation.setEmulatedMedia", media=media, features=[{"name": "prefers-color-scheme", "value": scheme}]
        )

    async def ask(self, expression):
        """What a piece of JavaScript comes to in the page."""
        answer = await self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    async def pdf(self):
        """The page as it is printed: the PDF, with `printBackground` off, as people print."""
        return base64.b64decode((await self.call("Page.printToPDF", preferCSSPageSize=True))["data"])

    async def _until(self, wanted):
        async with asyncio.timeout(ANSWER_WITHIN_S):
            while True:
                message = await self._socket.receive_json()
                self._note(message)
                if wanted(message):
                    return message

    def _note(self, message):
        method, told = message.get("method"), message.get("params", {})
        self._seen.append(method)
        if method == "Network.requestWillBeSent":
            self.requests.append(told["request"]["url"])
        elif method in {"Log.entryAdded", "Runtime.consoleAPICalled", "Runtime.exceptionThrown"}:
            self.messages.append(told)


@asynccontextmanager
async def browser(binary, folder):
    """A tab of a new browser, whose profile is in a folder of the test."""
    process = await asyncio.create_subprocess_exec(
        binary,
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--no-first-run",
        "--disable-background-networking",
        "--remote-debugging-port=0",
        f"--user-data-dir={folder}",
        "about:blank",
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        port = await asyncio.wait_for(_port(process.stderr), START_WITHIN_S)
        drain = asyncio.create_task(process.stderr.read())  # a full pipe would stop it
        async with aiohttp.ClientSession() as session:
            async with session.get(f"http://127.0.0.1:{port}/json") as response:
                tabs = await response.json()
            address = next(tab["webSocketDebuggerUrl"] for tab in tabs if tab["type"] == "page")
            async with session.ws_connect(address, max_msg_size=0) as socket:
                yield Page(socket)
    finally:
        process.terminate()
        await process.wait()
    await drain


async def _port(stderr):
    while line := await stderr.readline():
        before, found, address = line.decode(errors="replace").partition("DevTools listening on ws://")
        if found and not before.strip():
            return int(address.split("/")[0].rpartition(":")[2])
    raise RuntimeError("the browser ended before it listened")
