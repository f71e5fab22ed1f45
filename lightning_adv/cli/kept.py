"""What an earlier start of the program knew: pages and names, kept as data for the next one, which then need not ask.

They are of one state of the program and of the packages around it; another state finds nothing.
"""

import hashlib
import io
import json
import os
import re
import shutil
import sys
from collections.abc import Callable
from contextlib import redirect_stdout, suppress
from functools import cache
from pathlib import Path

from lightning_adv.cli.help import called
from lightning_adv.errors import InputError
from lightning_adv.files import replace_atomically

__all__ = ["keep", "print_kept", "recall", "state"]

PACKAGE = Path(__file__).parent.parent
CALLBACKS = PACKAGE.parent / "callbacks"
"""Where a checkout has them; in an installation they are in the package."""
MOST = 100
"""Parts that are kept: pages in some widths of a terminal."""
IS_VERSION = re.compile(r"\.(dist-info|egg-info|pth)$").search
"""Names of what a package leaves of its version beside itself."""
COLOURS = ("NO_COLOR", "FORCE_COLOR", "PYTHON_COLORS", "TERM")
"""Variables that say whether a page may have some."""


def recall(part: str) -> object:
    """What was kept under a name in this state; None if nothing was, or if it cannot be read."""
    return _parts().get(part)


def keep(part: str, what: object) -> None:
    """Keep plain data under a name; nothing is kept where the folder cannot be written."""
    parts = dict([*_parts().items()][1 - MOST :]) | {part: what}
    with suppress(InputError, RuntimeError):
        replace_atomically(_file(), json.dumps({"state": state(), "parts": parts}))


def print_kept(words: list[str], make: Callable[[], None]) -> None:
    """Print the page that was kept under these words, for such a screen; else that which ``make`` prints, and keep it.

    Args:
        words: the command and what follows it.
        make: prints the page; a page that it ends with a mistake is not kept.
    """
    screen = [shutil.get_terminal_size().columns, sys.stdout.isatty(), *map(os.environ.get, COLOURS)]
    part = f"page {[*called(), *words]} {screen}"
    text = recall(part)
    if isinstance(text, str):
        sys.stdout.write(text)
        return
    heard = _Heard(sys.stdout)
    try:
        with redirect_stdout(heard):
            make()
    except SystemExit as end:
        if end.code:
            raise
    keep(part, heard.said.getvalue())


class _Heard(io.TextIOBase):
    """A stream that notes what is written through it."""

    def __init__(self, stream: io.TextIOBase) -> None:
        self.stream, self.said = stream, io.StringIO()

    def write(self, text: str) -> int:
        self.said.write(text)
        return self.stream.write(text)

    def flush(self) -> None:
        self.stream.flush()

    def isatty(self) -> bool:
        return self.stream.isatty()

    def fileno(self) -> int:
        return self.stream.fileno()


@cache
def state() -> str:
    """A fingerprint of this Python, of the packages that it finds with their versions, and of the program's code."""
    names = {name for folder in filter(os.path.isdir, sys.path) for name in _versions(folder)}
    found = hashlib.sha256(repr([sys.version, *sorted(names)]).encode())
    callbacks = CALLBACKS if (CALLBACKS / "__init__.py").is_file() else PACKAGE
    for path in sorted({*PACKAGE.rglob("*.py"), *callbacks.rglob("*.py")}):
        found.update(f"{path}\n".encode() + hashlib.sha256(path.read_bytes()).digest())
    return found.hexdigest()


def _versions(folder: str) -> list[str]:
    """Those of the packages of a folder; of one without packages nothing: its ``.pth`` files are weights.

    Nor of what setuptools brings with it and puts on the path once somebody imports it, as torch's compiler does.
    """
    if os.path.basename(folder) == "_vendor":
        return []
    names = [*filter(IS_VERSION, os.listdir(folder))]
    return names if any(not name.endswith(".pth") for name in names) else []


def _parts() -> dict[str, object]:
    try:
        document = json.loads(_file().read_bytes())
        parts = document["parts"] if document["state"] == state() else {}
    except (OSError, RuntimeError, ValueError, KeyError, TypeError):
        return {}
    return parts if isinstance(parts, dict) else {}


def _file() -> Path:
    """One file for each place that the program is installed at."""
    folder = os.environ.get("XDG_CACHE_HOME", "")
    place = hashlib.sha256(f"{PACKAGE}\n{sys.prefix}".encode()).hexdigest()[:16]
    return (Path(folder) if os.path.isabs(folder) else Path.home() / ".cache") / "lightning_adv" / f"{place}.json"
