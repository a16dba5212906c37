"""Depths `weights` and `loss`: the target's weights are on this machine."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from ftt_hub.artifact.adapter import Adapter
from ftt_hub.checkpoint.resolve import open_model
from ftt_hub.errors import FttError, IncompatibleError
from ftt_hub.loss import HeldOutText, read_text
from ftt_hub.registry.open import open_adapter
from ftt_hub.support.findings import Finding, Status, accepted, warned
from ftt_hub.support.paths import PathLike
from ftt_hub.support.progress import Progress, Silent
from ftt_hub.transfer.plan import compare_sketch
from ftt_hub.transfer.prepare import anchored, plan_for
from ftt_hub.transfer.tokenizer import load_tokenizer
from ftt_hub.verdict.evidence import LossEvidence
from ftt_hub.verdict.languages import check_language
from ftt_hub.verdict.options import TextOptions
from ftt_hub.verdict.running import PATH, Base, Runner
from ftt_hub.verdict.weights import Reader, Survey, WeightsEvidence

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

WINDOWS, MIN_WINDOW = 16, 32
"""So many windows are wanted, and this is the shortest they are made for it."""


def _read(options: TextOptions, tokenizer: PreTrainedTokenizerBase) -> HeldOutText:
    """The text; a short one in shorter windows, since the bootstrap draws windows."""
    text = read_text(options.path, tokenizer, tokens=options.tokens, window=options.window)
    if len(text.windows) >= WINDOWS:
        return text
    window = max(MIN_WINDOW, min(options.window, text.tokens // WINDOWS))
    return read_text(options.path, tokenizer, tokens=options.tokens, window=window)


@contextmanager
def _opened(adapter: Adapter, model: PathLike) -> Iterator[Base]:
    checkpoint, headers = open_model(model)
    with checkpoint:
        yield Base(checkpoint, headers, plan_for(adapter, headers))


@contextmanager
def source_base(adapter: Adapter, named: PathLike | None) -> Iterator[tuple[Base | None, Finding]]:
    """The source base: as named, else as the manifest names it; ``None`` where it is not at hand.

    Raises:
        IncompatibleError: The model named is not the source base.
        FttError: The model named cannot be read.
    """
    identity = adapter.config.source_base
    told = f"{identity.id}@{identity.revision}" if identity.revision else identity.id
    try:
        checkpoint, headers = open_model(told if named is None else named)
    except FttError as error:
        if named is not None:
            raise
        reason = f"the source base is not at hand ({error.what}): name it with --source-base"
        yield None, warned("source base", reason)
        return
    with checkpoint:
        base = Base(checkpoint, headers, plan_for(adapter, headers))
        match = compare_sketch(adapter.folder, base.plan, checkpoint.tensors, checkpoint.read_bits)
        if match is None or match.verdict == "identical":
            yield base, accepted("source base", f"{headers.label} is at hand")
            return
        if named is not None:
            raise IncompatibleError(
                "is not the source base of the adapter", where=headers.label, expected=told,
                found=f"{match.verdict}, distance {match.distance:.3g}",
            )  # fmt: skip
        reason = f"{headers.label} is another model than the source base was"
        yield None, warned("source base", f"{reason}: name it with --source-base")


def _has_other_tokens(base: Base) -> bool:
    findings = base.plan.findings
    return any(f.check == "vocabulary" and f.status is Status.REJECTED for f in findings)


def survey_weights(
    adapter: Adapter,
    target: PathLike,
    *,
    source: PathLike | None = None,
    other: PathLike | None = None,
    registry: PathLike | None = None,
    workers: int | None = None,
) -> tuple[WeightsEvidence, list[Finding]]:
    """Exact distances, streamed; the source base where it is at hand.

    Raises:
        FttError: A model or adapter cannot be read.
    """
    with (
        _opened(adapter, target) as base,
        source_base(adapter, source) as (home, finding),
        anchored(adapter, base.checkpoint, source),
    ):
        mine = Reader(base.checkpoint.tensors, base.checkpoint.read_bits)
        theirs = None
        if home is not None:
            theirs = Reader(home.checkpoint.tensors, home.checkpoint.read_bits)
        if other is None:
            return Survey(adapter, base.plan, mine, theirs).run(workers), [finding]
        with open_adapter(other, registry=registry) as second:
            survey = Survey(adapter, base.plan, mine, theirs, second)
            return survey.run(workers), [finding]


def measure_losses(
    adapter: Adapter,
    target: PathLike,
    options: TextOptions,
    *,
    source: PathLike | None = None,
    force: bool = False,
    progress: Progress | None = None,
) -> tuple[LossEvidence | None, list[Finding]]:
    """Losses along λ, of the source base, and between the two; one model in memory at a time.

    Raises:
        TextError: The text cannot be used.
        LossError: The target's own loss is not a number, or memory ran out.
    """
    with _opened(adapter, target) as base:
        if base.plan.rows is not None or _has_other_tokens(base):
            reason = "the target's tokens are not those of the adapter: losses cannot be compared"
            return None, [warned("tokenizer", f"{reason}; no model was run")]
        text = _read(options, load_tokenizer(adapter, target))
        findings = [check_language(text.sample, adapter.config.languages)]
        watcher = progress or Silent()
        scales = tuple(sorted({0.0, 1.0, *options.scales}))
        watcher.start(
            "measuring losses", len(text.windows) * (len(scales) + 2 + len(PATH)), "windows"
        )
        runner = Runner(adapter, text, options.device, force, watcher.advance)
        with anchored(adapter, base.checkpoint, source):
            curve = runner.along_scale(base, scales)
            with source_base(adapter, source) as (home, finding):
                evidence = LossEvidence(text, curve)
                if home is not None and home.plan.rows is None:
                    at_home = runner.along_scale(home, (0.0, 1.0))
                    path = None
                    if 1.0 in at_home.losses and 1.0 in curve.losses:
                        ends = (at_home.losses[1.0], curve.losses[1.0])
                        path = runner.between(home, base, ends)
                    evidence = LossEvidence(text, curve, at_home, path)
        watcher.finish()
    return evidence, [*findings, finding]
