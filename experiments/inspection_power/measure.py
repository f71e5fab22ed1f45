"""What is measured of a network: what it can do, and the values that each inspector judges its classes by."""

import copy
import tempfile
from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor, nn

from experiments.inspection_power.nets import DATA, DEFENDER, Net, in_turn, plain
from experiments.kept import Kept
from experiments.networks import Images, all_predicted, error
from lightning_adv.backdoors import save_triggers
from lightning_adv.inspectors import BTIDBF, MMBD, ClassTrigger, Inspector, NeuralCleanse
from lightning_adv.mitigations import NeuralCleanseUnlearning

__all__ = ["DRAWS", "INSPECTORS", "SETTINGS", "SIZES", "Measured"]

DRAWS = 2
"""Searches of Neural Cleanse, each with its share of the images and a start of its own."""

SIZES = (1.0, 0.5, 0.25)
"""Shares of its mask that a trigger is tried with, the strongest pixels first."""

INSPECTORS: Mapping[str, Callable[[], Inspector]] = {
    "mm_bd": lambda: MMBD(starts=10, steps=150),
    "bti_dbf": lambda: BTIDBF(steps=100, width=4),
}
"""Beside Neural Cleanse, on all images to search with."""

CLEANSE = {"steps": 50, "images_per_step": 64}
"""Settings of Neural Cleanse; on digits its masks hardly change after so many steps."""

TRIED_ON = 300
"""Held-out images that a trigger is tried on."""

SETTING = (
    f"Neural Cleanse {CLEANSE}, {DRAWS} searches, sizes {SIZES}, { ({n: repr(i()) for n, i in INSPECTORS.items()}) }"
)

SETTINGS = {name: SETTING + source.in_words for name, source in DATA.items()}
"""What the figures depend on, in words."""


class Measured:
    """A network and what is known of it.

    Args:
        net: which.
        train, test: images of the data set.
        kept: folder of all networks.
    """

    def __init__(self, net: Net, train: Images, test: Images, kept: Kept) -> None:
        self.net, self.train, self.kept = net, train, kept
        self.test = in_turn(test) if net.source.in_turn else test
        self.searched = tuple(each[: DEFENDER // 2] for each in self.test)
        self.held_out = tuple(each[DEFENDER // 2 : DEFENDER] for each in self.test)

    @cached_property
    def model(self) -> nn.Module:
        """The network with its weights."""
        model = plain(self.net.source)
        whole = tuple(each[:DEFENDER] for each in self.test)
        model.load_state_dict(self._once("weights", lambda: self.net.trained(self.train, whole).state_dict(), True))
        return model.eval()

    def everything(self) -> dict[str, dict | list | int]:
        """All figures, by name."""
        found = {"facts": self._once("facts", self._facts), "pixels": self.net.source.pixels}
        found["neural_cleanse"] = [
            self._once(f"neural cleanse {d}", lambda d=d: self._cleansed(d)) for d in range(DRAWS)
        ]
        for name, inspector in INSPECTORS.items():
            found[name] = self._once(name, lambda inspector=inspector: inspector()(self.model, [self.searched]).norms)
        return found

    @property
    def is_whole(self) -> bool:
        """Whether all of it was measured."""
        return all(self.kept.path(f"{self.net.name} {what}", "json").is_file() for what in ("facts", *INSPECTORS))

    def _once(self, what: str, make: Callable, tensors: bool = False) -> object:
        return (self.kept.tensors if tensors else self.kept.figures)(
            f"{self.net.name} {what}", make, SETTINGS[self.net.data]
        )

    def _facts(self) -> dict[str, float | None]:
        x, y = (each[DEFENDER:] for each in self.test)
        success = None
        if self.net.poison:
            triggered = self.net.poison.trigger(x[y != self.net.target])
            success = float((all_predicted(self.model, triggered) == self.net.target).double().mean())
        return {"accuracy": 1 - error(self.model, x, y), "attack_success": success}

    def _cleansed(self, draw: int) -> dict[str, list]:
        """Norms of a search, what its triggers do to held-out images, and what is left of that once unlearnt."""
        part = [tuple(each[draw::DRAWS] for each in self.searched)]
        report = NeuralCleanse(**CLEANSE, seed=draw)(self.model, part)
        sizes = [[self._success(self.model, each, size) for size in SIZES] for each in report.triggers]
        smallest = report.triggers[report.order[0]]
        left = self._success(self._unlearnt(smallest, draw), smallest, 1.0) if smallest.found else None
        return {"norms": report.norms, "sizes": sizes, "unlearnt": [smallest.label, left]}

    def _success(self, model: nn.Module, trigger: ClassTrigger, size: float) -> float:
        """Share of the held-out images of other classes that a share of the mask sends to the trigger's class."""
        x, y = (each[:TRIED_ON] for each in self.held_out)
        x = x[y != trigger.label]
        led = all_predicted(model, x.lerp(trigger.pattern, _strongest(trigger.mask, size)))
        return float((led == trigger.label).double().mean())

    def _unlearnt(self, trigger: ClassTrigger, seed: int) -> nn.Module:
        model = copy.deepcopy(self.model)
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "trigger.safetensors"
            save_triggers(file, trigger.mask[None], trigger.pattern[None], torch.tensor([trigger.label]), {})
            unlearning = NeuralCleanseUnlearning(
                triggers=str(file), labels=[trigger.label], epochs=1, lr=0.02, seed=seed
            )
            unlearning(model, [self.searched])
        return model


def _strongest(mask: Tensor, share: float) -> Tensor:
    """The mask where it is strongest, up to a share of its sum."""
    values, order = mask.flatten().sort(descending=True)
    kept = (values.cumsum(0) - values) < share * values.sum()
    return torch.zeros_like(values).scatter(0, order, values * kept).view_as(mask)
