"""Models of five learning techniques, fitted when they are first asked for, and how each crafts adversarial images."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from lightning_adv.attacks import FGSM, HyperplaneAttack, LabelOracle, predicted_labels
from lightning_adv.models import create_model
from lightning_adv.objectives import CrossEntropy, Objective
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

__all__ = ["EPS", "SVM_LENGTH", "TECHNIQUES", "Models", "craft", "error", "network"]

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


def network(
    x: Tensor, y: Tensor, epochs: int, seed: int = 0, objective: Objective | None = None, weight_decay: float = 0.0
) -> nn.Module:
    """``mnist_cnn`` trained by AdamW on images [N, 1, 28, 28] and labels [N]; default cross-entropy."""
    objective = objective or CrossEntropy()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = create_model("mnist_cnn", num_classes=10, in_channels=1, image_size=(28, 28))
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=weight_decay)
        for _ in range(epochs):
            for chosen in torch.randperm(len(x)).split(64):
                optimizer.zero_grad()
                objective(model, x[chosen], y[chosen])[0].backward()
                optimizer.step()
    return model.eval()


def craft(technique: str, model: nn.Module, x: Tensor, y: Tensor, eps: float = EPS) -> Tensor:
    """Adversarial images [N, C, H, W] of a technique's own attack; that of the tree has no eps."""
    if technique == "DT":
        return DecisionTreeAttack()(model, x, y)
    attack = HyperplaneAttack(SVM_LENGTH * eps) if technique == "SVM" else FGSM(eps)
    source = model.twin() if isinstance(model, Victim) else model
    return torch.cat([attack(source, a, b) for a, b in zip(x.split(250), y.split(250), strict=True)])


def error(model: LabelOracle, x: Tensor, y: Tensor) -> float:
    """Share of images that a model gets wrong."""
    with torch.no_grad():
        said = torch.cat([predicted_labels(model, part) for part in x.split(500)])
    return float((said != y).double().mean())
