"""Print the longest chain of imports and the circles; fail above the limit or with a circle.

An import inside a function counts like any other; one for type checkers only does not.
"""

from __future__ import annotations

import sys
from functools import cache

import grimp

LONGEST = 21
"""It only ever goes down; the aim is 12."""


def circles(graph: grimp.ImportGraph) -> list[set[str]]:
    """Groups of modules that import each other, directly or through others."""
    reach = {m: graph.find_upstream_modules(m) for m in graph.modules}
    groups = {frozenset({m, *(o for o in reach[m] if m in reach[o])}) for m in graph.modules}
    return sorted((set(group) for group in groups if len(group) > 1), key=sorted)


def longest_chain(graph: grimp.ImportGraph) -> list[str]:
    """The longest chain of modules, each importing the next; the graph has no circle."""

    @cache
    def chain(module: str) -> tuple[str, ...]:
        below = graph.find_modules_directly_imported_by(module)
        return (module, *max((chain(m) for m in below), key=lambda c: (len(c), c), default=()))

    return list(max((chain(m) for m in graph.modules), key=lambda c: (len(c), c)))


def main() -> int:
    """Print both; 0 if they are within the limits."""
    graph = grimp.build_graph("ftt_hub", exclude_type_checking_imports=True, cache_dir=None)
    found = circles(graph)
    for group in found:
        print("circle:", ", ".join(sorted(group)))
    if found:
        return 1
    chain = longest_chain(graph)
    print(f"longest import chain: {len(chain)} modules (limit {LONGEST})")
    print("\n".join(f"  {name}" for name in chain))
    return len(chain) > LONGEST


if __name__ == "__main__":
    sys.exit(main())
