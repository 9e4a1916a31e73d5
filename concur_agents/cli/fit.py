"""`concur fit`: measure a live server, so that the embedded engine can stand in for it."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path  # noqa: TC003  typer reads the annotations
from typing import TYPE_CHECKING, Annotated

import typer
from rich import box
from rich.console import Console
from rich.table import Table

from concur_agents.cli.live import check_live, live_server
from concur_agents.cli.say import INTERRUPTED, say, say_error
from concur_agents.errors import ConcurError
from concur_agents.simulation.limits import SchedulerLimits

if TYPE_CHECKING:
    from concur_agents.replay.calibrate import Calibration, Progress


_DEFAULT = SchedulerLimits()

HELP = """\
Measure a live vLLM server for a minute, and write FILE: the server for the embedded engine.

With the file, agents run on a model of your server, in virtual time:

\b
  concur fit http://localhost:8000 my-server.json
  concur compare workload:swe --fit my-server.json

The server has to be idle, and nobody else may use it meanwhile. It gets some prompts of filler, short and long, one
and many at a time, and is timed. What a step costs is found from that: by itself, for each token, for each request,
for each token of context read or attended. The table shows how well the profile explains each measurement; if most
errors are above 10 %, the machine was not quiet, or is not of that kind.

The size of the cache and the longest context are read from the server. What its scheduler was started with it does
not tell. vLLM's own defaults, to be given as the options below:

\b
  GPUs from 160 GB       16384 tokens, 1024 requests
  GPUs from 70 GB         8192 tokens, 1024 requests   (the default here)
  smaller GPUs and A100   2048 tokens,  256 requests
  CPUs                    2048 tokens,  128 requests, no asynchronous scheduling

An API key is read from OPENAI_API_KEY.
"""


def fit(
    url: Annotated[str, typer.Argument(metavar="URL", help="The server, such as http://localhost:8000.")],
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Written as JSON; what is there is replaced.")],
    model_name: Annotated[
        str | None,
        typer.Option("--model", metavar="NAME", help="The model to measure, instead of the first of its list."),
    ] = None,
    max_num_batched_tokens: Annotated[
        int, typer.Option(metavar="N", help="The server's own --max-num-batched-tokens.")
    ] = _DEFAULT.max_num_batched_tokens,
    max_num_seqs: Annotated[
        int, typer.Option(metavar="N", help="The server's own --max-num-seqs.")
    ] = _DEFAULT.max_num_seqs,
    *,
    async_scheduling: Annotated[
        bool, typer.Option(help="Whether the server fills a step while the one before it runs.")
    ] = _DEFAULT.async_scheduling,
) -> None:
    """Measure a server; `HELP` is what people read of it."""
    console = Console(stderr=True, highlight=False)
    try:
        limits = SchedulerLimits(
            max_num_batched_tokens=max_num_batched_tokens,
            max_num_seqs=max_num_seqs,
            async_scheduling=async_scheduling,
        )
        check_live(url)
        _check_file(file)
        calibration = asyncio.run(_calibrate(url, model_name, limits, console))
        calibration.profile.save(file)
    except KeyboardInterrupt:
        say("stopped; nothing is written")
        raise typer.Exit(INTERRUPTED) from None
    except (ConcurError, ValueError, OSError) as error:
        say_error(error)
        raise typer.Exit(1) from None
    print_calibration(calibration)
    say(f"written to {file}; next: concur compare workload:swe --fit {file}")


async def _calibrate(url: str, model_name: str | None, limits: SchedulerLimits, console: Console) -> Calibration:
    async with live_server(url, model_name) as (server, _):
        from concur_agents.replay.calibrate import calibrate  # noqa: PLC0415  an extra

        shown = console.status("waits until the server is idle") if console.is_terminal else None

        def show(progress: Progress) -> None:
            text = f"{progress.number}/{progress.of}: {progress.name}"
            if shown is not None:
                shown.update(text)
            elif progress.number % 10 == 1:  # a log needs no line for each
                console.print(text, markup=False, soft_wrap=True)

        if shown is None:
            return await calibrate(server, on_progress=show, limits=limits)
        with shown:
            return await calibrate(server, on_progress=show, limits=limits)


def print_calibration(calibration: Calibration, console: Console | None = None) -> None:
    """Print measured against explained, and the costs found.

    Args:
        calibration: What was measured.
        console: Where to; stdout if not given.
    """
    console = console or Console(highlight=False)
    table = Table("requests", "measured ms", "predicted ms", "error", "spread", box=box.SIMPLE_HEAD, show_edge=False)
    for column in table.columns[1:]:
        column.justify = "right"
    for probe in calibration.probes:
        spread = (max(probe.passes_s) - min(probe.passes_s)) / 2 / probe.measured_s
        table.add_row(
            probe.name,
            f"{1e3 * probe.measured_s:,.0f}",
            f"{1e3 * probe.predicted_s:,.0f}",
            f"{100 * probe.error:+.0f} %",
            f"±{100 * spread:.0f} %",
        )
    console.print(table, "")
    profile = calibration.profile
    costs = profile.step_time
    if costs.kind == "linear":
        console.print(
            f"a step: {1e3 * costs.step:.3g} ms + {1e6 * costs.token:.3g} µs a token + {1e6 * costs.request:.3g} µs a "
            f"request + {1e6 * costs.prompt:.3g} µs a prompt + {1e9 * costs.read:.3g} ns a token of context read + "
            f"{1e9 * costs.attended:.3g} ns a token attended, {1e9 * costs.largest:.3g} ns more in the largest prompt; "
            f"beside it {1e3 * profile.request_latency:.3g} ms a call",
            markup=False,
            soft_wrap=True,
        )
    console.print(
        f"{profile.description}: KV cache of {profile.capacity_tokens:,} tokens; typical error "
        f"{100 * calibration.typical_error:.0f} %",
        markup=False,
        soft_wrap=True,
    )


def _check_file(file: Path) -> None:
    """Tell before the minute, not after it, that nothing can be written."""
    if file.is_dir() or not os.access(file.absolute().parent, os.W_OK):
        raise ValueError(f"{file}: no file can be written there")
