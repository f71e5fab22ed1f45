"""What a report says of answers that name no class."""

__all__ = ["nan_warnings"]


def nan_warnings(count: int, samples: int, where: str = "") -> list[str]:
    """The sentence that a report owes its reader where logits were NaN; none where they were not.

    Args:
        count: images with NaN logits.
        samples: all images.
        where: under which condition, e.g. the name of an attack.

    Example:
        >>> nan_warnings(12, 500), nan_warnings(0, 500)
        (['12 of 500 images have NaN logits: they count as wrong'], [])
    """
    named = f"{where}: " if where else ""
    return [f"{named}{count} of {samples} images have NaN logits: they count as wrong"] if count else []
