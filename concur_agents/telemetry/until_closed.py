"""A listener that has an end of its own."""

from __future__ import annotations

from abc import abstractmethod
from typing import Self

from concur_agents.listener import Listener


class UntilClosed(Listener):
    """Hears of a gate until `close()`, or until the `with` around it is left."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    @abstractmethod
    def close(self) -> None:
        """Hear no more; may be called again."""
