"""Traces of agents, replayed through the gate: what `concur compare` runs and measures."""
