"""The loop: for each step merge, fine-tune, extract, evaluate, publish, and note it done."""

from __future__ import annotations

import gc
import hashlib
import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from ftt_hub.artifact.manifest import read_config
from ftt_hub.checkpoint.headers import ModelHeaders
from ftt_hub.checkpoint.resolve import model_folder
from ftt_hub.errors import ExtractionError, FttError, IncompatibleError
from ftt_hub.extraction.builder import Provenance
from ftt_hub.extraction.extract import extract_full
from ftt_hub.recycling.bases import identity
from ftt_hub.recycling.evaluation import held_out_loss
from ftt_hub.recycling.plan import fitted, positions
from ftt_hub.recycling.ranks import Ranks
from ftt_hub.recycling.recipe import Recipe, RecycleError
from ftt_hub.recycling.rows import Rows, fetch, opened, tokenize
from ftt_hub.recycling.settings import on_cpu
from ftt_hub.recycling.state import State, read_state
from ftt_hub.recycling.steps import Step, variants_of
from ftt_hub.recycling.tuning import HISTORY, Tuning, load_tokenizer
from ftt_hub.registry.push import push
from ftt_hub.support.findings import CompatibilityReport, Status
from ftt_hub.support.progress import Progress
from ftt_hub.support.staging import partial_folder
from ftt_hub.transfer.apply import apply
from ftt_hub.verdict.verify import verify

_FREE_TO_CHANGE = (
    "logging_steps",
    "report_to",
    "checkpoint_steps",
    "per_device_batch_size",
    "device",
)
"""Settings that do not change what is learned, so that a run can go on with others."""


@dataclass
class Loop:
    """A recipe being carried out.

    Attributes:
        recipe: What to do.
        headers: Headers of the base versions.
        state: What was done.
        ranks: This process among all.
        progress: Watches.
        note: Takes one line at a time for the user.
    """

    recipe: Recipe
    headers: list[ModelHeaders]
    state: State
    ranks: Ranks
    progress: Progress
    note: Callable[[str], None]
    _files: tuple[Path, Path | None] | None = field(default=None, repr=False)

    def run(self, step: Step) -> None:
        """Do a step, or what is left of it.

        Raises:
            IncompatibleError: The diff vector to recycle does not fit the base version.
            FttError: Anything else that a user can cause.
        """
        if self.ranks.leads:
            self._prepare(step)
        self.ranks.wait()
        if not self.ranks.leads:
            self.state = read_state(self.recipe.out)
        if self.state.result(step.name) is not None:
            return
        if not (self._work(step) / "tuned").is_dir():
            self._tuning(step).run(self.ranks, self.progress)
            gc.collect()
        if self.ranks.leads:
            self._finish(step)
        self.ranks.wait()

    def adapter(self, step: Step) -> Path:
        """Where a step's adapter lies."""
        return self.recipe.out / "adapters" / step.name

    def _work(self, step: Step) -> Path:
        return self.recipe.out / "work" / step.name

    def _base(self, step: Step) -> str | Path:
        return self.recipe.bases[step.version - 1]

    def _start(self, step: Step) -> Path:
        """The model that training begins with."""
        if step.parent is not None:
            return self._work(step) / "start"
        return model_folder(self._base(step))[0]

    def _data(self) -> tuple[Path, Path | None]:
        if self._files is None:
            self._files = fetch(self.recipe.data, self.recipe.out / "data")
        return self._files

    @cached_property
    def _template(self) -> str | None:
        path = self.recipe.data.chat_template
        return None if path is None else path.read_text(encoding="utf-8")

    def _prepare(self, step: Step) -> None:
        inputs = self._inputs(step)
        goes_on = self.state.begin(step.name, inputs)
        work = self._work(step)
        if self.state.result(step.name) is not None:
            shutil.rmtree(work, ignore_errors=True)
            self.note(f"step {step.name}: done before")
            return
        if not goes_on:
            shutil.rmtree(work, ignore_errors=True)
            for folder in (self.adapter(step), partial_folder(self.adapter(step))):
                shutil.rmtree(folder, ignore_errors=True)
        work.mkdir(parents=True, exist_ok=True)
        if step.parent is not None:
            self._merge(step, step.parent)
        self._tokenize(step)
        self._measure(step, "start", self._start(step))
        if step.parent is not None:
            self._measure(step, "base", model_folder(self._base(step))[0])

    def _inputs(self, step: Step) -> dict[str, Any]:
        train, validation = self._data()
        template = self.recipe.data.chat_template
        training = asdict(self.recipe.training)
        for key in _FREE_TO_CHANGE:
            del training[key]
        digest = self.state.digest
        inputs = {
            "base": identity(*model_folder(self._base(step)), self.state),
            "parent": None if step.parent is None else self._parent_digest(step.parent),
            "training rows": digest(train),
            "held-out rows": None if validation is None else digest(validation),
            "chat template": None if template is None else digest(template),
            "codec": asdict(self.recipe.coding),
            "evaluation": self.recipe.evaluation,
            **training,
        }
        self.state.save()
        return inputs

    def _parent_digest(self, parent: Step) -> str:
        result = self.state.result(parent.name) or {}
        folder = self.adapter(parent)
        found = read_config(folder).content_digest
        if found != result.get("content_digest"):
            raise RecycleError(
                f"is not the adapter that step {parent.name} made",
                where=folder,
                expected=result.get("content_digest"),
                found=found,
                hint="Restore it, or name another folder as out.",
            )
        return found

    def _merge(self, step: Step, parent: Step) -> None:
        """M_i + Δ_{i−1}, after the check whose verdict is shown."""
        base, adapter = self._base(step), self.adapter(parent)
        if (self._work(step) / "start").is_dir():
            return
        report = verify(adapter, base, depth="sketch")
        if isinstance(report, CompatibilityReport):
            self.note(f"step {step.name}: Δ of step {parent.name} on {base}: {report.verdict}")
            if report.status is Status.REJECTED:
                raise IncompatibleError(
                    f"step {step.name}: Δ of step {parent.name}: {report.verdict}",
                    where=base,
                    hint="Name versions of one model as bases.",
                )
        apply(adapter, base, self._work(step) / "start", progress=self.progress)

    def _tokenize(self, step: Step) -> None:
        train = self._data()[0]
        start, length = self._start(step), self._length(step)
        tokenizer = load_tokenizer(start, self._template)
        key = hashlib.sha256()
        for text in (self.state.digest(train), str(length), tokenizer.chat_template):
            key.update(f"{text}\0".encode())
        for name in ("tokenizer.json", "tokenizer_config.json", "tokenizer.model"):
            if (start / name).is_file():
                key.update((start / name).read_bytes())
        folder = self.recipe.out / "data" / f"rows-{key.hexdigest()[:16]}"
        rows = tokenize(train, tokenizer, folder, length=length)
        self.state.steps[step.name]["rows"] = folder.name
        self.state.save()
        more = f", {rows.cut} cut at {length}" if rows.cut else ""
        more += f", {rows.dropped} without anything to learn left out" if rows.dropped else ""
        self.note(f"step {step.name}: {rows.count} rows, {rows.tokens} tokens to learn{more}")

    def _length(self, step: Step) -> int:
        return fitted(self.recipe.training, self.headers[step.version - 1]).sequence_length

    def _rows(self, step: Step) -> Rows:
        return opened(self.recipe.out / "data" / self.state.steps[step.name]["rows"])

    def _tuning(self, step: Step) -> Tuning:
        return Tuning(
            f"{self.recipe.name}-{step.name}",
            self._start(step),
            self._rows(step),
            self._work(step) / "checkpoints",
            self._work(step) / "tuned",
            fitted(self.recipe.training, self.headers[step.version - 1]),
            self._template,
        )

    def _measure(self, step: Step, label: str, folder: Path) -> None:
        """Held-out loss, once."""
        validation, losses = self._data()[1], self.state.losses(step.name)
        if validation is None or label in losses:
            return
        given = self.recipe.evaluation
        limit = positions(self.headers[step.version - 1])
        window = given.get("window") or (None if limit is None else min(limit, 512))
        losses[label] = held_out_loss(
            folder,
            validation,
            tokenizer=self._start(step),
            chat_template=self._template,
            tokens=given.get("tokens"),
            window=window,
            cpu=on_cpu(self.recipe.training),
        )
        self.state.save()

    def _finish(self, step: Step) -> None:
        tuned, folder = self._work(step) / "tuned", self.adapter(step)
        if not folder.is_dir():
            self._extract(step, tuned, folder)
        self._measure(step, "tuned", tuned)
        result = {
            "adapter": str(folder.relative_to(self.recipe.out)),
            "content_digest": read_config(folder).content_digest,
            "published": self._publish(step),
        }
        histories = self.recipe.out / "histories"
        histories.mkdir(exist_ok=True)
        shutil.copyfile(tuned / HISTORY, histories / f"{step.name}.json")
        if self.recipe.keep_models:
            kept = self.recipe.out / "models" / step.name
            shutil.rmtree(kept, ignore_errors=True)
            shutil.copytree(tuned, kept)
        self.state.finish(step.name, result)
        shutil.rmtree(self._work(step), ignore_errors=True)
        self.note(f"step {step.name}: {_course(self.state.losses(step.name))}{folder}")

    def _extract(self, step: Step, tuned: Path, folder: Path) -> None:
        try:
            extract_full(
                self._base(step),
                tuned,
                folder,
                self.recipe.coding,
                provenance=self._provenance(step),
                resume=True,
                progress=self.progress,
            )
        except ExtractionError as error:
            if "Δ is zero" not in error.what:
                raise
            raise RecycleError(
                f"step {step.name}: training changed no weight",
                where=self.recipe.where,
                hint="Raise learning_rate or max_steps; the first steps warm up from zero.",
            ) from error

    def _provenance(self, step: Step) -> Provenance:
        training = asdict(self.recipe.training)
        for key in ("report_to", "logging_steps", "device"):
            del training[key]
        given = {key: value for key, value in training.items() if value not in (None, {})}
        parents: tuple[dict[str, str], ...] = ()
        if step.parent is not None:
            result = self.state.result(step.parent.name) or {}
            ref = (result.get("published") or [f"{self.recipe.name}-{step.parent.name}"])[0]
            parents = ({"ref": ref, "content_digest": self._parent_digest(step.parent)},)
        return Provenance(
            languages=self.recipe.languages,
            datasets=self.recipe.datasets,
            hyperparameters={"optimizer": "AdamW", **given},
            license=self.recipe.license,
            fine_tuned_id=f"{self.recipe.name}-{step.name}",
            parents=parents,
        )

    def _publish(self, step: Step) -> list[str]:
        """Publish a variant's Δ_i as version i.0.0; the same content again changes nothing."""
        target = self.recipe.publishing
        variants = variants_of(step, self.recipe.variants)
        if target is None:
            return []
        refs = []
        for variant in variants:
            name = target.name if len(self.recipe.variants) == 1 else f"{target.name}-{variant}"
            try:
                publication = push(
                    self.adapter(step),
                    name,
                    version=f"{step.version}.0.0",
                    private=target.private,
                    registry=target.registry,
                )
            except FttError as error:
                error.add_note("The adapter is made; the next run publishes it.")
                raise
            refs.append(publication.ref)
        return refs


def _course(losses: Mapping[str, Any]) -> str:
    """``loss 3.10 → 2.85, ``, or nothing."""
    if "tuned" not in losses:
        return ""
    return f"held-out loss {losses['start']['value']:.4f} → {losses['tuned']['value']:.4f}, "
