"""What a stranger's file holds, told without trusting it: its kind, its sum, its code, its entries."""

import hashlib
import io
import re
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from lightning_adv.errors import InputError
from lightning_adv.models.folders import is_onnx
from lightning_adv.models.inert import STAND_INS
from lightning_adv.models.onnx import shapes_in
from lightning_adv.models.pickled import names_in_pickles
from lightning_adv.models.weights import holds_safetensors, read_checkpoint
from lightning_adv.models.zoo import located

__all__ = ["FileContents", "files_in", "inspect_file", "left_out"]

_CLASS_PATH = re.compile(r"""class_path["']?\s*:\s*["']?([\w.]+)""")
_PLAIN = {f"{home}.{name}" for home in ("__builtin__", "builtins") for name in ("set", "frozenset", "complex", "slice")}
_PICKLES = (".pkl", ".pickle")
_WEIGHTS = (".bin", ".ckpt", ".model", ".onnx", ".pkl", ".pickle", ".pt", ".pth", ".safetensors")
_ARCHIVE_BEGINS = b"PK\x03\x04"
_LARGEST_PICKLE = 1 << 28  # bytes; that of a network of a thousand tensors has 100,000
_DEEPEST = 8
_LONGEST_TEXT = 60
SAFETENSORS, ONNX, ARCHIVE = "a safetensors file", "an ONNX file", "a torch archive"
SCRIPT = "a TorchScript archive, a program"
OLD, OTHER = "a pickle", "no file of weights"


@dataclass(frozen=True)
class FileContents:
    """A file as it lies on the disk.

    Args:
        path: of the file.
        kind: in words.
        size: in bytes.
        sha256: of the whole file.
        calls: names that its pickles ask for, in their order.
        code: what of it is more than data: names that rebuilding tensors and plain values does not need, programs.
        entries: its entries by name, each in words; empty where it is not read, as of a file that holds code.
        class_paths: classes that a configuration stored in it names.
    """

    path: str
    kind: str
    size: int
    sha256: str
    calls: list[str] = field(default_factory=list)
    code: list[str] = field(default_factory=list)
    entries: dict[str, str] = field(default_factory=dict)
    class_paths: list[str] = field(default_factory=list)


def inspect_file(path: str | Path) -> FileContents:
    """Look into a file of weights, a checkpoint, a pickle or an archive; nothing in it is executed or imported.

    Raises:
        InputError: there is no such file, or it is a damaged one that holds no code.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"the file {path} is {'a folder' if path.is_dir() else 'not there'}")
    with path.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    safe = SAFETENSORS if holds_safetensors(path) else ONNX if is_onnx(path) else None
    kind, calls, programs = (safe, [], []) if safe else _look(path)
    known = _inert()
    code = [*(name for name in calls if name not in known), *programs]
    content = {} if code or safe == ONNX else _content(path)
    texts = [value for value in content.values() if isinstance(value, str)]
    return FileContents(
        str(path),
        kind,
        path.stat().st_size,
        sha256,
        calls,
        code,
        {str(key): _said(value) for key, value in content.items()} if safe != ONNX else _shapes(path),
        list(dict.fromkeys(name for text in texts for name in _CLASS_PATH.findall(text))),
    )


def files_in(path: str | Path) -> list[Path]:
    """A file, or of a folder every file in it that may be one of weights, whether or not a network is read from it.

    Raises:
        InputError: a folder without any.
    """
    path = located(path)
    if not path.is_dir():
        return [path]
    found = sorted(each for each in path.rglob("*") if each.suffix.lower() in _WEIGHTS and each.is_file())
    if not found:
        raise InputError(f"{path} is a folder without a file of weights: none ends in {', '.join(_WEIGHTS)}")
    return found


def left_out(path: str | Path, model: torch.nn.Module) -> list[str]:
    """Names of the tensors of a file that a model holds nowhere, by their values.

    Args:
        path: of a file that may be read.
        model: as it is used, whatever its names.
    """
    path = Path(path)
    if is_onnx(path):
        return []  # the file itself is what answers
    content = _content(path)
    held = {_sum(tensor) for tensor in model.state_dict().values() if isinstance(tensor, Tensor)}
    return [name for name, tensor in _tensors(content) if _sum(tensor) not in held]


def _content(path: Path) -> Mapping[str, object]:
    return load_file(path) if holds_safetensors(path) else read_checkpoint(path)


def _look(path: Path) -> tuple[str, list[str], list[str]]:
    """Kind of a file that is not safetensors, the names that its pickles ask for, and its programs.

    An archive is found from its end, a pickle from its beginning: one file can be both, and whoever opens it chooses.
    """
    kind, names, programs = _look_into_archive(path) if zipfile.is_zipfile(path) else (OTHER, [], [])
    with path.open("rb") as file:
        beginning = file.read(4)
        file.seek(0)
        at_the_beginning, whole = ([], False) if beginning == _ARCHIVE_BEGINS else names_in_pickles(file)
    if whole or beginning[:1] == b"\x80" or at_the_beginning:
        kind, names = OLD if kind == OTHER else f"{OLD} and {kind} in one", [*at_the_beginning, *names]
    return kind, list(dict.fromkeys(names)), programs


def _look_into_archive(path: Path) -> tuple[str, list[str], list[str]]:
    names: dict[str, None] = {}
    try:
        with zipfile.ZipFile(path) as archive:
            inside = archive.infolist()
            for each in inside:
                if each.filename.endswith(_PICKLES):
                    with archive.open(each) as file:
                        content = io.BytesIO(file.read(_LARGEST_PICKLE))
                    names |= dict.fromkeys(names_in_pickles(content)[0])
    except Exception as error:  # damaged bytes surface as almost any exception
        raise InputError(f"{path} is damaged or incomplete ({error}); fetch or save it again") from error
    programs = [each.filename for each in inside if "/code/" in f"/{each.filename}" or each.filename.endswith(".py")]
    return SCRIPT if programs else ARCHIVE, list(names), programs


def _inert() -> set[str]:
    """What torch and this project let a file ask for, and plain types: names that rebuild values, and do nothing."""
    return {*_PLAIN, *torch._weights_only_unpickler._get_allowed_globals(), *(name for _, name in STAND_INS)}


def _said(value: object) -> str:
    if isinstance(value, Tensor):
        return _shaped(value.shape)
    if isinstance(value, Mapping | list | tuple):
        sizes = [tensor.numel() for _, tensor in _tensors(value)]
        return f"{len(sizes):,} tensors, {sum(sizes):,} numbers" if sizes else f"{type(value).__name__} of {len(value)}"
    text = f"{value!r}"
    return text if len(text) <= _LONGEST_TEXT else f"{text[:_LONGEST_TEXT]}... ({type(value).__name__})"


def _shapes(path: Path) -> dict[str, str]:
    return {name: _shaped(shape) for name, shape in shapes_in(path).items()}


def _shaped(shape: Sequence[int]) -> str:
    return f"tensor of {' x '.join(map(str, shape)) or 'one number'}"


def _tensors(value: object, name: str = "", depth: int = 0) -> Iterator[tuple[str, Tensor]]:
    if isinstance(value, Tensor):
        yield name, value
    elif isinstance(value, Mapping | list | tuple) and depth < _DEEPEST:
        for key, each in value.items() if isinstance(value, Mapping) else enumerate(value):
            yield from _tensors(each, f"{name}.{key}".lstrip("."), depth + 1)


def _sum(tensor: Tensor) -> bytes:
    """Of the numbers of a tensor, whatever its shape and precision."""
    numbers = tensor.detach().to_dense().cpu().flatten().float()
    return hashlib.blake2b(numbers.numpy().tobytes(), digest_size=16).digest()
