"""Measured repeats, kept beside the page that they are written up in: an experiment goes on from a fresh checkout.

What a repeat measured is a few kilobytes; what it was measured with (weights, triggers, images) is megabytes, and stays
in the ignored run folder. The records hold the former, one repeat a line.
"""

import json
from collections.abc import Mapping
from pathlib import Path

from lightning_adv.errors import InputError
from lightning_adv.files import replace_atomically

__all__ = ["claim", "read_records", "restore_records", "write_records"]

SETTING = "setting.txt"


def claim(folder: Path, setting: str) -> None:
    """Keep a folder for what is measured with one setting: weights, triggers and repeats of another do not mix in.

    Args:
        folder: made if there is none.
        setting: what repeats depend on, in words.

    Raises:
        InputError: the folder is another setting's.
    """
    path = folder / SETTING
    before = path.read_text() if path.is_file() else None
    if before is None and all(each.name.lstrip(".").startswith(SETTING) for each in folder.glob("*")):
        folder.mkdir(parents=True, exist_ok=True)
        replace_atomically(path, before := setting)
    if before != setting:
        raise InputError(
            f"{folder} was measured with another setting ({before or 'unknown'}; now {setting}): move it away, or take "
            "another --run"
        )


def read_records(run: Path, pattern: str) -> dict[str, dict]:
    """The records of a run folder as they are kept, by the path of their file in it."""
    return {path.relative_to(run).as_posix(): json.loads(path.read_text()) for path in sorted(run.glob(pattern))}


def restore_records(path: Path, settings: Mapping[str, str], run: Path) -> int:
    """Put the repeats that the run folder lacks back into it.

    Args:
        path: file of :func:`write_records`; none is no repeats.
        settings: what repeats depend on, in words, by the name of their data set, which is the first folder of their
            paths. Those that were measured with other settings stay out.
        run: folder of the experiment.

    Returns:
        How many were put back.
    """
    if not path.is_file():
        return 0
    kept, count = json.loads(path.read_text()), 0
    for name, each in kept["repeats"].items():
        data = Path(name).parts[0]
        if data not in settings or kept["settings"].get(data) != settings[data] or (run / name).is_file():
            continue
        (run / name).parent.mkdir(parents=True, exist_ok=True)
        replace_atomically(run / name, json.dumps(each))
        count += 1
    return count


def write_records(path: Path, settings: Mapping[str, str], repeats: Mapping[str, dict]) -> None:
    """Write the repeats, by the path of their file in the run folder, with the settings they were measured with."""
    lines = ",\n".join(f"{json.dumps(name)}: {json.dumps(repeats[name])}" for name in sorted(repeats))
    replace_atomically(path, f'{{"settings": {json.dumps(dict(settings), indent=1)},\n"repeats": {{\n{lines}\n}}}}\n')
