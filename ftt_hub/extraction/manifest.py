"""The manifest of a diff vector that is being made, from what is known of its two models."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from ftt_hub.artifact.facts import TensorFacts
from ftt_hub.artifact.index import UNCHANGED, TensorEntry
from ftt_hub.artifact.manifest import AdapterConfig, CodecSpec, Fidelity, ModelIdentity
from ftt_hub.checkpoint import vocabulary
from ftt_hub.codecs.abc import Codec
from ftt_hub.codecs.entropy.planes import encoder_versions
from ftt_hub.errors import FttError
from ftt_hub.extraction import structure
from ftt_hub.extraction.behaviour import differences, generation_config, task_type
from ftt_hub.extraction.identity import PairFacts
from ftt_hub.extraction.model import Model
from ftt_hub.extraction.summary import digest, summary
from ftt_hub.transfer import checks
from ftt_hub.transfer.assemble import BLOCK_ELEMENTS
from ftt_hub.version import __version__

_LANGUAGE = re.compile(r"[A-Za-z]{2,8}(-[A-Za-z0-9]{1,8})*")

TokensOfBoth = tuple[vocabulary.Tokens | None, vocabulary.Tokens | None]
"""Tokens of the source base and of the fine-tuned model."""


@dataclass(frozen=True)
class Provenance:
    """What only the author knows of a fine-tuned model.

    Attributes:
        languages: BCP-47 tags; anything else raises `FttError`.
        datasets: Ids of the training data.
        method: SFT, DPO, RLVR, GRPO or other.
        hyperparameters: Of the training, where given.
        license: Licence id of the adapter.
        source_id: What the source base's folder is a copy of.
        fine_tuned_id: What the fine-tuned model's folder is a copy of.
        parents: `ref` and `content_digest` of adapters that were added to the source base before
            it was fine-tuned.
    """

    languages: Sequence[str] = ()
    datasets: Sequence[str] = ()
    method: str = "SFT"
    hyperparameters: dict[str, Any] = field(default_factory=dict)
    license: str | None = None
    source_id: str | None = None
    fine_tuned_id: str | None = None
    parents: Sequence[Mapping[str, str]] = ()

    def __post_init__(self) -> None:
        for tag in self.languages:
            if not _LANGUAGE.fullmatch(tag):
                raise FttError(
                    "not a BCP-47 language tag",
                    where="languages",
                    expected="a tag such as tr, pt-BR or zh-Hans",
                    found=repr(tag)[:60],
                    hint="Its parts are joined by hyphens.",
                )


@dataclass(frozen=True)
class Manifest:
    """Everything of a manifest but what the codec decides.

    Attributes:
        source: The source base.
        tuned: The fine-tuned model.
        given: Metadata.
        tokens: Of both.
        files: The fine-tuned model's small files that travel with Δ.
        extra: Keys that begin with ``x-``.
        facts: What the tensors of both are.
    """

    source: Model
    tuned: Model
    given: Provenance
    tokens: TokensOfBoth
    files: dict[str, bytes]
    extra: Mapping[str, Any]
    facts: PairFacts

    def config(
        self, entries: Sequence[TensorEntry], codec: Codec, fidelity: Fidelity
    ) -> AdapterConfig:
        """The manifest of these tensors; its files are not listed yet."""
        source, tuned, given = self.source.headers, self.tuned.headers, self.given
        changed = structure.changes(source, tuned, self.facts)
        return AdapterConfig(
            source_base=ModelIdentity(
                self.source.identity(given.source_id), source.commit, digest(entries, "source"),
                checks.snapshot(source.config),
            ),
            fine_tuned=ModelIdentity(
                self.tuned.identity(given.fine_tuned_id), tuned.commit,
                digest(entries, "fine_tuned"),
            ),
            codec=CodecSpec(codec.id, codec.parameters(), BLOCK_ELEMENTS, encoder_versions()),
            fidelity=fidelity,
            tensors=summary(entries),
            num_slots=1 + sum(e.slot is not None for e in entries),
            task_type=task_type(tuned),
            languages=list(dict.fromkeys(given.languages)),
            datasets=list(dict.fromkeys(given.datasets)),
            method=given.method,
            hyperparameters=given.hyperparameters,
            license=given.license,
            parents=[dict(parent) for parent in given.parents],
            differences=differences(source, tuned, self.tokens, self.files),
            vocabulary=vocabulary.summarize(
                self.tokens[1], self.tokens[0],
                [m.small_file(vocabulary.TOKENIZER) for m in (tuned, source)],
            ),
            architecture=self._facts(entries, changed),
            generation_config=generation_config(tuned, changed),
            extra={"x-generator": f"ftt-hub {__version__}", **self.extra},
        )  # fmt: skip

    def _facts(self, entries: Sequence[TensorEntry], changed: dict[str, Any]) -> TensorFacts:
        """What the manifest records of the tensors, and of the config's structure."""
        weights = self.source.headers.tensors, self.tuned.headers.tensors
        untrained = {
            e.name
            for e in entries
            if self.facts.is_untrained(e.name, weights[0].get(e.name), weights[1].get(e.name))
        }
        masks = {e.name for e in entries if e.role == UNCHANGED and e.name in self.facts.unknown}
        return replace(
            self.facts.both,
            buffers=frozenset(untrained | masks),
            config=changed,
        ).short()
