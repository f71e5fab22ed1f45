"""Mitigations on published backdoored networks: what is left of the attack, what it costs, what comes back.

``python -m experiments.mitigations --root data --models FOLDER``: FOLDER has the published files. Resumable: every
mitigation of a network is a file under ``--run``; the page is written from what is there, and beside it the figures,
from which a fresh checkout goes on.
"""

import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from pytorch_lightning import Trainer, seed_everything

from experiments.command import arguments, command
from experiments.kept import Kept, content
from experiments.origin import is_draft
from experiments.page import RESULTS, Page, prose
from experiments.records import claim, read_records, restore_records, write_records
from experiments.subjects import SUBJECTS
from lightning_adv.callbacks import BackdoorMitigation
from lightning_adv.errors import InputError
from lightning_adv.mitigations import ANP, CLP, FST, FTSAM, IBAU, NAD, FinePruning, FineTuning, Mitigation, Retuning
from lightning_adv.results.result import Cell, Table

__all__ = ["main"]

CLEAN, SAMPLES = 500, 500
"""Images of the defender, and test images."""

NETWORKS = ("mnist_badnet_target1", "cifar10_badnets_target8", "gtsrb_badnets_target8", "cifar10_trojan_square_target2")

MITIGATIONS: dict[str, Mitigation] = {
    "fine-tuning": FineTuning(),
    "CLP": CLP(),
    "Fine-Pruning": FinePruning(),
    "FST": FST(),
    "FT-SAM": FTSAM(),
    "I-BAU": IBAU(),
    "NAD": NAD(),
    "ANP": ANP(steps=200),
}
"""By name; ANP with a tenth of its authors' steps, which cost more than all others together."""

COLUMNS = [
    *("network", "mitigation", "attack before", "attack after", "retuned"),
    *("clean before", "clean after", "rate", "pruned", "threshold", "oracle: attack", "oracle: clean", "CPU s"),
]


def main() -> None:
    """Measure what is missing, write the page."""
    parser = arguments(__doc__, run="runs/mitigations")
    parser.add_argument("--models", required=True, type=Path, help="folder with the published files")
    parser.add_argument("--networks", nargs="+", default=NETWORKS, choices=NETWORKS, help="to measure; default all")
    parser.add_argument("--page", action="store_true", help="write the page from what is there")
    given = parser.parse_args()
    run = Path(given.run)
    some = ["--networks", *given.networks] if given.networks != NETWORKS else []
    words = ["--root", "data", "--models", "FOLDER", *some, *(["--page"] if given.page else [])]
    page = Page("experiments.mitigations", "mitigations", given.run, given=words)
    records, settings = RESULTS / "mitigations.json", {name: _setting(name) for name in NETWORKS}
    try:
        for name, setting in settings.items():
            claim(run / name, setting)
    except InputError as error:
        parser.error(str(error))
    restore_records(records, settings, run)
    if not given.page:
        for network in given.networks:
            for name in MITIGATIONS:
                _measured(network, name, given.root, given.models, run)
    found = read_records(run, "*/*.json")
    if not is_draft():
        write_records(records, settings, found)
    rows = list(_rows({name: content(each) for name, each in found.items()}))
    shares = tuple(name for name in COLUMNS if name.split()[0] in ("attack", "retuned", "clean", "oracle:"))
    table = Table("Before and after", COLUMNS, rows, percent=shares, note=prose(__file__, "Before and after"))
    page.write(prose(__file__, clean=CLEAN, samples=SAMPLES), [table], "MNIST, CIFAR-10 and GTSRB (subset)")


def _setting(network: str) -> str:
    images = f"{CLEAN} clean images, {SAMPLES} test images"
    return f"{SUBJECTS[network].data.__name__}, {images}, probabilities by their logarithm"


def _measured(network: str, name: str, root: str, models: Path, run: Path) -> dict:
    """What a mitigation made of a network, as the callback says it."""

    def make() -> dict:
        seed_everything(0)
        subject = SUBJECTS[network]
        callback = BackdoorMitigation(
            MITIGATIONS[name],
            subject.trigger(models),
            subject.target,
            clean_samples=CLEAN,
            retune=Retuning(),
            max_samples=SAMPLES,
        )
        quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
        trainer = Trainer(accelerator="cpu", devices=1, callbacks=[callback], default_root_dir=run / "cleaned", **quiet)
        began = time.process_time()
        trainer.test(subject.loaded(models), datamodule=subject.data(root=root), verbose=False)
        return callback.result.as_dict() | {"seconds": time.process_time() - began}

    return Kept(run / network).figures(name, make, repr(MITIGATIONS[name]))


def _rows(found: Mapping[str, dict]) -> Iterator[list[Cell]]:
    for network in NETWORKS:
        for name in MITIGATIONS:
            made = found.get(f"{network}/{name.replace(' ', '_')}.json")
            if made is None:
                continue
            clean, attack = (
                [count / made[of] for count in made[what]]
                for what, of in (("correct", "samples"), ("led", "source_samples"))
            )
            pruned = sum(map(len, made["pruned"].values()))
            oracle = made["oracle"] or {}
            yield [
                *(network, name, attack[0], attack[1], attack[2], clean[0], clean[1]),
                f"{made['lr']:g}" if made.get("lr") else "",
                f"{pruned} of {made['channels']}" if made["channels"] else "",
                made["threshold"],
                oracle["led"] / made["source_samples"] if oracle else None,
                oracle["correct"] / made["samples"] if oracle else None,
                made["seconds"],
            ]


if __name__ == "__main__":
    command(main)
