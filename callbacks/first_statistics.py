"""BatchNorm's running statistics, taken from the first batch instead of being approached from nowhere."""

from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.utilities.types import STEP_OUTPUT
from torch import nn

__all__ = ["FirstStatistics"]

BATCH_NORM = nn.modules.batchnorm._BatchNorm


class FirstStatistics(Callback):
    """The first training batch sets the running statistics of BatchNorm, later ones move them.

    So do the authors of training on generated images (Wang et al., Better Diffusion Models, 2023). The statistics
    begin at mean 0 and variance 1, which is nobody's, and with a momentum of .01, as those networks have, it takes
    hundreds of steps to get away from there. In the first batch of a run the momentum is 1. A run that is resumed keeps
    its statistics. Leave this out of fine-tuning, which begins with good ones.

    Example:
        >>> from pytorch_lightning import Trainer
        >>> trainer = Trainer(callbacks=[FirstStatistics()], logger=False, enable_checkpointing=False)
    """

    def __init__(self) -> None:
        self._usual: dict[BATCH_NORM, float | None] = {}

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: tuple, batch_idx: int) -> None:
        """Let the first batch replace what there is."""
        if trainer.global_step == 0 and batch_idx == 0:
            self._usual = {each: each.momentum for each in pl_module.modules() if isinstance(each, BATCH_NORM)}
            for layer in self._usual:
                layer.momentum = 1.0

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: STEP_OUTPUT, batch: tuple, batch_idx: int
    ) -> None:
        """Give the layers their momentum back."""
        self._give_back()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """The same where the batch fails."""
        self._give_back()

    def _give_back(self) -> None:
        for layer, momentum in self._usual.items():
            layer.momentum = momentum
        self._usual = {}
