"""Concealed backdoor attacks: Tables 1 to 6, measured beside the paper's figures.

``python -m experiments.concealed_backdoors --root data`` goes through all cells, headlines first, ``--repeats`` times.
Resumable: a cell's repeat is one JSON file under ``--run``; the page is written from whatever is there, and beside it
the repeats themselves, from which a fresh checkout goes on.
"""

from pathlib import Path
from typing import get_args

from experiments.command import arguments, command
from experiments.concealed_backdoors.measure import authors_budget, in_order, kept, quick
from experiments.concealed_backdoors.pictures import found_triggers
from experiments.concealed_backdoors.setup import SETTINGS, WIDE_MNIST, Attack
from experiments.concealed_backdoors.tables import all_tables, budgets
from experiments.kept import content
from experiments.origin import is_draft
from experiments.page import RESULTS, Page, prose
from experiments.records import claim, read_records, restore_records, write_records
from lightning_adv.errors import InputError

__all__ = ["main"]


def main() -> None:
    """Measure what is missing, write the page."""
    parser = arguments(__doc__, run="runs/concealed_backdoors", quick="MNIST's headlines, once, on few images")
    parser.add_argument("--data", nargs="*", default=list(SETTINGS), choices=list(SETTINGS))
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--headline", action="store_true", help="only the controls and the headline of each table")
    parser.add_argument("--attacks", nargs="+", choices=get_args(Attack), help="only these")
    parser.add_argument("--wide", action="store_true", help="MNIST with the network of Neural Cleanse's authors")
    parser.add_argument("--full", action="store_true", help="also inspect headlines with the authors' budget")
    parser.add_argument("--page", action="store_true", help="write the page from what is there")
    given = parser.parse_args()
    settings, run = SETTINGS, Path(given.run)
    names, repeats, headline = given.data, given.repeats, given.headline
    if given.quick:
        settings, run = {"MNIST": quick(SETTINGS["MNIST"])}, run / "quick"
        names, repeats, headline = ["MNIST"], 1, True
    elif given.wide:
        settings, run, names = {"MNIST": WIDE_MNIST}, run / "wide", ["MNIST"]
    variant = "quick" if given.quick else "wide" if given.wide else ""
    given_words = ["--root", "data", *([f"--{variant}"] * bool(variant))]
    stem = f"concealed_backdoors{f'_{variant}' * bool(variant)}"
    page = Page("experiments.concealed_backdoors", stem, given.run, given=given_words)
    records, words = RESULTS / f"{stem}.json", {name: each.in_words for name, each in settings.items()}
    try:
        for name in words:
            claim(run / name, words[name])
    except InputError as error:
        parser.error(str(error))
    if restored := restore_records(records, words, run):
        print(f"{restored} repeats measured before: {records}", flush=True)
    for cell, repeat in [] if given.page else in_order(names, repeats, headline):
        if given.attacks and cell.attack not in given.attacks:
            continue
        kept(cell, repeat, settings[cell.data], given.root, run)
        if given.full:
            authors_budget(cell, repeat, settings[cell.data], given.root, run)
    found = read_records(run, "*/*/*.json")
    if not is_draft():
        write_records(records, words, found)
    found = {name: content(record) for name, record in found.items()}
    there = {name: each for name, each in settings.items() if any(key.startswith(f"{name}/") for key in found)}
    pictures = []
    for name, each in there.items():
        if (figure := found_triggers(run, name, each.target)) is not None:
            page.picture(figure, name, dpi=110)
        if (RESULTS / f"{stem}_{name}.png").is_file():
            pictures.append(f"![Triggers of {name}, hidden and found]({stem}_{name}.png)")
    document = Path(__file__).with_name("wide.md" if given.wide else "page.md")
    text = prose(document, budgets=budgets(there), pictures="\n\n".join(pictures))
    page.write(text, all_tables(found), ", ".join(there))


if __name__ == "__main__":
    command(main)
