"""`concur serve`: the embedded engine over HTTP."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import signal
from dataclasses import dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING, Annotated

import typer

from concur_agents.cli.engine import DEFAULT_HARDWARE, DEFAULT_MODEL, FitOption, HardwareOption, chosen_profile
from concur_agents.cli.say import say
from concur_agents.simulation.api import TOOL_ROUNDS, OpenAIApi
from concur_agents.simulation.http import serving
from concur_agents.simulation.profile import EngineProfile
from concur_agents.simulation.running import RunningEngine

if TYPE_CHECKING:
    from collections.abc import Iterator

MODELLED = "0.32.0"
"""The vLLM that the engine behaves as."""

HELP = """\
Serve a simulated engine over HTTP, to test clients and gates against without a GPU.

\b
  concur serve --model qwen3-32b --hardware h100:8
  curl http://127.0.0.1:8000/v1/chat/completions -H 'Content-Type: application/json' \\
      -d '{"model": "qwen3-32b", "messages": [{"role": "user", "content": "Hello"}]}'

It keeps vLLM's books (blocks, prefix cache, queue, preemptions) and takes the time that the hardware would take,
but computes nothing: the answers are filler text, and say so. Any OpenAI client works against it: chat and plain
completions, streams, tool calls (with arguments valid by the tool's JSON schema), usage with cached tokens; its
/metrics is vLLM's.

An answer has the length that max_tokens and ignore_eos fix together; else one that is drawn, about 120 tokens.
Tokens are pieces of text of about four characters, not the model's own.

With --speed 20 a second of its time passes in a twentieth of a second. Clients then have to be 20 times as fast,
too: their tool waits, and the poll interval of a gate. Ctrl-C ends it.
"""


def serve(  # noqa: PLR0917  typer makes an option of each
    model: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="The model to simulate, such as qwen3-32b; it is served under this name."),
    ] = None,
    hardware: HardwareOption = None,
    fit: FitOption = None,
    speed: Annotated[
        float, typer.Option(metavar="F", help="How many times as fast as the hardware: 1 is its own time.")
    ] = 1.0,
    host: Annotated[
        str,
        typer.Option(metavar="ADDRESS", help="Where to listen; 0.0.0.0 lets other machines in, without a password."),
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(metavar="N", min=0, max=65535, help="The TCP port; 0 takes a free one.")] = 8000,
    max_model_len: Annotated[
        int | None,
        typer.Option(metavar="N", help="Longest prompt and output together, in tokens; the model's own if not given."),
    ] = None,
    tool_rounds: Annotated[
        int,
        typer.Option(
            metavar="N",
            min=0,
            help="An agent whose tool_choice is auto gets tool calls until its conversation holds N results.",
        ),
    ] = TOOL_ROUNDS,
) -> None:
    """Serve a simulated engine; `HELP` is what people read of it."""
    try:
        profile = _profile(model, hardware, fit, max_model_len)
        asyncio.run(_serve(_Plan(profile=profile, speed=speed, host=host, port=port, tool_rounds=tool_rounds)))
    except OSError as error:
        _fail(_why_not(error, host, port))
    except ValueError as error:
        _fail(" ".join(str(error).split()))
    except KeyboardInterrupt:  # where signals have no handlers in the loop: Windows
        say("stopped")


@dataclass(frozen=True, slots=True)
class _Plan:
    profile: EngineProfile
    speed: float
    host: str
    port: int
    tool_rounds: int


def _profile(model: str | None, hardware: str | None, fit: str | None, max_model_len: int | None) -> EngineProfile:
    if max_model_len is None:
        return chosen_profile(model, hardware, fit)
    if fit is None:
        return EngineProfile.from_hardware(
            model or DEFAULT_MODEL, hardware or DEFAULT_HARDWARE, max_model_len=max_model_len
        )
    measured = chosen_profile(model, hardware, fit)
    return EngineProfile.model_validate({**measured.model_dump(), "max_model_len": max_model_len})


async def _serve(plan: _Plan) -> None:
    engine = plan.profile.engine()
    api = OpenAIApi(
        RunningEngine(engine, speed=plan.speed),
        model=plan.profile.name,
        version=f"{MODELLED}+concur.{version('concur-agents')}",
        tool_rounds=plan.tool_rounds,
    )
    _allow_many_connections()
    stop = asyncio.Event()
    with _signals_set(stop):
        async with serving(api, host=plan.host, port=plan.port) as url:
            faster = "" if plan.speed == 1 else f", {plan.speed:g} times as fast"
            say(f"{plan.profile.name} on {url}/v1 — {plan.profile.description or 'as measured'}{faster}")
            say(
                f"KV cache of {engine.capacity_tokens:,} tokens, contexts up to {engine.max_model_len:,}. "
                "It generates filler text: it is an engine to test against. Ctrl-C ends it."
            )
            await stop.wait()
    say("stopped")


@contextlib.contextmanager
def _signals_set(stop: asyncio.Event) -> Iterator[None]:
    loop = asyncio.get_running_loop()
    handled = []
    for number in (signal.SIGINT, signal.SIGTERM):
        # A loop on Windows has none, and only the main thread may: there KeyboardInterrupt does it.
        with contextlib.suppress(NotImplementedError, ValueError, RuntimeError):
            loop.add_signal_handler(number, stop.set)
            handled.append(number)
    try:
        yield
    finally:
        for number in handled:
            loop.remove_signal_handler(number)


def _allow_many_connections() -> None:
    """Raise the limit on open files, often 1,024, to the most that is allowed, as vLLM does (`set_ulimit`)."""
    try:
        import resource  # noqa: PLC0415  Windows has none, and needs none
    except ImportError:
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _why_not(error: OSError, host: str, port: int) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"port {port} is in use: give another with --port, or --port 0 for a free one"
    # From Python 3.13 on, asyncio says that none of the host's addresses is here without the number.
    if error.errno == errno.EADDRNOTAVAIL or str(error).startswith("could not bind on any address"):
        return f"{host} is no address of this machine: give one with --host, such as 127.0.0.1"
    if error.errno == errno.EACCES:
        return f"port {port} needs more rights than you have: give one above 1023 with --port"
    return f"{error.filename}: {error.strerror}" if error.filename else str(error)


def _fail(text: str) -> None:
    say(f"error: {text}")
    raise typer.Exit(1)
