"""The versions M_1 … M_n of a family: one pretraining, saved on its way."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path

import torch

from controlled_study.cache import Cache, Node
from controlled_study.models import load_tokenizer, new_model, train_tokenizer
from controlled_study.scoring import Questions
from controlled_study.settings import Settings, Stage
from controlled_study.tasks import equations, held_out, unseen
from controlled_study.texts import general_text
from controlled_study.training import Batch, Trainer, device_of, falling, optimizer_of, padded

_TEXT, _TOKENS, _OPTIMIZER = "text.txt", "tokens.pt", "optimizer.pt"
_HELD_OUT = 20
"""One window of text in so many is held out."""
STREAMS = 100
"""Streams of problems that a seed may use."""


@dataclass(frozen=True)
class Family:
    """The versions of one seed.

    Attributes:
        settings: Of the study.
        seed: Of this family.
        cache: Where they lie.
    """

    settings: Settings
    seed: int
    cache: Cache

    @property
    def corpus_node(self) -> Node:
        """Text, tokenizer and token ids, for all seeds the same."""
        return Node.of("corpus", vocabulary=self.settings.model.vocabulary)

    def node(self, version: int) -> Node:
        """The stage that M_i ends."""
        given = self.settings
        if version == 0:
            return Node.of(
                "start", after=(self.corpus_node,), seed=self.seed, model=asdict(given.model)
            )
        stage, _, _ = self._position(version)
        pretraining = asdict(given.pretraining)
        del pretraining["stages"]
        return Node.of(
            "version",
            after=(self.node(version - 1),),
            stage=asdict(stage),
            digits=given.digits,
            pretraining=pretraining,
            precision=given.precision,
            version=version,
        )

    def _position(self, version: int) -> tuple[Stage, int, int]:
        """The stage in which M_i is saved, its first step, and the step at which M_i is saved."""
        start, before = 0, 0
        for stage in self.settings.pretraining.stages:
            if version <= before + len(stage.steps):
                return stage, start, start + sum(stage.steps[: version - before])
            start, before = start + sum(stage.steps), before + len(stage.steps)
        raise IndexError(version)

    def corpus(self) -> Path:
        """Text, tokenizer and token ids."""

        def make(folder: Path) -> None:
            text = general_text()
            (folder / _TEXT).write_text(text, encoding="utf-8")
            train_tokenizer(text, self.settings.model.vocabulary, folder)
            tokenizer = load_tokenizer(folder)
            parts = tokenizer(text.split("\n\n"), add_special_tokens=False)["input_ids"]
            gap = tokenizer("\n\n", add_special_tokens=False)["input_ids"]
            ids = [one for part in parts for one in (*part, *gap)]
            torch.save(torch.tensor(ids, dtype=torch.int32), folder / _TOKENS)

        return self.cache.made(self.corpus_node, make)

    def windows(self) -> tuple[torch.Tensor, torch.Tensor]:
        """General text in windows, for training and held out."""
        ids = torch.load(self.corpus() / _TOKENS).long()
        size = self.settings.pretraining.window
        windows = ids[: len(ids) // size * size].view(-1, size)
        held = torch.arange(len(windows)) % _HELD_OUT == 0
        return windows[~held], windows[held]

    def questions(self) -> Questions:
        """What every model is asked."""
        given = self.settings.evaluation
        return Questions(
            load_tokenizer(self.corpus()),
            held_out(self.settings.digits, given.expressions),
            unseen(),
            self.windows()[1][: given.text_windows],
        )

    def version(self, number: int) -> Path:
        """The folder of M_i, pretrained from the version before."""
        if number > 1:
            self.version(number - 1)
        return self.cache.made(self.node(number), lambda folder: self._pretrain(number, folder))

    def _pretrain(self, number: int, folder: Path) -> None:
        from transformers import LlamaForCausalLM

        given = self.settings.pretraining
        stage, start, end = self._position(number)
        device = device_of(self.settings.device)
        before = None if number == 1 else self.version(number - 1)
        if before is None:
            model = new_model(self.settings.model, self.seed).to(device)
        else:
            model = LlamaForCausalLM.from_pretrained(before).to(device)
        optimizer = optimizer_of(model, given.weight_decay)
        done = 0
        if before is not None:
            state = torch.load(before / _OPTIMIZER, map_location=device)
            optimizer.load_state_dict(state["optimizer"])
            done = state["step"]
        last = start + sum(stage.steps)
        rate = falling(
            given.learning_rate, given.warmup_steps, start if stage.decay else last, last
        )
        trainer = Trainer(model, optimizer, rate, self.settings.precision, done)
        trainer.run(self._batches(number, stage), end)
        model.save_pretrained(folder)
        load_tokenizer(self.corpus()).save_pretrained(folder)
        torch.save({"optimizer": optimizer.state_dict(), "step": end}, folder / _OPTIMIZER)

    def _batches(self, number: int, stage: Stage) -> Iterator[Batch]:
        """Batches of this version's part of the pretraining: each of text, or of equations."""
        given = self.settings.pretraining
        chance = random.Random(f"{self.seed}-{number}")
        texts, _ = self.windows()
        tokenizer = load_tokenizer(self.corpus())
        lines = equations(self.settings.digits, self.seed * STREAMS + number)
        while True:
            if chance.random() < stage.arithmetic:
                rows = list(islice(lines, given.equations))
                yield padded([([], ids) for ids in tokenizer(rows)["input_ids"]])
            else:
                rows = chance.choices(range(len(texts)), k=given.batch_size)
                yield {"input_ids": texts[rows], "labels": texts[rows]}
