"""The extra ``train``: what fine-tuning needs beyond the package itself."""

from __future__ import annotations

from importlib.util import find_spec

from ftt_hub.errors import MissingExtraError

PACKAGES = ("trl", "accelerate", "datasets")


def require_train_extra() -> None:
    """Refuse to begin without the packages.

    Raises:
        MissingExtraError: Names those that are missing.
    """
    missing = [name for name in PACKAGES if find_spec(name) is None]
    if missing:
        raise MissingExtraError(
            f"recycle needs {', '.join(missing)}", hint="pip install 'ftt-hub[train]'"
        )
