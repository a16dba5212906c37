"""Vocabularies that differ: rows follow their tokens, and what has no row is said, not guessed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from models import HIDDEN, WORDS, config, drifted, load_state, random_state, same_bits, save_model

import ftt_hub
from ftt_hub.errors import ExtractionError, IncompatibleError

EMBED, HEAD = "model.embed_tokens.weight", "lm_head.weight"
tied_or_not = pytest.mark.parametrize("tied", [True, False], ids=["tied", "separate"])


def sized(rows: int, tied: bool) -> dict[str, object]:
    return config(vocab_size=rows, tie_word_embeddings=tied)


def resized(state: dict[str, torch.Tensor], rows: list[int]) -> dict[str, torch.Tensor]:
    """The state with its vocabulary rows picked anew; −1 is a fresh random row."""
    fresh = torch.Generator().manual_seed(5)

    def pick(tensor: torch.Tensor) -> torch.Tensor:
        new = torch.randn(HIDDEN, generator=fresh) * 0.05
        return torch.stack([tensor[r] if r >= 0 else new for r in rows])

    return {n: (pick(t) if n in (EMBED, HEAD) else t) for n, t in state.items()}


class Case:
    """A source base and a fine-tuned model with a vocabulary of its own."""

    def __init__(self, root: Path, tied: bool, tuned_words: list[str] | None = None) -> None:
        self.root, self.tied = root, tied
        self.base = random_state(0, tied=tied)
        self.words = tuned_words or WORDS
        extra = len(self.words) - len(WORDS)
        fine = resized(drifted(self.base, 1, 0.01), [*range(len(WORDS)), *[-1] * extra])
        self.source = save_model(root / "s", self.base, sized(len(WORDS), tied))
        self.tuned = save_model(root / "f", fine, sized(len(self.words), tied), words=self.words)
        ftt_hub.extract(self.source, self.tuned, root / "a")

    def target(self, rows: list[int], words: list[str]) -> Path:
        state = resized(drifted(self.base, 2, 0.05), rows)
        return save_model(self.root / "t", state, sized(len(rows), self.tied), words=words)

    def apply(self, target: Path) -> dict[str, torch.Tensor]:
        ftt_hub.apply(self.root / "a", target, self.root / "out")
        self.check_loading(target)
        return load_state(self.root / "out")

    def check_loading(self, target: Path) -> None:
        model = ftt_hub.AutoTransferModelForCausalLM.from_pretrained(
            self.root / "a", base_model=target
        )
        out = load_state(self.root / "out")
        assert model.config.vocab_size == out[EMBED].shape[0]
        for name in (EMBED, HEAD) if not self.tied else (EMBED,):
            assert same_bits(model.state_dict()[name], out[name])

    def row(self, target_row: torch.Tensor, number: int, name: str) -> torch.Tensor:
        """m_t + Δ of one row, by its number in the source base."""
        m_s, tuned = load_state(self.source)[name], load_state(self.tuned)[name]
        total = target_row.double() + (tuned[number].double() - m_s[number].double())
        return total.to(torch.bfloat16)

    @property
    def names(self) -> tuple[str, ...]:
        return (EMBED,) if self.tied else (EMBED, HEAD)


@tied_or_not
def test_a_larger_target_keeps_its_extra_rows(tmp_path: Path, tied: bool) -> None:
    case = Case(tmp_path, tied)
    target = case.target([*range(len(WORDS)), -1, -1], [*WORDS, "new1", "new2"])
    before, after = load_state(target), case.apply(target)
    for name in case.names:
        assert torch.equal(after[name][5], case.row(before[name][5], 5, name))
        assert torch.equal(after[name][len(WORDS) :], before[name][len(WORDS) :])


@tied_or_not
def test_padding_rows_of_the_target_stay(tmp_path: Path, tied: bool) -> None:
    case = Case(tmp_path, tied)
    target = case.target([*range(len(WORDS)), *[-1] * 32], WORDS)
    before, after = load_state(target), case.apply(target)
    for name in case.names:
        assert after[name].shape[0] == len(WORDS) + 32
        assert torch.equal(after[name][len(WORDS) :], before[name][len(WORDS) :])


@tied_or_not
def test_tokens_that_fine_tuning_added_come_with_their_rows(tmp_path: Path, tied: bool) -> None:
    case = Case(tmp_path, tied, [*WORDS, "<chat>", "</chat>"])
    target = case.target(list(range(len(WORDS))), WORDS)
    before, after = load_state(target), case.apply(target)
    tuned = load_state(case.tuned)
    for name in case.names:
        assert after[name].shape[0] == len(WORDS) + 2
        assert torch.equal(after[name][-2:], tuned[name][-2:])
        assert torch.equal(after[name][7], case.row(before[name][7], 7, name))
    out = tmp_path / "out"
    assert json.loads((out / "config.json").read_text())["vocab_size"] == len(WORDS) + 2
    assert (out / "tokenizer.json").read_bytes() == (case.tuned / "tokenizer.json").read_bytes()


@tied_or_not
def test_added_tokens_meet_a_target_with_other_added_tokens(tmp_path: Path, tied: bool) -> None:
    case = Case(tmp_path, tied, [*WORDS, "<chat>"])
    target = case.target([*range(len(WORDS)), -1], [*WORDS, "other"])
    before, after = load_state(target), case.apply(target)
    for name in case.names:
        assert torch.equal(after[name][len(WORDS)], load_state(case.tuned)[name][-1])
        assert torch.equal(after[name][len(WORDS) + 1], before[name][len(WORDS)])


@tied_or_not
def test_reordered_tokens_are_found_by_their_string(tmp_path: Path, tied: bool) -> None:
    case = Case(tmp_path, tied, [*WORDS, "<chat>"])  # brings its tokenizer along
    order = [0, 1, 2, *reversed(range(3, len(WORDS)))]
    target = case.target(order, [WORDS[i] for i in order])
    before, after = load_state(target), case.apply(target)
    for name in case.names:  # the result follows the fine-tuned tokenizer
        for number in (3, 40, len(WORDS) - 1):
            place = order.index(number)
            assert torch.equal(after[name][number], case.row(before[name][place], number, name))
    tokenizer = json.loads((tmp_path / "out" / "tokenizer.json").read_text())
    assert tokenizer["model"]["vocab"]["<chat>"] == len(WORDS)


def test_reordered_tokens_without_any_tokenizer_of_the_adapter_are_refused(tmp_path: Path) -> None:
    case = Case(tmp_path, True)  # same tokenizer as the source base: none travels
    order = [0, 1, 2, *reversed(range(3, len(WORDS)))]
    target = case.target(order, [WORDS[i] for i in order])
    with pytest.raises(IncompatibleError, match="tokens"):
        ftt_hub.apply(tmp_path / "a", target, tmp_path / "out")


def test_reordered_tokens_follow_the_target_when_the_source_base_is_at_hand(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = Case(tmp_path, True)
    order = [0, 1, 2, *reversed(range(3, len(WORDS)))]
    target = case.target(order, [WORDS[i] for i in order])
    monkeypatch.chdir(tmp_path)  # the adapter names its source base "s"
    before, after = load_state(target), case.apply(target)
    for number in (3, 40):
        place = order.index(number)
        assert torch.equal(after[EMBED][place], case.row(before[EMBED][place], number, EMBED))


def test_a_token_that_the_target_lacks_is_listed_not_guessed(tmp_path: Path) -> None:
    case = Case(tmp_path, True, [*WORDS, "<chat>"])
    words = [*WORDS[:-1], "unheard-of"]
    target = case.target(list(range(len(WORDS))), words)
    with pytest.raises(IncompatibleError, match=f"1 tokens.*'{WORDS[-1]}'"):
        ftt_hub.apply(tmp_path / "a", target, tmp_path / "out")


def test_a_reserved_token_put_to_use_keeps_its_row(tmp_path: Path) -> None:
    case = Case(tmp_path, True, [*WORDS[:-1], "<|im_start|>"])
    target = case.target(list(range(len(WORDS))), WORDS)
    before, after = load_state(target), case.apply(target)
    last = len(WORDS) - 1
    assert torch.equal(after[EMBED][last], case.row(before[EMBED][last], last, EMBED))


def test_a_shuffled_fine_tuned_tokenizer_is_refused_at_extraction(tmp_path: Path) -> None:
    source = save_model(tmp_path / "s", random_state(0))
    words = [*WORDS[:3], *reversed(WORDS[3:])]
    tuned = save_model(tmp_path / "f", random_state(1), words=words)
    with pytest.raises(ExtractionError, match="tokens have other ids"):
        ftt_hub.extract(source, tuned, tmp_path / "a")


def test_other_row_counts_without_tokenizers_are_refused(tmp_path: Path) -> None:
    base = random_state(0)
    source = save_model(tmp_path / "s", base, words=None)
    tuned = save_model(tmp_path / "f", drifted(base, 1, 0.01), words=None)
    ftt_hub.extract(source, tuned, tmp_path / "a")
    larger = resized(drifted(base, 2, 0.05), [*range(len(WORDS)), -1])
    target = save_model(tmp_path / "t", larger, sized(len(WORDS) + 1, True), words=None)
    with pytest.raises(IncompatibleError, match="no tokenizer"):
        ftt_hub.apply(tmp_path / "a", target, tmp_path / "out")
