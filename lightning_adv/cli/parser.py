"""A parser whose errors are one line: what is wrong, and what was probably meant."""

import difflib
import re
import sys
from typing import NoReturn

from jsonargparse import Namespace
from pytorch_lightning.cli import LightningArgumentParser

__all__ = ["Parser", "readable"]

USAGE_NOISE = re.compile(r"\n\s*- |\n+")


class Parser(LightningArgumentParser):
    """LightningCLI's parser without the usage lines before an error, and with a suggestion after it."""

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Print one readable message and exit with status 2."""
        if not self.exit_on_error:
            super().error(message, ex)
        parser = getattr(ex, "subcommand_parser", None) or self
        sys.stderr.write(f"error: {readable(message, _known_keys(parser))}\n")
        self.exit(2)


def readable(message: str, known_keys: list[str] = ()) -> str:
    """Shorten jsonargparse's message and say what was probably meant.

    Args:
        message: as jsonargparse wrote it.
        known_keys: dotted names that the parser accepts.
    """
    text = message.strip()
    if "Option 'class_path' is not accepted" in text or "Option 'init_args' is not accepted" in text:
        text += "\nhint: arguments of a class stand under init_args:, beside its class_path:"
    wrong = re.search(r"unrecognized arguments: --([\w.]+)", text) or re.search(
        r"Option '([\w.]+)' is not accepted", text
    )
    if wrong:
        text += _suggestion(wrong.group(1), known_keys)
    return text


def _suggestion(wrong: str, known_keys: list[str]) -> str:
    tails = {key.split(".")[-1]: key for key in known_keys} if "." not in wrong else {key: key for key in known_keys}
    close = difflib.get_close_matches(wrong, list(tails), n=2, cutoff=0.7)
    return f"\nhint: did you mean {' or '.join(tails[key] for key in close)}?" if close else ""


def _known_keys(parser: LightningArgumentParser) -> list[str]:
    keys = [option.lstrip("-") for action in parser._actions for option in action.option_strings]
    try:
        defaults: Namespace = parser.get_defaults()
    except Exception:  # only a hint is at stake, while another error is being reported
        return keys
    return keys + list(defaults.keys())
