"""Neural Cleanse with all classes at once, as a loop over the classes, and ART's: verdict, passes and time in one run.

``python -m benchmarks.neural_cleanse --weights FILE --root data``; ART's needs tensorflow and is left out without it.
The weights are those of a ``mnist_cnn`` with a backdoor; writes ``docs/results/neural_cleanse.md``.
"""

import argparse
import importlib.metadata
import importlib.util
import time
from collections.abc import Callable
from datetime import UTC, datetime

import torch
from torch import Tensor, nn

from experiments.page import write_page
from lightning_adv.data import MNIST
from lightning_adv.inspectors import NeuralCleanse, find_outliers
from lightning_adv.models import create_model, load_weights
from lightning_adv.reports.results import Cell, Table
from lightning_adv.reports.run import run_info

COLUMNS = ["program", "flagged", "index of the target", "its norm", "launches", "image passes", "seconds", "time ratio"]
COMMAND = ["python", "-m", "benchmarks.neural_cleanse"]


def main() -> None:
    """Measure and write."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--weights", default="runs/backdoor/mnist_badnets.safetensors")
    arguments.add_argument("--target", type=int, default=2)
    arguments.add_argument("--root", default="data")
    arguments.add_argument("--samples", type=int, default=256, help="clean images; every step sees all of them")
    arguments.add_argument("--steps", type=int, default=200)
    arguments.add_argument("--page", default="neural_cleanse", help="name of the page; none prints only")
    given = arguments.parse_args()
    started = datetime.now(UTC)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    data = MNIST(root=given.root)
    model = _model(data, given.weights).to(device)
    x, y = _images(data, given.samples)
    rows: list[list[Cell]] = []
    for name, row in _programs(model, x, y, given.steps).items():
        rows.append([name, *row(given.target)])
        rows[-1].append(rows[-1][-1] / rows[0][6])
        print(*(f"{cell:.4g}" if isinstance(cell, float) else cell for cell in rows[-1]), flush=True)
    table = Table(f"MNIST, {given.samples} images, at most {given.steps} steps a class", COLUMNS, rows)
    threads = f"{torch.get_num_threads()} thread(s)"
    art = f"ART {importlib.metadata.version('adversarial-robustness-toolbox')}" if _has_art() else "ART not measured"
    text = (
        f"One backdoored model, the same clean images and budget for each program, on {device.type}, {threads}, "
        f"eager; {art}. *Launches*: forwards of the model, whatever their batch. *Image passes*: images in them. "
        "*Time ratio*: seconds over those of the first row. ART's learning rate is put back between classes, which it "
        "zeroes with Keras 3; it sets the cost of the norm anew at every good step after the fifth, so that its cost "
        "never rises."
    )
    info = run_info(0, "runs/benchmarks", started, finished=datetime.now(UTC), command=COMMAND)
    if given.page != "none":
        print(write_page(given.page, "Neural Cleanse beside its peers", text, [table], info, "MNIST test images"))


Measured = Callable[[int], list[Cell]]


def _programs(model: nn.Module, x: Tensor, y: Tensor, steps: int) -> dict[str, Measured]:
    budget = {"steps": steps, "images_per_step": len(x)}
    programs = {
        "all classes at once": _ours(NeuralCleanse(**budget), model, x),
        "all classes at once, bf16": _ours(NeuralCleanse(**budget, bf16=True), model, x),
        "class after class": _ours(NeuralCleanse(**budget, classes_at_once=1), model, x),
    }
    return programs | ({"ART": _art(model, x, y, steps)} if _has_art() else {})


def _ours(inspector: NeuralCleanse, model: nn.Module, x: Tensor) -> Measured:
    def measure(target: int) -> list[Cell]:
        began = time.perf_counter()
        report = inspector(model, x)
        seconds = time.perf_counter() - began
        flagged = ", ".join(map(str, report.flagged)) or "none"
        verdict = [flagged, report.anomaly_index[target], report.norms[target]]
        return [*verdict, report.launches, report.image_passes, seconds]

    return measure


def _art(model: nn.Module, x: Tensor, y: Tensor, steps: int) -> Measured:
    """ART's for Keras, on a Keras model with the same weights."""

    def measure(target: int) -> list[Cell]:
        import contextlib
        import io

        import numpy as np
        from art.estimators.poison_mitigation import KerasNeuralCleanse

        images, labels = x.permute(0, 2, 3, 1).cpu().numpy(), np.eye(10, dtype=np.float32)[y.numpy()]
        keras_model = _as_keras(model)
        counted = _CountedKeras(keras_model)
        program = KerasNeuralCleanse(keras_model, use_logits=True, clip_values=(0, 1), steps=steps, norm=1)
        program._model = counted
        reset = program.reset

        def reset_and_learn() -> None:
            # ART zeroes every variable of the optimiser between classes, with Keras 3 its learning rate too.
            reset()
            program.opt.learning_rate = program.learning_rate

        program.reset = reset_and_learn
        began = time.perf_counter()
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            masks = [program.generate_backdoor(images, labels, np.eye(10, dtype=np.float32)[k])[0] for k in range(10)]
        seconds = time.perf_counter() - began
        norms = [float(np.abs(mask).sum() / mask.shape[-1]) for mask in masks]
        outliers = find_outliers(norms)
        flagged = ", ".join(map(str, outliers.flagged)) or "none"
        return [flagged, outliers.index[target], norms[target], counted.launches, counted.image_passes, seconds]

    return measure


class _CountedKeras:
    """A Keras model whose forwards are counted."""

    def __init__(self, model: object) -> None:
        self.model = model
        self.launches = self.image_passes = 0

    def __call__(self, images: object, training: bool = False) -> object:
        self.launches += 1
        self.image_passes += len(images)
        return self.model(images, training=training)

    def __getattr__(self, name: str) -> object:
        return getattr(self.model, name)


def _as_keras(model: nn.Module) -> object:
    """``mnist_cnn`` with its normalisation, layer by layer."""
    import keras

    state = {key: value.cpu() for key, value in model.state_dict().items()}
    layers = keras.layers
    net = keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            layers.Normalization(mean=float(state["normalize.mean"]), variance=float(state["normalize.std"]) ** 2),
            layers.ZeroPadding2D(1),
            layers.Conv2D(16, 4, strides=2, activation="relu"),
            layers.ZeroPadding2D(1),
            layers.Conv2D(32, 4, strides=2, activation="relu"),
            layers.Permute((3, 1, 2)),
            layers.Flatten(),
            layers.Dense(100, activation="relu"),
            layers.Dense(10),
        ]
    )
    names = ["net.features.0", "net.features.2", "net.penultimate.1", "net.fc"]
    for layer, name in zip([each for each in net.layers if hasattr(each, "kernel")], names, strict=True):
        weight = state[f"{name}.weight"]
        weight = weight.permute(2, 3, 1, 0) if weight.dim() == 4 else weight.T
        layer.set_weights([weight.numpy(), state[f"{name}.bias"].numpy()])
    net.compile(optimizer="sgd", loss=keras.losses.CategoricalCrossentropy(from_logits=True))
    return net


def _has_art() -> bool:
    return all(importlib.util.find_spec(name) for name in ("art", "tensorflow"))


def _model(data: MNIST, weights: str) -> nn.Module:
    described = {"num_classes": 10, "in_channels": 1, "image_size": (28, 28), "mean": data.mean, "std": data.std}
    model = create_model("mnist_cnn", **described)
    load_weights(weights, model)
    return model.eval()


def _images(data: MNIST, samples: int) -> tuple[Tensor, Tensor]:
    data.setup("test")
    test = data.test_dataloader().dataset
    chosen = torch.randperm(len(test), generator=torch.Generator().manual_seed(0))[:samples]
    batch = test[chosen]
    return batch.image.float() / 255, batch.label


if __name__ == "__main__":
    main()
