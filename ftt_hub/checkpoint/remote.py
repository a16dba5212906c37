"""A model on the Hub by ranged reads: config, tensor headers, and runs of weights on demand."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from ftt_hub import hub
from ftt_hub.checkpoint.headers import MAX_SMALL_BYTES, ModelHeaders
from ftt_hub.errors import CheckpointError, FttError
from ftt_hub.hub.model_download import MAX_CONFIG_BYTES
from ftt_hub.support.model_files import (
    CONFIG,
    PICKLED,
    PICKLED_INDEX,
    SINGLE,
    chosen_weights,
    may_be_tokenizer,
)
from ftt_hub.support.no_weights import no_weights
from ftt_hub.support.parallel import map_unordered
from ftt_hub.support.refs import is_repository_name
from ftt_hub.tensors.dtypes import Bits
from ftt_hub.tensors.header import TensorInfo, header_length, parse_header, parse_json

HEADER_GUESS = 12 << 10
LARGE_TOKENIZER = 256 << 10
WORKERS = 8

Place = tuple[str, TensorInfo]


class PickledWeightsError(CheckpointError):
    """A repository has `pytorch_model.bin` only, which has to be downloaded to be read."""


class RemoteModel:
    """A model on the Hub, of which nothing is downloaded but what is asked for.

    Attributes:
        headers: Config, tensor headers and small files.

    Raises:
        RefError: No such repository or revision.
        PickledWeightsError: Its weights are `pytorch_model.bin`.
        CheckpointError: It is not a readable model.
        HubError: The Hub does not answer.
    """

    def __init__(self, name: str, revision: str | None = None) -> None:
        self.repository = hub.describe(name, revision)
        self.name, self.commit = name, self.repository.commit
        config = self._config()
        self._places = self._tensors(config)
        files = self.repository.files
        self.headers = ModelHeaders(
            name,
            self.commit,
            config,
            {tensor: info for tensor, (_, info) in sorted(self._places.items())},
            self._small_file,
            {path: f.identity for path, f in files.items() if f.identity is not None},
            {path: f.size for path, f in files.items() if f.size is not None},
            companions=tuple(hub.companions_of(files)),
        )

    def _config(self) -> Mapping[str, object]:
        where = f"{self.name}/{CONFIG}"
        data = None
        if CONFIG in self.repository.files:
            data = hub.read_file(self.name, self.commit, CONFIG, MAX_CONFIG_BYTES)
        if data is None:
            if chosen_weights(self.repository.files) is None:
                raise no_weights(self.repository.files, self._small_file, self.name)
            raise CheckpointError(f"has no {CONFIG}", where=self.name, hint="Is it a model?")
        if len(data) > MAX_CONFIG_BYTES:
            raise CheckpointError("too large", where=where, expected=f"≤ {MAX_CONFIG_BYTES} bytes")
        value = parse_json(data, where, special_floats=True)
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

    def _tensors(self, config: Mapping[str, object]) -> dict[str, Place]:
        """All tensors of the files that transformers would load; the last file of a name counts."""
        files = self.repository.files
        chosen, mapping = hub.weights_of(self.name, self.commit, files, config)
        if chosen is None:
            raise no_weights(files, self._small_file, self.name)
        if chosen in (PICKLED, PICKLED_INDEX):
            raise PickledWeightsError(
                "the weights are a pickle, of which no header can be read",
                where=f"{self.name}/{chosen}",
                expected=SINGLE,
            )
        shards = sorted(set(mapping.values())) or [chosen]
        missing = [shard for shard in shards if shard not in files]
        if missing:
            raise CheckpointError(
                "missing shard",
                where=f"{self.name}/{missing[0]}",
                expected=f"the file named in {chosen}",
            )
        headers = dict(map_unordered(self._shard, shards, WORKERS))
        found = {n: (shard, i) for shard in shards for n, i in headers[shard].items()}
        lost = sorted(mapping.keys() - found.keys())
        if lost:
            raise CheckpointError(
                f"tensor {lost[0]!r:.200} is missing", where=f"{self.name}/{chosen}"
            )
        return found

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
    large = {n for n, size in model.sizes.items() if size > LARGE_TOKENIZER and may_be_tokenizer(n)}
    if not large:
        return model

    def small_file(name: str) -> bytes | None:
        return None if name in large else model.small_file(name)

    return replace(model, small_file=small_file)
