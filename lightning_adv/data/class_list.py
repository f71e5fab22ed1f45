"""Which label a class folder has and what people call the class: lists such as ImageNet's, in the forms they have."""

import json
import re
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from lightning_adv.data.files import unreadable
from lightning_adv.errors import InputError

__all__ = ["ClassList", "read_class_list"]

FORMS = (
    'one folder a line, with or without a name behind it, or JSON such as {"0": ["n01440764", "tench"]} or '
    '{"n01440764": 0}'
)
WNID = re.compile(r"n\d{8}")
"""A class of WordNet, as ImageNet names its folders."""

Entry = tuple[object, object, object]
"""Label (None: its place in the list), folder and name (None: the folder's)."""


@dataclass(frozen=True)
class ClassList:
    """The classes of a model.

    Args:
        labels: name of a class folder to its label.
        names: [K] of the classes; no two are equal, and one that the list does not tell is the number of the class.
    """

    labels: dict[str, int]
    names: list[str]


def read_class_list(source: str | Sequence[str], folders: Collection[str], num_classes: int | None = None) -> ClassList:
    """The classes that a list names.

    Args:
        source: "imagenet" or another of timm's lists ("imagenet-22k"), a file, or the folders themselves in the order
            of their labels.
        folders: class folders that there are, which tell where a folder ends and a name begins in a line of a file.
        num_classes: K, where the list does not hold all classes.

    Raises:
        InputError: no such list, one in an unknown form, or one that leaves open which label is whose.

    Example:
        >>> read_class_list(["cat", "dog"], ["dog"], num_classes=3)
        ClassList(labels={'cat': 0, 'dog': 1}, names=['cat', 'dog', '2'])
    """
    origin = f"class_list {source}" if isinstance(source, str) else "class_list"
    entries = _of_name(source, folders) if isinstance(source, str) else [_entry(None, row, origin) for row in source]
    if not entries:
        raise InputError(f"{origin} names no class; expected {FORMS}")
    _refuse_part_of_imagenet(entries, num_classes, origin)
    listed = [(place if label is None else label, *rest) for place, (label, *rest) in enumerate(entries)]
    _check(listed, num_classes, origin)
    told = {label: (str(folder if name is None else name), folder) for label, folder, name in listed}
    often = Counter(name for name, _ in told.values())
    told = {label: name if often[name] == 1 else f"{name} ({folder})" for label, (name, folder) in told.items()}
    count = num_classes or len(listed)
    return ClassList({folder: label for label, folder, _ in listed}, [told.get(k, str(k)) for k in range(count)])


def _of_name(source: str, folders: Collection[str]) -> list[Entry]:
    path = Path(source).expanduser()
    if not path.is_file():
        return _of_timm(source)
    try:
        text = path.read_text(encoding="utf-8-sig").strip()
        return _of_json(json.loads(text), str(path)) if text.startswith(("{", "[")) else _of_lines(text, folders)
    except (OSError, ValueError, RecursionError) as error:
        if isinstance(error, InputError):
            raise
        raise unreadable(path, error, f"expected {FORMS}") from error


def _of_timm(source: str) -> list[Entry]:
    from timm.data import ImageNetInfo

    try:
        known = ImageNetInfo("imagenet-1k" if source == "imagenet" else source)
    except AssertionError as error:
        raise InputError(
            f"class_list {source}: there is no such file; expected 'imagenet', another list of timm's such as "
            f"'imagenet-22k', or a file: {FORMS}"
        ) from error
    return [(None, wnid, known.label_name_to_description(wnid, detailed=False).split(",")[0])
            for wnid in known.label_names()]  # fmt: skip


def _of_lines(text: str, folders: Collection[str]) -> list[Entry]:
    """A folder may hold blanks, and a name may follow it: the folders that there are tell what a line begins with."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    readings = [
        [(line, "") for line in lines],
        [line.partition("\t")[::2] for line in lines],
        [[*re.split(r"[\s,;:]+", line, maxsplit=1), ""][:2] for line in lines],
    ]
    found = set(folders)
    best = max(readings, key=lambda rows: len(found.intersection(folder for folder, _ in rows)))
    return [(None, folder, name or None) for folder, name in best]


def _of_json(content: object, origin: str) -> list[Entry]:
    if isinstance(content, list):
        return [_entry(None, row, origin) for row in content]
    if not isinstance(content, dict):
        raise InputError(f"{origin} holds no class list; expected {FORMS}")
    if all(isinstance(value, int) for value in content.values()):
        return [(label, folder, None) for folder, label in content.items()]
    if all(key.isdecimal() for key in content):
        return [_entry(int(key), row, origin) for key, row in content.items()]
    return [_entry(None, list(row), origin) for row in content.items()]


def _entry(label: int | None, row: object, origin: str) -> Entry:
    parts = [row] if isinstance(row, str) else row
    if isinstance(parts, list) and 1 <= len(parts) <= 2 and all(isinstance(part, str) for part in parts):
        return (label, parts[0], parts[1] if len(parts) == 2 else None)
    raise InputError(f"{origin} holds {str(row)[:60]!r}, which names no class; expected {FORMS}")


def _refuse_part_of_imagenet(entries: Sequence[Entry], num_classes: int | None, origin: str) -> None:
    """Nobody means that the first of some classes of ImageNet has the label 0 among all thousand."""
    by_place = all(label is None and WNID.fullmatch(folder) for label, folder, _ in entries)
    if by_place and len(entries) < (num_classes or 0):
        raise InputError(
            f"{origin} names {len(entries)} of {num_classes} classes and not which label each has; give the whole "
            'list (class_list: imagenet knows ImageNet\'s), or labels in JSON such as {"n01440764": 0}'
        )


def _check(listed: Sequence[tuple[int, str, object]], num_classes: int | None, origin: str) -> None:
    labels: dict[str, int] = {}
    folders: dict[int, str] = {}
    for label, folder, _ in listed:
        if folder in labels:
            raise InputError(f"{origin} names {folder} twice, with the labels {labels[folder]} and {label}; drop one")
        if label in folders:
            raise InputError(f"{origin} gives the label {label} twice, to {folders[label]} and {folder}; drop one")
        labels[folder], folders[label] = label, folder
    lowest, highest = min(folders), max(folders)
    if lowest < 0 or (num_classes is not None and highest >= num_classes):
        raise InputError(
            f"{origin} goes from label {lowest} to {highest}, which num_classes={num_classes} does not allow; labels "
            "count from 0"
        )
    if num_classes is None and highest >= len(folders):
        raise InputError(
            f"{origin} goes up to label {highest} and names {len(folders)} classes; give num_classes, as it is not the "
            "whole list"
        )
