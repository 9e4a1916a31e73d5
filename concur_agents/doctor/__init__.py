"""Looks at a server and tells whether a gate will work with it, and what to change."""

from __future__ import annotations

from concur_agents.doctor.examination import examine
from concur_agents.doctor.findings import Finding, Level, Report

__all__ = ["Finding", "Level", "Report", "examine"]
