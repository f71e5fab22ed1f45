"""Configurations as an attacker would store them in a checkpoint, and a watch over what a process does with them."""

import collections
import dataclasses
import json
import os
import signal
import sys
import typing
from collections.abc import Callable, Iterator
from copy import deepcopy
from pathlib import Path
from types import FrameType

import yaml

MODULE = "downloads_of_a_stranger"
"""Leaves a mark when it is imported."""

MARK = "executed"
PROCESS = {"class_path": "subprocess.Popen", "init_args": {"args": f"touch {MARK}", "shell": True}}
LAYER = {"class_path": "torch.nn.Linear", "init_args": {"in_features": 2, "out_features": 2, "device": PROCESS}}
IMPORT = {"class_path": f"{MODULE}.Anything"}
CLASSES = (
    "os.system",
    "builtins.eval",
    "builtins.exec",
    "runpy.run_path",
    "importlib.import_module",
    "torch.load",
    "torch.hub.load",
    "torch.nn.Linear",
    "torch.optim.lr_scheduler.LambdaLR",
    "torch.utils.cpp_extension.load_inline",
    "pytorch_lightning.callbacks.LambdaCallback",
    "pytorch_lightning.cli.LightningCLI",
    "kornia.augmentation.RandomDissolving",
    "jsonargparse.set_parsing_settings",
    "lightning_adv.cli.evaluate",
    "lightning_adv.victims.CountedOracle",
    "lightning_adv.attacks.pgd.torch.load",
    "lightning_adv.attacks.PGD.__init__",
    "lightning_adv_.attacks.PGD",
    "Popen",
    "PGD\nos.system",
    "../../payload.Class",
    " PGD",
    "",
)
"""Names of what runs, loads or writes something, and names that nearly are allowed."""

TAGS = (
    '!!python/object/apply:os.system ["touch executed"]',
    '!!python/object/new:subprocess.Popen [["touch", "executed"]]',
    f'!!python/name:{MODULE}.Anything ""',
    f'!!python/module:{MODULE} ""',
    "!!binary aGVsbG8=",
    "!!set {a, b}",
    "!!timestamp 2001-01-01",
    "!custom x",
    '!!int "7"',
)
HIDDEN = (
    yaml.safe_dump(PROCESS),
    yaml.safe_dump(PROCESS, default_flow_style=True),
    json.dumps(PROCESS),
    json.dumps([PROCESS]),
    json.dumps(PROCESS).replace("class_path", "class\\u005fpath"),
    json.dumps(PROCESS).replace("class_path", "\\x63lass_path"),
    f"x: {{y: '{json.dumps(PROCESS)}'}}",
    "a: &a [x, x]\nb: &b [*a, *a]\nc: [*b, *b]",
)
KEYS = (
    {"init_args.device": 1},
    {"objective.class_path": "subprocess.Popen"},
    {"a.b": 1},
    {"__path__": "/etc/passwd"},
    {"$schema": "x"},
    {"not an argument": 1},
)
MALFORMED = {
    "a list": "- a\n- b",
    "a text": "just words",
    "a number": "7",
    "true": "true",
    "a date": "2001-01-01",
    "broken": "model: [",
    "broken indentation": "model:\n  a: 1\n b: 2",
    "a tab": "model:\n\t- x",
    "a control character": "model: \x00",
    "a lone surrogate": "model: \ud800",
    "two documents": "a: 1\n---\nb: 2",
    "a key twice": "model: {class_path: MNIST, class_path: subprocess.Popen}",
    "a number as key": "1: x",
    "a list as key": "? [a]\n: x",
    "nothing as key": "~: x",
    "a merge": "model: {<<: {class_path: subprocess.Popen}}",
    "bytes": b"model: {}",
    "a mapping in place of a text": {"model": PROCESS},
    "a list in place of a text": [PROCESS],
    "a number in place of a text": 7,
}
LARGE = {
    "long": "a: " + "x" * 2_000_000,
    "many": "\n".join(f"a{i}: 1" for i in range(50_000)),
    "deep lists": "a: " + "[" * 100_000,
    "deep lists, closed": "a: " + "[" * 5_000 + "]" * 5_000,
    "deep mappings": "a: " + "{a: " * 50_000,
    "deep blocks": "\n".join(" " * i + "a:" for i in range(600)),
    "a long whole number": "a: " + "9" * 200_000,
    "a long hexadecimal number": "a: 0x" + "f" * 200_000,
    "a long number in base 60": "a: " + ":".join(["59"] * 50_000),
    "a long real number": "a: " + "9" * 200_000 + ".5",
    "laughs": "\n".join(["a0: &a0 [x, x]", *(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 12))]),
    "laughs as mappings": "\n".join(
        ["a0: &a0 {x: 1}", *(f"a{i}: &a{i} {{p: *a{i - 1}, q: *a{i - 1}}}" for i in range(1, 60))]
    ),
    "an alias of itself": "a: &a [*a]",
    "an alias of nothing": "a: *b",
    "an anchor": "a: &b c",
}
SHAPES = (
    *(("model", wrong) for wrong in ("ClassifierModule", [], [PROCESS], 7, {"init_args": {}}, {"a": PROCESS})),
    *(("data", wrong) for wrong in ("downloads.yaml", [1], 7, True, {"root": "x"})),
    *(("trainer", wrong) for wrong in ("x", ["callbacks"], 7, {"callbacks": "Report"}, {"callbacks": 7})),
    *(("trainer", {"callbacks": wrong}) for wrong in (["Report"], [None], [[PROCESS]], {"a": PROCESS}, [7])),
    *(("model", {"class_path": wrong}) for wrong in (7, None, True, [], ["PGD"], {"class_path": "PGD"}, 1.5)),
    *(("data", {"class_path": "MNIST", "init_args": wrong}) for wrong in ("x", [PROCESS], 7, True)),
    *(("data", {"class_path": "MNIST", "dict_kwargs": wrong}) for wrong in ("x", [PROCESS], 7)),
    *(("data", {"class_path": "MNIST", "root": wrong}) for wrong in ("x", PROCESS)),
)
TEXTS = {
    ("model", "init_args", "objective"): f"{MODULE}.Anything",
    ("model", "init_args", "objective", "init_args", "attack"): f"{MODULE}.Anything",
    ("data", "init_args", "augment"): f"{MODULE}.function",
    ("trainer", "callbacks", 1, "init_args", "attacks", "fgsm"): f"{MODULE}.Anything",
    ("trainer", "callbacks", 1, "init_args", "attacks", "pgd20"): "os.system",
    ("trainer", "callbacks", 1, "init_args", "attacks"): f"\nSubtypes: (<class '{MODULE}.Anything'>)",
}
"""Mere texts where a class is expected: only the parser knows."""


def hostile(base: dict) -> Iterator[tuple[str, object]]:
    """Kind and text of what no check may let through.

    Args:
        base: what an honest run stored.
    """
    sections = ("model", "data", "trainer")
    for place in (place for place in _places(base) if place[0] in sections):
        for kind, what in (("process", PROCESS), ("import", IMPORT)):
            yield kind, _text(_changed(base, place, what))
    layers = ("model", "init_args", "backbone"), ("data", "init_args", "augment"), ("trainer", "logger")
    yield from (("process", _text(_changed(base, place, LAYER))) for place in layers)
    for name in CLASSES:
        yield "class", _text(_changed(base, ("model", "class_path"), name))
    backbone = ("model", "init_args", "backbone")
    for tag in TAGS:
        yield "tag", _text(_changed(base, backbone, "PLACE")).replace("PLACE", tag)
        yield "tag", f"model: {tag}"
    for text in HIDDEN:
        yield "hidden in a text", _text(_changed(base, backbone, text))
    for keys in KEYS:
        yield "key", _text(_changed(base, ("model", "init_args"), keys))
    yield from (("malformed", text) for text in MALFORMED.values())
    yield from (("malformed", _text({**base, key: value})) for key, value in SHAPES)
    yield from (("too large", text) for text in LARGE.values())


def texts(base: dict) -> Iterator[tuple[str, str]]:
    """Kind and text of what only the parser can refuse."""
    yield from (("text for a class", _text(_changed(base, place, text))) for place, text in TEXTS.items())


def _text(config: dict) -> str:
    return yaml.dump(config, Dumper=getattr(yaml, "CSafeDumper", yaml.SafeDumper))


def _places(value: object, above: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """Of all values in a configuration, but not those that tell which class it is."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, each in items:
        if key != "class_path":
            yield (*above, key)
            yield from _places(each, (*above, key))


def _changed(base: dict, place: tuple[str | int, ...], value: object) -> dict:
    config = deepcopy(base)
    inner = config
    for key in place[:-1]:
        inner = inner[key]
    inner[place[-1]] = deepcopy(value)
    return config


GENERATORS = (collections.__file__, dataclasses.__file__, typing.__file__)
"""They execute texts of their own: classes that they make, and the annotations of functions."""


class Watch:
    """Notes what this process does that reading a file never needs, by an audit hook.

    Args:
        folder: where files may be written.
    """

    FORBIDDEN = (
        "exec",
        "import",
        "os.exec",
        "os.fork",
        "os.forkpty",
        "os.posix_spawn",
        "os.spawn",
        "os.system",
        "subprocess.Popen",
        "pickle.find_class",
        "ctypes.dlopen",
        "socket.connect",
        "socket.bind",
        "socket.getaddrinfo",
        "urllib.Request",
        "os.chmod",
        "os.link",
        "os.symlink",
        "os.putenv",
    )
    CHANGES = ("os.mkdir", "os.remove", "os.rename", "os.rmdir", "os.truncate", "shutil.rmtree")

    def __init__(self, folder: Path) -> None:
        self.folder, self.seen = str(folder.resolve()), []
        self.armed = False
        sys.addaudithook(self._see)

    def over(self, action: Callable[[], object]) -> dict:
        """What an action says and does."""
        self.seen, message = [], None
        signal.setitimer(signal.ITIMER_VIRTUAL, 10)
        self.armed = True
        try:
            message = action()
        except Exception as error:  # whatever it is, it is the outcome
            message = f"{type(error).__name__}: {error}"
        finally:
            self.armed = False
            signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        return {"message": message, "seen": self.seen}

    def _see(self, event: str, arguments: tuple) -> None:
        if not self.armed:
            return
        writes = event == "open" and arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC)
        outside = (writes or event in self.CHANGES) and not self._is_inside(arguments[0])
        if (event in self.FORBIDDEN or outside) and not (event == "exec" and _generates_code(sys._getframe(1))):
            self.seen.append(f"{event} {arguments!r:.200}")

    def _is_inside(self, path: object) -> bool:
        return isinstance(path, (str, os.PathLike)) and os.path.abspath(os.fspath(path)).startswith(self.folder)


def _generates_code(frame: FrameType) -> bool:
    """Whether the standard library executes a text of its own."""
    return frame.f_code.co_filename in GENERATORS


def _overdue(number: int, frame: FrameType | None) -> None:
    raise TimeoutError("took more than 10 s of the processor")


def main(base: str, outcomes: str) -> None:
    """Check everything in this process, whose hook cannot be taken back, and write what happened."""
    import torch

    from lightning_adv.cli import evaluate
    from lightning_adv.cli.stored_config import read_stored_config
    from lightning_adv.errors import InputError
    from tests.cli.commands import run

    honest = yaml.safe_load(Path(base).read_text())

    def check(text: object) -> str | None:
        try:
            return f"accepted: {read_stored_config(text, 'stranger.ckpt')!r:.200}"
        except InputError as error:
            return f"InputError: {error}"

    def parse(text: object) -> str:
        content = {"pytorch-lightning_version": "2.6.6", "state_dict": {}, "lightning_adv_config": text}
        armed, watch.armed = watch.armed, False
        torch.save(content, "stranger.ckpt")
        watch.armed = armed
        outcome = run(["--ckpt_path=stranger.ckpt"], evaluate)
        return outcome.err if outcome.status == 2 else f"status {outcome.status}: {outcome.err}"

    watch = Watch(Path.cwd())
    signal.signal(signal.SIGVTALRM, _overdue)
    # What is imported when it is first needed is imported now.
    assert check(Path(base).read_text()).startswith("accepted")
    check("model: {class_path: x.Y}")
    wrong = _text(_changed(honest, ("model", "init_args", "objective"), "NoSuchObjective"))
    parse(wrong)
    found = [{"kind": kind, **watch.over(lambda text=text: check(text))} for kind, text in hostile(honest)]
    found += [{"kind": kind, **watch.over(lambda text=text: parse(text))} for kind, text in texts(honest)]
    Path(outcomes).write_text(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
