"""The commands of `concur`, put together."""

from __future__ import annotations

import typer

from concur_agents.cli import compare as _compare
from concur_agents.cli import demo as _demo
from concur_agents.cli import fit as _fit
from concur_agents.cli import serve as _serve

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

    Start with `concur demo`.
    """


app.command(help=_demo.HELP)(_demo.demo)
app.command(help=_compare.HELP)(_compare.compare)
app.command(help=_serve.HELP)(_serve.serve)
app.command(help=_fit.HELP)(_fit.fit)
