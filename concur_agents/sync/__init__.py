"""`gate.sync`: the gate for agents that run in threads."""

from .face import SyncAgent, SyncGate, SyncTurn

__all__ = ["SyncAgent", "SyncGate", "SyncTurn"]
