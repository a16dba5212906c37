"""A family of models for `benchmarks/transferability.py`: one m_s, its fine-tunes, and its targets.

The small family trains here in minutes: Llama with two layers on Python's reference topics
(English), Turkish speeches and Python source. The large one starts from a real model on a GPU.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from demo.materials import english_text, split, turkish_text
from torch.nn.functional import cross_entropy
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
)

TASKS = ("turkish", "python", "sums")


@dataclass(frozen=True)
class Settings:
    """Sizes of a family.

    Attributes:
        model: A real model to start from; ``None`` trains a small one from scratch.
        pretraining: Steps of m_s, where it is trained here.
        tuning: Steps of a fine-tune.
        rate: Learning rate of a fine-tune; the others are multiples of it.
        batch: Windows a step.
        length: Tokens of a window.
        device: Where training runs.
        unit: Steps of the shortest continued training.
    """

    model: str | None = None
    pretraining: int = 800
    tuning: int = 60
    rate: float = 1e-3
    batch: int = 8
    length: int = 64
    device: str = "cpu"
    unit: int = 25


def texts(seed: int) -> dict[str, tuple[str, str]]:
    """Name → (training part, held-out part)."""
    modules = sorted(Path(random.__file__).parent.glob("*.py"))[:60]
    code = "\n\n".join(path.read_text(encoding="utf-8", errors="replace") for path in modules)
    dice = random.Random(seed)
    pairs = [(dice.randrange(100), dice.randrange(100)) for _ in range(12_000)]
    sums = "\n\n".join(f"{a} + {b} = {a + b}" for a, b in pairs)
    found = {"english": english_text(), "turkish": turkish_text(), "python": code, "sums": sums}
    return {name: split(text[:400_000]) for name, text in found.items()}


def small_tokenizer(corpus: list[str]) -> PreTrainedTokenizerBase:
    """A byte-level BPE of 512 tokens."""
    from tokenizers import ByteLevelBPETokenizer, Tokenizer

    made = ByteLevelBPETokenizer()
    made.train_from_iterator(corpus, vocab_size=512, min_frequency=2, special_tokens=["</s>"])
    inner = Tokenizer.from_str(made.to_str())
    return PreTrainedTokenizerFast(tokenizer_object=inner, eos_token="</s>")


def small_model(tokenizer: PreTrainedTokenizerBase, seed: int) -> PreTrainedModel:
    """Two layers, hidden size 96, float32."""
    torch.manual_seed(seed)
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=96,
            intermediate_size=256,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=4,
            max_position_embeddings=256,
            tie_word_embeddings=True,
            bos_token_id=None,
            eos_token_id=0,
        )
    )


def train(
    model: PreTrainedModel,
    ids: torch.Tensor,
    steps: int,
    rate: float,
    settings: Settings,
    seed: int,
) -> PreTrainedModel:
    """AdamW without decay, warm-up of a tenth, then linear to zero; in place."""
    model.to(settings.device).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=0.0)
    generator = torch.Generator().manual_seed(seed)
    for step in range(steps):
        factor = min(1.0, 10 * (step + 1) / steps, (steps - step) / (0.9 * steps))
        optimizer.param_groups[0]["lr"] = rate * factor
        starts = torch.randint(len(ids) - settings.length, (settings.batch,), generator=generator)
        batch = torch.stack([ids[s : s + settings.length] for s in starts]).to(settings.device)
        logits = model(input_ids=batch, use_cache=False).logits.float()
        loss = cross_entropy(logits[:, :-1].flatten(0, 1), batch[:, 1:].flatten())
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    return model.eval()


def noisy(model: PreTrainedModel, size: float, seed: int) -> PreTrainedModel:
    """Noise of a relative size on every matrix."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in model.parameters():
            if weight.dim() == 2:
                weight += size * weight.std() * torch.randn(weight.shape, generator=generator)
    return model


def permuted(model: PreTrainedModel, seed: int) -> PreTrainedModel:
    """The same function with the hidden units of every MLP in another order."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for layer in model.model.layers:
            order = torch.randperm(layer.mlp.gate_proj.weight.shape[0], generator=generator)
            for name in ("gate_proj", "up_proj"):
                weight = getattr(layer.mlp, name).weight
                weight.copy_(weight[order])
            layer.mlp.down_proj.weight.copy_(layer.mlp.down_proj.weight[:, order])
    return model


class Family:
    """Models of one seed, saved under a folder.

    Args:
        root: Folder for the models.
        settings: Sizes.
        seed: Of initialization, data order and noise.
    """

    def __init__(self, root: Path, settings: Settings, seed: int) -> None:
        self.root, self.settings, self.seed = root, settings, seed
        self.texts = texts(seed)
        if settings.model is None:
            self.tokenizer = small_tokenizer([train for train, _ in self.texts.values()])
        else:
            self.tokenizer = AutoTokenizer.from_pretrained(settings.model)
        self._ids = {
            name: torch.tensor(self.tokenizer(train, verbose=False)["input_ids"])
            for name, (train, _) in self.texts.items()
        }
        mixed = [self._ids["english"], *(self._ids[task][:20_000] for task in TASKS)]
        self._ids["mixed"] = torch.cat(mixed)
        self.source = self._save("source", self._pretrained(seed))

    def _pretrained(self, seed: int) -> PreTrainedModel:
        if self.settings.model is not None:
            return AutoModelForCausalLM.from_pretrained(self.settings.model, dtype=torch.float32)
        model = small_model(self.tokenizer, seed)
        steps = self.settings.pretraining
        return train(model, self._ids["mixed"], steps, 3e-3, self.settings, seed)

    def _save(self, name: str, model: PreTrainedModel) -> Path:
        folder = self.root / f"seed{self.seed}" / name
        model.cpu().save_pretrained(folder)
        self.tokenizer.save_pretrained(folder)
        return folder

    def _load(self, folder: Path) -> PreTrainedModel:
        return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)

    def held_out(self, task: str) -> Path:
        """File with the held-out text of a task."""
        path = self.root / f"seed{self.seed}" / f"{task}.txt"
        path.write_text(self.texts[task][1], encoding="utf-8")
        return path

    def tuned(self, base: Path, task: str) -> Path:
        """The base fine-tuned on a task, always by the same recipe."""
        s = self.settings
        model = train(self._load(base), self._ids[task], s.tuning, s.rate, s, self.seed + 10)
        return self._save(f"{base.name}-{task}", model)

    def targets(self) -> dict[str, Path]:
        """Targets by name, from the nearest to strangers."""
        made: dict[str, Callable[[], PreTrainedModel]] = {
            "next, 1x, rate/3": lambda: self._continued(1, 1 / 3),
            "next, 4x, rate/3": lambda: self._continued(4, 1 / 3),
            "next, 4x, rate": lambda: self._continued(4, 1.0),
            "next, 10x, rate": lambda: self._continued(10, 1.0),
            "next, 10x, 4 rate": lambda: self._continued(10, 4.0),
            "noise 0.1": lambda: noisy(self._load(self.source), 0.1, self.seed),
            "noise 0.3": lambda: noisy(self._load(self.source), 0.3, self.seed),
            "noise 0.7": lambda: noisy(self._load(self.source), 0.7, self.seed),
            "permuted": lambda: permuted(self._load(self.source), self.seed),
            "stranger": self._stranger,
        }
        return {
            name: self._save(f"target{number}", make())
            for number, (name, make) in enumerate(made.items())
        }

    def _continued(self, length: int, factor: float) -> PreTrainedModel:
        """The next version of m_s: more English."""
        s = self.settings
        steps = s.unit * length
        model = self._load(self.source)
        return train(model, self._ids["english"], steps, s.rate * factor, s, self.seed + 20)

    def _stranger(self) -> PreTrainedModel:
        """Same shape and data, another initialization."""
        if self.settings.model is None:
            return self._pretrained(self.seed + 100)
        config = self._load(self.source).config
        torch.manual_seed(self.seed + 100)
        return AutoModelForCausalLM.from_config(config)
