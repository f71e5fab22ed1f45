import copy

import torch

from lightning_adv.models import compile_classifier, create_model


def gradient(model, x):
    leaf = x.clone().requires_grad_(True)
    logits = model(leaf)
    return logits.detach(), torch.autograd.grad(logits.logsumexp(dim=1).sum(), leaf)[0]


def test_a_compiled_classifier_answers_as_before_and_keeps_no_masks():
    torch.manual_seed(0)
    eager = create_model("mnist_cnn", num_classes=10, in_channels=1, image_size=(28, 28)).eval().requires_grad_(False)
    compiled = compile_classifier(copy.deepcopy(eager))
    assert compiled.state_dict().keys() == eager.state_dict().keys()
    kept = []
    for count in (5, 3, 4):  # the second size is compiled for any
        x = torch.rand(count, 1, 28, 28)
        with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t.dtype) or t, lambda t: t):
            found = gradient(compiled, x)
        for ours, theirs in zip(found, gradient(eager, x), strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6)
    assert torch.float32 in kept
    assert torch.bool not in kept
