"""Fine-tunings: from M_i, or from M_i + Δ, to an adapter, with the accuracy on the way.

`ftt_hub.recycling` names the steps, and says which ones Algorithm 1 needs. Its trainer is not used:
it measures at the end of a step, and the curves need the accuracy within it.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path

import torch
from transformers import PreTrainedModel

import ftt_hub
from controlled_study.cache import Cache, Node
from controlled_study.family import STREAMS, Family
from controlled_study.models import load_tokenizer
from controlled_study.scoring import Questions
from controlled_study.settings import Settings
from controlled_study.tasks import training
from controlled_study.training import Batch, Trainer, device_of, falling, optimizer_of, padded
from ftt_hub.recycling.recipe import VARIANTS
from ftt_hub.recycling.steps import Step, steps_of

_WARMUP = 0.03
_TUNING_STREAM = 50
ADAPTER, CURVE = "adapter", "curve.json"


def steps_to_do(settings: Settings) -> tuple[Step, ...]:
    """All fine-tunings of a family, each after the one that it starts from.

    Those of Algorithm 1 and its alternatives (Table 6), those after a transfer between neighbours
    in either direction and from the first version to the last (Table 4), and those that the
    configuration adds.
    """
    count = settings.pretraining.versions
    pairs = [*((i + 1, i) for i in range(1, count)), (1, count), *settings.also]
    found = [*steps_of(VARIANTS, count), *map(Step, pairs)]
    return tuple(sorted(dict.fromkeys(found), key=lambda step: (len(step.versions), step.versions)))


def load(base: Path, adapter: Path | None, device: torch.device) -> PreTrainedModel:
    """M_i, or M_i + Δ."""
    from transformers import AutoModelForCausalLM

    if adapter is None:
        model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(base)
    else:
        model = ftt_hub.AutoTransferModelForCausalLM.from_pretrained(adapter, base_model=base)
    return model.to(device)


@dataclass(frozen=True)
class Tuner:
    """The fine-tunings of one family.

    Attributes:
        family: The versions.
        questions: For the curves.
    """

    family: Family
    questions: Questions

    @property
    def _settings(self) -> Settings:
        return self.family.settings

    @property
    def _cache(self) -> Cache:
        return self.family.cache

    def node(self, step: Step) -> Node:
        """The stage of a fine-tuning."""
        return tuning_node(self.family, step)

    def run(self, step: Step) -> Path:
        """The folder with a step's adapter and curve."""
        return self._cache.made(self.node(step), lambda folder: self._tune(step, folder))

    def adapter(self, step: Step) -> Path:
        """Δ of a step."""
        return self._cache.path(self.node(step)) / ADAPTER

    def _tune(self, step: Step, folder: Path) -> None:
        given = self._settings.fine_tuning
        base = self.family.version(step.version)
        parent = None if step.parent is None else self.run(step.parent) / ADAPTER
        model = load(base, parent, device_of(self._settings.device))
        rate = falling(given.learning_rate, round(_WARMUP * given.steps), 0, given.steps)
        trainer = Trainer(model, optimizer_of(model, 0.0), rate, self._settings.precision)
        batches = self._batches()
        curve = []
        for point in given.curve:
            trainer.run(batches, point)
            curve.append({"step": point, "task": self.questions.accuracy(model)})
        (folder / CURVE).write_text(json.dumps(curve), encoding="utf-8")
        with tempfile.TemporaryDirectory(dir=folder) as work:
            model.save_pretrained(work)
            load_tokenizer(base).save_pretrained(work)
            ftt_hub.extract(base, work, folder / ADAPTER, workers=1)

    def _batches(self) -> Iterator[Batch]:
        """The same questions in the same order for every fine-tuning of a seed."""
        given, settings = self._settings.fine_tuning, self._settings
        stream = self.family.seed * STREAMS + _TUNING_STREAM
        tokenizer = self.questions.tokenizer
        rows = training(settings.digits, stream, list(self.questions.task))
        while True:
            chosen = list(islice(rows, given.batch_size))
            asked = tokenizer([row.prompt for row in chosen])["input_ids"]
            told = tokenizer([row.reply for row in chosen])["input_ids"]
            yield padded(list(zip(asked, told, strict=True)))


def tuning_node(family: Family, step: Step) -> Node:
    """The stage of a fine-tuning, known without opening anything."""
    settings = family.settings
    parents = () if step.parent is None else (tuning_node(family, step.parent),)
    return Node.of(
        "tuning",
        after=(family.node(step.version), *parents),
        seed=family.seed,
        fine_tuning=asdict(settings.fine_tuning),
        digits=settings.digits,
        expressions=settings.evaluation.expressions,
        precision=settings.precision,
    )
