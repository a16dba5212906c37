"""Before any sum: open the target, plan, and refuse what does not fit."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ftt_hub.artifact.adapter import Adapter, AdapterHeaders
from ftt_hub.artifact.anchor import Anchor
from ftt_hub.artifact.manifest import AdapterConfig
from ftt_hub.checkpoint import vocabulary
from ftt_hub.checkpoint.headers import ModelHeaders
from ftt_hub.checkpoint.reader import Checkpoint
from ftt_hub.checkpoint.remote import tokenizer_identity
from ftt_hub.checkpoint.resolve import open_model, read_headers
from ftt_hub.errors import FttError, HubError, RefError
from ftt_hub.support.findings import CompatibilityReport, Status
from ftt_hub.support.warn import warn_caller
from ftt_hub.transfer import findings, lineage
from ftt_hub.transfer.plan import (
    TransferPlan,
    adapter_tokens,
    carries_tokenizer,
    plan_transfer,
)


@dataclass(frozen=True)
class Prepared:
    """A target ready to receive Δ.

    Attributes:
        checkpoint: Its weights.
        headers: Its headers.
        plan: What every tensor of the result is made of.
        report: What was found.
    """

    checkpoint: Checkpoint
    headers: ModelHeaders
    plan: TransferPlan
    report: CompatibilityReport


def plan_for(
    adapter: Adapter | AdapterHeaders, target: ModelHeaders, *, same_tokens: bool | None = None
) -> TransferPlan:
    """Match an adapter with a target's headers.

    Args:
        adapter: The opened adapter, or its headers.
        target: The target's headers.
        same_tokens: What `has_same_tokens` said, where it was asked already.
    """
    described = adapter.headers if isinstance(adapter, Adapter) else adapter
    config = described.config

    def source_tokens() -> vocabulary.Tokens | None:
        try:
            source = read_headers(config.source_base.id)
            return vocabulary.read_tokens(source.small_file, source.label)
        except FttError:  # the source base is not at hand: rows cannot be matched by token
            return None

    def small_file(name: str) -> bytes | None:
        path = described.file(name)
        return None if path is None else path.read_bytes()

    def tokens() -> vocabulary.Tokens | None:
        return adapter_tokens(small_file, config, source_tokens)

    same = has_same_tokens(config, target) if same_tokens is None else same_tokens
    return plan_transfer(config, described.entries, target, tokens, same_tokens=same)


def has_same_tokens(config: AdapterConfig, target: ModelHeaders) -> bool:
    """Whether the Hub's hashes alone show that a target has the fine-tuned model's tokenizer."""
    theirs = target.identities.get(vocabulary.TOKENIZER)
    if theirs is None or config.vocabulary is None:
        return False
    if carries_tokenizer(config):
        return bool(config.files.get(vocabulary.TOKENIZER, {}).get("sha256") == theirs)
    source = config.source_base
    if source.id == target.label and source.revision in (None, target.commit):
        return True
    if theirs in config.vocabulary.files:
        return True
    return tokenizer_identity(source.id, source.revision) == theirs


def examine(
    adapter: AdapterHeaders, checkpoint: Checkpoint, headers: ModelHeaders, plan: TransferPlan
) -> findings.Transfer:
    """Compare the adapter's sketch with a target on this machine, for the checks to look at."""
    comparison = lineage.compare(adapter, plan, checkpoint.tensors, checkpoint.read_bits)
    return findings.Transfer(adapter, headers, plan, comparison)


@contextmanager
def prepared(
    adapter: Adapter,
    target: str | Path,
    *,
    force: bool = False,
    source_base: str | Path | None = None,
) -> Iterator[Prepared]:
    """Open a target, plan the transfer and check headers and sketch.

    Args:
        adapter: The opened adapter.
        target: Folder or Hub reference of the target.
        force: Turn a rejection into a warning, as far as a plan exists at all.
        source_base: What anchored frames decode against; default the target itself. It is
            checked by hash before anything is decoded, and no other codec reads it.

    Raises:
        IncompatibleError: The adapter does not fit; the message says why.
        RefError: The target names nothing.
        CheckpointError: The target is not a readable model.
    """
    checkpoint, headers = open_model(target)
    with checkpoint:
        plan = plan_for(adapter, headers)
        transfer = examine(adapter.headers, checkpoint, headers, plan)
        report = findings.report(transfer)
        if report.status is Status.REJECTED and force:
            refuse_impossible(report, plan)
            warn_caller(f"forced in spite of: {report.verdict}")
        else:
            report.raise_if_incompatible()
        with anchored(adapter, checkpoint, source_base):
            yield Prepared(checkpoint, headers, plan, report)


@contextmanager
def anchored(
    adapter: Adapter, target: Checkpoint, source_base: str | Path | None
) -> Iterator[None]:
    """Give the container the source base while it is used, where its frames need one."""
    container = adapter.container
    if not container.needs_source:
        yield
        return
    source = target if source_base is None else open_model(source_base)[0]
    container.anchor = Anchor(source.label, source.tensors, source.read_bits)
    try:
        yield
    finally:
        container.anchor = None
        if source is not target:
            source.close()


@contextmanager
def decodable(adapter: Adapter, source_base: str | Path | None = None) -> Iterator[None]:
    """Give the container the source base while it is used without any target.

    Args:
        adapter: The opened adapter.
        source_base: Only read where frames need it; default the one the adapter names.

    Raises:
        RefError: The frames need the source base, and it is not at hand.
    """
    container, named = adapter.container, adapter.config.source_base
    if not container.needs_source or container.anchor is not None:
        yield
        return
    chosen = source_base or named.ref
    try:
        source = open_model(chosen)[0]
    except (RefError, HubError) as error:
        raise RefError(
            f"an anchored adapter decodes against its source base only ({error.what})",
            where=adapter.label,
            expected=named.id,
            found=chosen,
            hint="Name its folder: --base, in info --source-base.",
        ) from error
    with source:
        container.anchor = Anchor(source.label, source.tensors, source.read_bits)
        try:
            yield
        finally:
            container.anchor = None


def refuse_impossible(report: CompatibilityReport, plan: TransferPlan) -> None:
    """Refuse even with force what has no meaning: sums of tensors of different shapes.

    Raises:
        IncompatibleError: A delta and its target cannot be added.
    """
    for tensor in plan.tensors.values():
        if tensor.entry is None or tensor.target is None:
            continue
        aligned = tensor.rows is not None and tensor.shape[1:] == tensor.entry.shape[1:]
        if not aligned and tensor.target.shape != tensor.entry.shape:
            report.raise_if_incompatible()
        if not tensor.dtype.is_float:
            report.raise_if_incompatible()
