"""What a terminal has room for."""

import json
import shutil
import sys
import textwrap
from collections.abc import Mapping

__all__ = ["columns", "print_document", "print_names"]

LEAST = 20
"""Columns of what is said of a name, however narrow the terminal."""


def columns() -> int | None:
    """Width of the terminal; None where stdout is none."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def print_names(said: Mapping[str, str]) -> None:
    """A line for each name with what is said of it, cut to a terminal's width and whole in a pipe."""
    width, all_columns = max(map(len, said)), columns()
    room = sys.maxsize if all_columns is None else max(LEAST, all_columns - width - 2)
    for name, text in said.items():
        print(f"{name:{width}}  {textwrap.shorten(text, room, placeholder=' ...')}")


def print_document(document: object) -> None:
    """Print it as JSON."""
    print(json.dumps(document, indent=1, ensure_ascii=False), flush=True)
