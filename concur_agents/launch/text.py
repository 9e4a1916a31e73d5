"""What all files that start a server have in common."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

from concur_agents.errors import MissingExtra

if TYPE_CHECKING:
    from concur_agents.launch.profile import LaunchProfile


def to_yaml(*documents: object) -> str:
    """Documents as YAML, in the order of their keys.

    Raises:
        MissingExtra: PyYAML is not installed.
    """
    try:
        import yaml  # noqa: PLC0415  an extra
    except ImportError as missing:
        raise MissingExtra("this format needs PyYAML: pip install 'concur-agents[cli]'") from missing
    plain = json.loads(json.dumps(documents))  # parts that are used twice would be written as references
    text: str = yaml.safe_dump_all(plain, sort_keys=False, default_flow_style=False, width=1000)
    return text


def slug(text: str) -> str:
    """A name that Kubernetes, compose and systemd take."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:40].strip("-") or "model"


def service_name(profile: LaunchProfile) -> str:
    """What the service of a server is called.

    Never just `vllm`: Kubernetes would set VLLM_PORT for a service of that name, which vLLM takes for its own (its
    documentation, "Environment Variables").
    """
    return f"{slug(profile.engine)}-{slug(profile.served_name or profile.shape.hf_id.rstrip('/').rpartition('/')[2])}"


def header(profile: LaunchProfile) -> list[str]:
    """What stands above every file: the server, and how many agents fit."""
    version = getattr(profile, "version", None)
    return [
        f"{profile.shape.hf_id} on {profile.gpu}, {profile.engine}{f' {version}' if version else ''}",
        *profile.capacity().sentences(),
    ]


def commented(profile: LaunchProfile) -> str:
    """The header as comments."""
    return "".join(f"# {line}\n" for line in header(profile))
