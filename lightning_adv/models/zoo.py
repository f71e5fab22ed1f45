"""Small trained networks that come with the package: folders as timm keeps them, with what was measured of each.

`zoo/mnist_pgd` is such a folder wherever weights are given, unless there is a file or folder of that name. They are
made by `python -m experiments.zoo`; `results.json` beside the weights says how they do under attack.
"""

from pathlib import Path

from lightning_adv.errors import InputError

__all__ = ["located", "zoo_names"]

_ZOO = "zoo"
_FOLDER = Path(__file__).parent.parent / _ZOO


def zoo_names() -> list[str]:
    """The names of all networks, as they are given for weights.

    Example:
        >>> "zoo/mnist_standard" in zoo_names()
        True
    """
    return sorted(f"{_ZOO}/{path.parent.name}" for path in _FOLDER.glob("*/config.json"))


def located(path: str | Path) -> Path:
    """Where weights are: a path as it is, that of the package's own for a name such as `zoo/mnist_pgd`.

    Raises:
        InputError: no network of the zoo has that name.
    """
    path = Path(path).expanduser()
    if path.parts[:1] != (_ZOO,) or path.exists():
        return path
    if path.as_posix() not in zoo_names():
        raise InputError(f"there is no {path.as_posix()}; the zoo has {', '.join(zoo_names())}")
    return _FOLDER / path.name
