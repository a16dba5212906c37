"""The adapter folder, from two opened checkpoints to the last file, resumable after a kill."""

from __future__ import annotations

import functools
import json
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from ftt_hub.artifact import sketch
from ftt_hub.artifact.folder_writer import write_folder
from ftt_hub.artifact.index import ADDED, RESIZED
from ftt_hub.artifact.journal import SlotStore
from ftt_hub.artifact.manifest import AdapterConfig
from ftt_hub.checkpoint import vocabulary
from ftt_hub.checkpoint.headers import refuse_quantized
from ftt_hub.codecs.abc import Codec
from ftt_hub.codecs.entropy.planes import encoder_versions
from ftt_hub.errors import ExtractionError, OutputError
from ftt_hub.extraction.choice import AUTO, Chooser, Coding
from ftt_hub.extraction.encoding import Encoder, TensorResult, result_from
from ftt_hub.extraction.identity import PairFacts, pair_facts
from ftt_hub.extraction.manifest import Manifest
from ftt_hub.extraction.manifest import Provenance as Provenance
from ftt_hub.extraction.model import Model
from ftt_hub.extraction.pairs import (
    Mask,
    Pair,
    Same,
    Side,
    check_architecture,
    check_tokens,
    pair_tensors,
)
from ftt_hub.extraction.rebuilding import check_rebuilding
from ftt_hub.extraction.summary import fidelity
from ftt_hub.extraction.travelling import travelling_files, write_travelling
from ftt_hub.extraction.trials.trial import LossTrial
from ftt_hub.support.parallel import map_unordered, one_blas_thread
from ftt_hub.support.progress import Progress, Silent
from ftt_hub.support.staging import partial_folder, staged_folder, write_atomic
from ftt_hub.tensors.rounding import all_finite
from ftt_hub.transfer.assemble import BLOCK_ELEMENTS
from ftt_hub.transfer.ties import Ties
from ftt_hub.version import __version__

_WORK = ".work"


def _blocks(model: Model, name: str) -> Iterator[tuple[int, int]]:
    count = model.checkpoint.tensors[name].count
    yield from ((i, min(BLOCK_ELEMENTS, count - i)) for i in range(0, count, BLOCK_ELEMENTS))


def _equality(model: Model) -> Same:
    """Compares two tensors of a model, a block at a time."""
    read = model.checkpoint.read_bits

    def same(first: str, second: str) -> bool:
        return all(
            np.array_equal(read(first, *block), read(second, *block))
            for block in _blocks(model, first)
        )

    return same


def _masks(source: Model, tuned: Model) -> Mask:
    """Tells tensors that hold infinity from the first block on and are alike in both models."""
    ours, theirs = source.checkpoint.read_bits, tuned.checkpoint.read_bits

    def is_mask(name: str) -> bool:
        blocks = list(_blocks(tuned, name))
        dtype = tuned.checkpoint.tensors[name].dtype
        if not blocks or not dtype.is_float or all_finite(theirs(name, *blocks[0]), dtype):
            return False
        return all(np.array_equal(ours(name, *b), theirs(name, *b)) for b in blocks)

    return is_mask


@dataclass
class AdapterBuilder:
    """Builds one adapter folder.

    Attributes:
        source: The source base m_s.
        tuned: The fine-tuned model m'_s.
        out: The folder to make.
        provenance: Metadata.
        coding: How Δ is stored.
        sketch: Whether to store a sample of the source base.
        workers: Threads; default the cores, at most 8.
        progress: Watches.
        trial: Text on which codecs are tried before one is chosen.
        extra: Keys that begin with ``x-`` for the manifest.
        codec: A codec in place of the one that `coding` leads to.
    """

    source: Model
    tuned: Model
    out: Path
    provenance: Provenance
    coding: Coding = field(default_factory=Coding)
    sketch: bool = True
    workers: int | None = None
    progress: Progress = field(default_factory=Silent)
    trial: LossTrial | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)
    codec: Codec | None = None

    def build(self, *, resume: bool = False) -> AdapterConfig:
        """Make the folder; it appears whole or not at all.

        Raises:
            ExtractionError: The two models do not make a diff vector, or Δ is zero.
            OutputError: The output is not empty, unfinished work is in the way, or the disk is
                full.
        """
        with one_blas_thread():
            return self._built(resume)

    def _built(self, resume: bool) -> AdapterConfig:
        pairs = self._pairs()
        manifest = self._manifest()
        self._check_partial(resume)
        codec = self.codec or self._chosen(pairs, manifest)
        discard = True
        try:
            with staged_folder(self.out, keep=True) as folder:
                self._check_plan(folder / _WORK, codec, resume)
                results = self._encode(folder / _WORK, pairs, codec)
                self._check_end(pairs, results)
                config = self._finish(folder, results, codec, manifest)
            discard = False
        except (KeyboardInterrupt, OutputError):
            discard = False  # what is done can be continued with --resume
            raise
        finally:
            if discard:
                shutil.rmtree(partial_folder(self.out), ignore_errors=True)
        return config

    def _chosen(self, pairs: list[Pair], manifest: Manifest) -> Codec:
        """The codec, found by trials where there is a text."""
        source, tuned = self.source.checkpoint, self.tuned.checkpoint
        chooser = Chooser(pairs, source, tuned, self.workers, self.progress)
        if self.trial is None:
            return chooser.codec(self.coding)
        if self.coding.codec not in ("quantized", AUTO):
            raise ExtractionError(
                f"codec {self.coding.codec} is lossless: there is nothing to try on a text",
                hint="Use --codec quantized or auto, or leave the codec out.",
            )
        from ftt_hub.extraction.trials.run import (
            try_codings,  # needs torch, which others here do not
        )

        return chooser.codec(try_codings(self.trial, self.coding, chooser, manifest))

    @functools.cached_property
    def facts(self) -> PairFacts:
        """What the tensors of both models are; derived once."""
        return pair_facts(self.source.headers, self.tuned.headers)

    @functools.cached_property
    def sides(self) -> tuple[Side, Side]:
        """Both models, for pairing."""
        return (
            Side(self.source.headers, self.facts.source, _equality(self.source)),
            Side(self.tuned.headers, self.facts.tuned, _equality(self.tuned)),
        )

    def _check_end(self, pairs: list[Pair], results: list[TensorResult]) -> None:
        """Compare what source base + Δ loads as with what the fine-tuned model loads as."""
        both, source = self.facts.both, self.source.headers.tensors
        new_class = self.facts.source.model_class != self.facts.tuned.model_class
        tied = self.facts.tuned.tied if new_class else self.facts.source.tied
        ties = Ties(both, replace(both, tied=tied), {}, source)
        check_rebuilding(self.sides, pairs, ties, [result.entry for result in results])

    def _pairs(self) -> list[Pair]:
        source, tuned = self.source.headers, self.tuned.headers
        for headers in (source, tuned):
            refuse_quantized(headers)
        check_architecture(source, tuned)
        return pair_tensors(*self.sides, self.facts, _masks(self.source, self.tuned))

    def _manifest(self) -> Manifest:
        source, tuned = self.source.headers, self.tuned.headers
        before = vocabulary.read_tokens(source.small_file, source.label)
        file = source.small_file(vocabulary.TOKENIZER)
        same = file is not None and file == tuned.small_file(vocabulary.TOKENIZER)
        after = before if same else vocabulary.read_tokens(tuned.small_file, tuned.label)
        check_tokens(before, after, self.tuned.headers.label)
        files = travelling_files(self.source.headers, self.tuned.headers)
        return Manifest(
            self.source, self.tuned, self.provenance, (before, after), files, self.extra, self.facts
        )

    def _check_partial(self, resume: bool) -> None:
        partial = partial_folder(self.out)
        if partial.is_dir() and not resume:
            raise OutputError(
                "unfinished work of an earlier run",
                where=partial,
                hint="Continue it with --resume, or delete that folder to start over.",
            )

    def _plan(self, codec: Codec) -> dict[str, Any]:
        """Everything the frames depend on; a later run must agree to continue this one."""
        inputs = {}
        for label, model in (("source base", self.source), ("fine-tuned model", self.tuned)):
            files = [
                p
                for p in sorted(model.checkpoint.folder.iterdir())
                if p.suffix in (".safetensors", ".bin")
            ]
            inputs[label] = [[p.name, p.stat().st_size, p.stat().st_mtime_ns] for p in files]
        return {
            "ftt-hub": __version__,
            "codec": [codec.id, codec.parameters(), BLOCK_ELEMENTS],
            "encoders": encoder_versions(),
            **inputs,
        }

    def _check_plan(self, work: Path, codec: Codec, resume: bool) -> None:
        plan = self._plan(codec)
        path = work / "plan.json"
        if resume and path.is_file():
            before = json.loads(path.read_bytes())
            changed = [key for key in plan if json.loads(json.dumps(plan[key])) != before.get(key)]
            if changed:
                raise OutputError(
                    f"cannot continue: {', '.join(changed)} changed since the earlier run",
                    where=work.parent,
                    hint="Delete that folder to start over.",
                )
            return
        work.mkdir(exist_ok=True)
        write_atomic(path, json.dumps(plan).encode())

    def _encode(self, work: Path, pairs: list[Pair], codec: Codec) -> list[TensorResult]:
        with SlotStore(work / "slots") as store:
            return self._encoded(store, pairs, codec)

    def _encoded(self, store: SlotStore, pairs: list[Pair], codec: Codec) -> list[TensorResult]:
        encoder = Encoder(
            self.source.checkpoint, self.tuned.checkpoint, codec, store, self.progress.advance
        )
        results: dict[int, TensorResult] = {}
        todo: list[int] = []
        for number, pair in enumerate(pairs):
            held = store.finished(number)
            if held is not None and held[0].name == pair.name:
                results[number] = result_from(*held)
            else:
                todo.append(number)
        self.progress.start("extracting", sum(pairs[n].nbytes for n in todo))
        todo.sort(key=lambda n: -pairs[n].nbytes)  # the longest first, so that no thread idles

        def run(number: int) -> tuple[int, TensorResult]:
            return number, encoder.run(number, pairs[number])

        results.update(map_unordered(run, todo, self.workers))
        self.progress.finish()
        return [results[number] for number in range(len(pairs))]

    def _finish(
        self, folder: Path, results: list[TensorResult], codec: Codec, manifest: Manifest
    ) -> AdapterConfig:
        entries = [result.entry for result in results]
        if not any(e.nbytes or e.role in (ADDED, RESIZED) for e in entries):
            raise ExtractionError(
                "the fine-tuned model equals the source base: Δ is zero",
                where=self.tuned.headers.label,
                hint="Name another fine-tuned model; there is nothing to store.",
            )
        store = SlotStore(folder / _WORK / "slots")
        return write_folder(
            folder,
            folder / _WORK,
            entries,
            [store.span(number) for number, e in enumerate(entries) if e.slot is not None],
            companions=lambda target: self._write_companions(target, manifest),
            manifest=lambda numbered: manifest.config(
                numbered, codec, fidelity(folder, results, self.tuned.headers)
            ),
            progress=self.progress,
        )

    def _write_companions(self, folder: Path, manifest: Manifest) -> None:
        if self.sketch:
            checkpoint = self.source.checkpoint
            sample = sketch.take(checkpoint.tensors, checkpoint.read_bits)
            sketch.write_sketch(sample, folder / sketch.SKETCH_NAME)
        write_travelling(folder, manifest.files)
