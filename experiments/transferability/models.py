"""Models of five learning techniques, fitted when they are first asked for, and how each crafts adversarial images."""

from collections.abc import Callable

from torch import Tensor, nn

from experiments.networks import attacked, network
from lightning_adv.attacks import FGSM, HyperplaneAttack
from lightning_adv.victims import (
    DecisionTreeAttack,
    DecisionTreeVictim,
    EnsembleVictim,
    LinearSVMVictim,
    LogisticRegressionVictim,
    NearestNeighboursVictim,
    RandomForestVictim,
    RBFSVMVictim,
    Victim,
)

__all__ = ["EPS", "SVM_LENGTH", "TECHNIQUES", "Models", "craft"]

TECHNIQUES = ("DNN", "LR", "SVM", "DT", "kNN")
EPS = 0.3
"""Of FGSM, on the network and on the twins of LR and kNN."""

SVM_LENGTH = 50 / 3
"""Times eps: L2 length of the step against a hyperplane, that of a change by eps of a third of the pixels."""

VICTIMS: dict[str, Callable[[int], Victim]] = {
    "LR": lambda seed: LogisticRegressionVictim(seed=seed),
    "SVM": lambda seed: LinearSVMVictim(seed=seed),
    "DT": lambda seed: DecisionTreeVictim(seed=seed),
    "kNN": lambda seed: NearestNeighboursVictim(temperature=5.0, seed=seed),
    "RBF SVM": lambda seed: RBFSVMVictim(seed=seed),
    "forest": lambda seed: RandomForestVictim(seed=seed),
}


class Models:
    """The model of a technique on a part of the training set; fitted once a process.

    Args:
        parts: images and labels of disjoint parts.
        epochs: of training a network.
    """

    def __init__(self, parts: list[tuple[Tensor, Tensor]], epochs: int) -> None:
        self.parts, self.epochs = parts, epochs
        self._fitted: dict[tuple[str, int], nn.Module] = {}

    def __call__(self, technique: str, part: int) -> nn.Module:
        """The fitted model."""
        if (technique, part) not in self._fitted:
            x, y = self.parts[part]
            if technique == "DNN":
                model = network(x, y, self.epochs, seed=part)
            elif technique == "ensemble":
                model = EnsembleVictim([self(each, part) for each in TECHNIQUES], num_classes=10)
            else:
                model = VICTIMS[technique](part).fit(x, y)
            self._fitted[technique, part] = model
        return self._fitted[technique, part]


def craft(technique: str, model: nn.Module, x: Tensor, y: Tensor, eps: float = EPS) -> Tensor:
    """Adversarial images [N, C, H, W] of a technique's own attack; that of the tree has no eps."""
    if technique == "DT":
        return DecisionTreeAttack()(model, x, y)
    attack = HyperplaneAttack(SVM_LENGTH * eps) if technique == "SVM" else FGSM(eps)
    return attacked(attack, model.twin() if isinstance(model, Victim) else model, x, y, 250)
