"""Published models and layouts: what loads, and what is found in networks that other people trained and published.

``python -m experiments.open_models --models FOLDER``: FOLDER has the published files. Resumable: every class that is
searched and every portion of attacked images is a file under ``--run``; the page is written from what is there, and
beside it the figures, from which a fresh checkout goes on.
"""

from collections.abc import Sequence
from pathlib import Path

from experiments.command import arguments, command
from experiments.kept import content
from experiments.open_models import photographs
from experiments.open_models.layouts import LAYOUTS
from experiments.open_models.measure import ATTACKS, Measured
from experiments.open_models.tables import (
    answers_table,
    inspection_table,
    layouts_table,
    robustness_table,
    verdicts_table,
)
from experiments.open_models.trials import tried
from experiments.origin import is_draft
from experiments.page import RESULTS, Page, prose
from experiments.published_networks import LITE0
from experiments.records import claim, read_records, restore_records, write_records
from experiments.subjects import SUBJECTS
from lightning_adv.errors import InputError

__all__ = ["main"]

PROVEN = "mnist_provable_eps0.1"

FIRST = (
    ("mnist_badnet_target1", "authors"),
    ("cifar10_trojan_square_target2", "short"),
    ("cifar10_badnets_target8", "short"),
    (PROVEN, "short"),
    ("mnist_badnet_target1", "short"),
)
THEN = (
    ("mnist_clean_control", "short"),
    (PROVEN, "authors"),
    ("cifar10_badnets_target8", "authors"),
    ("cifar10_trojan_square_target2", "authors"),
    ("mnist_clean_control", "authors"),
    ("gtsrb_badnets_target8", "short"),
    ("gtsrb_badnets_target8", "authors"),
)
"""Networks and budgets of searches, the headlines first, as far as two cores do them in an hour."""


def main() -> None:
    """Measure what is missing, write the page."""
    parser = arguments(__doc__, run="runs/open_models")
    parser.add_argument("--models", required=True, type=Path, help="folder with the published files")
    parser.add_argument("--page", action="store_true", help="write the page from what is there")
    given = parser.parse_args()
    run = Path(given.run)
    words = ["--models", "FOLDER", *(["--page"] if given.page else [])]
    page = Page("experiments.open_models", "open_models", given.run, given=words)
    measured = {name: Measured(each, given.models, given.root, run) for name, each in SUBJECTS.items()}
    settings = {name: each.setting for name, each in measured.items()} | {LITE0: photographs.SETTING}
    records = RESULTS / "open_models.json"
    try:
        for name, setting in settings.items():
            claim(run / name, setting)
    except InputError as error:
        parser.error(str(error))
    restore_records(records, settings, run)
    if not given.page:
        _measure(measured, run)
    found = read_records(run, "*/*.json")
    if not is_draft():
        write_records(records, settings, found)
    found = {name: content(record) for name, record in found.items()}
    tables = [
        answers_table(measured.values(), found),
        robustness_table(found),
        photographs.photographs_table(found),
        inspection_table(found, given.models),
        verdicts_table(found),
        layouts_table([(each, tried(each)) for each in LAYOUTS if each.there]),
    ]
    tables = [table for table in tables if table is not None and table.rows]
    page.write(prose(__file__), tables, "MNIST, CIFAR-10 and GTSRB (subset) test images")


def _measure(measured: dict[str, Measured], run: Path) -> None:
    """Everything, the quick and the headlines first."""
    _search(measured, FIRST)
    photographs.measure(run)
    for attack, (_, parts) in ATTACKS.items():
        for part in range(parts):
            measured[PROVEN].robust(attack, part)
    _search(measured, THEN)


def _search(measured: dict[str, Measured], searches: Sequence[tuple[str, str]]) -> None:
    for name, budget in searches:
        measured[name].accuracy()
        measured[name].attack_success()
        for label in range(SUBJECTS[name].classes):
            measured[name].searched(budget, label)


if __name__ == "__main__":
    command(main)
