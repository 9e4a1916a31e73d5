"""What a server answered, as it came: the judges read nothing else."""

from __future__ import annotations

from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from concur_agents.engines import EngineReading


@dataclass(frozen=True, slots=True)
class Reply:
    """The answer to one request.

    Attributes:
        status: The HTTP status; None if there was no answer.
        body: What the JSON of the body says; None if it is no JSON.
        error: Why there was no whole answer, in words without a secret; None if there was.
        server_time: The server's clock, as the header `Date` tells it in whole seconds; Unix time. [s]
        clock_ahead_s: How far that is ahead of our clock. [s]
    """

    status: int | None = None
    body: Any = None
    error: str | None = None
    server_time: float | None = None
    clock_ahead_s: float | None = None

    @property
    def good(self) -> bool:
        """Whether it is a whole answer with status 200."""
        return self.status == HTTPStatus.OK and self.error is None

    @property
    def refused(self) -> bool:
        """Whether the API key is missing or wrong."""
        return self.status in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}

    @property
    def outcome(self) -> str:
        """What came of it, for people: the status and what the server said, or why nothing came."""
        if self.error is not None:
            return self.error
        said = said_by(self.body)
        return f"HTTP status {self.status}{f', {said!r}' if said else ''}"


_MOST = 10**12

NOT_ASKED = Reply(error="not asked")


@dataclass(frozen=True, slots=True)
class Poll:
    """One look at the metrics page.

    Attributes:
        time: When it was there, on the event loop's clock. [s]
        took_s: From asking to having read it. [s]
        text: The page; empty if none came.
        readings: What it says; empty if it could not be read.
        error: Why it could not be had or read; None if it was.
    """

    time: float
    took_s: float
    text: str = ""
    readings: tuple[EngineReading, ...] = ()
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Probe:
    """The prefix test: one prompt, sent until it could have been found in the cache.

    Attributes:
        prompt_tokens: Length of the prompt. [tokens]
        reusable_tokens: What a cache can give back of it: whole blocks, without the last token. [tokens]
        replies: The answers. The first was asked for as a stream.
        streamed_usage: Whether the stream told usage without being asked to; None if it did not come to its end.
        before: The page before it.
        after: The page after it.
    """

    prompt_tokens: int
    reusable_tokens: int
    replies: tuple[Reply, ...]
    streamed_usage: bool | None
    before: Poll
    after: Poll

    @property
    def failed(self) -> Reply | None:
        """The request that was not served; None if all were."""
        return next((reply for reply in self.replies if not reply.good), None)

    @property
    def cached_tokens(self) -> int | None:
        """The most that a repeated prompt found in the cache, as the answers tell; None if they do not tell."""
        told = [cached_in(reply.body) for reply in self.replies[1:]]
        return max((cached for cached in told if cached is not None), default=None)

    @property
    def sent_tokens(self) -> int:
        """Prompt tokens of all requests that were served. [tokens]"""
        return self.prompt_tokens * sum(reply.good for reply in self.replies)

    @property
    def counted(self) -> bool:
        """Whether the page's counters tell of all that was sent; a page that there was not before tells anything."""
        if not self.before.readings:
            return bool(self.after.readings)
        return (self.grown("prompt_tokens") or 0.0) >= self.sent_tokens

    @property
    def foreign_tokens(self) -> float:
        """Prompt tokens that others sent meanwhile, as far as the page tells. [tokens]"""
        return max(0.0, (self.grown("prompt_tokens") or 0.0) - self.sent_tokens)

    def grown(self, counter: str) -> float | None:
        """How far a counter of `EngineReading` went up, over all engines; None if it is not told."""
        pairs = [
            (getattr(first, counter), getattr(last, counter))
            for first in self.before.readings
            for last in self.after.readings
            if first.engine == last.engine
        ]
        known = [last - first for first, last in pairs if first is not None and last is not None]
        return sum(known) if known else None


@dataclass(frozen=True, slots=True)
class Evidence:
    """All that was asked and answered.

    Attributes:
        url: The server as it may be shown.
        polls: The looks at the metrics page, the first one first.
        version: `/version`.
        models: `/v1/models`.
        server_info: `/server_info`, which a vLLM has in development mode only.
        has_key: Whether an API key was sent.
        requests: Whether requests may be sent.
        probe: The prefix test; None if it was not made.
    """

    url: str
    polls: tuple[Poll, ...]
    version: Reply = NOT_ASKED
    models: Reply = NOT_ASKED
    server_info: Reply = NOT_ASKED
    has_key: bool = False
    requests: bool = True
    probe: Probe | None = None

    @property
    def page(self) -> Poll:
        """The last page that could be read, else the last look: a vLLM before its first step has none at first."""
        pages = [*self.polls, *([self.probe.before, self.probe.after] if self.probe else [])]
        return next((poll for poll in reversed(pages) if poll.readings), pages[-1])

    @property
    def readings(self) -> tuple[EngineReading, ...]:
        """What the page says, an engine each."""
        return self.page.readings

    @property
    def model(self) -> str | None:
        """The first model of the server's list."""
        return next(iter(model_names(self.models.body)), None)

    @property
    def max_model_len(self) -> int | None:
        """The longest prompt and output together of that model, as vLLM adds it to its list. [tokens]"""
        cards = at(self.models.body, "data")
        return count_in(at(cards[0], "max_model_len") if isinstance(cards, list) and cards else None)

    @property
    def version_text(self) -> str | None:
        """What the server calls its version; None if it does not say."""
        version = at(self.version.body, "version") if self.version.good else None
        return plain(version, 60) if isinstance(version, str) else None


def at(body: Any, *path: str) -> Any:
    """What stands in nested JSON objects; None where there is nothing of that name."""
    for name in path:
        body = body.get(name) if isinstance(body, dict) else None
    return body


def count_in(value: Any, *, least: int = 1) -> int | None:
    """The value if it is a number of something; None for all else, and for what nothing has so many of."""
    return value if isinstance(value, int) and least <= value <= _MOST else None


def model_names(body: Any) -> list[str]:
    """The names in an OpenAI list of models; none if it is not one."""
    cards = at(body, "data")
    names = [at(card, "id") for card in cards] if isinstance(cards, list) else []
    return [name for name in names if isinstance(name, str)]


def cached_in(body: Any) -> int | None:
    """The cached tokens that a completion's usage tells."""
    return count_in(at(body, "usage", "prompt_tokens_details", "cached_tokens"), least=0)


def said_by(body: Any) -> str:
    """The message of an error document, OpenAI's form or another; empty if it has none."""
    for message in (at(body, "error", "message"), at(body, "message"), at(body, "detail"), at(body, "error")):
        if isinstance(message, str):
            return plain(message, 200)
    return ""


def plain(text: str, longest: int) -> str:
    """Foreign text on one line, cut short, without what a terminal would act on."""
    line = " ".join("".join(sign if sign.isprintable() else " " for sign in text).split())
    return line if len(line) <= longest else f"{line[: longest - 1]}…"
