"""ftt-hub: diff vectors as versioned transfer adapters.

Importing this package is light: torch, transformers, peft and click load when first needed. The
public names and where each lives are listed once, in `__init__.pyi`.
"""

from __future__ import annotations

from importlib import import_module

import lazy_loader
import wrapt

from ftt_hub.support.moved import register_moved_modules

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
register_moved_modules()


def _register_with_peft(_peft: object) -> None:
    """Make the Hugging Face loaders know transfer adapters as soon as PEFT is there."""
    import_module("ftt_hub.peft_plugin").register()


wrapt.register_post_import_hook(_register_with_peft, "peft")
