"""Random numbers of a training step as a function of its number, so that a resumed run goes on bit for bit."""

import torch

from lightning_adv.data.seeds import derive_seed

__all__ = ["SeededSteps"]


class SeededSteps:
    """Mixed into a LightningModule: the global RNG is seeded before every step from (seed, epoch, batch, rank).

    Dropout, noise and the starts of attacks draw from it, so ranks differ and nothing of the RNG needs to be saved;
    with gradient accumulation the batch number tells steps apart.
    """

    seed: int | None = None

    def on_fit_start(self) -> None:
        """Fix the seed that the noise of every step is made from; a resumed run keeps the one it started with."""
        if self.seed is None or self.trainer.ckpt_path is None:
            self.seed = torch.initial_seed()

    def on_train_batch_start(self, batch: tuple, batch_idx: int) -> None:
        """Seed the step."""
        torch.manual_seed(derive_seed(self.seed, self.current_epoch, batch_idx, self.global_rank))

    def on_save_checkpoint(self, checkpoint: dict) -> None:
        """Keep the seed of the run."""
        checkpoint["step_noise_seed"] = self.seed

    def on_load_checkpoint(self, checkpoint: dict) -> None:
        """Go on with the seed of the run."""
        self.seed = checkpoint.get("step_noise_seed")
