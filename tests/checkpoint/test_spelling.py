"""One checkpoint under the names of another is what transformers loads, element for element."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import transformers
from spelled_models import CONFIGS, State, build, original

from ftt_hub.checkpoint.loading_rules import LoadingRules
from ftt_hub.checkpoint.spelling import Stored, alike, loadable, respell
from ftt_hub.checkpoint.view import RespelledReader
from ftt_hub.errors import UnsupportedError
from ftt_hub.tensors.dtypes import BY_TORCH_NAME, Bits
from ftt_hub.tensors.header import TensorInfo


def stored(label: str, model: Any, state: State) -> Stored:
    return Stored(label, model.config.to_dict(), {n: tuple(t.shape) for n, t in state.items()})


def bits(tensor: torch.Tensor) -> Bits:
    size = {1: np.uint8, 2: np.uint16, 4: np.uint32, 8: np.uint64}[tensor.element_size()]
    raw: Bits = tensor.detach().contiguous().view(-1).view(torch.uint8).numpy().view(size)
    return raw


def reader(state: State, arrangements: Any) -> RespelledReader:
    infos = {
        name: TensorInfo(
            name, BY_TORCH_NAME[str(t.dtype).removeprefix("torch.")], tuple(t.shape), 0, t.nbytes
        )
        for name, t in state.items()
    }

    def read(name: str, start: int, count: int) -> Bits:
        return bits(state[name])[start : start + count].copy()

    return RespelledReader(arrangements, infos, read)


def assert_shows(shown: RespelledReader, expected: State) -> None:
    assert shown.tensors.keys() == expected.keys()
    for name, tensor in expected.items():
        count = tensor.numel()
        assert shown.tensors[name].shape == tuple(tensor.shape)
        for step in (count, max(1, count // 3 + 1)):
            parts = [shown.read_bits(name, i, min(step, count - i)) for i in range(0, count, step)]
            np.testing.assert_array_equal(np.concatenate(parts), bits(tensor), err_msg=name)


@pytest.mark.parametrize("name", CONFIGS)
def test_run_time_and_original_names_show_each_other_bit_for_bit(name: str) -> None:
    model = build(name)
    run_time, saved = dict(model.state_dict()), original(model)
    assert not alike(*({n: tuple(t.shape) for n, t in s.items()} for s in (run_time, saved)))
    for shown, own in ((run_time, saved), (saved, run_time)):
        respelling = respell(stored("reference", model, shown), stored("other", model, own))
        assert respelling is not None
        assert respelling.by_architecture
        assert not respelling.homeless
        assert_shows(reader(own, respelling.tensors), shown)
        assert_shows(reader(shown, respelling.own), own)


@pytest.mark.parametrize("prefix", ["_orig_mod.", "module.", "base_model.model."])
@pytest.mark.parametrize("name", ["mixtral", "qwen2_vl"])
def test_a_wrappers_prefix_is_seen_through(name: str, prefix: str) -> None:
    model = build(name)
    run_time = dict(model.state_dict())
    wrapped = {prefix + n: t for n, t in original(model).items()}
    respelling = respell(stored("plain", model, run_time), stored("wrapped", model, wrapped))
    assert respelling is not None
    assert_shows(reader(wrapped, respelling.tensors), run_time)
    names = loadable(stored("wrapped", model, wrapped))
    shapes = {names[n]: tuple(t.shape) for n, t in wrapped.items()}
    assert not LoadingRules(model).load(shapes).unknown


def test_compiled_layers_are_seen_through() -> None:
    model = build("mixtral")
    run_time = dict(model.state_dict())
    wrapped = {n.replace(".mlp.", "._orig_mod.mlp."): t for n, t in run_time.items()}
    respelling = respell(stored("plain", model, run_time), stored("wrapped", model, wrapped))
    assert respelling is not None
    assert_shows(reader(wrapped, respelling.tensors), run_time)


def test_norms_by_their_old_names_are_the_same_parameters() -> None:
    config = transformers.BertConfig(
        hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=4,
        vocab_size=40, max_position_embeddings=32,
    )  # fmt: skip
    model = transformers.BertForMaskedLM(config)
    model.config.architectures = ["BertForMaskedLM"]
    new = dict(model.state_dict())
    old = {
        n.replace("LayerNorm.weight", "LayerNorm.gamma").replace(
            "LayerNorm.bias", "LayerNorm.beta"
        ): t
        for n, t in new.items()
    }
    for shown, own in ((new, old), (old, new)):
        respelling = respell(stored("reference", model, shown), stored("other", model, own))
        assert respelling is not None
        assert_shows(reader(own, respelling.tensors), shown)


def test_weight_norm_in_both_notations_is_the_same_parameter() -> None:
    config = transformers.Wav2Vec2Config(
        hidden_size=16, intermediate_size=24, num_hidden_layers=1, num_attention_heads=4,
        conv_dim=(8, 8), conv_kernel=(3, 3), conv_stride=(2, 2), num_conv_pos_embeddings=4,
        num_conv_pos_embedding_groups=2, vocab_size=20,
    )  # fmt: skip
    model = transformers.Wav2Vec2ForCTC(config)
    model.config.architectures = ["Wav2Vec2ForCTC"]
    new = dict(model.state_dict())
    old = {
        n.replace("parametrizations.weight.original0", "weight_g").replace(
            "parametrizations.weight.original1", "weight_v"
        ): t
        for n, t in new.items()
    }
    assert old.keys() != new.keys()
    respelling = respell(stored("new", model, new), stored("old", model, old))
    assert respelling is not None
    assert_shows(reader(old, respelling.tensors), new)


def test_a_base_model_without_its_heads_prefix_is_the_body_of_the_whole() -> None:
    model = build("mixtral")
    whole, body = dict(model.state_dict()), dict(model.model.state_dict())
    bare = stored("body", model, body)
    bare.config["architectures"] = ["MixtralModel"]  # type: ignore[index]
    respelling = respell(bare, stored("whole", model, whole))
    assert respelling is not None
    shown = reader(whole, respelling.tensors)
    assert_shows(shown, {**body, "lm_head.weight": whole["lm_head.weight"]})


def test_what_no_parameter_is_made_of_is_named() -> None:
    model = build("mixtral")
    more = {**original(model), "value_head.weight": torch.zeros(1, 16)}
    respelling = respell(
        stored("plain", model, dict(model.state_dict())), stored("more", model, more)
    )
    assert respelling is not None
    assert respelling.homeless == ("value_head.weight",)


def test_a_missing_expert_is_refused_by_name() -> None:
    model = build("mixtral")
    fewer = {n: t for n, t in original(model).items() if ".experts.3.w1." not in n}
    with pytest.raises(UnsupportedError, match=r"experts\.\d\.w"):
        respell(stored("plain", model, dict(model.state_dict())), stored("fewer", model, fewer))


def test_unknown_architectures_are_matched_by_a_prefix_or_not_at_all() -> None:
    shapes = {"wte.weight": (4, 2), "h.0.w": (2, 2)}
    config = {"model_type": "of_our_own"}
    respelling = respell(
        Stored("bare", config, shapes),
        Stored("whole", config, {f"transformer.{n}": s for n, s in shapes.items()}),
    )
    assert respelling is not None
    assert not respelling.by_architecture
    assert {n: a.names for n, a in respelling.tensors.items()} == {
        "wte.weight": ("transformer.wte.weight",),
        "h.0.w": ("transformer.h.0.w",),
    }
    others = {f"other.{n}.x": s for n, s in shapes.items()}
    assert respell(Stored("bare", config, shapes), Stored("other", config, others)) is None


def test_conversions_that_compute_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    from transformers import core_model_loading

    model = build("mixtral")
    plain = core_model_loading.MergeModulelist.convert

    def doubled(self: Any, *args: Any, **kwargs: Any) -> Any:
        return {n: t * 2 for n, t in plain(self, *args, **kwargs).items()}

    monkeypatch.setattr(core_model_loading.MergeModulelist, "convert", doubled)
    saved = {n: tuple(t.shape) for n, t in original(model).items()}
    loaded = LoadingRules(model).load(saved)
    assert any(".experts." in name for name in loaded.computed)
    with pytest.raises(UnsupportedError, match="cannot follow"):
        respell(
            stored("plain", model, dict(model.state_dict())),
            stored("saved", model, original(model)),
        )
