"""Held-out loss: what is scored, what it equals, how sure it is, and text that cannot be used."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from models import TinyFamily
from torch.nn.functional import cross_entropy
from transformers import AutoModelForCausalLM, AutoTokenizer

from ftt_hub.errors import FttError
from ftt_hub.loss import (
    HeldOutText,
    Loss,
    Window,
    divergence,
    logits_of,
    mean_difference,
    mean_ratio,
    measure,
    read_text,
)

CHAT = (
    "{% for m in messages %}{{ '<s> ' + m['role'] + ' ' + m['content'] + ' </s> ' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<s> assistant ' }}{% endif %}"
)
TEXT = " ".join(f"w{n % 91}" for n in range(300))


@pytest.fixture(scope="module")
def model(family: TinyFamily) -> torch.nn.Module:
    return AutoModelForCausalLM.from_pretrained(family.source, dtype=torch.float32)


@pytest.fixture
def words(family: TinyFamily) -> object:
    return AutoTokenizer.from_pretrained(family.source)


def test_loss_is_the_model_s_own_mean_cross_entropy(model, words, tmp_path: Path) -> None:
    path = tmp_path / "held_out.txt"
    path.write_text(TEXT)
    text = read_text(path, words, window=50)
    expected = 0.0
    for window in text.windows:
        ids = torch.tensor([window.ids])
        logits = model(input_ids=ids).logits[0, :-1]
        expected += cross_entropy(logits, ids[0, 1:], reduction="sum").item()
    assert text.tokens == 300 - 6
    assert measure(model, text).mean == pytest.approx(expected / text.tokens, rel=1e-5)


def test_padding_and_batching_change_no_window(model, monkeypatch: pytest.MonkeyPatch) -> None:
    generator = np.random.default_rng(0)
    windows = tuple(
        Window(tuple(generator.integers(3, 90, n).tolist()), (False,) + (True,) * (n - 1))
        for n in (5, 40, 17, 33)
    )
    together = measure(model, HeldOutText(windows, "t", ""))
    monkeypatch.setattr("ftt_hub.loss.measurement._LOGITS_BYTES", 1)
    apart = measure(model, HeldOutText(windows, "t", ""))
    assert together.tokens.tolist() == [4, 39, 16, 32]
    np.testing.assert_allclose(together.nats, apart.nats, rtol=1e-5)


def test_only_completions_are_scored(words, tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    rows = [{"prompt": "w1 w2 w3 ", "completion": " ".join(["w4"] * 70)}]
    path.write_text("\n".join(map(json.dumps, rows)))
    window = read_text(path, words).windows[0]
    assert window.scored == (False,) * 3 + (True,) * 70


def test_only_the_assistant_is_scored(words, tmp_path: Path) -> None:
    words.chat_template = CHAT
    path = tmp_path / "chat.jsonl"
    said = " ".join(["w9"] * 40)
    row = [
        {"role": "user", "content": "w1 w2"},
        {"role": "assistant", "content": said},
        {"role": "user", "content": "w5"},
        {"role": "assistant", "content": said},
    ]
    path.write_text(json.dumps({"messages": row}))
    window = read_text(path, words).windows[0]
    scored = [i for i, flag in zip(window.ids, window.scored, strict=True) if flag]
    nine, end = words.convert_tokens_to_ids(["w9", "</s>"])
    assert scored == ([nine] * 40 + [end]) * 2


@pytest.mark.parametrize(
    ("content", "name", "message"),
    [
        ("", "empty.txt", "too little text to measure a loss"),
        ("w1 w2 w3", "tiny.txt", "found 2"),
        ('{"text": "w1"}\n{"text"', "cut.jsonl", "cut.jsonl, line 2: not a line of JSON"),
        ("[1]", "list.jsonl", "line 1: not a JSON object: found list"),
        ('{"texts": "w1"}', "key.jsonl", "line 1: no text in this row"),
        ('{"messages": [{"role": "user", "content": "w1"}]}', "chat.jsonl", "no chat template"),
    ],
)  # fmt: skip
def test_text_that_cannot_be_used_is_named(
    words, tmp_path: Path, content: str, name: str, message: str
) -> None:
    path = tmp_path / name
    path.write_text(content)
    with pytest.raises(FttError, match=message.replace("(", r"\(")) as caught:
        read_text(path, words)
    assert "\n" not in str(caught.value)


def test_a_loss_that_is_not_a_number_is_an_error(family: TinyFamily, words, tmp_path: Path) -> None:
    broken = AutoModelForCausalLM.from_pretrained(family.source, dtype=torch.float32)
    with torch.no_grad():
        broken.model.norm.weight.fill_(float("nan"))
    path = tmp_path / "held_out.txt"
    path.write_text(TEXT)
    with pytest.raises(FttError, match="the loss is not a number"):
        measure(broken, read_text(path, words))


def test_a_model_diverges_from_others_but_not_from_itself(
    model, family: TinyFamily, words, tmp_path: Path
) -> None:
    path = tmp_path / "held_out.txt"
    path.write_text(TEXT)
    text = read_text(path, words, window=50)
    tuned = AutoModelForCausalLM.from_pretrained(family.tuned, dtype=torch.float32)
    assert divergence(model, model, text).nats == pytest.approx(0, abs=1e-6)
    assert divergence(model, model, text).same_token == 1
    assert divergence(tuned, model, text).nats > 1e-6


def test_intervals_cover_the_mean_at_their_level() -> None:
    generator = np.random.default_rng(1)
    inside = 0
    for _ in range(200):
        nats = generator.normal(2.0, 0.5, 60)
        estimate = Loss(nats, np.ones(60)).estimate()
        inside += estimate.low <= 2.0 <= estimate.high
    assert 0.88 <= inside / 200 <= 0.99


def test_pairing_removes_the_spread_of_the_text() -> None:
    generator = np.random.default_rng(2)
    text = generator.normal(3.0, 1.0, 100)
    first, second = Loss(text, np.ones(100)), Loss(text - 0.01, np.ones(100))
    change = mean_difference(first.nats, second.nats, first.tokens)
    assert change.value == pytest.approx(0.01)
    assert change.high - change.low < 1e-9
    share = mean_ratio(np.full(100, 0.5), np.full(100, 1.0))
    assert (share.value, share.low, share.high) == pytest.approx((0.5, 0.5, 0.5))


def test_measuring_leaves_torch_as_it_was_also_when_it_is_given_up(
    model, family: TinyFamily, words, tmp_path: Path
) -> None:
    path = tmp_path / "held_out.txt"
    path.write_text(TEXT)
    model.train()
    for _ in logits_of(model, read_text(path, words, window=50)):
        assert torch.is_grad_enabled()
        assert not torch.is_inference_mode_enabled()
        break
    assert model.training
    model.eval()
