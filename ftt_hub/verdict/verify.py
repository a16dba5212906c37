"""`verify`: is an adapter intact, does it fit a target, and will it help there?

Four depths, each costing more and knowing more: ``headers``, ``sketch``, ``weights``, ``loss``. Of
an adapter or a target on the Hub only headers are read, by ranged reads; at depth ``sketch`` also
the sampled runs of the target's weights, some kilobytes each. The deeper two need the target here.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ftt_hub import hub
from ftt_hub.artifact.adapter import Adapter, AdapterHeaders
from ftt_hub.artifact.folder import check_adapter
from ftt_hub.artifact.manifest import AdapterConfig
from ftt_hub.checkpoint import vocabulary
from ftt_hub.checkpoint.headers import ModelHeaders
from ftt_hub.checkpoint.remote import PickledWeightsError, RemoteModel, without_large_tokenizer
from ftt_hub.checkpoint.resolve import open_model, read_headers
from ftt_hub.errors import FttError
from ftt_hub.registry.open import adapter_folder, adapter_headers, open_adapter
from ftt_hub.support.findings import DEPTHS, Status
from ftt_hub.support.paths import PathLike
from ftt_hub.support.progress import Progress
from ftt_hub.support.refs import parse_ref
from ftt_hub.support.sizes import format_bytes
from ftt_hub.support.warn import warn_caller
from ftt_hub.tensors.dtypes import Bits
from ftt_hub.transfer import findings, lineage
from ftt_hub.transfer.findings import Transfer
from ftt_hub.transfer.prepare import examine, has_same_tokens, plan_for
from ftt_hub.verdict.judging import judge_loss, judge_weights
from ftt_hub.verdict.options import TextOptions
from ftt_hub.verdict.report import Verdict
from ftt_hub.verdict.survey import survey_weights

_Run = tuple[str, int, int]


def verify(
    adapter: PathLike,
    target: PathLike | None = None,
    *,
    depth: str = "headers",
    text: PathLike | TextOptions | None = None,
    source_base: PathLike | None = None,
    other: PathLike | None = None,
    force: bool = False,
    revision: str | None = None,
    registry: PathLike | None = None,
    workers: int | None = None,
    progress: Progress | None = None,
) -> Verdict | AdapterConfig:
    """Check an adapter's fit with a target, or without one its integrity.

    Args:
        adapter: Folder, or ``namespace/name[@revision]``.
        target: m_t, a folder or Hub reference.
        depth: ``headers`` (kilobytes), ``sketch`` (up to 0.05% of the target's bytes), ``weights``
            (one pass over them) or ``loss`` (model runs on `text`).
        text: Held-out text for depth ``loss``: a file, or a `TextOptions`.
        source_base: m_s for the last two depths; default what the manifest names, if available.
        other: Another adapter, for interference at depth ``weights``.
        force: Go deeper although the sketch rejects the target.
        revision: Of the adapter.
        registry: ``"hf"`` or a folder.
        workers: Threads.
        progress: Receives progress events; default: none.

    Returns:
        The verdict for a target, or the manifest of an intact adapter.

    Raises:
        IntegrityError: The adapter is damaged.
        FttError: A model or the text cannot be read.
    """
    if target is None:
        folder, _ = adapter_folder(adapter, revision=revision, registry=registry)
        return check_adapter(folder, progress=progress, workers=workers)
    if depth in ("headers", "sketch"):
        headers = adapter_headers(adapter, revision=revision, registry=registry)
        return verify_target(headers, target, depth=depth, text=text)
    with open_adapter(adapter, revision=revision, registry=registry) as opened:
        return verify_target(
            opened,
            target,
            depth=depth,
            text=text,
            source_base=source_base,
            other=other,
            registry=registry,
            force=force,
            workers=workers,
            progress=progress,
        )


def verify_target(
    adapter: Adapter | AdapterHeaders,
    target: PathLike,
    *,
    depth: str = "headers",
    text: PathLike | TextOptions | None = None,
    source_base: PathLike | None = None,
    other: PathLike | None = None,
    registry: PathLike | None = None,
    force: bool = False,
    workers: int | None = None,
    progress: Progress | None = None,
) -> Verdict:
    """Whether an adapter fits a target, and at the deeper depths whether it helps there.

    Args:
        adapter: The opened adapter, or (for the first two depths) its headers.
        target: Folder or Hub reference. Of a Hub model only headers are fetched at depth
            ``headers``, at depth ``sketch`` also the sampled runs of its weights.
        depth: ``headers``, ``sketch``, ``weights`` or ``loss``. The last two begin with the sketch
            and stop there when it rejects.
        text: Held-out text for depth ``loss``.
        source_base: m_s for the last two depths; default what the manifest names, if available.
        other: Another adapter, for interference at depth ``weights``.
        registry: Where `other` is looked up.
        force: Go on in spite of a rejection.
        workers: Threads.
        progress: Receives progress events; default: none.

    Raises:
        FttError: Unknown depth, or the target or text cannot be read.
    """
    if depth not in DEPTHS:
        raise FttError("unknown depth", where=depth[:40], expected=" or ".join(DEPTHS))
    if (depth == "loss") != (text is not None):
        raise FttError(
            "depth loss needs a text, and no other depth takes one",
            where=depth,
            hint="Give --depth loss --text FILE.",
        )
    described = adapter.headers if isinstance(adapter, Adapter) else adapter
    if depth == "headers":
        return verify_headers(described, read_headers(target))
    shallow = _by_sketch(described, target)
    if depth == "sketch" or (shallow.status is Status.REJECTED and not force):
        return shallow
    if not isinstance(adapter, Adapter):
        raise FttError("depths weights and loss need the whole adapter", where=adapter.label)
    if text is None:
        weights, more = survey_weights(
            adapter, target, source=source_base, other=other, registry=registry, workers=workers
        )
        found = (*shallow.findings, *more, *judge_weights(weights))
        return replace(shallow, depth=depth, findings=found, weights=weights)
    options = text if isinstance(text, TextOptions) else TextOptions(text)
    return _with_losses(shallow, adapter, target, options, source_base, force, progress)


def _with_losses(
    shallow: Verdict,
    adapter: Adapter,
    target: PathLike,
    options: TextOptions,
    source_base: PathLike | None,
    force: bool,
    progress: Progress | None,
) -> Verdict:
    from ftt_hub.verdict.losses import measure_losses  # needs torch, which the other depths do not

    losses, more = measure_losses(
        adapter, target, options, source=source_base, force=force, progress=progress
    )
    judged = () if losses is None else judge_loss(losses)
    found = (*shallow.findings, *more, *judged)
    return replace(shallow, depth="loss", findings=found, loss=losses)


def _by_sketch(adapter: AdapterHeaders, target: PathLike) -> Verdict:
    ref = parse_ref(target)
    if ref.name is not None and not hub.is_offline():
        try:
            return _by_ranges(adapter, RemoteModel(ref.name, ref.revision))
        except hub.RangesIgnoredError:
            size = RemoteModel(ref.name, ref.revision).headers.nbytes
            whole = format_bytes(size)
            warn_caller(f"{ref}: the server ignores ranges; downloading all {whole} of it")
        except PickledWeightsError as error:
            warn_caller(f"{error.where}: a pickle, downloaded whole to be read")
    checkpoint, headers = open_model(target)
    with checkpoint:
        return _verdict(examine(adapter, checkpoint, headers, plan_for(adapter, headers)))


def _verdict(transfer: Transfer) -> Verdict:
    report, comparison = findings.report(transfer), transfer.comparison
    return Verdict(
        adapter=report.adapter,
        target=report.target,
        depth=report.depth,
        findings=report.findings,
        estimate=report.estimate,
        commit=transfer.target.commit,
        content_digest=transfer.adapter.config.content_digest,
        lineage=None if comparison is None else comparison.lineage,
    )


def verify_headers(adapter: AdapterHeaders, target: ModelHeaders) -> Verdict:
    """Whether an adapter fits a target whose headers are known; reads no weight.

    A large tokenizer on the Hub is downloaded only where rows have to be matched by token: where
    the hashes agree, or the number of rows does, it is not.
    """
    facts = adapter.config.architecture
    sizes = [
        vocabulary.vocabulary_size(config) or (facts and facts.vocabulary_size)
        for config in (adapter.config.source_base.config, target.config)
    ]
    same_rows = sizes[0] == sizes[1]
    same = has_same_tokens(adapter.config, target)
    if same_rows and not same:
        target = without_large_tokenizer(target)
    return _verdict(Transfer(adapter, target, plan_for(adapter, target, same_tokens=same)))


def _by_ranges(adapter: AdapterHeaders, model: RemoteModel) -> Verdict:
    """Compare the sketch with runs of the target, read side by side in one round."""
    headers, tensors = model.headers, model.headers.tensors
    plan = plan_for(adapter, headers)
    runs: list[_Run] = []

    def note(name: str, start: int, count: int) -> Bits:
        runs.append((name, start, count))
        return np.zeros(count, dtype=tensors[name].dtype.numpy)

    lineage.compare(adapter, plan, tensors, note)
    bits = model.prefetched(runs)
    comparison = lineage.compare(adapter, plan, tensors, lambda *run: bits[run])
    return _verdict(Transfer(adapter, headers, plan, comparison))
