"""The commands of `concur`, put together."""

from __future__ import annotations

import typer

from concur_agents.cli.compare import HELP as COMPARE_HELP
from concur_agents.cli.compare import compare
from concur_agents.cli.demo import HELP as DEMO_HELP
from concur_agents.cli.demo import demo
from concur_agents.cli.doctor import HELP as DOCTOR_HELP
from concur_agents.cli.doctor import doctor
from concur_agents.cli.fit import HELP as FIT_HELP
from concur_agents.cli.fit import fit
from concur_agents.cli.launch import HELP as LAUNCH_HELP
from concur_agents.cli.launch import launch
from concur_agents.cli.serve import HELP as SERVE_HELP
from concur_agents.cli.serve import serve
from concur_agents.cli.watch import HELP as WATCH_HELP
from concur_agents.cli.watch import watch

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


app.command(help=DEMO_HELP)(demo)
app.command(help=COMPARE_HELP)(compare)
app.command(help=SERVE_HELP)(serve)
app.command(help=FIT_HELP)(fit)
app.command(help=LAUNCH_HELP, context_settings={"allow_extra_args": True})(launch)
app.command(help=DOCTOR_HELP)(doctor)
app.command(help=WATCH_HELP)(watch)
