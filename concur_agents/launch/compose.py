"""A compose file."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from concur_agents.launch.profile import MODEL_MOUNT
from concur_agents.launch.text import service_name

if TYPE_CHECKING:
    from concur_agents.launch.profile import LaunchProfile

CACHE = "/root/.cache/huggingface"
"""Where the engines' images keep what they download; they run as root."""

START_LIMIT_S = 1800
"""How long loading may take: 235 billion parameters from a slow disk, and compiling. [s]"""

STOP_GRACE_S = 60
"""How long answers in flight may take to end. [s]"""


def compose(profile: LaunchProfile, program: list[str]) -> dict[str, Any]:
    """A service that is reached from this machine only.

    `$` is doubled, since compose would put variables in. Secrets come from the shell or a `.env` file.

    Args:
        profile: The server, as it is told in a container.
        program: What to run.
    """
    name = service_name(profile)
    service: dict[str, Any] = {
        "image": profile.released_image,
        "entrypoint": program,
        "command": [word.replace("$", "$$") for word in profile.arguments()],
        "ports": [f"127.0.0.1:{profile.port}:{profile.port}"],
        "environment": dict.fromkeys(secrets(profile)),
        "volumes": [f"huggingface:{CACHE}"],
        "shm_size": "16gb",  # the GPUs' processes hand each other data there; 64 MB is the default
        "healthcheck": {
            "test": ["CMD", "python3", "-c", _HEALTHY.format(port=profile.port)],
            "interval": "10s",
            "timeout": "10s",
            "retries": 3,
            "start_period": f"{START_LIMIT_S}s",
        },
        "stop_grace_period": f"{STOP_GRACE_S}s",
        "restart": "unless-stopped",
        **_gpus(profile),
    }
    if profile.folder is not None:
        service["volumes"].append(f"{profile.folder}:{MODEL_MOUNT}:ro".replace("$", "$$"))
    return {"services": {name: service}, "volumes": {"huggingface": None}}


def secrets(profile: LaunchProfile) -> list[str]:
    """The environment variables that the container is handed as they are outside."""
    return [*([profile.key_variable] if profile.key_variable else []), "HF_TOKEN"]


_HEALTHY = "import urllib.request; urllib.request.urlopen('http://127.0.0.1:{port}/health', timeout=9)"


def _gpus(profile: LaunchProfile) -> dict[str, Any]:
    if profile.amd:
        return {"devices": ["/dev/kfd", "/dev/dri"], "group_add": ["video"], "ipc": "host"}
    nvidia = {"driver": "nvidia", "count": profile.gpus, "capabilities": ["gpu"]}
    return {"deploy": {"resources": {"reservations": {"devices": [nvidia]}}}}
