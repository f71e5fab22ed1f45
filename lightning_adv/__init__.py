"""Adversarial robustness and backdoor security of image classifiers, as plug-ins of PyTorch Lightning.

Importing this package is cheap: a subpackage is imported when it is first asked for.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lightning_adv import (
        asking,
        attacks,
        backdoors,
        callbacks,
        cli,
        data,
        detectors,
        errors,
        files,
        fooling,
        inspectors,
        interruption,
        metrics,
        mitigations,
        models,
        modules,
        names,
        objectives,
        purifiers,
        reports,
        scans,
        victims,
    )

    __version__: str

__all__ = [
    "__version__",
    "asking",
    "attacks",
    "backdoors",
    "callbacks",
    "cli",
    "data",
    "detectors",
    "errors",
    "files",
    "fooling",
    "inspectors",
    "interruption",
    "metrics",
    "mitigations",
    "models",
    "modules",
    "names",
    "objectives",
    "purifiers",
    "reports",
    "scans",
    "victims",
]


def __getattr__(name: str) -> object:
    if name == "__version__":
        from importlib.metadata import version

        return version("lightning-adv")
    if name in __all__:
        return import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
