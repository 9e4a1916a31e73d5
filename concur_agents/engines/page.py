"""Gets a metrics page over HTTP. Whatever a server does comes out as text or as a MetricsError."""

from __future__ import annotations

import asyncio
import os
from base64 import b64encode
from http import HTTPStatus
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit, urlunsplit

import aiohttp

from concur_agents.errors import MetricsError

if TYPE_CHECKING:
    from urllib.parse import SplitResult

# A page of 64 engines has 2.2 MB (vLLM 0.32).
_LARGEST_PAGE = 8 * 1024 * 1024
_CHUNK = 64 * 1024

_HEADERS = {
    "Accept": "text/plain;version=0.0.4;q=1,*/*;q=0.1",
    # A compressed page would be inflated before its size is known.
    "Accept-Encoding": "identity",
}


def metrics_url(url: str) -> str:
    """The address of the metrics page of a server.

    Args:
        url: The server as people write it: with or without a slash, `/v1` (as OpenAI clients want it) or `/metrics`
            at the end; a user and password before the host and a query are kept.

    Returns:
        The same with `/metrics` at the end of its path.

    Raises:
        ValueError: If this is no http or https address.
    """
    parts = _split(url)
    path = parts.path.rstrip("/").removesuffix("/v1")
    if not path.endswith("/metrics"):
        path += "/metrics"
    return urlunsplit((parts.scheme, parts.netloc, path, parts.query, ""))


def shown_url(url: str) -> str:
    """An address as it may be shown and logged: without user, password and query.

    Raises:
        ValueError: If this is no http or https address.
    """
    parts = _split(url)
    return urlunsplit((parts.scheme, _without_user(parts), parts.path, "", ""))


def _split(url: str) -> SplitResult:
    what_to_give = "give scheme, host and port, for example http://localhost:8000"
    try:
        parts = urlsplit(url.strip())
        _ = parts.port  # a port that is no number is told only when asked for
    except ValueError:
        # The parser's own message may hold the password.
        raise ValueError(f"the address of the server cannot be understood: {what_to_give}") from None
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        shown = "the address of the server" if {"@", "?"} & set(url) else repr(url)
        raise ValueError(f"{shown} is no http or https address: {what_to_give}")
    return parts


def _without_user(parts: SplitResult) -> str:
    return parts.netloc.rpartition("@")[2]


class HttpPage:
    """The metrics page of one server.

    Call it for the text of the page. The connection is kept between calls; `aclose` gives it up, and the next
    call makes a new one. Environment variables for proxies and `.netrc` are not looked at: a page that comes from
    elsewhere than the address given would be worse than none.

    Args:
        url: The server, as `metrics_url` takes it. User and password are sent as basic authentication.

    Raises:
        ValueError: If `url` is no http or https address.
    """

    def __init__(self, url: str) -> None:
        parts = urlsplit(metrics_url(url))
        self._url = urlunsplit((parts.scheme, _without_user(parts), parts.path, parts.query, ""))
        self._headers = dict(_HEADERS)
        if "@" in parts.netloc:
            user = f"{unquote(parts.username or '')}:{unquote(parts.password or '')}"
            self._headers["Authorization"] = f"Basic {b64encode(user.encode()).decode()}"
        self._session: aiohttp.ClientSession | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    async def __call__(self) -> str:
        """Gets the page. There is no time limit here: the caller sets one.

        Raises:
            MetricsError: If no page could be had; the message says why and what to do, and holds no secret.
        """
        try:
            return (await self._get()).decode()
        except MetricsError:
            raise
        except UnicodeDecodeError:
            raise MetricsError("binary data came instead of metrics: is this port another program's?") from None
        except aiohttp.ClientSSLError:
            raise MetricsError(
                "no secure connection could be made: is it http:// instead of https://, or does the server's "
                "certificate not fit its name?"
            ) from None
        except aiohttp.ClientConnectorDNSError:
            raise MetricsError("there is no host of that name: is it spelled right?") from None
        except aiohttp.ClientConnectorError as error:
            # asyncio puts the address into the text of the error: the number says it plainly.
            number = error.os_error.errno
            reason = (os.strerror(number) if number else error.os_error.strerror or "no connection").lower()
            raise MetricsError(f"nothing answers ({reason}): is the server up, is the port right?") from None
        except aiohttp.ClientOSError as error:
            # A kept connection that the other side no longer knows: it died between two polls.
            reason = (error.strerror or "the connection broke").lower()
            raise MetricsError(f"nothing answers ({reason}): is the server up, is the port right?") from None
        except Exception as error:  # noqa: BLE001 - a caller counts on it that no server can raise anything else
            # The client's own messages may hold the query of the address.
            raise MetricsError(
                f"the server answers, but not with a page ({type(error).__name__}): is it up, and does it speak HTTP?"
            ) from None

    async def aclose(self) -> None:
        """Gives the connection up. May be called at any time, and again."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def _get(self) -> bytes:
        async with self._open_session().get(self._url, headers=self._headers) as response:
            try:
                _refuse_status(response)
                return await _body(response)
            except BaseException:
                # What is left of the body may be endless: the connection is of no more use.
                response.close()
                raise

    def _open_session(self) -> aiohttp.ClientSession:
        loop = asyncio.get_running_loop()
        # A session lives on one loop; programs call asyncio.run more than once.
        if self._session is None or self._loop is not loop:
            self._loop = loop
            self._session = aiohttp.ClientSession(
                timeout=aiohttp.ClientTimeout(total=None), trust_env=False, auto_decompress=False
            )
        return self._session


async def _body(response: aiohttp.ClientResponse) -> bytes:
    if response.headers.get("Content-Encoding", "identity") != "identity":
        raise MetricsError("the page is compressed, though it was asked for plain: does a proxy compress it?")
    body = bytearray()
    async for chunk in response.content.iter_chunked(_CHUNK):
        body += chunk
        if len(body) > _LARGEST_PAGE:
            raise MetricsError(
                f"the page is larger than {_LARGEST_PAGE >> 20} MiB, which no inference server's is: "
                "is this port another program's?"
            )
    return bytes(body)


def _refuse_status(response: aiohttp.ClientResponse) -> None:
    status = response.status
    if status == HTTPStatus.OK:
        return
    if status == HTTPStatus.NOT_FOUND:
        raise MetricsError(
            "the server has no such page (404): a vLLM server answers there with lines like "
            "'vllm:num_requests_running{…} 0.0'. Is the port another program's, or does a proxy keep /metrics back?"
        )
    if status in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}:
        raise MetricsError(
            f"the server refuses to show its metrics ({status}): give the server's own address rather than a "
            "proxy's, or a user and password in the address (http://user:password@host:port)"
        )
    if status in {HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE}:
        raise MetricsError(f"the server is overloaded or still starting ({status}): try again later")
    raise MetricsError(f"the server answers with HTTP status {status} instead of a page: see its log")
