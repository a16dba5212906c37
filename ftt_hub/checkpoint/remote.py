"""A model on the Hub by ranged reads: config, tensor headers, and runs of weights on demand."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from ftt_hub import hub
from ftt_hub.checkpoint.headers import MAX_SMALL_BYTES, TOKENIZER_FILES, ModelHeaders
from ftt_hub.errors import CheckpointError, FttError
from ftt_hub.support.parallel import map_unordered
from ftt_hub.support.refs import is_repository_name
from ftt_hub.tensors.dtypes import Bits
from ftt_hub.tensors.header import TensorInfo, header_length, parse_header, parse_json

SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"
HEADER_GUESS = 12 << 10
MAX_CONFIG_BYTES = 4 << 20
MAX_INDEX_BYTES = 64 << 20
LARGE_TOKENIZER = 256 << 10
WORKERS = 8

Place = tuple[str, TensorInfo]


class RemoteModel:
    """A model on the Hub, of which nothing is downloaded but what is asked for.

    Attributes:
        headers: Config, tensor headers and small files.

    Raises:
        RefError: No such repository or revision.
        CheckpointError: It is not a readable model.
        HubError: The Hub does not answer.
    """

    def __init__(self, name: str, revision: str | None = None) -> None:
        self.repository = hub.describe(name, revision)
        self.name, self.commit = name, self.repository.commit
        config = self._json("config.json", MAX_CONFIG_BYTES)
        self._places = self._tensors()
        files = self.repository.files
        self.headers = ModelHeaders(
            name,
            self.commit,
            config,
            {tensor: info for tensor, (_, info) in sorted(self._places.items())},
            self._small_file,
            {path: f.identity for path, f in files.items() if f.identity is not None},
            {path: f.size for path, f in files.items() if f.size is not None},
        )

    def _json(self, filename: str, limit: int) -> Mapping[str, object]:
        where = f"{self.name}/{filename}"
        data = None
        if filename in self.repository.files:
            data = hub.read_file(self.name, self.commit, filename, limit)
        if data is None:
            raise CheckpointError(f"has no {filename}", where=self.name, hint="Is it a model?")
        if len(data) > limit:
            raise CheckpointError("too large", where=where, expected=f"≤ {limit} bytes")
        value = parse_json(data, where)
        if not isinstance(value, dict):
            raise CheckpointError("is not a JSON object", where=where)
        return value

    def _small_file(self, filename: str) -> bytes | None:
        file = self.repository.files.get(filename)
        if file is None:
            return None
        if file.size is not None and file.size > MAX_SMALL_BYTES:
            raise CheckpointError(
                "too large",
                where=f"{self.name}/{filename}",
                expected=f"≤ {MAX_SMALL_BYTES} bytes",
                found=f"{file.size} bytes",
            )
        path = hub.download_file(self.name, self.commit, filename)
        return None if path is None else path.read_bytes()

    def _tensors(self) -> dict[str, Place]:
        if INDEX in self.repository.files:
            mapping = self._json(INDEX, MAX_INDEX_BYTES).get("weight_map")
            wanted = mapping if isinstance(mapping, dict) else {}
            shards = sorted({str(shard) for shard in wanted.values()})
        else:
            wanted, shards = {}, [SINGLE]
        missing = [shard for shard in shards if shard not in self.repository.files]
        if missing or not shards:
            raise CheckpointError(
                "no weights found",
                where=self.name,
                expected=missing[0] if missing else SINGLE,
                hint="ftt-hub reads the headers of safetensors files; is this a saved model?",
            )
        found: dict[str, Place] = {}
        for shard, tensors in map_unordered(self._shard, shards, WORKERS):
            found.update(
                {n: (shard, i) for n, i in tensors.items() if wanted.get(n, shard) == shard}
            )
        lost = sorted(set(map(str, wanted)) - found.keys())
        if lost:
            raise CheckpointError(
                f"tensor {lost[0]!r:.200} is missing", where=f"{self.name}/{INDEX}"
            )
        return found if not wanted else {n: p for n, p in found.items() if n in wanted}

    def _shard(self, filename: str) -> tuple[str, dict[str, TensorInfo]]:
        """Headers of one file, mostly in one read."""
        where = f"{self.name}/{filename}"
        size = self.repository.files[filename].size
        head = hub.read_range(self.name, self.commit, filename, 0, HEADER_GUESS)
        whole = (1 << 62) if size is None else size
        end = 8 + header_length(head, where, whole)
        if end > len(head):
            rest = hub.read_range(self.name, self.commit, filename, len(head), end - len(head))
            head += rest
        tensors, _ = parse_header(head[8:end], where, whole)
        return filename, tensors

    def read_bits(self, name: str, start: int, count: int) -> Bits:
        """Raw bits of `count` elements of a tensor from element `start`, one request.

        Raises:
            RangesIgnoredError: The server sends whole files.
            HubError: The Hub does not answer.
        """
        shard, info = self._places[name]
        width = info.dtype.itemsize
        data = hub.read_range(
            self.name, self.commit, shard, info.start + start * width, count * width
        )
        if len(data) != count * width:
            raise CheckpointError("truncated file", where=f"{self.name}/{shard}")
        bits: Bits = np.frombuffer(data, dtype=info.dtype.numpy).copy()
        return bits

    def prefetched(self, runs: list[tuple[str, int, int]]) -> dict[tuple[str, int, int], Bits]:
        """The bits of many runs, read side by side."""

        def read(run: tuple[str, int, int]) -> tuple[tuple[str, int, int], Bits]:
            return run, self.read_bits(*run)

        return dict(map_unordered(read, runs, WORKERS))


def tokenizer_identity(model: str, revision: str | None) -> str | None:
    """The Hub's hash of a model's `tokenizer.json`, ``None`` when it cannot be told."""
    if not is_repository_name(model):
        return None
    try:
        file = hub.describe(model, revision).files.get("tokenizer.json")
    except FttError:  # gated, gone, or never on the Hub: it cannot be told
        return None
    return None if file is None else file.identity


def without_large_tokenizer(model: ModelHeaders) -> ModelHeaders:
    """The model as if its tokenizer were not at hand, when reading it means megabytes."""
    large = {n for n in TOKENIZER_FILES if model.sizes.get(n, 0) > LARGE_TOKENIZER}
    if not large:
        return model

    def small_file(name: str) -> bytes | None:
        return None if name in large else model.small_file(name)

    return replace(model, small_file=small_file)
