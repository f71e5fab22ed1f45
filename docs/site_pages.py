"""Pages of the site that nobody writes by hand: public names from their docstrings, configurations from their files."""

import inspect
import pkgutil
import re
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import yaml
from docutils.nodes import Element
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.pycode import ModuleAnalyzer
from sphinx.util.logging import getLogger
from sphinx.util.nodes import make_refnode

import lightning_adv
from lightning_adv.cli.configs import shipped, shipped_names
from lightning_adv.files import replace_atomically

__all__ = ["setup"]

REFERENCE = "reference"
"""Folder of the pages, which git does not see."""
PACKAGES = [
    f"lightning_adv.{name}"
    for _, name, is_package in pkgutil.iter_modules(lightning_adv.__path__)
    if (is_package or name in lightning_adv.__all__) and hasattr(import_module(f"lightning_adv.{name}"), "__all__")
]
"""Those that make names public."""
KINDS = {
    "": "Whole runs",
    "evaluate": "Evaluations",
    "recipes": "Robust training",
    "generate": "Generated images",
    "callbacks": "Callbacks to add",
    "backdoor": "Backdoors",
    "purification": "Purification",
    "zoo": "Networks of the zoo",
    "loggers": "Loggers",
    "strategies": "Strategies",
}
"""Folders of ``configs/`` in the order of the page."""
TALK = re.compile(r"[\\`*_|]")
FORMULA = re.compile(r"\S.*  |[\w{}+^'|()\[\]]+ = |\s")
"""How a paragraph begins that stands as it is: aligned by several spaces, an equation, or indented."""

logger = getLogger(__name__)


def setup(app: Sphinx) -> None:
    """Write the pages before Sphinx reads any, and let docstrings say what their module says."""
    app.connect("builder-inited", _write_pages)
    app.connect("autodoc-process-docstring", _complete, priority=400)  # before napoleon, at 500
    app.connect("missing-reference", _by_its_last_name)


def _write_pages(app: Sphinx) -> None:
    folder = Path(app.srcdir) / REFERENCE
    pages = {"configurations": _configurations()} | {name: _package(name) for name in PACKAGES}
    pages["index"] = _index()
    for stale in {path.stem for path in folder.glob("*.rst")} - set(pages):
        (folder / f"{stale}.rst").unlink()
    for name, lines in pages.items():
        path, text = folder / f"{name}.rst", "\n".join(lines) + "\n"
        if not path.is_file() or path.read_text(encoding="utf-8") != text:  # an unchanged page is not read again
            replace_atomically(path, text)


def _title(text: str, mark: str = "=") -> list[str]:
    return [text, mark * len(text), ""]


def _says(value: object) -> str:
    """The first sentence of a docstring, on one line."""
    return " ".join((inspect.getdoc(value) or "").partition("\n\n")[0].split())


def _index() -> Iterator[str]:
    yield from _title("API reference")
    yield "Everything below is public, and frozen: a test fails when a name comes or goes."
    yield from ("", ".. list-table::", "   :widths: 30 70", "")
    for name in PACKAGES:
        yield f"   * - :doc:`{name}`"
        yield f"     - {_says(import_module(name))}"
    yield from ("", ".. toctree::", "   :hidden:", "", *(f"   {name}" for name in PACKAGES))


def _package(name: str) -> Iterator[str]:
    """A page: what the package is for, a line a name, and then each of them in full."""
    module = import_module(name)
    yield from _title(name)
    yield from (f".. automodule:: {name}", "   :no-members:", "", f".. currentmodule:: {name}", "")
    names = sorted(module.__all__, key=str.casefold)
    yield from (".. list-table::", "   :widths: 30 70", "")
    for each in names:
        value = getattr(module, each)
        yield f"   * - :py:obj:`{each} <{_home(name, each, value)}>`"
        yield f"     - {_says(value) if inspect.isclass(value) or inspect.isroutine(value) else _comment(each)}"
    yield ""
    for each in names:
        value = getattr(module, each)
        if _home(name, each, value) == f"{name}.{each}":
            yield from _entry(each, value)


def _home(package: str, name: str, value: object) -> str:
    """The dotted name under which it is described: that of the package it is written in."""
    written = ".".join((getattr(value, "__module__", None) or package).split(".")[:2])
    return f"{written if written in PACKAGES and hasattr(import_module(written), name) else package}.{name}"


def _entry(name: str, value: object) -> Iterator[str]:
    if inspect.isroutine(value):
        yield from (f".. autofunction:: {name}", "")
        return
    if not inspect.isclass(value):
        yield from (f".. py:data:: {name}", f"   :value: {value}", "", f"   {_comment(name)}", "")
        return
    yield f".. autoclass:: {name}"
    if own := _own_members(value):
        yield f"   :members: {', '.join(own)}"
    yield ""


def _comment(name: str) -> str:
    """What stands below a constant or an alias of types in the module that it is written in."""
    for module in sorted(sys.modules):
        if module.startswith("lightning_adv.") and name in getattr(sys.modules[module], "__all__", ()):
            comments = ModuleAnalyzer.for_module(module).find_attr_docs()
            if ("", name) in comments:
                return " ".join(comments["", name]).strip()
    logger.warning("%s is public and nothing stands below it", name)
    return ""


def _own_members(cls: type) -> list[str]:
    """Public methods and properties that the class has and none of its bases."""
    return [
        name
        for name, member in vars(cls).items()
        if not name.startswith("_")
        and (inspect.isroutine(member) or isinstance(member, property | classmethod | staticmethod))
        and not any(hasattr(base, name) for base in cls.__mro__[1:])
    ]


def _complete(_: Sphinx, what: str, name: str, value: object, __: object, lines: list[str]) -> None:
    """Say the paper and its equation, which stand at the head of a method's module, above what its class says."""
    if not any(line.strip() for line in lines):
        logger.warning("%s is public and has no docstring", name)
    if what in ("property", "attribute"):
        lines.insert(0, "")  # or napoleon takes what stands in front of a colon for a type
    if what == "class":
        module = sys.modules[value.__module__]
        if getattr(module, "__all__", None) == [value.__name__]:
            lines[:0] = list(_as_written(inspect.getdoc(module) or ""))


def _by_its_last_name(app: Sphinx, env: BuildEnvironment, node: Element, content: Element) -> Element | None:
    """What is described in a package's page may be written in any of its modules, or inherited."""
    own = node["reftarget"].startswith("lightning_adv.") or node["reftype"] == "meth"
    target = node["reftarget"].rpartition(".")[2]
    found = env.domains.python_domain.find_obj(env, None, None, target, None, 1) if own else []
    if not found:
        return None
    name, (page, anchor, *_) = min(found)
    return make_refnode(app.builder, node["refdoc"], page, anchor, content, name)


def _as_written(text: str) -> Iterator[str]:
    """A module's docstring, which is read in an editor: its equations keep their lines."""
    for paragraph in text.split("\n\n"):
        shown = paragraph.splitlines()
        if FORMULA.match(shown[0]):
            yield from ("::", "", *(f"    {line}" for line in shown))
        else:
            yield from (TALK.sub(r"\\\g<0>", line.replace("``", "")) for line in shown)
        yield ""


def _configurations() -> Iterator[str]:
    """A page of all configurations: name, what it is for, how to call it, and its text."""
    yield from _title("Configurations")
    yield "What ``lightning-adv configs`` lists; in a checkout they are the files of ``configs/``. ``--config NAME``"
    yield "takes one, a second one adds to it, and ``lightning-adv configs NAME mine.yaml`` copies one to change it."
    for folder, title in KINDS.items():
        yield from ("", *_title(title, "-"))
        for name in shipped_names():
            if name.rpartition("/")[0] == folder:
                yield from _configuration(name)
    if unknown := {name.rpartition("/")[0] for name in shipped_names()} - set(KINDS):
        logger.warning("give the configurations of %s a title", sorted(unknown))


def _configuration(name: str) -> Iterator[str]:
    path = shipped(name)
    lines = path.read_text(encoding="utf-8").splitlines()
    head = [line.removeprefix("#") for line in lines[: next(n for n, line in enumerate(lines) if line[:1] != "#")]]
    yield from ("", *_title(name, "~"))
    yield from (TALK.sub(r"\\\g<0>", line.strip()) for line in head)
    yield from (
        "",
        ".. code-block:: bash",
        "",
        f"   {_command(name, set(yaml.safe_load(path.read_text(encoding='utf-8'))))}",
        "",
    )
    yield from (f".. dropdown:: {path.name}", "", "   .. code-block:: yaml", "")
    yield from (f"      {line}" for line in lines)
    yield ""


def _command(name: str, keys: set[str]) -> str:
    folder = name.rpartition("/")[0]
    if folder in ("callbacks", "loggers"):
        return f"lightning-adv fit --config demo --config {name}"
    if folder == "strategies":
        return f"lightning-adv fit --config purification/mnist_diffusion --config {name}"
    return f"lightning-adv {'fit' if 'model' in keys else 'evaluate --ckpt_path FILE'} --config {name}"
