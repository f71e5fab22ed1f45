import pytest
import torch
from torch.utils.data import DataLoader, WeightedRandomSampler

from lightning_adv.backdoors import Patch
from lightning_adv.data import CleansedDataModule, PoisonedDataModule
from lightning_adv.data.poisoned_sets import labels_of
from lightning_adv.data.roles import numbers_of, poisoned_and_cover
from lightning_adv.errors import InputError
from lightning_adv.scans import ScanReport
from lightning_adv.scans.scan_file import save_scan
from tests.callbacks.test_poison_scan import Data, poisoned
from tests.data.builders import MarkedData, numbers_in

pytestmark = pytest.mark.filterwarnings("ignore:.*does not have many workers")


def written(folder, dataset, suspects, label=None):
    """The path of a scan of a data set that suspects images of some numbers."""
    number = numbers_of(dataset).sort().values
    label = torch.zeros(len(number), dtype=torch.long) if label is None else label
    suspect = torch.isin(number, torch.as_tensor(suspects))
    path = folder / "scan.safetensors"
    save_scan(path, ScanReport("by hand", number, label, torch.zeros(len(number)), suspect, ()))
    return str(path)


def marked(**changes):
    return PoisonedDataModule(MarkedData(batch_size=4), Patch(size=2), 1, 6, cover=8, **changes)


def labels(dataset):
    label, number = labels_of(dataset)
    return label[number.argsort()]


def seen(data):
    batches = [data.on_after_batch_transfer(each, 0) for each in data.train_dataloader()]
    return torch.cat([each.index for each in batches]), torch.cat([each.label for each in batches])


def test_what_is_left_are_the_other_images_poisoned_as_before(tmp_path):
    dataset, plan = marked().train_dataloader().dataset, marked().plan
    suspects = [*plan.poisoned.tolist()[:4], *plan.cover.tolist()[:2]]
    data = CleansedDataModule(marked(), written(tmp_path, dataset, suspects, labels(dataset)))
    left = data.train_dataloader().dataset
    assert set(left.index.tolist()) == set(dataset.index.tolist()) - set(suspects)
    index, label = seen(data)
    assert not set(suspects) & set(index.tolist())
    still = torch.isin(index, plan.poisoned)
    assert set(index[still].tolist()) <= set(plan.poisoned.tolist()[4:])
    assert (label[still] == 1).all()
    found, _ = poisoned_and_cover(left, data.plan)
    assert found.tolist() == plan.poisoned.tolist()[4:]


def test_the_suspects_alone_can_be_trained_on(tmp_path):
    dataset = marked().train_dataloader().dataset
    suspects = marked().plan.poisoned.tolist()[:5]
    path = written(tmp_path, dataset, suspects, labels(dataset))
    data = CleansedDataModule(marked(), path, only_suspects=True)
    index, label = seen(data)
    assert set(index.tolist()) <= set(suspects)
    assert (label == 1).all(), "as they are poisoned"
    assert sorted(data.train_dataloader().dataset.index.tolist()) == suspects
    with pytest.raises(InputError, match="another scan"):
        CleansedDataModule(marked(), path).load_state_dict(data.state_dict())
    nobody = CleansedDataModule(marked(), written(tmp_path, dataset, [], labels(dataset)), only_suspects=True)
    with pytest.raises(InputError, match="suspects no image"):
        nobody.train_dataloader()


def test_a_copy_that_covers_goes_and_its_original_stays(tmp_path):
    data = marked(cover_copies=True)
    dataset = data.train_dataloader().dataset
    copy = int(data.plan.cover[0]) + dataset.stride
    cleansed = CleansedDataModule(data, written(tmp_path, dataset, [copy], labels(dataset)))
    left = cleansed.train_dataloader().dataset.index.tolist()
    assert copy not in left
    assert copy - dataset.stride in left
    assert len(left) == len(dataset) - 1


def test_the_images_of_a_stranger_are_left_out_by_their_places_and_keep_their_numbers(tmp_path):
    data, suspects = poisoned(cover=5, cover_copies=True), [3, 7, 241]
    whole = data.train_dataloader().dataset
    cleansed = CleansedDataModule(data, written(tmp_path, whole, suspects))
    loader = cleansed.train_dataloader()
    assert len(loader.dataset) == 242
    assert torch.equal(numbers_of(loader.dataset), torch.tensor([n for n in range(245) if n not in suspects]))
    assert torch.equal(loader.dataset[3][0], whole[4][0])
    found, cover = poisoned_and_cover(loader.dataset, data.plan)
    assert found.tolist() == [n for n in data.plan.poisoned.tolist() if n not in suspects]
    assert cover.tolist() == [240, 242, 243, 244]
    assert len(next(iter(loader))[0]) == 16


def test_images_to_evaluate_on_are_those_of_the_data(tmp_path):
    dataset = marked().train_dataloader().dataset
    cleansed = CleansedDataModule(marked(), written(tmp_path, dataset, [], labels(dataset)))
    for name in ("val_dataloader", "test_dataloader", "calibration_dataloader"):
        found, expected = (next(iter(getattr(each, name)())) for each in (cleansed, marked()))
        assert numbers_in(found.image) == numbers_in(expected.image)
    assert cleansed.predict_dataloader() == []
    assert cleansed.num_classes == 4


def test_a_run_goes_on_without_the_same_suspects_alone(tmp_path):
    (tmp_path / "other").mkdir()
    dataset = marked().train_dataloader().dataset
    one, other = (
        CleansedDataModule(marked(), written(folder, dataset, suspects, labels(dataset)))
        for folder, suspects in ((tmp_path, [0, 1]), (tmp_path / "other", [0, 2]))
    )
    state = one.state_dict()
    CleansedDataModule(marked(), one.scan).load_state_dict(state)
    with pytest.raises(InputError, match="suspects of another scan"):
        other.load_state_dict(state)


def test_a_scan_of_other_images_is_refused(tmp_path):
    more, few = MarkedData(train_count=50), MarkedData(train_count=34)
    path = written(tmp_path, more.images("train"), [2], labels(more.images("train")))
    with pytest.raises(InputError, match="a scan of other images: number"):
        CleansedDataModule(few, path).train_dataloader()
    path = written(tmp_path, few.images("train"), [2], (labels(few.images("train")) + 1) % 4)
    with pytest.raises(InputError, match="most of their labels differ"):
        CleansedDataModule(few, path).train_dataloader()


def test_a_scan_that_leaves_nothing_is_refused(tmp_path):
    images = MarkedData().images("train")
    path = written(tmp_path, images, images.index.tolist(), labels(images))
    with pytest.raises(InputError, match="nothing is left"):
        CleansedDataModule(MarkedData(), path).train_dataloader()


def test_an_order_of_images_that_cannot_be_kept_is_refused(tmp_path):
    class Weighted(Data):
        def train_dataloader(self):
            dataset = super().train_dataloader().dataset
            return DataLoader(dataset, sampler=WeightedRandomSampler(torch.ones(240), 240))

    path = written(tmp_path, Data().train_dataloader().dataset, [1])
    with pytest.raises(InputError, match="shuffle=True"):
        CleansedDataModule(Weighted(), path).train_dataloader()
