"""A systemd unit."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from concur_agents.launch.compose import STOP_GRACE_S
from concur_agents.launch.text import service_name

if TYPE_CHECKING:
    from concur_agents.launch.profile import LaunchProfile

_PLAIN = re.compile(r"[\w@+:,./=-]+", re.ASCII)


def unit(profile: LaunchProfile, program: list[str]) -> str:
    """A service that runs as a user of its own and keeps its downloads under /var/lib.

    Args:
        profile: The server.
        program: What to run; systemd wants the whole path.

    Raises:
        ValueError: The program is no whole path.
    """
    if not program[0].startswith("/"):
        raise ValueError(
            f"systemd needs the whole path of {program[0]!r}, which is not installed here: say --executable, such as "
            f"/opt/{profile.engine.lower()}/bin/{program[0]}"
        )
    name = service_name(profile)
    words = [*program, *profile.arguments()]
    lines = [
        "[Unit]",
        f"Description={_escaped(profile.engine)} serving {_escaped(profile.served_name or profile.shape.hf_id)}",
        "Wants=network-online.target",
        "After=network-online.target",
        "",
        "[Service]",
        "Type=exec",
        f"ExecStart={' '.join(map(quoted, words))}",
        "# Secrets, such as the API key: a file that only root reads (chmod 600), one NAME=value a line.",
        f"EnvironmentFile=-/etc/{name}.env",
        "DynamicUser=yes",
        f"StateDirectory={name}",
        f"WorkingDirectory=/var/lib/{name}",
        f"Environment=HOME=/var/lib/{name} HF_HOME=/var/lib/{name}/huggingface",
        "LimitNOFILE=65536",
        "Restart=on-failure",
        "RestartSec=10",
        f"TimeoutStopSec={STOP_GRACE_S}",
        "",
        "[Install]",
        "WantedBy=multi-user.target",
    ]
    return "\n".join(lines) + "\n"


def quoted(word: str) -> str:
    """A word of a command line as systemd reads it (systemd.service, "Command lines")."""
    word = word.replace("%", "%%").replace("$", "$$")
    if _PLAIN.fullmatch(word):
        return word
    return '"' + word.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _escaped(text: str) -> str:
    return text.replace("%", "%%")
