import pytest
import torch

from lightning_adv.errors import InputError
from lightning_adv.inspectors import MMBD, NeuralCleanse, Repeated
from tests.inspectors.problems import PatchModel, block_images

IMAGES, LABELS = block_images((1, 9, 9), 5, 30)
ONCE = NeuralCleanse(steps=25, batch_size=10, images_per_step=10, init_cost=0.05, success_threshold=0.8)


def test_a_class_is_judged_by_the_geometric_mean_over_searches_with_images_and_starts_of_their_own():
    model = PatchModel(5, 2)
    report = Repeated(ONCE, searches=3)(model, [(IMAGES, LABELS)])
    alone = []
    for seed in range(3):
        inspector = NeuralCleanse(
            steps=25, batch_size=10, images_per_step=10, init_cost=0.05, success_threshold=0.8, seed=seed
        )
        alone.append(inspector(model, [(IMAGES[seed::3], LABELS[seed::3])]))
    norms = torch.tensor([each.norms for each in alone])
    assert report.norms == pytest.approx(norms.log().mean(dim=0).exp().tolist(), rel=1e-4)
    smallest = norms[:, 2].argmin()
    assert torch.equal(report.triggers[2].mask, alone[smallest].triggers[2].mask)
    assert ONCE.seed == 0


def test_the_classes_can_be_shared_out_and_the_searches_share_the_time():
    model = PatchModel(5, 2)
    whole = Repeated(ONCE, searches=2)
    parts = [whole.search(model, [(IMAGES, LABELS)], rank, 2) for rank in range(2)]
    assert whole.judge(parts).labels == list(range(5))
    whole.over = lambda done: 1.0 if done >= 0.5 else done
    steps = {each.steps for each in whole(model, [(IMAGES, LABELS)]).triggers}
    assert steps == {25}, "the second search had no time left"


def test_an_inspector_of_margins_and_fewer_images_than_searches_are_refused():
    with pytest.raises(InputError, match="MMBD judges none"):
        Repeated(MMBD())
    with pytest.raises(InputError, match="40 searches need as many"):
        Repeated(ONCE, searches=40)(PatchModel(5, 2), [(IMAGES, LABELS)])
