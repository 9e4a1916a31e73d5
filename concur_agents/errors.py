"""What can go wrong at the gate. Every message says what to do."""

from __future__ import annotations


class ConcurError(Exception):
    """Base of every error that this package raises on purpose."""


class GateClosed(ConcurError):
    """The gate was closed: waiters are woken with this, and it cannot be entered again."""


class AdmissionTimeout(ConcurError, TimeoutError):
    """An agent waited longer than its `timeout` for a place."""


class WrongLoop(ConcurError, RuntimeError):
    """One gate was used from two event loops at the same time."""


class AgentFinished(ConcurError, RuntimeError):
    """A turn was begun on an agent whose run is over."""


class MetricsError(ConcurError):
    """The engine's metrics could not be had; the message names the URL and what to change."""


class MissingExtra(ConcurError, ImportError):
    """An optional package is not installed; the message names the extra that brings it."""


class CheckpointError(ConcurError):
    """A checkpoint of a batch cannot be used; the message says why, and the file is left as it is."""


class Deadlock(ConcurError, RuntimeError):
    """In virtual time, every task waits for another one; the message names them."""
