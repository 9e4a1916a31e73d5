"""The gate of one run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from concur_agents import ConcurGate
from concur_agents.control import parse_controller

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable


def make_gate(
    url: str,
    controller: str,
    *,
    poll_interval_s: float,
    fetch_metrics: Callable[[], Awaitable[str]] | None = None,
) -> ConcurGate:
    """A gate for one run: what CONCUR_* variables say of gates in general is not to bend a comparison.

    Args:
        url: The server.
        controller: As `parse_controller` takes it.
        poll_interval_s: Time between two looks at the metrics. [s]
        fetch_metrics: Gets them, if not over HTTP.

    Raises:
        ValueError: If there is no such controller.
    """
    return ConcurGate(
        url,
        controller=parse_controller(controller),
        fetch_metrics=fetch_metrics,
        poll_interval_s=poll_interval_s,
        mode="enforce",
        disabled=False,
        max_agents=None,
        turns_per_second=None,
    )
