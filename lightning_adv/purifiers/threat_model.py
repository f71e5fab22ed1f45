"""What an attacker of a purified classifier knows."""

from enum import StrEnum

from lightning_adv.errors import InputError

__all__ = ["ThreatModel", "as_threat_models"]


class ThreatModel(StrEnum):
    """What an attacker of a purified classifier knows, and by which gradient it goes.

    Example:
        >>> ThreatModel("bpda_eot").informed
        True
    """

    BLIND = "blind"
    """The classifier alone: the attacker never runs the purifier (a transfer attack)."""

    BPDA = "bpda"
    """The whole; backwards through the purifier by its surrogate, by default the identity."""

    BPDA_EOT = "bpda_eot"
    """The same, averaged over draws of the purifier."""

    ADAPTIVE = "adaptive"
    """The whole, with the exact gradient through the purifier, averaged over draws where it is randomised."""

    BLACK_BOX = "black_box"
    """Outputs of the whole, without gradients."""

    @property
    def informed(self) -> bool:
        """Whether the attack runs the purifier."""
        return self is not ThreatModel.BLIND


def as_threat_models(values: list[str]) -> list[ThreatModel]:
    """Threat models from their names.

    Raises:
        InputError: none, an unknown one, or one twice.
    """
    known = [each.value for each in ThreatModel]
    if not values or len(set(values)) != len(values) or not set(values) <= set(known):
        raise InputError(f"threat_models must be some of {', '.join(known)}, each once, got {list(values)}")
    return [ThreatModel(value) for value in values]
