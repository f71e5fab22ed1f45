"""Who says which class an image is: one forward of the model, or the mean of several where it is randomised."""

from pytorch_lightning import LightningModule
from torch import Tensor

from lightning_adv.asking import logits_in_parts
from lightning_adv.attacks import AttackResult
from lightning_adv.attacks.randomised import VERDICT_DRAWS, answered_twice, averaged, drawn_logits, judged_again
from lightning_adv.evaluation.share import EvaluationBatch, Share

__all__ = ["Judge"]


class Judge:
    """The model's verdict on batches of an evaluation, clean and attacked alike.

    Two forwards of one image tell whether the model is randomised. If it is, every verdict, that on clean images too,
    is the mean prediction over ``draws`` draws that no attack has seen. An image meets the same noise before and after
    an attack, so that nothing falls by luck. The noise is that of a batch: verdicts depend on the batch size, and not
    on who of the ranks judges.

    Args:
        model: in evaluation mode.
        images: of the evaluation; made on all ranks, which agree on what they saw.
        seed: of the draws.
        draws: of a randomised model; :attr:`draws` is 1 where it is not.
    """

    def __init__(self, model: LightningModule, images: Share, seed: int = 0, draws: int = VERDICT_DRAWS) -> None:
        self.model, self.seed = model, seed
        once, differs = answered_twice(model, images.first().image)
        randomised = images.trainer.strategy.reduce_boolean_decision(differs, all=False)
        self.classes, self.draws = once.shape[1], draws if randomised else 1

    @property
    def notes(self) -> list[str]:
        """What a reader of verdicts must know."""
        if self.draws == 1:
            return []
        return [
            "the model answers differently to the same images: its class is that of the mean prediction over "
            f"{self.draws} draws that no attack has seen"
        ]

    def __call__(self, image: Tensor, index: Tensor) -> Tensor:
        """Logits [N, K] of the verdict on a batch of images [N, C, H, W] with the numbers ``index`` [N]."""
        return logits_in_parts(self.model, image) if self.draws == 1 else averaged(self.each_draw(image, index))

    def each_draw(self, image: Tensor, index: Tensor) -> Tensor:
        """Logits [N, draws, K] of the draws."""
        if self.draws == 1:
            return logits_in_parts(self.model, image)[:, None]
        seed = (self.seed << 40) + int(index[0]) if len(index) else self.seed
        return drawn_logits(self.model, image, self.draws, seed)

    def verdict(self, result: AttackResult, batch: EvaluationBatch, rows: Tensor, reaches: bool) -> AttackResult:
        """What is left of an attack on the images ``rows`` of a batch; all of it where the model is not randomised.

        Args:
            result: of the attack, an entry for each of ``rows``.
            batch: all images that the clean verdict was given on.
            rows: [M] positions in the batch.
            reaches: whether the attack aims at classes (``Attack.reaches``).
        """
        if self.draws == 1:
            return result
        whole = batch.image.float().index_copy(0, rows, result.images)
        return judged_again(result, self(whole, batch.index)[rows], batch.label[rows], reaches, self.draws)
