"""Layouts that libraries write: torchvision's weights for timm's networks, folders of timm and transformers, ONNX."""

import json
from collections.abc import Callable, Iterator
from functools import cache, partial
from pathlib import Path

import timm
import torch
from torch import Tensor, nn

from experiments.open_models.hub import exported, save_weights, timm_folder, torch_file
from experiments.open_models.published import CLASSES, IMAGES, MEAN, STD, normalised
from experiments.open_models.trials import Layout
from lightning_adv.files import replace_atomically

__all__ = ["OF_LIBRARIES", "drawn", "small_net"]


def small_net() -> nn.Sequential:
    """A flattening and a linear layer."""
    return nn.Sequential(nn.Flatten(), nn.Linear(IMAGES[0].numel(), CLASSES))


def _moved(net: nn.Module) -> nn.Module:
    """With every parameter away from where it is initialised alike, such as zeros."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in net.parameters():
            weight.add_(0.05 * torch.rand(weight.shape, generator=generator))
    return net.eval()


@cache
def drawn(make: Callable[[], nn.Module]) -> nn.Module:
    """The network that ``make`` makes with weights of its own, the same whoever asks."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return _moved(make())


def _answers(make: Callable[[], nn.Module], images: Tensor) -> Tensor:
    with torch.no_grad():
        return drawn(make)(normalised(images))


def _pictures(side: int) -> Tensor:
    return torch.rand(2, 3, side, side, generator=torch.Generator().manual_seed(1))


def _vit() -> nn.Module:
    from torchvision.models import VisionTransformer

    return VisionTransformer(32, 8, num_layers=2, num_heads=2, hidden_dim=16, mlp_dim=32, num_classes=CLASSES)


def _convnext() -> nn.Module:
    from torchvision.models.convnext import CNBlockConfig, ConvNeXt

    sizes = ((8, 16, 2), (16, 24, 1), (24, 32, 2), (32, None, 1))
    return ConvNeXt([CNBlockConfig(*each) for each in sizes], num_classes=CLASSES)


def _efficientnet() -> nn.Module:
    from torchvision.models import efficientnet_b0

    return efficientnet_b0(num_classes=CLASSES)


def _torchvision() -> Iterator[Layout]:
    vit = {"patch_size": 8, "embed_dim": 16, "depth": 2, "num_heads": 2, "mlp_ratio": 2}
    convnext = {"depths": (2, 1, 2, 1), "dims": (8, 16, 24, 32)}
    for what, make, side, backbone, options in (
        ("vision transformer", _vit, 32, "vit_base_patch16_224", vit),
        ("ConvNeXt", _convnext, 64, "convnext_tiny", convnext),
        ("EfficientNet", _efficientnet, 32, "efficientnet_b0", {}),
    ):
        by_order = {"answer": {"match": "order"}, "says": r"--model\.match=order"} if make is _efficientnet else {}
        yield Layout(
            "torchvision's weights for timm's network",
            what,
            "asks" if by_order else "loads right",
            lambda folder, make=make: torch_file(folder / "net.pth", drawn(make).state_dict()),
            lambda make=make, side=side: _answers(make, _pictures(side)),
            images=_pictures(side),
            backbone=backbone,
            options=options,
            **by_order,
        )


def _timm_net() -> nn.Module:
    return timm.create_model("test_resnet", num_classes=CLASSES)


def _transformers_net() -> nn.Module:
    from transformers import ViTConfig, ViTForImageClassification

    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    net = ViTForImageClassification(ViTConfig(**sizes, image_size=32, patch_size=8, num_labels=CLASSES))
    net.register_forward_hook(lambda module, given, out: out.logits)
    return net


def _transformers_folder(folder: Path, weights: str, prepares: bool = True, **settings: object) -> Path:
    net = drawn(_transformers_net)
    replace_atomically(folder / "config.json", json.dumps({**json.loads(net.config.to_json_string(False)), **settings}))
    save_weights(folder, net.state_dict(), weights)
    if prepares:
        does = {"do_normalize": True, "image_mean": MEAN, "image_std": STD, "do_rescale": True}
        kind = {"image_processor_type": "ViTImageProcessor", "size": {"height": 32, "width": 32}}
        replace_atomically(folder / "preprocessor_config.json", json.dumps({**kind, **does}))
    return folder


def _folders() -> Iterator[Layout]:
    images = _pictures(32)
    shown = {"images": images}
    cfg = {"mean": list(MEAN), "std": list(STD), "input_size": [3, 32, 32]}
    timms = {**shown, "logits": partial(_answers, _timm_net, images)}
    theirs = {**shown, "logits": partial(_answers, _transformers_net, images)}
    for kind in ("safetensors", "bin", "sharded safetensors", "sharded bin"):
        write = lambda folder, kind=kind: timm_folder(  # noqa: E731
            folder, drawn(_timm_net), "test_resnet", weights=kind, **cfg
        )
        yield Layout("folder of timm", kind, "loads right", write, tells=True, **timms)
        write = lambda folder, kind=kind: _transformers_folder(folder, kind)  # noqa: E731
        yield Layout("folder of transformers", kind, "loads right", write, tells=True, **theirs)
    bare = "bare weights, the user names the network"
    yield Layout("folder of timm", bare, "loads right", _bare_folder, backbone="test_resnet", **timms)
    yield Layout(
        "folder of transformers",
        "no preprocessor",
        "loads right",
        lambda folder: _transformers_folder(folder, "safetensors", prepares=False),
        **theirs,
    )
    for what, settings in (
        ("auto_map", {"auto_map": {"AutoModelForImageClassification": "evil.Net"}}),
        ("quantization_config", {"quantization_config": {"quant_method": "bitsandbytes"}}),
    ):
        write = lambda folder, settings=settings: _transformers_folder(folder, "safetensors", **settings)  # noqa: E731
        yield Layout("folder that brings code", what, "refuses", write, says=f"is refused: its {what} ", **shown)
    yield Layout(
        "ONNX",
        "flattening and a linear layer",
        "loads right",
        lambda folder: exported(drawn(small_net), folder / "net.onnx", image=tuple(IMAGES.shape[1:])),
        lambda: drawn(small_net)(IMAGES).detach(),
        needs="onnxruntime",
    )


def _bare_folder(folder: Path) -> Path:
    save_weights(folder, drawn(_timm_net).state_dict(), "sharded safetensors")
    return folder


OF_LIBRARIES = (*_torchvision(), *_folders())
"""All of them."""
