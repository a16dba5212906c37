"""What is known of a model without its weights: config, tensor headers and tokenizer files."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ftt_hub.checkpoint.reader import Checkpoint, read_json_file
from ftt_hub.checkpoint.spelling import Respelling
from ftt_hub.errors import CheckpointError, UnsupportedError
from ftt_hub.support.model_files import GENERATION_CONFIG, MAX_COMPANIONS, is_companion
from ftt_hub.support.warn import warn_caller
from ftt_hub.tensors.header import TensorInfo, parse_json

TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "vocab.txt",
    "tokenizer.model",
    "spiece.model",
)
MAX_SMALL_BYTES = 64 << 20


@dataclass(frozen=True)
class ModelHeaders:
    """A model's config, tensor headers and small files.

    Attributes:
        label: How the user named it.
        commit: Commit sha on the Hub, if it came from there.
        config: `config.json`.
        tensors: Checkpoint name → dtype and shape.
        small_file: Reads a file such as ``"tokenizer.json"``; ``None`` when there is none.
        identities: File → hash of its content as the Hub tells it; empty for a local model.
        sizes: File → bytes, likewise.
        respelling: How `tensors` are made of what the model stores, where they are shown under
            the names of another model; ``None`` where they are its own.
        companions: Paths of the files that it needs beside config and weights (`model_files`).
    """

    label: str
    commit: str | None
    config: Mapping[str, Any]
    tensors: Mapping[str, TensorInfo]
    small_file: Callable[[str], bytes | None]
    identities: Mapping[str, str] = field(default_factory=dict)
    sizes: Mapping[str, int] = field(default_factory=dict)
    respelling: Respelling | None = None
    companions: tuple[str, ...] = ()

    @property
    def nbytes(self) -> int:
        """Bytes of all tensors."""
        return sum(info.nbytes for info in self.tensors.values())

    def small_json(self, name: str) -> dict[str, Any] | None:
        """A small file as a JSON object; ``None`` when there is none.

        Raises:
            CheckpointError: It is not a JSON object.
        """
        data = self.small_file(name)
        if data is None:
            return None
        value = parse_json(data, f"{self.label}/{name}", special_floats=True)
        if not isinstance(value, dict):
            raise CheckpointError("is not a JSON object", where=f"{self.label}/{name}")
        return value

    def generation_config(self) -> dict[str, Any] | None:
        """The generation config; ``None`` when there is none, or none that is JSON, with a warning.

        transformers too goes on without a file that it cannot read.
        """
        try:
            return self.small_json(GENERATION_CONFIG)
        except CheckpointError as error:
            warn_caller(f"ignored, as transformers does: {error}")
            return None


def companions_in(folder: Path) -> tuple[str, ...]:
    """Paths of a local model's companion files, of bounded number."""
    paths = [path.name for path in folder.iterdir() if path.is_file()]
    for inner in folder.iterdir():
        if inner.is_dir() and not inner.name.startswith("."):
            paths += [f"{inner.name}/{path.name}" for path in inner.iterdir() if path.is_file()]
    return tuple(sorted(filter(is_companion, paths))[:MAX_COMPANIONS])


def headers_of(checkpoint: Checkpoint, *, commit: str | None = None) -> ModelHeaders:
    """The headers of an opened local checkpoint.

    Raises:
        CheckpointError: It has no readable `config.json`.
    """
    folder = checkpoint.folder

    def small_file(name: str) -> bytes | None:
        path = folder / name
        if not path.is_file():
            return None
        if path.stat().st_size > MAX_SMALL_BYTES:
            raise CheckpointError(
                "too large",
                where=path,
                expected=f"≤ {MAX_SMALL_BYTES} bytes",
                found=f"{path.stat().st_size} bytes",
            )
        return path.read_bytes()

    config = read_json_file(folder / "config.json")
    return ModelHeaders(
        checkpoint.label,
        commit,
        config,
        checkpoint.tensors,
        small_file,
        companions=companions_in(folder),
    )


def refuse_quantized(headers: ModelHeaders) -> None:
    """Refuse a checkpoint whose weights are stored quantized.

    Raises:
        UnsupportedError: Its config names a quantization method.
    """
    quantization = headers.config.get("quantization_config")
    if quantization:
        method = quantization.get("quant_method") if isinstance(quantization, dict) else None
        raise UnsupportedError(
            f"the weights are stored quantized ({method or 'unknown method'})",
            where=headers.label,
            expected="bf16, fp16 or fp32 weights",
            hint="Use the unquantized model, and quantize the result.",
        )
