"""nMutant (Wang et al., 2018): Tables 1 and 3 to 6 and Figure 3, measured beside the paper's figures.

``python -m experiments.nmutant --root data`` does both data sets with 1,000 images an attack. Resumable: every pair of
attack and detector is kept under ``--run``.
"""

from pathlib import Path

from experiments.command import arguments
from experiments.nmutant.cells import Cells, batches
from experiments.nmutant.figure import mu_curves
from experiments.nmutant.plan import PLANS, Plan, quick
from experiments.nmutant.repeats import CANDIDATES, chosen_operator, seeds_table, victim, white_box_measures
from experiments.nmutant.samples import SETTINGS, make_samples
from experiments.nmutant.strength import strengths
from experiments.nmutant.tables import (
    WRONG,
    area_table,
    kappa_table,
    over_mu,
    sprt_tables,
    strength_table,
    theorem_table,
    transfer_table,
    verdict_table,
)
from experiments.page import Page
from lightning_adv.detectors import LabelChangeRate, PaperMutation
from lightning_adv.results.result import Table

__all__ = ["main"]


PAPERS_OPERATORS = {f"paper, region {region}": PaperMutation(region) for region in (1, 5, 10)}
MUS = (1.1, 1.2, 1.5, 2.0)


def main() -> None:
    """Measure what is missing, write the page."""
    parser = arguments(__doc__, run="runs/nmutant", quick="MNIST, 100 images an attack, 300 mutations")
    parser.add_argument("--data", nargs="+", choices=list(SETTINGS), help="default both; MNIST if quick")
    given = parser.parse_args()
    count = 100 if given.quick else 1000
    for name in given.data or (["MNIST"] if given.quick else list(SETTINGS)):
        page = Page("experiments.nmutant", f"nmutant_{name}{'_quick' * given.quick}", given.run)
        plan = quick(PLANS[name]) if given.quick else PLANS[name]
        tables = _measure(name, given.root, Path(given.run) / name, count, plan, page)
        tables.append(theorem_table(samples=20_000 if given.quick else 1_000_000))
        page.write(plan.text(name, count), tables, name)


def _measure(name: str, root: str, run: Path, count: int, plan: Plan, page: Page) -> list[Table]:
    setting = SETTINGS[name]
    model = victim(name, root, run)
    images = setting.data(root)
    folder = run / f"{count}_samples"
    samples = make_samples(model, images, setting, count, folder / "images")
    print(name, {kind: len(each.index) for kind, each in samples.items()}, flush=True)
    best, choice = chosen_operator(name, model, images, folder / "choice", *plan.choice)
    cells = Cells(folder / "cells", samples)
    operators, rates = PAPERS_OPERATORS | {each: CANDIDATES[name][each] for each in (*plan.operators, best)}, {}
    for operator, mutation in operators.items():
        # A mean rate needs many images more than many mutations; the detector of Tables 4 to 6 needs both.
        each = plan.mutations[operator != best]
        rates[operator] = cells.scores(f"lcr {operator} {each}", LabelChangeRate(mutation, mutations=each), model)
    measures = {"LCR": rates[best]} | white_box_measures(cells, model, images, plan.fitted)
    clean, mutations = batches(images, "calibration", plan.calibration[0]), plan.calibration[1]
    judged = Cells(folder / "cells", {kind: each.first(plan.judged) for kind, each in samples.items()})
    tests = {}
    for mode, mu in [*(("wald", mu) for mu in MUS), ("paper", MUS[0])]:
        detector = LabelChangeRate(operators[best], mu=mu, sprt=mode, mutations=mutations, max_mutations=plan.longest)
        tests[mode, mu] = judged.verdicts(f"sprt {mode} {mu} {best}", detector, model, clean, mu)
    calibrated = LabelChangeRate(operators[best], mutations=mutations, max_mutations=plan.longest)
    tests["calibrated", 0.0] = judged.verdicts(f"sprt calibrated {best}", calibrated, model, clean, None)
    page.picture(mu_curves(MUS, *over_mu(MUS, tests)), "mu", dpi=110)
    return [
        kappa_table(name, rates),
        area_table(name, measures),
        *_over_seeds(name, root, run, count, plan, best),
        choice,
        verdict_table(name, measures, tests["calibrated", 0.0]),
        transfer_table(name, measures),
        *sprt_tables(name, MUS, tests),
        strength_table(name, strengths(cells, setting, best, operators[best], model)),
    ]


def _over_seeds(name: str, root: str, run: Path, count: int, plan: Plan, best: str) -> list[Table]:
    """Table 4 of several models, if the plan has several."""
    done = []
    for seed in range(plan.seeds if plan.seeds > 1 else 0):
        folder = run / f"seed_{seed}" if seed else run
        model = victim(name, root, folder, seed)
        images = SETTINGS[name].data(root)
        folder /= f"{count}_samples"
        samples = make_samples(model, images, SETTINGS[name], count, folder / "images")
        cells = Cells(folder / "cells", samples)
        detector = LabelChangeRate(CANDIDATES[name][best], mutations=plan.each_seed)
        rates = cells.scores(f"lcr {best} {plan.each_seed}", detector, model)
        done.append(({"LCR": rates} | white_box_measures(cells, model, images, plan.fitted), samples[WRONG]))
    return [seeds_table(name, plan.each_seed, *zip(*done, strict=True))] if done else []


if __name__ == "__main__":
    main()
