"""Purifiers against attacks under threat models, at the end of an epoch."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from pytorch_lightning import LightningModule, Trainer
from torch import Tensor

from lightning_adv.asking import check_labels, logits_in_parts, predicted
from lightning_adv.attacks import Attack
from lightning_adv.callbacks.evaluation import EpochEndEvaluation, Shared
from lightning_adv.errors import InputError
from lightning_adv.evaluation.first_few import FirstFew
from lightning_adv.evaluation.judge import Judge
from lightning_adv.evaluation.logits import nan_warnings
from lightning_adv.evaluation.share import EvaluationBatch, Share
from lightning_adv.purifiers import PurifiedClassifier, Purifier, ThreatModel, as_threat_models
from lightning_adv.results.purification import NONE, PurificationResult, PurificationRow
from lightning_adv.results.purification_tally import DrawsTally
from lightning_adv.results.strips import Strip, StripRow

__all__ = ["PurificationEvaluation"]

Key = tuple[str, str, str]
"""Names of purifier, attack and threat model."""


@dataclass(frozen=True)
class _Measured:
    """What this rank has measured; of its first images the labels, and images with predictions by kind."""

    judge: Judge
    tallies: dict[Key, DrawsTally]
    labels: FirstFew
    attacked: dict[Key, FirstFew]
    purified: dict[Key, FirstFew]


class PurificationEvaluation(EpochEndEvaluation[_Measured]):
    """Accuracy behind purifiers, clean and attacked, by what the attacker knows.

    Works with any LightningModule whose ``forward`` maps images in [0, 1] to logits. Blind attacks are made once and
    handed to every purifier; a threat model that says no more of a purifier than another one is left out (EOT of a
    fixed purifier, an exact gradient that does not exist). The result warns where only blind figures look good.

    Logs ``{stage}/{name}/<purifier>/<attack>/<threat>/robust_accuracy``, ``.../<purifier>/clean_accuracy``,
    ``.../<purifier>/informed_accuracy`` (the least under any attacker who knows the purifier) and
    ``.../undefended/...``.

    Args:
        purifiers: by name.
        attacks: by name; each is run under every threat model but "black_box".
        threat_models: some of "blind", "bpda", "bpda_eot", "adaptive", "black_box".
        black_box: the attack of "black_box", on outputs alone, e.g. ``Square``.
        draws: of a randomised purifier, or classifier, for each verdict.
        attack_draws: that every gradient averages over under "bpda_eot" and "adaptive".
        max_samples: images over all ranks, a seeded choice; None for all.
        examples: images that the strips show.
        **shared: see ``EpochEndEvaluation``; ``seed`` is also that of the attackers' draws.

    Raises:
        InputError: no purifier or attack, a name that is taken, unknown threat models; before training starts: a
            purifier that does not fit the images.

    Example:
        >>> from lightning_adv.attacks import PGD
        >>> from lightning_adv.purifiers import JPEG
        >>> PurificationEvaluation({"jpeg": JPEG(90)}, {"pgd": PGD(eps="8/255")}, max_samples=500).name
        'purification'
    """

    default_name: ClassVar[str] = "purification"
    named_by_default: ClassVar[bool] = True

    def __init__(
        self,
        purifiers: dict[str, Purifier],
        attacks: dict[str, Attack],
        threat_models: list[str] = ["blind", "bpda", "bpda_eot", "adaptive"],  # noqa: B006 (the command line shows it)
        black_box: Attack | None = None,
        draws: int = 5,
        attack_draws: int = 8,
        max_samples: int | None = 500,
        examples: int = 6,
        **shared: Shared,
    ) -> None:
        super().__init__(max_samples=max_samples, **shared)
        self.require(1, draws=draws, attack_draws=attack_draws)
        self.require(0, examples=examples)
        for argument, given in (("purifiers", purifiers), ("attacks", attacks)):
            if not given:
                raise InputError(f"PurificationEvaluation needs at least one of {argument}")
            if any(not key or "/" in key or key in (NONE, "undefended") for key in given):
                raise InputError(f"names of {argument} must not be empty, {NONE!r} or 'undefended', nor hold a slash")
        self.threat_models = as_threat_models(threat_models)
        if (ThreatModel.BLACK_BOX in self.threat_models) != (black_box is not None):
            raise InputError("threat model black_box and argument black_box (its attack, e.g. Square) go together")
        self.purifiers, self.attacks, self.black_box = purifiers, attacks, black_box
        self.draws, self.attack_draws, self.examples = draws, attack_draws, examples

    def check(self, model: LightningModule, images: Share) -> None:
        """Purify and classify one image with each purifier."""
        first = images.first().image
        for purifier in self.purifiers.values():
            logits_in_parts(PurifiedClassifier(purifier.to(first.device), model), first)

    def evaluate(self, trainer: Trainer, model: LightningModule, images: Share) -> _Measured:
        """Attack, purify and classify this rank's images."""
        judge = Judge(model, images, self.seed, self.draws)
        tallies = {key: DrawsTally(judge.classes, self.draws).to(model.device) for key in self._keys()}
        measured = _Measured(judge, tallies, FirstFew(self.examples), {}, {})
        for batch in self.track(trainer, images.balanced(), self.name):
            check_labels(batch.label, judge.classes)
            self._evaluate(model, batch, measured)
        return measured

    def results(self, trainer: Trainer, measured: _Measured) -> PurificationResult:
        """Counts over all ranks."""
        rows, warnings = [], []
        for (purifier, attack, threat), tally in measured.tallies.items():
            counts = {name: value.tolist() for name, value in tally.compute().items()}
            # torchmetrics takes a single number out of its list
            correct = counts["correct"] if self.draws > 1 else [counts["correct"]]
            kind = ", ".join(each for each in (purifier, attack, threat) if each != NONE)
            warnings += nan_warnings(counts["no_class"], counts["samples"], kind)
            pooled = {f"{name}_correct": counts[name] for name in ("mean", "vote", "worst")}
            shared = {"samples": counts["samples"], "correct": correct, "confusion": counts["confusion"]}
            rows.append(PurificationRow(purifier, attack, threat, **shared, **pooled))
        named = {**self.purifiers, **self.attacks}
        if self.black_box is not None:
            named[_name_of(self.black_box)] = self.black_box
        return PurificationResult(
            title="Purification",
            warnings=measured.judge.notes + warnings,
            rows=rows,
            descriptions={name: " ".join(repr(each).split()) for name, each in named.items()},
            class_names=self.class_names(trainer, measured.judge.classes),
            strips=self._strips(measured),
        )

    def _keys(self) -> list[Key]:
        keys = [(NONE, NONE, NONE), *((NONE, attack, NONE) for attack in self.attacks)]
        for name, purifier in self.purifiers.items():
            keys.append((name, NONE, NONE))
            for threat in self.threat_models:
                if threat is ThreatModel.BLACK_BOX:
                    keys.append((name, _name_of(self.black_box), threat.value))
                elif PurifiedClassifier(purifier, torch.nn.Identity()).applies(threat):
                    keys += [(name, attack, threat.value) for attack in self.attacks]
        return keys

    def _evaluate(self, model: LightningModule, batch: EvaluationBatch, measured: _Measured) -> None:
        image, judge = batch.image.float(), measured.judge
        blind = {NONE: image}
        blind |= {
            name: attack(model, image, batch.label, index=batch.index).to(image.device)
            for name, attack in self.attacks.items()
        }
        wanted = measured.labels.wanted
        measured.labels.add(batch.label)
        for key, tally in measured.tallies.items():
            purifier, attack, threat = key
            if purifier == NONE:
                attacked = blind[attack]
                logits = judge.each_draw(attacked, batch.index).transpose(0, 1).expand(self.draws, -1, -1)
            else:
                whole = PurifiedClassifier(self.purifiers[purifier].to(image.device), model)
                attacked = blind[attack] if threat in (NONE, "blind") else self._attacked(whole, key, image, batch)
                logits = whole.judge(attacked, batch.index, self.draws, randomised=judge.draws > 1)
            tally.update(batch.label, logits)
            said = predicted(logits[0])
            if wanted:
                measured.attacked.setdefault(key, FirstFew(self.examples)).add(attacked, said)
            if wanted and purifier != NONE:
                purified = whole.purifier(attacked[:wanted], batch.index[:wanted])
                measured.purified.setdefault(key, FirstFew(self.examples)).add(purified, said[:wanted])

    def _attacked(self, whole: PurifiedClassifier, key: Key, image: Tensor, batch: EvaluationBatch) -> Tensor:
        threat = ThreatModel(key[2])
        attack = self.black_box if threat is ThreatModel.BLACK_BOX else self.attacks[key[1]]
        return whole.attacked(attack, threat, image, batch.label, batch.index, self.attack_draws, self.seed)

    def _strips(self, measured: _Measured) -> list[Strip]:
        labels = measured.labels.joined()
        if labels is None:
            return []
        attacked = {key: few.joined() for key, few in measured.attacked.items()}
        purified = {key: few.joined() for key, few in measured.purified.items()}
        strips = []
        for attack in self.attacks:
            rows = [StripRow("clean", *attacked[NONE, NONE, NONE]), StripRow("attacked", *attacked[NONE, attack, NONE])]
            blind = [(name, purified.get((name, attack, "blind"))) for name in self.purifiers]
            rows += [StripRow(name, *shown) for name, shown in blind if shown]
            if len(rows) > 2:
                strips.append(Strip(f"{attack}_blind", f"{attack}, blind, then purified", labels[0], rows))
            rows = [rows[0]]
            for purifier in self.purifiers:
                informed = [key for key in purified if key[:2] == (purifier, attack) and key[2] != "blind"]
                for key in informed[-1:]:
                    rows.append(StripRow(f"{purifier}:\n{key[2]}", *attacked[key]))
                    rows.append(StripRow("purified", *purified[key]))
            if len(rows) > 1:
                strips.append(Strip(f"{attack}_informed", f"{attack}, knowing the purifier", labels[0], rows))
        return strips


def _name_of(attack: Attack) -> str:
    return type(attack).__name__.lower()
