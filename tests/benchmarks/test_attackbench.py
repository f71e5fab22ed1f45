"""What our command adds to the protocol of AttackBench, which runs attacks and judges them itself."""

import inspect
from functools import partial

import torch
from torch import Tensor, nn

from benchmarks.attackbench import failures_are_far, ours, within_budget
from lightning_adv.attacks import FGSM


class Limited(nn.Module):
    """Linear, with an account of its forwards as AttackBench's own wrapper has it."""

    def __init__(self, budget: int) -> None:
        super().__init__()
        self.net, self.left = nn.Sequential(nn.Flatten(), nn.Linear(4, 3)), budget

    @property
    def is_out_of_query_budget(self) -> bool:
        """Whether nothing counts any more."""
        return self.left == 0

    def forward(self, x: Tensor) -> Tensor:
        """Logits; one forward less."""
        self.left -= 1
        return self.net(x)


def walk(model: nn.Module, inputs: Tensor, labels: Tensor, steps: int = 5, **norm: object) -> Tensor:
    for _ in range(steps):
        model(inputs)
    return inputs + 1


def test_an_attack_ends_when_the_budget_is_spent_and_the_model_is_free_again():
    model, x, y = Limited(3), torch.zeros(2, 1, 2, 2), torch.tensor([0, 1])
    made = within_budget(walk)(model=model, inputs=x, labels=y)
    assert torch.equal(made, x)
    assert model.left == 0
    model(x)


def test_an_attack_within_its_budget_gives_what_it_found():
    model, x, y = Limited(9), torch.zeros(2, 1, 2, 2), torch.tensor([0, 1])
    assert torch.equal(within_budget(partial(walk, steps=2))(model=model, inputs=x, labels=y), x + 1)
    assert model.left == 7


def test_a_limited_attack_has_the_signature_that_its_arguments_are_chosen_by():
    attack = partial(walk, steps=2)
    assert inspect.signature(within_budget(attack)) == inspect.signature(attack)


def test_our_attack_gives_the_images_that_it_found():
    model, x, y = Limited(9), torch.rand(2, 1, 2, 2), torch.tensor([0, 1])
    assert torch.equal(ours(FGSM(0.1), model, x, y), FGSM(0.1).run(model, x, y).images)


def test_an_image_of_nan_is_a_failure():
    assert failures_are_far([0.5, float("nan"), float("inf")]) == [0.5, float("inf"), float("inf")]
