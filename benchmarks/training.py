"""Training steps timed beside each other: Lightning's, a hand-written one, the bare passes, other precisions."""

import io
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext, redirect_stderr
from functools import partial

import torch
import torch.nn.functional as F
from pytorch_lightning import Callback
from torch import Tensor, nn

from experiments.classifiers import silent_trainer
from experiments.cost import seconds
from experiments.networks import images_of
from lightning_adv.attacks import PGD
from lightning_adv.data import CIFAR10, CropFlip, float_images
from lightning_adv.models import compile_classifier, create_model
from lightning_adv.modules import ClassifierModule
from lightning_adv.objectives import AdversarialTraining

__all__ = ["PRECISIONS", "Bare", "Lightning", "MadryTrainer", "Step", "bare_passes", "module", "net", "precision_step"]

EPS, PACE, STEPS = 8 / 255, 2 / 255, 10
"""Of PGD."""

BATCH, BATCHES = 64, 6
"""Images of a step, and steps that are timed."""

SGD = partial(torch.optim.SGD, lr=0.01, momentum=0.9)

Step = Callable[[], float]
"""Runs training steps; returns the CPU seconds of one (on a GPU, the seconds)."""


class Lightning:
    """``Trainer.fit`` over a few batches, as a user's configuration runs it.

    Args:
        root: folder with CIFAR-10.
        fast: bf16, channels last and compiled, as in ``configs/cifar10_pgd_fast.yaml``, at twice the width.
    """

    def __init__(self, root: str, fast: bool = False) -> None:
        self.data = CIFAR10(root=root, batch_size=BATCH, augment=CropFlip())
        self.module, self.precision = module(fast), "bf16-mixed" if fast else "32-true"

    def __call__(self) -> float:
        """CPU seconds a step, from the end of the first to the end of the last."""
        clock = _Clock()
        limits = {"max_epochs": 1, "limit_train_batches": BATCHES + 1, "limit_val_batches": 0}
        limits["precision"] = self.precision
        trainer = silent_trainer(clock, enable_checkpointing=False, num_sanity_val_steps=0, **limits)
        trainer.fit(self.module, self.data)
        return (clock.times[-1] - clock.times[0]) / BATCHES


class _Clock(Callback):
    def __init__(self) -> None:
        self.times: list[float] = []

    def on_train_batch_end(self, *_: object) -> None:
        self.times.append(time.process_time())


class Bare:
    """The same training as a loop of torch alone: what a user would write without this project.

    Args:
        root: folder with CIFAR-10.
        fast: under autocast, channels last, by ``torch.compile``, at twice the width.
    """

    def __init__(self, root: str, fast: bool = False) -> None:
        data = CIFAR10(root=root)
        data.setup("fit")
        train = data.datasets["train"]
        self.images, self.labels = train.images, train.labels
        self.model, self.fast = net(16 if fast else 8).train(), fast
        if fast:
            self.model.to(memory_format=torch.channels_last).compile()
        self.optimizer = SGD(self.model.parameters())

    def __call__(self) -> float:
        """CPU seconds a step."""
        batches = self._batches()
        next(batches)
        began = time.process_time()
        for x, y in batches:
            x_adv = self._pgd(x, y)
            self.optimizer.zero_grad()
            self._loss(x_adv, y).backward()
            self.optimizer.step()
        return (time.process_time() - began) / BATCHES

    def _batches(self) -> Iterator[tuple[Tensor, Tensor]]:
        generator = torch.Generator().manual_seed(0)
        for chosen in torch.randperm(len(self.images))[: BATCH * (BATCHES + 1)].split(BATCH):
            x = CropFlip()(float_images(self.images[chosen]), generator)
            yield x.contiguous(memory_format=torch.channels_last) if self.fast else x, self.labels[chosen]

    def _loss(self, x: Tensor, y: Tensor) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16, enabled=self.fast):
            return F.cross_entropy(self.model(x), y)

    def _pgd(self, x: Tensor, y: Tensor) -> Tensor:
        self.model.eval().requires_grad_(False)
        lower, upper = (x - EPS).clamp(min=0), (x + EPS).clamp(max=1)
        x_adv = (x + EPS * (2 * torch.rand_like(x) - 1)).clamp(0, 1)
        for _ in range(STEPS):
            x_adv.requires_grad_(True)
            (grad,) = torch.autograd.grad(self._loss(x_adv, y), x_adv)
            x_adv = torch.clamp(x_adv.detach() + PACE * grad.sign(), lower, upper)
        self.model.train().requires_grad_(True)
        return x_adv


class MadryTrainer:
    """ART's ``AdversarialTrainerMadryPGD`` on the same images and the same net, without augmentation, which it lacks.

    Args:
        root: folder with CIFAR-10.
    """

    def __init__(self, root: str) -> None:
        from art.defences.trainer import AdversarialTrainerMadryPGD
        from art.estimators.classification import PyTorchClassifier

        data = CIFAR10(root=root)
        data.setup("fit")
        self.images, self.labels = (part.numpy() for part in images_of(data, "train", 0, BATCH * BATCHES))
        model = net(8)
        classifier = PyTorchClassifier(
            model,
            nn.CrossEntropyLoss(),
            (3, 32, 32),
            10,
            optimizer=SGD(model.parameters()),
            clip_values=(0, 1),
            device_type="cpu",
        )
        self.trainer = AdversarialTrainerMadryPGD(
            classifier, nb_epochs=1, batch_size=BATCH, eps=EPS, eps_step=PACE, max_iter=STEPS
        )

    def __call__(self) -> float:
        """CPU seconds a step."""
        began = time.process_time()
        with redirect_stderr(io.StringIO()):  # its progress bars
            self.trainer.fit(self.images, self.labels)
        return (time.process_time() - began) / BATCHES


def bare_passes(width: int, batch: int, steps: int) -> Step:
    """The passes of a step, nothing between them: ``steps`` to the image, one to the weights, the optimiser's step."""
    model = net(width)
    optimizer = SGD(model.parameters())
    x, y = torch.rand(batch, 3, 32, 32), torch.arange(batch) % 10

    def step() -> None:
        model.eval().requires_grad_(False)
        for _ in range(steps):
            leaf = x.clone().requires_grad_(True)
            torch.autograd.grad(F.cross_entropy(model(leaf), y), leaf)
        model.train().requires_grad_(True)
        optimizer.zero_grad()
        F.cross_entropy(model(x), y).backward()
        optimizer.step()

    return partial(seconds, step)


PRECISIONS: dict[str, dict[str, bool | str | None]] = {
    "float32": {"bf16": False, "channels_last": False, "compiled": None},
    "float32, channels last": {"bf16": False, "channels_last": True, "compiled": None},
    "bf16": {"bf16": True, "channels_last": False, "compiled": None},
    "bf16, channels last": {"bf16": True, "channels_last": True, "compiled": None},
    "bf16, channels last, compiled": {"bf16": True, "channels_last": True, "compiled": "default"},
    "bf16, channels last, compiled, CUDA graphs": {"bf16": True, "channels_last": True, "compiled": "reduce-overhead"},
}
"""By name: arguments of :func:`precision_step`."""


def precision_step(
    device: str, width: int, batch: int, bf16: bool, channels_last: bool, compiled: str | None
) -> Callable[[], None]:
    """The objective's step in a precision and a layout, always from the same weights.

    Args:
        device: "cpu" or "cuda".
        width: of PreAct ResNet-18.
        batch: images.
        bf16: under autocast.
        channels_last: weights and images.
        compiled: "default", or a mode of ``torch.compile``; None leaves it out.
    """
    layout = torch.channels_last if channels_last else torch.contiguous_format
    model = net(width).to(device, memory_format=layout).train()
    x, y = torch.rand(batch, 3, 32, 32).to(device, memory_format=layout), torch.arange(batch, device=device) % 10
    objective = AdversarialTraining(PGD(EPS, PACE, STEPS))
    optimizer = SGD(model.parameters())
    if compiled:
        compile_classifier(model, None if compiled == "default" else compiled)

    def step() -> None:
        with torch.autocast(device, dtype=torch.bfloat16) if bf16 else nullcontext():
            loss, _ = objective(model, x, y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return step


def module(fast: bool = False) -> ClassifierModule:
    """PGD adversarial training of a small net, as :class:`Lightning` and the ranks do it."""
    options = {"num_classes": 10, "compile": fast, "channels_last": fast}
    return ClassifierModule(net(16 if fast else 8), AdversarialTraining(PGD(EPS, PACE, STEPS)), SGD, **options)


def net(width: int) -> nn.Module:
    """PreAct ResNet-18 of a width for CIFAR-10, always with the same weights."""
    torch.manual_seed(0)
    return create_model(
        "preact_resnet18",
        num_classes=10,
        in_channels=3,
        image_size=(32, 32),
        mean=(0.4914, 0.4822, 0.4465),
        std=(0.2470, 0.2435, 0.2616),
        backbone_options={"width": width},
    )
