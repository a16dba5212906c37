"""A PEFT adapter as a transfer adapter: Δ = merged − base, one module in memory at a time."""

from __future__ import annotations

import re
import warnings
from dataclasses import dataclass, replace
from pathlib import Path

from ftt_hub import hub
from ftt_hub.artifact.manifest import AdapterConfig
from ftt_hub.checkpoint.headers import TOKENIZER_FILES, ModelHeaders
from ftt_hub.checkpoint.reader import Checkpoint
from ftt_hub.checkpoint.resolve import open_model
from ftt_hub.codecs.abc import Codec
from ftt_hub.codecs.exact import ExactCodec
from ftt_hub.codecs.factored import FactoredCodec
from ftt_hub.convert.merged import MergedModel
from ftt_hub.convert.peft_folder import CONFIG, WEIGHTS, PeftFolder, read_peft_folder
from ftt_hub.errors import IncompatibleError, RefError
from ftt_hub.extraction.builder import AdapterBuilder, Provenance
from ftt_hub.extraction.choice import Coding
from ftt_hub.extraction.claims import check_claim
from ftt_hub.extraction.model import Model
from ftt_hub.extraction.trials.trial import LossTrial
from ftt_hub.support.paths import PathLike
from ftt_hub.support.progress import Progress, Silent
from ftt_hub.support.refs import is_repository_name, parse_ref

_COMPANIONS = (*TOKENIZER_FILES, "chat_template.jinja")
_QUANTIZED = re.compile(
    r"[-_.](?:unsloth-)?(?:bnb-4bit|bnb-8bit|4bit|8bit|int4|int8|nf4|gptq|awq|hqq|fp8)\b.*$",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Source:
    """The base that an adapter is merged into.

    Attributes:
        name: As the adapter names it: what is published as the source base.
        quantized_name: The quantized model the adapter was trained on, when it names one.
    """

    name: str
    quantized_name: str | None = None


def fetch_peft(text: PathLike) -> PeftFolder:
    """A PEFT adapter by folder, or by name from the Hub.

    Raises:
        RefError: It names nothing.
        CheckpointError: It is malformed.
        UnsupportedError: It cannot become a diff vector.
    """
    ref = parse_ref(text)
    if ref.folder is not None:
        if not ref.folder.is_dir():
            raise RefError("no such folder", where=ref.folder, hint="Check the path.")
        return read_peft_folder(ref.folder)
    name = str(ref.name)
    commit = hub.resolve_commit(name, ref.revision)
    found = hub.download_file(name, commit, CONFIG)
    if found is None:
        raise RefError(f"no {CONFIG} there", where=ref, expected="a PEFT adapter")
    for filename in (WEIGHTS, *_COMPANIONS):
        hub.download_file(name, commit, filename)
    return read_peft_folder(found.parent)


def _last(name: str) -> str:
    return name.rstrip("/\\").replace("\\", "/").rsplit("/", 1)[-1].lower()


def _same_folder(first: str, second: Path) -> bool:
    try:
        return Path(first).is_dir() and Path(first).samefile(second)
    except OSError:
        return False


def check_base(
    adapter: PeftFolder, base: Checkpoint, headers: ModelHeaders, claimed: str | None, force: bool
) -> Source:
    """Is this the base that the adapter names? A quantized copy of it counts, with a note.

    Args:
        adapter: The PEFT adapter.
        base: The given base.
        headers: Its headers.
        claimed: What the base's folder is said to be a copy of.
        force: Warn instead of refusing.

    Raises:
        IncompatibleError: The adapter names another base.
    """
    named = adapter.base
    given = claimed or headers.label
    if named is None:
        warnings.warn(f"{adapter.folder} names no base; {given} is taken for it", stacklevel=2)
        return Source(given if headers.commit or claimed else _last(given))
    plain = _QUANTIZED.sub("", named)
    quantized = named if plain != named else None
    published = plain if is_repository_name(plain) else (claimed or _last(plain))
    candidates = {given.lower(), str(headers.config.get("_name_or_path", "")).lower()}
    alike = bool(candidates & {named.lower(), plain.lower()})
    if headers.commit is None and claimed is None:
        alike = alike or _last(given) in (_last(named), _last(plain))
        alike = alike or _same_folder(named, base.folder)
    if not alike:
        error = IncompatibleError(
            "the adapter was trained on another base",
            where=adapter.folder,
            expected=named,
            found=given,
            hint="Name that base; if this folder is a copy of it, add --source-id with its name; "
            "to go on all the same, --force.",
        )
        if not force:
            raise error
        warnings.warn(f"forced in spite of: {error}", stacklevel=2)
        published = given if headers.commit or claimed else _last(given)
    if quantized:
        warnings.warn(
            f"the adapter was trained on {quantized}, a quantized copy: its change is added to the "
            "unquantized base, as merging does, and may do slightly less than it did there",
            stacklevel=2,
        )
    if is_repository_name(published) and headers.commit is None:
        check_claim(base.folder, published)
    return Source(published, quantized)


def _headers(adapter: PeftFolder, merged: MergedModel, base: ModelHeaders) -> ModelHeaders:
    """The base's config, with the adapter's tokenizer where it has one."""
    own = any(adapter.small_file(name) is not None for name in TOKENIZER_FILES)

    def small_file(name: str) -> bytes | None:
        data = adapter.small_file(name) if name in _COMPANIONS else None
        if data is not None or (own and name in TOKENIZER_FILES):
            return data
        return base.small_file(name)

    return replace(
        base, label=str(adapter.folder), commit=None, tensors=merged.tensors, small_file=small_file
    )


def _record(adapter: PeftFolder, source: Source) -> dict[str, object]:
    """What the manifest keeps of where Δ came from."""
    value: dict[str, object] = {"peft_type": adapter.peft_type}
    if source.quantized_name:
        value["trained_on_quantized"] = source.quantized_name[:200]
    for key in ("r", "lora_alpha", "use_dora", "use_rslora"):
        item = adapter.config.get(key)
        if isinstance(item, int | float | bool) and item:
            value[key] = item
    return {"x-peft": value}


def from_peft(
    adapter: PathLike,
    out: Path,
    *,
    base: PathLike | None = None,
    coding: Coding | None = None,
    provenance: Provenance | None = None,
    sketch: bool = True,
    workers: int | None = None,
    resume: bool = False,
    force: bool = False,
    progress: Progress | None = None,
    trial: LossTrial | None = None,
) -> AdapterConfig:
    """Make a transfer adapter of a PEFT adapter.

    Where the update of a weight is a product of two matrices (LoRA, AdaLoRA), codec `factored`, the
    default, keeps them. With any other codec, and for all other weights, Δ is what PEFT's own
    merging does to each weight, so that base + Δ is `merge_and_unload()` bit for bit in the base's
    dtype.

    Raises:
        RefError: The adapter or its base is not available.
        CheckpointError: One of them is malformed, or they do not belong together.
        UnsupportedError: The method cannot be merged.
        IncompatibleError: The adapter names another base.
        OutputError: `out` is not empty, or the disk is full.
    """
    found = fetch_peft(adapter)
    given = provenance or Provenance()
    opened, headers = open_model(_chosen_base(found, base))
    with opened:
        source = check_base(found, opened, headers, given.source_id, force)
        merged = MergedModel(opened, found)
        tuned = _headers(found, merged, headers)
        known = replace(
            given,
            source_id=given.source_id or source.name,
            fine_tuned_id=given.fine_tuned_id or _adapter_name(adapter, found),
        )
        chosen = coding or Coding(FactoredCodec.id)
        codec = _codec(merged) if chosen.codec == FactoredCodec.id else None
        return AdapterBuilder(
            Model(opened, headers),
            Model(merged, tuned),
            out,
            known,
            chosen,
            sketch,
            workers,
            progress or Silent(),
            trial,
            _record(found, source),
            codec,
        ).build(resume=resume)


def _codec(merged: MergedModel) -> Codec:
    """`factored` where the adapter has factors at all, else `exact`."""
    return FactoredCodec(find=merged.factors) if merged.has_factors else ExactCodec()


def _adapter_name(text: PathLike, adapter: PeftFolder) -> str:
    ref = parse_ref(text)
    return ref.name or adapter.folder.resolve().name


def _chosen_base(adapter: PeftFolder, base: PathLike | None) -> PathLike:
    """The given base, else the one that the adapter names.

    Raises:
        RefError: There is neither.
    """
    if base is not None:
        return base
    if adapter.base is None:
        raise RefError(
            "the adapter names no base model",
            where=adapter.folder / CONFIG,
            hint="Name it with --base.",
        )
    plain = _QUANTIZED.sub("", adapter.base)
    if plain != adapter.base:
        raise RefError(
            f"the adapter was trained on {adapter.base}, a quantized copy",
            where=adapter.folder / CONFIG,
            expected="the unquantized base",
            hint=f"Name it with --base, probably {plain}.",
        )
    if not Path(adapter.base).is_dir() and not is_repository_name(adapter.base):
        raise RefError(
            f"its base {adapter.base[:120]!r} is not available",
            where=adapter.folder / CONFIG,
            hint="Name the base with --base.",
        )
    revision = adapter.base_revision
    if revision and is_repository_name(adapter.base) and not Path(adapter.base).is_dir():
        return f"{adapter.base}@{revision}"
    return adapter.base
