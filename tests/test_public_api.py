"""The public names: every module says which they are, each has a docstring, and changing them is a decision."""

import importlib
import inspect
from collections.abc import Iterator
from pathlib import Path

from tests.source_tree import ROOT, TESTS, asked_of, module_name, public_names, source_files, workshop_files

SURFACE = TESTS / "public_api.txt"
FILES = source_files()
WORKSHOP_FILES = workshop_files()
PACKAGES = [path for path in FILES if path.name == "__init__.py"]


def surface() -> list[str]:
    """Dotted public names of all packages, sorted."""
    return sorted(f"{module_name(path)}.{name}" for path in PACKAGES for name in public_names(path) or [])


def is_written_here(value: object) -> bool:
    """Whether a class or function is the project's own, not one it passes on."""
    return (getattr(value, "__module__", None) or "").startswith(("lightning_adv", "experiments", "benchmarks"))


def undocumented(owner: str, value: object) -> Iterator[str]:
    """Names of ``value`` and of its public members that have no docstring of their own or inherited."""
    if not (inspect.isclass(value) or inspect.isroutine(value)) or not is_written_here(value):
        return
    if not inspect.getdoc(value) or (inspect.isclass(value) and not (value.__doc__ or "").strip()):
        yield owner
    for name, member in vars(value).items() if inspect.isclass(value) else ():
        function = getattr(member, "fget", None) or getattr(member, "__func__", None) or member
        own_method = inspect.isroutine(function) and is_written_here(function) and not name.startswith("_")
        # asked of the class, so that the docstring of the method it overrides counts
        if own_method and not inspect.getdoc(member) and not inspect.getdoc(getattr(value, name)):
            yield f"{owner}.{name}"


@asked_of([*FILES, *WORKSHOP_FILES])
def test_a_module_lists_its_public_names_and_has_them(path: Path):
    names = public_names(path)
    empty = not path.read_text().strip() or (path.name == "__init__.py" and "import" not in path.read_text())
    assert names is not None or empty, f"{path.relative_to(ROOT)} has no __all__"
    module = importlib.import_module(module_name(path))
    assert [name for name in names or [] if not hasattr(module, name)] == []
    assert len(set(names or [])) == len(names or [])


@asked_of([*FILES, *WORKSHOP_FILES])
def test_a_module_and_its_public_names_have_docstrings(path: Path):
    module = importlib.import_module(module_name(path))
    missing = [] if (module.__doc__ or "").strip() else [module.__name__]
    for name in public_names(path) or []:
        missing += undocumented(f"{module.__name__}.{name}", getattr(module, name))
    assert not missing


def test_the_public_names_are_those_on_record():
    regenerate = (
        "if that is meant, say so in CHANGELOG.md and run: python -m tests.test_public_api > tests/public_api.txt"
    )
    assert SURFACE.read_text().splitlines() == surface(), regenerate


if __name__ == "__main__":
    print(*surface(), sep="\n")
