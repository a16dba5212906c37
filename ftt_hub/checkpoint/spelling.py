"""The same parameters under other names and in other layouts, matched as transformers loads them.

A model's checkpoint may use the names of its publication, those that transformers gives it in
memory, or those of an earlier version; experts may be stacked or apart; a wrapper may have put a
prefix before every name. Where two checkpoints do not agree in names and shapes, each is followed
to the parameters that transformers makes of it, and back from there into the other's names.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ftt_hub.checkpoint.arrangement import Arrangement, inverted
from ftt_hub.errors import UnsupportedError

if TYPE_CHECKING:
    from ftt_hub.checkpoint.loading_rules import Loaded, LoadingRules

Shape = tuple[int, ...]
Arrangements = Mapping[str, Arrangement]

WRAPPERS = frozenset(("_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"))
"""Components that torch itself puts into names, wherever it wraps a module."""


@dataclass(frozen=True)
class Stored:
    """What one checkpoint stores.

    Attributes:
        label: How the user named it, for messages.
        config: Its `config.json`.
        shapes: Checkpoint name → shape.
    """

    label: str
    config: Mapping[str, Any]
    shapes: Mapping[str, Shape]


@dataclass(frozen=True)
class Respelling:
    """One checkpoint in the words of another, the reference.

    Attributes:
        tensors: Name → what it is made of, in the checkpoint's own tensors. The names are the
            reference's; a parameter that the reference does not store has its run-time name.
        own: The way back: each of the checkpoint's own tensors, made of `tensors`. What the
            reference knows nothing of is left out.
        homeless: Own tensors that are no parameter of the model, and that the loader does not
            drop by its own rules.
        by_architecture: Whether transformers knows the model; if not, names were compared.
        example: An own name and the reference's name for the same weights.
    """

    tensors: Arrangements
    own: Arrangements
    homeless: tuple[str, ...]
    by_architecture: bool
    example: tuple[str, str]

    def renamed(self, name: str) -> str | None:
        """The one tensor that an own tensor is, by its other name; ``None`` if rearranged."""
        made = self.own.get(name)
        if made is None or len(made.names) != 1:
            return None
        other = made.names[0]
        return other if self.tensors[other].is_whole(made.shape) else None

    def to_json(self) -> dict[str, object]:
        """What a manifest records of it."""
        others = [self.renamed(name) for name in self.own]
        same = sum(other == name for name, other in zip(self.own, others, strict=True))
        moved = others.count(None)
        return {
            "renamed": len(others) - same - moved,
            "rearranged": moved,
            "example": list(self.example),
            "by_architecture": self.by_architecture,
        }

    @property
    def summary(self) -> str:
        """How the checkpoint differs, for a report."""
        facts = self.to_json()
        how = "by the architecture" if self.by_architecture else "by a prefix"
        counts = f"{facts['renamed']} tensors under other names, {facts['rearranged']} rearranged"
        return f"{counts} (such as {self.example[0]} for {self.example[1]}); matched {how}"


def alike(reference: Mapping[str, Shape], other: Mapping[str, Shape]) -> bool:
    """Whether two checkpoints can be matched by name: neither has a name or layout of its own.

    Tensors that only one side has are nothing unusual (a head, tied copies, buffers), and neither
    are more or fewer rows (added tokens).
    """
    common = reference.keys() & other.keys()
    both_differ = len(common) < len(reference) and len(common) < len(other)
    return not both_differ and all(
        reference[name][1:] == other[name][1:] and bool(reference[name]) == bool(other[name])
        for name in common
    )


def is_known(config: Mapping[str, Any]) -> bool:
    """Whether transformers knows the architecture that a config describes."""
    from ftt_hub.checkpoint.meta_model import meta_model

    return meta_model(config) is not None


def loadable(checkpoint: Stored) -> dict[str, str]:
    """Own names → names that transformers loads: without what a wrapper put before them."""
    plain = {name: name for name in checkpoint.shapes}
    if next(_unwrappings(checkpoint.shapes), None) is None:
        return plain
    from ftt_hub.checkpoint.meta_model import meta_model

    model = meta_model(checkpoint.config)
    if model is None:
        return plain
    from ftt_hub.checkpoint.loading_rules import LoadingRules

    _, names = unwrapped(LoadingRules(model), checkpoint.shapes)
    return {own: shown for shown, own in names.items()}


@dataclass(frozen=True)
class _Side:
    """One checkpoint as its model class sees it.

    Attributes:
        parameters: Run-time name as a class with a head has it → what it is made of. Tensors that
            the loader does not take stand here under their own names, without a wrapper's prefix.
        unknown: Own names of tensors that the loader has no use for, and does not drop by its own
            rules.
        computed: Own names of tensors with which the loader computes, and what it does.
        prefix: What stands before the run-time names of its own class in those of `parameters`.
    """

    parameters: Arrangements
    unknown: frozenset[str]
    computed: Mapping[str, str]
    prefix: str = ""


def respell(reference: Stored, other: Stored) -> Respelling | None:
    """Find the reference's names in another checkpoint of the same architecture.

    Imports torch and transformers where the two do not agree.

    Returns:
        ``None`` where names and shapes agree, or where neither the architecture nor a prefix
        explains the difference: then names decide.

    Raises:
        UnsupportedError: Parameters of the reference are there in part, or cannot be followed.
    """
    if alike(reference.shapes, other.shapes):
        return None
    sides = _side(reference, other), _side(other, reference)
    if sides[0] is None or sides[1] is None:
        return _by_prefix(reference, other)
    tensors = dict(_shared(reference, sides[0], other, sides[1]))
    _check_computed(reference, sides[0], other, sides[1])
    _check_lost(reference, sides[0], other, tensors)
    return _respelling(
        reference, other, tensors, sides[1], by_architecture=True, prefix=sides[0].prefix
    )


def _respelling(
    reference: Stored,
    other: Stored,
    tensors: dict[str, Arrangement],
    side: _Side,
    *,
    by_architecture: bool,
    prefix: str = "",
) -> Respelling | None:
    """Add what the reference does not store, and find the way back."""
    if not tensors:
        return None
    used = {name for made in tensors.values() for name in made.names}
    own_names = {made.names[0]: run_time for run_time, made in side.parameters.items()
                 if made.names and made.is_whole(other.shapes[made.names[0]])}  # fmt: skip
    homeless = []
    for name, shape in other.shapes.items():
        if name in used:
            continue
        shown = own_names.get(name, name).removeprefix(prefix)
        taken = shown in tensors or shown in reference.shapes
        tensors[name if taken else shown] = Arrangement.whole(name, shape)
        if name in side.unknown:
            homeless.append(name)
    own = inverted(tensors, other.shapes)
    partly = [name for name, made in own.items() if made.pieces and not made.is_complete]
    if partly:
        raise _unfollowed(other, "are parameters of the other model in part only", partly)
    example = next(((made.names[0], n) for n, made in tensors.items() if made.names[0] != n), None)
    if example is None and homeless:
        example = (homeless[0], "no parameter")
    if example is None:
        same = all(made.is_whole(other.shapes[name]) for name, made in tensors.items())
        if same:
            return None
        name = next(n for n, m in tensors.items() if not m.is_whole(other.shapes[n]))
        example = (name, name)
    return Respelling(tensors, own, tuple(homeless), by_architecture, example)


def _shared(
    reference: Stored, first: _Side, other: Stored, second: _Side
) -> Iterator[tuple[str, Arrangement]]:
    """The reference's tensors, made of the other checkpoint's."""
    for name, made in inverted(first.parameters, reference.shapes).items():
        shape = reference.shapes[name]
        there = [n for n in made.names if n in second.parameters]
        if not there:
            continue
        if len(made.names) == 1 and made.is_whole(first.parameters[made.names[0]].shape):
            yield name, second.parameters[made.names[0]]
            continue
        if len(there) < len(made.names) or not made.is_complete:
            missing = sorted(set(made.names) - set(there))
            raise _unfollowed(other, f"lacks a part of {name}", missing)
        changed = [n for n in there if first.parameters[n].shape != second.parameters[n].shape]
        if changed:
            raise _unfollowed(other, f"has other shapes than {reference.label}", changed)
        whole = made.through(second.parameters)
        if not whole.is_complete or whole.shape != shape:
            raise _unfollowed(other, "is made of too few tensors", [name])
        yield name, whole


def _check_computed(reference: Stored, first: _Side, other: Stored, second: _Side) -> None:
    """Refuse what the loader computes with, unless both checkpoints store it alike.

    Raises:
        UnsupportedError: One of them stores it otherwise.
    """
    for stored, side, opposite in ((reference, first, second), (other, second, first)):
        for name, why in side.computed.items():
            if not any(name in made.names and key in opposite.parameters
                       for key, made in side.parameters.items()):  # fmt: skip
                raise _unfollowed(
                    stored, f"is loaded in a way that Δ cannot follow ({why})", [name]
                )


def _check_lost(reference: Stored, side: _Side, other: Stored, tensors: Arrangements) -> None:
    """Refuse a reference with tensors of unknown meaning that may be what the other has more.

    Raises:
        UnsupportedError: Each of the two has tensors that the other lacks.
    """
    lost = side.unknown - tensors.keys()
    used = {name for made in tensors.values() for name in made.names}
    if lost and other.shapes.keys() - used:
        what = f"has tensors that are no parameters of the model, and that {other.label} lacks"
        raise _unfollowed(reference, what, lost)


def _unfollowed(other: Stored, what: str, names: Iterable[str]) -> UnsupportedError:
    listed = sorted(names)
    return UnsupportedError(
        what,
        where=other.label,
        found=", ".join(listed[:5]) + (f" and {len(listed) - 5} more" if len(listed) > 5 else ""),
        hint="Load the model with transformers and save it again, then use that copy.",
    )


def _side(stored: Stored, other: Stored) -> _Side | None:
    """A checkpoint as transformers loads it; ``None`` where transformers does not know it.

    Where its own class has no parameter for some tensors, the class of the other checkpoint is
    tried too: a fine-tune may have kept the config of its base, or a base that of its head.
    """
    best = None
    for config in (stored.config, other.config):
        side = _side_of_class(stored, config)
        if side is not None and (best is None or len(side.unknown) < len(best.unknown)):
            best = side
        if best is not None and not best.unknown:
            break
    return best


def _side_of_class(stored: Stored, config: Mapping[str, Any]) -> _Side | None:
    from ftt_hub.checkpoint.meta_model import meta_model

    model = meta_model(config)
    if model is None:
        return None
    from ftt_hub.checkpoint.loading_rules import LoadingRules

    rules = LoadingRules(model)
    loaded, names = unwrapped(rules, stored.shapes)
    if not loaded.parameters:
        return None
    leftover = {*loaded.unknown, *loaded.computed}
    parameters = {n: Arrangement.whole(names[n], stored.shapes[names[n]]) for n in leftover}
    parameters.update(
        {rules.canonical(n): made.renamed(names) for n, made in loaded.parameters.items()}
    )
    unknown = frozenset(names[n] for n in loaded.unknown if not rules.is_ignored(n))
    return _Side(
        parameters,
        unknown,
        {names[n]: why for n, why in loaded.computed.items()},
        rules.canonical(""),
    )


def unwrapped(rules: LoadingRules, shapes: Mapping[str, Shape]) -> tuple[Loaded, dict[str, str]]:
    """What the loader makes of a checkpoint, and the names it was shown → own names.

    A wrapper's prefix is taken off where more tensors are parameters without it.
    """
    names = {name: name for name in shapes}
    best = rules.load(shapes)
    for rename in _unwrappings(shapes):
        if not best.unknown:
            break
        bare = {rename(name): name for name in shapes}
        if len(bare) < len(shapes):
            continue
        loaded = rules.load({short: shapes[name] for short, name in bare.items()})
        if len(loaded.unknown) < len(best.unknown):
            best, names = loaded, bare
    return best, names


def _bare(name: str) -> str:
    return ".".join(part for part in name.split(".") if part not in WRAPPERS)


def _unwrappings(names: Iterable[str]) -> Iterator[Callable[[str], str]]:
    """Ways to take a wrapper's words out of names, the least first."""
    listed = list(names)
    if any(_bare(name) != name for name in listed):
        yield _bare
    for prefix in common_prefixes(map(_bare, listed)):
        yield lambda name, prefix=prefix: _bare(name).removeprefix(prefix)  # type: ignore[misc]


def common_prefixes(names: Iterable[str]) -> list[str]:
    """Every run of leading components that all names share, the shortest first."""
    shared: list[str] = []
    for column in zip(*(name.split(".")[:-1] for name in names), strict=False):
        if len(set(column)) != 1:
            break
        shared.append(column[0])
    return [".".join(shared[: n + 1]) + "." for n in range(len(shared))]


def _by_prefix(reference: Stored, other: Stored) -> Respelling | None:
    """Match names of which one side has a prefix more than the other."""
    prefixes = common_prefixes(reference.shapes)
    candidates = [*_unwrappings(other.shapes), *(prefix.__add__ for prefix in prefixes)]
    matches = {
        rename: {rename(n): n for n, s in other.shapes.items() if _fits(reference, rename(n), s)}
        for rename in candidates
    }
    best = max(matches.values(), key=len, default={})
    same = sum(_fits(reference, name, shape) for name, shape in other.shapes.items())
    if len(best) <= same or 2 * len(best) < min(len(reference.shapes), len(other.shapes)):
        return None
    tensors = {name: Arrangement.whole(own, other.shapes[own]) for name, own in best.items()}
    side = _Side({}, frozenset(), {})
    return _respelling(reference, other, tensors, side, by_architecture=False)


def _fits(reference: Stored, name: str, shape: Shape) -> bool:
    return name in reference.shapes and reference.shapes[name][1:] == shape[1:]
