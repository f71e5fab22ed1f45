"""Entries of RobustBench (Croce et al., 2021, "RobustBench: a standardized adversarial robustness benchmark").

A claim there is the standard AutoAttack at a fixed budget on fixed images. What an evaluation measured is written in
the form of RobustBench's ``model_info`` files; where it is less than that, the entry says why it is no claim.
"""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass

from lightning_adv.attacks import AutoAttack
from lightning_adv.attacks.budget import as_text
from lightning_adv.reports.run import RunInfo
from lightning_adv.results.attack_row import AttackRow
from lightning_adv.results.result import EvaluationResult, joint_warnings
from lightning_adv.results.robustness import RobustnessResult

__all__ = ["BenchmarkEntry", "Submission", "benchmark_entries"]

IMAGENET_LIST = "1f7d0bdb93c3"
"""Sum of the list of 5,000 validation images that RobustBench evaluates on."""


@dataclass(frozen=True)
class Submission:
    """What only its authors know of a model: fields of RobustBench's ``model_info``, None where not told.

    Args:
        name: title of the paper.
        link: to the paper.
        authors: separated by commas.
        venue: such as "ICML 2020".
        architecture: default the name of the network.
        additional_data: whether it was trained with more than the training images.
        number_forward_passes: of the network for one prediction; default 1, or those that an evaluation averages over.
        reported: robust accuracy in the paper, in percent.
        external: robust accuracy under another, stronger attack, in percent.
        footnote: what a reader must know.
    """

    name: str | None = None
    link: str | None = None
    authors: str | None = None
    venue: str | None = None
    architecture: str | None = None
    additional_data: bool | None = None
    number_forward_passes: int | None = None
    reported: float | None = None
    external: float | None = None
    footnote: str | None = None


@dataclass(frozen=True)
class Benchmark:
    """A data set of RobustBench: its name there, how many images, eps by norm."""

    name: str
    images: int
    eps: dict[str, float]


BENCHMARKS = {
    "CIFAR10": Benchmark("cifar10", 10_000, {"Linf": 8 / 255, "L2": 0.5}),
    "CIFAR100": Benchmark("cifar100", 10_000, {"Linf": 8 / 255}),
    "ImageFolder": Benchmark("imagenet", 5_000, {"Linf": 4 / 255}),
}


@dataclass(frozen=True)
class BenchmarkEntry:
    """An evaluation in RobustBench's form.

    Args:
        fields: of the ``model_info`` file.
        doubts: why it is no claim; empty for one that is.
        is_on_its_images: whether the image set is one of RobustBench's.
    """

    fields: dict[str, str | int | float | bool | None]
    doubts: list[str]
    is_on_its_images: bool

    @property
    def sentence(self) -> str:
        """Whether it is a claim, and of what."""
        measured = f"{self.fields['autoattack_acc']}% under AutoAttack, {self.fields['clean_acc']}% without"
        return f"no claim: {'; '.join(self.doubts)}" if self.doubts else f"a claim: {measured}"


def benchmark_entries(
    sections: Sequence[EvaluationResult], run: RunInfo, told: Submission | None = None
) -> list[BenchmarkEntry]:
    """An entry for every ``AutoAttack`` of the evaluations under attack, in their order.

    Args:
        sections: of a report.
        run: provenance.
        told: what the user says of the model.
    """
    return [
        _entry(result, row, run, told or Submission(), bool(warnings))
        for result, warnings in zip(sections, joint_warnings(sections), strict=True)
        if isinstance(result, RobustnessResult)
        for row in result.attacks
        if row.description.startswith("AutoAttack(")
    ]


def _entry(
    result: RobustnessResult, row: AttackRow, run: RunInfo, told: Submission, unreliable: bool
) -> BenchmarkEntry:
    benchmark = _benchmark(run.data)
    doubts = list(_doubts(result, row, run, benchmark))
    notes = [told.footnote] if told.footnote else []
    notes += [f"No claim: {'; '.join(doubts)}."] if doubts else []
    measured = {
        "dataset": benchmark.name if benchmark else run.data,
        "architecture": told.architecture or run.model,
        "number_forward_passes": told.number_forward_passes or result.draws,
        "eps": None if row.eps is None else as_text(row.eps),
        "clean_acc": f"{100 * result.clean_accuracy:.2f}",
        "autoattack_acc": f"{100 * row.robust_accuracy:.2f}",
        "footnote": " ".join(notes) or None,
        "unreliable": unreliable,
        "claim": not doubts,
        "images": row.samples,
        "norm": row.norm,
        "attack": row.description,
    }
    return BenchmarkEntry(asdict(told) | measured, doubts, benchmark is not None)


def _benchmark(data: str | None) -> Benchmark | None:
    kind, _, rest = (data or "").partition(" ")
    return BENCHMARKS.get(kind) if not rest or rest.endswith(f", list {IMAGENET_LIST}") else None


def _doubts(result: RobustnessResult, row: AttackRow, run: RunInfo, benchmark: Benchmark | None) -> Iterator[str]:
    """What an evaluation lacks for a claim, each in a few words."""
    if benchmark is None:
        yield f"{run.data or 'a set that is not told'} is none of RobustBench's image sets"
    elif row.samples != benchmark.images:
        yield f"{row.samples:,} of {benchmark.images:,} images"
    if benchmark is not None and abs((row.eps or 0) - benchmark.eps.get(row.norm, 0)) > 1e-9:
        wanted = " or ".join(f"{norm} {as_text(eps)}" for norm, eps in benchmark.eps.items())
        yield f"{row.norm} {as_text(row.eps or 0)} in place of {wanted}"
    if row.eps is None or row.description != repr(AutoAttack(row.eps, row.norm)):
        yield "not the standard version of AutoAttack"
    if result.stage != "test":
        yield "not the test images"
    if result.draws > 1:
        yield "a randomised model, for which the standard version is too weak"
    if run.cuts:
        yield "cut to fit the time"
    if run.finished is None:
        yield run.ended or "the run did not finish"
