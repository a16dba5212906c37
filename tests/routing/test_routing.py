"""Adapters chosen per input: the right one, in small groups, and the model given back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from models import TinyFamily, drifted, load_state, random_state, same_bits, save_model
from transformers import AutoModelForCausalLM, AutoTokenizer

import ftt_hub
from ftt_hub.errors import FttError, IncompatibleError
from ftt_hub.transfer.live.stack import Stack

LOW, HIGH = range(30), range(60, 90)


def texts(words: range, count: int, seed: int) -> list[str]:
    generator = np.random.default_rng(seed)
    return [" ".join(f"w{n}" for n in generator.choice(words, 12)) for _ in range(count)]


@pytest.fixture(scope="module")
def pair(family: TinyFamily, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    root = tmp_path_factory.mktemp("pair")
    other = save_model(root / "f", drifted(random_state(0), 5, 0.05))
    ftt_hub.extract(family.source, family.tuned, root / "low")
    ftt_hub.extract(family.source, other, root / "high")
    return str(root / "low"), str(root / "high")


@pytest.fixture
def model(family: TinyFamily) -> Any:
    return AutoModelForCausalLM.from_pretrained(family.target, dtype=torch.bfloat16)


@pytest.fixture
def router(model: Any, pair: tuple[str, str]) -> Any:
    with ftt_hub.AdapterRouter(
        model, {pair[0]: texts(LOW, 8, 1), pair[1]: texts(HIGH, 8, 2)}
    ) as made:
        yield made


def logits(model: Any, part: list[str]) -> list[torch.Tensor]:
    words = AutoTokenizer.from_pretrained(model.name_or_path)
    with torch.no_grad():
        return [
            model(**words(t, return_tensors="pt", return_token_type_ids=False)).logits[0]
            for t in part
        ]


def test_texts_go_to_the_adapter_of_their_nearest_examples(router, pair) -> None:
    for adapter, words in zip(pair, (LOW, HIGH), strict=True):
        for route in router.route(texts(words, 20, 9)):
            assert dict(route.scales) == {adapter: 1.0}
            assert 0 < route.similarity <= 1


def test_a_mixed_batch_gets_what_each_adapter_alone_would_give(
    router, model, pair, family: TinyFamily
) -> None:
    batch = [t for two in zip(texts(LOW, 3, 3), texts(HIGH, 3, 4), strict=True) for t in two]
    found = router.run(batch, logits)
    for number, text in enumerate(batch):
        alone = AutoModelForCausalLM.from_pretrained(family.target, dtype=torch.bfloat16)
        ftt_hub.TransferAdapter.from_pretrained(pair[number % 2]).apply_to(alone)
        assert torch.equal(found[number], logits(alone, [text])[0])


def test_the_model_is_given_back_bit_for_bit(model, pair, family: TinyFamily) -> None:
    with ftt_hub.AdapterRouter(
        model, {pair[0]: texts(LOW, 4, 1), pair[1]: texts(HIGH, 4, 2)}
    ) as router:
        for seed in range(4):
            router.run([*texts(LOW, 1, seed), *texts(HIGH, 1, seed)], logits)
        with pytest.raises(ZeroDivisionError):
            router.run(texts(HIGH, 1, 7), lambda *_: [1 // 0])
        assert router.on_model
    for name, tensor in load_state(family.target).items():
        assert same_bits(model.state_dict()[name], tensor), name


def test_routing_does_not_hang_on_what_lies_on_the_model(router) -> None:
    batch = [*texts(LOW, 5, 3), *texts(HIGH, 5, 4)]
    before = router.route(batch)
    router.run(batch[-1:], logits)
    assert router.route(batch) == before


def test_a_batch_like_the_last_one_costs_no_swap(router, monkeypatch) -> None:
    router.run(texts(HIGH, 2, 1), logits)
    calls: list[int] = []
    compute = Stack._compute
    monkeypatch.setattr(Stack, "_compute", lambda *a: calls.append(1) or compute(*a))
    router.run(texts(HIGH, 2, 5), logits)
    assert calls == []
    router.run([*texts(LOW, 2, 5), *texts(HIGH, 2, 6)], logits)
    one_swap = len(load_state(Path(router._model.name_or_path)))
    assert len(calls) == one_swap


def test_a_mixture_scales_by_votes(model, pair) -> None:
    examples = [(pair[0], texts(LOW, 6, 1)), (pair[1], texts(range(25, 60), 6, 2))]
    with ftt_hub.AdapterRouter(model, examples, k=6, mix=True, scale=0.5) as router:
        routes = router.route(texts(range(15, 45), 30, 3))
        assert any(len(route.scales) == 2 for route in routes)
        for route in routes:
            assert sum(route.votes.values()) == pytest.approx(1)
            assert sum(route.scales.values()) == pytest.approx(0.5)
        mixed = next(route for route in routes if len(route.scales) == 2)
        index = routes.index(mixed)
        router.run([texts(range(15, 45), 30, 3)[index]], logits)
        assert router.on_model == mixed.scales


def test_the_model_alone_answers_what_belongs_to_no_adapter(model, pair) -> None:
    examples = {pair[0]: texts(LOW, 5, 1), None: texts(HIGH, 5, 2)}
    with ftt_hub.AdapterRouter(model, examples) as router:
        (route,) = router.route(texts(HIGH, 1, 3))
        assert (dict(route.scales), dict(route.votes)) == ({}, {"": 1.0})
    with ftt_hub.AdapterRouter(model, {pair[0]: texts(LOW, 5, 1)}, min_similarity=0.99) as router:
        assert dict(router.route(texts(HIGH, 1, 3))[0].scales) == {}
        assert dict(router.route([""])[0].scales) == {}


def test_own_features_take_the_place_of_embeddings(model, pair) -> None:
    def length(batch: Any) -> np.ndarray:
        return np.array([[1.0, len(text)] for text in batch], np.float32)

    examples = {pair[0]: ["w1"], pair[1]: ["w1 " * 40]}
    with ftt_hub.AdapterRouter(model, examples, k=1, features=length) as router:
        assert dict(router.route(["w2 " * 50])[0].scales) == {pair[1]: 1.0}
    with pytest.raises(FttError, match="not one row of finite numbers per text"):
        ftt_hub.AdapterRouter(
            model, examples, features=lambda batch: np.full((len(batch), 1), np.nan)
        )


def test_generation_continues_each_text(router) -> None:
    batch = [texts(LOW, 1, 3)[0], texts(HIGH, 1, 4)[0] + " w61", texts(LOW, 1, 5)[0]]
    found = router.generate(batch, max_new_tokens=4, do_sample=False)
    assert [len(text.split()) <= 4 for text in found] == [True] * 3
    assert found == router.generate(batch, max_new_tokens=4, do_sample=False)


@pytest.mark.parametrize(
    ("adapters", "options", "message"),
    [
        ({}, {}, "name at least one adapter"),
        ({None: ["w1"]}, {}, "name at least one adapter"),
        ({"a/b": []}, {}, "a/b: needs a list of example texts"),
        ({"a/b": "w1"}, {}, "a/b: needs a list of example texts"),
        ({"a/b": ["w1"]}, {"k": 0}, "k must be at least 1"),
    ],
)
def test_a_router_that_makes_no_sense_is_refused(model, adapters, options, message) -> None:
    with pytest.raises(FttError, match=message):
        ftt_hub.AdapterRouter(model, adapters, **options)


def test_a_refused_router_leaves_the_model_alone(pair, family: TinyFamily) -> None:
    stranger = AutoModelForCausalLM.from_pretrained(family.stranger, dtype=torch.bfloat16)
    with pytest.raises(IncompatibleError):
        ftt_hub.AdapterRouter(stranger, {pair[0]: ["w1 w2"]})
    fitting = AutoModelForCausalLM.from_pretrained(family.target, dtype=torch.bfloat16)
    with pytest.raises(FttError, match="example text is empty"):
        ftt_hub.AdapterRouter(fitting, {pair[0]: [""]})
    with (
        pytest.raises(FttError, match="another number of answers"),
        ftt_hub.AdapterRouter(fitting, {pair[0]: ["w1 w2"]}) as router,
    ):
        router.run(["w1"], lambda *_: [])
    for name, tensor in load_state(family.target).items():
        assert same_bits(fitting.state_dict()[name], tensor), name
