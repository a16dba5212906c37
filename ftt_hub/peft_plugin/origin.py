"""Where PEFT read a manifest: the sketch and the tokenizer lie beside it, and PEFT ignores them."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import wrapt

from ftt_hub import hub
from ftt_hub.artifact.manifest import AdapterConfig
from ftt_hub.artifact.sketch import SKETCH_NAME
from ftt_hub.checkpoint.vocabulary import TOKENIZER
from ftt_hub.errors import FttError

ORIGIN = "_ftt_hub_origin"
"""Key under which the path travels through PEFT's functions; never written."""

_SNAPSHOT = re.compile(r"models--([^/]+?)--([^/]+)/snapshots/([0-9a-f]{40})$")


def remember_origins(transfer: str) -> None:
    """Have PEFT's configs of this type know the file they came from; harmless when done twice."""
    from peft.config import PeftConfigMixin

    if isinstance(vars(PeftConfigMixin)["from_json_file"], wrapt.ObjectProxy):
        return

    def read(
        wrapped: Callable[..., dict[str, Any]], _: object, args: Any, kwargs: Any
    ) -> dict[str, Any]:
        values = wrapped(*args, **kwargs)
        if values.get("peft_type") == transfer:
            values[ORIGIN] = str(args[0] if args else kwargs["path_json_file"])
        return values

    wrapt.wrap_function_wrapper(PeftConfigMixin, "from_json_file", read)


def folder_of(origin: str | None, config: AdapterConfig) -> Path | None:
    """The adapter's folder, with the files that checks need fetched into it if it is a snapshot.

    Only files that the manifest names are fetched. A file that cannot be fetched is left out; the
    check that needs it then says so.
    """
    if origin is None:
        return None
    folder = Path(origin).parent
    snapshot = _SNAPSHOT.search(folder.as_posix())
    needed = [name for name in (SKETCH_NAME, TOKENIZER) if name in config.files]
    if snapshot is not None:
        for name in needed:
            if not (folder / name).is_file():
                _fetch(f"{snapshot[1]}/{snapshot[2]}", snapshot[3], name)
    return folder


def _fetch(name: str, commit: str, file: str) -> None:
    try:
        hub.download_file(name, commit, file)
    except FttError:
        return
