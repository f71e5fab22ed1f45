"""The project's own modules as the gates see them: where they are, what they import, which names they make public."""

import ast
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path

__all__ = [
    "CALLBACKS",
    "PACKAGE",
    "ROOT",
    "TESTS",
    "asked_of",
    "calls",
    "imports",
    "module_name",
    "modules",
    "name",
    "public_names",
    "source_files",
    "syntax",
    "workshop_files",
]

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "lightning_adv"
CALLBACKS = ROOT / "callbacks"
TESTS = ROOT / "tests"
WORKSHOP = ("benchmarks", "experiments")


def source_files() -> list[Path]:
    """Modules of the package; those of ``callbacks/`` at their real place, once."""
    inside = [path for path in PACKAGE.rglob("*.py") if CALLBACKS not in path.resolve().parents]
    return sorted({*inside, *CALLBACKS.rglob("*.py")})


def workshop_files() -> list[Path]:
    """Modules of ``experiments/`` and ``benchmarks/``, which stand above the package and are not in its wheel."""
    return sorted(path for folder in WORKSHOP for path in (ROOT / folder).rglob("*.py"))


def name(path: Path) -> str:
    """Path below the root, as the id of a test."""
    return str(path.relative_to(ROOT))


def module_name(path: Path) -> str:
    """Dotted name by which a file is imported."""
    parts = list(path.relative_to(ROOT).with_suffix("").parts)
    if parts[0] == "callbacks":
        parts.insert(0, "lightning_adv")
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def asked_of(paths: Iterable[Path]) -> Callable[[Callable[[Path], None]], Callable[[], None]]:
    """Make one test of a law of files: it names every file that breaks it, and costs one test's setup, not a file's."""
    asked = list(paths)

    def of_all(law: Callable[[Path], None]) -> Callable[[], None]:
        def test() -> None:
            culprits = []
            for path in asked:
                try:
                    law(path)
                except AssertionError as error:
                    culprits.append(f"{name(path)}: {error}")
            assert asked, "there is no file to ask"
            assert not culprits, "\n\n".join(culprits)

        test.__name__, test.__qualname__, test.__doc__ = law.__name__, law.__qualname__, law.__doc__
        test.__module__ = law.__module__
        return test

    return of_all


@cache
def modules() -> frozenset[str]:
    """Dotted names of all modules of the package and of the workshop."""
    return frozenset(module_name(path) for path in [*source_files(), *workshop_files()])


@cache
def syntax(path: Path) -> ast.Module:
    """A file's syntax tree."""
    return ast.parse(path.read_text(), filename=str(path))


@cache
def imports(path: Path, annotations_too: bool = False) -> tuple[str, ...]:
    """Dotted names that a file imports, also inside functions; ``if TYPE_CHECKING`` blocks only when asked for."""
    skipped = set()
    for node in ast.walk(syntax(path)):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test) and not annotations_too:
            skipped.update(id(each) for statement in node.body for each in ast.walk(statement))
    found = []
    for node in ast.walk(syntax(path)):
        if id(node) in skipped:
            continue
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            source = node.module if not node.level else f"{_parent(path, node.level)}.{node.module or ''}".rstrip(".")
            # `from lightning_adv.cli import entry` imports lightning_adv.cli.entry
            named = {f"{source}.{alias.name}" for alias in node.names} & modules()
            found += sorted(named) if len(named) == len(node.names) else [source, *sorted(named)]
    return tuple(found)


@cache
def calls(path: Path) -> tuple[tuple[int, str, ast.Call], ...]:
    """Line, dotted name and node of every call in a file."""
    nodes = (node for node in ast.walk(syntax(path)) if isinstance(node, ast.Call))
    return tuple((node.lineno, ast.unparse(node.func), node) for node in nodes)


def public_names(path: Path) -> list[str] | None:
    """A module's ``__all__``, None where it has none."""
    for node in syntax(path).body:
        target = node.targets[0] if isinstance(node, ast.Assign) else getattr(node, "target", None)
        if isinstance(target, ast.Name) and target.id == "__all__":
            return ast.literal_eval(node.value)
    return None


def _parent(path: Path, level: int) -> str:
    parts = module_name(path).split(".")
    levels = level - 1 if path.name == "__init__.py" else level
    return ".".join(parts[: len(parts) - levels])
