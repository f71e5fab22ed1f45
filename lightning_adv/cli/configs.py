"""The configurations that come with the program, and have names."""

from pathlib import Path

from lightning_adv.errors import InputError
from lightning_adv.files import replace_atomically
from lightning_adv.screen import print_document, print_names

__all__ = ["configs", "shipped", "shipped_names", "with_files"]

PACKAGE = Path(__file__).parent.parent
OPTIONS = ("--config", "-c")
SWEEPS = "sweeps/"
"""The folder of what another program reads."""


def shipped(name: str) -> Path | None:
    """The file of the configuration ``evaluate/standard``; None if none has that name."""
    path = _folder() / f"{name}.yaml"
    return path if name in shipped_names() else None


def shipped_names() -> list[str]:
    """All names, in order."""
    folder = _folder()
    names = sorted(path.relative_to(folder).with_suffix("").as_posix() for path in folder.rglob("*.yaml"))
    return [name for name in names if not name.startswith(SWEEPS)]


def with_files(args: list[str]) -> list[str]:
    """``args`` in which ``--config demo`` names the file, where the folder holds none of that name.

    Raises:
        InputError: there is no such file, but one that comes with the program ends its path.
    """
    return [_with_file(arg, before) for before, arg in zip(["", *args], args, strict=False)]


def _with_file(arg: str, before: str) -> str:
    option, equals, name = ("", "", arg) if before in OPTIONS else arg.partition("=")
    if not (before in OPTIONS or (option in OPTIONS and equals)) or Path(name).is_file():
        return arg
    path = shipped(name)
    if path is not None:
        return f"{option}{equals}{path}"
    meant = Path(name).as_posix().removeprefix("configs/").removesuffix(".yaml")
    if shipped(meant):
        raise InputError(f"there is no configuration file {name}; that of the program is --config {meant}")
    return arg


def configs(args: list[str], as_json: bool = False) -> None:
    """List the configurations, print one, or copy it: ``configs``, ``configs NAME``, ``configs NAME FILE``.

    Args:
        args: the command line without the program's name and the command.
        as_json: the list as JSON.

    Raises:
        InputError: no such configuration, or a file that is there already.
    """
    if not args:
        said = {name: _says(name) for name in shipped_names()}
        (print_document if as_json else print_names)(said)
        return
    path = shipped(args[0])
    if path is None:
        raise InputError(f"no configuration has the name {args[0]!r}: lightning-adv configs lists them")
    text = path.read_text(encoding="utf-8")
    if len(args) == 1:
        print(text, end="")
        return
    if Path(args[1]).exists():
        raise InputError(f"{args[1]} is there already: name another file")
    replace_atomically(args[1], text)


def _folder() -> Path:
    """In the package as it is installed, beside it in a checkout."""
    installed = PACKAGE / "configs"
    return installed if installed.is_dir() else PACKAGE.parent / "configs"


def _says(name: str) -> str:
    """The comment at the head of a configuration, as far as its first line goes."""
    head = (_folder() / f"{name}.yaml").read_text(encoding="utf-8").partition("\n")[0]
    return head.removeprefix("#").strip() if head.startswith("#") else ""
