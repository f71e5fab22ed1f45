"""Weights and checkpoints from files, read as data: nothing in a file is ever executed."""

import pickle
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from lightning_adv.errors import InputError
from lightning_adv.models.folders import weight_files
from lightning_adv.models.inert import STAND_INS, settle
from lightning_adv.models.key_matching import Match, match_order
from lightning_adv.models.names import Reading, read_names, recognise
from lightning_adv.models.nests import figures_beside, find_weights
from lightning_adv.models.normalize import Normalize, Statistics
from lightning_adv.models.refusals import refuse_kind, refuse_pickle, refuse_spread
from lightning_adv.models.soundness import check_archive, check_finite
from lightning_adv.models.statistics import find_statistics, role_of, settle_statistics, travelling_statistics
from lightning_adv.models.zoo import located

__all__ = ["check_state", "holds_safetensors", "load_weights", "read_checkpoint", "read_state_dict"]


_TORCH_SUFFIXES = (".pt", ".pth", ".ckpt", ".bin", ".tar", ".pkl", ".model")
_PAIR = 2  # a mean and a deviation
_SHOWN = 4  # names of weights in a message


def load_weights(
    path: str | Path, model: nn.Module, *, which: str | None = None, match: Literal["names", "order"] = "names"
) -> None:
    """Load a file of weights into a model, in place; if anything does not fit, the model stays as it was.

    The names may carry prefixes of what the saved model was wrapped in, or lack those of what this one is wrapped in:
    the weights of a plain network load into a `NormalizedModel` around it. Its normalisation becomes that of which the
    file speaks, if it was merely assumed, and must be the same, if it was given.
    Published layouts of the project's networks are known by their names (see `names.NAMINGS`); what of such a file is
    left out, or stays the model's own, is told in a warning.

    Args:
        path: what `read_state_dict` reads.
        model: of the architecture, classes and channels that were saved.
        which: of several sets of weights in the file, as in `read_state_dict`.
        match: "order" takes the weights in their order in the file, whatever their names, if all shapes agree.

    Raises:
        InputError: if the file cannot be read, if weights are missing, left over or of another shape, if the file
            normalises its images and the model does not, or otherwise than it was told to; or if it holds figures of
            which nobody says whether its images are normalised with them.
    """
    path = located(path)
    content = _content(path)
    state, own = _weights_in(content, path, which), model.state_dict()
    try:
        reading = _in_order(state, own) if match == "order" else _by_name(state, own)
        found = reading.match
        settled, suspects = _settle(found, figures_beside(content, which), model, path)
        weights = {key: w for key, w in found.weights.items() if key in own or _in_file(key, found) not in suspects}
        try:
            _check_fit(replace(found, weights=weights), own, model)
        except InputError as error:
            raise InputError(f"{error}{reading.hint}") from error
    except InputError as error:
        raise InputError(f"{path} does not fit the model: {error}") from error
    model.load_state_dict(weights, strict=False)
    for layer, statistics in settled:
        layer.statistics = statistics
    unread = [key for key in suspects if not settled or role_of(key) is None]
    note = _note((*reading.left_out, *unread), model)
    if note:
        warnings.warn(f"{path}: {note}", stacklevel=2)


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


def read_state_dict(path: str | Path, which: str | None = None) -> dict[str, Tensor]:
    """The tensors of a file by name, on the CPU.

    Args:
        path: a safetensors file or one of torch (`.pt`, `.pth`, `.ckpt`, `.bin`, `.tar`, `.pkl`, `.model`): a
            state_dict, or a dictionary or list with one, under `state_dict`, `model_state_dict`, `model`, `net`, ...
            (a Lightning checkpoint); or a folder of the Hugging Face hub, with one such file or an index of several.
        which: the name of the set of weights to read, for a file that holds several, such as live and averaged ones.

    Raises:
        InputError: if the file is missing, damaged, of another kind or would run code, if weights are not finite, or if
            the file holds several sets of weights and ``which`` names none of them.
    """
    path = located(path)
    return _weights_in(_content(path), path, which)


def _content(path: Path) -> Mapping[str, object]:
    return _read_folder(path) if path.is_dir() else _read(path)


def _weights_in(content: Mapping[str, object], path: Path, which: str | None) -> dict[str, Tensor]:
    try:
        weights = find_weights(content, which)
    except InputError as error:
        raise InputError(f"{path} {error}") from error
    refuse_spread(weights, path)
    check_finite(weights, path)
    return weights


def _read_folder(folder: Path) -> Mapping[str, object]:
    """The weights of all files of a folder."""
    whole: dict[str, object] = {}
    for path, wanted in weight_files(folder).items():
        content = _read(path)
        absent = [name for name in wanted or () if name not in content]
        if absent:
            raise InputError(
                f"{path} lacks weights that the index of its folder names ({_few(absent)}); fetch it again"
            )
        whole |= content if wanted is None else {name: content[name] for name in wanted}
    return whole


def _read(path: Path) -> Mapping[str, object]:
    if not holds_safetensors(_existing(path)):
        return read_checkpoint(path)
    try:
        return load_file(path)
    except SafetensorError as error:
        raise InputError(f"{path} is not a complete safetensors file ({error}); fetch or save it again") from error


def read_checkpoint(path: str | Path) -> dict[str, object]:
    """The whole content of a torch file such as a Lightning checkpoint, its tensors on the CPU.

    Settings of argparse come as dictionaries, arrays of numpy as tensors, a list as a dictionary by position.

    Raises:
        InputError: if the file is missing, damaged, no dictionary or would run code, or if weights are not finite.
    """
    path = _existing(path)
    if holds_safetensors(path):
        raise InputError(f"{path} is no checkpoint: expected one of {', '.join(_TORCH_SUFFIXES)}")
    check_archive(path)
    try:
        with warnings.catch_warnings(), torch.serialization.safe_globals(STAND_INS):
            warnings.simplefilter("ignore")  # of pickle protocols: what torch warns of here, it refuses next
            with path.open("rb") as file:  # torch.load judges a path by its suffix
                content = settle(torch.load(file, map_location="cpu", weights_only=True))
    except pickle.UnpicklingError as error:
        raise refuse_pickle(path, error) from error
    except Exception as error:  # damaged bytes surface as almost any exception
        raise InputError(f"{path} is damaged or incomplete; fetch or save it again") from error
    if isinstance(content, list | tuple):
        content = {str(position): item for position, item in enumerate(content)}
    if not isinstance(content, Mapping):
        raise InputError(f"{path} holds a {type(content).__name__}, expected a dictionary of weights")
    refuse_spread(content.get("state_dict"), path)
    check_finite(content.get("state_dict"), path)
    return dict(content)


def holds_safetensors(path: Path) -> bool:
    """Whether a file is to be read as safetensors: by its content, and where that tells nothing by its suffix."""
    with path.open("rb") as file:
        beginning = file.read(9)
    if beginning[8:] == b"{" and int.from_bytes(beginning[:8], "little") < path.stat().st_size:
        return True
    return path.suffix == ".safetensors" and not beginning.startswith((b"PK", b"\x80"))


def _existing(path: str | Path) -> Path:
    path = located(path)
    if path.is_dir():
        raise InputError(f"{path} is a folder; give the file in it")
    if not path.is_file():
        raise InputError(f"no file {path}")
    refuse_kind(path)
    if path.suffix not in (".safetensors", *_TORCH_SUFFIXES):
        raise InputError(f"{path} is no file of weights: expected .safetensors or {', '.join(_TORCH_SUFFIXES)}")
    return path


def _by_name(state: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> Reading:
    try:
        return _reshaped(read_names(state, own), own)
    except InputError as error:
        # Networks that compute other things may have the same shapes in the same order: not where the layout is known.
        if recognise(state) or match_order(state, own) is None:
            raise
        raise InputError(
            f"{error} (all shapes agree in their order, though: --model.match=order takes them so)"
        ) from error


def _reshaped(reading: Reading, own: Mapping[str, Tensor]) -> Reading:
    """The reading with the weights in the model's shapes that its table says stand in others."""
    ends = () if reading.naming is None else reading.naming.reshaped
    weights = {
        key: weight.reshape(own[key].shape)
        if key.endswith(ends) and key in own and own[key].numel() == weight.numel()
        else weight
        for key, weight in reading.match.weights.items()
    }
    return replace(reading, match=replace(reading.match, weights=weights))


def _in_order(state: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> Reading:
    match = match_order(state, own)
    if match is None:
        raise InputError("its weights have other shapes than the model's in the same order")
    return Reading(match)


def _settle(
    match: Match, beside: Mapping[str, Tensor], model: nn.Module, path: Path
) -> tuple[list[tuple[Normalize, Statistics]], list[str]]:
    """The weights of a net are worth nothing behind another normalisation than the one they were trained with.

    Returns the layers that the file brings figures for, and the names of entries that may be figures.
    """
    travelling = travelling_statistics(match.weights, model, path.name)
    if travelling:
        return travelling, []
    own = model.state_dict()
    strays = {_in_file(key, match): weight for key, weight in match.weights.items() if key not in own}
    layer = next((each for each in model.modules() if isinstance(each, Normalize)), None)
    channels = layer.mean.numel() if layer is not None else 3
    found, suspects = find_statistics(beside | match.others | strays, channels, path)
    if found is not None and layer is None:
        raise InputError(f"the file normalises images ({found}) and the model does not; wrap it in NormalizedModel")
    if found is not None:
        return [(layer, settle_statistics(layer, found))], suspects
    inside = [key for key in suspects if key in strays]
    if len(inside) not in (0, _PAIR) or layer is None:
        return [], [key for key in suspects if key not in strays]  # those inside are unknown layers
    if suspects and layer.assumed:
        raise InputError(
            f"it holds {_few(suspects)}: a number for each channel, and of no layer. If they normalise its images give "
            "them as model.mean and model.std, else give there what it was trained with"
        )
    return [], suspects


def _in_file(key: str, match: Match) -> str:
    return match.prefix + key.removeprefix(match.inner)


def _note(left_out: Sequence[str], model: nn.Module) -> str:
    """What a user of a file should know that the file does not say."""
    notes = []
    if left_out:
        notes.append(f"left out {len(left_out)} entries that no image passes ({_few(left_out)})")
    layer = next((each for each in model.modules() if isinstance(each, Normalize)), None)
    if layer is not None and layer.assumed:
        notes.append(f"it does not say how its images were normalised, in force stays {layer.statistics}")
    return "; ".join(notes)


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
        classes = getattr(model, "num_classes", None)  # timm's networks tell, others need not
        complaints.extend(_hints(mapped, own, reshaped, classes))
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
