"""What a tensor is decides the architecture: ties, vocabulary, structure; by values as loaded."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from models import WORDS, config, random_state, save_model, tokenizer
from safetensors.torch import load_file, save_file

import ftt_hub
from ftt_hub.errors import IncompatibleError, UnsupportedError

SIZE = len(WORDS)
State = dict[str, torch.Tensor]
EMBED, HEAD = "model.embed_tokens.weight", "lm_head.weight"


_HALVES = {
    f"{half}_{key}": size
    for half in ("encoder", "decoder")
    for key, size in (("layers", 1), ("attention_heads", 2), ("ffn_dim", 32))
}
KINDS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "bert": (
        "BertForMaskedLM",
        "BertConfig",
        {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1}
        | {"num_attention_heads": 4},
    ),
    "t5": (
        "T5ForConditionalGeneration",
        "T5Config",
        {"d_model": 32, "d_kv": 8, "d_ff": 64, "num_layers": 1, "num_heads": 4},
    ),
    "bart": ("BartForConditionalGeneration", "BartConfig", {"d_model": 32, **_HALVES}),
    "distilbert": (
        "DistilBertForMaskedLM",
        "DistilBertConfig",
        {"dim": 32, "hidden_dim": 64, "n_layers": 1, "n_heads": 4},
    ),
}
_TOKENS = {"vocab_size": SIZE, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}


def built(kind: str) -> Any:
    """A tiny random model."""
    model, settings, sizes = KINDS[kind]
    value = getattr(transformers, settings)(**sizes, **_TOKENS, decoder_start_token_id=1)
    return getattr(transformers, model)(value)


def drifted(model: Any, seed: int) -> Any:
    """The model with noise on every parameter and float buffer."""
    model, generator = copy.deepcopy(model), torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for tensor in {id(t): t for t in model.state_dict().values()}.values():
            if tensor.is_floating_point():
                tensor.add_(torch.randn(tensor.shape, generator=generator) * 1e-2)
    return model


def put(model: Any, folder: Path, words: list[str] = WORDS) -> Path:
    model.save_pretrained(folder)
    for name, data in tokenizer(words).items():
        (folder / name).write_bytes(data)
    return folder


def store_copies(model: Any, folder: Path) -> None:
    """Store every tied copy, as `.bin` files and older versions do."""
    (folder / "model.safetensors").unlink()
    torch.save(model.state_dict(), folder / "pytorch_model.bin")


def loaded(kind: type, folder: Path) -> State:
    """What transformers loads: run-time names, float64."""
    model = kind.from_pretrained(folder)  # type: ignore[attr-defined]
    return {name: t.double() for name, t in model.state_dict().items()}


def assert_sums(got: State, source: Any, tuned: Any, target: Any) -> None:
    """Every value is m_t + (m'_s − m_s), to float32 rounding."""
    s, f, t = (model.state_dict() for model in (source, tuned, target))
    assert got.keys() == t.keys()
    for name, value in got.items():
        expected = t[name].double() + (f[name].double() - s[name].double())
        assert torch.allclose(value, expected, rtol=1e-6, atol=1e-7), name


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("stored", [("s", "t"), ("f",), ("s", "f", "t")], ids="+".join)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_one_change_reaches_every_stored_copy(
    kind: str, stored: tuple[str, ...], tmp_path: Path
) -> None:
    torch.manual_seed(0)
    source = built(kind)
    tuned, target = drifted(source, 1), drifted(source, 2)
    for name, model in (("s", source), ("f", tuned), ("t", target)):
        put(model, tmp_path / name)
        if name in stored:
            store_copies(model, tmp_path / name)
    adapter = ftt_hub.extract(tmp_path / "s", tmp_path / "f", tmp_path / "a")
    for base, name in ((source, "s"), (target, "t")):
        ftt_hub.apply(adapter, tmp_path / name, tmp_path / f"o{name}")
        assert_sums(loaded(type(base), tmp_path / f"o{name}"), source, tuned, base)
    live = copy.deepcopy(target)
    live.name_or_path = str(tmp_path / "t")
    adapter.apply_to(live)
    assert_sums({n: t.double() for n, t in live.state_dict().items()}, source, tuned, target)


def llama(folder: Path, state: Mapping[str, torch.Tensor], *, tied: bool, **changes: Any) -> Path:
    return save_model(folder, dict(state), config(tie_word_embeddings=tied, **changes))


def noisy(state: Mapping[str, torch.Tensor], seed: int) -> State:
    generator = torch.Generator().manual_seed(seed)
    return {n: t + 0.01 * torch.randn(t.shape, generator=generator) for n, t in state.items()}


@pytest.mark.parametrize("target_tied", [True, False], ids=["onto tied", "onto separate"])
def test_an_untied_head_is_the_targets_plus_head_minus_embedding(
    target_tied: bool, tmp_path: Path
) -> None:
    base = random_state(0)
    head = noisy({HEAD: base[EMBED]}, 3)
    source = llama(tmp_path / "s", base, tied=True)
    llama(tmp_path / "f", {**noisy(base, 1), **head}, tied=False)
    own = noisy(base, 2)
    if not target_tied:
        own[HEAD] = noisy({HEAD: base[EMBED]}, 4)[HEAD]
    target = llama(tmp_path / "t", own, tied=target_tied)
    adapter = ftt_hub.extract(source, tmp_path / "f", tmp_path / "a")
    assert adapter.config.tensors.added == []

    for base_model in (source, target):
        out = tmp_path / f"o-{base_model.name}"
        ftt_hub.apply(adapter, base_model, out)
        s, f, t = (load_file(p / "model.safetensors") for p in (source, tmp_path / "f", base_model))
        expected = t.get(HEAD, t[EMBED]).double() + (f[HEAD].double() - s[EMBED].double())
        model = transformers.AutoModelForCausalLM.from_pretrained(out)
        assert json.loads((out / "config.json").read_text())["tie_word_embeddings"] is False
        assert torch.allclose(model.lm_head.weight.double(), expected, rtol=1e-2, atol=1e-3)
        streamed = ftt_hub.AutoTransferModelForCausalLM.from_pretrained(
            tmp_path / "a", base_model=base_model
        )
        for name, value in model.state_dict().items():
            assert torch.equal(streamed.state_dict()[name], value), name
    assert torch.equal(
        load_file(tmp_path / "o-s" / "model.safetensors")[HEAD],
        load_file(tmp_path / "f" / "model.safetensors")[HEAD],
    )


def test_a_model_in_memory_that_ties_what_fine_tuning_untied_is_refused(tmp_path: Path) -> None:
    base = random_state(0)
    source = llama(tmp_path / "s", base, tied=True)
    llama(tmp_path / "f", {**noisy(base, 1), **noisy({HEAD: base[EMBED]}, 3)}, tied=False)
    adapter = ftt_hub.extract(source, tmp_path / "f", tmp_path / "a")
    model = transformers.AutoModelForCausalLM.from_pretrained(source)
    with pytest.raises(UnsupportedError, match="untied lm_head"):
        adapter.apply_to(model)


def test_a_separate_head_gets_the_change_of_the_embedding_it_is_tied_to(tmp_path: Path) -> None:
    base = random_state(0)
    source = llama(tmp_path / "s", base, tied=True)
    tuned = llama(tmp_path / "f", noisy(base, 1), tied=True)
    own = {**noisy(base, 2), **noisy({HEAD: base[EMBED]}, 3)}
    target = llama(tmp_path / "t", own, tied=False)
    adapter = ftt_hub.extract(source, tuned, tmp_path / "a")
    ftt_hub.apply(adapter, target, tmp_path / "o")
    s, f, t, o = (
        load_file(p / "model.safetensors") for p in (source, tuned, target, tmp_path / "o")
    )
    expected = t[HEAD].double() + (f[EMBED].double() - s[EMBED].double())
    assert torch.allclose(o[HEAD].double(), expected, rtol=1e-2, atol=1e-3)
    live = transformers.AutoModelForCausalLM.from_pretrained(target)
    adapter.apply_to(live)
    assert torch.equal(live.lm_head.weight, o[HEAD])


def test_a_fine_tune_that_ties_gives_each_tensor_its_own_change(tmp_path: Path) -> None:
    base = random_state(0, tied=False)
    source = llama(tmp_path / "s", base, tied=False)
    tuned = llama(tmp_path / "f", {n: t for n, t in noisy(base, 1).items() if n != HEAD}, tied=True)
    adapter = ftt_hub.extract(source, tuned, tmp_path / "a")
    ftt_hub.apply(adapter, source, tmp_path / "o")
    model = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "o")
    expected = load_file(tuned / "model.safetensors")[EMBED]
    assert torch.equal(model.lm_head.weight, expected)
    assert torch.equal(model.model.embed_tokens.weight, expected)


def test_a_value_that_only_the_fine_tune_has_is_written_over_the_targets(tmp_path: Path) -> None:
    base = random_state(0)
    score = torch.randn(3, 32)
    source = llama(tmp_path / "s", base, tied=True)
    tuned = llama(tmp_path / "f", {**noisy(base, 1), "score.weight": score}, tied=True)
    target = llama(tmp_path / "t", {**base, "score.weight": score + 1}, tied=True)
    adapter = ftt_hub.extract(source, tuned, tmp_path / "a")
    ftt_hub.apply(adapter, target, tmp_path / "o")
    out = load_file(tmp_path / "o" / "model.safetensors")
    assert torch.equal(out["score.weight"], score.bfloat16())


@pytest.mark.parametrize("kind", ["bart", "distilbert", "bert"])
def test_heads_and_their_biases_follow_their_tokens(kind: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    source = built(kind)
    put(source, tmp_path / "s")
    grown = type(source).from_pretrained(tmp_path / "s")
    grown.resize_token_embeddings(SIZE + 2, mean_resizing=False)
    tuned = drifted(grown, 1)
    put(tuned, tmp_path / "f", [*WORDS, "<a>", "<b>"])
    target = drifted(source, 2)
    put(target, tmp_path / "t")
    adapter = ftt_hub.extract(tmp_path / "s", tmp_path / "f", tmp_path / "a")
    ftt_hub.apply(adapter, tmp_path / "s", tmp_path / "os")
    got, expected = loaded(type(source), tmp_path / "os"), tuned.state_dict()
    for name, value in got.items():
        assert torch.equal(value, expected[name].double()), name
    ftt_hub.apply(adapter, tmp_path / "t", tmp_path / "ot")
    s, f, t = (model.state_dict() for model in (source, tuned, target))
    for name, value in loaded(type(source), tmp_path / "ot").items():
        same, extra = value, None
        if t[name].shape != value.shape:
            axis = next(i for i, n in enumerate(value.shape) if n != t[name].shape[i])
            same, extra = value.narrow(axis, 0, SIZE), value.narrow(axis, SIZE, 2)
            new = f[name].narrow(axis, SIZE, 2).double()
            assert torch.allclose(extra, new), name
            wanted = f[name].narrow(axis, 0, SIZE).double() - s[name].double()
        else:
            wanted = f[name].double() - s[name].double()
        assert torch.allclose(same, t[name].double() + wanted, rtol=1e-6, atol=1e-7), name


def test_rows_of_a_head_by_another_name_move_with_their_tokens(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    source = built("distilbert")
    tuned, target = drifted(source, 1), drifted(source, 2)
    order = [0, 1, 2, *reversed(range(3, SIZE))]
    put(source, tmp_path / "s")
    put(tuned, tmp_path / "f")
    put(target, tmp_path / "t", [WORDS[i] for i in order])
    monkeypatch.chdir(tmp_path)
    adapter = ftt_hub.extract("s", "f", "a")
    ftt_hub.apply(adapter, "t", "o")
    s, f, t = (model.state_dict() for model in (source, tuned, target))
    got = loaded(type(source), tmp_path / "o")
    for name in ("vocab_projector.weight", "vocab_projector.bias"):
        change = f[name].double() - s[name].double()
        expected = t[name].double() + change[torch.tensor(order)]
        assert torch.allclose(got[name], expected, rtol=1e-6, atol=1e-7), name


def test_a_vocabulary_size_that_the_class_fills_in_is_known(tmp_path: Path) -> None:
    state, name = random_state(0), "language_model.model.embed_tokens.weight"
    settings = {
        "model_type": "gemma3",
        "architectures": ["Gemma3ForConditionalGeneration"],
        "text_config": {"hidden_size": 32},
    }
    base = {name: state[EMBED], "language_model.model.norm.weight": state["model.norm.weight"]}
    fine = noisy(base, 1)
    fine[name] = torch.cat([fine[name], torch.randn(2, 32)])
    save_model(tmp_path / "s", base, settings)
    save_model(tmp_path / "f", fine, settings, words=[*WORDS, "<a>", "<b>"])
    adapter = ftt_hub.extract(tmp_path / "s", tmp_path / "f", tmp_path / "a")
    assert adapter.config.tensors.resized == [name]
    ftt_hub.apply(adapter, tmp_path / "s", tmp_path / "o")
    written = json.loads((tmp_path / "o" / "config.json").read_text())
    assert written["text_config"]["vocab_size"] == SIZE + 2


def test_labels_and_class_of_the_fine_tune_reach_the_result(tmp_path: Path) -> None:
    base = random_state(0, tied=False)
    source = llama(tmp_path / "s", base, tied=False)
    names = {str(i): f"class {i}" for i in range(5)}
    fine = {n: t for n, t in noisy(base, 1).items() if n != HEAD}
    structure = {
        "architectures": ["LlamaForSequenceClassification"],
        "pad_token_id": 0,
        "id2label": names,
        "label2id": {name: int(i) for i, name in names.items()},
    }
    fine["score.weight"] = torch.randn(5, 32)
    tuned = llama(tmp_path / "f", fine, tied=False, **structure)
    adapter = ftt_hub.extract(source, tuned, tmp_path / "a")
    ftt_hub.apply(adapter, source, tmp_path / "o")
    model = transformers.AutoModelForSequenceClassification.from_pretrained(tmp_path / "o")
    assert model.config.id2label == {int(i): name for i, name in names.items()}
    assert model.config.pad_token_id == 0
    streamed = ftt_hub.AutoTransferModelForSequenceClassification.from_pretrained(
        tmp_path / "a", base_model=source
    )
    assert torch.equal(streamed.score.weight, model.score.weight)
    assert streamed.config.id2label == model.config.id2label


def test_special_tokens_that_only_the_config_tells_reach_the_result(tmp_path: Path) -> None:
    base = random_state(0)
    source = llama(tmp_path / "s", base, tied=True, eos_token_id=2)
    tuned = llama(tmp_path / "f", noisy(base, 1), tied=True, eos_token_id=9)
    target = llama(tmp_path / "t", base, tied=True, eos_token_id=2, rope_theta=500000.0)
    (target / "generation_config.json").write_text('{"eos_token_id": 2}')
    adapter = ftt_hub.extract(source, tuned, tmp_path / "a")
    ftt_hub.apply(adapter, target, tmp_path / "o")
    model = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "o")
    assert model.config.eos_token_id == model.generation_config.eos_token_id == 9
    assert json.loads((tmp_path / "o" / "config.json").read_text())["rope_theta"] == 500000.0
    findings = ftt_hub.verify(tmp_path / "a", target).findings
    assert any("eos_token_id becomes 9" in finding.reason for finding in findings)


def test_a_target_that_ties_what_the_source_base_had_apart_is_refused(tmp_path: Path) -> None:
    base = random_state(0, tied=False)
    source = llama(tmp_path / "s", base, tied=False)
    tuned = llama(tmp_path / "f", noisy(base, 1), tied=False)
    target = llama(tmp_path / "t", {n: t for n, t in base.items() if n != HEAD}, tied=True)
    adapter = ftt_hub.extract(source, tuned, tmp_path / "a")
    with pytest.raises(IncompatibleError, match=r"its own delta for lm_head"):
        ftt_hub.apply(adapter, target, tmp_path / "o")


def test_masks_of_infinity_travel_as_they_are(tmp_path: Path) -> None:
    mask = {"attn_mask": torch.full((4, 4), float("-inf")).triu(1)}
    base = random_state(0)
    source = llama(tmp_path / "s", {**base, **mask}, tied=True)
    tuned = llama(tmp_path / "f", {**noisy(base, 1), **mask}, tied=True)
    adapter = ftt_hub.extract(source, tuned, tmp_path / "a")
    ftt_hub.apply(adapter, source, tmp_path / "o")
    out = load_file(tmp_path / "o" / "model.safetensors")
    assert torch.equal(out["attn_mask"], mask["attn_mask"].bfloat16())


def test_counters_and_positions_are_no_reason_to_refuse(tmp_path: Path) -> None:
    base = {n: t.bfloat16() for n, t in random_state(0).items()}
    fine = {n: t.bfloat16() for n, t in noisy(random_state(0), 1).items()}
    for name, before, after in (
        ("bn.num_batches_tracked", torch.tensor(10), torch.tensor(25)),
        ("attn.bias", torch.ones(4, 4, dtype=torch.uint8), torch.ones(4, 4, dtype=torch.bool)),
        ("embeddings.position_ids", None, torch.arange(8)[None]),
    ):
        folder = tmp_path / name
        source = llama(folder / "s", base, tied=True)
        tuned = llama(folder / "f", fine, tied=True)
        if before is not None:
            save_file({**base, name: before}, source / "model.safetensors", {"format": "pt"})
        save_file({**fine, name: after}, tuned / "model.safetensors", {"format": "pt"})
        adapter = ftt_hub.extract(source, tuned, folder / "a")
        ftt_hub.apply(adapter, source, folder / "o")
        out = load_file(folder / "o" / "model.safetensors")
        assert before is None or torch.equal(out[name], before)
        assert torch.equal(out[EMBED], fine[EMBED])
