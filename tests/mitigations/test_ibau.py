"""I-BAU's hypergradient is the closed form of a quadratic problem, and what it unlearns is the worst perturbation."""

import pytest
import torch

from lightning_adv.errors import InputError
from lightning_adv.inspectors.suspect import CleanImages
from lightning_adv.mitigations import IBAU
from lightning_adv.mitigations.ibau import STEP, implicit, mildness, shifted
from tests.mitigations.problems import halves, trained


@pytest.mark.parametrize("iterations", [1, 5, 300])
def test_the_hypergradient_of_a_quadratic_problem_is_its_closed_form(iterations):
    """g = |d - A w|^2 / 2 has d* = A w; the outer |d|^2 / 2 then has A^T A w, of which n iterations see 1 - .9^n."""
    a = torch.tensor([[1.0, 2.0], [0.0, 3.0], [1.0, -1.0]])
    w = torch.tensor([0.5, -1.0], requires_grad=True)
    delta = (a @ w).detach().requires_grad_()
    value = implicit(delta.square().sum() / 2, (delta - a @ w).square().sum() / 2, delta, iterations)
    (grad,) = torch.autograd.grad(value, w)
    expected = (1 - (1 - STEP) ** iterations) * a.T @ a @ w
    assert grad.tolist() == pytest.approx(expected.tolist(), rel=1e-4)


def test_what_the_outer_objective_says_of_the_weights_directly_is_in_it():
    w, delta = torch.tensor([2.0], requires_grad=True), torch.tensor([1.0], requires_grad=True)
    value = implicit((w.square() * delta).sum(), delta.square().sum(), delta, 3)  # the inner one does not know w
    assert torch.autograd.grad(value, w)[0].item() == pytest.approx(4.0)


def test_perturbed_images_stay_images():
    x = torch.tensor([[[[0.9, 0.1]]]])
    assert shifted(x, torch.tensor([[[[0.5, -0.5]]]])).tolist() == [[[[1.0, 0.0]]]]


def test_the_perturbation_that_is_found_is_worse_than_none_and_unlearning_makes_it_milder():
    model, (x, y) = trained(), halves(200)
    mitigation = IBAU(rounds=3, share=0.5, batch_size=20)
    delta = mitigation.worst(model, CleanImages(x, y), seed=0)
    nothing = torch.zeros_like(delta)
    before = mildness(model, x, delta)
    assert before < mildness(model, x, nothing)
    mitigation(model, [(x, y)])
    assert mildness(model, x, delta) > before


def test_numbers_that_cannot_be_meant_are_refused():
    for wrong in ({"rounds": 0}, {"iterations": 0}, {"share": 0.0}):
        with pytest.raises(InputError, match="IBAU needs rounds >= 1"):
            IBAU(**wrong)
