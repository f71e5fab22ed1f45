"""Measured repeats, kept beside the page that they are written up in: an experiment goes on from a fresh checkout.

What a repeat measured is a few kilobytes; what it was measured with (weights, triggers, images) is megabytes, and stays
in the ignored run folder. The records hold the former, one repeat a line.
"""

import json
from collections.abc import Mapping
from pathlib import Path

__all__ = ["restore_records", "write_records"]


def restore_records(path: Path, settings: Mapping[str, str], run: Path) -> int:
    """Put the repeats that the run folder lacks back into it.

    Args:
        path: file of :func:`write_records`; none is no repeats.
        settings: what repeats depend on, in words, by the name of their data set, which their paths hold. Those that
            were measured with other settings stay out.
        run: folder of the experiment.

    Returns:
        How many were put back.
    """
    if not path.is_file():
        return 0
    kept, count = json.loads(path.read_text()), 0
    for name, each in kept["repeats"].items():
        data = next((data for data in settings if data in name), None)
        if data is None or kept["settings"].get(data) != settings[data] or (run / name).is_file():
            continue
        (run / name).parent.mkdir(parents=True, exist_ok=True)
        _write(run / name, json.dumps(each))
        count += 1
    return count


def write_records(path: Path, settings: Mapping[str, str], repeats: Mapping[str, dict]) -> None:
    """Write the repeats, by the path of their file in the run folder, with the settings they were measured with."""
    lines = ",\n".join(f"{json.dumps(name)}: {json.dumps(repeats[name])}" for name in sorted(repeats))
    _write(path, f'{{"settings": {json.dumps(dict(settings), indent=1)},\n"repeats": {{\n{lines}\n}}}}\n')


def _write(path: Path, text: str) -> None:
    """All of it or nothing, if the process is killed."""
    unfinished = path.with_suffix(".part")
    unfinished.write_text(text)
    unfinished.replace(path)
