"""Which numbers a device computes in by itself."""

import torch

__all__ = ["computes_in_bf16"]


def computes_in_bf16(device: torch.device) -> bool:
    """Whether bfloat16 saves a device time; one that has no instructions for it takes several times that of float32.

    Example:
        >>> isinstance(computes_in_bf16(torch.device("cpu")), bool)
        True
    """
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return device.type != "cpu" or torch.backends.cpu.get_cpu_capability().startswith(("AVX512", "SVE"))
