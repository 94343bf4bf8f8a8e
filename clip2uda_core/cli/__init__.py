"""The `clip2uda` command: one file a subcommand; this one holds the root, the version and how errors end."""

import logging
import sys
from typing import Annotated

import typer
from rich.console import Console
from rich.logging import RichHandler
from rich.markup import escape

from clip2uda_core import __version__
from clip2uda_core.cli.adapt import adapt
from clip2uda_core.cli.benchmark import benchmark
from clip2uda_core.cli.convert import convert
from clip2uda_core.cli.demo import demo
from clip2uda_core.cli.inspect import inspect
from clip2uda_core.cli.segment import segment
from clip2uda_core.cli.simulate import simulate
from clip2uda_core.cli.train_stand_in import check_stand_in_clip, train_stand_in_clip
from clip2uda_core.errors import Clip2udaError
from clip2uda_core.threads import wait_without_spinning

app = typer.Typer(
    name="clip2uda",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for command in (demo, inspect, convert, segment, simulate, adapt, benchmark, train_stand_in_clip, check_stand_in_clip):
    app.command()(command)


def _print_version(asked: bool) -> None:
    if asked:
        print(f"clip2uda {__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[bool, typer.Option("--version", callback=_print_version, is_eager=True)] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Log what happens, not only warnings.")] = False,
) -> None:
    """3D semantic segmentation of camera + LiDAR recordings, which adapts to new places without labels.

    Start with `clip2uda inspect RECORDING`: it shows what is in a recording and whether the LiDAR falls on the right
    pixels. Then `clip2uda segment RECORDING --out DIR`.
    """
    logging.basicConfig(
        level=logging.INFO if verbose else logging.WARNING,
        format="%(message)s",
        handlers=[RichHandler(console=Console(stderr=True), show_time=False, show_path=verbose)],
    )


def main() -> None:
    """Runs the command; bad input ends it with one message and exit status 2, Ctrl-C with 130."""
    wait_without_spinning()
    try:
        app()
    except Clip2udaError as error:
        Console(stderr=True).print("[bold red]error:[/]", escape(str(error)), highlight=False, soft_wrap=True)
        sys.exit(2)
    except KeyboardInterrupt:
        Console(stderr=True).print("interrupted")
        sys.exit(130)
