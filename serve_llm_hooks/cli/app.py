"""The commands, under one name."""

from __future__ import annotations

from typing import Annotated

import typer

import serve_llm_hooks

from . import check, dry_run, explore, plan, trace

# Paragraphs, which are wrapped to the terminal; a list is not.
EXIT_CODES = """Exit code 0: all is well.

Exit code 1: the answer is bad: a start that fails, a problem that is found.

Exit code 2: there is no answer: a wrong option, a file that cannot be read, an application that is not there."""

app: typer.Typer = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,  # plain help: it is read in logs and pipes too
    pretty_exceptions_enable=False,
    help="See what hooks will run in a start of Ray Serve LLM, and what a start did.",
    epilog=EXIT_CODES,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _show_version(asked: bool) -> None:
    if asked:
        typer.echo(serve_llm_hooks.__version__)
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Take the options that stand before a command."""


app.command("plan", help=plan.HELP, short_help=plan.SHORT_HELP, epilog=plan.EXAMPLES)(plan.plan)
app.command("dry-run", help=dry_run.HELP, short_help=dry_run.SHORT_HELP, epilog=dry_run.EXAMPLES)(dry_run.dry_run)
app.command("check", help=check.HELP, short_help=check.SHORT_HELP, epilog=check.EXAMPLES)(check.check)
app.command("explore", help=explore.HELP, short_help=explore.SHORT_HELP, epilog=explore.EXAMPLES)(explore.explore)
app.command("trace", help=trace.HELP, short_help=trace.SHORT_HELP, epilog=trace.EXAMPLES)(trace.trace)
