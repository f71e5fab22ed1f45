"""Where a figure comes from: the commit, the command and the time that it was measured with; and what a page may say.

Every kept figure carries its origin (experiments/kept.py). What is read is noted, so that a page can say of each of its
tables when, and with which code, it was measured.
"""

import shlex
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

from lightning_adv.errors import InputError
from lightning_adv.reports.run import Code, code_in

__all__ = ["ROOT", "Origin", "code", "here", "is_draft", "note", "noted", "portable", "refuse_changes", "said"]

ROOT = Path(__file__).parent.parent

_noted: list["Origin"] = []


@dataclass(frozen=True)
class Origin:
    """Of a figure; None what is unknown.

    Args:
        commit: of the code that measured it.
        dirty: whether that code differed from its commit.
        at: when it was done, ISO 8601.
        command: that was given.
        setting: what the figure depends on, in words.
    """

    commit: str | None = None
    dirty: bool | None = None
    at: str | None = None
    command: str | None = None
    setting: str = ""

    def as_dict(self) -> dict:
        """Plain data for JSON."""
        return asdict(self)


@cache
def code() -> Code:
    """What this process runs, as it was when first asked; pages and pictures are no changes to it."""
    return code_in(ROOT, besides="docs/results")


def here(setting: str = "") -> Origin:
    """The origin of what this process has just measured."""
    commit, dirty = code()
    command = shlex.join(map(portable, sys.argv[1:]))
    return Origin(commit, dirty, datetime.now(UTC).isoformat(timespec="seconds"), command, setting)


def portable(argument: str) -> str:
    """An argument of a command without the way to a folder of this machine.

    Example:
        >>> portable("/home/me/models"), portable("--root=/home/me/data"), portable("runs/zoo")
        ('models', '--root=data', 'runs/zoo')
    """
    option, equals, value = argument.rpartition("=")
    return f"{option}{equals}{Path(value).name if Path(value).is_absolute() else value}"


def note(origin: Origin) -> None:
    """Say that a figure of this origin was read."""
    _noted.append(origin)


def noted() -> list[Origin]:
    """What was read since this was last asked."""
    found = list(_noted)
    _noted.clear()
    return found


def is_draft() -> bool:
    """Whether the command was given ``--draft``: its page may come from changed code, and is no result."""
    return "--draft" in sys.argv[1:]


def refuse_changes(origins: Sequence[Origin]) -> None:
    """A page comes from commits.

    Raises:
        InputError: the code differs from its commit, or did where a figure was measured, and no draft was asked for.
    """
    if is_draft():
        return
    if code().dirty:
        raise InputError("a page of results is written by committed code alone: commit your changes, or give --draft")
    if changed := [each for each in origins if each.dirty]:
        raise InputError(
            f"{len(changed)} of {len(origins)} kept figures were measured with local changes: remove them from the "
            "run's folder or take another --run, or give --draft"
        )


def said(origins: Sequence[Origin]) -> str:
    """In a line: from when to when, with which commits."""
    times = sorted(each.at for each in origins if each.at)
    span = dict.fromkeys(time[:16].replace("T", " ") for time in (times[0], times[-1])) if times else ()
    known = [each for each in origins if each.commit]
    commits = dict.fromkeys(f"{each.commit[:10]}{' with local changes' * bool(each.dirty)}" for each in known)
    unknown = ", kept without a commit" * (len(known) < len(origins))
    when = f"{' to '.join(span)} UTC" if span else "at an unknown time"
    with_code = f", commit {', '.join(commits)}" if commits else ""
    return f"Measured {when}{with_code}{unknown}."
