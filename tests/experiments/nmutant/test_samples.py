"""The victims of the nMutant experiment."""

import torch

from experiments.nmutant.samples import InBfloat16
from tests.experiments.nmutant.boundary import halves


def test_a_victim_in_bfloat16_answers_in_float32():
    model = InBfloat16(halves())
    x = torch.rand(5, 1, 4, 4)
    logits = model(x)
    assert logits.dtype == torch.float32
    assert torch.equal(logits, logits.bfloat16().float())
    assert torch.allclose(logits, halves()(x), atol=0.1)
