"""What a page shows is what its reader gets: the code and the commands of every page run, in order, in one folder.

A comment in a page, which no reader sees, says what a test needs besides (it holds for the block that follows):

    <!-- file: NAME -->    the block is the text of that file
    <!-- first: CODE -->   Python that a reader's own files stand for
    <!-- adds: ARGS -->    what makes each command of the block a matter of seconds
    <!-- adds to audit: ARGS -->   the same for that command alone
    <!-- parsed: WHY -->   its commands are understood, and end there
    <!-- not run: WHY -->  what other programs do
"""

import re
import runpy
import shlex
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from lightning_adv.cli import audit, evaluate, program, train
from tests.cli.commands import CONFIGS, ROOT, TINY, UNLOGGED, run

DOCS = ROOT / "docs"
GENERATED, MEASURED = DOCS / "reference", DOCS / "results"
PAGES = [path for path in sorted(DOCS.rglob("*.md")) if not {GENERATED, MEASURED} & set(path.parents)]
BLOCK = re.compile(r"^```(?P<kind>\w*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
NOTE = re.compile(r"<!-- (?P<key>file|first|adds(?: to audit)?|parsed|not run):\s(?P<text>.*?)-->", re.DOTALL)
SCRIPTS = {"train.py": train, "evaluate.py": evaluate, "audit.py": audit}
FEW = (
    "--data.max_test_samples=6",
    "--trainer.callbacks.max_samples=6",
    "--trainer.callbacks.eps_sweep=[]",
    UNLOGGED,
    "--trainer.callbacks.attacks={fgsm: {class_path: FGSM, init_args: {eps: 8/255}}}",
)
SETS = {"TINY": TINY, "FEW": FEW, "UNLOGGED": (UNLOGGED,)}
"""Overrides that many pages need, by the name that stands for them."""


@dataclass(frozen=True)
class Block:
    """A piece of a page in a fence, and what is noted of it."""

    kind: str
    text: str
    notes: dict[str, str]


def blocks(page: Path) -> Iterator[Block]:
    """The blocks of a page that have a language."""
    text, end = page.read_text(encoding="utf-8"), 0
    for found in BLOCK.finditer(text):
        notes = {note["key"]: note["text"].strip() for note in NOTE.finditer(text, end, found.start())}
        end = found.end()
        if found["kind"] in ("bash", "python", "yaml"):
            yield Block(found["kind"], found["text"], notes)


def commands(text: str) -> Iterator[list[str]]:
    """The words of every command of a block."""
    lines = text.replace("\\\n", " ").splitlines()
    yield from filter(None, (shlex.split(line, comments=True) for line in lines))


def carry_out(words: list[str], notes: dict[str, str]) -> None:
    """Do what a command does, or what it did if it ended when it has understood its arguments."""
    if "=" in words[0]:
        assert words.pop(0) == "PYTHONPATH=."
    name, *args = words
    if words == ["pip", "install", "lightning-adv"]:
        return  # tests/test_packaging.py runs the wheel
    if name == "python" and args[0] not in SCRIPTS:
        runpy.run_path(args[0], run_name="__main__")
        return
    command = {"lightning-adv": program}.get(name) or (SCRIPTS[args.pop(0)] if name == "python" else None)
    assert command, f"{name} is no command of this project: note why it is not run"
    if command in SCRIPTS.values() or args[0] in ("fit", "evaluate", "audit"):
        added = shlex.split(notes.get(f"adds to {args[0]}", notes.get("adds", "")))
        args += [part for each in added for part in SETS.get(each, (each,))]
    args = [re.sub(r"(^|=)configs/", rf"\g<1>{CONFIGS}/", arg) for arg in args]
    outcome = run([*args, *(["--print_config"] if "parsed" in notes else [])], command)
    assert outcome.status == 0, f"{shlex.join(words)}: {outcome.err}"


@pytest.fixture
def reader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A folder of one's own, from which modules are imported and forgotten."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    yield
    for name, module in list(sys.modules.items()):
        if (getattr(module, "__file__", None) or "").startswith(str(tmp_path)):
            del sys.modules[name]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(DOCS).with_suffix("").as_posix())
@pytest.mark.filterwarnings("ignore:.*:UserWarning")  # Lightning's advice, which a reader gets as well
def test_a_page_does_what_it_says(page, reader):
    names: dict[str, object] = {"__name__": "page"}
    for block in blocks(page):
        if "first" in block.notes:
            exec(block.notes["first"], names)
        if "file" in block.notes:
            Path(block.notes["file"]).parent.mkdir(parents=True, exist_ok=True)
            Path(block.notes["file"]).write_text(block.text)
        elif block.kind == "yaml":
            assert yaml.safe_load(block.text)
        elif "not run" in block.notes:
            continue
        elif block.kind == "python":
            exec(compile(block.text, page.name, "exec"), names)
        else:
            for words in commands(block.text):
                carry_out(words, block.notes)
