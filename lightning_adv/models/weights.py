"""Weights and checkpoints from files, read as data: nothing in a file is ever executed."""

import pickle
import re
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from lightning_adv.errors import InputError
from lightning_adv.models.key_matching import Match, match_keys
from lightning_adv.models.soundness import check_archive, check_finite

__all__ = ["check_state", "load_weights", "read_checkpoint", "read_state_dict"]

_TORCH_SUFFIXES = (".pt", ".pth", ".ckpt", ".bin", ".tar")
_NESTS = ("state_dict", "model_state_dict", "model", "net", "network", "weights", "params")
_SHOWN = 4  # names of weights in a message


def load_weights(path: str | Path, model: nn.Module) -> None:
    """Load a file of weights into a model, in place; if anything does not fit, the model stays as it was.

    The names may carry prefixes of what the saved model was wrapped in, or lack those of what this one is wrapped in:
    the weights of a plain network load into a `NormalizedModel` around it, whose normalisation then stays its own.

    Args:
        path: what `read_state_dict` reads.
        model: of the architecture, classes and channels that were saved.

    Raises:
        InputError: if the file cannot be read, if weights are missing, left over or of another shape, or if the file
            normalises its images and the model does not, or otherwise.
    """
    state = read_state_dict(path)
    own = model.state_dict()
    try:
        match = match_keys(state, own)
        _check_normalization(state, match, own)
        _check_fit(match, own, model)
    except InputError as error:
        raise InputError(f"{path} does not fit the model: {error}") from error
    model.load_state_dict(match.weights, strict=False)


def check_state(state: Mapping[str, Tensor], model: nn.Module, path: str | Path) -> None:
    """Refuse a state dict that a model cannot load, name for name.

    Args:
        state: tensors by name.
        model: of any architecture.
        path: where they are from, for the message.

    Raises:
        InputError: weights are missing, left over or of another shape.
    """
    try:
        _check_fit(Match("", "", dict(state)), model.state_dict(), model)
    except InputError as error:
        raise InputError(
            f"{path} does not fit the model: {error}; give the model and data that it was trained with"
        ) from error


def read_state_dict(path: str | Path) -> dict[str, Tensor]:
    """The tensors of a file by name, on the CPU.

    Args:
        path: a `.safetensors` file or one of torch (`.pt`, `.pth`, `.ckpt`, `.bin`, `.tar`): a state_dict, or a
            dictionary with one under `state_dict`, `model_state_dict`, `model`, `net`, ... (a Lightning checkpoint).

    Raises:
        InputError: if the file is missing, damaged, of another kind or would run code, or if weights are not finite.
    """
    path = _existing(path)
    if path.suffix == ".safetensors":
        try:
            weights = load_file(path)
        except SafetensorError as error:
            raise InputError(f"{path} is not a complete safetensors file ({error}); fetch or save it again") from error
        check_finite(weights, path)
        return weights
    content = read_checkpoint(path)
    while (nest := next((key for key in _NESTS if isinstance(content.get(key), Mapping)), None)) is not None:
        content = content[nest]
    weights = {str(key): value.detach() for key, value in content.items() if isinstance(value, Tensor)}
    if not weights:
        held = _few(map(str, content)) or "nothing"
        raise InputError(f"{path} holds no weights: found {held}, expected a state_dict")
    check_finite(weights, path)
    return weights


def read_checkpoint(path: str | Path) -> dict[str, object]:
    """The whole content of a torch file such as a Lightning checkpoint, its tensors on the CPU.

    Raises:
        InputError: if the file is missing, damaged, no dictionary or would run code, or if weights are not finite.
    """
    path = _existing(path)
    if path.suffix not in _TORCH_SUFFIXES:
        raise InputError(f"{path} is no checkpoint: expected one of {', '.join(_TORCH_SUFFIXES)}")
    _check_beginning(path)
    check_archive(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of pickle protocols: what torch warns of here, it refuses next
            content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise _refusal(path, error) from error
    except Exception as error:  # damaged bytes surface as almost any exception
        raise InputError(f"{path} is damaged or incomplete; fetch or save it again") from error
    if not isinstance(content, Mapping):
        raise InputError(f"{path} holds a {type(content).__name__}, expected a dictionary of weights")
    check_finite(content.get("state_dict"), path)
    return dict(content)


def _existing(path: str | Path) -> Path:
    path = Path(path).expanduser()
    if path.is_dir():
        raise InputError(f"{path} is a folder; give one file of weights (a sharded checkpoint must be merged first)")
    if not path.is_file():
        raise InputError(f"no file {path}")
    if path.suffix not in (".safetensors", *_TORCH_SUFFIXES):
        raise InputError(f"{path} is no file of weights: expected .safetensors or {', '.join(_TORCH_SUFFIXES)}")
    return path


def _check_beginning(path: Path) -> None:
    """Name the kinds of files that most often come in place of the weights."""
    with path.open("rb") as file:
        beginning = file.read(512).lstrip().lower()
    if not beginning:
        raise InputError(f"{path} is empty")
    if beginning.startswith((b"<!doctype", b"<html", b"<?xml")):
        raise InputError(f"{path} is a web page, not weights: the download went wrong; fetch the file itself")
    if beginning.startswith(b"version https://git-lfs"):
        raise InputError(f"{path} is a Git LFS pointer, not weights: run `git lfs pull`")
    if beginning.startswith(b"\x80") and beginning[1:2] > b"\x02":  # torch.save writes protocol 2
        raise InputError(f"{path} is refused: it is a plain pickle, which can run code; save it with torch.save")


def _refusal(path: Path, error: Exception) -> InputError:
    named = re.search(r"(?:GLOBAL|class|import) `?([\w.]+\.\w+)`?", str(error))
    if named is None:
        return InputError(f"{path} is not a file that torch.save writes by default, or it is damaged; save it again")
    return InputError(
        f"{path} is refused: it asks for {named[1]}, and files of weights are read without running code; "
        "save only tensors and plain Python values (model.state_dict()), best as .safetensors"
    )


def _check_normalization(state: Mapping[str, Tensor], match: Match, own: Mapping[str, Tensor]) -> None:
    """The weights of a net are worth nothing behind another normalisation than the one they were trained with."""
    if any(key.endswith("normalize.mean") for key in match.weights):
        return  # it is among the weights, and travels with them
    for key, saved in state.items():
        role = {"mean": "mean", "mu": "mean", "std": "std", "sigma": "std"}.get(key.rpartition(".")[2])
        if role is None or key.replace("_orig_mod.", "").startswith(match.prefix):
            continue
        present = next((weight for name, weight in own.items() if name.endswith(f"normalize.{role}")), None)
        if present is None:
            raise InputError(f"the file normalises images ({key}) and the model does not; wrap it in NormalizedModel")
        theirs, ours = saved.flatten().tolist(), present.flatten().tolist()
        if len(theirs) != len(ours) or any(abs(a - b) > 1e-4 for a, b in zip(theirs, ours, strict=True)):
            raise InputError(
                f"the file normalises with {key}={theirs}, the model with {ours}; create it with the first"
            )


def _check_fit(match: Match, own: Mapping[str, Tensor], model: nn.Module) -> None:
    mapped = match.weights
    unknown = [key for key in mapped if key not in own]
    reshaped = [key for key, weight in mapped.items() if key in own and _shape(weight) != _shape(own[key])]
    missing = [key for key in own if key not in mapped and not _may_be_absent(key, match.inner)]
    complaints = []
    if missing:
        complaints.append(f"{len(missing)} weights are missing from the file ({_few(missing)})")
    if unknown:
        complaints.append(f"{len(unknown)} are unknown to the model ({_few(unknown)})")
    if reshaped:
        shapes = (f"{key}: file {tuple(mapped[key].shape)}, model {tuple(own[key].shape)}" for key in reshaped)
        complaints.append(f"{len(reshaped)} have another shape ({_few(shapes)})")
        complaints.extend(_hints(mapped, own, reshaped, getattr(model, "num_classes", None)))
    if complaints:
        raise InputError("; ".join(complaints))


def _shape(weight: object) -> torch.Size | None:
    return weight.shape if isinstance(weight, Tensor) else None  # a module's own extra state may be anything


def _may_be_absent(key: str, inner: str) -> bool:
    """Counters that old files lack, and the normalisation if the file holds only what comes after it."""
    if key.endswith("num_batches_tracked"):
        return True
    return bool(inner) and not key.startswith(inner) and key.endswith(("normalize.mean", "normalize.std"))


def _hints(
    mapped: Mapping[str, Tensor], own: Mapping[str, Tensor], reshaped: list[str], num_classes: int | None
) -> list[str]:
    """What differs, in the words of the configuration: classes (first axis of the last layer) or channels."""
    hints = []
    for key in reshaped:
        saved, present = mapped[key].shape, own[key].shape
        if len(saved) != len(present) or not present:
            continue
        if present[0] == num_classes and saved[0] != num_classes and saved[1:] == present[1:]:
            hints.append(f"the file has {saved[0]} classes, the model {num_classes}: set num_classes")
        if len(present) == 4 and saved[:1] + saved[2:] == present[:1] + present[2:] and present[1] <= 4:
            hints.append(f"the file takes images of {saved[1]} channels, the model of {present[1]}")
    return list(dict.fromkeys(hints))


def _few(items: Iterable[str]) -> str:
    items = list(items)
    return ", ".join(items[:_SHOWN]) + (", ..." if len(items) > _SHOWN else "")
