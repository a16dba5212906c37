"""Combined diff vectors: every method against an obvious reference, and what the adapter says."""

from __future__ import annotations

import json
import math
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
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
from ftt_hub.codecs.lossy.dither import uniforms
from ftt_hub.extraction.builder import Provenance
from ftt_hub.tensors.order_statistics import kept, magnitudes_at

State = dict[str, torch.Tensor]
Reference = Callable[[list[State]], State]


@pytest.fixture(scope="module")
def three(family: TinyFamily, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Three adapters of one source base, the second in fp32."""
    root = tmp_path_factory.mktemp("three")
    base = random_state(0)
    language = save_model(root / "f1", drifted(base, 5, 0.02))
    skill = save_model(root / "f2", drifted(base, 6, 0.01), dtype=torch.float32)
    ftt_hub.extract(
        family.source,
        family.tuned,
        root / "instruct",
        provenance=Provenance(languages=["en"], license="apache-2.0"),
    )
    ftt_hub.extract(
        family.source,
        language,
        root / "language",
        codec="quantized",
        provenance=Provenance(languages=["tr"], license="cc-by-nc-4.0"),
    )
    ftt_hub.extract(family.source, skill, root / "skill")
    return [root / "instruct", root / "language", root / "skill"]


def deltas_of(folder: Path) -> State:
    """Δ of every tensor in fp64, decoded by the container."""
    adapter = ftt_hub.TransferAdapter.from_pretrained(folder)
    container, found = adapter.opened.container, {}
    for name, entry in container.entries.items():
        values = np.zeros(entry.count)
        if entry.slot is not None:
            for start, block in container.decode_range(entry, 0, entry.count):
                for plane in (block.hi, block.lo):
                    if plane is not None:
                        wide = plane.astype(np.uint32) << (32 - block.dtype.bits)
                        values[start : start + plane.size] += wide.view(np.float32)
        found[name] = torch.from_numpy(values).view(entry.shape)
    return found


def nearest(values: torch.Tensor) -> torch.Tensor:
    """fp64 to bf16 with one rounding; torch's own goes through fp32 and rounds twice."""
    fraction, exponent = torch.frexp(values)
    return torch.ldexp(torch.round(fraction * 256), exponent - 8).to(torch.bfloat16)


def added_to(target: Path, delta: State) -> State:
    return {name: nearest(t.double() + delta[name]) for name, t in load_state(target).items()}


def flat(delta: State) -> torch.Tensor:
    return torch.cat([delta[name].flatten() for name in sorted(delta)])


# The references: whole tensors in fp64, loops and sorts, nothing shared with the package but the
# random numbers, whose place (seed, adapter, tensor, element) is part of the format.


def linear(weights: list[float]) -> Reference:
    def reference(deltas: list[State]) -> State:
        return {
            name: sum(w * d[name] for w, d in zip(weights, deltas, strict=True))
            for name in deltas[0]
        }

    return reference


def average(deltas: list[State]) -> State:
    return {name: torch.stack([d[name] for d in deltas]).mean(0) for name in deltas[0]}


def elect(stack: torch.Tensor) -> torch.Tensor:
    sign = torch.sign(stack.sum(0))
    agrees = (torch.sign(stack) == sign) & (sign != 0)
    return (stack * agrees).sum(0) / agrees.sum(0).clamp(min=1)


def ties(density: float, scale: float) -> Reference:
    def reference(deltas: list[State]) -> State:
        trimmed = []
        for delta in deltas:
            sizes = flat(delta).float().abs().sort(descending=True).values
            smallest = sizes[math.ceil(density * len(sizes)) - 1]
            trimmed.append({n: d * (d.float().abs() >= smallest) for n, d in delta.items()})
        return {name: scale * elect(torch.stack([t[name] for t in trimmed])) for name in deltas[0]}

    return reference


def thin(delta: State, drop: float, seed: int, digest: str) -> State:
    """DARE as in the paper, on our random numbers."""
    found = {}
    for name, d in delta.items():
        u = torch.from_numpy(uniforms(seed, f"{digest} {name}", 0, d.numel()).astype(float))
        found[name] = torch.where(u.view(d.shape) < drop, 0.0, d / (1 - drop))
    return found


def breadcrumbs(bottom: float, top: float) -> Reference:
    def reference(deltas: list[State]) -> State:
        total = {name: torch.zeros_like(d) for name, d in deltas[0].items()}
        for delta in deltas:
            for name, d in delta.items():
                sizes = d.float().abs().flatten().sort().values
                low = sizes[min(math.floor(round(bottom * d.numel(), 6)), d.numel() - 1)]
                high = sizes[max(math.ceil(round((1 - top) * d.numel(), 6)) - 1, 0)]
                size = d.float().abs()
                total[name] += d * ((size >= low) & (size <= high))
        return total

    return reference


def slerp(t: float) -> Reference:
    def reference(deltas: list[State]) -> State:
        found = {}
        for name, a in deltas[0].items():
            b = deltas[1][name]
            cosine = (a * b).sum() / (a.norm() * b.norm())
            angle = torch.arccos(cosine)
            found[name] = (
                torch.sin((1 - t) * angle) / torch.sin(angle) * a
                + torch.sin(t * angle) / torch.sin(angle) * b
            )
        return found

    return reference


@pytest.mark.parametrize(
    ("method", "parameters", "weights", "reference"),
    [
        ("linear", {}, [1.0, 1.0, 1.0], linear([1.0, 1.0, 1.0])),
        ("linear", {}, [0.7, -0.4, 1.3], linear([0.7, -0.4, 1.3])),
        ("average", {}, [1.0, 1.0, 1.0], average),
        ("ties", {}, [1.0, 1.0, 1.0], ties(0.2, 1.0)),
        ("ties", {"density": 0.55, "scale": 0.6}, [1.0, 1.0, 1.0], ties(0.55, 0.6)),
        ("breadcrumbs", {}, [1.0, 1.0, 1.0], breadcrumbs(0.85, 0.007)),
        ("breadcrumbs", {"bottom": 0.3, "top": 0.2}, [1.0, 1.0, 1.0], breadcrumbs(0.3, 0.2)),
        ("slerp", {}, [1.0, 1.0], slerp(0.5)),
        ("slerp", {"t": 0.2}, [1.0, 1.0], slerp(0.2)),
    ],
)
def test_a_merged_checkpoint_is_the_reference_rounded_once(
    family: TinyFamily,
    three: list[Path],
    tmp_path: Path,
    method: str,
    parameters: dict[str, Any],
    weights: list[float],
    reference: Reference,
) -> None:
    chosen = three[: len(weights)]
    ftt_hub.combine(
        list(zip(chosen, weights, strict=True)),
        tmp_path / "out",
        method=method,
        parameters=parameters,
        target=family.target,
    )
    expected = added_to(family.target, reference([deltas_of(folder) for folder in chosen]))
    for name, tensor in load_state(tmp_path / "out").items():
        assert torch.equal(tensor, expected[name]), name


@pytest.mark.parametrize("drop", [0.5, 0.875])
@pytest.mark.parametrize("method", ["dare", "dare_ties"])
def test_dare_is_the_reference_on_the_same_random_numbers(
    family: TinyFamily, three: list[Path], tmp_path: Path, method: str, drop: float
) -> None:
    ftt_hub.combine(
        three,
        tmp_path / "out",
        method=method,
        parameters={"drop": drop, "seed": 7},
        target=family.target,
    )
    thinned = []
    for folder in three:
        adapter = ftt_hub.TransferAdapter.from_pretrained(folder)
        thinned.append(thin(deltas_of(folder), drop, 7, adapter.config.content_digest))
    merge = elect if method == "dare_ties" else (lambda stack: stack.sum(0))
    delta = {n: merge(torch.stack([t[n] for t in thinned])) for n in thinned[0]}
    expected = added_to(family.target, delta)
    for name, tensor in load_state(tmp_path / "out").items():
        assert torch.equal(tensor, expected[name]), name


def test_dare_keeps_the_expectation() -> None:
    from ftt_hub.combining.consensus import drop_and_rescale

    part = np.ones(400_000)
    for drop in (0.1, 0.9, 0.99, 0.9995):
        found = drop_and_rescale(part, drop, 0, "x", 0)
        assert found.mean() == pytest.approx(1, abs=5 * (drop / (1 - drop) / part.size) ** 0.5)


@pytest.mark.parametrize("method", ["linear", "ties", "dare_ties", "breadcrumbs"])
def test_any_number_of_threads_gives_the_same_bytes(
    three: list[Path], tmp_path: Path, method: str
) -> None:
    for name, workers in (("a", 1), ("b", 4)):
        ftt_hub.combine(three, tmp_path / name / "out", method=method, workers=workers)
    for path in (tmp_path / "a" / "out").iterdir():
        assert path.read_bytes() == (tmp_path / "b" / "out" / path.name).read_bytes(), path.name


def test_weights_of_one_are_stored_exactly(family: TinyFamily, tmp_path: Path) -> None:
    other = save_model(tmp_path / "f", drifted(random_state(0), 5, 0.3))
    ftt_hub.extract(family.source, family.tuned, tmp_path / "one")
    ftt_hub.extract(family.source, other, tmp_path / "two")
    ftt_hub.combine([(tmp_path / "one", 1.0), (tmp_path / "two", -1.0)], tmp_path / "sum")
    found, one, two = (deltas_of(tmp_path / name) for name in ("sum", "one", "two"))
    exact = sum(int((found[n] == one[n] - two[n]).sum()) for n in found)
    assert exact >= 0.99 * sum(delta.numel() for delta in found.values())
    for name, delta in found.items():
        difference = one[name] - two[name]
        assert (delta - difference).norm() <= 2**-16 * difference.norm(), name
    ftt_hub.combine([tmp_path / "one"], tmp_path / "copy")
    for name, delta in deltas_of(tmp_path / "copy").items():
        assert torch.equal(delta, one[name]), name


def test_other_weights_are_rounded_once_to_the_dtype_of_the_inputs(
    family: TinyFamily, tmp_path: Path
) -> None:
    ftt_hub.extract(family.source, family.tuned, tmp_path / "one")
    ftt_hub.combine([(tmp_path / "one", 0.3)], tmp_path / "less")
    ftt_hub.combine([(tmp_path / "one", 0.3)], tmp_path / "wide", dtype="float32")
    one = deltas_of(tmp_path / "one")
    for folder, wanted in (("less", nearest), ("wide", torch.Tensor.float)):
        for name, delta in deltas_of(tmp_path / folder).items():
            assert torch.equal(delta, wanted(0.3 * one[name]).double()), name
    narrow, wide = (
        ftt_hub.TransferAdapter.from_pretrained(tmp_path / name).config for name in ("less", "wide")
    )
    assert 0 < wide.fidelity.relative_error < 1e-7 < narrow.fidelity.relative_error < 2**-8
    assert narrow.fidelity.bits_per_weight < wide.fidelity.bits_per_weight


def test_layer_ranges_swap_layers(family: TinyFamily, three: list[Path], tmp_path: Path) -> None:
    instruct, language, _ = three
    ftt_hub.combine(
        [
            ftt_hub.Ingredient(language, layers=((0, 0),), outside_layers=True),
            ftt_hub.Ingredient(instruct, layers=((1, 40),)),
        ],
        tmp_path / "out",
    )
    found, first, second = map(deltas_of, (tmp_path / "out", language, instruct))
    for name, delta in found.items():
        assert torch.equal(delta, second[name] if ".layers.1." in name else first[name]), name


def test_the_adapter_passes_every_check_and_names_its_parents(
    family: TinyFamily, three: list[Path], tmp_path: Path
) -> None:
    result = ftt_hub.combine([(three[0], 1.0), (three[1], 0.5)], tmp_path / "out")
    checked = ftt_hub.verify(tmp_path / "out")
    parents = [ftt_hub.TransferAdapter.from_pretrained(folder).config for folder in three[:2]]
    assert checked.combination["parents"] == [
        {"ref": "instruct", "content_digest": parents[0].content_digest, "weight": 1.0},
        {"ref": "language", "content_digest": parents[1].content_digest, "weight": 0.5},
    ]
    assert (checked.license, checked.languages) == ("cc-by-nc-4.0", ["en", "tr"])
    assert checked.source_base == parents[0].source_base
    assert result.license == "cc-by-nc-4.0"
    text = (tmp_path / "out" / "README.md").read_text()
    assert "0.5 × `language`" in text
    assert str(tmp_path) not in (tmp_path / "out" / "adapter_config.json").read_text()
    report = ftt_hub.verify(tmp_path / "out", family.target, depth="sketch")
    assert report.status != "rejected"
    with pytest.raises(ftt_hub.FttError, match="unrelated"):
        ftt_hub.apply(tmp_path / "out", family.stranger, tmp_path / "wrong")


def test_the_adapter_goes_on_a_model_in_memory_and_off_again(
    family: TinyFamily, three: list[Path], tmp_path: Path
) -> None:
    from transformers import AutoModelForCausalLM

    ftt_hub.combine([(three[0], 1.0), (three[2], 0.5)], tmp_path / "out")
    ftt_hub.apply(tmp_path / "out", family.target, tmp_path / "merged")
    model = AutoModelForCausalLM.from_pretrained(family.target, dtype="auto")
    adapter = ftt_hub.TransferAdapter.from_pretrained(tmp_path / "out")
    for wanted in (tmp_path / "merged", family.target):
        if wanted == family.target:
            adapter.remove_from(model)
        else:
            adapter.apply_to(model)
        for name, tensor in load_state(wanted).items():
            assert same_bits(model.state_dict()[name], tensor), name


def test_a_combination_can_be_stored_quantized(three: list[Path], tmp_path: Path) -> None:
    ftt_hub.combine(three, tmp_path / "out", codec=ftt_hub.Coding("quantized", max_error=0.2))
    fidelity = ftt_hub.verify(tmp_path / "out").fidelity
    assert 0.1 < fidelity.relative_error <= 0.2
    ftt_hub.combine(three, tmp_path / "rule", codec="quantized")
    assert 0 < ftt_hub.verify(tmp_path / "rule").fidelity.noise <= 0.011


def test_recipes_nest(family: TinyFamily, three: list[Path], tmp_path: Path) -> None:
    (tmp_path / "inner.yaml").write_text(
        f"adapters:\n- adapter: {three[0]}\n  weight: 0.5\n- adapter: {three[1]}\n"
    )
    (tmp_path / "outer.yaml").write_text(
        f"adapters:\n- recipe: inner.yaml\n  weight: 2\n- adapter: {three[2]}\n  weight: -1\n"
    )
    ftt_hub.combine(tmp_path / "outer.yaml", tmp_path / "out", target=family.target)
    expected = added_to(family.target, linear([1, 2, -1])([deltas_of(f) for f in three]))
    for name, tensor in load_state(tmp_path / "out").items():
        assert torch.equal(tensor, expected[name]), name
    ftt_hub.combine(tmp_path / "outer.yaml", tmp_path / "adapter")
    first = ftt_hub.verify(tmp_path / "adapter").combination["parents"][0]
    assert (first["ref"], first["combination"]["parents"][0]["weight"]) == ("inner", 0.5)


def test_a_missing_tensor_is_a_zero_delta_and_is_named(family: TinyFamily, tmp_path: Path) -> None:
    state = random_state(0)
    extra = {"score.weight": torch.randn(3, 32)}
    source = save_model(tmp_path / "s", {**state, "extra.weight": torch.randn(4, 4)})
    tuned = save_model(
        tmp_path / "f", {**drifted(state, 1, 0.01), **extra, "extra.weight": torch.randn(4, 4)}
    )
    ftt_hub.extract(family.source, family.tuned, tmp_path / "one")
    ftt_hub.extract(source, tuned, tmp_path / "two")
    result = ftt_hub.combine(
        [tmp_path / "one", tmp_path / "two"], tmp_path / "out", allow_different_bases=True
    )
    assert any("works as far as the two bases" in note for note in result.notes)
    assert any(
        "one knows nothing of 2 tensors" in note and "extra.weight" in note for note in result.notes
    )
    found = deltas_of(tmp_path / "out")
    assert same_bits(found["score.weight"].bfloat16(), extra["score.weight"].bfloat16())


def test_equal_added_tokens_are_combined(family: TinyFamily, tmp_path: Path) -> None:
    words = [*WORDS, "<new>"]
    for name, seed in (("one", 1), ("two", 2)):
        state = drifted(random_state(0), seed, 0.01)
        rows = state["model.embed_tokens.weight"]
        state["model.embed_tokens.weight"] = torch.cat([rows, torch.full((1, 32), float(seed))])
        tuned = save_model(
            tmp_path / f"f-{name}", state, config(vocab_size=len(words)), words=words
        )
        ftt_hub.extract(family.source, tuned, tmp_path / name)
    ftt_hub.extract(family.source, family.tuned, tmp_path / "plain")
    every = [tmp_path / name for name in ("plain", "one", "two")]
    ftt_hub.combine(every, tmp_path / "out")
    ftt_hub.apply(tmp_path / "out", family.target, tmp_path / "merged")
    merged = load_state(tmp_path / "merged")["model.embed_tokens.weight"]
    deltas = [deltas_of(folder)["model.embed_tokens.weight"] for folder in every]
    target = load_state(family.target)["model.embed_tokens.weight"].double()
    assert merged.shape == (len(words), 32)
    exact = target + sum(d[:-1] if len(d) > len(WORDS) else d for d in deltas)
    assert (merged[:-1].double() - exact).abs().max() < 2**-8 * exact.abs().max()
    assert torch.equal(merged[-1].float(), torch.full((32,), 1.5))  # values are averaged
    assert (tmp_path / "merged" / "tokenizer.json").read_bytes() == (
        tmp_path / "f-one" / "tokenizer.json"
    ).read_bytes()


def test_memory_does_not_grow_with_the_number_of_tensors(tmp_path: Path) -> None:
    peaks = []
    for layers in (3, 18):
        root, state = tmp_path / str(layers), {}
        for number in range(layers):
            generator = torch.Generator().manual_seed(number)
            state[f"model.layers.{number}.mlp.up_proj.weight"] = torch.randn(
                512, 512, generator=generator
            )
        save_model(root / "s", state)
        for seed in (1, 2):
            tuned = save_model(root / f"f{seed}", drifted(state, seed, 0.01))
            ftt_hub.extract(root / "s", tuned, root / f"a{seed}")
        tracemalloc.start()
        try:
            ftt_hub.combine([root / "a1", root / "a2"], root / "out", method="ties", workers=1)
            ftt_hub.combine([root / "a1", root / "a2"], root / "m", target=root / "s", workers=1)
            peaks.append(tracemalloc.get_traced_memory()[1])
        finally:
            tracemalloc.stop()
    assert peaks[1] < 1.15 * peaks[0] + 200_000, peaks  # 8 MB more of weights an input


def test_ranks_are_those_of_a_sort() -> None:
    generator = np.random.default_rng(0)
    values = np.concatenate([generator.standard_normal(5000) * 1e-3, np.zeros(2000)])
    values = values.astype(np.float32).astype(np.float64)
    chunks = np.array_split(values, 7)
    ranks = [0, 1500, 1999, 2000, 4321, 6999, 7999]
    everything = np.sort(np.abs(np.concatenate([values, np.zeros(1000)])))
    assert magnitudes_at(lambda: chunks, ranks, zeros=1000) == [everything[r] for r in ranks]
    assert [kept(0.2, 10), kept(0.2, 11), kept(0.7, 10), kept(1, 3)] == [2, 3, 7, 3]


def test_the_command_prints_parents_and_json(
    family: TinyFamily, three: list[Path], tmp_path: Path
) -> None:
    from click.testing import CliRunner
    from ftt_hub.cli.main import cli

    recipe = tmp_path / "r.yaml"
    recipe.write_text(
        f"method: ties\nparameters: {{density: 0.3}}\nadapters:\n- adapter: {three[0]}\n"
        f"- adapter: {three[1]}\n  weight: 2\n"
    )
    done = CliRunner().invoke(cli, ["combine", str(recipe), str(tmp_path / "a"), "--json"])
    assert done.exit_code == 0, done.output
    assert [p["weight"] for p in json.loads(done.stdout)["parents"]] == [1.0, 2.0]
    words = ["combine", str(recipe), str(tmp_path / "b"), "--target", str(family.target)]
    done = CliRunner().invoke(cli, words)
    assert "2 × language" in done.stdout
    assert (tmp_path / "b" / "config.json").is_file()
