"""Pictures in class folders: which there are, which of them a list asks for, and what is skipped."""

import hashlib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from PIL import Image
from pytorch_lightning.utilities import rank_zero_warn
from torch.utils.data import Dataset

from lightning_adv.data.files import unreadable
from lightning_adv.errors import InputError
from lightning_adv.pictures import read_picture

__all__ = ["PictureFiles", "chosen", "class_folders", "holds_pictures", "list_pictures", "list_sum", "read_image_list"]

Sample = tuple[str, int]
"""Path and label of a picture."""


class PictureFiles(Dataset[tuple[Image.Image, int]]):
    """Pictures, read when asked for.

    Args:
        samples: path and label of each.
    """

    def __init__(self, samples: Sequence[Sample]) -> None:
        self.samples = samples

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, position: int) -> tuple[Image.Image, int]:
        """The picture, 8-bit RGB and upright, and its label."""
        path, label = self.samples[position]
        return read_picture(path), label


def class_folders(folder: Path) -> list[str]:
    """Names of the folders in a folder, sorted; hidden ones are none.

    Raises:
        InputError: there are none.
    """
    classes = sorted(entry.name for entry in folder.iterdir() if entry.is_dir() and entry.name[0] != ".")
    if not classes:
        raise InputError(f"{folder} holds no class folders; expected {folder}/<class>/*.jpg")
    return classes


def holds_pictures(folder: Path) -> bool:
    """Whether pictures lie in folders of this folder, so that these are classes."""
    kinds = _kinds()
    inside = (entry for entry in folder.iterdir() if entry.is_dir()) if folder.is_dir() else ()
    return any(name.lower().endswith(kinds) for entry in inside for name in os.listdir(entry))


def list_pictures(folder: Path, labels: Mapping[str, int]) -> list[Sample]:
    """Every picture under the class folders that have a label, by folder and name; say what is skipped.

    Args:
        folder: that holds the class folders.
        labels: name of a class folder to its label.
    """
    kinds, samples, others = _kinds(), [], []
    for name in sorted(labels):
        # Names alone: to ask for the kind of every file of ImageNet would take minutes.
        for where, _, files in sorted(os.walk(folder / name, followlinks=True)):
            for file in sorted(files):
                path = os.path.join(where, file)
                if file.lower().endswith(kinds):
                    samples.append((path, labels[name]))
                elif file[0] != ".":
                    others.append(Path(path))
    if others:
        skipped = ", ".join(sorted({path.suffix.lower() or "no suffix" for path in others}))
        rank_zero_warn(
            f"{folder}: {len(others)} files ({skipped}) beside {len(samples)} pictures are skipped, {others[0]} the "
            f"first; pictures end in {', '.join(kinds)}"
        )
    return samples


def read_image_list(source: str | Sequence[str]) -> list[str]:
    """The entries of a list of pictures: a file of one a line, or the entries themselves.

    Raises:
        InputError: no such file, or an empty list.
    """
    if isinstance(source, str):
        path = Path(source).expanduser()
        if not path.is_file():
            raise InputError(f"only={source}: there is no such file; expected a text file, one picture a line")
        try:
            source = path.read_text(encoding="utf-8-sig").splitlines()
        except (OSError, ValueError) as error:
            raise unreadable(path, error, "expected a text file, one picture a line") from error
    entries = [entry.strip().replace("\\", "/") for entry in source if entry.strip()]
    if not entries:
        raise InputError("the list of pictures (only) is empty")
    return entries


def chosen(samples: Sequence[Sample], folder: Path, entries: Sequence[str]) -> list[Sample]:
    """The pictures that a list asks for, in its order; one that it names twice counts once.

    An entry is a path below ``folder``, of which class folder and file are enough, or the name of a file alone.

    Args:
        samples: all pictures.
        folder: that holds the class folders.
        entries: of the list.

    Raises:
        InputError: none of them is there, or a name without a folder that several folders have.
    """
    by_name: dict[str, list[Sample]] = {}
    for sample in samples:
        relative = Path(sample[0]).relative_to(folder)
        for key in {relative.as_posix(), relative.name}:
            by_name.setdefault(key, []).append(sample)
    found: dict[Sample, None] = {}
    missing = []
    for entry in entries:
        named = by_name.get(entry) or by_name.get("/".join(entry.split("/")[-2:]), [])
        if len(named) > 1:
            raise InputError(f"{entry} of the list of pictures (only) may be {named[0][0]} or {named[1][0]}; say "
                             "<class>/<file>")  # fmt: skip
        found.update(dict.fromkeys(named))
        missing += [] if named else [entry]
    if missing:
        said = f"{folder} lacks {len(missing):,} of the {len(entries):,} pictures listed (only), {missing[0]} the first"
        if not found:
            raise InputError(f"{said}; entries are <class>/<file>, or <file>")
        rank_zero_warn(f"{said}: figures are of the {len(found):,} that are there")
    return list(found)


def list_sum(entries: Sequence[str]) -> str:
    """A short sum of the files that a list names, whatever their order and folders.

    Example:
        >>> list_sum(["n01/a.jpg", "n02/b.jpg"]) == list_sum(["b.jpg", "a.jpg"])
        True
    """
    names = sorted({entry.rpartition("/")[2] for entry in entries})
    return hashlib.sha256("\n".join(names).encode()).hexdigest()[:12]


def _kinds() -> tuple[str, ...]:
    from torchvision.datasets.folder import IMG_EXTENSIONS

    return IMG_EXTENSIONS
