"""The command `concur`."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command, or say which extra it needs."""
    try:
        from concur_agents.cli.app import app  # noqa: PLC0415  an extra
    except ImportError as error:
        if (error.name or "").partition(".")[0] not in {"typer", "rich"}:
            raise
        sys.exit(f"concur: the command line needs {error.name}: pip install 'concur-agents[demo]'")
    app(prog_name="concur")
