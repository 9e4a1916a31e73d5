"""What was found: each finding with how much it matters and what to do."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Literal

Level = Literal["ok", "note", "warn", "fail"]
"""`ok`: as it should be; `note`: good to know; `warn`: a gate works, but worse than it could; `fail`: it does not."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        check: What it is about, one of a fixed set of names for scripts: `prefix-test`, `capacity`, …
        level: How much it matters.
        says: What was seen.
        do: What to do; None where there is nothing.
    """

    check: str
    level: Level
    says: str
    do: str | None = None


@dataclass(frozen=True, slots=True)
class Report:
    """All that was found about one server.

    Attributes:
        url: The server as it may be shown: without user, password and query.
        findings: In the order of looking.
        facts: The figures behind them, for machines: plain JSON values.
    """

    url: str
    findings: tuple[Finding, ...]
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        """Whether a gate will work: nothing failed."""
        return not self.count("fail")

    def count(self, level: Level) -> int:
        """How many findings are of a level."""
        return sum(finding.level == level for finding in self.findings)

    def as_json(self) -> dict[str, Any]:
        """The report as plain JSON values."""
        return {
            "url": self.url,
            "ok": self.ok,
            "findings": [asdict(finding) for finding in self.findings],
            "facts": self.facts,
        }
