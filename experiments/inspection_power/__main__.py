"""The power of inspections: clean and backdoored networks, every inspector and every rule, at 5 % false alarms.

``python -m experiments.inspection_power``: resumable by network; what is measured lies in a file each under ``--run``,
and the page is written from the networks that are whole. ``--nets`` says how many of each kind; more of them go on from
the ones that there are.
"""

from pathlib import Path

from experiments.command import arguments
from experiments.inspection_power.measure import SETTING, Measured
from experiments.inspection_power.nets import KINDS, Net
from experiments.inspection_power.rules import Found
from experiments.inspection_power.tables import (
    Networks,
    all_judged,
    curves,
    networks_table,
    rules_table,
    scores_of,
    taken,
)
from experiments.kept import Kept
from experiments.networks import images_of
from experiments.origin import is_draft
from experiments.page import RESULTS, Page, prose
from experiments.records import read_records, restore_records, write_records
from lightning_adv.data import MNIST

__all__ = ["main"]

DATA = "MNIST"

PER_KIND = {"clean": 2, "reference": 0.5}
"""Networks of a kind for one of each backdoor."""

BACKDOORED = 0.5
"""Attack success from which on a network has the backdoor that it was to learn."""


def main() -> None:
    """Measure what is missing, write the page."""
    parser = arguments(__doc__, run="runs/inspection_power")
    parser.add_argument("--nets", type=int, default=20, help="networks of each kind of backdoor")
    parser.add_argument("--page", action="store_true", help="write the page from what is there")
    given = parser.parse_args()
    run, records = Path(given.run), RESULTS / "inspection_power.json"
    page = Page("experiments.inspection_power", "inspection_power", given.run, seed=None)
    restore_records(records, {DATA: SETTING}, run)
    data = MNIST(root=given.root)
    data.setup()
    train, test = images_of(data, "train"), images_of(data, "test")
    every = [Measured(net, train, test, Kept(run / DATA)) for net in nets(given.nets)]
    if not given.page:
        for each in every:
            each.everything()
    networks = {each.net: each.everything() for each in every if each.is_whole}
    if not is_draft():
        write_records(records, {DATA: SETTING}, read_records(run, f"{DATA}/*.json"))
    _write(page, networks)


def _write(page: Page, networks: Networks) -> None:
    learnt = {net: found for net, found in networks.items() if _counts(found)}
    scores = scores_of(learnt)
    rules = all_judged(scores)
    page.picture(curves(rules, scores))
    flagged, best = taken(learnt), rules[0]
    backdoored = [counts for kind, counts in flagged.items() if kind != "clean"]
    text = prose(
        __file__,
        networks=len(networks),
        learnt=len(learnt),
        best=best.rule,
        threshold=f"{best.threshold:.2f}",
        best_alarms="{} of {}".format(*best.false_alarms),
        best_power="{} of {}".format(*map(sum, zip(*best.caught.values(), strict=True))),
        alarms="{} of {}".format(*flagged["clean"]),
        power="{} of {}".format(*map(sum, zip(*backdoored, strict=True))),
        by_kind=", ".join(
            f"{kind} {caught} of {every}" for kind, (caught, every) in flagged.items() if kind != "clean"
        ),
    )
    page.write(text, [networks_table(networks), rules_table(rules)], f"{DATA}, a choice of the training images each")


def _counts(found: Found) -> bool:
    success = found["facts"]["attack_success"]
    return success is None or success >= BACKDOORED


def nets(count: int) -> list[Net]:
    """All networks, those of every kind in turn, so that few of them are some of each."""
    wanted = {kind: round(PER_KIND.get(kind, 1) * count) for kind in KINDS}
    every = [Net(kind, number) for kind, many in wanted.items() for number in range(many)]
    return sorted(every, key=lambda net: (net.number + 0.5) / wanted[net.kind])


if __name__ == "__main__":
    main()
