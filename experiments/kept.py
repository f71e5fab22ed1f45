"""What was measured once and is not measured again: a command that is given again goes on where it ended."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import torch

from experiments.origin import Origin, here, note
from lightning_adv.files import replace_atomically

__all__ = ["Kept", "content"]

Made = TypeVar("Made")


def content(record: dict | list | str | float | None) -> Made:
    """What a record holds; its origin is noted."""
    whole = isinstance(record, dict) and set(record) == {"origin", "made"}
    note(Origin(**record["origin"]) if whole else Origin())
    return record["made"] if whole else record


class Kept:
    """A folder of figures and tensors, a file each, which has its origin with it.

    Args:
        folder: made if there is none.
        fresh: measure again what is there.
    """

    def __init__(self, folder: Path, fresh: bool = False) -> None:
        self.folder, self.fresh = folder, fresh
        folder.mkdir(parents=True, exist_ok=True)

    def figures(self, name: str, make: Callable[[], Made], setting: str = "") -> Made:
        """Plain data as JSON has it, made if there is none of this name and setting."""
        path = self.path(name, "json")
        record = None if self.fresh or not path.is_file() else json.loads(path.read_text())
        if record is None or _setting(record) != setting:
            began = time.perf_counter()
            made = make()
            record = {"origin": here(setting).as_dict(), "made": made}
            replace_atomically(path, json.dumps(record))
            print(f"{name}: {json.dumps(made)[:100]}, {time.perf_counter() - began:.0f} s", flush=True)
            record = json.loads(path.read_text())
        return content(record)

    def tensors(self, name: str, make: Callable[[], Made], setting: str = "") -> Made:
        """A tensor, or tensors and numbers by name; made if there are none of this name and setting."""
        path = self.path(name, "pt")
        record = None if self.fresh or not path.is_file() else torch.load(path, weights_only=True)
        if record is None or _setting(record) != setting:
            record = {"origin": here(setting).as_dict(), "made": make()}
            replace_atomically(path, lambda file: torch.save(record, file))
            print("made", name, flush=True)
        return content(record)

    def path(self, name: str, suffix: str) -> Path:
        """File of a name."""
        return self.folder / f"{name.replace(' ', '_').replace(',', '')}.{suffix}"


def _setting(record: object) -> str:
    return record["origin"]["setting"] if isinstance(record, dict) and set(record) == {"origin", "made"} else ""
