"""Whether a device computes in bfloat16 is the device's answer."""

import torch

from lightning_adv.models import computes_in_bf16


def test_a_processor_without_512_bits_has_no_instructions_for_it():
    narrow = torch.backends.cpu.get_cpu_capability() in ("DEFAULT", "AVX2")
    assert computes_in_bf16(torch.device("cpu")) is not narrow


def test_a_device_that_says_nothing_is_believed():
    assert computes_in_bf16(torch.device("meta"))
