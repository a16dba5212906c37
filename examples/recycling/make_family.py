"""Three versions of a tiny base model and the rows of a task, for `ftt-hub recycle recipe.yaml`.

A Llama of 0.1 M parameters learns additions, letter by letter; its versions are saved after 300,
400 and 500 steps. The task is subtraction. Takes under a minute on a processor.

    python examples/recycling/make_family.py FOLDER
    ftt-hub recycle FOLDER/recipe.yaml
"""

from __future__ import annotations

import json
import random
import shutil
import sys
from pathlib import Path

import torch
from tokenizers import Regex, Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

LETTERS = "0123456789+-="
SAVED_AFTER = (300, 400, 500)
LENGTH = 16


def make_tokenizer() -> PreTrainedTokenizerFast:
    """One token a letter."""
    tokens = {token: i for i, token in enumerate(["<pad>", "</s>", *LETTERS])}
    found = Tokenizer(models.WordLevel(tokens, unk_token="<pad>"))
    found.pre_tokenizer = pre_tokenizers.Split(Regex("."), "isolated")
    return PreTrainedTokenizerFast(tokenizer_object=found, pad_token="<pad>", eos_token="</s>")


def sums(chance: random.Random) -> str:
    """An addition below 200."""
    a, b = chance.randrange(100), chance.randrange(100)
    return f"{a}+{b}={a + b}"


def differences(chance: random.Random, count: int) -> list[dict[str, str]]:
    """Subtractions, as prompt and completion."""
    pairs = [sorted((chance.randrange(100), chance.randrange(100))) for _ in range(count)]
    return [{"prompt": f"{b}-{a}=", "completion": str(b - a)} for a, b in pairs]


def main(folder: Path) -> None:
    """Train the family and write the rows."""
    torch.manual_seed(0)
    chance = random.Random(0)
    tokenizer = make_tokenizer()
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=64,
            intermediate_size=128,
            num_hidden_layers=2,
            num_attention_heads=4,
            max_position_embeddings=32,
            pad_token_id=0,
            bos_token_id=None,
            eos_token_id=1,
        )
    )
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for step in range(1, SAVED_AFTER[-1] + 1):
        rows = [sums(chance) + "</s>" for _ in range(64)]
        batch = tokenizer(rows, padding="max_length", max_length=LENGTH, return_tensors="pt")
        batch.pop("token_type_ids", None)
        labels = batch["input_ids"].masked_fill(batch["attention_mask"] == 0, -100)
        loss = model(**batch, labels=labels).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        if step in SAVED_AFTER:
            version = folder / f"version-{SAVED_AFTER.index(step) + 1}"
            model.save_pretrained(version)
            tokenizer.save_pretrained(version)
            print(f"{version}: loss {loss.item():.3f} after {step} steps")
    for name, count in (("train", 2000), ("held_out", 200)):
        lines = [json.dumps(row) for row in differences(chance, count)]
        (folder / f"{name}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    shutil.copyfile(Path(__file__).with_name("recipe.yaml"), folder / "recipe.yaml")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
