"""`concur launch`: the right server for a load of agents."""

from __future__ import annotations

import os
import re
import shutil
import sys
from pathlib import Path  # noqa: TC003  typer reads the annotations
from typing import TYPE_CHECKING, Annotated, Any

import typer
from pydantic import ValidationError

from concur_agents.cli.say import say, say_error
from concur_agents.errors import ConcurError
from concur_agents.files import write_whole
from concur_agents.launch import FORMATS, SglangProfile, TensorRtLlmProfile, VllmProfile, render
from concur_agents.launch.text import header
from concur_agents.simulation.hardware import GPUS, parse_hardware

if TYPE_CHECKING:
    from concur_agents.launch import LaunchProfile

ENGINES: dict[str, type[LaunchProfile]] = {
    "vllm": VllmProfile,
    "sglang": SglangProfile,
    "tensorrt-llm": TensorRtLlmProfile,
}

HELP = """\
Write the command that starts the right server for a load of agents, with one reason a flag.

\b
  concur launch vllm --model Qwen/Qwen3-32B --gpus 8 --agents 256 --context 64k
  concur launch vllm --model Qwen/Qwen3-32B --gpus 8 --agents 256 --context 64k \\
      --format k8s --output vllm.yaml

Before anything starts it says how many agents of that size fit the KV cache at once, and warns of what will hurt.
The sizes are estimates from the model's shape and the GPUs' memory; a server tells its true size when it is up.

ENGINE is vllm (0.9 or newer), or sglang or tensorrt-llm, whose flags were checked against their sources; nothing
of those was run.

\b
Formats:
  command   a script, one reason a flag
  args      the arguments alone, on one line
  yaml      the server's own file: vllm serve --config FILE
  compose   a compose file; only this machine reaches the port
  k8s       a Kubernetes Deployment with probes, a Service, a volume; scraped by Prometheus
  systemd   a unit file

More arguments of the server go after --, and count where they say the same as one of ours:

\b
  concur launch vllm ... -- --max-num-seqs 512 --seed 1

No API key is ever written: vLLM reads VLLM_API_KEY, and the files for containers and systemd say where that comes
from. Nothing is looked up on the network: for a model that is not known, let --model be its folder, or give its
config.json as --model-config, or say --kv-bytes-per-token and --weight-gib.
"""

_TOKENS = re.compile(r"(\d+)([km]?)", re.ASCII | re.IGNORECASE)
_UNITS = {"": 1, "k": 1024, "m": 1024 * 1024}


def launch(  # noqa: PLR0917  typer makes an option of each
    call: typer.Context,
    engine: Annotated[str, typer.Argument(metavar="ENGINE", help=f"One of {', '.join(ENGINES)}.")],
    model: Annotated[str, typer.Option(metavar="NAME", help="A Hugging Face id, a name of ours, or a model's folder.")],
    agents: Annotated[int, typer.Option(metavar="N", min=1, help="Agents that shall run: all of them, not what fits.")],
    context: Annotated[
        str, typer.Option(metavar="TOKENS", help="The context of one at its largest: 40960, or 64k (65,536).")
    ],
    gpus: Annotated[int | None, typer.Option(metavar="N", min=1, help="How many; 1 if not given.")] = None,
    hardware: Annotated[
        str, typer.Option(metavar="GPU", help=f"What they are: {', '.join(GPUS)}; GPU:N tells their number too.")
    ] = "h100",
    gpu_memory_gib: Annotated[
        float | None, typer.Option(metavar="GIB", help="Memory of one GPU, for a kind that is not known.")
    ] = None,
    model_config: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The config.json of a model that is not known.")
    ] = None,
    kv_bytes_per_token: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="KV cache of a token, over all GPUs, if it is told.")
    ] = None,
    weight_gib: Annotated[
        float | None, typer.Option(metavar="GIB", help="The weights, over all GPUs, if told.")
    ] = None,
    tool_parser: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="How the model writes tool calls, as the engine names it; none for no tools."
        ),
    ] = None,
    host: Annotated[
        str, typer.Option(metavar="ADDRESS", help="Where to listen; containers do everywhere within themselves.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(metavar="N", min=1, max=65535, help="Where to listen.")] = 8000,
    served_name: Annotated[
        str | None, typer.Option(metavar="NAME", help="What clients call the model, if not by its id.")
    ] = None,
    vllm_version: Annotated[
        str | None,
        typer.Option(
            metavar="VERSION",
            help=f"The release, such as 0.32 or 0.10.2; {VllmProfile.model_fields['version'].default} if not given.",
        ),
    ] = None,
    image: Annotated[str | None, typer.Option(metavar="IMAGE", help="The container image, if not the makers'.")] = None,
    executable: Annotated[
        str | None, typer.Option(metavar="PATH", help="The server's program, if not the one on PATH.")
    ] = None,
    form: Annotated[str, typer.Option("--format", metavar="FORMAT", help=f"One of {', '.join(FORMATS)}.")] = "command",
    output: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write there, whole or not at all, instead of to stdout.")
    ] = None,
    *,
    fp8_kv: Annotated[
        bool, typer.Option("--fp8-kv", help="Keep keys and values in FP8: half the bytes a token.")
    ] = False,
    priorities: Annotated[bool, typer.Option("--priorities", help="Requests carry a priority.")] = False,
    execute: Annotated[bool, typer.Option("--exec", help="Start the server, in place of this command.")] = False,
) -> None:
    """Launch a server; `HELP` is what people read of it."""
    try:
        count, kind = _gpus(gpus, hardware)
        told: dict[str, Any] = {
            "model": model,
            "model_config_path": str(model_config) if model_config else None,
            "gpus": count,
            "hardware": kind,
            "gpu_memory_gib": gpu_memory_gib,
            "agents": agents,
            "context": _tokens(context),
            "kv_bytes_per_token": kv_bytes_per_token,
            "weight_gib": weight_gib,
            "fp8_kv": fp8_kv,
            "priorities": priorities,
            "tool_parser": tool_parser,
            "host": host,
            "port": port,
            "served_name": served_name,
            "image": image,
            "extra": tuple(call.args),
        }
        profile = _profile(engine, told, vllm_version)
        program = _program(profile, executable, whole=form == "systemd")
        text = render(profile, form, program=program)
        if execute:
            _check_runnable(profile, program)
        if output is not None:
            write_whole(output, text)
    except ValidationError as error:
        _fail("; ".join(_faults(error)))
    except (ConcurError, ValueError, OSError) as error:
        say_error(error)
        raise typer.Exit(1) from None
    _say(profile, shown=output is None and form != "args" and not execute)
    if execute:
        sys.stdout.flush()
        _become([*program, *profile.arguments()])
    if output is None:
        sys.stdout.write(text)
    else:
        say(f"written to {output}")


def _profile(engine: str, told: dict[str, Any], vllm_version: str | None) -> LaunchProfile:
    if engine not in ENGINES:
        raise ValueError(f"there is no engine {engine!r}: use one of {', '.join(ENGINES)}")
    if vllm_version is None:
        return ENGINES[engine](**told)
    if engine != "vllm":
        raise ValueError(f"--vllm-version is for vllm, not for {engine}: leave it out")
    return VllmProfile(**told, version=vllm_version)


def _gpus(count: int | None, hardware: str) -> tuple[int, str]:
    """How many GPUs, and what they are."""
    parsed = parse_hardware(hardware)
    if ":" not in hardware:
        return count or 1, parsed.gpu.name
    if count not in {None, parsed.count}:
        raise ValueError(f"--gpus {count} and --hardware {hardware} tell two numbers: leave one of them out")
    return parsed.count, parsed.gpu.name


def _tokens(text: str) -> int:
    match = _TOKENS.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"--context is {text!r}: write a number of tokens, such as 40960 or 64k")
    return int(match[1]) * _UNITS[match[2].lower()]


def _program(profile: LaunchProfile, executable: str | None, *, whole: bool) -> list[str]:
    """The command, with another program if one is named; systemd gets the whole path of what is found."""
    name, *rest = profile.command()
    if executable is not None:
        return [executable, *rest]
    return [(shutil.which(name) or name) if whole else name, *rest]


def _check_runnable(profile: LaunchProfile, program: list[str]) -> None:
    if profile.options() is not None:
        raise ValueError(f"{profile.engine} needs a file of options beside it: run what --format command writes")
    if shutil.which(program[0]) is None:
        raise ValueError(
            f"{program[0]!r} cannot be run here: install {profile.engine}, or say where it is: --executable"
        )


def _become(command: list[str]) -> None:
    os.execvp(command[0], command)  # noqa: S606  no shell: each argument is one word, whatever is in it


def _say(profile: LaunchProfile, *, shown: bool) -> None:
    """What fits, unless the file that is shown says it; and what will hurt."""
    if not shown:
        for line in header(profile):
            say(line)
    for line in profile.warnings():
        say(f"warning: {line}")


def _faults(error: ValidationError) -> list[str]:
    """Each fault, with its option where the sentence does not name it."""
    faults = []
    for fault in error.errors(include_url=False, include_input=False):
        option = "--" + "-".join(str(part) for part in fault["loc"]).replace("_", "-")
        told = fault["type"] == "value_error"
        faults.append(fault["msg"].removeprefix("Value error, ") if told else f"{option}: {fault['msg']}")
    return faults


def _fail(message: str) -> None:
    say(f"error: {message}")
    raise typer.Exit(1)
