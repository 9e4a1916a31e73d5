"""The files that start a server, each in the format of its own tool."""

from __future__ import annotations

import shlex
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from concur_agents.launch.compose import compose, secrets
from concur_agents.launch.kubernetes import manifests
from concur_agents.launch.systemd import unit
from concur_agents.launch.text import commented, header, service_name, to_yaml

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from concur_agents.launch.flag import Flag
    from concur_agents.launch.profile import LaunchProfile

_COMMENT_COLUMN = 44


def render(profile: LaunchProfile, form: str = "command", *, program: Sequence[str] | None = None) -> str:
    """Write a server down.

    Args:
        profile: The server.
        form: One of `FORMATS`.
        program: What to run instead of the engine's own command, such as `["/opt/vllm/bin/vllm", "serve"]`.

    Returns:
        The text of the file.

    Raises:
        MissingExtra: PyYAML is not installed.
        ValueError: There is no such format, or not for this engine.
    """
    if form not in FORMATS:
        raise ValueError(f"there is no format {form!r}: use one of {', '.join(FORMATS)}")
    return FORMATS[form](profile, list(program or profile.command()))


def _script(profile: LaunchProfile, program: list[str]) -> str:
    lines = ["#!/usr/bin/env bash", *(f"# {line}" for line in header(profile)), "args=("]
    for flag in profile.flags():
        words = shlex.join(flag.words)
        lines.append(f"  {words:<{_COMMENT_COLUMN - 2}}  # {flag.reason}")
    lines.append(")")
    options = profile.options()
    if options is not None:
        lines += [f"cat > {profile.options_file} <<'EOF'", to_yaml(options).rstrip(), "EOF"]
    lines.append(f'{shlex.join(program)} "${{args[@]}}"')
    return "\n".join(lines) + "\n"


def _args(profile: LaunchProfile, _: list[str]) -> str:
    return shlex.join(profile.arguments()) + "\n"


def _config(profile: LaunchProfile, _: list[str]) -> str:
    """The engine's own file: `vllm serve --config FILE`."""
    options = profile.options()
    if options is not None:
        return commented(profile) + to_yaml(options)
    parts = (f"# {flag.reason}\n{to_yaml(dict([_entry(flag)]))}" for flag in profile.flags())
    return commented(profile) + "".join(parts)


def _entry(flag: Flag) -> tuple[str, Any]:
    name = flag.name.lstrip("-").replace("_", "-") or "model"
    if not flag.values:
        return name, True
    return name, _scalar(flag.values[0]) if len(flag.values) == 1 else [_scalar(value) for value in flag.values]


def _scalar(text: str) -> int | float | str:
    """A number as a number: it reads better, and means the same to a parser of arguments."""
    for kind in (int, float):
        try:
            number = kind(text)
        except ValueError:
            continue
        if str(number) == text:
            return number
    return text


def _compose(profile: LaunchProfile, program: list[str]) -> str:
    inside = _alone(profile).inside_container()
    names = ", ".join(secrets(inside))
    whence = f"# {names}: from the shell, or from a file .env beside this one.\n"
    return commented(inside) + whence + to_yaml(compose(inside, program))


def _kubernetes(profile: LaunchProfile, program: list[str]) -> str:
    inside = _alone(profile).inside_container()
    wanted = f"kubectl create secret generic {service_name(inside)} --from-file=api-key=FILE"
    whence = f"# First, with the API key in FILE: {wanted}\n" if inside.key_variable else ""
    return commented(inside) + whence + to_yaml(*manifests(inside, program))


def _systemd(profile: LaunchProfile, program: list[str]) -> str:
    return commented(profile) + unit(_alone(profile), program)


def _alone(profile: LaunchProfile) -> LaunchProfile:
    if profile.options() is not None:
        raise ValueError(f"{profile.engine} needs a file of options beside it: use the format command, args or yaml")
    return profile


FORMATS: Mapping[str, Callable[[LaunchProfile, list[str]], str]] = MappingProxyType(
    {
        "command": _script,
        "args": _args,
        "yaml": _config,
        "compose": _compose,
        "k8s": _kubernetes,
        "systemd": _systemd,
    }
)
"""How a server can be written down."""
