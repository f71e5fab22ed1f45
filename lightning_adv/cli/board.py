"""The command that sets the results of many runs beside each other."""

import argparse
import sys
from typing import NoReturn

from lightning_adv.errors import InputError

__all__ = ["leaderboard"]

USAGE = "lightning-adv leaderboard RUN ... [--output FOLDER] [--sort WORDS]"
EPILOG = """\
examples:
  lightning-adv leaderboard runs/evaluate
  lightning-adv leaderboard runs/mine theirs/results.json --sort autoattack --output board
"""


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one line, as every command does."""

    def error(self, message: str) -> NoReturn:
        raise InputError(f"leaderboard: {message}; usage: {USAGE}")


def leaderboard(args: list[str] | None = None) -> None:
    """Make one sortable page and a CSV of the accuracies under attack in many runs.

    Args:
        args: the command line behind the command's name; default ``sys.argv``.
    """
    try:
        given = _parser().parse_args(args)
        from lightning_adv.reports.leaderboard import find_results, write_leaderboard

        page = write_leaderboard(given.output, find_results(given.runs), given.sort)
    except InputError as error:
        sys.stderr.write(f"error: {error}\n")
        sys.exit(error.status)
    print(f"leaderboard: {page}", flush=True)


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="lightning-adv leaderboard",
        usage=USAGE,
        description="One sortable page and a CSV of the accuracies under attack that runs report. Files of\n"
        "results are data: a stranger's are welcome, and each of their fields is checked.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "runs", nargs="+", metavar="RUN", help="folder of a run or of a report, its results.json, or a folder of runs"
    )
    parser.add_argument("--output", default="leaderboard", help="where to write (default: leaderboard)")
    parser.add_argument(
        "--sort", help="what orders the models: run, or words of a column (default: the attack most of them have met)"
    )
    return parser
