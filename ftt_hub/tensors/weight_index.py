"""`model.safetensors.index.json`: which files a sharded checkpoint consists of."""

from __future__ import annotations

from pathlib import PurePosixPath

from ftt_hub.errors import CheckpointError


def _is_inside(path: str) -> bool:
    """Whether a path of an untrusted file stays inside the folder it is relative to."""
    parts = PurePosixPath(path).parts
    strange = "\\" in path or ":" in path or path.startswith("/")
    return bool(parts) and not strange and not any(part.startswith(".") for part in parts)


def checked_weight_map(value: object, where: str) -> dict[str, str]:
    """Tensor → file of an index, as its JSON value has it.

    Raises:
        CheckpointError: It has no weight map, or one that names files outside the folder.
    """
    mapping = value.get("weight_map") if isinstance(value, dict) else None
    if not isinstance(mapping, dict) or not mapping:
        raise CheckpointError("has no weight_map", where=where, hint="Download it again.")
    for name, shard in mapping.items():
        if not isinstance(shard, str) or not _is_inside(shard):
            raise CheckpointError(
                f"tensor {name!r:.100} lies in the impossible file {shard!r:.100}",
                where=where,
                expected="a file inside the model's folder",
            )
    return {str(name): str(shard) for name, shard in mapping.items()}


def check_explicit_weights(name: object, where: str) -> None:
    """Check `transformers_weights` of a config, as transformers does.

    Raises:
        CheckpointError: It names a file outside the folder, or none of safetensors.
    """
    if name is None:
        return
    suffixes = (".safetensors", ".safetensors.index.json")
    if not isinstance(name, str) or not name.endswith(suffixes) or not _is_inside(name):
        raise CheckpointError(
            f"transformers_weights names the impossible file {name!r:.100}",
            where=where,
            expected="a safetensors file inside the model's folder, or its index",
        )
