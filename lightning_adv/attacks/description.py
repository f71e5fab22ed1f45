"""Settings of objects, and settings as text: two values that differ are written differently."""

import inspect
import zlib
from collections.abc import Mapping
from types import FunctionType

from torch import Tensor, nn

from lightning_adv.attacks.budget import as_text

__all__ = ["Described", "described", "settings_of"]


class Described:
    """A class whose objects say in ``repr`` what they were made with.

    A subclass keeps each argument of its constructor under the argument's name.

    Example:
        >>> class Blur(Described):
        ...     def __init__(self, radius, seed=0):
        ...         self.radius, self.seed = radius, seed
        >>> Blur(8 / 255)
        Blur(radius=8/255)
    """

    def __repr__(self) -> str:
        """The description: class and every hyperparameter but the seed, ``PGD(eps=8/255, steps=20, ...)``.

        Two objects that differ in a setting have different descriptions: key figures of reports are compared by them.
        """
        settings = {name: value for name, value in settings_of(self).items() if name != "seed" and value is not None}
        shown = (f"{name}={described(value)}" for name, value in settings.items())
        return f"{type(self).__name__}({', '.join(shown)})"


STARRED = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


def settings_of(thing: object) -> dict[str, object]:
    """Arguments of an object's constructor and their values, which it keeps under the same names.

    Example:
        >>> from lightning_adv.attacks import FGSM
        >>> settings_of(FGSM(eps=0.5))
        {'eps': 0.5, 'norm': 'Linf'}
    """
    names: dict[str, None] = {}
    for cls in type(thing).__mro__:
        parameters = inspect.signature(cls.__init__).parameters.values()
        names |= dict.fromkeys(each.name for each in parameters if each.kind not in STARRED and each.name != "self")
        if all(each.kind is not inspect.Parameter.VAR_KEYWORD for each in parameters):
            break  # else what a class hands on is an argument of its bases
    # A stranger's class may keep an argument under another name: that must not end an evaluation.
    return {name: getattr(thing, name, "?") for name in names}


def described(value: object) -> str:
    """A hyperparameter in one short line: lengths as fractions, modules and tensors by name and checksum.

    Example:
        >>> described({"eps": 8 / 255, "step_size": 0.0123456, "steps": 3})
        '{eps: 8/255, step_size: 0.0123456, steps: 3}'
    """
    if isinstance(value, float):
        short = as_text(value)
        return short if "/" in short else f"{value:.9g}"
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{name}: {described(each)}" for name, each in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(described, value)) + "]"
    if isinstance(value, nn.Module):
        return f"{type(value).__name__}#{zlib.crc32(str(value).encode()):08x}"
    if isinstance(value, Tensor):
        return f"Tensor{tuple(value.shape)}#{zlib.crc32(value.detach().cpu().contiguous().numpy().tobytes()):08x}"
    return value.__qualname__ if isinstance(value, FunctionType | type) else str(value)
