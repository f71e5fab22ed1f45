"""Makes the pictures of the concept pages from the networks of the zoo: python docs/pictures.py."""

from pathlib import Path

import matplotlib.pyplot as plt
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from lightning_adv.attacks import FGSM, PGD, Ball
from lightning_adv.backdoors import Blend, Patch, RandomPattern
from lightning_adv.data import MNISTSubset
from lightning_adv.inspectors import NeuralCleanse
from lightning_adv.modules import ClassifierModule
from lightning_adv.purifiers import BitDepth, PurifiedClassifier

FOLDER = Path(__file__).parent / "concepts" / "pictures"
DIGITS = {"num_classes": 10, "in_channels": 1, "image_size": (28, 28)}
IMAGES = 100


def main() -> None:
    """Every picture, in turn."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    data = MNISTSubset(eval_batch_size=IMAGES)
    data.setup("test")
    batch = data.on_after_batch_transfer(next(iter(data.test_dataloader())), 0)
    model = ClassifierModule(weights="zoo/mnist_standard", **DIGITS).eval()
    poisoned = ClassifierModule(weights="zoo/mnist_backdoored", **DIGITS).eval()
    _norms(batch.image)
    _steps(model, batch.image, batch.label)
    _curves(model, batch.image, batch.label)
    _triggers(batch.image)
    _inspection(poisoned, model, batch.image)


def _norms(x: Tensor) -> None:
    """The same image with noise that fills the ball of each norm."""
    figure, axes = plt.subplots(1, 4, figsize=(7, 2.1))
    _show(axes[0], x[0], "clean")
    noise = torch.randn(x[:1].shape)
    for axis, (norm, eps) in zip(axes[1:], (("Linf", 0.2), ("L2", 3.0), ("L1", 30.0)), strict=True):
        ball = Ball(x[:1], eps, norm)
        _show(axis, ball.ascend(x[:1], noise, eps)[0], f"{norm}, eps {eps:g}")
    _keep(figure, "norms")


def _steps(model: ClassifierModule, x: Tensor, y: Tensor) -> None:
    """Images on the way of one attack, with what the network says of each."""
    figure, axes = plt.subplots(1, 5, figsize=(8, 2.1))
    for axis, steps in zip(axes, (0, 1, 3, 6, 10), strict=True):
        attack = PGD(eps=0.2, step_size=0.04, steps=max(steps, 1), start="clean")
        shown = attack(model, x[:1], y[:1]) if steps else x[:1]
        with torch.no_grad():
            sure, said = model(shown).softmax(1).max(1)
        _show(axis, shown[0], f"step {steps}: {int(said)} ({float(sure):.0%})")
    _keep(figure, "steps")


def _curves(model: ClassifierModule, x: Tensor, y: Tensor) -> None:
    """Accuracy over eps under one step, twenty steps, and twenty steps on a network whose gradients are masked."""
    budgets = (0.0, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.5)
    masked = PurifiedClassifier(BitDepth(bits=1), model)
    lines = {"FGSM": (FGSM, model), "PGD-20": (lambda eps: PGD(eps=eps, steps=20), model)}
    lines["PGD-20, gradients masked by rounding"] = (lambda eps: PGD(eps=eps, steps=20), masked)
    figure, axis = plt.subplots(figsize=(6, 3.2))
    for name, (attack, network) in lines.items():
        right = [1 - attack(eps).run(network, x, y).success.float().mean().item() for eps in budgets]
        axis.plot(budgets, right, marker="o", label=name)
    axis.set(xlabel="eps (Linf)", ylabel="right under attack", ylim=(0, 1.02))
    axis.legend(frameon=False)
    _keep(figure, "curves")


def _triggers(x: Tensor) -> None:
    """One image with the triggers that a poisoner might choose."""
    figure, axes = plt.subplots(1, 4, figsize=(7, 2.1))
    _show(axes[0], x[1], "clean")
    triggers = {"Patch": Patch(size=3, margin=1), "Blend": Blend(), "RandomPattern": RandomPattern(z=36)}
    for axis, (name, trigger) in zip(axes[1:], triggers.items(), strict=True):
        _show(axis, trigger(x[1:2])[0], name)
    _keep(figure, "triggers")


def _inspection(poisoned: ClassifierModule, clean: ClassifierModule, x: Tensor) -> None:
    """The smallest trigger of every class, of a network with a backdoor and of one without."""
    figure, axes = plt.subplots(2, 10, figsize=(10, 2.8))
    search = NeuralCleanse(steps=300, images_per_step=64)
    for row, model in zip(axes, (poisoned, clean), strict=True):
        for axis, trigger in zip(row, search(model, x).triggers, strict=True):
            _show(axis, trigger.mask * trigger.pattern, f"{trigger.label}: {trigger.norm:.0f} px")
    _keep(figure, "inspection")


def _show(axis: Axes, image: Tensor, title: str) -> None:
    axis.imshow(image[0].detach().numpy(), cmap="gray", vmin=0, vmax=1)
    axis.set_title(title, fontsize=9)
    axis.set_axis_off()


def _keep(figure: Figure, name: str) -> None:
    figure.savefig(FOLDER / f"{name}.png", dpi=90, bbox_inches="tight", facecolor="white")
    plt.close(figure)


if __name__ == "__main__":
    main()
