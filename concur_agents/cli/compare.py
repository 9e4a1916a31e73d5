"""`concur compare`: workloads under several controllers, side by side."""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass, field, replace
from pathlib import Path  # noqa: TC003  typer reads the annotations
from typing import TYPE_CHECKING, Annotated

import typer

from concur_agents.cli.engine import FitOption, HardwareOption, chosen_profile, reaching
from concur_agents.cli.live import check_live, live_server
from concur_agents.cli.progress import make_reporter
from concur_agents.cli.say import INTERRUPTED, say, say_error
from concur_agents.cli.table import print_comparison
from concur_agents.control import CONTROLLER_SPECS, parse_controller
from concur_agents.errors import ConcurError
from concur_agents.replay.results import Comparison, EngineInfo, RunResult, with_speedups, write_json
from concur_agents.replay.shape import Shape
from concur_agents.replay.workload import Workload

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from concur_agents.cli.progress import Reporter
    from concur_agents.simulation.profile import EngineProfile


HELP = """\
Run agents under each controller in turn, and print what each was worth.

Without --url the agents run on the embedded engine, a model of vLLM, in virtual time: no GPU, no server, minutes of
serving in seconds. What it prints is simulated.

\b
  concur compare workload:swe --model qwen3-32b --hardware h100:2 \\
      --controllers none,fixed:16,aimd,pi

On your own server, with real requests:

\b
  concur compare trace.jsonl.gz --url http://localhost:8000 \\
      --controllers none,fixed:16,aimd --json result.json

Contexts too large for it? A twentieth of all token counts and of all tool waits:

\b
  concur compare trace.jsonl.gz --url http://localhost:8000 \\
      --scale 0.05 --scale-tools 0.05

There each agent is a LangGraph graph that calls the server through the OpenAI client, with exactly the token counts
of the workload and filler for text; outputs are fed back as they come. A run starts when nothing runs or waits on
the server, and finds nothing of the other runs in its cache.

A tool wait that a trace does not know (null) is 0 s; waits for people (human_seconds) are left out; sub-agents run
as agents of their own, unless a step of their parent spawns them.

With --report FILE.html it writes one page to look at and to hand on: every run over time on the same axes, waits and
latencies by agent size, and the gate's decisions. It opens without a network, and prints.

An API key is read from OPENAI_API_KEY. Ctrl-C prints the runs that are done.
"""


def compare(  # noqa: PLR0917  typer makes an option of each
    sources: Annotated[
        list[str],
        typer.Argument(
            metavar="SOURCE...",
            help="Traces (.jsonl or .jsonl.gz files, one agent a line) or generated agents, such as workload:swe; "
            "`concur compare workload:` lists them.",
        ),
    ],
    url: Annotated[
        str | None,
        typer.Option(metavar="URL", help="Replay on this vLLM server, such as http://localhost:8000."),
    ] = None,
    controllers: Annotated[
        str,
        typer.Option(
            metavar="LIST", help=f"What to compare, with commas between: {', '.join(CONTROLLER_SPECS)}. One run each."
        ),
    ] = "none,fixed:16,aimd,working-set",
    agents: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="Run N agents, chosen by --seed, instead of all in their order. More than a trace has: some run "
            "again, with other tokens.",
        ),
    ] = None,
    seed: Annotated[
        int, typer.Option(metavar="S", help="Chooses the agents and their tokens; the same in every run.")
    ] = 0,
    seeds: Annotated[
        int,
        typer.Option(metavar="N", help="Run each controller with N seeds, from --seed on, and show the spread.", min=1),
    ] = 1,
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
        typer.Option(
            "--model",
            metavar="NAME",
            help="With --url the model to ask, instead of the first of its list; else the one to simulate "
            "(qwen3-32b if not given).",
        ),
    ] = None,
    hardware: HardwareOption = None,
    fit: FitOption = None,
    json: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write all figures there as JSON."),
    ] = None,
    report: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.html", help="Write one page there that opens anywhere: timelines, waits, decisions, figures."
        ),
    ] = None,
) -> None:
    """Compare controllers; `HELP` is what people read of it."""
    outcome = _Outcome()
    files: list[_File] = []
    code = 0
    try:
        shape = Shape(
            agents=agents,
            seed=seed,
            scale=scale,
            scale_output=scale_output,
            scale_tools=scale_tools,
            max_context=max_context,
        )
        specs = _controllers(controllers)
        if seeds > 1 and agents is None:
            _check_seeds(sources)
        if url is not None:
            check_live(url, hardware=hardware, fit=fit)
        files = _files(json, report)
        shapes = [replace(shape, seed=seed + n) for n in range(seeds)]
        plan = _Plan([[Workload.load(source, shape) for shape in shapes] for source in sources], specs)
        with make_reporter(len(sources) * seeds * len(specs)) as reporter:
            if url is not None:
                asyncio.run(_run_live(plan, url, model_name, outcome, reporter))
            else:
                _run_simulated(plan, chosen_profile(model_name, hardware, fit), outcome, reporter)
    except KeyboardInterrupt:
        say(f"stopped; {sum(map(len, outcome.runs.values()))} of the runs are done")
        code = INTERRUPTED
    except (ConcurError, ValueError, OSError) as error:
        say_error(error)
        code = 1
    comparisons = outcome.comparisons()
    for comparison in comparisons:
        print_comparison(comparison)
    written = [_written(file, comparisons) for file in files if comparisons]
    if not all(written):
        code = code or 1
    raise typer.Exit(code)


@dataclass(frozen=True, slots=True)
class _File:
    """What is written at the end, where, and by whom."""

    option: str
    path: Path
    write: Callable[[Sequence[Comparison], Path], None]


@dataclass(frozen=True, slots=True)
class _Plan:
    """Every source's workload, one for each seed."""

    workloads: list[list[Workload]]
    controllers: list[str]

    @property
    def longest(self) -> int:
        """The longest prompt and output of any call. [tokens]"""
        return max(workload.longest for seeded in self.workloads for workload in seeded)

    def runs(self) -> Iterator[tuple[int, Workload, str]]:
        for number, seeded in enumerate(self.workloads):
            for workload in seeded:
                for controller in self.controllers:
                    yield number, workload, controller


@dataclass(slots=True)
class _Outcome:
    """What there is to show, however it ends: by source, what was run and what came of it."""

    engine: EngineInfo | None = None
    workloads: dict[int, Workload] = field(default_factory=dict)
    runs: dict[int, list[RunResult]] = field(default_factory=dict)

    def add(self, number: int, workload: Workload, run: RunResult) -> None:
        self.workloads.setdefault(number, workload)
        self.runs.setdefault(number, []).append(run)

    def comparisons(self) -> list[Comparison]:
        if self.engine is None:
            return []
        return [
            Comparison(
                engine=self.engine,
                workload=self.workloads[number].info(self.engine.capacity_tokens),
                runs=with_speedups(runs),
            )
            for number, runs in self.runs.items()
        ]


def _run_simulated(plan: _Plan, profile: EngineProfile, outcome: _Outcome, reporter: Reporter) -> None:
    from concur_agents.replay.simulated import engine_info, run_simulated  # noqa: PLC0415  slow to import

    longest = plan.longest
    if fitting := reaching(profile, longest):
        reporter.note(
            f"contexts reach {longest:,} tokens, past the {profile.max_model_len:,} that {profile.name} is configured "
            "for: taken to be served with --max-model-len and rope scaling"
        )
        profile = fitting
    outcome.engine = engine_info(profile)
    _check_length(plan, outcome.engine)
    for number, workload, controller in plan.runs():
        outcome.add(number, workload, run_simulated(workload, controller, profile, on_progress=reporter.show))


async def _run_live(plan: _Plan, url: str, model_name: str | None, outcome: _Outcome, reporter: Reporter) -> None:
    async with live_server(url, model_name) as (server, run_live):
        outcome.engine = server.info
        _check_length(plan, server.info)
        if not server.returns_ids:
            reporter.note(
                "the server does not return token ids (return_token_ids): filler is fed back in place of "
                "outputs, and the cache cannot reuse that part"
            )
        for number, workload, controller in plan.runs():
            outcome.add(number, workload, await run_live(workload, controller, server, on_progress=reporter.show))


def _controllers(given: str) -> list[str]:
    specs = [spec.strip() for spec in given.split(",") if spec.strip()]
    if not specs:
        raise ValueError(f"--controllers names none: write some of {', '.join(CONTROLLER_SPECS)}")
    for spec in specs:
        parse_controller(spec)
    return specs


def _check_seeds(sources: list[str]) -> None:
    """Without a choice of agents, every seed runs the whole of a trace in its order: there would be no spread."""
    whole = next((source for source in sources if not source.startswith("workload:")), None)
    if whole is not None:
        raise ValueError(f"--seeds chooses among the agents of {whole}: say how many with --agents")


def _files(json: Path | None, report: Path | None) -> list[_File]:
    """What is to be written; told before the runs, not after them, if it cannot be.

    Raises:
        MissingExtra: If the report needs a package that is not installed.
        ValueError: If one of them has no place to be.
    """
    files = []
    if json is not None:
        files.append(_File("--json", json, write_json))
    if report is not None:
        from concur_agents.report import write_report  # noqa: PLC0415  an extra

        files.append(_File("--report", report, write_report))
    for file in files:
        if file.path.is_dir() or not os.access(file.path.absolute().parent, os.W_OK):
            raise ValueError(f"{file.option} {file.path}: no file can be written there")
    if len({file.path.absolute() for file in files}) < len(files):
        raise ValueError(f"--json and --report are both {report}: give each a file of its own")
    return files


def _written(file: _File, comparisons: Sequence[Comparison]) -> bool:
    try:
        file.write(comparisons, file.path)
    except OSError as error:
        say(f"error: {file.option} {file.path}: {error.strerror or error}; what is printed above is not lost")
        return False
    say(f"written to {file.path}")
    return True


def _check_length(plan: _Plan, engine: EngineInfo) -> None:
    limit = engine.max_model_len
    if limit is not None and plan.longest > limit:
        raise ValueError(
            f"a call has {plan.longest:,} tokens of prompt and output, and {engine.model} takes {limit:,}: give "
            f"--max-context {limit}, or a smaller --scale"
        )
