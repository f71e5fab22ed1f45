"""The power of inspections: clean and backdoored networks, every inspector and every rule, at 5 % false alarms.

``python -m experiments.inspection_power``: resumable by network; what is measured lies in a file each under ``--run``,
and the page is written from the networks that are whole. ``--nets`` says how many of each kind; more of them go on from
the ones that there are.
"""

from pathlib import Path

from experiments.command import arguments
from experiments.inspection_power.measure import Measured
from experiments.inspection_power.nets import KINDS, Net
from experiments.kept import Kept
from experiments.networks import images_of
from lightning_adv.data import MNIST

__all__ = ["main"]

PER_KIND = {"clean": 2, "reference": 0.5}
"""Networks of a kind for one of each backdoor: as many clean ones as there are of two kinds of backdoor."""


def main() -> None:
    """Measure what is missing, write the page."""
    parser = arguments(__doc__, run="runs/inspection_power")
    parser.add_argument("--nets", type=int, default=10, help="networks of each kind of backdoor")
    given = parser.parse_args()
    data = MNIST(root=given.root)
    data.setup()
    train, test = images_of(data, "train"), images_of(data, "test")
    kept = Kept(Path(given.run))
    for net in nets(given.nets):
        Measured(net, train, test, kept).everything()


def nets(count: int) -> list[Net]:
    """All networks, those of every kind in turn, so that few of them are some of each."""
    wanted = {kind: round(PER_KIND.get(kind, 1) * count) for kind in KINDS}
    every = [Net(kind, number) for kind, many in wanted.items() for number in range(many)]
    return sorted(every, key=lambda net: (net.number + 0.5) / wanted[net.kind])


if __name__ == "__main__":
    main()
