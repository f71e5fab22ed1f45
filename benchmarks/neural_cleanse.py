"""Neural Cleanse with all classes at once, as a loop over the classes, and ART's: verdict, passes and time in one run.

``python -m benchmarks.neural_cleanse --root data``; ART's needs tensorflow and is left out without it. The model is a
``mnist_cnn`` with BadNets, trained at the first call and shared with the concealed-backdoor experiment; writes
``docs/results/neural_cleanse.md``.
"""

import copy
import importlib.metadata
import importlib.util
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean

import torch
from torch import Tensor, nn

from benchmarks.bench import bench
from experiments.command import arguments, command, show
from experiments.concealed_backdoors.models import subject_of
from experiments.concealed_backdoors.setup import SETTINGS
from experiments.concealed_backdoors.setup import Cell as Attacked
from experiments.networks import net_for
from experiments.page import prose
from lightning_adv.data import MNIST, float_images
from lightning_adv.inspectors import NeuralCleanse, find_outliers
from lightning_adv.models import compile_classifier, load_weights
from lightning_adv.results.result import Cell, Table

__all__ = ["main"]

COLUMNS = ["program", "flagged", "index of the target", "its norm", "launches", "image passes", "seconds", "time ratio"]


def main() -> None:
    """Measure and write."""
    parser = arguments(__doc__)
    parser.add_argument("--weights", help="of another mnist_cnn with a backdoor")
    parser.add_argument("--target", type=int, default=2)
    parser.add_argument("--samples", type=int, default=64, help="clean images; every step sees all of them")
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--page", default="neural_cleanse", help="name of the page; none prints only")
    given = parser.parse_args()
    page = bench("neural_cleanse", given.page)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    data = MNIST(root=given.root)
    model = _model(data, given.root, given.weights).to(device)
    x, y = _images(data, given.samples)
    rows: list[list[Cell]] = []
    diaries: list[_Diary] = []
    for name, row in _programs(model, x, y, given.steps, diaries).items():
        rows.append([name, *row(given.target)])
        show(rows[-1])
        if name.startswith("ART"):
            fewest = _to_the_verdict(diaries, given.steps, rows[0][1], given.target)
            rows += [[f"{name}, to that verdict ({fewest[0]} steps)", *fewest[1]]] if fewest else []
    rows = [[*row, row[6] / rows[0][6]] for row in rows]
    table = Table(f"MNIST, {given.samples} images, at most {given.steps} steps a class", COLUMNS, rows)
    art = f"ART {importlib.metadata.version('adversarial-robustness-toolbox')}" if _has_art() else "ART not measured"
    text = prose(__file__, device=device.type, threads=torch.get_num_threads(), art=art)
    if given.page != "none":
        page.write(text, [table], "MNIST test images")


Measured = Callable[[int], list[Cell]]


def _programs(model: nn.Module, x: Tensor, y: Tensor, steps: int, diaries: list["_Diary"]) -> dict[str, Measured]:
    budget = {"steps": steps, "images_per_step": len(x)}
    exact, low = ({**budget, "bf16": bf16} for bf16 in (False, True))
    programs = {
        "all classes at once": _ours(NeuralCleanse(**exact), model, x),
        "class after class": _ours(NeuralCleanse(**exact, classes_at_once=1), model, x),
        "all classes at once, bf16": _ours(NeuralCleanse(**low), model, x),
        "all classes at once, compiled": _compiled(NeuralCleanse(**exact), model, x),
    }
    if not _has_art():
        return programs
    costs = {"ART": 1e-3, "ART, weight of the norm 0.01": 1e-2}
    return programs | {name: _art(model, x, y, steps, cost, diaries) for name, cost in costs.items()}


def _ours(inspector: NeuralCleanse, model: nn.Module, x: Tensor) -> Measured:
    def measure(target: int) -> list[Cell]:
        began = time.perf_counter()
        report = inspector(model, x)
        seconds = time.perf_counter() - began
        verdict = [_named(report.flagged), report.anomaly_index[target], report.norms[target]]
        return [*verdict, report.launches, report.image_passes, seconds]

    return measure


def _compiled(inspector: NeuralCleanse, model: nn.Module, x: Tensor) -> Measured:
    """With the network compiled, after an inspection that compiles it."""

    def measure(target: int) -> list[Cell]:
        fast = compile_classifier(copy.deepcopy(model))
        inspector(fast, x)
        return _ours(inspector, fast, x)(target)

    return measure


def _art(model: nn.Module, x: Tensor, y: Tensor, steps: int, cost: float, diaries: list["_Diary"]) -> Measured:
    """ART's for Keras, on a Keras model with the same weights; ``diaries`` takes what each class went through."""

    def measure(target: int) -> list[Cell]:
        import contextlib
        import io

        import numpy as np
        import tensorflow as tf
        from art.estimators.poison_mitigation import KerasNeuralCleanse

        tf.config.threading.set_intra_op_parallelism_threads(torch.get_num_threads())
        images, labels = x.permute(0, 2, 3, 1).cpu().numpy(), np.eye(10, dtype=np.float32)[y.numpy()]
        keras_model = _as_keras(model)
        counted = _CountedKeras(keras_model)
        program = KerasNeuralCleanse(
            keras_model, use_logits=True, clip_values=(0, 1), steps=steps, init_cost=cost, norm=1
        )
        program._model = counted
        reset, train = program.reset, program.train

        def reset_and_learn() -> None:
            # ART zeroes every variable of the optimiser between classes, with Keras 3 its learning rate too.
            reset()
            program.opt.learning_rate = program.learning_rate

        def noted_train(*batch: object) -> object:
            done = train(*batch)
            diary.minibatches.append((float(done[1]), float(done[3]), time.perf_counter()))
            return done

        program.reset, program.train = reset_and_learn, noted_train
        diaries.clear()
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            for k in range(10):
                diary = _Diary(len(x) // program.batch_size, time.perf_counter())
                program.generate_backdoor(images, labels, np.eye(10, dtype=np.float32)[k])
                diaries.append(diary)
        passes = [counted.launches, counted.image_passes]
        return [*_verdict([each.after(steps)[0] for each in diaries], target), *passes, _seconds(diaries, steps)]

    return measure


@dataclass
class _Diary:
    """Norm, success and time of every minibatch of one class."""

    per_step: int
    began: float
    minibatches: list[tuple[float, float, float]] = field(default_factory=list)

    def after(self, steps: int) -> tuple[float, float]:
        """Smallest norm of a step with 99 % success so far, and the seconds gone."""
        best, until = float("inf"), self.began
        for start in range(0, min(steps * self.per_step, len(self.minibatches)), self.per_step):
            norm, success, times = zip(*self.minibatches[start : start + self.per_step], strict=True)
            until = times[-1]
            if fmean(success) >= 0.99:
                best = min(best, fmean(norm))
        return best, until - self.began


def _seconds(diaries: list[_Diary], steps: int) -> float:
    return sum(each.after(steps)[1] for each in diaries)


def _named(flagged: Sequence[int] | None) -> str:
    return "no verdict" if flagged is None else ", ".join(map(str, flagged)) or "none"


def _verdict(norms: list[float], target: int) -> list[Cell]:
    outliers = find_outliers(norms)
    return [_named(outliers.flagged), outliers.index[target], norms[target]]


def _to_the_verdict(diaries: list[_Diary], steps: int, flagged: str, target: int) -> tuple[int, list[Cell]] | None:
    """The fewest steps from which on the verdict stays the same, with their row; None where it does not come."""
    fewest = steps + 1
    while fewest > 1 and _verdict([each.after(fewest - 1)[0] for each in diaries], target)[0] == flagged:
        fewest -= 1
    if fewest > steps:
        return None
    launches = sum(min(fewest * each.per_step, len(each.minibatches)) for each in diaries)
    row = _verdict([each.after(fewest)[0] for each in diaries], target)
    return fewest, [*row, launches, launches * 32, _seconds(diaries, fewest)]


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


def _model(data: MNIST, root: str, weights: str | None) -> nn.Module:
    if weights is None:
        return subject_of(Attacked("MNIST", "badnets"), 0, SETTINGS["MNIST"], root, Path("runs/concealed_backdoors"))[2]
    model = net_for(data, "mnist_cnn", {})
    load_weights(weights, model)
    return model.eval()


def _images(data: MNIST, samples: int) -> tuple[Tensor, Tensor]:
    data.setup("test")
    test = data.test_dataloader().dataset
    chosen = torch.randperm(len(test), generator=torch.Generator().manual_seed(0))[:samples]
    batch = test[chosen]
    return float_images(batch.image), batch.label


if __name__ == "__main__":
    command(main)
