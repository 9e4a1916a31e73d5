"""The commands of `concur`, put together."""

from __future__ import annotations

import typer

from concur_agents.cli.compare import HELP, compare

app = typer.Typer(
    name="concur",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,  # it would keep the line breaks of a paragraph
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback()
def concur() -> None:
    """Admits LLM agents, not requests, to a vLLM server: as many as its KV cache can hold.

    Start with `concur compare --help`.
    """


app.command(help=HELP)(compare)
