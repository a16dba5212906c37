"""What a model knows: held-out loss, and the continuation of a prompt."""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch.nn.functional import cross_entropy
from transformers import PreTrainedModel

from demo.checkpoint import load_tokenizer, tokenize
from demo.machine import compute_dtype
from demo.terminal import progress

_WINDOW = 256
_BATCH = 2  # keeps the float32 logits at 100 MB


@dataclass(frozen=True)
class HeldOut:
    """Held-out text as windows of token ids, shape (n, 256), int64."""

    language: str
    windows: torch.Tensor

    @classmethod
    def of(cls, language: str, text: str, tokenizer: Path, *, tokens: int) -> "HeldOut":
        """Take the first `tokens` tokens of `text`, by the tokenizer of a checkpoint folder."""
        ids = tokenize(tokenizer, text)
        count = min(tokens, len(ids)) // _WINDOW
        return cls(language, ids[: count * _WINDOW].view(count, _WINDOW))

    def loss(self, model: PreTrainedModel, *, label: str) -> float:
        """Return the model's mean loss in nats per token; the model may change its dtype.

        The first token of a window is given, not predicted.
        """
        model.to(compute_dtype())  # type: ignore[arg-type]
        model.eval()  # type: ignore[no-untyped-call]
        total = 0.0
        batches = torch.split(self.windows, _BATCH)
        with progress() as bar, torch.inference_mode():
            task = bar.add_task(f"{self.language} loss of {label}", total=len(batches), note="")
            for batch in batches:
                logits = model(input_ids=batch, use_cache=False).logits[:, :-1].flatten(0, 1)
                target = batch[:, 1:].flatten()
                total += cross_entropy(logits.float(), target, reduction="sum").item()
                bar.advance(task)
        return total / (self.windows.numel() - len(self.windows))


def continuation(model: PreTrainedModel, tokenizer: Path, prompt: str, *, tokens: int = 40) -> str:
    """Return the model's greedy continuation of `prompt`, without the prompt.

    A repetition penalty keeps so small a model from saying one word for ever; nothing is drawn
    by chance.
    """
    words = load_tokenizer(tokenizer)
    inputs = words(prompt, return_tensors="pt")
    with torch.inference_mode():
        output = model.generate(  # type: ignore[operator]
            **inputs,
            max_new_tokens=tokens,
            do_sample=False,
            repetition_penalty=1.2,
            pad_token_id=words.pad_token_id,
        )
    start = inputs["input_ids"].shape[1]
    said = str(words.decode(output[0, start:], skip_special_tokens=True))
    return said.rstrip("\N{REPLACEMENT CHARACTER}").strip()  # a letter cut in half by the end


def recovered_share(target: float, transferred: float, reference: float) -> float:
    """Return which part of fine-tuning's gain a transfer has: (L_t - L_t+Δ) / (L_t - L_FT).

    1.0 is as good as fine-tuning the target, 0.0 no better than the target itself.
    """
    return (target - transferred) / (target - reference)
