"""Captions kept on disk, so that an image is described once."""

import json
from pathlib import Path

from lightning_adv.files import append_line, read_lines

__all__ = ["CaptionLog"]


class CaptionLog:
    """Captions by image hash in a file of JSON lines, appended to before they are used.

    Processes may share it: a line is written at once, and one that was torn by a kill is passed over.

    Args:
        file: made with its folder when first needed.
    """

    def __init__(self, file: Path) -> None:
        self.file = file
        self._captions: dict[str, str] = {}
        for line in read_lines(file):
            try:
                self._captions |= json.loads(line)
            except ValueError:
                continue

    def __len__(self) -> int:
        return len(self._captions)

    def get(self, key: str) -> str | None:
        """The caption of an image, None for one that has none yet."""
        return self._captions.get(key)

    def add(self, captions: dict[str, str]) -> None:
        """Keep captions by image hash."""
        self._captions |= captions
        for key, caption in captions.items():
            append_line(self.file, json.dumps({key: caption}))
