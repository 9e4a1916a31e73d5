"""`concur doctor`: will a gate work with this server, and what is to be changed."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import textwrap
from contextlib import nullcontext
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.text import Text

from concur_agents.cli.say import INTERRUPTED, say, say_error
from concur_agents.doctor import examine

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from concur_agents.doctor import Level, Report

_STYLES = {"ok": "green", "note": "cyan", "warn": "yellow", "fail": "bold red"}
_WIDEST = 120
_NARROWEST = 30

HELP = """\
Tell whether a gate will work with a server, and what to change.

\b
  concur doctor http://localhost:8000
  concur doctor http://localhost:8000 --json > report.json

It looks at the version, the metrics that a gate reads, the size of the cache and the time that a look takes; and it
proves that the prefix cache works: it sends a new prompt of some hundred tokens twice, for one token of output each.
With --no-requests it only reads.

\b
  ok    as it should be
  note  good to know
  warn  a gate works, but worse than it could
  fail  a gate will not work

The exit status is 0 if a gate will work, whatever it warns of; 1 if it will not; 2 if the command is wrong.

An API key is read from OPENAI_API_KEY and never shown.
"""


def doctor(
    url: Annotated[str, typer.Argument(metavar="URL", help="The server, such as http://localhost:8000.")],
    *,
    no_requests: Annotated[bool, typer.Option("--no-requests", help="Only read: send the model nothing.")] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the findings and the figures behind them as JSON.")
    ] = False,
) -> None:
    """Examine a server; `HELP` is what people read of it."""
    try:
        with _patience():
            report = asyncio.run(examine(url, api_key=os.environ.get("OPENAI_API_KEY"), requests=not no_requests))
    except KeyboardInterrupt:
        say("stopped")
        raise typer.Exit(INTERRUPTED) from None
    except ValueError as error:
        say_error(error)
        raise typer.Exit(2) from None
    if as_json:
        sys.stdout.write(json.dumps(report.as_json(), indent=2) + "\n")
    else:
        print_report(report)
    raise typer.Exit(0 if report.ok else 1)


def print_report(report: Report, console: Console | None = None) -> None:
    """Print the findings, each with what to do, and the verdict.

    Args:
        report: What was found.
        console: Where to; stdout if not given.
    """
    console = console or Console(highlight=False)
    width = min(console.width, _WIDEST)
    names = max((len(finding.check) for finding in report.findings), default=0)
    console.print(Text(report.url, "bold"), soft_wrap=True)
    for finding in report.findings:
        lines = _wrapped(finding.says, width - names - 8)
        if finding.do is not None:
            lines += _wrapped(f"→ {finding.do}", width - names - 8)
        # As Text, so that a server cannot write markup.
        first = Text(f"{finding.level:<4}", _STYLES[finding.level])
        console.print(Text.assemble(first, f"  {finding.check:<{names}}  {lines[0]}"), soft_wrap=True)
        for line in lines[1:]:
            console.print(Text(f"{'':{names + 8}}{line}"), soft_wrap=True)
    words: tuple[tuple[Level, str], ...] = (("fail", "failure"), ("warn", "warning"), ("note", "note"))
    counted = [(report.count(level), word) for level, word in words]
    told = ", ".join(f"{count} {word}{'' if count == 1 else 's'}" for count, word in counted if count)
    verdict = Text("a gate will work", "green") if report.ok else Text("a gate will not work", "bold red")
    console.print(verdict + Text(f": {told}" if told else ""), soft_wrap=True)


def _patience() -> AbstractContextManager[object]:
    """Something that moves meanwhile: a server that is out of reach or overloaded takes its time."""
    console = Console(stderr=True)
    return console.status("looks at the server") if console.is_terminal else nullcontext()


def _wrapped(text: str, width: int) -> list[str]:
    """Lines of at most so many columns, if no word is longer; a flag stays whole, to be copied."""
    return textwrap.wrap(text, max(_NARROWEST, width), break_long_words=False, break_on_hyphens=False) or [""]
