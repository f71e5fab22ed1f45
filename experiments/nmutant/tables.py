"""Tables of the nMutant experiment, the paper's figures beside the measured ones."""

import math
from collections.abc import Mapping, Sequence
from statistics import fmean

import torch
from torch import Tensor

from experiments.nmutant.samples import KINDS
from experiments.page import prose
from lightning_adv.attacks import SampleNoise
from lightning_adv.detectors import LogisticRegression
from lightning_adv.metrics.detection import auroc, auroc_interval
from lightning_adv.results.result import Cell, Table

__all__ = [
    "WRONG",
    "area_table",
    "kappa_table",
    "kind_areas",
    "over_mu",
    "sprt_table",
    "strength_table",
    "theorem_table",
    "transfer_table",
    "verdict_table",
]

Z99 = 2.5758
WRONG = KINDS[-1]
"""Images that the model gets wrong by itself."""

PAPER_KAPPA = {
    "MNIST": {
        "1": [".016", ".34", ".45", ".39", ".39", ".33"],
        "5": [".051", ".37", ".47", ".42", ".45", ".37"],
        "10": [".076", ".40", ".49", ".44", ".47", ".40"],
    },
    "CIFAR10": {
        "1": [".10", ".27", ".50", ".21", ".50", ".38"],
        "5": [".18", ".34", ".55", ".38", ".52", ".41"],
        "10": [".21", ".37", ".57", ".41", ".54", ".43"],
    },
}
"""Table 3: normal, FGSM, JSMA, C&W, black box, wrongly labelled."""

PAPER_AREA = {
    "MNIST": {
        "KD": [0.8764, 0.9076, 0.8919, 0.8561, 0.7596],
        "MU": [0.9598, 0.9893, 0.9828, 0.9359, 0.9932],
        "LID": [0.9877, 0.9727, 0.9682, 0.9764, 0.5283],
        "LCR": [0.9671, 0.9919, 0.9970, 0.9930, 1.0],
    },
    "CIFAR10": {
        "KD": [0.5623, 0.5627, 0.5682, 0.5428, 0.5603],
        "MU": [0.7783, 0.8980, 0.8411, 0.8691, 0.8127],
        "LID": [0.7924, 0.9501, 0.8766, 0.9173, 0.8400],
        "LCR": [0.8025, 0.9450, 0.8647, 0.9417, 0.8477],
    },
}
"""Table 4, in the order of KINDS."""

PAPER_VERDICTS = {
    "MNIST": {
        "KD": (0.7737, 0.8246, 0.7906),
        "MU": (0.9452, 0.9492, 0.947),
        "LID": (0.7395, 0.7629, 0.8502),
        "LCR": (0.9728, 0.9317, 0.9508),
    },
    "CIFAR10": {
        "KD": (0.5588, 0.8072, 0.585),
        "MU": (0.7689, 0.7979, 0.7805),
        "LID": (0.8192, 0.7758, 0.8026),
        "LCR": (0.834, 0.8101, 0.8121),
    },
}
"""Table 5: precision, recall, accuracy."""

PAPER_TABLE_1 = {
    1e-4: [0.2056, 2.6977, 4.9912, 9.0231, 10.1639, 10.4286],
    5e-5: [6.6341, 14.0125, 16.5768, 18.7768, 18.4909, 17.9706],
}
DELTAS = (0.05, 0.08, 0.1, 0.15, 0.18, 0.2)


def kappa_table(name: str, rates: Mapping[str, Mapping[str, Tensor]]) -> Table:
    """Table 3 with 99 % intervals and the ratio to the normal images."""
    rows: list[list[Cell]] = []
    for operator, kinds in rates.items():
        means = {kind: values[:, 1].mean().item() for kind, values in kinds.items()}
        cells = [f"{means[kind]:.4f} ± {_half_width(values[:, 1]):.4f}" for kind, values in kinds.items()]
        rows.append([operator, *cells])
        least = max(means["normal"], 1e-12)
        rows.append([f"{operator}: times normal", None, *(f"{means[kind] / least:.0f}" for kind in KINDS)])
    for region, printed in PAPER_KAPPA[name].items():
        rows.append([f"the paper's Table 3, region {region}", *printed])
    note = prose(__file__, "label change rates")
    return Table(f"{name}: label change rates (Table 3)", ["mutation operator", "normal", *KINDS], rows, note=note)


def area_table(name: str, measures: Mapping[str, Mapping[str, Tensor]]) -> Table:
    """Table 4: AUROC on held-out samples."""
    rows: list[list[Cell]] = []
    for detector, kinds in measures.items():
        areas, cells = kind_areas(kinds), []
        for kind, area in zip(KINDS, areas, strict=True):
            low, high = auroc_interval(area, len(kinds["normal"]), len(kinds[kind]))
            cells.append(f"{area:.4f} ({low:.3f} to {high:.3f})")
        rows.append([detector, *cells, *_means(areas)])
    for detector, printed in PAPER_AREA[name].items():
        rows.append([f"{detector}, the paper's Table 4", *(f"{area:.4f}" for area in printed), *_means(printed)])
    normal = next(iter(measures.values()))
    counts = ", ".join(f"{len(normal[kind]):,} {kind}" for kind in ("normal", *KINDS))
    note = prose(__file__, "AUROC", counts=counts, wrong=WRONG)
    return Table(f"{name}: AUROC (Table 4)", ["detector", *KINDS, "mean of attacks", "mean"], rows, note=note)


def kind_areas(kinds: Mapping[str, Tensor], asked: Sequence[str] = KINDS) -> list[float]:
    """AUROC of each kind that is asked for against the normal samples, held out."""
    return [fmean([auroc(*half) for half in _held_out_scores(kinds, kind)]) for kind in asked]


def _means(areas: Sequence[float]) -> list[Cell]:
    """Over the attacks, and over all kinds."""
    attacks = [area for kind, area in zip(KINDS, areas, strict=True) if kind != WRONG]
    return [fmean(attacks), fmean(areas)]


def verdict_table(
    name: str, measures: Mapping[str, Mapping[str, Tensor]], tests: Mapping[str, Mapping[str, dict]]
) -> Table:
    """Table 5: precision, recall and accuracy over the attacks; of those that have one, by their sequential test."""
    printed = PAPER_VERDICTS[name]
    rows: list[list[Cell]] = []
    for detector, kinds in measures.items():
        if test := tests.get(detector):
            recalls = [test[kind]["suspicious"] / test[kind]["samples"] for kind in KINDS]
            alarms = [test["normal"]["suspicious"] / test["normal"]["samples"]] * len(KINDS)
        else:
            pairs = [each for kind in KINDS for each in _held_out_scores(kinds, kind)]
            recalls = [float((adversarial > 0).double().mean()) for _, adversarial in pairs]
            alarms = [float((normal > 0).double().mean()) for normal, _ in pairs]
        recall, alarm = fmean(recalls), fmean(alarms)
        precision = recall / (recall + alarm) if recall + alarm else None
        rows.append([detector, precision, recall, (recall + 1 - alarm) / 2, *printed[detector.split(",")[0]]])
    found = {detector: test["normal"] for detector, test in tests.items()}
    each = [f"{detector}: kappa_1 {test['kappa_1']:.4g}, mu {test['mu']:.3g}" for detector, test in found.items()]
    note = prose(__file__, "verdicts", calibrated="; ".join(each))
    shares = ("precision", "recall", "accuracy", "paper's precision", "paper's recall", "paper's accuracy")
    return Table(f"{name}: verdicts (Table 5)", ["detector", *shares], rows, percent=shares, note=note)


def transfer_table(name: str, measures: Mapping[str, Mapping[str, Tensor]]) -> Table:
    """Detectors fitted on one attack and asked about the others: which is what their user has."""
    rows: list[list[Cell]] = []
    for detector, kinds in measures.items():
        for fitted in KINDS:
            pairs = {kind: _held_out_scores(kinds, kind, fitted) for kind in KINDS}
            shares = [
                fmean(
                    [(float((far > 0).double().mean()) + float((near <= 0).double().mean())) / 2 for near, far in pair]
                )
                for pair in pairs.values()
            ]
            rows.append([f"{detector}, fitted on {fitted}", *shares])
    note = prose(__file__, "fitted on one kind")
    columns = ["detector", *KINDS]
    return Table(f"{name}: fitted on one kind, asked about another", columns, rows, percent=KINDS, note=note)


def sprt_table(name: str, tests: Mapping[tuple[str, str, float], Mapping[str, dict]]) -> Table:
    """Mutations and verdicts of the sequential test by operator, mode and mu."""
    rows: list[list[Cell]] = []
    for (operator, mode, _), test in tests.items():
        for kind, cell in test.items():
            wrong = cell["suspicious"] if kind == "normal" else cell["samples"] - cell["suspicious"]
            label = f"{operator}: {mode}, mu {cell['mu']:.3g}"
            counted = 2 * cell["mutations"] if mode == "paper" else None
            right = 1 - wrong / cell["samples"]
            rows.append([label, kind, cell["samples"], right, cell["mutations"], counted, cell["undecided"]])
    columns = ["test", "kind", "images", "judged rightly", "mutations", "as the paper counts", "undecided"]
    note = prose(__file__, "sequential test")
    return Table(f"{name}: sequential test (Table 6, Figure 3)", columns, rows, ("judged rightly",), note)


def strength_table(name: str, operator: str, found: Mapping[str, Mapping]) -> Table:
    """What decides whether a sample is found: how far beyond the decision boundary its attack went."""
    normal = torch.tensor(found["normal"]["rates"])
    rows: list[list[Cell]] = []
    for attack, cell in found.items():
        rates = torch.tensor(cell["rates"])
        area = None if attack == "normal" else auroc(normal, rates)
        rows.append([attack, len(rates), cell["distance"], cell["margin"], rates.mean().item(), area])
    columns = ["samples", "successes", "L2", "margin", "label change rate", "AUROC"]
    note = prose(__file__, "label change rate by strength")
    return Table(f"{name}: label change rate by strength of the attack ({operator})", columns, rows, note=note)


def over_mu(
    mus: Sequence[float], operator: str, tests: Mapping[tuple[str, str, float], Mapping[str, dict]]
) -> tuple[dict[str, list[float]], dict[str, list[float]]]:
    """Figure 3: share judged rightly, and mutations, of each kind over mu, with an operator."""
    rightly: dict[str, list[float]] = {}
    mutations: dict[str, list[float]] = {}
    for mu in mus:
        for kind, cell in tests[operator, "wald", mu].items():
            share = cell["suspicious"] / cell["samples"]
            rightly.setdefault(kind, []).append(1 - share if kind == "normal" else share)
            mutations.setdefault(kind, []).append(cell["mutations"])
    return rightly, mutations


def theorem_table(samples: int, dimension: int = 784, radius: float = 0.1) -> Table:
    """Table 1: share of the samples around x_0 that lie in the ball of the clean image, read in two ways."""
    generator = torch.Generator().manual_seed(0)
    sums, squares = [], []
    for size in [2000] * (samples // 2000):
        cube = 2 * torch.rand(size, dimension, generator=generator) - 1
        sums.append(cube.sum(dim=1))
        squares.append(cube.square().sum(dim=1))
    total, square = torch.cat(sums).double(), torch.cat(squares).double()
    normal = torch.randn(len(total), generator=generator).double()
    rest = torch.distributions.Chi2(torch.tensor(dimension - 1.0)).sample((len(total),)).double()
    cosine = normal / (normal.square() + rest).sqrt()
    length = torch.rand(len(total), generator=generator).double() ** (1 / dimension)
    rows: list[list[Cell]] = []
    for epsilon, printed in PAPER_TABLE_1.items():
        each, ball = [], []
        for delta in DELTAS:
            side = delta / math.sqrt(dimension)
            offset = radius + epsilon  # of every pixel
            inside = side**2 * square - 2 * offset * side * total + dimension * offset**2 <= dimension * radius**2
            each.append(100 * inside.double().mean().item())
            reach = delta * length
            far = reach.square() - 2 * offset * reach * cosine + offset**2
            ball.append(100 * (far <= radius**2).double().mean().item())
        rows.append([f"eps {epsilon:g}: the paper (%)", *printed])
        rows.append([f"eps {epsilon:g}: r and eps a pixel, cube of side 2 delta / sqrt(784) (%)", *each])
        rows.append([f"eps {epsilon:g}: r and eps in L2, uniform in the L2 ball, as the text has it (%)", *ball])
    note = prose(__file__, "lower bound of the label change rate")
    columns = ["reading", *(f"delta {delta}" for delta in DELTAS)]
    return Table(f"Lower bound of the label change rate (Table 1), {len(total):,} samples", columns, rows, note=note)


def _half_width(values: Tensor) -> float:
    return Z99 * (values.std() / math.sqrt(len(values))).item()


def _held_out_scores(kinds: Mapping[str, Tensor], kind: str, fitted: str | None = None) -> list[tuple[Tensor, Tensor]]:
    """Log odds of normal samples and those of a kind, of each half from a regression on the other.

    Args:
        kinds: measures by kind.
        kind: whose samples are scored.
        fitted: the kind that the regression has seen; default the same.
    """
    normal, scored, seen = (_halves(kinds[each]) for each in ("normal", kind, fitted or kind))
    regressions = [LogisticRegression.fit(normal[half], seen[half]) for half in (0, 1)]
    return [(regressions[1 - half](normal[half]), regressions[1 - half](scored[half])) for half in (0, 1)]


def _halves(values: Tensor) -> tuple[Tensor, Tensor]:
    """Measures of the samples in each half: an image is in the same one, whatever was done to it."""
    chosen = SampleNoise(0, values[:, 0].long()).uniform(torch.zeros(len(values), 1))[:, 0] < 0.5
    return values[chosen, 1:], values[~chosen, 1:]
