"""Images are purified once, by all ranks together, and trained on as if they had been bought that way."""

from pathlib import Path

import pytest
import torch
from pytorch_lightning import LightningDataModule
from torch import Tensor

from lightning_adv.attacks import SampleNoise
from lightning_adv.data import PurifiedDataModule
from lightning_adv.errors import InputError
from lightning_adv.purifiers import BitDepth, Purifier, TotalVariation
from tests.callbacks.strangers import trainer
from tests.data.builders import MarkedData, NotingModel
from tests.processes import torchrun


class Counting(Purifier):
    """Half as bright and with noise of its own; counts what it is asked for."""

    randomised = True

    def __init__(self, seed: int = 0, weight: float = 0.5, stops_after: int = 10**9) -> None:
        super().__init__(seed)
        self.weight, self._stops_after = weight, stops_after
        self._asked: list[int] = []

    def purify(self, x: Tensor, noise: SampleNoise) -> Tensor:
        if len(self._asked) >= self._stops_after:
            raise KeyboardInterrupt
        self._asked += noise.index.tolist()
        return self.weight * x + 0.1 * noise.uniform(x)


def purified(cache: Path, purifier: Purifier | None = None, **options: object) -> PurifiedDataModule:
    data = PurifiedDataModule(MarkedData(), purifier or Counting(), str(cache), **({"piece": 5} | options))
    data.setup()
    return data


def plain(split: str = "train") -> tuple[Tensor, Tensor, Tensor]:
    data = MarkedData()
    data.setup()
    return data.datasets[split][list(range(len(data.datasets[split])))]


def test_every_image_is_what_the_purifier_makes_of_it_under_its_own_number(tmp_path):
    split = purified(tmp_path).datasets["train"]
    image, label, index = plain()
    batch = split[list(range(len(split)))]
    expected = (Counting()(image / 255, index) * 255).round().byte()
    assert torch.equal(batch.image, expected)
    assert torch.equal(batch.label, label)
    assert torch.equal(batch.index, index)
    assert torch.equal(split.select(torch.tensor([3, 1]))[[1]].image, batch.image[1:2])


def test_other_splits_stay_as_they_are_unless_they_are_named(tmp_path):
    assert torch.equal(purified(tmp_path).datasets["val"][[0, 1]].image, plain("val")[0][:2])
    both = purified(tmp_path, splits=["train", "val"])
    assert not torch.equal(both.datasets["val"][[0, 1]].image, plain("val")[0][:2])


def test_what_is_in_the_cache_is_never_purified_again(tmp_path):
    first = purified(tmp_path)
    again = Counting()
    assert torch.equal(purified(tmp_path, again).datasets["train"].images, first.datasets["train"].images)
    assert again._asked == []
    fewer = Counting()
    purified(tmp_path, fewer, piece=7)
    assert len(fewer._asked) == len(first.datasets["train"])


def test_a_killed_run_goes_on_with_the_piece_it_had_begun(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        purified(tmp_path, Counting(stops_after=10))
    resumed = Counting()
    data = purified(tmp_path, resumed)
    assert len(resumed._asked) == len(data.datasets["train"]) - 10
    whole = purified(tmp_path / "elsewhere").datasets["train"].images
    assert torch.equal(data.datasets["train"].images, whole)


def test_another_purifier_or_other_images_do_not_share_a_folder(tmp_path):
    for purifier in (Counting(), Counting(seed=1), Counting(weight=0.6), BitDepth(1), TotalVariation(steps=2)):
        purified(tmp_path, purifier)
    fewer = PurifiedDataModule(MarkedData(max_train_samples=8), Counting(), str(tmp_path), piece=5)
    fewer.setup()
    assert len(list(tmp_path.iterdir())) == 6


def test_a_trainer_sees_purified_images_and_the_datas_own_order(tmp_path):
    seen = {}
    for name, data in {"purified": purified(tmp_path), "plain": MarkedData()}.items():
        model = NotingModel()
        trainer(max_epochs=2, num_sanity_val_steps=0).fit(model, datamodule=data)
        seen[name] = model.seen
    order = [[(epoch, indices) for epoch, indices, _ in batches] for batches in seen.values()]
    assert order[0] == order[1]
    assert all(a[2] != b[2] for a, b in zip(*seen.values(), strict=True))


def test_a_checkpoint_of_another_purifier_is_refused(tmp_path):
    state = purified(tmp_path).state_dict()
    purified(tmp_path).load_state_dict(state)
    with pytest.raises(InputError, match="images of another purifier"):
        purified(tmp_path, Counting(seed=1)).load_state_dict(state)


def test_a_damaged_file_of_the_cache_is_named_with_a_remedy(tmp_path):
    purified(tmp_path)
    file = sorted(tmp_path.rglob("*.npy"))[1]
    file.write_bytes(file.read_bytes()[:-3])
    with pytest.raises(InputError, match=rf"{file.name} cannot be read .* remove it"):
        purified(tmp_path)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"data": LightningDataModule()}, "this project's datamodules, got LightningDataModule"),
        ({"splits": ["training"]}, "splits must be some of train, val, test, calibration"),
        ({"piece": 0}, "piece must be at least 1"),
    ],
)
def test_what_cannot_be_meant_is_refused(arguments, message):
    with pytest.raises(InputError, match=message):
        PurifiedDataModule(**({"data": MarkedData(), "purifier": BitDepth(1)} | arguments))


SCRIPT = """
import pytorch_lightning as pl, torch
from pytorch_lightning.strategies import DDPStrategy
from tests.data.test_purified import Counting
from tests.data.builders import MarkedData
from lightning_adv.data import PurifiedDataModule

class Quiet(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(36, 4)
    def training_step(self, batch, batch_idx):
        return self.layer(batch.image.flatten(1)).sum()
    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.0)

purifier = Counting()
data = PurifiedDataModule(MarkedData(), purifier, "cache", piece=5)
trainer = pl.Trainer(accelerator="cpu", devices=2, strategy=DDPStrategy(process_group_backend="gloo"), max_epochs=1,
                     logger=False, enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
                     limit_val_batches=0)
trainer.fit(Quiet(), datamodule=data)
torch.save({"asked": purifier._asked, "images": data.datasets["train"].images}, f"{trainer.global_rank}.pt")
"""


@pytest.mark.slow
def test_two_ranks_share_the_work_and_both_see_all_of_it(tmp_path):
    torchrun(SCRIPT, tmp_path, 2)
    ranks = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in (0, 1)]
    alone = purified(tmp_path / "alone").datasets["train"]
    assert sorted(ranks[0]["asked"] + ranks[1]["asked"]) == sorted(alone.index.tolist())
    assert min(len(rank["asked"]) for rank in ranks) >= len(alone) // 2 - 5
    assert all(torch.equal(rank["images"], alone.images) for rank in ranks)
