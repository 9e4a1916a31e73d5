"""The report: a run or a comparison as one HTML file, which opens anywhere and asks for nothing.

```python
from pathlib import Path

from concur_agents.replay.results import Comparison
from concur_agents.report import write_report

comparison = Comparison.model_validate_json(Path("result.json").read_text())  # of `concur compare --json`
write_report([comparison], Path("report.html"))
```

Importing this brings matplotlib and jinja2, the extra `report`.
"""

from __future__ import annotations

from concur_agents.errors import MissingExtra

try:
    from .page import render_report, write_report
except ImportError as missing:
    package = (missing.name or "").partition(".")[0]
    if package not in {"jinja2", "matplotlib"}:
        raise
    raise MissingExtra(f"the report needs {package}: pip install 'concur-agents[report]'") from missing

__all__ = ["render_report", "write_report"]
