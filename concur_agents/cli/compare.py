"""`concur compare`: one workload under several controllers, side by side."""

from __future__ import annotations

import asyncio
import os
import sys
from dataclasses import dataclass, field
from pathlib import Path  # noqa: TC003  typer reads the annotations
from typing import TYPE_CHECKING, Annotated

import typer

from concur_agents.cli.progress import make_reporter
from concur_agents.cli.table import print_comparison
from concur_agents.control import CONTROLLER_SPECS, parse_controller
from concur_agents.engines import metrics_url
from concur_agents.errors import ConcurError, MissingExtra
from concur_agents.replay.results import Comparison, EngineInfo, RunResult, with_speedups, write_json
from concur_agents.replay.shape import Shape
from concur_agents.replay.workload import Workload

if TYPE_CHECKING:
    from concur_agents.cli.progress import Reporter

INTERRUPTED = 130  # what a shell reports of a command that Ctrl-C ended
_EXTRAS = {"openai", "langgraph", "langchain_core"}


HELP = """\
Replay agents on a live server under each controller in turn, and print what each was worth.

\b
  concur compare trace.jsonl.gz --url http://localhost:8000 \\
      --controllers none,fixed:16,aimd --json result.json

Contexts too large for the server? A twentieth of all token counts and of all tool waits:

\b
  concur compare trace.jsonl.gz --url http://localhost:8000 \\
      --scale 0.05 --scale-tools 0.05

Each agent is a LangGraph graph that calls the server through the OpenAI client, with exactly the token counts
of the trace and filler for text; outputs are fed back as they come. A run starts when nothing runs or waits on
the server, and finds nothing of the other runs in its cache. A tool wait that the trace does not know (null) is
0 s; waits for people (human_seconds) are left out; sub-agents run as agents of their own.

An API key is read from OPENAI_API_KEY. Ctrl-C prints the runs that are done.
"""


def compare(  # noqa: PLR0917  typer makes an option of each
    source: Annotated[
        str, typer.Argument(metavar="SOURCE", help="A trace: a .jsonl or .jsonl.gz file, one agent a line.")
    ],
    url: Annotated[
        str | None,
        typer.Option(metavar="URL", help="The vLLM server to replay on, such as http://localhost:8000. Required."),
    ] = None,
    controllers: Annotated[
        str,
        typer.Option(
            metavar="LIST", help=f"What to compare, with commas between: {', '.join(CONTROLLER_SPECS)}. One run each."
        ),
    ] = "none,fixed:16,aimd",
    agents: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="Replay N agents, chosen by --seed, instead of all in their order. More than the trace has: some run "
            "again, with other tokens.",
        ),
    ] = None,
    seed: Annotated[
        int, typer.Option(metavar="S", help="Chooses the agents and their tokens; the same in every run.")
    ] = 0,
    scale: Annotated[
        float, typer.Option(metavar="F", help="Multiplies all token counts: prompts, outputs, shared prefixes.")
    ] = 1.0,
    scale_output: Annotated[
        float,
        typer.Option(metavar="F", help="Multiplies the output tokens, on top of --scale; each call keeps at least 1."),
    ] = 1.0,
    scale_tools: Annotated[
        float, typer.Option(metavar="F", help="Multiplies the seconds waited for tools; 0 leaves them out.")
    ] = 1.0,
    max_context: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="End an agent before the call whose prompt and output pass N tokens, counted after scaling.",
        ),
    ] = None,
    model_name: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="The model to ask, instead of the first of the server's list."),
    ] = None,
    json: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write all figures there as JSON."),
    ] = None,
) -> None:
    """Compare controllers on a live server; `HELP` is what people read of it."""
    outcome = _Outcome()
    code = 0
    try:
        plan = _Plan(
            workload=Workload.load(
                source,
                Shape(
                    agents=agents,
                    seed=seed,
                    scale=scale,
                    scale_output=scale_output,
                    scale_tools=scale_tools,
                    max_context=max_context,
                ),
            ),
            controllers=_controllers(controllers),
            url=_url(url),
            model_name=model_name,
        )
        _check_folder(json)
        with make_reporter(len(plan.controllers)) as reporter:
            asyncio.run(_replay(plan, outcome, reporter))
    except KeyboardInterrupt:
        _say(f"stopped; {len(outcome.runs)} of the runs are done")
        code = INTERRUPTED
    except (ConcurError, ValueError, OSError) as error:
        _say(f"error: {' '.join(str(error).split())}")
        code = 1
    if outcome.runs and outcome.engine is not None:
        workload = plan.workload.info(outcome.engine.capacity_tokens)
        comparison = Comparison(engine=outcome.engine, workload=workload, runs=with_speedups(outcome.runs))
        print_comparison(comparison)
        if json is not None and not _written(comparison, json):
            code = code or 1
    raise typer.Exit(code)


@dataclass(frozen=True, slots=True)
class _Plan:
    workload: Workload
    controllers: list[str]
    url: str
    model_name: str | None


@dataclass(slots=True)
class _Outcome:
    """What there is to show, however it ends."""

    engine: EngineInfo | None = None
    runs: list[RunResult] = field(default_factory=list)


async def _replay(plan: _Plan, outcome: _Outcome, reporter: Reporter) -> None:
    try:
        from concur_agents.replay.runner import run_live  # noqa: PLC0415  an extra
        from concur_agents.replay.server import open_server  # noqa: PLC0415  an extra
    except ImportError as error:
        if (error.name or "").partition(".")[0] not in _EXTRAS:
            raise
        raise MissingExtra(f"a replay needs {error.name}: pip install 'concur-agents[demo]'") from error
    api_key = os.environ.get("OPENAI_API_KEY") or "EMPTY"
    async with open_server(plan.url, model_name=plan.model_name, api_key=api_key) as server:
        outcome.engine = server.info
        _check_length(plan.workload, server.info)
        if not server.returns_ids:
            reporter.note(
                "the server does not return token ids (return_token_ids): filler is fed back in place of "
                "outputs, and the cache cannot reuse that part"
            )
        for controller in plan.controllers:
            outcome.runs.append(await run_live(plan.workload, controller, server, on_progress=reporter.show))


def _controllers(given: str) -> list[str]:
    specs = [spec.strip() for spec in given.split(",") if spec.strip()]
    if not specs:
        raise ValueError(f"--controllers names none: write some of {', '.join(CONTROLLER_SPECS)}")
    for spec in specs:
        parse_controller(spec)
    return specs


def _url(given: str | None) -> str:
    if given is None:
        raise ValueError(
            "give the server with --url, such as --url http://localhost:8000; a comparison in virtual time, without "
            "a server, comes with the embedded engine in a later version"
        )
    metrics_url(given)
    return given


def _check_folder(path: Path | None) -> None:
    """Tell before the runs, not after them, that their figures cannot be written."""
    if path is not None and (path.is_dir() or not os.access(path.absolute().parent, os.W_OK)):
        raise ValueError(f"--json {path}: no file can be written there")


def _written(comparison: Comparison, path: Path) -> bool:
    try:
        write_json(comparison, path)
    except OSError as error:
        _say(f"error: --json {path}: {error.strerror or error}; the table above is all there is")
        return False
    _say(f"written to {path}")
    return True


def _check_length(workload: Workload, engine: EngineInfo) -> None:
    limit = engine.max_model_len
    if limit is not None and workload.longest > limit:
        raise ValueError(
            f"a call of this trace has {workload.longest:,} tokens of prompt and output, and {engine.model} takes "
            f"{limit:,}: give --max-context {limit}, or a smaller --scale"
        )


def _say(text: str) -> None:
    sys.stderr.write(f"concur: {text}\n")
