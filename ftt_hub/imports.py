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

    def __init__(self, name: str, action: Action) -> None:
        self._name, self._action = name, action
        self._done = False

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """The spec of the module that is waited for; ``None`` leaves others to other finders."""
        if fullname != self._name or self._done:
            return None
        for finder in list(sys.meta_path):
            spec = None if finder is self else finder.find_spec(fullname, path, target)
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
            if module.__name__ == self._name and not self._done:
                self._done = True
                self._action(module)

        setattr(loader, "exec_module", run)  # noqa: B010 - an attribute of this one loader


def after_import(name: str, action: Action) -> None:
    """Call `action` with a module once it is imported; at once if it is."""
    if name in sys.modules:
        action(sys.modules[name])
    else:
        sys.meta_path.insert(0, _Finder(name, action))
