"""Backbones registered with timm, normalisation as their first layer, and weights read without running code.

Importing this package is cheap: timm is imported, and the project's networks are registered with it, when
:func:`create_model`, :func:`list_models`, :class:`Backbone` or :func:`register` is first asked for. From then on
``timm.create_model("lenet")`` works too.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lightning_adv.models.backbone import Backbone
    from lightning_adv.models.compiled import compile_classifier
    from lightning_adv.models.factory import create_model, list_models
    from lightning_adv.models.normalize import Normalize, NormalizedModel, Statistics, statistics_of
    from lightning_adv.models.opening import open_model
    from lightning_adv.models.precision import computes_in_bf16
    from lightning_adv.models.registry import register
    from lightning_adv.models.soundness import check_archive, check_finite, check_layout
    from lightning_adv.models.stored import open_checkpoint, stored_arguments
    from lightning_adv.models.weights import check_state, load_weights, read_checkpoint, read_state_dict

__all__ = [
    "Backbone",
    "Normalize",
    "NormalizedModel",
    "Statistics",
    "check_archive",
    "check_finite",
    "check_layout",
    "check_state",
    "compile_classifier",
    "computes_in_bf16",
    "create_model",
    "list_models",
    "load_weights",
    "open_checkpoint",
    "open_model",
    "read_checkpoint",
    "read_state_dict",
    "register",
    "statistics_of",
    "stored_arguments",
]

_HOME = {
    "Backbone": "backbone",
    "Normalize": "normalize",
    "NormalizedModel": "normalize",
    "Statistics": "normalize",
    "check_archive": "soundness",
    "check_finite": "soundness",
    "check_layout": "soundness",
    "check_state": "weights",
    "compile_classifier": "compiled",
    "computes_in_bf16": "precision",
    "create_model": "factory",
    "list_models": "factory",
    "load_weights": "weights",
    "open_checkpoint": "stored",
    "open_model": "opening",
    "read_checkpoint": "weights",
    "read_state_dict": "weights",
    "register": "registry",
    "statistics_of": "normalize",
    "stored_arguments": "stored",
}


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return vars(import_module(f"{__name__}.{_HOME[name]}"))[name]


def __dir__() -> list[str]:
    return sorted(__all__)
