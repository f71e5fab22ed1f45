"""Finding which weight of a file belongs to which weight of a model, whatever either was wrapped in."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import accumulate

from torch import Tensor

from lightning_adv.errors import InputError
from lightning_adv.models.nests import is_averaged
from lightning_adv.models.statistics import role_of

__all__ = ["COUNTERS", "Match", "UnknownNames", "match_keys", "match_order"]

COUNTERS = ("total_ops", "total_params")
"""Last parts of the names that thop leaves in modules whose operations it counts."""

# Attributes under which a model is commonly held: DataParallel, torch.compile, Lightning modules, NormalizedModel.
_WRAPPERS = ("module", "_orig_mod", "model", "backbone", "net", "network", "classifier")


class UnknownNames(InputError):
    """No weight of a file has a name that the model knows."""


@dataclass(frozen=True)
class Match:
    """How the keys of a file correspond to those of a model.

    Args:
        prefix: what precedes the model's name of a weight in the file, such as "module.".
        inner: what precedes the file's name of a weight in the model, such as "net." if the file lacks the wrapper.
        weights: the file's weights under ``prefix``, by the names of the model.
        others: the file's other weights, by their names there.
    """

    prefix: str
    inner: str
    weights: dict[str, Tensor]
    others: dict[str, Tensor] = field(default_factory=dict)


def match_keys(found: Mapping[str, Tensor], wanted: Iterable[str]) -> Match:
    """The pair of prefixes under which most names agree; "_orig_mod." of compiled models counts for nothing.

    Args:
        found: weights of a file.
        wanted: names of the model's weights.

    Raises:
        InputError: if no name agrees, if two parts of the file (a student and a teacher) agree equally well, or if one
            of two that agree holds the weights of the other averaged over training.
    """
    found = {key.replace("_orig_mod.", ""): weight for key, weight in found.items()}
    wanted = {key.replace("_orig_mod.", ""): key for key in wanted}
    inners = {prefix for key in wanted for prefix in _prefixes(key) if _is_wrapper(prefix)}
    scores: Counter[tuple[str, str]] = Counter()
    for key in found:
        for prefix in _prefixes(key):
            scores.update((prefix, inner) for inner in inners if inner + key[len(prefix) :] in wanted)
    if not scores:
        raise UnknownNames(
            f"no weight has a name that the model knows: the file holds {_few(found)}, the model {_few(wanted)}; "
            "is it the weights of another backbone?"
        )
    best = max(scores.values())
    _refuse_averages({pair for pair, score in scores.items() if 2 * score >= best})
    tied = [pair for pair, score in scores.items() if score == best]
    tied = [pair for pair in tied if _is_wrapper(pair[0])] or tied
    if len({_matched(found, wanted, prefix, inner) for prefix, inner in tied}) > 1:
        if 2 * best < len(wanted):  # "weight" and "bias" alone are the names of many a layer
            raise UnknownNames(
                f"hardly a weight has a name that the model knows: the file holds {_few(found)}, the model "
                f"{_few(wanted)}; is it the weights of another backbone?"
            )
        parts = _few(sorted({prefix for prefix, _ in tied}))
        raise InputError(f"several parts of the file fit the model equally well ({parts}): save only one of them")
    # Of two readings of the same weights, the one that expects less around them.
    prefix, inner = max(tied, key=lambda pair: len(pair[1]))
    under = {inner + key[len(prefix) :]: weight for key, weight in found.items() if key.startswith(prefix)}
    others = {key: weight for key, weight in found.items() if not key.startswith(prefix)}
    return Match(prefix, inner, {wanted.get(key, key): weight for key, weight in under.items()}, others)


def match_order(found: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> Match | None:
    """The weights of a file in their order there, where each has the shape of the model's in the same place.

    Counters and statistics of the images have no place in the order.

    Args:
        found: weights of a file.
        wanted: those of the model.
    """
    counted = {key for key in found if key.endswith((*COUNTERS, "num_batches_tracked"))}
    others = {key: weight for key, weight in found.items() if role_of(key) is not None}
    theirs = [weight for key, weight in found.items() if key not in counted and key not in others]
    skipped = ("num_batches_tracked", "normalize.mean", "normalize.std")
    ours = [key for key in wanted if not key.endswith(skipped)]
    if [weight.shape for weight in theirs] != [wanted[key].shape for key in ours]:
        return None
    shared = set.intersection(*({*_prefixes(key)} for key in ours)) if ours else {""}
    return Match("", max(shared, key=len), dict(zip(ours, theirs, strict=True)), others)


def _refuse_averages(pairs: Iterable[tuple[str, str]]) -> None:
    """Live and averaged weights agree with the model alike, and give other answers."""
    kinds: dict[bool, set[str]] = {False: set(), True: set()}
    for prefix, _ in pairs:
        kinds[is_averaged(prefix)].add(prefix)
    if kinds[True] and kinds[False]:
        live, averaged = (min(kinds[kind], key=len) for kind in (False, True))
        raise InputError(
            f"it holds live and averaged weights ({live}, {averaged}): say which are meant, such as "
            f"--model.which={averaged.removesuffix('.')}"
        )


def _matched(found: Iterable[str], wanted: Mapping[str, str], prefix: str, inner: str) -> frozenset[str]:
    return frozenset(key for key in found if key.startswith(prefix) and inner + key[len(prefix) :] in wanted)


def _prefixes(key: str) -> list[str]:
    """ "a.b.c" -> ["", "a.", "a.b."]."""
    return ["", *accumulate(part + "." for part in key.split(".")[:-1])]


def _is_wrapper(prefix: str) -> bool:
    return all(part in _WRAPPERS for part in prefix.split(".")[:-1])


def _few(keys: Iterable[str]) -> str:
    names = sorted(keys)
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
