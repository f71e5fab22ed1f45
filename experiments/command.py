"""What the commands of the workshop share: their arguments, how they end, and a row that is said once measured."""

import argparse
import subprocess
import sys
from collections.abc import Callable, Sequence

from lightning_adv.errors import InputError
from lightning_adv.results.result import Cell

__all__ = ["arguments", "command", "show"]


def command(main: Callable[[], None]) -> None:
    """Run a command; one line says what of its input cannot be meant, and of a process that fails its own words."""
    try:
        main()
    except InputError as error:
        sys.stderr.write(f"error: {error}\n")
        sys.exit(2)
    except subprocess.CalledProcessError as error:
        sys.stderr.write(error.stderr or "")  # empty where it was not caught: then it has been seen
        sys.exit(error.returncode)


def arguments(doc: str | None, run: str | None = None, quick: str | None = None) -> argparse.ArgumentParser:
    """A parser that knows where the data are.

    Args:
        doc: of the command.
        run: default of ``--run``, the folder that keeps what was measured; None: there is none.
        quick: what ``--quick`` does; None: there is no such flag.
    """
    parser = argparse.ArgumentParser(description=doc)
    parser.add_argument("--root", default="data", help="folder with the data sets")
    parser.add_argument(
        "--draft", action="store_true", help="a page from changed code too, written into the run's folder"
    )
    if run is not None:
        parser.add_argument("--run", default=run, help="folder that keeps what was measured")
    if quick is not None:
        parser.add_argument("--quick", action="store_true", help=quick)
    return parser


def show(row: Sequence[Cell], *before: str) -> None:
    """Print a row of a table at once, behind what it belongs to."""
    print(*before, *(f"{cell:.4g}" if isinstance(cell, float) else cell for cell in row), flush=True)
