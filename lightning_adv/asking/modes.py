"""Train and eval mode of modules, some of which have none: frozen TorchScript, and what ``torch.export`` gives."""

from torch import nn

__all__ = ["modes_of", "switch_to_eval"]


def modes_of(model: nn.Module) -> list[tuple[nn.Module, bool]]:
    """Every module that has a mode, and whether it is in training."""
    return [(module, module.training) for module in model.modules() if _has_mode(module)]


def switch_to_eval(model: nn.Module) -> bool:
    """``model.eval()``, as far as its modules let themselves be switched; whether all did.

    What does not is as it was frozen or exported: in evaluation mode, one hopes.

    Example:
        >>> model = nn.Sequential(nn.Dropout())
        >>> switch_to_eval(model), model[0].training
        (True, False)
    """
    if all(map(_has_mode, model.modules())):
        try:
            model.eval()
            return True
        except NotImplementedError:  # what torch.export gives refuses train() and eval()
            pass
    for child in model.children():
        switch_to_eval(child)
    if _has_mode(model):
        model.training = False
    return False


def _has_mode(module: nn.Module) -> bool:
    return hasattr(module, "training")  # TorchScript takes the attribute away when it freezes a module
