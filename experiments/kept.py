"""What was measured once and is not measured again: a command that is given again goes on where it ended."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import torch

from lightning_adv.files import replace_atomically

__all__ = ["Kept"]

Made = TypeVar("Made")


class Kept:
    """A folder of figures and tensors, a file each.

    Args:
        folder: made if there is none.
        fresh: measure again what is there.
    """

    def __init__(self, folder: Path, fresh: bool = False) -> None:
        self.folder, self.fresh = folder, fresh
        folder.mkdir(parents=True, exist_ok=True)

    def figures(self, name: str, make: Callable[[], Made]) -> Made:
        """Plain data as JSON has it, made if there is none of this name."""
        path = self.path(name, "json")
        if self.fresh or not path.is_file():
            began = time.perf_counter()
            text = json.dumps(make())
            replace_atomically(path, text)
            print(f"{name}: {text[:100]}, {time.perf_counter() - began:.0f} s", flush=True)
        return json.loads(path.read_text())

    def tensors(self, name: str, make: Callable[[], Made]) -> Made:
        """A tensor, or tensors and numbers by name; made if there are none of this name."""
        path = self.path(name, "pt")
        if self.fresh or not path.is_file():
            made = make()
            replace_atomically(path, lambda file: torch.save(made, file))
            print("made", name, flush=True)
        return torch.load(path, weights_only=True)

    def path(self, name: str, suffix: str) -> Path:
        """File of a name."""
        return self.folder / f"{name.replace(' ', '_').replace(',', '')}.{suffix}"
