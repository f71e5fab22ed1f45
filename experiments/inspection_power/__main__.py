"""The power of inspections: clean and backdoored networks, every inspector and every rule, at 5 % false alarms.

``python -m experiments.inspection_power``: resumable by network; what is measured lies in a file each under ``--run``,
and the page is written from the networks that are whole. ``--nets`` says how many of each kind; more of them go on from
the ones that there are.
"""

from pathlib import Path

from experiments.command import arguments, command
from experiments.inspection_power.measure import SETTINGS, Measured
from experiments.inspection_power.nets import DATA, KINDS, Net
from experiments.inspection_power.rules import Found
from experiments.inspection_power.tables import (
    Networks,
    all_judged,
    curves,
    networks_table,
    of_another_kind,
    rules_table,
    scores_of,
    shares,
    taken,
    taken_table,
)
from experiments.kept import Kept
from experiments.networks import images_of
from experiments.origin import is_draft
from experiments.page import RESULTS, Page, prose
from experiments.records import read_records, restore_records, write_records

__all__ = ["main"]

PER_KIND = {"clean": 2, "reference": 0.5}
"""Networks of a kind for one of each backdoor."""

REFERENCES = 4
"""At least so many; a defender who has fewer knows no spread."""

BACKDOORED = 0.5
"""Attack success from which on a network has the backdoor that it was to learn."""

SETTLED = 20
"""``--nets`` of the networks that the second look was settled with; all others judge it."""


def main() -> None:
    """Measure what is missing, write the page."""
    parser = arguments(__doc__, run="runs/inspection_power")
    parser.add_argument("--nets", type=int, default=SETTLED, help="networks of each kind of backdoor, of MNIST")
    parser.add_argument("--data", nargs="+", choices=list(DATA), default=list(DATA), help="measure only these")
    parser.add_argument("--page", action="store_true", help="write the page from what is there")
    given = parser.parse_args()
    run, records = Path(given.run), RESULTS / "inspection_power.json"
    page = Page("experiments.inspection_power", "inspection_power", given.run, seed=None)
    restore_records(records, SETTINGS, run)
    networks: Networks = {}
    for name in DATA:
        whole = _networks(name, nets(given.nets, name), given.root, run, name in given.data and not given.page)
        if sum(net.kind == "reference" for net in whole) >= REFERENCES:
            networks.update(whole)
    if not is_draft():
        write_records(records, SETTINGS, read_records(run, "*/*.json"))
    _write(page, networks)


def _networks(name: str, every: list[Net], root: str, run: Path, measuring: bool) -> Networks:
    """Those of one data set that are whole, after what is missing was measured."""
    data = DATA[name].data(root=root)
    data.setup()
    train, test, kept = images_of(data, "train"), images_of(data, "test"), Kept(run / name)
    for net in every if measuring else ():
        Measured(net, train, test, kept).everything()
    parts = [path.stem.split("_") for path in kept.folder.glob("*_facts.json")]
    there = [Net(kind, int(number), name) for kind, number, _ in parts]
    there.sort(key=lambda net: (list(KINDS).index(net.kind), net.number))
    subjects = [Measured(net, train, test, kept) for net in there]
    return {each.net: each.everything() for each in subjects if each.is_whole}


def _write(page: Page, networks: Networks) -> None:
    learnt = {net: found for net, found in networks.items() if _counts(found)}
    scores = scores_of(learnt)
    rules = all_judged(scores)
    page.picture(curves(rules, scores))
    best, settled = rules[0], {net for data in DATA for net in nets(SETTLED, data)}
    flagged = taken(learnt)
    parts = {"settled": taken(learnt, settled), "fresh": taken(learnt, set(learnt) - settled)}
    told = {kind: shares(flagged, {kind}) for _, kind in flagged if kind != "clean"}
    text = prose(
        __file__,
        networks=len(networks),
        learnt=len(learnt),
        best=best.rule,
        threshold=f"{best.threshold:.2f}",
        best_alarms="{} of {}".format(*best.false_alarms),
        best_power="{} of {}".format(*map(sum, zip(*best.caught.values(), strict=True))),
        **{f"{name}_alarms": shares(counts, {"clean"}) for name, counts in parts.items()},
        **{f"{name}_power": shares(counts, set(KINDS) - {"clean"}) for name, counts in parts.items()},
        by_kind=", ".join(f"{kind} {counts}" for kind, counts in told.items()),
        unlike=", ".join("{} {} of {}".format(data, *counts) for data, counts in of_another_kind(learnt).items()),
    )
    sets = ", ".join(dict.fromkeys(net.data for net in networks))
    page.write(
        text,
        [networks_table(networks), *(taken_table(name, counts) for name, counts in parts.items()), rules_table(rules)],
        f"{sets}, a choice of the training images each",
    )


def _counts(found: Found) -> bool:
    success = found["facts"]["attack_success"]
    return success is None or success >= BACKDOORED


def nets(count: int, data: str = "MNIST") -> list[Net]:
    """All networks of a data set, those of every kind in turn, so that few of them are some of each."""
    wanted = {kind: round(PER_KIND.get(kind, 1) * count * DATA[data].share) for kind in KINDS}
    wanted["reference"] = max(REFERENCES, wanted["reference"])
    every = [Net(kind, number, data) for kind, many in wanted.items() for number in range(many)]
    return sorted(every, key=lambda net: (net.number + 0.5) / wanted[net.kind])


if __name__ == "__main__":
    command(main)
