"""`concur demo`: the collapse and the cure, side by side, in half a minute."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from concur_agents.cli.engine import HardwareOption, reaching
from concur_agents.cli.live import check_live, live_server, needed_packages
from concur_agents.cli.say import INTERRUPTED, say, say_error
from concur_agents.cli.side_by_side import SideBySide
from concur_agents.cli.table import print_comparison
from concur_agents.config import GateConfig
from concur_agents.control import parse_controller
from concur_agents.errors import ConcurError
from concur_agents.replay.results import Comparison, EngineInfo, RunResult, with_speedups
from concur_agents.replay.shape import Shape
from concur_agents.replay.workload import Workload
from concur_agents.simulation.profile import EngineProfile
from concur_agents.simulation.virtual_time import run

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from concur_agents.replay.server import LiveServer

SOURCE = "workload:search"
AGENTS = 72
MODEL = "qwen3-8b"
HARDWARE = "a100-40"
SCALE = 0.25
"""Of the generated contexts: two runs of the whole ones take a minute to compute."""

LIVE_AGENTS = 40
LIVE_PRESSURE = 5.0
"""On a live server contexts are scaled until their last ones come to this many times its cache."""

HELP = """\
See the collapse and the cure: the same agents on the same server, without a gate and with one.

\b
  concur demo

runs LangGraph agents through the OpenAI client on the embedded engine, a model of vLLM, in virtual time: no GPU, no
server, a quarter of an hour of serving in half a minute. What it prints is simulated.

\b
  concur demo --url http://localhost:8000

does the same on your own vLLM server, one run after the other and with real requests, the agents' contexts scaled to
five times its cache. Give it the server for itself. An API key is read from OPENAI_API_KEY.
"""


def demo(  # noqa: PLR0917  typer makes an option of each
    url: Annotated[
        str | None, typer.Option(metavar="URL", help="Run on this vLLM server, such as http://localhost:8000.")
    ] = None,
    controller: Annotated[
        str | None, typer.Option(metavar="SPEC", help="The gate's controller, if not the default one.")
    ] = None,
    agents: Annotated[
        int | None, typer.Option(metavar="N", help=f"How many agents; {AGENTS} if not given, {LIVE_AGENTS} with --url.")
    ] = None,
    seed: Annotated[int, typer.Option(metavar="S", help="Chooses the agents.")] = 0,
    model: Annotated[
        str | None,
        typer.Option(metavar="NAME", help=f"The model to simulate ({MODEL} if not given); with --url, the one to ask."),
    ] = None,
    hardware: HardwareOption = None,
) -> None:
    """Show both runs; `HELP` is what people read of it."""
    code = 0
    outcome = _Outcome()
    console = Console(highlight=False)
    try:
        spec = controller or str(GateConfig.model_fields["controller"].default)
        parse_controller(spec)
        needed_packages()
        if url is not None:
            check_live(url, hardware=hardware)
        with SideBySide(("no gate", f"gate ({spec})"), console) as view:
            if url is None:
                profile = EngineProfile.from_hardware(model or MODEL, hardware or HARDWARE)
                workload = Workload.load(
                    SOURCE, Shape(agents=AGENTS if agents is None else agents, seed=seed, scale=SCALE)
                )
                profile = reaching(profile, workload.longest) or profile
                run(_simulated(profile, workload, spec, outcome, view))
            else:
                shape = Shape(agents=LIVE_AGENTS if agents is None else agents, seed=seed)
                asyncio.run(_live(url, model, shape, spec, outcome, view))
    except KeyboardInterrupt:
        say("stopped")
        code = INTERRUPTED
    except (ConcurError, ValueError, OSError) as error:
        say_error(error)
        code = 1
    if outcome.engine is not None and outcome.workload is not None and outcome.runs:
        print_comparison(
            Comparison(
                engine=outcome.engine,
                workload=outcome.workload.info(outcome.engine.capacity_tokens),
                runs=with_speedups(outcome.runs),
            )
        )
        if not code:
            _tell_what_next(console, live=url is not None)
    raise typer.Exit(code)


@dataclass(slots=True)
class _Outcome:
    """What there is to show, however it ends."""

    engine: EngineInfo | None = None
    workload: Workload | None = None
    runs: tuple[RunResult, ...] = ()


async def _simulated(
    profile: EngineProfile, workload: Workload, spec: str, outcome: _Outcome, view: SideBySide
) -> None:
    """Both runs at the same time, each on an engine of its own: at every moment they can be compared."""
    from concur_agents.replay.in_process import open_in_process  # noqa: PLC0415  an extra

    async with open_in_process(profile) as plain, open_in_process(profile) as gated:
        outcome.engine, outcome.workload = plain.info, workload
        outcome.runs = tuple(
            await asyncio.gather(
                _one(workload, "none", plain, partial(view.show, 0)),
                _one(workload, spec, gated, partial(view.show, 1)),
            )
        )


async def _live(url: str, model: str | None, shape: Shape, spec: str, outcome: _Outcome, view: SideBySide) -> None:  # noqa: PLR0917  the command's options
    async with live_server(url, model) as (server, _):
        workload = _scaled_to(server.info, shape)
        outcome.engine, outcome.workload = server.info, workload
        for number, controller in enumerate(("none", spec)):
            outcome.runs += (await _one(workload, controller, server, partial(view.show, number)),)


def _one(workload: Workload, controller: str, server: LiveServer, show: Callable[..., None]) -> Awaitable[RunResult]:
    _, run_live = needed_packages()
    result: Any = run_live(workload, controller, server, on_progress=show)
    return result  # type: ignore[no-any-return]


def _scaled_to(info: EngineInfo, shape: Shape) -> Workload:
    """Agents whose last contexts come to `LIVE_PRESSURE` times the server's cache, and fit it one by one."""
    if info.capacity_tokens is None:
        raise ValueError("the server does not say how large its KV cache is: compare with `concur compare` instead")
    pressure = Workload.load(SOURCE, shape).info(info.capacity_tokens).oversubscription or LIVE_PRESSURE
    longest = min(info.max_model_len or info.capacity_tokens, info.capacity_tokens)
    return Workload.load(SOURCE, replace(shape, scale=min(1.0, LIVE_PRESSURE / pressure), max_context=longest))


def _tell_what_next(console: Console, *, live: bool) -> None:
    lines = ["", "Put it in front of your own agents:", "", "    from concur_agents import ConcurGate", ""]
    lines += [
        '    gate = ConcurGate("http://localhost:8000")',
        '    async with gate.agent("task-17"):',
        "        await run_my_agent()",
        "",
    ]
    if not live:
        lines += [
            "On a real server: concur demo --url http://localhost:8000",
            "Your own load:    concur compare TRACE.jsonl.gz --url http://localhost:8000",
            "Other hardware:   concur compare workload:swe --model qwen3-32b --hardware h100:8",
        ]
    for line in lines:
        console.print(line, markup=False, soft_wrap=True)
