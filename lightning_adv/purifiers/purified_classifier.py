"""A purifier and a classifier as one, and how to attack it without fooling oneself (Athalye et al., 2018).

A defence that is judged by an attack on the classifier alone is judged by a transfer attack. What counts is the attack
that goes through the purifier: by the exact gradient where there is one, by a surrogate where there is none, over the
mean of several draws where it is randomised.
"""

import torch
from torch import Tensor, nn

from lightning_adv.asking import logits_of
from lightning_adv.attacks import BPDA, EOT, Attack
from lightning_adv.attacks.noise import content_index
from lightning_adv.attacks.randomised import each_draw
from lightning_adv.attacks.trace import leaves_no_trace
from lightning_adv.errors import InputError
from lightning_adv.purifiers.purifier import Purifier
from lightning_adv.purifiers.threat_model import ThreatModel

__all__ = ["PurifiedClassifier"]


class PurifiedClassifier(nn.Module):
    """``classifier(purifier(x))`` as one module.

    Any attack can be run on it: gradients through the purifier are exact where it has them and its surrogate's
    elsewhere. :meth:`attacked` runs one under a stated threat model.

    Args:
        purifier: images to images.
        classifier: images [N, C, H, W] in [0, 1] to logits [N, K].

    Example:
        >>> from lightning_adv.purifiers import BitDepth
        >>> model = PurifiedClassifier(BitDepth(1), nn.Sequential(nn.Flatten(), nn.Linear(4, 3)))
        >>> model(torch.rand(2, 1, 2, 2)).shape
        torch.Size([2, 3])
    """

    def __init__(self, purifier: Purifier, classifier: nn.Module) -> None:
        super().__init__()
        self.purifier, self.classifier = purifier, classifier

    def forward(self, x: Tensor, index: Tensor | None = None, draw: int = 0) -> Tensor:
        """Logits [N, K] of the purified images; arguments as in calling a purifier."""
        return logits_of(self.classifier, self.purifier.with_gradient(x, index, draw))

    @torch.no_grad()
    def judge(self, x: Tensor, index: Tensor | None = None, draws: int = 1, *, randomised: bool = False) -> Tensor:
        """Logits [draws, N, K] of the classifier for several draws; one is enough where nothing is random.

        The seed of a purifier's draw is a function of (seed of the purifier, index, number of the draw).

        Args:
            x: images.
            index: [N] numbers of the samples in their data set.
            draws: forwards.
            randomised: the classifier, too, answers differently to the same images.
        """
        count = draws if self.purifier.randomised or randomised else 1
        with leaves_no_trace(self):
            logits = each_draw(lambda draw: self(x.clone(), index, draw), count).transpose(0, 1)
        return logits if count == draws else logits.expand(draws, -1, -1)

    def attacked(
        self,
        attack: Attack,
        threat: ThreatModel,
        x: Tensor,
        y: Tensor,
        index: Tensor | None = None,
        draws: int = 8,
        seed: int = 0,
    ) -> Tensor:
        """Adversarial images [N, C, H, W] of an attacker who knows what ``threat`` says.

        The attacker draws its own noise, which is not that of :meth:`judge`: a fresh one for every image it tries. A
        blind attacker, who cannot tell when it has won, goes on to the end, and so does one of a randomised purifier.

        Args:
            attack: run with the knowledge of ``threat``; needs no gradient under ``black_box``.
            threat: what the attacker knows.
            x: images, float in [0, 1].
            y: [N] labels.
            index: [N] numbers of the samples in their data set.
            draws: of the purifier that every loss and gradient averages over, with ``bpda_eot`` and ``adaptive``.
            seed: of the attacker's noise.

        Raises:
            InputError: ``adaptive`` for a purifier without an exact gradient.
        """
        threat = ThreatModel(threat)
        if threat is ThreatModel.BLIND:
            return attack(self.classifier, x, y, index=index)
        if threat is ThreatModel.ADAPTIVE and not self.purifier.differentiable:
            raise InputError(
                f"{type(self.purifier).__name__} has no exact gradient: attack it under "
                f"{'bpda_eot' if self.purifier.randomised else 'bpda'}"
            )
        averages = threat in (ThreatModel.BPDA_EOT, ThreatModel.ADAPTIVE) and self.purifier.randomised
        draws = draws if averages else 1
        whole = _AsAttacked(self, threat, draws, seed)
        attack = EOT(attack, draws) if averages else attack
        if self.purifier.randomised:
            return attack(whole, x, y, index=index)
        return attack.run(whole, x, y, index=index).images

    def applies(self, threat: ThreatModel) -> bool:
        """Whether a threat model says more of this purifier than a simpler one: EOT only averages what is random."""
        if threat is ThreatModel.BPDA_EOT:
            return self.purifier.randomised
        return threat is not ThreatModel.ADAPTIVE or self.purifier.differentiable


class _AsAttacked(nn.Module):
    """The whole as an attacker differentiates it, its noise keyed by the image that is tried and the draw.

    Args:
        whole: purifier and classifier.
        threat: which gradient.
        draws: copies of an image that follow each other in a batch.
        seed: of the attacker.
    """

    def __init__(self, whole: PurifiedClassifier, threat: ThreatModel, draws: int, seed: int) -> None:
        super().__init__()
        self.whole, self.exact, self.draws = whole, threat is ThreatModel.ADAPTIVE, draws
        self.draw = -1 - seed  # no draw that a judge takes

    def forward(self, x: Tensor) -> Tensor:
        """Logits [N, K]."""
        purifier = self.whole.purifier
        index = content_index(x) + torch.arange(len(x), device=x.device) % self.draws
        if self.exact:
            return logits_of(self.whole.classifier, purifier(x, index, self.draw))
        step = BPDA(lambda image: purifier(image, index, self.draw), purifier.surrogate)
        return logits_of(self.whole.classifier, step(x))
