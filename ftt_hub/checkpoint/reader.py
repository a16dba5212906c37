"""A model folder opened header-first; weights are read by offset, a range at a time."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from ftt_hub.checkpoint.pickled import PickledFile
from ftt_hub.errors import CheckpointError
from ftt_hub.support.closing import Closing
from ftt_hub.tensors.dtypes import Bits
from ftt_hub.tensors.file import SafetensorsFile
from ftt_hub.tensors.header import TensorInfo, parse_json

MAX_JSON_BYTES = 64 << 20


class WeightFile(Protocol):
    """One file of weights."""

    tensors: dict[str, TensorInfo]

    def read_bits(self, info: TensorInfo, start: int, count: int) -> Bits:
        """Raw bits of a run of elements."""

    def close(self) -> None:
        """Release the file."""


def read_json_file(path: Path) -> dict[str, object]:
    """A JSON object from a file of bounded size.

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
    except OSError as error:
        raise CheckpointError(f"cannot be read ({error.strerror})", where=path) from error
    value = parse_json(data, str(path))
    if not isinstance(value, dict):
        raise CheckpointError("is not a JSON object", where=path)
    return value


def _weight_map(index: Path) -> dict[str, str]:
    mapping = read_json_file(index).get("weight_map")
    if not isinstance(mapping, dict) or not mapping:
        raise CheckpointError("has no weight_map", where=index, hint="Download it again.")
    for name, shard in mapping.items():
        if not isinstance(shard, str) or "/" in shard or "\\" in shard or shard.startswith("."):
            raise CheckpointError(
                f"tensor {name!r:.100} lies in the impossible file {shard!r:.100}",
                where=index,
                expected="a file name without folders",
            )
    return {str(name): str(shard) for name, shard in mapping.items()}


def _locate(folder: Path) -> tuple[list[Path], dict[str, str] | None, Path | None]:
    """Weight files, tensor → file name map (None: take what the file holds), and the index."""
    single, index = folder / "model.safetensors", folder / "model.safetensors.index.json"
    if single.is_file() and not index.is_file():
        return [single], None, None
    pickled = (folder / "pytorch_model.bin", folder / "pytorch_model.bin.index.json")
    for one, many in ((single, index), pickled):
        if many.is_file():
            mapping = _weight_map(many)
            return [folder / shard for shard in sorted(set(mapping.values()))], mapping, many
        if one.is_file():
            return [one], None, None
    raise CheckpointError(
        "no weights found",
        where=folder,
        expected="model.safetensors, its index, or pytorch_model.bin",
        hint="Is this the folder of a saved model?",
    )


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
            self.tensors = self._collect(paths, mapping, index)
        except CheckpointError:
            self.close()
            raise

    def _collect(
        self, paths: list[Path], mapping: dict[str, str] | None, index: Path | None
    ) -> dict[str, TensorInfo]:
        found: dict[str, TensorInfo] = {}
        by_name = {path.name: file for path, file in zip(paths, self._files, strict=True)}
        places = mapping or dict.fromkeys(self._files[0].tensors, paths[0].name)
        for name, shard in sorted(places.items()):
            info = by_name[shard].tensors.get(name)
            if info is None:
                raise CheckpointError(
                    f"tensor {name!r:.200} is missing",
                    where=self.folder / shard,
                    expected=f"the tensor named in {index}",
                    hint="The shard is of another model, or damaged: download it again.",
                )
            found[name], self._owner[name] = info, by_name[shard]
        return found

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
