"""Entering the project's networks in timm's registry, with signatures that say no to what they do not know."""

import difflib
import functools
import inspect
from collections.abc import Callable
from typing import ParamSpec

from timm.models import register_model

from lightning_adv.errors import InputError
from lightning_adv.models.backbone import Backbone

__all__ = ["own_models", "register"]

P = ParamSpec("P")

_OWN: dict[str, Callable[..., Backbone]] = {}
# What timm.create_model adds to the keywords that the caller typed.
_TIMM_ARGUMENTS = ("pretrained", "pretrained_cfg", "pretrained_cfg_overlay", "cache_dir")


def register(build: Callable[P, Backbone]) -> Callable[P, Backbone]:
    """Make ``timm.create_model(build.__name__, **options)`` call ``build(**options)``; a decorator.

    ``build`` declares every option as a keyword-only parameter. An option that it does not declare, an integer option
    below 1 (``num_classes`` may be 0) and a request for pretrained weights (there are none) are an `InputError`.
    """
    name = build.__name__
    known = inspect.signature(build).parameters

    @functools.wraps(build)
    def entrypoint(*args: P.args, **options: P.kwargs) -> Backbone:
        from_timm = {argument: options.pop(argument, None) for argument in _TIMM_ARGUMENTS}
        if from_timm["pretrained"] or from_timm["pretrained_cfg"] or from_timm["pretrained_cfg_overlay"]:
            raise InputError(f"{name} has no published weights: leave pretrained out and give a file of weights")
        for option, value in options.items():
            _check_option(name, option, value, list(known))
        try:
            return build(*args, **options)
        except InputError as error:
            raise InputError(f"{name}: {error}") from error

    _OWN[name] = entrypoint
    return register_model(entrypoint)


def own_models() -> dict[str, Callable[..., Backbone]]:
    """Entry points of the networks registered so far, by name."""
    return dict(_OWN)


def _check_option(model: str, option: str, value: object, known: list[str]) -> None:
    if option not in known:
        close = difflib.get_close_matches(option, known, n=1)
        meant = f"did you mean {close[0]}?" if close else f"it takes {', '.join(known)}"
        raise InputError(f"{model} has no option {option!r}: {meant}")
    if isinstance(value, bool) or not isinstance(value, int | tuple):
        return
    least = 0 if option == "num_classes" else 1
    if any(isinstance(number, int) and number < least for number in (value if isinstance(value, tuple) else (value,))):
        raise InputError(f"{model}: {option} must be at least {least}, got {value}")
