"""Networks of ONNX files: computed by onnxruntime, which answers and gives no gradient."""

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from lightning_adv.errors import InputError

if TYPE_CHECKING:
    from google.protobuf.message import Message
    from onnx import ModelProto
    from onnxruntime import InferenceSession

__all__ = ["OnnxNet", "shapes_in"]

_EXTERNAL = 1  # onnx.TensorProto.EXTERNAL


class OnnxNet(nn.Module):
    """The classifier of an ONNX file: images -> logits, on the CPU and without a gradient.

    Its weights stay in the file; what stands in for them here is the check sum of the file, by which results that are
    kept for a model are told from those of another.

    Args:
        path: of the file; weights that it keeps outside must be in its own folder.

    Raises:
        InputError: onnxruntime is not installed, a file that is damaged, leads out of its folder or is no classifier of
            images.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        digest = _checked(path)
        self.path = path
        self.session = _session(path)
        inputs, outputs = self.session.get_inputs(), self.session.get_outputs()
        if len(inputs) != 1 or len(inputs[0].shape) != 4:
            shapes = ", ".join(f"{each.name} {each.shape}" for each in inputs)
            raise InputError(f"{path} is no classifier of images alone: it takes {shapes}")
        self.source, self.answer, shape = inputs[0].name, outputs[0].name, inputs[0].shape
        self.half = inputs[0].type == "tensor(float16)"
        self.fixed_batch = shape[0] if isinstance(shape[0], int) else None
        self.channels_last = shape[3] in (1, 3) and shape[1] not in (1, 3)
        self.register_buffer("digest", torch.frombuffer(bytearray(digest), dtype=torch.uint8))

    def __getstate__(self) -> dict[str, object]:
        return {name: value for name, value in super().__getstate__().items() if name != "session"}

    def __setstate__(self, state: dict[str, object]) -> None:
        super().__setstate__(state)
        self.session = _session(self.path)

    def forward(self, x: Tensor) -> Tensor:
        """Logits [N, K] of images [N, C, H, W]."""
        given = x.detach().to("cpu", torch.float16 if self.half else torch.float32)
        if self.channels_last:
            given = given.permute(0, 2, 3, 1)
        size = self.fixed_batch or max(len(x), 1)
        answers = [self._asked(part, size) for part in given.split(size)]
        return torch.cat(answers).to(x.device)

    def _asked(self, images: Tensor, size: int) -> Tensor:
        """Answers to no more images than the file takes at once; one with a fixed number gets the last one repeated."""
        full = torch.cat([images, images[-1:].expand(size - len(images), -1, -1, -1)])
        (answer,) = self.session.run([self.answer], {self.source: full.contiguous().numpy()})
        return torch.from_numpy(answer)[: len(images)].float()

    def extra_repr(self) -> str:
        """The file's check sum."""
        return f"sha256={bytes(self.digest.tolist()).hex()[:16]}"


def shapes_in(path: Path) -> dict[str, tuple[int, ...]]:
    """The shapes of the tensors that an ONNX file holds, by name or else by number.

    Raises:
        InputError: onnx is not installed, or a file that is damaged or leads out of its folder.
    """
    model, _ = _read(path)
    return {each.name or f"tensor {place}": tuple(each.dims) for place, each in enumerate(_tensors(model))}


def _checked(path: Path) -> bytes:
    """The check sum of a file and of what it keeps outside, after a look at where that is."""
    _, parts = _read(path)
    return hashlib.sha256(b"".join(hashlib.sha256(part).digest() for part in parts)).digest()


def _read(path: Path) -> tuple["ModelProto", list[bytes]]:
    """What a file says, and all bytes of it and of the files beside it that it names."""
    try:
        import onnx
    except ImportError as error:
        raise InputError(f"{path} needs onnx and onnxruntime: pip install 'lightning-adv[onnx]'") from error
    if not path.is_file():
        raise InputError(f"no file {path}")
    content = path.read_bytes()
    try:
        model = onnx.load_from_string(content)
        return model, [content, *(file.read_bytes() for file in _outside(model, path))]
    except InputError:
        raise
    except Exception as error:  # damaged bytes surface as almost any exception
        raise InputError(f"{path} is no ONNX file, or it is damaged; fetch or export it again") from error


def _session(path: Path) -> "InferenceSession":
    try:
        import onnxruntime
    except ImportError as error:
        raise InputError(f"{path} needs onnx and onnxruntime: pip install 'lightning-adv[onnx]'") from error
    try:
        return onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    except Exception as error:  # a stranger's graph may break it in any way
        raise InputError(f"{path} cannot be run by onnxruntime: {' '.join(str(error).split())[:200]}") from error


def _outside(model: "Message", path: Path) -> list[Path]:
    """Files beside an ONNX file that it keeps weights in.

    Raises:
        InputError: one outside of its folder, or one that is not there.
    """
    files = set()
    for tensor in _tensors(model):
        if tensor.data_location != _EXTERNAL:
            continue
        place = next((entry.value for entry in tensor.external_data if entry.key == "location"), "")
        folder = path.parent.resolve()
        file = (folder / place).resolve()
        if not place or Path(place).is_absolute() or not file.is_relative_to(folder):
            raise InputError(f"{path} is refused: it looks for weights in {place!r}, which is outside of its folder")
        if not file.is_file():
            raise InputError(f"{path} keeps weights in {place!r}, which is not beside it; fetch that file, too")
        files.add(file)
    return sorted(files)


def _tensors(message: "Message") -> list:
    """All tensors of a message, at every depth: of graphs in nodes and of functions, too."""
    from google.protobuf.message import Message

    found, rest = [], [message]
    while rest:
        part = rest.pop()
        if part.DESCRIPTOR.name == "TensorProto":
            found.append(part)
            continue
        for field, value in part.ListFields():
            if field.message_type is not None:
                rest.extend([value] if isinstance(value, Message) else value)
    return found
