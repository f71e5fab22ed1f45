"""Purifiers against attacks under threat models, at the end of an epoch."""

import torch
from pytorch_lightning import LightningModule, Trainer
from torch import Tensor

from lightning_adv.asking import predicted
from lightning_adv.attacks import Attack
from lightning_adv.callbacks.evaluation import EpochEndEvaluation, When
from lightning_adv.errors import InputError
from lightning_adv.evaluation.judge import Judge
from lightning_adv.evaluation.logits import check_labels, clean_logits, nan_warnings
from lightning_adv.evaluation.share import EvaluationBatch, Share
from lightning_adv.purifiers import PurifiedClassifier, Purifier, ThreatModel, as_threat_models
from lightning_adv.results.purification import NONE, PurificationResult, PurificationRow
from lightning_adv.results.purification_tally import DrawsTally
from lightning_adv.results.strips import Strip, StripRow

__all__ = ["PurificationEvaluation"]

Key = tuple[str, str, str]
"""Names of purifier, attack and threat model."""

Shown = tuple[Tensor, Tensor]
"""A few images [n, C, H, W] and what is said of them [n], on the CPU."""


class PurificationEvaluation(EpochEndEvaluation):
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
        every_n_epochs: in fit; the last epoch is always evaluated.
        batch_size: images a batch on one rank; None for the data loader's.
        examples: images that the strips show.
        pictures: log pictures and tables "last" (after the last epoch, in validate and test), "always" or "never".
        seed: of the choice of images, and of the attackers' draws.
        name: part of the keys; two callbacks in one trainer need two names.

    Raises:
        InputError: no purifier or attack, a name that is taken, unknown threat models; before training starts: a
            purifier that does not fit the images.

    Example:
        >>> from lightning_adv.attacks import PGD
        >>> from lightning_adv.purifiers import JPEG
        >>> PurificationEvaluation({"jpeg": JPEG(90)}, {"pgd": PGD(eps="8/255")}, max_samples=500).name
        'purification'
    """

    def __init__(
        self,
        purifiers: dict[str, Purifier],
        attacks: dict[str, Attack],
        threat_models: list[str] = ["blind", "bpda", "bpda_eot", "adaptive"],  # noqa: B006 (the command line shows it)
        black_box: Attack | None = None,
        draws: int = 5,
        attack_draws: int = 8,
        max_samples: int | None = 500,
        every_n_epochs: int = 1,
        batch_size: int | None = None,
        examples: int = 6,
        pictures: When = "last",
        seed: int = 0,
        name: str = "purification",
    ) -> None:
        super().__init__(name, every_n_epochs, max_samples, batch_size, pictures, seed)
        for argument, given in (("purifiers", purifiers), ("attacks", attacks)):
            if not given:
                raise InputError(f"PurificationEvaluation needs at least one of {argument}")
            if any(not key or "/" in key or key in (NONE, "undefended") for key in given):
                raise InputError(f"names of {argument} must not be empty, {NONE!r} or 'undefended', nor hold a slash")
        for argument, value in (("draws", draws), ("attack_draws", attack_draws), ("examples + 1", examples + 1)):
            if value < 1:
                raise InputError(f"{argument} of PurificationEvaluation must be at least 1, got {value}")
        self.threat_models = as_threat_models(threat_models)
        if (ThreatModel.BLACK_BOX in self.threat_models) != (black_box is not None):
            raise InputError("threat model black_box and argument black_box (its attack, e.g. Square) go together")
        self.purifiers, self.attacks, self.black_box = purifiers, attacks, black_box
        self.draws, self.attack_draws, self.examples = draws, attack_draws, examples

    def check(self, model: LightningModule, images: Share) -> None:
        """Purify and classify one image with each purifier."""
        first = images.first().image
        for purifier in self.purifiers.values():
            clean_logits(PurifiedClassifier(purifier.to(first.device), model), first)

    def evaluate(self, trainer: Trainer, model: LightningModule, images: Share) -> None:
        """Attack, purify and classify this rank's images."""
        self._judge = Judge(model, images, self.seed, self.draws)
        self._classes = self._judge.classes
        self._tallies = {key: DrawsTally(self._classes, self.draws).to(model.device) for key in self._keys()}
        self._shown: dict[Key, list[Shown]] = {}
        self._purified: dict[Key, list[Shown]] = {}
        self._labels: list[Tensor] = []
        for batch in self.track(trainer, images.balanced(), self.name):
            check_labels(batch.label, self._classes)
            self._evaluate(model, batch)

    def results(self, trainer: Trainer) -> PurificationResult:
        """Counts over all ranks."""
        rows, warnings = [], []
        for (purifier, attack, threat), tally in self._tallies.items():
            counts = {name: value.tolist() for name, value in tally.compute().items()}
            kind = ", ".join(each for each in (purifier, attack, threat) if each != NONE)
            warnings += nan_warnings(counts["no_class"], counts["samples"], kind)
            pooled = {f"{name}_correct": counts[name] for name in ("mean", "vote", "worst")}
            shared = {"samples": counts["samples"], "correct": counts["correct"], "confusion": counts["confusion"]}
            rows.append(PurificationRow(purifier, attack, threat, **shared, **pooled))
        names = getattr(trainer.datamodule, "class_names", None)
        named = {**self.purifiers, **self.attacks}
        if self.black_box is not None:
            named[_name_of(self.black_box)] = self.black_box
        return PurificationResult(
            title="Purification",
            warnings=self._judge.notes + warnings,
            rows=rows,
            descriptions={name: " ".join(repr(each).split()) for name, each in named.items()},
            class_names=list(names) if names and len(names) == self._classes else list(map(str, range(self._classes))),
            strips=self._strips() if self._labels else [],
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

    def _evaluate(self, model: LightningModule, batch: EvaluationBatch) -> None:
        image = batch.image.float()
        blind = {NONE: image}
        blind |= {
            name: attack(model, image, batch.label, index=batch.index).to(image.device)
            for name, attack in self.attacks.items()
        }
        wanted = max(0, self.examples - sum(map(len, self._labels)))
        if wanted:
            self._labels.append(batch.label[:wanted].cpu())
        for key, tally in self._tallies.items():
            purifier, attack, threat = key
            if purifier == NONE:
                logits = self._judge.each_draw(blind[attack], batch.index).transpose(0, 1).expand(self.draws, -1, -1)
                self._keep(key, blind[attack], logits[0], None, wanted)
                tally.update(batch.label, logits)
                continue
            whole = PurifiedClassifier(self.purifiers[purifier].to(image.device), model)
            attacked = blind[attack] if threat in (NONE, "blind") else self._attacked(whole, key, image, batch)
            logits = whole.judge(attacked, batch.index, self.draws, randomised=self._judge.draws > 1)
            self._keep(key, attacked, logits[0], whole.purifier(attacked[:wanted], batch.index[:wanted]), wanted)
            tally.update(batch.label, logits)

    def _attacked(self, whole: PurifiedClassifier, key: Key, image: Tensor, batch: EvaluationBatch) -> Tensor:
        threat = ThreatModel(key[2])
        attack = self.black_box if threat is ThreatModel.BLACK_BOX else self.attacks[key[1]]
        return whole.attacked(attack, threat, image, batch.label, batch.index, self.attack_draws, self.seed)

    def _keep(self, key: Key, attacked: Tensor, logits: Tensor, purified: Tensor | None, wanted: int) -> None:
        """The first images of this rank, for the strips (rank zero draws them)."""
        if not wanted:
            return
        said = predicted(logits[:wanted]).cpu()
        self._shown.setdefault(key, []).append((attacked[:wanted].detach().cpu(), said))
        if purified is not None:
            self._purified.setdefault(key, []).append((purified.detach().cpu(), said))

    def _strips(self) -> list[Strip]:
        labels = torch.cat(self._labels)
        strips = []
        for attack in self.attacks:
            rows = [_row("clean", self._shown[NONE, NONE, NONE]), _row("attacked", self._shown[NONE, attack, NONE])]
            blind = [(name, self._purified.get((name, attack, "blind"))) for name in self.purifiers]
            rows += [_row(name, shown) for name, shown in blind if shown]
            if len(rows) > 2:
                strips.append(Strip(f"{attack}_blind", f"{attack}, blind, then purified", labels, rows))
            rows = [rows[0]]
            for purifier in self.purifiers:
                informed = [key for key in self._purified if key[:2] == (purifier, attack) and key[2] != "blind"]
                for key in informed[-1:]:
                    rows.append(_row(f"{purifier}:\n{key[2]}", self._shown[key]))
                    rows.append(_row("purified", self._purified[key]))
            if len(rows) > 1:
                strips.append(Strip(f"{attack}_informed", f"{attack}, knowing the purifier", labels, rows))
        return strips


def _row(name: str, shown: list[Shown]) -> StripRow:
    images, said = (torch.cat(parts) for parts in zip(*shown, strict=True))
    return StripRow(name, images, said)


def _name_of(attack: Attack) -> str:
    return type(attack).__name__.lower()
