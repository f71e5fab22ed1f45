"""The cells of the bench: one method against one model, measured once and kept."""

import copy
import hashlib
import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path

import torch
from torch import Tensor, nn

from experiments.backdoor_bench.models import Subject, share
from experiments.backdoor_bench.setup import ATTACKS, DETECTORS, MITIGATIONS, NONE, SCANS, Setting
from experiments.kept import Kept
from lightning_adv.detectors import Detector
from lightning_adv.errors import InputError
from lightning_adv.inspectors import Inspector
from lightning_adv.metrics.detection import auroc
from lightning_adv.mitigations import Mitigation, Retuning
from lightning_adv.scans import Scan

__all__ = ["CONTROL", "FAMILIES", "UNTOLD", "Bench", "Figures"]

Figures = dict[str, float | int | str | list[int] | None]
"""What is measured of a cell, as plain data; of a method that refused the model, the reason as ``refused``."""

FAMILIES = ("model", "scans", "inspectors", "detectors", "mitigations")
FALSE_ALARMS = 0.05

UNTOLD = "not told of the trigger"
"""What the clean network of the same seed gives images with the trigger."""

CONTROL = "never poisoned"
"""What retuning makes of the clean network of the same seed."""


class Bench:
    """The cells of one attack on one data set with one seed.

    Args:
        attack: key of ``ATTACKS``.
        seed: of everything that is random.
        setting: data, network, budgets.
        root: folder of the data.
        folder: keeps the figures and the weights.
    """

    def __init__(self, attack: str, seed: int, setting: Setting, root: str, folder: Path) -> None:
        self.attack, self.seed, self.setting, self.root, self.folder = attack, seed, setting, root, folder
        self.kept = Kept(folder / attack.replace(" ", "_") / str(seed))

    @cached_property
    def subject(self) -> Subject:
        """Made when a cell is missing; a bench that has all of its cells trains nothing."""
        of = hashlib.sha256(self._words.encode()).hexdigest()[:8]  # another setting's weights do not fit
        weights = self.kept.path(f"weights {of}", "safetensors")
        return Subject.of(ATTACKS[self.attack], self.seed, self.setting, self.root, weights, self._own)

    def cells(self, family: str, methods: Collection[str] | None = None) -> Iterator[tuple[str, Figures]]:
        """Name and figures of each method of a family; of one that does not suit the model, why.

        Args:
            family: one of ``FAMILIES``.
            methods: only these of it; default all.
        """
        if family == "model":
            yield family, self._kept("model model", "", self._model)
            if self.attack != NONE:
                yield UNTOLD, self._kept(f"model {UNTOLD}", "", self._untold)
                yield CONTROL, self._kept(f"model {CONTROL}", repr(Retuning(seed=self.seed)), self._control)
            return
        if self.attack == NONE and family == "detectors":
            return  # there is nothing to tell apart
        makers, measure = {
            "scans": (SCANS, self._scan),
            "inspectors": (self.setting.inspectors, self._inspect),
            "detectors": (DETECTORS, self._detect),
            "mitigations": (MITIGATIONS, self._mend),
        }[family]
        for name in [each for each in makers if methods is None or each in methods]:
            method = makers[name](self.seed)
            yield name, self._kept(f"{family} {name}", repr(method), partial(measure, method))

    def _kept(self, name: str, method: str, measure: Callable[[Subject], Figures]) -> Figures:
        setting = "; ".join(filter(None, (self._words, method)))
        return self.kept.figures(name, partial(self._timed, measure), setting)

    def _timed(self, measure: Callable[[Subject], Figures]) -> Figures:
        """Figures and seconds of a method, or why it refuses the model, which is there by now."""
        subject = self.subject  # which data that are not there refuse, and no method
        began = time.perf_counter()
        try:
            found = measure(subject)
        except InputError as error:
            return {"refused": str(error)}
        return {**found, "seconds": time.perf_counter() - began}

    @property
    def _words(self) -> str:
        return "; ".join(filter(None, (self.setting.in_words, ATTACKS[self.attack].form)))

    def _model(self, subject: Subject) -> Figures:
        return {
            "clean_accuracy": share(subject.model, *subject.test),
            "attack_success": subject.success(subject.model),
            "false_activation": subject.false_activation(),
            "poisoned": len(subject.poisoned),
        }

    def _own(self) -> nn.Module:
        """The attacker's: of another seed, for the one to be poisoned is not there yet."""
        return self._clean_of(self.seed + 1).model

    def _clean_of(self, seed: int) -> Subject:
        return Bench(NONE, seed, self.setting, self.root, self.folder).subject

    @cached_property
    def _clean(self) -> Subject:
        """The clean network of the same seed, in tests of this attack."""
        return replace(self._clean_of(self.seed), trigger=self.subject.trigger, sources=self.subject.sources)

    def _untold(self, _: Subject) -> Figures:
        """What a trigger does by itself: it may look like the target."""
        return {"attack_success": self._clean.success(self._clean.model)}

    def _control(self, _: Subject) -> Figures:
        """What retuning teaches a network that nobody poisoned."""
        return {"retuned": self._retuned(copy.deepcopy(self._clean.model), self._clean)}

    def _retuned(self, model: nn.Module, subject: Subject) -> float | None:
        Retuning(seed=self.seed)(model, [subject.defended], subject.trigger, subject.target)
        return subject.success(model)

    def _scan(self, scan: Scan, subject: Subject) -> Figures:
        """Against the plan; cover images, whose labels are right, count as clean."""
        report = scan(subject.model, [tuple(subject.trained_on)], [subject.defended])
        suspect, score = report.suspect.cpu(), report.score.cpu()
        truth = torch.isin(report.index.cpu(), subject.poisoned)
        return {
            "recall": _of(suspect & truth, truth),
            "false_alarms": _of(suspect & ~truth, ~truth),
            "precision": _of(suspect & truth, suspect),
            "auroc": auroc(score[~truth], score[truth]) if truth.any() else None,
            "flagged": report.flagged,
        }

    def _inspect(self, inspector: Inspector, subject: Subject) -> Figures:
        report = inspector(subject.model, [subject.defended])
        return {"flagged": report.flagged, "significant": report.significant, "p_value": report.p_value}

    def _detect(self, detector: Detector, subject: Subject) -> Figures:
        """Test images as they are against those of source classes that carry the trigger."""
        count = self.setting.judged
        clean, triggered = subject.test[0][:count], subject.triggered()[:count]
        detector = detector.fit(subject.model, [subject.defended])
        scores = [detector.score(subject.model, each) for each in (clean, triggered)]
        level = torch.quantile(scores[0].double(), 1 - FALSE_ALARMS)
        return {
            "auroc": auroc(*scores),
            "detected": float((scores[1] > level).double().mean()),
            "own_detected": _mean(detector.decide(subject.model, triggered).suspicious),
            "own_false_alarms": _mean(detector.decide(subject.model, clean).suspicious),
        }

    def _mend(self, mitigation: Mitigation, subject: Subject) -> Figures:
        mended = copy.deepcopy(subject.model)
        mitigation(mended, [subject.defended])
        found: Figures = {"clean_accuracy": share(mended, *subject.test), "attack_success": subject.success(mended)}
        if subject.trigger is not None:
            found["retuned"] = self._retuned(mended, subject)
        return found


def _of(some: Tensor, all_: Tensor) -> float | None:
    return int(some.sum()) / int(all_.sum()) if all_.any() else None


def _mean(mask: Tensor) -> float:
    return float(mask.double().mean())
