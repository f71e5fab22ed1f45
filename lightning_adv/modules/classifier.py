"""The LightningModule that trains a classifier with any objective."""

import math
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Literal, get_args

import torch
from pytorch_lightning import LightningModule
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau
from torchmetrics import MeanMetric, Metric
from torchmetrics.classification import MulticlassAccuracy

from lightning_adv.asking import logits_of, predicted
from lightning_adv.attacks.labels import as_truth, most_likely
from lightning_adv.attacks.losses import cross_entropy
from lightning_adv.errors import InputError
from lightning_adv.models import Statistics, load_weights
from lightning_adv.models.folders import is_whole
from lightning_adv.models.normalize import NormalizedModel, normalized
from lightning_adv.models.statistics import travelling_statistics
from lightning_adv.modules.parameter_groups import Decay, parameter_groups, scale_rates
from lightning_adv.modules.resumable import Resumable
from lightning_adv.modules.schedules import WarmUp
from lightning_adv.objectives import CrossEntropy, Objective

__all__ = ["ClassifierModule"]


class ClassifierModule(Resumable, LightningModule):
    """Trains ``backbone`` on ``objective``; knows no attack by name.

    ``forward`` maps images [N, C, H, W] in [0, 1] to logits [N, K]; normalisation is the backbone's first layer.
    From the command line, the arguments that describe the data are filled in from the datamodule.

    Args:
        backbone: name for ``timm.create_model`` (the project's own are registered there), or a module that takes
            images in [0, 1]; default what a folder of weights says that it holds, without one "mnist_cnn".
        objective: default cross-entropy of clean images.
        optimizer: makes the optimiser from the parameters; default SGD, lr 0.1, momentum 0.9, weight decay 5e-4.
        lr_scheduler: makes the scheduler from the optimiser; default none. ``ReduceLROnPlateau`` watches ``val/loss``.
        lr_interval: the scheduler steps every "epoch" or every "step".
        decay: what the optimiser's weight decay acts on: "all", or "weights" without normalisation and biases.
        layer_decay: learning rate of each layer relative to the next one's, from the head down (.65 to .9 to fine-tune
            transformers); default one rate for all.
        num_classes: K, needed with a named backbone.
        in_channels: C, needed with a named backbone.
        image_size: (H, W), needed with a named backbone.
        mean: of each channel in [0, 1], for the normalisation.
        std: of each channel.
        statistics: "assumed" where mean and std are merely those of the data, as from the command line where none are
            typed: those of a file of weights, or of timm's weights that the tag of the backbone names, come before.
        backbone_options: handed to ``timm.create_model``, e.g. ``{width: 16}``.
        pretrained: load timm's weights and their own mean and std (needs a network or a filled cache).
        weights: file with weights to start from (.safetensors, or a state dict saved by torch; never unpickled), or a
            folder of timm or of the Hugging Face hub.
        which: name of the set of weights to take from a file that holds several, e.g. "ema" for averaged ones.
        match: "order" takes the weights of the file in their order instead of by their names, if all shapes agree.
        compile: compile the backbone with ``torch.compile``; or a mode of it, of which "reduce-overhead" and
            "max-autotune" replay CUDA graphs.
        channels_last: keep weights and images in channels-last order (faster convolutions in bf16).

    Raises:
        InputError: unknown backbone, weights that do not fit, a size that the backbone cannot take, a layer decay
            outside (0, 1].
    """

    USUAL = "mnist_cnn"
    """The backbone where none is named."""

    def __init__(
        self,
        backbone: str | nn.Module | None = None,
        objective: Objective | None = None,
        optimizer: Callable[[Iterable], Optimizer] | None = None,
        lr_scheduler: Callable[[Optimizer], LRScheduler] | None = None,
        lr_interval: Literal["epoch", "step"] = "epoch",
        decay: Decay = "all",
        layer_decay: float | None = None,
        num_classes: int | None = None,
        in_channels: int | None = None,
        image_size: tuple[int, int] | None = None,
        mean: tuple[float, ...] | None = None,
        std: tuple[float, ...] | None = None,
        statistics: Literal["given", "assumed"] = "given",
        backbone_options: dict[str, int | float | bool | str] | None = None,
        pretrained: bool = False,
        weights: str | None = None,
        which: str | None = None,
        match: Literal["names", "order"] = "names",
        compile: bool | Literal["reduce-overhead", "max-autotune", "max-autotune-no-cudagraphs"] = False,
        channels_last: bool = False,
    ) -> None:
        super().__init__()
        whole = weights if weights is not None and is_whole(weights) and not isinstance(backbone, nn.Module) else None
        backbone = self.USUAL if backbone is None and whole is None else backbone
        named = backbone or "/".join(Path(whole).parts[-2:])
        self.network = named if isinstance(named, str) else type(named).__name__
        """What a person calls it: a backbone by its name, or the folder that holds it."""
        # Objects do not belong in a checkpoint that is loaded without unpickling. Where the first weights came from
        # does not either: a checkpoint has its own, and loading it must not ask for that file or download anything.
        left_out = [
            "objective",
            "optimizer",
            "lr_scheduler",
            "decay",
            "layer_decay",
            "weights",
            "which",
            "match",
            "pretrained",
            "statistics",
        ]
        self.save_hyperparameters(ignore=[*left_out, "backbone"] if isinstance(backbone, nn.Module) else left_out)
        of_data = None
        if statistics == "assumed" and mean is not None and std is not None:
            of_data, mean, std = Statistics(tuple(mean), tuple(std), "the data", assumed=True), None, None
        self.backbone = (
            normalized(backbone, mean, std)
            if isinstance(backbone, nn.Module)
            else self._build(
                backbone,
                num_classes,
                in_channels,
                image_size,
                mean,
                std,
                of_data,
                backbone_options,
                pretrained,
                whole,
                which,
                match,
            )
        )
        if weights is not None and whole is None:
            load_weights(weights, self.backbone, which=which, match=match)
        self.objective = objective or CrossEntropy()
        self.automatic_optimization = self.objective.replays is None  # Lightning takes no more than a step on a batch
        self.make_optimizer, self.make_lr_scheduler, self.lr_interval = optimizer, lr_scheduler, lr_interval
        if decay not in get_args(Decay) or not 0 < (1 if layer_decay is None else layer_decay) <= 1:
            raise InputError(
                f"decay must be all or weights, layer_decay lie in (0, 1]; got {decay!r} and {layer_decay}"
            )
        self.decay, self.layer_decay = decay, layer_decay
        self.channels_last = channels_last
        if channels_last:
            self.backbone.to(memory_format=torch.channels_last)
        if compile:
            from lightning_adv.models import compile_classifier

            compile_classifier(self.backbone, compile if isinstance(compile, str) else None)
        classes = num_classes or getattr(self.backbone, "num_classes", None)  # timm's networks tell, others need not
        if classes is None:
            raise InputError("num_classes is needed: the backbone does not tell how many classes it has")
        self.num_classes = int(classes)
        self.train_accuracy = MulticlassAccuracy(self.num_classes, average="micro", validate_args=False)
        self.val_accuracy, self.test_accuracy = self.train_accuracy.clone(), self.train_accuracy.clone()
        # Without its own treatment of NaN, which would cost a host sync at every step and hide the NaN.
        self.train_loss, self.val_loss, self.test_loss = (MeanMetric(nan_strategy="disable") for _ in range(3))

    def forward(self, image: Tensor) -> Tensor:
        """Logits [N, K] of images [N, C, H, W] in [0, 1]."""
        return self.backbone(self._layout(image))

    def setup(self, stage: str) -> None:
        """Let the objective open what it trains with, before anything is trained."""
        if stage == "fit":
            self.objective.before_training()

    def training_step(self, batch: tuple, batch_idx: int) -> Tensor:
        """One step of the objective on ``(image, label, ...)``; accuracy of soft labels is of their likeliest class."""
        image, label = self._layout(batch[0]), as_truth(batch[1], len(batch[0]))
        self.objective.at_epoch(self._epochs_done(batch_idx))
        step = self.objective if self.automatic_optimization else self._replay
        loss, logits = step(self.backbone, image, label)
        self.train_accuracy.update(predicted(logits), most_likely(label))
        self.log("train/loss_step", loss, prog_bar=True)
        self.log_train_loss(loss, len(label))
        return loss

    def train_figures(self) -> dict[str, Metric]:
        """Mean loss, and accuracy on the images that the objective judges."""
        return super().train_figures() | {f"train/{self.objective.judges}_accuracy": self.train_accuracy}

    def on_train_epoch_end(self) -> None:
        """Step an epoch-wise scheduler where Lightning does not."""
        if not self.automatic_optimization and self.lr_interval == "epoch" and self.make_lr_scheduler is not None:
            self.lr_schedulers().step()

    def validation_step(self, batch: tuple, batch_idx: int) -> None:
        """Clean loss and accuracy."""
        self._evaluate(batch, "val", self.val_accuracy, self.val_loss)

    def test_step(self, batch: tuple, batch_idx: int) -> None:
        """Clean loss and accuracy."""
        self._evaluate(batch, "test", self.test_accuracy, self.test_loss)

    def predict_step(self, batch: tuple, batch_idx: int) -> Tensor:
        """Class probabilities [N, K]."""
        return logits_of(self, batch[0]).softmax(dim=1)

    def configure_optimizers(self) -> dict:
        """The optimiser and scheduler of the constructor.

        Raises:
            InputError: arguments that they refuse, such as a negative learning rate.
        """
        make_optimizer = self.make_optimizer or partial(torch.optim.SGD, lr=0.1, momentum=0.9, weight_decay=5e-4)
        try:
            optimizer = make_optimizer(self._parameters_in_groups())
            if self.layer_decay is not None or self.decay != "all":
                scale_rates(optimizer.param_groups)
            if self.make_lr_scheduler is None:
                return {"optimizer": optimizer}
            rates = [group["lr"] for group in optimizer.param_groups]
            scheduler = {"scheduler": self.make_lr_scheduler(optimizer), "interval": self.lr_interval}
        except (TypeError, ValueError) as error:
            raise InputError(f"the optimiser or its scheduler refuses its arguments: {error}") from error
        if self.layer_decay is not None:
            _refuse_one_rate(optimizer, rates)
        if isinstance(scheduler["scheduler"], WarmUp):
            scheduler["scheduler"].span = scheduler["scheduler"].span or self._scheduler_steps()
        if isinstance(scheduler["scheduler"], ReduceLROnPlateau):
            scheduler["monitor"] = "val/loss"
        return {"optimizer": optimizer, "lr_scheduler": scheduler}

    def on_save_checkpoint(self, checkpoint: dict) -> None:
        """Keep the seed of the run and what the objective remembers."""
        super().on_save_checkpoint(checkpoint)
        checkpoint["objective"] = self.objective.state_dict()

    def on_load_checkpoint(self, checkpoint: dict) -> None:
        """Go on with the seed of the run and what the objective remembers; images are normalised as they were."""
        super().on_load_checkpoint(checkpoint)
        for layer, statistics in travelling_statistics(checkpoint["state_dict"], self, "the checkpoint"):
            layer.statistics = statistics
        state = checkpoint.get("objective", {})
        if not isinstance(state, Mapping):
            raise InputError(f"the checkpoint is damaged: what it holds of the objective is a {type(state).__name__}")
        self.objective.load_state_dict(state)

    @staticmethod
    def _build(
        name: str | None,
        num_classes: int | None,
        in_channels: int | None,
        image_size: tuple[int, int] | None,
        mean: tuple[float, ...] | None,
        std: tuple[float, ...] | None,
        statistics: Statistics | None,
        options: dict[str, int | float | bool | str] | None,
        pretrained: bool,
        whole: str | None,
        which: str | None,
        match: Literal["names", "order"],
    ) -> nn.Module:
        from lightning_adv.models import create_model, open_model

        needed = {"num_classes": num_classes, "in_channels": in_channels, "image_size": image_size}
        missing = [key for key, value in needed.items() if value is None]
        if missing:
            raise InputError(
                f"{', '.join(missing)} must be given for backbone {name or whole!r}; with --data they are taken from "
                "the data"
            )
        network = needed | {"mean": mean, "std": std, "statistics": statistics, "backbone_options": options}
        if whole is not None:
            return open_model(whole, backbone=name, which=which, match=match, **network)
        return create_model(name, pretrained=pretrained, **network)

    def _parameters_in_groups(self) -> Iterable:
        if self.layer_decay is None and self.decay == "all":
            return self.parameters()
        network = self.backbone.net if isinstance(self.backbone, NormalizedModel) else self.backbone
        return parameter_groups(network, self.decay, self.layer_decay)

    def _scheduler_steps(self) -> int | None:
        """Of the whole run; None before there is one."""
        if self._trainer is None:
            return None
        steps, epochs = self.trainer.estimated_stepping_batches, self.trainer.max_epochs or -1
        if self.lr_interval == "epoch":
            steps = epochs if epochs > 0 else steps / self.trainer.num_training_batches
        if math.isinf(steps):
            raise InputError("WarmUp follows the length of the run, and this one has no end: set max_epochs")
        return math.ceil(steps) * (self.objective.replays or 1 if self.lr_interval == "step" else 1)

    def _replay(self, model: nn.Module, image: Tensor, label: Tensor) -> tuple[Tensor, Tensor]:
        """All steps of the objective on a batch; loss and logits of the last."""
        optimizer = self.optimizers()
        for _ in range(self.objective.replays):
            loss, logits = self.objective(model, image, label)
            optimizer.zero_grad()
            self.manual_backward(loss)
            self.objective.after_backward()
            optimizer.step()
            if self.lr_interval == "step" and self.make_lr_scheduler is not None:
                self.lr_schedulers().step()
        return loss.detach(), logits

    def _layout(self, image: Tensor) -> Tensor:
        return image.contiguous(memory_format=torch.channels_last) if self.channels_last else image

    def _epochs_done(self, batch_idx: int) -> float:
        batches = self.trainer.num_training_batches
        return self.current_epoch + (batch_idx / batches if batches not in (0, float("inf")) else 0.0)

    def _evaluate(self, batch: tuple, stage: str, accuracy: MulticlassAccuracy, mean_loss: MeanMetric) -> None:
        image, label = batch[0], as_truth(batch[1], len(batch[0]))
        logits = logits_of(self, image)
        accuracy.update(predicted(logits), most_likely(label))
        mean_loss.update(cross_entropy(logits, label, None))
        self.log(f"{stage}/loss", mean_loss)
        self.log(f"{stage}/clean_accuracy", accuracy, prog_bar=True)


def _refuse_one_rate(optimizer: Optimizer, rates: list[float]) -> None:
    """Refuse a schedule that gives all layers the same rate."""
    now = [group["lr"] for group in optimizer.param_groups]
    if any(
        not math.isclose(mine * rates[0], now[0] * rate, rel_tol=1e-6) for mine, rate in zip(now, rates, strict=True)
    ):
        raise InputError("layer_decay gives each layer its own rate, and this schedule sets one for all: take WarmUp")
