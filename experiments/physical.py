"""Adversarial images in the physical world (Kurakin, Goodfellow, Bengio, 2017) and kinds of outcome (Billovits et al.).

``python -m experiments.physical --root data``: an MNIST and a CIFAR-10 network, 2,000 test images of each and their
simulated photographs. Resumable: the networks and each attack's figures are kept under ``--run``. ``--quick``: MNIST
alone, learns from 10,000 images and attacks 500.
"""

import argparse
import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from experiments.classifiers import CIFAR10_NET, CIFAR10_RUN, trained
from experiments.page import RESULTS, write_page
from experiments.transferability_models import network
from lightning_adv.attacks import BIM, EOT, FGSM, PGD, Attack, LeastLikely, PhysicalWorld
from lightning_adv.attacks.budget import as_text
from lightning_adv.data import CIFAR10, MNIST, ImageDataModule, float_images
from lightning_adv.files import replace_atomically
from lightning_adv.metrics import Destruction, destruction, outcomes, similar_classes, top_k_errors
from lightning_adv.models import create_model
from lightning_adv.reports.run import run_info
from lightning_adv.results.figures import adversarial_grid, png
from lightning_adv.results.result import Table
from lightning_adv.results.shares import percent_interval, wilson_interval

EPS = {"MNIST": (0.1, 0.15, 0.2, 0.25, 0.3), "CIFAR-10": (2 / 255, 4 / 255, 8 / 255, 12 / 255, 16 / 255)}
SETS: dict[str, Callable[..., ImageDataModule]] = {"MNIST": MNIST, "CIFAR-10": CIFAR10}
KINDS = ("true", "refocused", "conatural", "benign", "robust", "wrong")
STEPS = 12
"""Of eps / 10, so that the iterative attacks can reach the edge of the ball (1.25 eps, as in the paper)."""

ATTACKS: dict[str, Callable[[float], Attack]] = {
    "FGSM": lambda eps: FGSM(eps),
    "BIM": lambda eps: BIM(eps, step_size=eps / 10, steps=STEPS),
    "least likely": lambda eps: LeastLikely(eps, step_size=eps / 10, steps=STEPS),
    "PGD over photographs": lambda eps: EOT(PGD(eps, step_size=eps / 10, steps=STEPS), samples=4),
}

ONE_VIEW = ("FGSM", "BIM", "least likely")
"""The attacks that do not know of photographs."""


def main() -> None:
    """Measure what is missing, write the page and a picture."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--root", default="data")
    arguments.add_argument("--run", default="runs/physical")
    arguments.add_argument("--quick", action="store_true")
    given = arguments.parse_args()
    started = datetime.now(UTC)
    learnt, count = (10_000, 500) if given.quick else (54_000, 2000)
    kept = Path(given.run) / ("quick" if given.quick else "full")
    stem = "physical_quick" if given.quick else "physical"
    tables, pictures = [], []
    for name in ["MNIST"] if given.quick else list(SETS):
        images = SETS[name](root=given.root)
        images.setup()
        if name == "MNIST":
            model = _model(kept / "model.pt", images, learnt)
        else:
            model = trained("CIFAR10", given.root, CIFAR10_RUN, CIFAR10_NET).float()
        bench = Bench(name, kept if name == "MNIST" else kept / name, images, model, count)
        replace_atomically(RESULTS / f"{stem}_{name}.png", png(bench.picture(), dpi=130))
        pictures.append(f"![photographs]({stem}_{name}.png)")
        tables += [bench.destruction(), bench.outcomes()]
    net = "" if given.quick else "; on CIFAR-10 a network of twelve layers, 30 epochs"
    text = (
        f"On MNIST `mnist_cnn` learnt from {learnt:,} images{net}; {count:,} test images. A photograph is "
        "`PhysicalWorld` with its defaults, another one for every image. The iterative attacks take "
        f"{STEPS} steps of eps / 10; PGD over photographs, on MNIST, raises the mean loss over four random "
        "photographs in each step (EOT), not those it is judged on. The paper's claim, on ImageNet, is that FGSM "
        "survives better than the iterative attacks. The pictures show clean images and the photographs of their FGSM "
        "images at the largest "
        "eps.\n\n" + "\n\n".join(pictures)
    )
    command = ["python", "-m", "experiments.physical", "--root", "data", *(["--quick"] if given.quick else [])]
    info = run_info(0, given.run, started, finished=datetime.now(UTC), command=command)
    data = "MNIST" if given.quick else "MNIST and CIFAR-10"
    print(write_page(stem, "Adversarial images in the physical world", text, tables, info, data))


class Bench:
    """A network, its test images, and what each attack leaves, measured once and kept.

    Args:
        name: of the data set.
        folder: of the figures.
        images: the data.
        model: the network.
        count: test images attacked.
    """

    def __init__(self, name: str, folder: Path, images: ImageDataModule, model: nn.Module, count: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.name, self.folder, self.world, self.model = name, folder, PhysicalWorld(), model
        self.eps, self.outcome_eps = EPS[name], EPS[name][::2]
        test, val = images.datasets["test"], images.datasets["val"]
        self.x, self.y, self.index = float_images(test.images[:count]), test.labels[:count], test.index[:count]
        self.similar = similar_classes(self._logits(float_images(val.images)), val.labels, share=0.01)

    def destruction(self) -> Table:
        """Destruction rates by attack and eps, and the errors before and after the photograph."""
        count, rows = len(self.y), []
        for name in ATTACKS if self.name == "MNIST" else ONE_VIEW:  # EOT on CIFAR-10 costs ten minutes an eps
            for eps in self.eps if name in ONE_VIEW else self.outcome_eps:
                cell = self._cell(name, eps)
                found = Destruction(cell["fooled"], cell["destroyed"])
                interval = wilson_interval(found.destroyed, found.fooled) if found.fooled else None
                errors = [cell[key] / count for key in ("attacked", "photographed", "photographed_top_5")]
                rows.append(
                    [f"{name}, eps {self._shown(eps)}", found.rate, percent_interval(interval), found.fooled, *errors]
                )
        clean, photo = (top_k_errors(self._logits(each), self.y, 1) / count for each in (self.x, self._photo(self.x)))
        errors = ["error", "error of photographs", "their top-5 error"]
        return Table(
            f"{self.name}: destruction rate",
            ["attack", "destruction rate", "95 % interval", "fooled", *errors],
            rows,
            percent=("destruction rate", *errors),
            note="Of the images that are right clean and wrong under attack (fooled), those whose photographs are "
            f"right again. Without attack the error is {100 * clean:.2f} %, that of photographs {100 * photo:.2f} %.",
        )

    def outcomes(self) -> Table:
        """Billovits's four kinds of outcome, with ranks 1 to 5 in sight."""
        rows = []
        for name in ONE_VIEW:
            for eps in self.outcome_eps:
                cell = self._cell(name, eps)
                rows.append([f"{name}, eps {self._shown(eps)}", *(cell["outcomes"][kind] for kind in KINDS)])
        pairs = int(self.similar.sum()) // 2
        return Table(
            f"{self.name}: kinds of outcome",
            ["attack", *KINDS],
            rows,
            note="Images. True: wrong now, for a class neither in sight nor similar; refocused: for one among the five "
            "likeliest before, and the label is still among them; conatural: for a class that at least 1 % of the "
            f"label's validation images are confused with ({pairs} pairs of classes); benign: wrong before, right now.",
        )

    def picture(self) -> Figure:
        """Clean images, and the photographs of their FGSM images."""
        few = slice(0, 8)
        x, y = self.x[few], self.y[few]
        photo = self.world(FGSM(self.eps[-1])(self.model, x, y), self.index[few])
        before, after = (self._logits(each).softmax(dim=1).max(dim=1) for each in (x, photo))
        sure = {"clean_confidences": before.values, "adversarial_confidences": after.values}
        return adversarial_grid(x, photo, y, before.indices, after.indices, after_name="FGSM,\nphotograph", **sure)

    def _shown(self, eps: float) -> str:
        return f"{eps:g}" if self.name == "MNIST" else as_text(eps)

    def _cell(self, name: str, eps: float) -> dict:
        path = self.folder / f"{name} {eps if self.name == 'MNIST' else round(255 * eps)}.json".replace(" ", "_")
        if not path.is_file():
            attack = ATTACKS[name](eps)
            target = nn.Sequential(PhysicalWorld(), self.model) if isinstance(attack, EOT) else self.model
            parts = zip(*(each.split(250) for each in (self.x, self.y, self.index)), strict=True)
            crafted = torch.cat([attack(target, x, y, index=index) for x, y, index in parts])
            clean, attacked = self._logits(self.x), self._logits(crafted)
            photo = self._logits(self._photo(crafted))
            kinds = outcomes(clean, attacked, self.y, self.similar)
            measured = vars(destruction(clean, attacked, photo, self.y)) | {
                "attacked": top_k_errors(attacked, self.y, 1),
                "photographed": top_k_errors(photo, self.y, 1),
                "photographed_top_5": top_k_errors(photo, self.y, 5),
                "outcomes": vars(kinds),
            }
            replace_atomically(path, json.dumps(measured))
            print("measured", name, eps, measured, flush=True)
        return json.loads(path.read_text())

    def _photo(self, x: Tensor) -> Tensor:
        parts = zip(x.split(250), self.index.split(250), strict=True)
        return torch.cat([self.world(image, index) for image, index in parts])

    def _logits(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            return torch.cat([self.model(part) for part in x.split(500)])


def _model(path: Path, images: ImageDataModule, learnt: int) -> nn.Module:
    if not path.is_file():
        train = images.datasets["train"]
        model = network(float_images(train.images[:learnt]), train.labels[:learnt], epochs=4)
        weights = model.state_dict()
        replace_atomically(path, lambda file: torch.save(weights, file))
    model = create_model("mnist_cnn", num_classes=10, in_channels=1, image_size=(28, 28))
    model.load_state_dict(torch.load(path, weights_only=True))
    return model.eval()


if __name__ == "__main__":
    main()
