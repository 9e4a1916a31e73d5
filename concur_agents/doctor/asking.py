"""Asks a server over HTTP. Whatever it does comes out as a `Reply` or a `Poll`, and no secret with it."""

from __future__ import annotations

import asyncio
import json
import time
from base64 import b64encode
from dataclasses import replace
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import unquote, urlsplit, urlunsplit

import aiohttp

from concur_agents.doctor.evidence import Poll, Reply, at, said_by
from concur_agents.engines import metrics_url, read_vllm
from concur_agents.engines.page import HttpPage, shown_url
from concur_agents.errors import MetricsError

if TYPE_CHECKING:
    from collections.abc import Mapping

POLL_LIMIT_S = 5.0
"""What the gate's poller gives a page. [s]"""

LOOK_LIMIT_S = 10.0
"""For small pages, which a server has at hand. [s]"""

REQUEST_LIMIT_S = 60.0
"""For a request that may wait in the server's queue. [s]"""

_LARGEST_ANSWER = 4 * 2**20
_SHORTEST_SECRET = 4  # a user "me" would be crossed out in every other word


class Server:
    """A server to be asked: an async context manager that leaves no connection behind.

    As the poller does, it looks at no environment variable for proxies.

    Args:
        url: Its address, as `metrics_url` takes it. A user and password are sent as basic authentication.
        api_key: Sent to the OpenAI API, as its clients do, and to nothing else.

    Attributes:
        url: The address as it may be shown.
        has_key: Whether there is a key.

    Raises:
        ValueError: If `url` is no http or https address.
    """

    def __init__(self, url: str, *, api_key: str | None) -> None:
        parts = urlsplit(metrics_url(url))
        self._parts = parts._replace(netloc=parts.netloc.rpartition("@")[2], path=parts.path.removesuffix("/metrics"))
        self.url = shown_url(urlunsplit(self._parts))
        self.has_key = bool(api_key)
        self._headers = {"Accept-Encoding": "identity"}
        if "@" in parts.netloc:
            user = f"{unquote(parts.username or '')}:{unquote(parts.password or '')}"
            self._headers["Authorization"] = f"Basic {b64encode(user.encode()).decode()}"
        self._api_headers = {**self._headers, **({"Authorization": f"Bearer {api_key}"} if api_key else {})}
        known = [api_key or "", parts.password or "", unquote(parts.password or ""), parts.query]
        known += [value.partition("=")[2] for value in parts.query.split("&")]
        known += [self._headers.get("Authorization", "").removeprefix("Basic ")]
        self._secrets = sorted({one for one in known if len(one) >= _SHORTEST_SECRET}, key=len, reverse=True)
        self._page = HttpPage(url)
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(
            timeout=aiohttp.ClientTimeout(total=None), trust_env=False, auto_decompress=False
        )
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._page.aclose()
        if self._session is not None:
            await self._session.close()

    async def poll(self) -> Poll:
        """Look at the metrics page as the gate does."""
        loop = asyncio.get_running_loop()
        started, text = loop.time(), ""
        try:
            async with asyncio.timeout(POLL_LIMIT_S):
                text = await self._page()
            readings = read_vllm(text)
        except TimeoutError:
            error = f"no whole page came within {POLL_LIMIT_S:g} s: is the server stuck or out of reach?"
            return Poll(loop.time(), loop.time() - started, error=error)
        except MetricsError as error:
            return Poll(loop.time(), loop.time() - started, text, error=str(error))
        return Poll(loop.time(), loop.time() - started, text, readings)

    async def look(self, path: str, *, query: str = "") -> Reply:
        """Ask for a page with GET.

        Args:
            path: Under the server's address, from its slash on.
            query: Added to that of the address.
        """
        return (await self._ask("GET", path, query=query, limit_s=LOOK_LIMIT_S))[0]

    async def complete(self, body: Mapping[str, Any], headers: Mapping[str, str]) -> Reply:
        """Send a completion; the answer is one document."""
        return (await self._ask("POST", "/v1/completions", body=body, headers=headers, limit_s=REQUEST_LIMIT_S))[0]

    async def stream(self, body: Mapping[str, Any], headers: Mapping[str, str]) -> tuple[Reply, bool | None]:
        """Send a completion as a stream.

        Returns:
            The answer, and whether the stream told usage; None if it did not come to its end.
        """
        reply, raw = await self._ask(
            "POST", "/v1/completions", body={**body, "stream": True}, headers=headers, limit_s=REQUEST_LIMIT_S
        )
        lines = [line[5:].strip() for line in raw.decode(errors="replace").splitlines() if line.startswith("data:")]
        events = [self._said(line) for line in lines]
        refusal = next((event for event in events if at(event, "error")), None)
        if refusal is not None:  # told when status 200 had been sent
            return replace(reply, body=refusal, error=f"the stream broke off, {said_by(refusal)!r}"), None
        if not reply.good or "[DONE]" not in lines:
            return reply, None
        return reply, any(at(event, "usage") for event in events)

    async def _ask(
        self,
        method: str,
        path: str,
        *,
        limit_s: float,
        query: str = "",
        body: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> tuple[Reply, bytes]:
        parts = self._parts
        queries = "&".join(filter(None, (parts.query, query)))
        url = urlunsplit((parts.scheme, parts.netloc, parts.path + path, queries, ""))
        sent = {**(self._api_headers if path.startswith("/v1") else self._headers), **(headers or {})}
        assert self._session is not None  # noqa: S101  narrows the type: it is a context manager
        try:
            # Who is redirected is at a login page or at another server: neither is to be given the key.
            async with (
                asyncio.timeout(limit_s),
                self._session.request(method, url, json=body, headers=sent, allow_redirects=False) as response,
            ):
                raw = await _read(response)
        except TimeoutError:
            return Reply(error=f"no answer within {limit_s:g} s"), b""
        except Exception as error:  # noqa: BLE001  whatever a server does is an answer
            return Reply(error=f"no answer ({type(error).__name__})"), b""
        if raw is None:
            return Reply(status=response.status, error="an answer too large to be one"), b""
        said = self._said(raw.decode(errors="replace"))
        clock = _unix_time(response.headers.get("Date"))
        ahead = None if clock is None else clock - time.time()
        return Reply(response.status, said, server_time=clock, clock_ahead_s=ahead), raw

    def _said(self, text: str) -> Any:
        """What a JSON document says; None if it is none."""
        try:
            return self._without_secrets(json.loads(text))
        except (ValueError, RecursionError):
            return None

    def _without_secrets(self, value: Any) -> Any:
        """Servers quote in their errors what they were sent."""
        if isinstance(value, dict):
            return {name: self._without_secrets(part) for name, part in value.items()}
        if isinstance(value, list):
            return [self._without_secrets(part) for part in value]
        if isinstance(value, str):
            for secret in self._secrets:
                value = value.replace(secret, "***")
        return value


async def _read(response: aiohttp.ClientResponse) -> bytes | None:
    """The body; None if it is larger than any that is asked for."""
    body = bytearray()
    async for chunk in response.content.iter_chunked(64 * 1024):
        body += chunk
        if len(body) > _LARGEST_ANSWER:
            response.close()
            return None
    return bytes(body)


def _unix_time(date: str | None) -> float | None:
    try:
        return parsedate_to_datetime(date).timestamp() if date else None
    except (ValueError, TypeError, OverflowError):
        return None
