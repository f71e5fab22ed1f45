"""What the configuration in a checkpoint may name: a written list; the user adds to it, a file never does."""

import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from importlib import import_module
from pathlib import Path

from jsonargparse import _common as jsonargparse_settings

from lightning_adv.cli.classes import BASES, concrete_subclasses, imported
from lightning_adv.errors import InputError

__all__ = ["check_trusted", "imports_limited_to", "is_allowed", "remedy"]

PACKAGES = (
    "attacks",
    "backdoors",
    "callbacks",
    "data",
    "detectors",
    "fooling",
    "inspectors",
    "mitigations",
    "modules",
    "objectives",
    "purifiers",
    "scans",
)
"""Packages of this project whose public classes a configuration names."""

LIBRARIES = {
    "torch.optim": "ASGD Adadelta Adagrad Adam AdamW Adamax LBFGS Muon NAdam RAdam RMSprop Rprop SGD SparseAdam",
    "torch.optim.lr_scheduler": "ConstantLR CosineAnnealingLR CosineAnnealingWarmRestarts CyclicLR ExponentialLR "
    "LinearLR MultiStepLR OneCycleLR PolynomialLR ReduceLROnPlateau StepLR",
    "pytorch_lightning.callbacks": "DeviceStatsMonitor EMAWeightAveraging EarlyStopping GradientAccumulationScheduler "
    "LearningRateMonitor ModelCheckpoint ModelSummary RichModelSummary RichProgressBar StochasticWeightAveraging "
    "TQDMProgressBar Timer WeightAveraging",
    "pytorch_lightning.loggers": "CSVLogger TensorBoardLogger WandbLogger",
    "pytorch_lightning.strategies": "DDPStrategy FSDPStrategy ModelParallelStrategy SingleDeviceStrategy",
    "kornia.augmentation": "ColorJiggle ColorJitter RandomAffine RandomBrightness RandomContrast RandomCrop "
    "RandomErasing RandomGamma RandomGaussianBlur RandomGaussianNoise RandomGrayscale RandomHorizontalFlip RandomHue "
    "RandomPerspective RandomResizedCrop RandomRotation RandomSaturation RandomSharpness RandomTranslate "
    "RandomVerticalFlip",
    "kornia.augmentation.auto": "AutoAugment RandAugment TrivialAugment",
}
"""Classes of other packages that do nothing but what a run needs, whatever their arguments are."""

DOTTED = re.compile(r"(?<![\w./\\-])[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)+(?![\w./\\-])")
"""Names of classes, and little else: no part of a path."""

REACHABLE = (
    *(f"lightning_adv.{package}" for package in PACKAGES),
    *LIBRARIES,
    *(f"pytorch_lightning.{each}" for each in ("accelerators", "plugins", "profilers")),
)
"""Where the parser finds what the user names without a module."""


def is_allowed(class_path: str, trusted: Sequence[str] = ()) -> bool:
    """Whether a file may name this class, by its path or by its name alone.

    Args:
        class_path: as the file has it; nothing is imported to find out.
        trusted: packages, modules or classes that the user lets in.

    Example:
        >>> is_allowed("lightning_adv.attacks.PGD"), is_allowed("PGD"), is_allowed("subprocess.Popen")
        (True, True, False)
        >>> is_allowed("mine.nets.Net"), is_allowed("mine.nets.Net", ["mine"]), is_allowed("mine_too.Net", ["mine"])
        (False, True, False)
    """
    return class_path in _names() or any(f"{class_path}.".startswith(f"{each}.") for each in trusted)


def remedy(class_path: str) -> str:
    """What the user does about a class that is not allowed."""
    root = class_path.partition(".")[0]
    wanted = root not in {*sys.stdlib_module_names, "jsonargparse"} and "." in class_path
    if not wanted or not all(part.isidentifier() for part in class_path.split(".")):
        return "no run needs that, so do not use this file"
    is_of_a_library = any(f"{each}.".startswith(f"{root}.") for each in REACHABLE)
    return f"if you wrote it or trust it, add --trust {class_path[:80] if is_of_a_library else root}"


def check_trusted(names: Sequence[str]) -> list[str]:
    """The values of ``--trust``.

    Raises:
        InputError: one that names no package, module or class.
    """
    for name in names:
        if not all(part.isidentifier() for part in name.split(".")):
            raise InputError(f"--trust takes a package, a module or a class such as my_package.nets, got {name!r}")
    return list(names)


@contextmanager
def imports_limited_to(trusted: Sequence[str], args: Sequence[str], files: Sequence[str]) -> Iterator[None]:
    """A parser that meets the values of a checkpoint imports nothing but what is allowed, trusted or typed.

    The check of a stored configuration finds every class that is written as one. This keeps the parser from taking a
    mere text for the name of a class or function, as it does where an argument's type says so.

    Args:
        trusted: what the user lets in.
        args: of the command line; what it names was typed.
        files: configurations that it names; what they name was typed, too.
    """
    values = [arg.partition("=")[2] if arg.startswith("--") else arg for arg in args]
    typed = "\n".join([*values, *(Path(file).read_text(encoding="utf-8") for file in files)])
    allowed = {*REACHABLE, *trusted, *_paths(cls for base in BASES for cls in concrete_subclasses(base))}
    for token in set(DOTTED.findall(typed)):
        allowed |= _reach(token)
    settings = jsonargparse_settings.parsing_settings
    before = {key: settings[key] for key in ("import_path_verdicts", "import_paths_enforced")}
    verdicts = {**dict.fromkeys(allowed, True), "*": False, "jsonargparse": False}
    settings.update({"import_path_verdicts": verdicts, "import_paths_enforced": True})
    try:
        yield
    finally:
        settings.update(before)


@cache
def _names() -> frozenset[str]:
    """Public paths, paths of definition and bare names of all that is on the list."""
    own: list[type] = []
    for package in PACKAGES:
        module = import_module(f"lightning_adv.{package}")
        own += [cls for name in module.__all__ if isinstance(cls := vars(module)[name], type)]
    found = {f"{'.'.join(cls.__module__.split('.')[:2])}.{cls.__name__}" for cls in own} | _paths(own)
    found |= {f"{module}.{name}" for module, names in LIBRARIES.items() for name in names.split()}
    return frozenset(found | {path.rpartition(".")[2] for path in found})


def _paths(classes: Iterable[type]) -> set[str]:
    return {f"{cls.__module__}.{cls.__qualname__}" for cls in classes}


def _reach(token: str) -> set[str]:
    """What the user names, and where that is defined."""
    found = imported(token)
    if found is not None:
        return {token, *(_paths([found]) if isinstance(found, type) else ())}
    root = token.partition(".")[0]
    return {token} if root in sys.stdlib_module_names else {token, root}
