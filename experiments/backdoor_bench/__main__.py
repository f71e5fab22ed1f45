"""Backdoor attacks beside the scans, inspectors, detectors and mitigations that are to find or to remove them.

``python -m experiments.backdoor_bench --root data``: resumable, a method against a model is one file under ``--run``;
``--quick`` takes what two cores do in about an hour: small networks, a few attacks, one seed. The page is written from
whatever is there, and beside it the figures themselves, from which a fresh checkout goes on.
"""

from pathlib import Path

from experiments.backdoor_bench.measure import FAMILIES, Bench, Figures
from experiments.backdoor_bench.setup import ATTACKS, DETECTORS, LONG, MITIGATIONS, QUICK, SCANS, SETTINGS
from experiments.backdoor_bench.tables import tables
from experiments.command import arguments, command
from experiments.kept import content
from experiments.origin import is_draft
from experiments.page import RESULTS, Page, prose
from experiments.records import read_records, restore_records, write_records

__all__ = ["found_in", "main"]

STEM = "backdoor_bench"
METHODS = sorted({*SCANS, *DETECTORS, *MITIGATIONS, *(name for each in SETTINGS.values() for name in each.inspectors)})


def main() -> None:
    """Measure what is missing, write the page."""
    parser = arguments(__doc__, run="runs/backdoor_bench", quick="few images and attacks, small networks, one seed")
    parser.add_argument("--data", nargs="+", choices=list(SETTINGS), help="default all; small ones if quick")
    parser.add_argument("--attacks", nargs="+", choices=list(ATTACKS), help="default all; a few if quick")
    parser.add_argument("--families", nargs="+", choices=FAMILIES, default=FAMILIES, help="only these")
    parser.add_argument("--methods", nargs="+", choices=METHODS, help="default all; not the longest if quick")
    parser.add_argument("--seeds", type=int, help="default 3; one if quick")
    parser.add_argument("--page", action="store_true", help="write the page from what is there")
    given = parser.parse_args()
    names = given.data or (QUICK if given.quick else SETTINGS)
    run, words = Path(given.run), {name: each.in_words for name, each in SETTINGS.items()}
    page = Page(f"experiments.{STEM}", STEM, given.run, seed=None, given=["--root", "data"], sortable=True)
    restore_records(RESULTS / f"{STEM}.json", words, run)
    methods = given.methods or ([each for each in METHODS if each not in LONG] if given.quick else None)
    for seed in range(0 if given.page else given.seeds or (1 if given.quick else 3)):
        for name in names:
            attacks = given.attacks or (given.quick and QUICK.get(name)) or ATTACKS
            for family in given.families:  # models first, then all that is known of each kind
                for attack in attacks:
                    list(Bench(attack, seed, SETTINGS[name], given.root, run / name).cells(family, methods))
    records = read_records(run, "*/*/*/*.json")
    if not is_draft():
        write_records(RESULTS / f"{STEM}.json", words, records)
    measured = []
    for name in SETTINGS:
        if found := found_in(name, records):
            measured.append(name)
            page.add(*tables(name, found))
    page.write(prose(__file__), [], ", ".join(measured))


def found_in(data: str, records: dict[str, dict]) -> dict[tuple[str, str], dict[str, list[Figures]]]:
    """The figures of one data set, from the files that hold them."""
    attacks = {name.replace(" ", "_"): name for name in ATTACKS}
    found: dict[tuple[str, str], dict[str, list[Figures]]] = {}
    for path, record in records.items():
        of, attack, _, file = Path(path).parts
        if of == data and attack in attacks:
            family, _, method = Path(file).stem.partition("_")
            found.setdefault((attacks[attack], family), {}).setdefault(method.replace("_", " "), []).append(
                content(record)
            )
    return found


if __name__ == "__main__":
    command(main)
