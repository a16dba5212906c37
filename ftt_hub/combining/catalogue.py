"""All methods by their names in a recipe."""

from __future__ import annotations

from collections.abc import Callable

from ftt_hub.combining.breadcrumbs import Breadcrumbs
from ftt_hub.combining.consensus import Dare, DareTies, Ties
from ftt_hub.combining.methods import Average, Linear, Method
from ftt_hub.combining.slerp import Slerp

METHODS: dict[str, Callable[..., Method]] = {
    kind.id: kind for kind in (Linear, Average, Ties, Dare, DareTies, Breadcrumbs, Slerp)
}
"""`greedy_soup` is no method of its own: it chooses ingredients and averages them."""
