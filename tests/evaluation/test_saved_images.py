import csv

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from lightning_adv.attacks import FGSM, PGD, WorstOf
from lightning_adv.callbacks import AttackEvaluation
from lightning_adv.evaluation.saved_images import COLUMNS
from tests.callbacks.strangers import images, trainer

EPS, COUNT = 0.06, 75


class Interrupted(Exception):
    """Stands for a kill: raised where an attack would begin with a batch."""


class Limited(PGD):
    """Notes the images it is run on, and stops before a batch if told so; both are no settings."""

    seen: list[int]
    stop: int | None

    def __init__(self) -> None:
        super().__init__(eps=EPS, steps=3)

    def run(self, model, x, y, *, target=None, index=None):
        if Limited.stop is not None and len(Limited.seen) >= Limited.stop:
            raise Interrupted
        Limited.seen += index.tolist()
        return super().run(model, x, y, target=target, index=index)


@pytest.fixture
def saved(model, tmp_path):
    def run(count, folder="run", stop=None):
        Limited.seen, Limited.stop = [], stop
        verdicts = str(tmp_path / folder / "verdicts")
        evaluation = AttackEvaluation({"p/gd": Limited()}, save_images=count, verdicts=verdicts, batch_size=25)
        loader = DataLoader(images(COUNT), batch_size=25)
        trainer(evaluation, folder=tmp_path / folder).validate(model, loader, verbose=False)
        (archive,) = (tmp_path / folder / "adversarial" / "attacks").glob("*/images.npz")
        with np.load(archive) as arrays:
            return evaluation.result, archive.parent, dict(arrays)

    return run


def test_the_images_are_those_that_the_verdicts_are_about(saved, model):
    result, folder, arrays = saved(COUNT)
    x, y = images(COUNT).tensors
    assert tuple(arrays) == COLUMNS
    assert arrays["index"].tolist() == list(range(COUNT))
    assert torch.equal(torch.from_numpy(arrays["x"]), x)
    assert arrays["y"].tolist() == y.tolist()
    with torch.no_grad():
        said = model.eval()(torch.from_numpy(arrays["x_adv"])).argmax(1)
    assert arrays["predicted"].tolist() == said.tolist()
    assert (arrays["predicted"] == arrays["y"]).sum() == result.attacks[0].robust_correct < result.clean_correct
    assert arrays["x_adv"].dtype == np.float32
    assert np.abs(arrays["x_adv"] - arrays["x"]).max() <= EPS + 1e-6
    wrong = arrays["clean_predicted"] != arrays["y"]
    assert wrong.any()
    assert (arrays["x_adv"][wrong] == arrays["x"][wrong]).all()
    with (folder / "labels.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [int(row["predicted"]) for row in rows] == said.tolist()
    with Image.open(folder / rows[5]["file"]) as picture:
        shown = np.asarray(picture, dtype=np.float32).reshape(x.shape[2], x.shape[3], -1).transpose(2, 0, 1) / 255
    assert np.abs(shown - arrays["x_adv"][5]).max() <= 0.5 / 255 + 1e-6


def test_an_interrupted_evaluation_saves_the_same_images(saved):
    with pytest.raises(Interrupted):
        saved(16, stop=6)
    begun = list(Limited.seen)
    again, whole = saved(16)[2], saved(16, folder="whole")[2]
    assert len(begun) >= 6
    assert all(np.array_equal(again[name], whole[name]) for name in COLUMNS)


def test_no_image_is_attacked_twice_but_those_that_were_not_saved(saved):
    saved(6)
    of_six = set(saved(6)[2]["index"].tolist())
    assert Limited.seen == [], "all was known"
    _, folder, arrays = saved(12)
    missing = set(arrays["index"].tolist()) - of_six
    assert of_six < set(arrays["index"].tolist())
    assert Limited.seen
    assert set(Limited.seen) <= missing
    (folder / "mine.png").write_bytes(b"a user's own")
    saved(6)
    assert len(list(folder.glob("*.png"))) == 7, "pictures of before are gone"


def test_images_that_are_saved_later_do_not_count_in_the_stages_again(model, tmp_path):
    def stages(save_images):
        ensemble = WorstOf([FGSM(eps=EPS), PGD(eps=EPS, steps=3)])
        verdicts = str(tmp_path / "verdicts")
        evaluation = AttackEvaluation({"worst": ensemble}, save_images=save_images, verdicts=verdicts, batch_size=25)
        loader = DataLoader(images(COUNT), batch_size=25)
        trainer(evaluation, folder=tmp_path).validate(model, loader, verbose=False)
        return [(stage.name, stage.attacked, stage.broken) for stage in evaluation.result.attacks[0].stages]

    before = stages(0)
    assert before[0][1] > before[1][1] > 0
    assert stages(12) == before
