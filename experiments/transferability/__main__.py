"""Transferability across learning techniques and black-box attacks by a substitute (Papernot et al., 2016, 2017).

``python -m experiments.transferability --root data``: five models of each technique on disjoint parts of MNIST attack
each other, techniques attack each other, and substitutes that saw labels alone attack each technique. Resumable: every
cell is kept under ``--run``, and every answer of an oracle.
"""

from pathlib import Path

from torch import Tensor, nn

from experiments.command import arguments, command
from experiments.kept import Kept
from experiments.networks import all_predicted, attacked, error, images_of
from experiments.page import Page, prose
from experiments.transferability.budget import by_budget
from experiments.transferability.models import EPS, SVM_LENGTH, TECHNIQUES, Models, craft
from lightning_adv.attacks import FGSM, SubstituteAttack
from lightning_adv.data import MNIST
from lightning_adv.results.result import Cell, Table
from lightning_adv.results.shares import percent_interval, wilson_interval
from lightning_adv.results.transfer import transfer_matrix
from lightning_adv.victims import CountedOracle

__all__ = ["main"]

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
    quick = "parts of 2,000 images, 500 test images, 1,600 queries"
    given = arguments(__doc__, run="runs/transferability", quick=quick).parse_args()
    page = Page("experiments.transferability", f"transferability{'_quick' * given.quick}", given.run)
    size, tested, rounds = (2000, 500, 4) if given.quick else (10_000, 1000, 6)
    bench = Bench(Path(given.run) / ("quick" if given.quick else "full"), given.root, size, tested)
    tables = [*bench.intra(page), *bench.cross(page), bench.budgets(given.quick), bench.substitutes(rounds)]
    length = f"{SVM_LENGTH * EPS:.3g}"
    page.write(prose(__file__, tested=tested, eps=EPS, length=length, size=size, small=SMALL_EPS), tables, "MNIST")


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
        self.learnt = x, y = images_of(images, "train", 0, PARTS * size)
        self.models = Models(list(zip(x.split(size), y.split(size), strict=True)), epochs=8)
        self.x, self.y = images_of(images, "test", 0, tested)
        self.seeds, _ = images_of(images, "calibration", 0, SEEDS)
        self.kept = Kept(folder)

    def intra(self, page: Page) -> list[Table]:
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
        page.picture(transfer_matrix(matrices, names, names), "intra")
        return tables

    def cross(self, page: Page) -> list[Table]:
        """Techniques, all on the first part, attack each other and a vote of all five, at two budgets."""
        targets, names = [(each, 0) for each in TARGETS], (list(TECHNIQUES), list(TARGETS))
        matrices, tables = {}, []
        for eps in (EPS, SMALL_EPS):
            rows = [self._rates(technique, 0, targets, eps) for technique in TECHNIQUES]
            matrices[f"eps {eps}"] = rows
            note = prose(__file__, "Across techniques")
            tables.append(_table(f"Across techniques, eps {eps}", *names, rows, self._clean(targets), note))
        page.picture(transfer_matrix(matrices, *names), "cross")
        return [*tables, _review_table(matrices)]

    def budgets(self, quick: bool) -> Table:
        """Two networks attack each other at growing budgets, after learning from more and more images."""
        return by_budget(self.learnt, (self.x, self.y), self.kept, quick)

    def substitutes(self, rounds: int) -> Table:
        """Substitutes learn from the labels of each oracle, and FGSM on them attacks it."""
        rows: list[list[Cell]] = []
        for oracle in ORACLES:
            for substitute in SUBSTITUTES:
                cell = self.kept.figures(
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
            note=prose(__file__, "Black-box attack by a substitute", eps=EPS, seeds=SEEDS),
        )

    def _substituted(self, oracle: str, substitute: str, rounds: int) -> dict:
        victim = self.models(oracle, 0)
        budget = SEEDS * 2**rounds
        log = self.kept.folder / "queries" / f"{oracle}_{substitute}.jsonl".replace(" ", "_")
        counted = CountedOracle(lambda x: all_predicted(victim, x), budget, log)
        network = "lenet" if substitute == "DNN" else nn.Sequential(nn.Flatten(), nn.Linear(784, 10))
        if isinstance(network, nn.Module):
            for weight in network.parameters():
                nn.init.zeros_(weight)
        attack = SubstituteAttack(FGSM(EPS), network, rounds=rounds, queries=budget)
        attack.fit(counted, self.seeds, num_classes=10)
        crafted = attacked(attack.attack, attack.model, self.x, self.y, 250)
        said, answered = (all_predicted(each, self.x) for each in (attack.model, victim))
        return {
            "queries": counted.spent,
            "agreement": (said == answered).double().mean().item(),
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
        return [self.kept.figures(name, lambda target=target: rate(target)) for name, target in cells.items()]

    def _clean(self, targets: list[tuple[str, int]]) -> list[float]:
        return [
            self.kept.figures(
                f"clean on {name} {part}", lambda n=name, p=part: error(self.models(n, p), self.x, self.y)
            )
            for name, part in targets
        ]


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
    title = "Beside the review"
    return Table(title, ["target", "review", *matrices], rows, note=prose(__file__, title))


if __name__ == "__main__":
    command(main)
