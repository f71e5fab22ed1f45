"""Folders as timm and the Hugging Face hub publish them, written without any code of this project."""

import json
from pathlib import Path

import torch
from safetensors.torch import save
from torch import Tensor, nn

from lightning_adv.files import replace_atomically

__all__ = ["exported", "save_weights", "timm_folder", "torch_file"]


def torch_file(path: Path, content: object, **options: bool) -> Path:
    """What ``torch.save`` makes of it."""
    replace_atomically(path, lambda file: torch.save(content, file, **options))
    return path


def timm_folder(
    folder: Path, net: nn.Module, architecture: str, *, weights: str = "safetensors", **cfg: object
) -> Path:
    """A network of timm with its `config.json`; further settings are those of its weights."""
    size = cfg.get("input_size", [3, 224, 224])
    settings = {
        "architecture": architecture,
        "num_classes": net.num_classes,
        "label_names": cfg.pop("label_names", None),
        "model_args": {"num_classes": net.num_classes, "in_chans": 3},
        "pretrained_cfg": {"tag": "mine", "interpolation": "bicubic", "crop_pct": 0.9, "input_size": size, **cfg},
    }
    replace_atomically(folder / "config.json", json.dumps(settings))
    save_weights(folder, net.state_dict(), weights)
    return folder


def save_weights(folder: Path, state: dict[str, Tensor], kind: str) -> None:
    """Weights in a file of their own or in two that an index lists."""
    name = "model.safetensors" if kind.endswith("safetensors") else "pytorch_model.bin"
    state = {key: weight.clone() for key, weight in state.items()}
    if not kind.startswith("sharded"):
        _save(state, folder / name)
        return
    stem, _, suffix = name.rpartition(".")
    places = {key: f"{stem}-0000{1 + number % 2}-of-00002.{suffix}" for number, key in enumerate(state)}
    for file in set(places.values()):
        _save({key: state[key] for key, place in places.items() if place == file}, folder / file)
    index = {"metadata": {"total_size": 1}, "weight_map": places}
    replace_atomically(folder / f"{name}.index.json", json.dumps(index))


def _save(state: dict[str, Tensor], path: Path) -> None:
    if path.suffix == ".safetensors":
        replace_atomically(path, save(state))
    else:
        torch_file(path, state)


def exported(
    net: nn.Sequential,
    path: Path,
    *,
    image: tuple[int, int, int] = (3, 8, 8),
    batch: int | str = "n",
    channels_last: bool = False,
    beside: str | None = None,
) -> Path:
    """An ONNX file of a flattening and a linear layer, node by node; its weights are ``beside`` it, if that is said."""
    import onnx

    weight = onnx.numpy_helper.from_array(net[1].weight.detach().numpy(), "weight")
    bias = onnx.numpy_helper.from_array(net[1].bias.detach().numpy(), "bias")
    if beside is not None:
        replace_atomically(path.parent / "weights.data", weight.raw_data)
        onnx.external_data_helper.set_external_data(weight, beside)
        weight.ClearField("raw_data")
    helper, kind = onnx.helper, onnx.TensorProto.FLOAT
    shape = [image[1], image[2], image[0]] if channels_last else list(image)
    nodes = [
        helper.make_node("Transpose", ["x"], ["z"], perm=[0, 3, 1, 2] if channels_last else [0, 1, 2, 3]),
        helper.make_node("Flatten", ["z"], ["flat"]),
        helper.make_node("Gemm", ["flat", "weight", "bias"], ["y"], transB=1),
    ]
    takes = helper.make_tensor_value_info("x", kind, [batch, *shape])
    gives = helper.make_tensor_value_info("y", kind, [batch, len(net[1].bias)])
    graph = helper.make_graph(nodes, "net", [takes], [gives], [weight, bias])
    opset = [helper.make_opsetid("", 17)]
    replace_atomically(path, helper.make_model(graph, opset_imports=opset, ir_version=8).SerializeToString())
    return path
