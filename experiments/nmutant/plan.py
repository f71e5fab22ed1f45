"""How much the nMutant experiment measures on each data set."""

from dataclasses import dataclass, replace

from experiments.page import prose
from lightning_adv.detectors import AffineMutation, Mutation, PaperMutation

__all__ = ["OPERATORS", "OWN", "PAPERS", "PLANS", "Plan", "quick"]

PAPERS, OWN = "paper, region 10", "affine"
"""The operators of the paper's detector and of this project's own."""

OPERATORS: dict[str, Mutation] = {
    **{f"paper, region {region}": PaperMutation(region) for region in (1, 5, 10)},
    "paper, region 10, clipped": PaperMutation(10, clip=True),
    OWN: AffineMutation(),
}


@dataclass(frozen=True)
class Plan:
    """How label change rates are measured on a data set.

    Args:
        mutations: an image, for its label change rate.
        judged: samples of each kind that the sequential tests judge.
        calibration: clean images and mutations of each that a test is calibrated with.
        longest: mutations after which a sequential test gives up.
        fitted: training images that KD, MU and LID are given.
        seeds: models of Table 4.
        count: samples of each kind.
        epochs: of the training of the models.
    """

    mutations: int
    judged: int
    calibration: tuple[int, int]
    longest: int
    fitted: int
    seeds: int = 1
    count: int = 1000
    epochs: int = 8

    def in_proportion(self) -> "Plan":
        """Half as many samples judged by tests as there are of a kind, or fewer, and as many to calibrate with."""
        fewest, (images, mutations) = min(self.judged, self.count // 2), self.calibration
        return replace(self, judged=fewest, calibration=(min(images, self.count), mutations))

    def text(self, name: str, accuracy: float) -> str:
        """The plan of a data set in words, with the first model's accuracy on the test images."""
        return prose(__file__, name=name, accuracy=accuracy, about=prose(__file__, name), **vars(self))


PLANS = {
    "MNIST": Plan(500, judged=200, calibration=(300, 300), longest=2000, fitted=50_000, seeds=3),
    # a forward costs a hundred times as much
    "CIFAR10": Plan(60, judged=200, calibration=(300, 200), longest=1000, fitted=10_000, epochs=30),
}


def quick(plan: Plan) -> Plan:
    """The plan with few mutations."""
    return replace(
        plan, mutations=300, judged=100, calibration=(100, 300), longest=1000, fitted=5000, seeds=1, count=100
    )
