"""Controllers by the names people write on a command line: `none`, `fixed:16`, `aimd`, `pi`, `working-set`."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from concur_agents.control.aimd import Aimd
from concur_agents.control.fixed import Fixed, Unlimited
from concur_agents.control.pi import Pi
from concur_agents.control.working_set import WorkingSet

if TYPE_CHECKING:
    from collections.abc import Callable

    from concur_agents.control.base import Controller

_PLAIN: dict[str, Callable[[], Controller]] = {
    "none": Unlimited,
    "aimd": Aimd,
    "pi": Pi,
    "working-set": WorkingSet,
}

CONTROLLER_SPECS = ("none", "fixed:N", "aimd", "pi", "working-set")
"""What `parse_controller` understands, for help texts; N is a number of agents."""


def parse_controller(spec: str) -> Controller:
    """A new controller, with its default settings, by its name.

    Args:
        spec: "none", "fixed:16" (any number of agents from 1), "aimd", "pi" or "working-set"; blanks around it are
            ignored.

    Raises:
        ValueError: If it is none of these; the message says what to write.
    """
    name, colon, number = spec.strip().partition(":")
    if name == "fixed":
        if not re.fullmatch("0*[1-9][0-9]{0,8}", number):
            raise ValueError(f"{spec!r}: write fixed:N with N agents, 1 or more, for example fixed:16")
        return Fixed(int(number))
    if name not in _PLAIN:
        raise ValueError(f"no controller is called {spec!r}: write one of {', '.join(CONTROLLER_SPECS)}")
    if colon:
        raise ValueError(f"{spec!r}: {name} takes no number, write {name}")
    return _PLAIN[name]()
