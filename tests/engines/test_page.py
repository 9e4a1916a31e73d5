"""A metrics page over HTTP: what people write as an address, and whatever a server may do."""

from __future__ import annotations

import asyncio
import errno
import gc
import socket
import traceback
from contextlib import nullcontext

import aiohttp
import pytest

from concur_agents.engines import Poller, metrics_url
from concur_agents.engines.page import HttpPage, shown_url
from concur_agents.errors import MetricsError

PAGE = b"vllm:num_requests_running 3.0\n"


def answer(body=PAGE, *, status="200 OK", headers=()):
    head = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join(head).encode() + b"\r\n\r\n" + body


def says(data):
    async def talk(reader, writer):
        writer.write(data)
        await writer.drain()

    return talk


async def poll(url):
    poller = Poller(
        url,
        interval_s=1.0,
        on_snapshot=lambda snapshot: None,
        on_failure=lambda error: None,
        ours_in_flight=lambda: 1,
        timeout_s=60,
    )
    try:
        return await poller.poll_once()
    finally:
        await poller.aclose()


@pytest.fixture
def run_out(monkeypatch):
    """Makes the time limit of the poll under way run out now."""
    limit_of, limits = asyncio.timeout, []

    def timeout(seconds):
        limits.append(limit_of(None))
        return limits[-1]

    monkeypatch.setattr(asyncio, "timeout", timeout)
    return lambda: limits[0].reschedule(0)


class TestAddresses:
    @pytest.mark.parametrize(
        ("given", "metrics"),
        [
            ("http://h:8000", "http://h:8000/metrics"),
            ("http://h:8000/", "http://h:8000/metrics"),
            ("  http://h:8000//  ", "http://h:8000/metrics"),
            ("http://h:8000/v1", "http://h:8000/metrics"),
            ("http://h:8000/v1/", "http://h:8000/metrics"),
            ("http://h:8000/metrics", "http://h:8000/metrics"),
            ("http://h:8000/metrics/", "http://h:8000/metrics"),
            ("https://h/pool/v1", "https://h/pool/metrics"),
            ("HTTP://h", "http://h/metrics"),
            ("http://[::1]:8000/v1", "http://[::1]:8000/metrics"),
            ("http://me:secret@h:8000/v1?key=k#part", "http://me:secret@h:8000/metrics?key=k"),
        ],
    )
    def test_the_metrics_page_is_found_from_what_people_write(self, given, metrics):
        assert metrics_url(given) == metrics

    @pytest.mark.parametrize(
        "given",
        ["", "localhost:8000", "h", "//h:8000", "ftp://h", "unix:///tmp/s", "http://", "http://:8000", "http://h:port"],
    )
    def test_what_is_no_http_address_is_refused_with_an_example(self, given):
        with pytest.raises(ValueError, match=r"for example http://localhost:8000"):
            metrics_url(given)

    @pytest.mark.parametrize(
        "given",
        [
            "me:hunter2@h:8000",
            "http://me:hunter2@h:port",
            "http://me:hunter2/x@h",
            "ftp://h?key=hunter2",
            "http://[me:hunter2@h",
        ],
    )
    def test_a_refused_address_shows_no_secret(self, given):
        with pytest.raises(ValueError, match="for example") as caught:
            metrics_url(given)
        assert "hunter2" not in "".join(traceback.format_exception(caught.value))

    def test_an_address_is_shown_without_user_password_and_query(self):
        assert shown_url("http://me:secret@h:8000/metrics?key=secret") == "http://h:8000/metrics"


class TestGoodServers:
    async def test_a_page_is_read(self, raw_server):
        async with raw_server(says(answer())) as url:
            assert (await poll(url)).running == 3

    async def test_the_v1_of_openai_addresses_may_be_left_on(self, raw_server):
        async with raw_server(says(answer())) as url:
            assert (await poll(f"{url}/v1")).running == 3

    async def test_a_page_of_two_megabytes_is_read(self, raw_server):
        page = PAGE + b"other 1.0\n" * 200_000
        async with raw_server(says(answer(page))) as url:
            assert (await poll(url)).running == 3

    async def test_a_redirect_is_followed(self, raw_server):
        async def talk(reader, writer):
            writer.write(answer(b"", status="307 Temporary Redirect", headers=["Location: /metrics/"]))
            await reader.readuntil(b"\r\n\r\n")
            writer.write(answer())

        async with raw_server(talk) as url:
            assert (await poll(url)).running == 3

    async def test_one_connection_serves_many_polls(self, raw_server):
        connections = []

        async def talk(reader, writer):
            connections.append(writer)
            writer.write(answer())
            while await reader.readuntil(b"\r\n\r\n"):
                writer.write(answer())

        async with raw_server(talk) as url:
            poller = Poller(url, interval_s=1, on_snapshot=print, on_failure=print, ours_in_flight=lambda: 0)
            for _ in range(3):
                await poller.poll_once()
            await poller.aclose()
        assert len(connections) == 1

    async def test_user_and_password_are_sent_but_not_to_another_server(self, raw_server):
        heads = {"first": [], "second": []}

        def server(name, reply):
            async def handle(reader, writer):
                heads[name].append((await reader.readuntil(b"\r\n\r\n")).decode())
                writer.write(reply)
                await writer.drain()
                writer.close()

            return handle

        second = await asyncio.start_server(server("second", answer()), "127.0.0.1", 0)
        away = f"Location: http://127.0.0.1:{second.sockets[0].getsockname()[1]}/metrics"
        first = await asyncio.start_server(
            server("first", answer(b"", status="302 Found", headers=[away])), "127.0.0.1", 0
        )
        port = first.sockets[0].getsockname()[1]
        await poll(f"http://me:p%40ss%E2%82%AC@127.0.0.1:{port}")
        first.close()
        second.close()
        assert "Authorization: Basic bWU6cEBzc+KCrA==" in heads["first"][0]
        assert "Authorization" not in heads["second"][0]

    @pytest.mark.parametrize("closed", [True, False])
    def test_one_poller_works_in_one_event_loop_after_another(self, raw_server, closed):
        async def find_port():
            async with raw_server(says(answer())) as url:
                return int(url.rpartition(":")[2])

        async def use(poller):
            async with raw_server(says(answer(headers=["Connection: close"])), port=port):
                snapshot = await poller.poll_once()
                if closed:
                    await poller.aclose()
                return snapshot.running

        async def use_and_close(poller):
            try:
                return await use(poller)
            finally:
                await poller.aclose()

        port = asyncio.run(find_port())
        poller = Poller(
            f"http://127.0.0.1:{port}", interval_s=1, on_snapshot=print, on_failure=print, ours_in_flight=int
        )
        with nullcontext() if closed else pytest.warns(ResourceWarning):
            assert asyncio.run(use(poller)) == 3
            assert asyncio.run(use_and_close(poller)) == 3
            gc.collect()


class TestBadServers:
    @pytest.mark.parametrize(
        ("status", "what_to_do"),
        [
            ("404 Not Found", r"vllm:num_requests_running.*another program's"),
            ("401 Unauthorized", r"user and password"),
            ("403 Forbidden", r"user and password"),
            ("429 Too Many Requests", r"overloaded.*try again"),
            ("503 Service Unavailable", r"overloaded.*try again"),
            ("500 Internal Server Error", r"500.*log"),
            ("204 No Content", r"204"),
            ("301 Moved Permanently", r"301"),
        ],
    )
    async def test_a_refusal_says_what_to_do(self, raw_server, status, what_to_do):
        async with raw_server(says(answer(b"", status=status))) as url:
            with pytest.raises(MetricsError, match=what_to_do) as caught:
                await poll(url)
            assert f"{url}/metrics" in str(caught.value)

    @pytest.mark.parametrize(
        ("data", "complaint"),
        [
            (answer(b"<html>Sign in</html>"), "login page"),
            (answer(b'{"detail": "x"}'), "JSON"),
            (answer(b"\xff\xfe\x00\x80"), "binary"),
            (answer(b"python_info 1.0\n"), "--disable-log-stats"),
            (answer(b"\x1f\x8b\x08\x00", headers=["Content-Encoding: gzip"]), "compressed"),
            (answer(headers=["Content-Encoding: no-such-coding"]), "compressed"),
            (b"HTTP/1.1 200 OK\r\nContent-Length: 999\r\n\r\n" + PAGE, "not with a page"),
            (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n" + PAGE, "not with a page"),
            (b"HTTP/1.0 200 OK\r\n\r\nvllm:num_requests_running 3", "cut it off"),
            (b"SSH-2.0-OpenSSH_9.6\r\n", "speak HTTP"),
            (b"\x16\x03\x01\x02\x00" * 50, "speak HTTP"),
            (b"HTTP/1.1 200 OK\r\nX: " + b"x" * 1_000_000 + b"\r\n\r\n", "speak HTTP"),
            (b"", "not with a page"),
            (answer(b"", status="302 Found", headers=["Location: ftp://h/x"]), "not with a page"),
            (answer(b"", status="302 Found", headers=["Location: http://[bad"]), "not with a page"),
            (answer(b"", status="302 Found", headers=["Location: http://h:99999/"]), "not with a page"),
        ],
        ids=lambda value: value if isinstance(value, str) else "",
    )
    async def test_any_answer_that_is_no_page_gives_a_clear_error(self, raw_server, data, complaint):
        async with raw_server(says(data)) as url:
            with pytest.raises(MetricsError, match=complaint):
                await poll(url)

    async def test_a_redirect_to_itself_ends(self, raw_server):
        async def talk(reader, writer):
            for _ in range(50):
                writer.write(answer(b"", status="302 Found", headers=["Location: /metrics"]))
                await reader.readuntil(b"\r\n\r\n")

        async with raw_server(talk) as url:
            with pytest.raises(MetricsError, match="not with a page"):
                await poll(url)

    async def test_a_page_of_fifty_megabytes_is_dropped_on_the_way(self, raw_server):
        sent = 0

        async def talk(reader, writer):
            nonlocal sent
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 52428800\r\n\r\n")
            for _ in range(800):
                writer.write(b"other 1.0\n" * 6_553 + b"123456")
                await writer.drain()
                sent += 65_536

        async with raw_server(talk) as url:
            with pytest.raises(MetricsError, match="larger than 8 MiB"):
                await poll(url)
        assert sent < 30_000_000

    async def test_a_page_without_end_is_given_up_and_its_connection_dropped(self, raw_server, run_out):
        dropped = asyncio.Event()

        async def talk(reader, writer):
            writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\na 1.0\r\n")
            await writer.drain()
            run_out()
            assert await reader.read() == b""
            dropped.set()

        async with raw_server(talk) as url:
            with pytest.raises(MetricsError, match=r"no whole page came within 60 s"):
                await poll(url)
            await asyncio.wait_for(dropped.wait(), 60)

    async def test_a_server_that_never_answers_is_given_up(self, raw_server, run_out):
        async def talk(reader, writer):
            run_out()
            await reader.read()

        async with raw_server(talk) as url:
            with pytest.raises(MetricsError, match="stuck or out of reach"):
                await poll(url)

    async def test_a_server_that_was_killed_while_the_connection_was_kept(self, monkeypatch):
        async def reset(page):
            raise aiohttp.ClientOSError(errno.ECONNRESET, "Connection reset by peer")

        monkeypatch.setattr(HttpPage, "_get", reset)
        with pytest.raises(MetricsError, match=r"nothing answers \(connection reset by peer\): is the server up"):
            await poll("http://127.0.0.1:1")

    async def test_nobody_at_the_port(self):
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))  # bound but not listening: a connection is refused
            url = f"http://127.0.0.1:{taken.getsockname()[1]}"
            with pytest.raises(MetricsError, match=r"nothing answers.*is the server up, is the port right"):
                await poll(url)

    async def test_a_host_that_does_not_exist(self, monkeypatch):
        def unknown(*args, **kwargs):
            raise socket.gaierror(-2, "Name or service not known")

        monkeypatch.setattr(socket, "getaddrinfo", unknown)
        with pytest.raises(MetricsError, match="no host of that name"):
            await poll("http://no-such-host.invalid:8000")

    async def test_https_to_a_server_that_speaks_plain_http(self):
        async def handle(reader, writer):
            await reader.read(1)
            writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            writer.close()

        server = await asyncio.start_server(handle, "127.0.0.1", 0)
        url = f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        with pytest.raises(MetricsError, match=r"http:// instead of https://"):
            await poll(url)
        server.close()

    @pytest.mark.parametrize(
        "data",
        [
            answer(b"<html>"),
            answer(status="401 Unauthorized"),
            answer(b"", status="302 Found", headers=["Location: ftp://h/x"]),
            b"nonsense\r\n\r\n",
            b"",
        ],
        ids=["html", "401", "redirect", "nonsense", "hangs up"],
    )
    async def test_no_error_shows_user_password_or_query(self, raw_server, data):
        async with raw_server(says(data)) as url:
            address = url.replace("//", "//hidden-user:hidden-word@") + "/v1?key=hidden-key"
            with pytest.raises(MetricsError) as caught:
                await poll(address)
        assert "hidden" not in "".join(traceback.format_exception(caught.value))

    async def test_a_poll_that_is_cancelled_drops_its_connection(self, raw_server):
        reached, dropped = asyncio.Event(), asyncio.Event()

        async def talk(reader, writer):
            reached.set()
            assert await reader.read() == b""
            dropped.set()

        async with raw_server(talk) as url:
            task = asyncio.create_task(poll(url))
            await reached.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await asyncio.wait_for(dropped.wait(), 60)
        gc.collect()  # a session that was not closed would warn here
