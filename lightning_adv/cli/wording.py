"""How a slip is put into words, with what was probably meant; said without Lightning, too."""

import difflib
from collections.abc import Iterable, Sequence

__all__ = ["absent_argument", "absent_callback", "absent_class", "absent_option", "closest"]


def closest(name: str, candidates: Iterable[str]) -> str | None:
    """The candidate that ``name`` is most likely a slip of, None if there is none."""
    by_lower_case = {candidate.lower(): candidate for candidate in candidates}
    found = difflib.get_close_matches(name.lower(), by_lower_case, n=1, cutoff=0.6)
    return by_lower_case[found[0]] if found else None


def absent_class(where: str, name: str, names: Sequence[str]) -> str:
    """A class that there is not, at a dotted place where one of ``names`` could stand."""
    return f"{where}: there is no class {name!r}{_meant(name, names) or _choose(names)}"


def absent_argument(where: str, owner: str, name: str, own: Sequence[str]) -> str:
    """An argument that the class of a dotted place does not have, and those that it has."""
    return f"{where}: {owner} has no argument {name!r}{_meant(name, own) or _choose(own)}"


def absent_callback(where: str, name: str, classes: Sequence[str]) -> str:
    """A name at a dotted place that is no callback's and no argument's of one, and the classes that there are."""
    return f"{where}: no callback goes by the name of {name!r}{_meant(name, classes) or _choose(classes)}"


def absent_option(dashes: str, name: str, known: Sequence[str]) -> str:
    """An option that there is not, or the first part of its name where that is wrong already."""
    heads, head = {option.partition(".")[0] for option in known}, name.partition(".")[0]
    meant = closest(name, known)
    if meant is None and head not in heads:
        name, meant = head, closest(head, heads)
    return f"there is no option {dashes}{name}" + (f"; did you mean {dashes}{meant}?" if meant else "")


def _meant(name: str, candidates: Iterable[str]) -> str:
    found = closest(name, candidates)
    return f"; did you mean {found}?" if found else ""


def _choose(names: Sequence[str]) -> str:
    return f"; choose from {', '.join(names)}" if names else ""
