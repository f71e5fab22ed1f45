"""MIFGSM: BIM with a memory."""

import pytest
import torch

from lightning_adv.attacks import BIM
from lightning_adv.attacks.mifgsm import MIFGSM
from lightning_adv.errors import InputError

from .problems import EPS, binary_linear_problem, dual_norm, tilted_problem
from .problems import weight_difference as slope
from .test_parity import imported

every_norm = pytest.mark.parametrize("norm", ["Linf", "L2", "L1"])


@every_norm
def test_without_memory_it_is_bim(norm):
    model, x, y = tilted_problem()
    settings = {"eps": EPS[norm], "step_size": EPS[norm] / 4, "steps": 7, "norm": norm}
    torch.testing.assert_close(MIFGSM(**settings, decay=0.0)(model, x, y), BIM(**settings)(model, x, y))


def test_its_pixels_are_those_of_a_peer(digits):
    model, x, y = digits[0], digits[1][:100], digits[2][:100]
    peer = imported("torchattacks").MIFGSM(model, eps=0.1, alpha=0.01, steps=10, decay=1.0)(x, y)
    difference = (peer - MIFGSM(eps=0.1, step_size=0.01)(model, x, y)).abs()
    assert (difference < 1e-5).float().mean() > 0.999  # a gradient of rounding size may have either sign
    forgetful = BIM(eps=0.1, step_size=0.01)(model, x, y)
    assert (peer - forgetful).abs().max() > 0.01


@every_norm
def test_on_a_linear_model_the_default_steps_add_up_to_eps_times_the_dual_norm(norm):
    model, x, y = binary_linear_problem()
    eps = {"Linf": 0.05, "L2": 0.2, "L1": 0.3}[norm]
    x_adv = MIFGSM(eps=eps, norm=norm)(model, x, y)
    with torch.no_grad():
        change = (model(x_adv.double()) - model(x.double())) @ torch.tensor([-1.0, 1.0]).double()
    gain = change * (1 - 2 * y)
    assert gain.tolist() == pytest.approx([eps * dual_norm(slope(model), norm)] * len(x), rel=1e-3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"decay": -0.1}, "decay must be finite and not negative, got -0.1"),
        ({"decay": float("nan")}, "decay must be finite"),
        ({"steps": 0}, "steps must be at least 1, got 0"),
        ({"norm": "L0"}, "norm must be one of Linf, L2, L1"),
        ({"eps": 8}, "did you mean 8/255"),
    ],
)
def test_impossible_settings_are_refused(arguments, message):
    with pytest.raises(InputError, match=message):
        MIFGSM(**arguments)
