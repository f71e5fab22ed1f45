"""Folders in which timm, the Hugging Face hub and transformers keep a network: settings and weights, read as data.

`config.json` says what the network is; the weights are in one file, or in several that an index lists.
"""

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from lightning_adv.errors import InputError
from lightning_adv.models.refusals import refuse_shards
from lightning_adv.models.zoo import located

__all__ = [
    "TimmFolder",
    "check_order_of_classes",
    "is_onnx",
    "is_whole",
    "read_settings",
    "read_timm_folder",
    "weight_files",
    "weight_sums",
]

_INDEX = ".index.json"
_WEIGHTS = ("model.safetensors", "pytorch_model.bin")
_LARGEST = 50_000_000
"""Bytes of a file of settings; an index of a thousand layers has 100,000."""
_SETTINGS_ELSEWHERE = ("num_classes", "in_chans", "img_size", "pretrained", "checkpoint_path")
"""Arguments of a network that the data, or the weights beside them, decide."""


@dataclass(frozen=True)
class TimmFolder:
    """What the `config.json` of a timm network says.

    Args:
        architecture: name of the network.
        options: further arguments of it.
        num_classes: number of logits; None if it does not tell.
        mean: of the images that it was trained with, a channel each in [0, 1]; empty if it does not tell.
        std: of the same images.
        prepared: how its images were prepared, in words; empty if it does not tell.
        input_size: channels, height and width of those images; empty if it does not tell.
    """

    architecture: str
    options: dict[str, object] = field(default_factory=dict)
    num_classes: int | None = None
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    prepared: str = ""
    input_size: tuple[int, ...] = ()


def is_whole(path: str | Path) -> bool:
    """Whether a path is of a folder or an ONNX file, which hold a network and not merely its weights."""
    return located(path).is_dir() or is_onnx(path)


def is_onnx(path: str | Path) -> bool:
    """Whether a path is of an ONNX file, by its name."""
    return Path(path).suffix == ".onnx"


def read_settings(path: Path) -> dict[str, object]:
    """The content of a JSON file of settings.

    Raises:
        InputError: no such file, one that is no JSON or no dictionary, or one that asks for code of its own.
    """
    if not path.is_file():
        refuse_shards(path.parent)
        raise InputError(f"{path.parent} has no {path.name}, so nobody says what network its weights are of")
    if path.stat().st_size > _LARGEST:
        raise InputError(f"{path} is too large for a file of settings ({path.stat().st_size} bytes)")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is no JSON ({type(error).__name__}); fetch it again") from error
    if not isinstance(content, dict):
        raise InputError(f"{path} must hold a dictionary, got a {type(content).__name__}")
    return content


def read_timm_folder(folder: Path) -> TimmFolder | None:
    """What the folder of a network of timm says of it; None where the settings are of another kind.

    Raises:
        InputError: settings that are missing, damaged or of the wrong type.
    """
    content = read_settings(folder / "config.json")
    if not isinstance(content.get("architecture"), str):
        return None
    of_weights = content.get("pretrained_cfg")
    said = {**content, **of_weights} if isinstance(of_weights, dict) else content
    arguments = content.get("model_args")
    options = {
        key: tuple(value) if isinstance(value, list) else value
        for key, value in (arguments if isinstance(arguments, dict) else {}).items()
        if key not in _SETTINGS_ELSEWHERE and _is_plain(value)
    }
    size = _numbers(said, "input_size", folder)
    prepared = [f"{' x '.join(str(int(side)) for side in size)} pixels"] if size else []
    prepared += [
        f"{name} {said[name]}" for name in ("interpolation", "crop_pct", "crop_mode") if _is_word(said.get(name))
    ]
    classes = content.get("num_classes", said.get("num_classes"))
    return TimmFolder(
        content["architecture"],
        options,
        classes if type(classes) is int else None,
        _numbers(said, "mean", folder),
        _numbers(said, "std", folder),
        ", ".join(prepared),
        tuple(map(int, size)),
    )


def check_order_of_classes(folder: Path, class_names: Sequence[str]) -> None:
    """Refuse data that number the classes of a network otherwise than it does: every answer would count as wrong.

    Classes of other names, such as "LABEL_0" or wnids, tell nothing.

    Args:
        folder: of timm or transformers; one that does not name its classes fits any data.
        class_names: of the data, by label.

    Raises:
        InputError: the same names in another order.
    """
    settings = read_settings(folder / "config.json") if (folder / "config.json").is_file() else {}
    named, numbered = settings.get("label_names"), settings.get("id2label")
    if isinstance(numbered, dict) and all(map(str.isdecimal, numbered)):
        named = [numbered[number] for number in sorted(numbered, key=int)]
    theirs = [str(name).lower() for name in named] if isinstance(named, list) else []
    ours = [name.lower() for name in class_names]
    if sorted(theirs) == sorted(ours) and theirs != ours:
        place = next(place for place, pair in enumerate(zip(theirs, ours, strict=True)) if pair[0] != pair[1])
        raise InputError(
            f"{folder} numbers the classes of the data otherwise than they do: class {place} is {theirs[place]!r} "
            f"there and {ours[place]!r} here; give the data a class_list in the order of the network"
        )


def weight_files(folder: Path) -> dict[Path, list[str] | None]:
    """The files of weights in a folder, each with the names of those that it is read for; None for all of them.

    Raises:
        InputError: none, an index that is damaged, leads out of the folder or names a file that is not there.
    """
    for name in _WEIGHTS:
        if (folder / name).is_file():
            return {folder / name: None}
        if (folder / f"{name}{_INDEX}").is_file():
            return _listed(folder / f"{name}{_INDEX}")
    refuse_shards(folder)
    expected = ", ".join(f"{name} or {name}{_INDEX}" for name in _WEIGHTS)
    raise InputError(f"{folder} is a folder without weights: expected {expected}")


def weight_sums(path: str | Path) -> dict[str, str]:
    """Name and SHA-256 of the file that a network is read from, or of each in its folder; empty where none is told."""
    path = located(path)
    files = [path] if path.is_file() else []
    if path.is_dir():
        with suppress(InputError):  # the shards of a checkpoint, in a format of their own
            files = list(weight_files(path))
    sums = {}
    for each in files:
        with each.open("rb") as file:
            sums[each.name] = hashlib.file_digest(file, "sha256").hexdigest()
    return sums


def _listed(index: Path) -> dict[Path, list[str] | None]:
    places = read_settings(index).get("weight_map")
    if not isinstance(places, dict) or not places:
        raise InputError(f"{index} has no weight_map that says which weight is in which file")
    files: dict[Path, list[str] | None] = {}
    for weight, name in places.items():
        if not isinstance(name, str) or Path(name).name != name or "\\" in name or name in ("", ".", ".."):
            raise InputError(f"{index} is refused: it looks for {weight!r} in {name!r}, which is no file of its folder")
        files.setdefault(index.parent / name, []).append(weight)
    absent = [path.name for path in files if not path.is_file()]
    if absent:
        raise InputError(f"{index} names files that are not there ({', '.join(absent[:3])}); fetch them, too")
    return files


def _numbers(settings: Mapping[str, object], name: str, folder: Path) -> tuple[float, ...]:
    values = settings.get(name)
    if values is None:
        return ()
    if not isinstance(values, list) or not all(type(each) in (int, float) and math.isfinite(each) for each in values):
        raise InputError(f"{folder / 'config.json'}: {name} must be a list of numbers, got {str(values)[:60]!r}")
    return tuple(values)


def _is_plain(value: object) -> bool:
    parts = value if isinstance(value, list) else [value]
    return all(type(each) in (bool, int, float, str) for each in parts)


def _is_word(value: object) -> bool:
    return type(value) in (int, float) or (isinstance(value, str) and value.isprintable() and len(value) < 40)
