"""How much the nMutant experiment measures on each data set."""

from dataclasses import dataclass, replace

from experiments.page import prose

__all__ = ["PLANS", "Plan", "quick"]


@dataclass(frozen=True)
class Plan:
    """How label change rates are measured on a data set.

    Args:
        operators: of ``CANDIDATES``, in Table 3 besides the paper's.
        choice: samples of each kind and mutations of each that the operator of Tables 4 to 6 is chosen with.
        mutations: an image, for the chosen operator and for the other operators.
        judged: samples of each kind that the sequential tests judge.
        calibration: clean images and mutations of each that a test is calibrated with.
        longest: mutations after which a sequential test gives up.
        fitted: training images that KD, MU and LID are given.
        seeds: models of Table 4.
        each_seed: mutations an image where there are several models.
    """

    operators: tuple[str, ...]
    choice: tuple[int, int]
    mutations: tuple[int, int]
    judged: int
    calibration: tuple[int, int]
    longest: int
    fitted: int
    seeds: int = 1
    each_seed: int = 1000

    def text(self, name: str, count: int) -> str:
        """The plan of a data set in words, for ``count`` samples of each kind."""
        (chosen, others), about = self.mutations, prose(__file__, name)
        figures = {**vars(self), "chosen": chosen, "others": others}
        return prose(__file__, name=name, count=count, about=about, **figures)


PLANS = {
    "MNIST": Plan(
        ("uniform .4", "uniform .5"),
        choice=(200, 300),
        mutations=(5000, 500),
        judged=1000,
        calibration=(1000, 1000),
        longest=5000,
        fitted=50_000,
        seeds=5,
    ),
    # a forward costs a hundred times as much
    "CIFAR10": Plan(
        ("uniform .03", "uniform .045"),
        choice=(100, 60),
        mutations=(300, 60),
        judged=200,
        calibration=(300, 200),
        longest=1000,
        fitted=10_000,
    ),
}


def quick(plan: Plan) -> Plan:
    """The plan with few mutations."""
    few = {"mutations": (300, 300), "judged": 100, "calibration": (100, 300), "longest": 1000, "fitted": 5000}
    return replace(plan, choice=(50, 100), seeds=1, **few)
