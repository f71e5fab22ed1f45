"""What the paper leaves open, varied: one table, a combination and an attack a row.

``python -m experiments.concealed_backdoors.grid --root data``: all combinations once, then again, ``--repeats`` times;
resumable as the experiment is.
"""

from collections.abc import Mapping
from pathlib import Path
from statistics import fmean

from experiments.command import arguments
from experiments.concealed_backdoors.measure import in_order, kept
from experiments.concealed_backdoors.setup import GRID, cells_of
from experiments.concealed_backdoors.tables import Found, budgets, evades_at_most, mean_of, repeats_of, times
from experiments.kept import content
from experiments.origin import is_draft
from experiments.page import RESULTS, Page, prose
from experiments.records import claim, read_records, restore_records, write_records
from lightning_adv.inspectors import find_outliers
from lightning_adv.results.result import Cell as Entry
from lightning_adv.results.result import Table

__all__ = ["grid_table", "main"]

STEM = "concealed_backdoors_grid"
DOCUMENT = Path(__file__).with_suffix(".md")


def main() -> None:
    """Measure what is missing, write the page."""
    parser = arguments(__doc__, run="runs/concealed_backdoors/grid")
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--page", action="store_true", help="write the page from what is there")
    given = parser.parse_args()
    run, words = Path(given.run), {name: each.in_words for name, each in GRID.items()}
    page = Page("experiments.concealed_backdoors.grid", STEM, given.run, seed=None, given=["--root", "data"])
    for name in GRID:
        claim(run / name, words[name])
    restore_records(RESULTS / f"{STEM}.json", words, run)
    for cell, repeat in [] if given.page else in_order(["MNIST"], given.repeats, headline=True):
        for name, setting in GRID.items():
            kept(cell, repeat, setting, given.root, run / name)
    records = read_records(run, "*/*/*/*.json")
    if not is_draft():
        write_records(RESULTS / f"{STEM}.json", words, records)
    found: dict[str, Found] = {name: {} for name in GRID}
    for path, record in records.items():
        name, _, rest = path.partition("/")
        found[name][rest] = content(record)
    page.write(
        prose(DOCUMENT, budgets=budgets({"MNIST": GRID["normalised_exact_added"]})), [grid_table(found)], "MNIST"
    )


def grid_table(found: Mapping[str, Found]) -> Table:
    """Name of a combination to its measured repeats."""
    rows: list[list[Entry]] = []
    for name, of_all in found.items():
        target = GRID[name].target
        for cell in cells_of("MNIST", headline_only=True):
            done = repeats_of(of_all, cell)
            if not done or cell.attack == "clean":
                continue
            cleanse = [each["neural_cleanse"] for each in done]
            evading = [each["median"] - 2 * find_outliers(each["norms"]).scale for each in cleanse]
            rows.append(
                [
                    name.replace("_", ", "),
                    cell.name.replace("_", " "),
                    len(done),
                    mean_of(done, "attack_success_rate"),
                    mean_of(done, "clean_accuracy"),
                    times(cleanse, lambda each, t=target: t not in each["flagged"]),
                    times(done, lambda each, t=target: evades_at_most(each, t)),
                    f"{fmean(each['norm'] for each in cleanse):.0f} of "
                    f"{fmean(each['mask_pixels'] for each in done):.0f}",
                    f"{fmean(evading):.0f}",
                    f"{fmean(each['index'] for each in cleanse):.1f}",
                ]
            )
    columns = ["network sees, cover pixels, cover images", "attack", "repeats", "attack accuracy", "normal accuracy"]
    columns += ["evades Neural Cleanse", "ceiling: at the hidden norm", "norm found, of hidden pixels"]
    title = "The grid"
    return Table(title, [*columns, "norm that would evade", "index"], rows, note=prose(DOCUMENT, title))


if __name__ == "__main__":
    main()
