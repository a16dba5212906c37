"""`adapter_config.json`: what an adapter is, small enough to browse thousands of them.

The file is a PEFT config and our summary at once, validated against the JSON Schema before a
single value of it is used: whatever comes from a registry is hostile until then.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path

from ftt_hub.artifact.facts import TensorFacts, facts_from_json
from ftt_hub.errors import CheckpointError, IntegrityError, UnsupportedError
from ftt_hub.support.canonical import digest_of
from ftt_hub.support.json_schema import Json, validate
from ftt_hub.support.special_floats import decoded_floats, encoded_floats
from ftt_hub.tensors.header import parse_json

CONFIG_NAME = "adapter_config.json"
FORMAT_VERSION = "1.1"
MAX_CONFIG_BYTES = 64 * 1024
FEATURES: frozenset[str] = frozenset()
"""Features beyond version 1.0 that this release can read; none so far."""


@dataclass(frozen=True)
class ModelIdentity:
    """One of the two models a diff vector comes from.

    Attributes:
        id: Repository name or the name the user gave a local folder.
        revision: Commit sha on the Hub, if known.
        digest: Digest over all its tensors: dtype, shape and raw bytes of each.
        config: Its `config.json` without `auto_map` and labels; empty for the fine-tuned model.
    """

    id: str
    revision: str | None
    digest: str
    config: Json = field(default_factory=dict)

    @property
    def ref(self) -> str:
        """The reference that opens it: ``id@revision``, or the id where no revision is known."""
        return f"{self.id}@{self.revision}" if self.revision else self.id


@dataclass(frozen=True)
class Fidelity:
    """How faithful and how small the stored Δ is, measured at extraction.

    Attributes:
        exact: Whether source base + Δ was seen to give the fine-tuned model bit for bit.
        relative_error: ‖Δ̂ − Δ‖ / ‖Δ‖.
        noise: ‖Δ̂ − Δ‖ / ‖m_s‖, what coding adds relative to the weights.
        relative_norm: ‖Δ‖ / ‖m_s‖, the size of the diff vector.
        parameters: Elements of the fine-tuned model.
        changed_parameters: Elements whose bits differ from the source base's.
        bits_per_weight: Bits of all frames per element of the fine-tuned model.
        ratio: Bytes of the container per byte of the fine-tuned model.
    """

    exact: bool
    relative_error: float
    noise: float
    relative_norm: float
    parameters: int
    changed_parameters: int
    bits_per_weight: float
    ratio: float


@dataclass(frozen=True)
class CodecSpec:
    """The codec, its parameters, and the versions of the encoders that wrote the frames."""

    id: str
    parameters: Json
    block_elements: int
    encoders: dict[str, str]


@dataclass(frozen=True)
class TensorSummary:
    """What fine-tuning did to the set of tensors; the lists hold at most 64 names."""

    changed: int
    unchanged: int
    added: list[str] = field(default_factory=list)
    dropped: list[str] = field(default_factory=list)
    resized: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class VocabularySummary:
    """The token ids that the rows of embeddings and lm_head stand for.

    Attributes:
        size: Number of token ids of the fine-tuned tokenizer.
        digest: Digest of its tokens in id order (`ftt_hub.checkpoint.vocabulary`).
        source_size: The same number for the source base's tokenizer, if known.
        renamed: Id → the source base's token where fine-tuning gave the id a new token, as when
            a reserved one is put to use; the row stays the same.
        files: sha256 of `tokenizer.json` files that are known to hold the same tokens, so that a
            target with one of them need not be parsed.
    """

    size: int
    digest: str
    source_size: int | None = None
    renamed: dict[str, str] = field(default_factory=dict)
    files: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class AdapterConfig:
    """All of `adapter_config.json`; see docs/format.md for the meaning of every field."""

    source_base: ModelIdentity
    fine_tuned: ModelIdentity
    codec: CodecSpec
    fidelity: Fidelity
    tensors: TensorSummary
    num_slots: int
    task_type: str | None = None
    languages: list[str] = field(default_factory=list)
    datasets: list[str] = field(default_factory=list)
    method: str = "SFT"
    hyperparameters: Json = field(default_factory=dict)
    license: str | None = None
    parents: list[Json] = field(default_factory=list)
    differences: Json = field(default_factory=lambda: {"config": {}, "tokenizer": {}})
    vocabulary: VocabularySummary | None = None
    architecture: TensorFacts | None = None
    generation_config: Json = field(default_factory=dict)
    combination: Json = field(default_factory=dict)
    required_features: list[str] = field(default_factory=list)
    files: Json = field(default_factory=dict)
    extra: Json = field(default_factory=dict)
    format_version: str = FORMAT_VERSION
    content_digest: str = ""

    def to_json(self) -> Json:
        """The file's JSON value, with the content digest computed anew."""
        value = {f.name: getattr(self, f.name) for f in fields(self)}
        for name in ("source_base", "fine_tuned", "codec", "fidelity", "tensors"):
            value[name] = asdict(value[name])
        del value["fine_tuned"]["config"]
        value["source_base"]["config"] = encoded_floats(value["source_base"]["config"])
        for name in ("differences", "generation_config"):
            value[name] = encoded_floats(value[name])
        if not self.parents:
            del value["parents"]
        value["method"] = {"name": self.method, "hyperparameters": value.pop("hyperparameters")}
        value.pop("vocabulary")
        if self.vocabulary is not None:
            value["vocabulary"] = asdict(self.vocabulary)
        value.pop("architecture")
        if self.architecture is not None:
            value["architecture"] = self.architecture.to_json()
        if not self.combination:
            del value["combination"]
        value.update(value.pop("extra"))
        value.update(
            peft_type="TRANSFER",
            base_model_name_or_path=self.source_base.id,
            revision=self.source_base.revision,
            inference_mode=True,
        )
        value.pop("content_digest")
        value["content_digest"] = digest_of(value)
        return value

    def to_bytes(self) -> bytes:
        """The file's bytes: indented JSON with sorted keys.

        Raises:
            IntegrityError: The result would break the schema or the size limit.
        """
        value = validate(self.to_json(), "adapter_config", CONFIG_NAME)
        data = (json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False) + "\n").encode()
        if len(data) > MAX_CONFIG_BYTES:
            raise IntegrityError(
                "too large",
                where=CONFIG_NAME,
                expected=f"≤ {MAX_CONFIG_BYTES} bytes",
                found=f"{len(data)} bytes",
                hint="Shorten the metadata.",
            )
        return data

    @property
    def stored_bytes(self) -> int:
        """Bytes of all files of the adapter."""
        return sum(int(facts["size"]) for facts in self.files.values())

    def with_files(self, files: Json) -> AdapterConfig:
        """A copy that lists these files and carries the digest that follows."""
        listed = replace(self, files=files)
        return replace(listed, content_digest=listed.to_json()["content_digest"])


def _refuse_other_adapters(value: Json, where: str) -> None:
    """Refuse an adapter of PEFT's with its own name, not as a damaged one of ours."""
    kind = value.get("peft_type")
    if isinstance(kind, str) and kind != "TRANSFER" and "format_version" not in value:
        raise UnsupportedError(
            "is a PEFT adapter",
            where=where,
            expected="a transfer adapter",
            found=f"peft_type {kind[:40]}",
            hint="Make one of it with ftt-hub convert from-peft.",
        )


def _check_version(value: Json, where: str) -> None:
    version = value.get("format_version")
    if isinstance(version, str) and version[:8].split(".")[0] != FORMAT_VERSION.split(".")[0]:
        raise UnsupportedError(
            "unknown format_version",
            where=where,
            expected="1.x",
            found=version[:20],
            hint="Upgrade ftt-hub.",
        )
    features = value.get("required_features")
    unknown = [f for f in features if f not in FEATURES] if isinstance(features, list) else []
    if unknown:
        raise UnsupportedError(
            f"needs features that this release lacks: {', '.join(map(str, unknown))[:100]}",
            where=where,
            hint="Upgrade ftt-hub.",
        )


def _check_digest(value: Json, where: str) -> None:
    content = {key: item for key, item in value.items() if key != "content_digest"}
    if digest_of(content) != value["content_digest"]:
        raise IntegrityError(
            "the content digest does not match the manifest",
            where=where,
            expected=value["content_digest"],
            found=digest_of(content),
            hint="The manifest was altered after it was made.",
        )


def parse_config(data: bytes, where: str) -> AdapterConfig:
    """The config of untrusted bytes.

    Raises:
        IntegrityError: Too large, not JSON, not as the schema says, or altered.
        UnsupportedError: Made for a newer format.
    """
    if len(data) > MAX_CONFIG_BYTES:
        raise IntegrityError(
            "too large",
            where=where,
            expected=f"≤ {MAX_CONFIG_BYTES} bytes",
            found=f"{len(data)} bytes",
        )
    try:
        value = parse_json(data, where)
    except CheckpointError as error:
        raise IntegrityError(error.what, where=where, hint=error.hint) from error
    if isinstance(value, dict):
        _refuse_other_adapters(value, where)
        _check_version(value, where)
    checked = validate(value, "adapter_config", where)
    _check_digest(checked, where)
    return _from_json(checked)


def _pick(kind: type, value: Mapping[str, object]) -> Json:
    """The entries of `value` that are fields of a dataclass; unknown ones are for later minors."""
    names = {f.name for f in fields(kind)}
    return {key: item for key, item in value.items() if key in names}


_PEFT_KEYS = {"peft_type", "base_model_name_or_path", "revision", "inference_mode"}


def _from_json(value: Json) -> AdapterConfig:
    known = _pick(AdapterConfig, value)
    source = _pick(ModelIdentity, value["source_base"])
    source["config"] = decoded_floats(source.get("config", {}))
    known["source_base"] = ModelIdentity(**source)
    for name in ("differences", "generation_config"):
        if name in known:
            known[name] = decoded_floats(known[name])
    known["fine_tuned"] = ModelIdentity(**_pick(ModelIdentity, value["fine_tuned"]))
    known["codec"] = CodecSpec(**_pick(CodecSpec, value["codec"]))
    known["fidelity"] = Fidelity(**_pick(Fidelity, value["fidelity"]))
    known["tensors"] = TensorSummary(**_pick(TensorSummary, value["tensors"]))
    known["method"] = value["method"]["name"]
    known["hyperparameters"] = value["method"]["hyperparameters"]
    if "vocabulary" in value:
        known["vocabulary"] = VocabularySummary(**_pick(VocabularySummary, value["vocabulary"]))
    if "architecture" in value:
        known["architecture"] = facts_from_json(value["architecture"])
    known["extra"] = {k: v for k, v in value.items() if k not in known and k not in _PEFT_KEYS}
    return AdapterConfig(**known)


def read_config(folder: Path) -> AdapterConfig:
    """The config of an adapter folder.

    Raises:
        IntegrityError: Missing or damaged.
        UnsupportedError: Made for a newer format.
    """
    path = folder / CONFIG_NAME
    try:
        with path.open("rb") as file:
            data = file.read(MAX_CONFIG_BYTES + 1)
    except OSError as error:
        raise IntegrityError(
            f"no readable {CONFIG_NAME} ({error.strerror})",
            where=folder,
            hint="Is this a transfer adapter?",
        ) from error
    return parse_config(data, str(path))
