"""Diff vectors on models in memory: on, off, scaled, swapped, and never half."""

from __future__ import annotations

import copy
import json
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from architectures import ARCHITECTURES, build
from models import (
    WORDS,
    TinyFamily,
    config,
    drifted,
    load_state,
    random_state,
    same_bits,
    save_model,
)

import ftt_hub
from ftt_hub.errors import AlreadyAppliedError, FttError, IncompatibleError, UnsupportedError
from ftt_hub.transfer.live import stack as stacks
from ftt_hub.transfer.live.steps import SumStep

State = dict[str, torch.Tensor]


def bits_of(model: Any) -> State:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def differing(first: State, second: State) -> list[str]:
    assert first.keys() == second.keys()
    return [name for name in first if not same_bits(first[name], second[name])]


def load(folder: Path, auto: str = "AutoModelForCausalLM", **options: Any) -> Any:
    return getattr(transformers, auto).from_pretrained(folder, **{"dtype": "auto", **options})


@pytest.fixture(scope="module")
def pair(
    family: TinyFamily, tmp_path_factory: pytest.TempPathFactory
) -> tuple[ftt_hub.TransferAdapter, ftt_hub.TransferAdapter]:
    """Two adapters of the same source base."""
    folder = tmp_path_factory.mktemp("pair")
    other = save_model(folder / "other", drifted(random_state(0), 5, 0.02))
    return (
        ftt_hub.extract(family.source, family.tuned, folder / "one"),
        ftt_hub.extract(family.source, other, folder / "two"),
    )


@pytest.mark.parametrize("name", ARCHITECTURES)
@pytest.mark.parametrize("scale", [1.0, 0.5])
def test_a_live_model_gets_what_merging_on_disk_gives_and_gives_it_back(
    tmp_path: Path, name: str, scale: float
) -> None:
    source, tuned, target = build(tmp_path, name)
    adapter = ftt_hub.extract(source, tuned, tmp_path / "adapter")
    adapter.apply(target, tmp_path / "merged", scale=scale)
    model = load(target, ARCHITECTURES[name][1])
    before = bits_of(model)
    adapter.apply_to(model, scale=scale)
    merged = load(tmp_path / "merged", ARCHITECTURES[name][1])
    assert differing(bits_of(model), bits_of(merged)) == []
    adapter.remove_from(model)
    assert differing(bits_of(model), before) == []


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=str)
def test_a_model_of_another_dtype_gets_the_correctly_rounded_sum(
    family: TinyFamily, pair: Any, dtype: torch.dtype
) -> None:
    model = load(family.target, dtype=dtype)
    before = bits_of(model)
    pair[0].apply_to(model)
    m_s, tuned = load_state(family.source), load_state(family.tuned)
    name = "model.layers.1.mlp.down_proj.weight"
    exact = before[name].double() + (tuned[name].double() - m_s[name].double())
    assert torch.equal(model.state_dict()[name], exact.to(dtype))
    pair[0].remove_from(model)
    assert differing(bits_of(model), before) == []


def test_a_headless_model_gets_the_deltas_it_has_weights_for(tmp_path: Path) -> None:
    source, tuned, target = build(tmp_path, "llama")
    adapter = ftt_hub.extract(source, tuned, tmp_path / "adapter")
    adapter.apply(target, tmp_path / "merged")
    model = load(target, "AutoModel")
    report = adapter.apply_to(model)
    assert differing(bits_of(model), bits_of(load(tmp_path / "merged", "AutoModel"))) == []
    assert any("no such head: lm_head.weight" in f.reason for f in report.findings)


def test_removal_out_of_order_leaves_no_trace(family: TinyFamily, pair: Any) -> None:
    one, two = pair
    model = load(family.target)
    before = bits_of(model)
    two.apply_to(model)
    only_two = bits_of(model)
    two.remove_from(model)
    one.apply_to(model)
    two.apply_to(model, scale=0.3)
    two.set_scale(model, 1.0)
    one.remove_from(model)
    assert differing(bits_of(model), only_two) == []
    two.remove_from(model)
    assert differing(bits_of(model), before) == []


def test_the_scale_is_set_from_the_targets_own_bits(family: TinyFamily, pair: Any) -> None:
    one, _ = pair
    fresh, model = load(family.target), load(family.target)
    one.apply_to(model)
    for scale in (0.1, -2.0, 0.7):
        one.set_scale(model, scale)
    one.apply_to(fresh, scale=0.7)
    assert differing(bits_of(model), bits_of(fresh)) == []


def test_swapping_equals_taking_off_and_putting_on(family: TinyFamily, pair: Any) -> None:
    one, two = pair
    model, fresh = load(family.target), load(family.target)
    one.apply_to(model)
    one.swap(two, model)
    two.apply_to(fresh)
    assert differing(bits_of(model), bits_of(fresh)) == []


def test_a_context_takes_the_adapter_off_even_after_an_error(family: TinyFamily, pair: Any) -> None:
    model = load(family.target)
    before = bits_of(model)

    def use() -> None:
        with pair[0].applied(model, scale=1.5) as inside:
            assert differing(bits_of(inside), before)
            raise KeyError

    with pytest.raises(KeyError):
        use()
    assert differing(bits_of(model), before) == []


def test_tied_embeddings_are_added_once(family: TinyFamily, pair: Any) -> None:
    model = load(family.source)
    pair[0].apply_to(model)
    assert model.lm_head.weight is model.model.embed_tokens.weight
    tuned = load_state(family.tuned)["model.embed_tokens.weight"]
    assert same_bits(model.lm_head.weight.detach(), tuned)


def test_the_same_adapter_is_refused_twice_and_on_copies(family: TinyFamily, pair: Any) -> None:
    model = load(family.target)
    pair[0].apply_to(model)
    with pytest.raises(AlreadyAppliedError, match="added twice"):
        pair[0].apply_to(model)
    twin = copy.deepcopy(model)
    with pytest.raises(AlreadyAppliedError, match="added twice"):
        pair[0].apply_to(twin)
    with pytest.raises(FttError, match="undo log"):
        pair[0].remove_from(twin)
    with pytest.raises(FttError, match="not on this model"):
        pair[1].remove_from(model)


def test_a_scale_that_is_no_number_is_refused(family: TinyFamily, pair: Any) -> None:
    model = load(family.target)
    before = bits_of(model)
    with pytest.raises(FttError, match="finite"):
        pair[0].apply_to(model, scale=float("nan"))
    pair[0].apply_to(model)
    with pytest.raises(FttError, match="finite"):
        pair[0].set_scale(model, float("inf"))
    pair[0].remove_from(model)
    assert differing(bits_of(model), before) == []


def test_a_stranger_another_architecture_and_other_shapes_are_refused(
    family: TinyFamily, pair: Any, tmp_path: Path
) -> None:
    model = load(family.stranger)
    before = bits_of(model)
    with pytest.raises(IncompatibleError, match="unrelated"):
        pair[0].apply_to(model)
    assert differing(bits_of(model), before) == []
    with pytest.raises(IncompatibleError, match="the adapter is for llama, the target is mixtral"):
        pair[0].apply_to(ARCHITECTURES["mixtral"][0]())
    wide = transformers.LlamaForCausalLM(transformers.LlamaConfig(**config(intermediate_size=128)))
    with pytest.raises(IncompatibleError, match=r"down_proj|gate_proj|up_proj"):
        pair[0].apply_to(wide)


def test_weights_that_are_not_in_memory_are_refused(family: TinyFamily, pair: Any) -> None:
    with torch.device("meta"):
        model = transformers.LlamaForCausalLM(transformers.LlamaConfig(**config()))
    with pytest.raises(UnsupportedError, match="AutoTransferModel"):
        pair[0].apply_to(model)


def test_weights_changed_by_training_are_not_taken_for_the_adapters(
    family: TinyFamily, pair: Any
) -> None:
    model = load(family.target)
    pair[0].apply_to(model)
    with torch.no_grad():
        model.model.norm.weight.add_(1)
    with pytest.raises(FttError, match=r"model.norm.weight: the weights were changed"):
        pair[0].remove_from(model)


def damaged(adapter: ftt_hub.TransferAdapter, folder: Path) -> ftt_hub.TransferAdapter:
    """A copy of an adapter with a flipped byte in the frames of its last tensor."""
    folder.mkdir()
    for path in adapter.folder.iterdir():
        if path.is_file():
            (folder / path.name).write_bytes(path.read_bytes())
    weights = folder / "adapter_model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-5] ^= 1
    weights.write_bytes(data)
    return ftt_hub.TransferAdapter.from_pretrained(folder)


def test_a_damaged_frame_leaves_the_model_as_it_was(
    family: TinyFamily, pair: Any, tmp_path: Path
) -> None:
    model = load(family.target)
    pair[1].apply_to(model)
    before = bits_of(model)
    with pytest.raises(FttError, match="does not match its hash"):
        damaged(pair[0], tmp_path / "bad").apply_to(model)
    assert differing(bits_of(model), before) == []
    pair[1].remove_from(model)


@pytest.mark.parametrize("at", [0, 3, 11])
@pytest.mark.parametrize("verb", ["apply_to", "remove_from", "set_scale"])
def test_an_interrupted_change_is_undone(
    family: TinyFamily, pair: Any, monkeypatch: pytest.MonkeyPatch, verb: str, at: int
) -> None:
    one, two = pair
    model = load(family.target)
    two.apply_to(model)
    if verb != "apply_to":
        one.apply_to(model)
    before, count = bits_of(model), 0
    commit = stacks.Stack._commit

    def interrupted(self: Any, *args: Any) -> None:
        nonlocal count
        commit(self, *args)
        count += 1
        if count == at + 1:
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(stacks.Stack, "_commit", interrupted)
    arguments = (model, 0.5) if verb == "set_scale" else (model,)
    with pytest.raises(KeyboardInterrupt):
        getattr(one, verb)(*arguments)
    assert differing(bits_of(model), before) == []
    monkeypatch.undo()
    getattr(one, verb)(*arguments)
    if verb != "remove_from":
        one.remove_from(model)
    two.remove_from(model)
    assert differing(bits_of(model), bits_of(load(family.target))) == []


def test_the_undo_log_is_a_small_part_of_the_model(family: TinyFamily, pair: Any) -> None:
    model = load(family.target)
    pair[0].apply_to(model)
    size = sum(p.nbytes for p in model.parameters())
    assert stacks.stack_of(model).log_bytes < 0.25 * size


def test_the_report_speaks_of_the_models_own_settings(
    family: TinyFamily, pair: Any, tmp_path: Path
) -> None:
    report = pair[0].apply_to(load(family.target))
    assert {f.check for f in report.findings if f.status == "warned"} == {"licence"}
    other = save_model(tmp_path / "t", random_state(0), config(rope_theta=500000.0))
    report = pair[0].apply_to(load(other))
    assert "rope_theta is 500000.0 in the target" in report.verdict
    other_heads = config(num_attention_heads=2, num_key_value_heads=1, head_dim=16)
    heads = save_model(tmp_path / "h", random_state(0), other_heads)
    with pytest.raises(IncompatibleError, match="num_attention_heads is 2 in the target"):
        pair[0].apply_to(load(heads))


def test_removal_needs_neither_the_folder_nor_an_open_adapter(
    family: TinyFamily, tmp_path: Path
) -> None:
    adapter = ftt_hub.extract(family.source, family.tuned, tmp_path / "a")
    model = load(family.target)
    adapter.apply_to(model)
    adapter.close()
    for path in (tmp_path / "a").iterdir():
        path.unlink()
    adapter.remove_from(model)
    assert differing(bits_of(model), bits_of(load(family.target))) == []


def test_untouched_parameters_cost_no_step(tmp_path: Path) -> None:
    state = random_state(0)
    changed = {**state, "model.norm.weight": state["model.norm.weight"] + 1}
    source, tuned = save_model(tmp_path / "s", state), save_model(tmp_path / "f", changed)
    adapter = ftt_hub.extract(source, tuned, tmp_path / "a")
    model = load(source)
    adapter.apply_to(model)
    (layer,) = stacks.stack_of(model).layers
    assert [type(s) for s in layer.match.steps] == [SumStep]


def tuned_with_words(
    folder: Path, make: Callable[..., Path], extra: list[str]
) -> ftt_hub.TransferAdapter:
    """An adapter that added tokens and another end of sequence."""
    state = random_state(0)
    tuned = drifted(state, 1, 0.01)
    rows = torch.randn(len(extra), 32, generator=torch.Generator().manual_seed(4)) * 0.05
    tuned["model.embed_tokens.weight"] = torch.cat([tuned["model.embed_tokens.weight"], rows])
    words = [*WORDS, *extra]
    end = {"eos_token_id": [2, len(words) - 1], "bos_token_id": 1, "max_new_tokens": 6}
    make(folder / "s", state)
    make(
        folder / "f", tuned, config(vocab_size=len(words)), words=words,
        template="{% for m in messages %}{{ m.content }} wnew {% endfor %}",
    )  # fmt: skip
    (folder / "f" / "generation_config.json").write_text(json.dumps(end))
    return ftt_hub.extract(folder / "s", folder / "f", folder / "a")


def test_added_tokens_grow_a_live_model_and_leave_with_the_adapter(
    family: TinyFamily, tmp_path: Path
) -> None:
    adapter = tuned_with_words(tmp_path, save_model, ["wnew", "wend"])
    model, back = load(family.target), load(tmp_path / "s")
    before = bits_of(model)
    report = adapter.apply_to(model)
    assert any("2 rows added" in finding.reason for finding in report.findings)
    adapter.apply(family.target, tmp_path / "merged")
    merged = load(tmp_path / "merged")
    assert differing(bits_of(model), bits_of(merged)) == []
    assert model.config.vocab_size == model.lm_head.out_features == len(WORDS) + 2
    tokens = torch.tensor([[1, len(WORDS), 9]])
    assert torch.equal(model.generate(tokens), merged.generate(tokens))
    assert model.generation_config.eos_token_id == [2, len(WORDS) + 1]
    adapter.remove_from(model)
    assert differing(bits_of(model), before) == []
    assert model.config.vocab_size == model.lm_head.out_features == len(WORDS)
    assert model.generation_config.eos_token_id == 2
    adapter.apply_to(back)
    assert differing(bits_of(back), bits_of(load(tmp_path / "f"))) == []
    assert torch.equal(back.generate(tokens), load(tmp_path / "f").generate(tokens))


def test_the_result_chats_as_the_fine_tuned_model_does(family: TinyFamily, tmp_path: Path) -> None:
    adapter = tuned_with_words(tmp_path, save_model, ["wnew", "wend"])
    adapter.apply(family.target, tmp_path / "merged")
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path / "merged")
    mine = adapter.tokenizer(family.target)
    assert len(mine) == len(theirs) == len(WORDS) + 2
    live = load(family.target)
    adapter.apply_to(live)
    auto = ftt_hub.AutoTransferModelForCausalLM
    streamed = auto.from_pretrained(tmp_path / "a", base_model=family.target)
    chat = [{"role": "user", "content": "w3 w4"}]
    prompt = mine.apply_chat_template(chat, return_tensors="pt", return_dict=True)["input_ids"]
    assert prompt[0].tolist() == theirs.convert_tokens_to_ids(["w3", "w4", "wnew"])
    expected = load(tmp_path / "merged").generate(prompt)
    assert torch.equal(live.generate(prompt), expected)
    assert torch.equal(streamed.generate(prompt), expected)
    own = ftt_hub.extract(family.source, family.tuned, tmp_path / "own").tokenizer(family.target)
    assert len(own) == len(WORDS)
