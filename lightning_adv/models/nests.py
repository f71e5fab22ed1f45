"""Where in a checkpoint the weights are: under which names training scripts keep them, and which to take of several."""

import re
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from lightning_adv.errors import InputError
from lightning_adv.models.statistics import role_of

__all__ = ["figures_beside", "find_weights", "is_averaged"]

_NESTS = (
    *("state_dict", "model_state_dict", "model_state", "model", "net", "network", "weights", "params"),
    *("state", "classifier", "checkpoint"),
)
_AVERAGED = frozenset({"ema", "wa", "swa", "avg", "averaged", "average", "shadow", "unaveraged"})
_LIVE = "current_model_state"
_DEPTH = 8  # of nests in nests; a file may also hold a dictionary that contains itself
_SHOWN = 4
_CHANNELS = 4  # of images


def is_averaged(name: str) -> bool:
    """Whether a name speaks of weights averaged over training: "ema_state_dict", "wa_model.module", "unaveraged"."""
    return not _AVERAGED.isdisjoint(re.split(r"[^a-z]+", name.lower()))


def find_weights(content: Mapping[str, object], which: str | None = None) -> dict[str, Tensor]:
    """The weights in the content of a file, by name.

    Args:
        content: of the file; where it is a list, by position.
        which: under which name, for a file that holds several; a name in the dictionary or a prefix of its weights.

    Raises:
        InputError: no weights, or several and ``which`` does not say which of them.
    """
    (*_, content), which = _descend(content, which)
    weights = {str(key): value.detach() for key, value in content.items() if isinstance(value, Tensor)}
    if which is not None:
        part = {key.removeprefix(f"{which}."): value for key, value in weights.items() if key.startswith(f"{which}.")}
        if not part:
            raise InputError(f"holds nothing called {which!r}: it has {_few(content)}")
        weights = part
    if not weights:
        raise InputError(f"holds no weights: found {_few(content) or 'nothing'}, expected a state_dict")
    return weights


def figures_beside(content: Mapping[str, object], which: str | None = None) -> dict[str, Tensor]:
    """Means and deviations, a few numbers each, that a file holds beside its weights, by name.

    Args:
        content: of the file; where it is a list, by position.
        which: as in :func:`find_weights`.
    """
    (*outer, inner), _ = _descend(content, which)
    beside = [{key: value for key, value in level.items() if not _may_hold_weights(key)} for level in outer]
    weights = {key: value for key, value in inner.items() if not isinstance(value, Tensor | Mapping)}
    return {key: row for level in (*beside, weights) for key, row in _rows(level, "", _DEPTH)}


def _rows(content: Mapping[str, object], prefix: str, depth: int) -> Iterator[tuple[str, Tensor]]:
    for key, value in content.items():
        if isinstance(value, Mapping) and depth > 0:
            yield from _rows(value, f"{prefix}{key}.", depth - 1)
        elif role_of(str(key)) is None:
            continue
        elif isinstance(value, Tensor) and 0 < value.numel() <= _CHANNELS:
            yield f"{prefix}{key}", value.detach().float()
        elif isinstance(value, list | tuple) and 0 < len(value) <= _CHANNELS and {*map(type, value)} <= {int, float}:
            yield f"{prefix}{key}", torch.tensor([float(each) for each in value])


def _descend(content: Mapping[str, object], which: str | None) -> tuple[list[Mapping[str, object]], str | None]:
    """The dictionaries on the way to the weights, that of the weights last, and ``which`` if none of them is it."""
    levels, which = [content], _of_lightning(content, which)
    for _ in range(_DEPTH):
        nests = _nests(content)
        if which is not None and isinstance(content.get(which), Mapping):
            content, which = content[which], None
        elif len(nests) > 1 and which is None:
            raise InputError(_choice(list(nests)))
        elif len(nests) == 1:
            content = next(iter(nests.values()))
        else:
            break
        levels.append(content)
    return levels, which


def _of_lightning(content: Mapping[str, object], which: str | None) -> str | None:
    """``which`` where Lightning's weight averaging keeps it: the average is the ``state_dict``, the weights beside."""
    if which is None or which in content or _LIVE not in content:
        return which
    return "state_dict" if is_averaged(which) else _LIVE if which == "live" else which


def _nests(content: Mapping[str, object]) -> dict[str, Mapping]:
    """The dictionaries that weights may be in; if there are several, those that hold a tensor."""
    nests = {key: value for key, value in content.items() if isinstance(value, Mapping) and _may_hold_weights(key)}
    filled = {key: value for key, value in nests.items() if _holds_a_tensor(value)}
    return filled if len(nests) > 1 and filled else dict(list(nests.items())[:1])


def _may_hold_weights(key: object) -> bool:
    return isinstance(key, str) and (key in _NESTS or key.isdecimal() or is_averaged(key))


def _holds_a_tensor(content: Mapping, depth: int = _DEPTH) -> bool:
    if any(isinstance(value, Tensor) for value in content.values()):
        return True
    inner = [value for key, value in content.items() if isinstance(value, Mapping) and _may_hold_weights(key)]
    return depth > 0 and any(_holds_a_tensor(value, depth - 1) for value in inner)


def _choice(names: list[str]) -> str:
    example = next(filter(is_averaged, names), names[-1])
    return (
        f"holds several sets of weights ({', '.join(names)}): say which one is meant, such as --model.which={example}"
    )


def _few(items: Mapping[str, object]) -> str:
    names = [str(item) for item in items]
    return ", ".join(names[:_SHOWN]) + (", ..." if len(names) > _SHOWN else "")
