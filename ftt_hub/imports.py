"""Doing something once a module is imported, by whoever imports it first, without importing it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType

Action = Callable[[ModuleType], object]


class _Finder:
    """Finds a module as the other finders do, and has its loader act when it has run.

    It stays where it is: another thread may be walking along the finders. `importlib.abc`, whose
    classes it would otherwise extend, takes as long to import as all of this package's root.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.actions: list[Action] = []

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """The spec of the module that is waited for; ``None`` leaves others to other finders."""
        if fullname != self.name or not self.actions:
            return None
        for finder in list(sys.meta_path):
            if isinstance(finder, _Finder):
                continue
            spec = finder.find_spec(fullname, path, target)
            if spec is not None:
                self._attach(spec)
                return spec
        return None

    def _attach(self, spec: ModuleSpec) -> None:
        loader = spec.loader
        if loader is None:  # a namespace: nothing is run
            return
        execute = loader.exec_module

        def run(module: ModuleType) -> None:
            execute(module)
            while module.__name__ == self.name and self.actions:
                self.actions.pop(0)(module)

        setattr(loader, "exec_module", run)  # noqa: B010 - an attribute of this one loader


def after_import(name: str, action: Action) -> None:
    """Call `action` with a module once it is imported; at once if it is."""
    if name in sys.modules:
        action(sys.modules[name])
        return
    for finder in sys.meta_path:
        if isinstance(finder, _Finder) and finder.name == name:
            finder.actions.append(action)
            return
    found = _Finder(name)
    found.actions.append(action)
    sys.meta_path.insert(0, found)
