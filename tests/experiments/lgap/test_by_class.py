"""LGAP is measured class by class, with an oracle that names each."""

import pytest
import torch
from torch import nn

from experiments.lgap.by_class import ByClass
from experiments.purified import DRAWS
from lightning_adv.attacks import FGSM
from lightning_adv.purifiers import ConstantPrompt, LanguageGuidedDiffusion, PurifiedClassifier, ThreatModel
from tests.purifiers.language import CLASSES, SIZE, write_latent_diffusion


@pytest.mark.parametrize("threat", ["blind", "bpda"])
def test_an_oracle_tells_every_class_its_own_name_and_figures_are_kept(tmp_path, threat):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(3 * SIZE[0] * SIZE[1], 3))
    purifier = LanguageGuidedDiffusion(str(write_latent_diffusion(tmp_path / "model")), steps=1, strength=0.1)
    oracle = [purifier.told(ConstantPrompt(name)) for name in CLASSES]
    x, y, index = torch.rand(9, 3, *SIZE), torch.arange(9) % 3, torch.arange(9)
    cells = ByClass(tmp_path / "cells", model, (x, y, index), attack_draws=2)
    measured = cells.behind("true class", oracle, "fgsm", FGSM(0.1), ThreatModel(threat))
    right = torch.zeros(DRAWS)
    for k, told in enumerate(oracle):
        whole, mine = PurifiedClassifier(told, model), y == k
        attacked = whole.attacked(FGSM(0.1), threat, x[mine], y[mine], index[mine], draws=2)
        right += (whole.judge(attacked, index[mine], DRAWS).argmax(dim=2) == k).sum(dim=1)
    assert measured == pytest.approx((right / 9).tolist())
    again = ByClass(tmp_path / "cells", nn.Identity(), (x, y, index), attack_draws=2)
    assert again.behind("true class", oracle, "fgsm", FGSM(0.1), ThreatModel(threat)) == measured
