"""Transferability across learning techniques and black-box attacks by a substitute (Papernot et al., 2016, 2017).

``python -m experiments.transferability --root data``: five models of each technique on disjoint parts of MNIST attack
each other, techniques attack each other, and substitutes that saw labels alone attack each technique. Resumable: every
cell is kept under ``--run``, and every answer of an oracle. ``--quick`` takes fewer images.
"""

import argparse
import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor, nn

from experiments.page import RESULTS, write_page
from experiments.transferability_models import EPS, SVM_LENGTH, TECHNIQUES, Models, craft, error
from lightning_adv.attacks import FGSM, SubstituteAttack
from lightning_adv.data import MNIST, float_images
from lightning_adv.files import replace_atomically
from lightning_adv.reports.run import run_info
from lightning_adv.results.figures import png
from lightning_adv.results.result import Table
from lightning_adv.results.shares import percent_interval, wilson_interval
from lightning_adv.results.transfer import transfer_matrix
from lightning_adv.victims import CountedOracle

Kept = TypeVar("Kept", float, dict)

PARTS = 5
TARGETS = (*TECHNIQUES, "ensemble", "RBF SVM", "forest")
ORACLES = (*TECHNIQUES, "ensemble")
SUBSTITUTES = ("DNN", "LR")
SEEDS = 100
SMALL_EPS = 0.1
REVIEW = {"DNN": "0.82 to 38.27 %, the most robust", "DT": "47.20 to 89.29 %, the most vulnerable"}
"""What the review reports of the cross-technique matrix, by target."""


def main() -> None:
    """Measure what is missing, write the page and the heat maps."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--root", default="data")
    arguments.add_argument("--run", default="runs/transferability")
    arguments.add_argument("--quick", action="store_true", help="parts of 2,000 images, 500 test images, 1,600 queries")
    given = arguments.parse_args()
    started = datetime.now(UTC)
    size, tested, rounds = (2000, 500, 4) if given.quick else (10_000, 1000, 6)
    bench = Bench(Path(given.run) / ("quick" if given.quick else "full"), given.root, size, tested)
    stem = "transferability_quick" if given.quick else "transferability"
    tables = [*bench.intra(stem), *bench.cross(stem), bench.substitutes(rounds)]
    text = (
        f"Share of {tested} adversarial test images that the target gets wrong, the source in the row, the target in "
        f"the column. FGSM at eps {EPS} on the network and on the differentiable twins of logistic regression and kNN, "
        f"a step of L2 length {SVM_LENGTH * EPS:.3g} against the hyperplane of the linear SVM, the nearest leaf of "
        f"another class for the tree. Every model learnt from {size:,} images. At eps .3 nearly everything transfers "
        f"to nearly everything; the second cross-technique matrix, at eps {SMALL_EPS} and a step in proportion, "
        "tells the techniques apart."
    )
    command = ["python", "-m", "experiments.transferability", "--root", "data", *(["--quick"] if given.quick else [])]
    info = run_info(0, given.run, started, finished=datetime.now(UTC), command=command)
    print(write_page(stem, "Transferability across learning techniques", text, tables, info, "MNIST"))


class Bench:
    """Images, models and the cells that are measured once and kept.

    Args:
        folder: of the cells.
        root: of the data.
        size: images of a part.
        tested: test images attacked.
    """

    def __init__(self, folder: Path, root: str, size: int, tested: int) -> None:
        images = MNIST(root=root)
        images.setup()
        train, test, seeds = (images.datasets[split] for split in ("train", "test", "calibration"))
        x, y = float_images(train.images[: PARTS * size]), train.labels[: PARTS * size]
        self.models = Models(list(zip(x.split(size), y.split(size), strict=True)), epochs=8)
        self.x, self.y = float_images(test.images[:tested]), test.labels[:tested]
        self.seeds = float_images(seeds.images[:SEEDS])
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def intra(self, stem: str) -> list[Table]:
        """Five models of one technique on disjoint parts attack each other."""
        tables, names = [], [f"part {part + 1}" for part in range(PARTS)]
        matrices = {}
        for technique in TECHNIQUES:
            rows = [self._rates(technique, source, [(technique, t) for t in range(PARTS)]) for source in range(PARTS)]
            clean = self._clean([(technique, target) for target in range(PARTS)])
            others = [rate for i, row in enumerate(rows) for j, rate in enumerate(row) if i != j]
            note = f"Mean over pairs of different models: {100 * sum(others) / len(others):.2f} %."
            tables.append(_table(f"Within {technique}", names, names, rows, clean, note))
            matrices[technique] = rows
        figure = transfer_matrix(matrices, names, names)
        replace_atomically(RESULTS / f"{stem}_intra.png", png(figure, dpi=130))
        return tables

    def cross(self, stem: str) -> list[Table]:
        """Techniques, all on the first part, attack each other and a vote of all five, at two budgets."""
        targets, names = [(each, 0) for each in TARGETS], (list(TECHNIQUES), list(TARGETS))
        matrices, tables = {}, []
        for eps in (EPS, SMALL_EPS):
            rows = [self._rates(technique, 0, targets, eps) for technique in TECHNIQUES]
            matrices[f"eps {eps}"] = rows
            note = "The ensemble is a vote of the five models in the row headings."
            tables.append(_table(f"Across techniques, eps {eps}", *names, rows, self._clean(targets), note))
        replace_atomically(RESULTS / f"{stem}_cross.png", png(transfer_matrix(matrices, *names), dpi=130))
        return [*tables, _review_table(matrices)]

    def substitutes(self, rounds: int) -> Table:
        """Substitutes learn from the labels of each oracle, and FGSM on them attacks it."""
        rows: list[list] = []
        for oracle in ORACLES:
            for substitute in SUBSTITUTES:
                cell = self._kept(
                    f"substitute {substitute} of {oracle} {rounds}",
                    lambda oracle=oracle, substitute=substitute: self._substituted(oracle, substitute, rounds),
                )
                low_high = wilson_interval(round(cell["error"] * len(self.y)), len(self.y))
                rows.append([f"{oracle} by {substitute}", cell["queries"], cell["agreement"], cell["clean"]])
                rows[-1] += [cell["error"], percent_interval(low_high)]
        shares = ("agreement", "clean error", "error under attack")
        return Table(
            "Black-box attack by a substitute",
            ["oracle by substitute", "queries", *shares, "95 % interval"],
            rows,
            percent=shares,
            note=f"FGSM at eps {EPS} on a substitute grown from {SEEDS} held-out images by Jacobian-based "
            "augmentation. Queries: different images that the oracle labelled. Agreement: test images on which "
            "substitute and oracle say the same. The paper's order: above 80 % at eps .3.",
        )

    def _substituted(self, oracle: str, substitute: str, rounds: int) -> dict:
        victim = self.models(oracle, 0)
        budget = SEEDS * 2**rounds
        log = self.folder / "queries" / f"{oracle}_{substitute}.jsonl".replace(" ", "_")
        counted = CountedOracle(lambda x: victim(x).argmax(dim=1), budget, log)
        network = "lenet" if substitute == "DNN" else nn.Sequential(nn.Flatten(), nn.Linear(784, 10))
        if isinstance(network, nn.Module):
            for weight in network.parameters():
                nn.init.zeros_(weight)
        attack = SubstituteAttack(FGSM(EPS), network, rounds=rounds, queries=budget)
        attack.fit(counted, self.seeds, num_classes=10)
        crafted = torch.cat([attack.attack(attack.model, *part) for part in self._batches()])
        with torch.no_grad():
            agreement = (attack.model(self.x).argmax(dim=1) == victim(self.x).argmax(dim=1)).double().mean().item()
        return {
            "queries": counted.spent,
            "agreement": agreement,
            "clean": error(victim, self.x, self.y),
            "error": error(victim, crafted, self.y),
        }

    def _rates(self, technique: str, source: int, targets: list[tuple[str, int]], eps: float = EPS) -> list[float]:
        """Error of each target on the images that a source crafts; crafted only if a cell is missing."""
        crafted: list[Tensor] = []

        def rate(target: tuple[str, int]) -> float:
            if not crafted:
                crafted.append(craft(technique, self.models(technique, source), self.x, self.y, eps))
            return error(self.models(*target), crafted[0], self.y)

        cells = {f"{technique} {source} eps {eps} on {name} {part}": (name, part) for name, part in targets}
        return [self._kept(name, lambda target=target: rate(target)) for name, target in cells.items()]

    def _clean(self, targets: list[tuple[str, int]]) -> list[float]:
        return [
            self._kept(f"clean on {name} {part}", lambda n=name, p=part: error(self.models(n, p), self.x, self.y))
            for name, part in targets
        ]

    def _batches(self) -> list[tuple[Tensor, Tensor]]:
        return list(zip(self.x.split(250), self.y.split(250), strict=True))

    def _kept(self, name: str, make: Callable[[], Kept]) -> Kept:
        path = self.folder / f"{name.replace(' ', '_')}.json"
        if not path.is_file():
            replace_atomically(path, json.dumps(make()))
            print("measured", name, path.read_text(), flush=True)
        return json.loads(path.read_text())


def _table(
    title: str, sources: list[str], targets: list[str], rows: list[list[float]], clean: list[float], note: str
) -> Table:
    cells = [[source, *row] for source, row in zip(sources, rows, strict=True)]
    return Table(title, ["source", *targets], [*cells, ["clean images", *clean]], percent=tuple(targets), note=note)


def _review_table(matrices: dict[str, list[list[float]]]) -> Table:
    """The range over the sources, for the two targets that the review names."""
    rows = []
    for target, said in REVIEW.items():
        column = TARGETS.index(target)
        shares = [[row[column] for row in rows] for rows in matrices.values()]
        rows.append([target, said, *(f"{100 * min(each):.2f} to {100 * max(each):.2f} %" for each in shares)])
    note = "Lowest and highest share of adversarial images that the target gets wrong, over the five sources."
    return Table("Beside the review", ["target", "review", *matrices], rows, note=note)


if __name__ == "__main__":
    main()
