"""A layout of weights, and what becomes of it when it is opened: it loads right, it is asked about, it is refused."""

import copy
import tempfile
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from experiments.open_models.published import CLASSES, IMAGES, MEAN, STD
from lightning_adv.errors import InputError
from lightning_adv.models import NormalizedModel, Statistics, create_model, load_weights, open_model, statistics_of

__all__ = ["NEAR", "Layout", "Outcome", "Trial", "tried"]

Outcome = Literal["loads right", "asks", "refuses", "loads wrong", "runs code"]

NEAR = 1e-5
"""Logits may differ by so much from those of an independent forward."""

OTHERS = Statistics((0.5,) * 3, (0.25,) * 3, "the data", assumed=True)
"""Of the data where a file tells its own: they would be wrong."""

OWN = Statistics(MEAN, STD, "the data", assumed=True)


@dataclass(frozen=True)
class Layout:
    """Weights as somebody publishes them.

    Args:
        kind: whose network, or what sort of file.
        name: what is special about it.
        outcome: what must become of it.
        write: into an empty folder; the path that a user gives.
        logits: of the images, by a forward that shares nothing with this project's; they are normalised by ``MEAN`` and
            ``STD``. None where the file must be refused.
        images: [N, 3, H, W] in [0, 1].
        backbone, options: of the network that the user names; None where the folder says it.
        tells: the file says how its images were normalised.
        answer: what the user then types, where the outcome is "asks".
        says: expression that is found in what is asked, or in why it is refused.
        needs: package without which nobody can open it.
    """

    kind: str
    name: str
    outcome: Outcome
    write: Callable[[Path], Path]
    logits: Callable[[], Tensor] | None = None
    images: Tensor = field(default=IMAGES, repr=False)
    backbone: str | None = None
    options: Mapping[str, object] = field(default_factory=dict)
    tells: bool = False
    answer: Mapping[str, object] = field(default_factory=dict)
    says: str = ""
    needs: str = "torch"

    def __str__(self) -> str:
        return f"{self.kind}: {self.name}"

    @property
    def there(self) -> bool:
        """Whether what it needs is installed."""
        return find_spec(self.needs) is not None


@dataclass(frozen=True)
class Trial:
    """What became of a layout.

    Args:
        outcome: "loads wrong" if the logits are others than they must be, "runs code" if there is a file more than was
            written.
        gap: largest difference of a logit, where it loads, at once or after the answer; else None.
        said: what was asked, or why it was refused.
        notes: what was told when it loaded.
        statistics: in force; None where nothing of this project normalises images.
    """

    outcome: Outcome
    gap: float | None
    said: str
    notes: tuple[str, ...]
    statistics: Statistics | None


def tried(layout: Layout) -> Trial:
    """Write the layout, open it as a user does, and compare the logits."""
    with tempfile.TemporaryDirectory() as folder:
        path = layout.write(Path(folder))
        written, said = set(Path(folder).rglob("*")), ""
        try:
            model, notes = _opened(layout, path)
        except InputError as error:
            said = str(error)
            if not layout.answer:
                ran = set(Path(folder).rglob("*")) != written
                return Trial("runs code" if ran else "refuses", None, said, (), None)
            model, notes = _opened(layout, path, **layout.answer)
        with torch.no_grad():
            gap = float((model.eval()(layout.images) - layout.logits()).abs().max())
    outcome = ("asks" if said else "loads right") if gap <= NEAR else "loads wrong"
    return Trial(outcome, gap, said, tuple(notes), statistics_of(model))


def _opened(
    layout: Layout,
    path: Path,
    mean: tuple[float, ...] | None = None,
    std: tuple[float, ...] | None = None,
    **options: str,
) -> tuple[nn.Module, list[str]]:
    """The model, and what was told on the way."""
    statistics = OTHERS if layout.tells else OWN
    size = {"num_classes": CLASSES, "in_channels": 3, "image_size": tuple(layout.images.shape[2:])}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        if path.is_dir() or path.suffix == ".onnx":
            given = {"backbone": layout.backbone, "mean": mean, "std": std, "statistics": statistics}
            model = open_model(path, **size, **given, backbone_options=layout.options or None, **options)
        else:
            model = copy.deepcopy(_network(layout.backbone, *layout.options.items(), *size.items()))
            model.normalize.statistics = Statistics(mean, std, "mean and std as given") if mean else statistics
            load_weights(path, model, **options)
    return model, [str(each.message) for each in caught if issubclass(each.category, UserWarning)]


@cache
def _network(backbone: str, *settings: tuple[str, object]) -> NormalizedModel:
    own = dict(settings)
    size = {name: own.pop(name) for name in ("num_classes", "in_channels", "image_size")}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return create_model(backbone, **size, backbone_options=own, small_image_stem=False)
