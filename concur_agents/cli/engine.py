"""The options that choose what the embedded engine models."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from concur_agents.simulation.profile import EngineProfile

DEFAULT_MODEL = "qwen3-32b"
DEFAULT_HARDWARE = "h100:8"

HardwareOption = Annotated[
    str | None,
    typer.Option(
        "--hardware",
        metavar="GPU:N",
        help="The GPUs to simulate, such as h100:2; h100:8 if not given.",
    ),
]
FitOption = Annotated[
    str | None,
    typer.Option(
        "--fit",
        metavar="FILE",
        help="Simulate the server that `concur fit` measured into this file, in place of --model and --hardware.",
    ),
]


def chosen_profile(model: str | None, hardware: str | None, fit: str | None) -> EngineProfile:
    """The engine that the options describe.

    Raises:
        ValueError: If they contradict each other, or name what is not known.
    """
    if fit is None:
        return EngineProfile.from_hardware(model or DEFAULT_MODEL, hardware or DEFAULT_HARDWARE)
    if model is not None or hardware is not None:
        raise ValueError("--fit names a measured server: leave --model and --hardware out, or --fit")
    return EngineProfile.load(Path(fit))


def reaching(profile: EngineProfile, tokens: int) -> EngineProfile | None:
    """The same server with its context raised to `tokens`, where its model is known and its cache can hold them.

    None if it need not be raised, or cannot: a measured server takes what it took when it was measured.
    """
    if tokens <= profile.max_model_len or profile.step_time.kind != "roofline":
        return None
    if tokens > (profile.blocks - 1) * profile.block_size:
        return None
    return profile.model_copy(update={"max_model_len": tokens})
