"""A model folder opened header-first; weights are read by offset, a range at a time."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from ftt_hub.checkpoint.pickled import PickledFile
from ftt_hub.errors import CheckpointError
from ftt_hub.support import model_files
from ftt_hub.support.closing import Closing
from ftt_hub.support.no_weights import no_weights
from ftt_hub.tensors.dtypes import Bits
from ftt_hub.tensors.file import SafetensorsFile
from ftt_hub.tensors.header import TensorInfo, parse_json
from ftt_hub.tensors.weight_index import check_explicit_weights, checked_weight_map

MAX_JSON_BYTES = 64 << 20


class WeightFile(Protocol):
    """One file of weights."""

    tensors: dict[str, TensorInfo]

    def read_bits(self, info: TensorInfo, start: int, count: int) -> Bits:
        """Raw bits of a run of elements."""

    def close(self) -> None:
        """Release the file."""


def read_json_file(path: Path) -> dict[str, object]:
    """A JSON object from a model's file of bounded size; NaN and infinity are numbers there.

    Raises:
        CheckpointError: Missing, too large, or not a JSON object.
    """
    try:
        size = path.stat().st_size
        if size > MAX_JSON_BYTES:
            raise CheckpointError(
                "too large for a JSON file",
                where=path,
                expected=f"≤ {MAX_JSON_BYTES} bytes",
                found=f"{size} bytes",
            )
        data = path.read_bytes()
    except FileNotFoundError as error:
        raise CheckpointError(
            f"has no {path.name}", where=path.parent, hint="Is this the folder of a saved model?"
        ) from error
    except OSError as error:
        raise CheckpointError(f"cannot be read ({error.strerror})", where=path) from error
    value = parse_json(data, str(path), special_floats=True)
    if not isinstance(value, dict):
        raise CheckpointError("is not a JSON object", where=path)
    return value


def _explicit_weights(folder: Path) -> object:
    """`transformers_weights` of the config, ``None`` without a readable config."""
    try:
        explicit = read_json_file(folder / model_files.CONFIG).get("transformers_weights")
    except CheckpointError:  # reported where the config itself is needed
        return None
    check_explicit_weights(explicit, str(folder / model_files.CONFIG))
    return explicit


def _locate(folder: Path) -> tuple[list[Path], dict[str, str] | None, Path | None]:
    """Weight files in the order transformers reads them, and an index and its tensor → file map."""
    names = {path.name for path in folder.iterdir() if path.is_file()}
    explicit = _explicit_weights(folder)
    if isinstance(explicit, str) and (folder / explicit).is_file():
        names.add(explicit)
    chosen = model_files.chosen_weights(names, explicit)
    if chosen is None:
        raise no_weights(names, lambda name: (folder / name).read_bytes(), folder)
    path = folder / chosen
    if not chosen.endswith(".index.json"):
        return [path], None, None
    mapping = checked_weight_map(read_json_file(path), str(path))
    return [folder / shard for shard in sorted(set(mapping.values()))], mapping, path


def _open(path: Path, index: Path | None) -> WeightFile:
    if not path.is_file():
        raise CheckpointError(
            "missing shard",
            where=path,
            expected=f"the file named in {index}",
            hint="Download or copy the missing file.",
        )
    return PickledFile(path) if path.suffix == ".bin" else SafetensorsFile(path)


class Checkpoint(Closing):
    """The weights of a model folder.

    Attributes:
        folder: Where it lies.
        label: How the user named it, for messages.
        tensors: Checkpoint name → dtype, shape and place, in name order.

    Raises:
        CheckpointError: Missing or truncated files, or an index that names missing tensors.
    """

    tensors: Mapping[str, TensorInfo]

    def __init__(self, folder: Path, *, label: str | None = None) -> None:
        self.folder = folder
        self.label = label or str(folder)
        self._files: list[WeightFile] = []
        self._owner: dict[str, WeightFile] = {}
        paths, mapping, index = _locate(folder)
        try:
            for path in paths:
                self._files.append(_open(path, index))
            self.tensors = self._collect(mapping, index)
        except CheckpointError:
            self.close()
            raise

    def _collect(self, mapping: dict[str, str] | None, index: Path | None) -> dict[str, TensorInfo]:
        """All tensors of all files; of a name in several files the last one counts."""
        found: dict[str, TensorInfo] = {}
        for file in self._files:
            found.update(file.tensors)
            self._owner.update(dict.fromkeys(file.tensors, file))
        lost = sorted((mapping or {}).keys() - found.keys())
        if lost:
            raise CheckpointError(
                f"tensor {lost[0]!r:.200} is missing",
                where=self.folder / (mapping or {})[lost[0]],
                expected=f"the tensor named in {index}",
                hint="transformers would fill it with random values. The shard is of another "
                "model, or damaged: download it again.",
            )
        return dict(sorted(found.items()))

    @property
    def nbytes(self) -> int:
        """Bytes of all tensors."""
        return sum(info.nbytes for info in self.tensors.values())

    def read_bits(self, name: str, start: int, count: int) -> Bits:
        """Raw bits of `count` elements of a tensor from element `start`, 1-D."""
        return self._owner[name].read_bits(self.tensors[name], start, count)

    def path_of(self, name: str) -> Path | None:
        """The safetensors file that holds a tensor at `TensorInfo.start`, ``None`` for a pickle."""
        owner = self._owner[name]
        return owner.path if isinstance(owner, SafetensorsFile) else None

    def close(self) -> None:
        """Close all files."""
        for file in self._files:
            file.close()
