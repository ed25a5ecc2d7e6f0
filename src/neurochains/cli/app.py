"""The application: its commands, the options that all of them share, and what it ends with."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Sequence
from typing import Annotated, Any, NoReturn

import typer
from typer.core import TyperGroup

import neurochains
from neurochains.cli.circuit import circuit
from neurochains.cli.compare import compare
from neurochains.cli.console import INTERRUPTED, forgive_encoding, show_logs, tell
from neurochains.cli.decouple import decouple
from neurochains.cli.decouple_detect import concepts, detect
from neurochains.cli.decouple_paths import paths, tree
from neurochains.cli.demo import demo
from neurochains.cli.doctor import doctor
from neurochains.cli.explore import explore
from neurochains.cli.extract import extract
from neurochains.cli.failures import report_failure
from neurochains.cli.onnx import onnx
from neurochains.cli.prepare import prepare
from neurochains.cli.query import query
from neurochains.cli.report import report
from neurochains.cli.show import show
from neurochains.cli.study import study
from neurochains.cli.subfeatures import subfeatures
from neurochains.cli.values import ManyValues

__all__ = ["app", "main", "run"]


class _Commands(TyperGroup):
    """The commands; Ctrl-C where none of them answers to it ends them alike."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command that the arguments name."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            tell("interrupted.")
            raise typer.Exit(INTERRUPTED) from None


app = typer.Typer(
    name="neurochains",
    cls=_Commands,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for _command in (demo, doctor, extract, report, show, compare, onnx, prepare, query, subfeatures, circuit, explore):
    app.command(cls=ManyValues)(_command)
app.add_typer(study)
for _command in (paths, tree, concepts, detect):
    decouple.command(cls=ManyValues)(_command)
app.add_typer(decouple)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"neurochains {neurochains.__version__}")
        raise typer.Exit


@app.callback()
def _shared(
    version: Annotated[  # noqa: ARG001 - its callback answers
        bool, typer.Option("--version", help="Print the version and stop.", is_eager=True, callback=_show_version)
    ] = False,
    debug: Annotated[
        bool, typer.Option("--debug", help="Show the traceback of an error, and more log. May stand anywhere.")
    ] = False,
) -> None:
    """Show how a vision network reaches its answer: the smallest sub-network that keeps it, and the chains through it.

    Start with: neurochains demo
    """
    show_logs(logging.DEBUG if debug else logging.WARNING)


def main(args: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and end the process with its exit code."""
    sys.exit(run(sys.argv[1:] if args is None else args))


def run(args: Sequence[str]) -> int:
    """Return the exit code of a command line: 0 done, 1 failed, 2 bad usage or input, 130 interrupted."""
    forgive_encoding()
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # on busy cores, threads that spin make torch ten times slower
    ordered = _debug_first(args)
    try:
        return app(args=ordered, prog_name="neurochains", standalone_mode=False) or 0
    except Exception as error:  # noqa: BLE001 - the last resort: everything ends in a message and an exit code
        return report_failure(error, debug="--debug" in ordered[:1])


def _debug_first(args: Sequence[str]) -> list[str]:
    """Return the arguments with ``--debug``, wherever it was, in front: people append it to the line that failed."""
    end = list(args).index("--") if "--" in args else len(args)
    rest = [arg for arg in args[:end] if arg != "--debug"]
    return [*(["--debug"] if len(rest) < end else []), *rest, *args[end:]]
