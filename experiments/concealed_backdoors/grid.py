"""What the paper leaves open, varied: one table, a combination and an attack a row.

``python -m experiments.concealed_backdoors.grid --root data``: all combinations once, then again, ``--repeats`` times;
resumable as the experiment is.
"""

from collections.abc import Mapping
from pathlib import Path
from statistics import fmean

from experiments.command import arguments, command
from experiments.concealed_backdoors.measure import in_order, kept, supply_triggers
from experiments.concealed_backdoors.models import clean_triggers
from experiments.concealed_backdoors.setup import GRID, Cell, cells_of
from experiments.concealed_backdoors.tables import Found, budgets, evades_at_most, mean_of, repeats_of, times
from experiments.kept import content
from experiments.origin import is_draft
from experiments.page import RESULTS, Page, prose
from experiments.records import claim, read_records, restore_records, write_records
from lightning_adv.files import replace_atomically
from lightning_adv.inspectors import find_outliers
from lightning_adv.results.result import Cell as Entry
from lightning_adv.results.result import Table

__all__ = ["combine", "grid_table", "main"]

STEM = "concealed_backdoors_grid"
OF_THE_PAGE = "normalised_exact_added"
"""The combination whose repeats the page of all data sets has."""
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
    restore_records(RESULTS / "concealed_backdoors.json", {"MNIST": words[OF_THE_PAGE]}, run / OF_THE_PAGE)
    for cell, repeat in [] if given.page else in_order(["MNIST"], given.repeats, headline=True):
        for name in GRID:
            combine(cell, repeat, name, given.root, run)
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


def combine(cell: Cell, repeat: int, name: str, root: str, run: Path) -> None:
    """Measure a cell in a combination; one without cover images is the same whatever is said of them.

    Args:
        cell: an attack on MNIST.
        repeat: its seed.
        name: of the combination.
        root: folder of the data.
        run: folder of the grid.
    """
    plain = f"{name.partition('_')[0]}_exact_added"
    if name != plain and not cell.rate:
        return
    if name != plain and cell.attack == "reconstructed":
        supply_triggers(cell, repeat, GRID[plain], root, run / plain)
        own = clean_triggers(cell, repeat, run / name)
        own.parent.mkdir(parents=True, exist_ok=True)
        replace_atomically(own, clean_triggers(cell, repeat, run / plain).read_bytes())
    kept(cell, repeat, GRID[name], root, run / name)


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
    command(main)
