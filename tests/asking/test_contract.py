"""What is refused of a model's answer, in one clear sentence, and what is taken."""

from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from lightning_adv.asking import check_labels, logits_of, looks_like_probabilities
from lightning_adv.errors import InputError

X = torch.rand(4, 1, 2, 2, generator=torch.Generator().manual_seed(0))

REFUSED = {
    "a dict": (lambda x: {"logits": x.flatten(1), "aux": x}, r"logits \[N, K\], got a dict of logits, aux; return the"),
    "a tuple": (lambda x: (x.flatten(1), x), r"logits \[N, K\], got a tuple; return the logits alone"),
    "an object": (lambda x: SimpleNamespace(logits=x), r"got a SimpleNamespace; return the logits alone"),
    "one logit": (lambda x: x.flatten(1)[:, :1], r"one logit an image \(shape \(4, 1\)\).* K >= 2"),
    "one number": (lambda x: x.flatten(1)[:, 0], r"one logit an image \(shape \(4,\)\).* K >= 2"),
    "labels": (lambda x: x.flatten(1).argmax(dim=1), r"as many rows of logits \[N, K\], K >= 2, got shape \(4,\)"),
    "maps": (lambda x: x, r"must map 4 images .*, got shape \(4, 1, 2, 2\)"),
    "too few rows": (lambda x: x.flatten(1)[:1], r"must map 4 images .*, got shape \(1, 4\)"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_an_answer_that_is_no_logits_is_refused_in_one_line(kind):
    model, message = REFUSED[kind]
    with pytest.raises(InputError, match=message) as error:
        logits_of(model, X)
    assert "\n" not in str(error.value)


def test_logits_of_any_precision_and_number_from_two_are_taken():
    for answer in (torch.zeros(4, 2), torch.zeros(4, 1000).half(), torch.zeros(4, 3).double()):
        assert logits_of(lambda x, answer=answer: answer, X).shape == answer.shape


@pytest.mark.parametrize(("label", "wrong"), [([0, 2, -100], -100), ([0, 3, 1], 3)])
def test_labels_that_the_model_has_no_logit_for_are_named(label, wrong):
    with pytest.raises(InputError, match=rf"label {wrong} is outside \[0, 3\): the model has 3 logits"):
        check_labels(torch.tensor(label), 3)
    check_labels(torch.tensor([0, 2, 1]), 3)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_a_softmax_is_known_by_its_sums_in_every_precision(dtype):
    logits = 3 * torch.randn(50, 100, generator=torch.Generator().manual_seed(0))
    assert looks_like_probabilities(logits.softmax(dim=1).to(dtype))
    assert not looks_like_probabilities(logits.to(dtype))
    assert not looks_like_probabilities(logits.log_softmax(dim=1).to(dtype))
    one_row_is_not: Tensor = logits.softmax(dim=1).to(dtype)
    one_row_is_not[7] *= 1.1
    assert not looks_like_probabilities(one_row_is_not)
