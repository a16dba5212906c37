"""The verdict at its deeper depths: exact where it says so, honest about what it cannot tell."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from architectures import ARCHITECTURES, build
from click.testing import CliRunner
from ftt_hub.cli.main import cli
from models import (
    WORDS,
    TinyFamily,
    config,
    drifted,
    load_state,
    random_state,
    save_model,
)
from torch.nn.functional import cross_entropy
from transformers import AutoModelForCausalLM

import ftt_hub
from ftt_hub.checkpoint.resolve import open_model
from ftt_hub.errors import FttError, IncompatibleError
from ftt_hub.loss import HeldOutText, Loss, Window
from ftt_hub.loss.measurement import LossError
from ftt_hub.registry.open import open_adapter
from ftt_hub.support.json_schema import validate
from ftt_hub.verdict.evidence import Curve
from ftt_hub.verdict.judging import judge_weights
from ftt_hub.verdict.languages import check_language, language_of
from ftt_hub.verdict.losses import mixture
from ftt_hub.verdict.options import TextOptions
from ftt_hub.verdict.report import Verdict
from ftt_hub.verdict.weights import Sums, WeightsEvidence, spectrum_of

TEXT = " ".join(f"w{n % 7} w{n % 7 + 10}" for n in range(600))
FAST = (0.5, 1.0)


@dataclass(frozen=True)
class Lesson:
    """m_s, a Δ that teaches it something, and a near m_t."""

    source: Path
    target: Path
    text: Path
    adapter: ftt_hub.TransferAdapter

    def verify(self, target: Path | None = None, **options: object) -> Verdict:
        given = {"depth": "loss", "text": TextOptions(self.text, 800, 64, FAST)} | options
        return self.adapter.verify(target or self.target, source_base=self.source, **given)


def teach(folder: Path, out: Path, steps: int = 25) -> Path:
    """The model fine-tuned on TEXT for some steps."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    words = {word: number for number, word in enumerate(WORDS)}
    ids = torch.tensor([words[w] for w in TEXT.split()][:640]).view(10, 64)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=0.0)
    for _ in range(steps):
        logits = model(input_ids=ids).logits
        cross_entropy(logits[:, :-1].flatten(0, 1), ids[:, 1:].flatten()).backward()
        optimizer.step()
        optimizer.zero_grad()
    return save_model(out, {k: t.detach() for k, t in model.named_parameters()})


@pytest.fixture(scope="module")
def lesson(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lesson]:
    root = tmp_path_factory.mktemp("lesson")
    source = save_model(root / "source", random_state(0))
    tuned = teach(source, root / "tuned")
    target = save_model(root / "target", drifted(random_state(0), 2, 0.02))
    (root / "text.txt").write_text(TEXT, encoding="utf-8")
    with ftt_hub.extract(source, tuned, root / "adapter").opened:
        yield Lesson(
            source, target, root / "text.txt",
            ftt_hub.TransferAdapter.from_pretrained(root / "adapter"),
        )  # fmt: skip


@pytest.fixture(scope="module")
def accepted(lesson: Lesson) -> Verdict:
    return lesson.verify()


def reasons(verdict: Verdict) -> dict[str, str]:
    return {finding.check: f"{finding.status}: {finding.reason}" for finding in verdict.findings}


def test_exact_distances_are_those_of_torch(lesson: Lesson, family: TinyFamily) -> None:
    found = lesson.verify(depth="weights", text=None).weights
    assert found is not None
    source, target = load_state(lesson.source), load_state(lesson.target)
    tuned = load_state(lesson.source.parent / "tuned")
    for name, sums in found.tensors.items():
        s, t, d = (x.double() for x in (source[name], target[name], tuned[name]))
        figures = sums.figures(based=True, compared=False)
        assert figures["distance"] == pytest.approx(float((t - s).norm() / s.norm()), rel=1e-6)
        assert figures["delta_to_target"] == pytest.approx(float((d - s).norm() / t.norm()), 1e-6)
        overlap = torch.nn.functional.cosine_similarity(
            (d - s).ravel(), (t - s).ravel(), dim=0
        ).item()
        assert figures["overlap"] == pytest.approx(overlap, abs=1e-6)
    assert set(found.layers) == {"0", "1", "other"}


def test_a_delta_that_the_target_has_already_is_told(lesson: Lesson) -> None:
    verdict = lesson.verify(lesson.source.parent / "tuned", depth="weights", text=None)
    assert "much of Δ is in the target already" in reasons(verdict)["overlap"]
    assert verdict.weights is not None
    assert verdict.weights.figures["overlap"] == pytest.approx(1.0)


def test_interference_with_another_adapter_is_measured(lesson: Lesson, tmp_path: Path) -> None:
    source, tuned = load_state(lesson.source), load_state(lesson.source.parent / "tuned")
    against = {n: (2 * source[n].float() - tuned[n].float()) for n in source}
    other = ftt_hub.extract(lesson.source, save_model(tmp_path / "m", against), tmp_path / "a")
    found = lesson.verify(depth="weights", text=None, other=other.folder).weights
    assert found is not None
    assert found.figures["other_cosine"] == pytest.approx(-1.0, abs=0.01)
    assert found.figures["sign_conflicts"] == pytest.approx(1.0, abs=0.01)
    same = lesson.verify(depth="weights", text=None, other=lesson.adapter.folder).weights
    assert same is not None
    assert same.figures["sign_conflicts"] == 0


def test_memory_of_exact_distances_does_not_grow_with_the_tensor(tmp_path: Path) -> None:
    def peak(rows: int) -> int:
        root = tmp_path / str(rows)
        weight = torch.randn(rows, 512, generator=torch.Generator().manual_seed(0))
        base = {"model.embed_tokens.weight": weight}
        source = save_model(root / "s", base, words=None)
        tuned = save_model(root / "t", {k: t * 1.01 for k, t in base.items()}, words=None)
        with ftt_hub.extract(source, tuned, root / "a").opened as opened:
            from ftt_hub.verdict.survey import survey_weights

            tracemalloc.start()
            survey_weights(opened, source, source=source, workers=1)
            _, found = tracemalloc.get_traced_memory()
            tracemalloc.stop()
        return found

    small, large = peak(8192), peak(32768)  # 4 and 16 Mi elements; a block is 4 Mi
    assert large < 1.3 * small


@pytest.mark.parametrize(("rank", "rank_90"), [(1, 1), (4, 4)])
def test_effective_rank_counts_equal_directions(rank: int, rank_90: int) -> None:
    dice = np.random.default_rng(0)
    q, _ = np.linalg.qr(dice.normal(size=(40, 40)))
    p, _ = np.linalg.qr(dice.normal(size=(60, 60)))
    found = spectrum_of(dice.normal(size=(40, 60)), q[:, :rank] @ p[:rank])
    assert found.effective_rank == pytest.approx(rank)
    assert found.rank_90 == rank_90


def test_a_strong_foreign_direction_is_an_intruder_and_small_noise_is_none() -> None:
    dice = np.random.default_rng(1)
    q, _ = np.linalg.qr(dice.normal(size=(200, 200)))
    p, _ = np.linalg.qr(dice.normal(size=(300, 300)))
    weights = q @ np.diag(np.linspace(10, 1, 200)) @ p[:200]
    foreign = np.outer(q.sum(axis=1), p[0]) / np.sqrt(200)
    assert spectrum_of(weights, 40 * foreign).intruders == 1
    assert spectrum_of(weights, 1e-3 * dice.normal(size=(200, 300))).intruders == 0
    assert spectrum_of(weights, np.zeros((200, 300))).effective_rank == 0


def losses(*means: float) -> Curve:
    """Losses of 40 windows at 0, 0.5, 1, …, with the same spread at each place."""
    noise = np.random.default_rng(0).normal(size=40)
    tokens = np.full(40, 10.0)
    return Curve({n / 2: Loss((mean + noise) * 10, tokens) for n, mean in enumerate(means)})


def test_the_best_scale_is_the_vertex_of_a_parabola() -> None:
    best = losses(*((x / 2 - 0.8) ** 2 for x in range(4))).best()
    assert best.value == pytest.approx(0.8)
    assert best.low <= 0.8 <= best.high


def test_a_straight_line_has_no_barrier_and_a_hump_has_its_height() -> None:
    assert losses(3.0, 2.5, 2.0).barrier().value == pytest.approx(0.0, abs=1e-9)
    assert losses(3.0, 3.5, 2.0).barrier().value == pytest.approx(1.0)


def test_paired_intervals_leave_out_the_spread_of_the_text() -> None:
    gain = losses(3.0, 2.9, 2.8).gain(1.0)
    assert gain.low == pytest.approx(gain.high) == pytest.approx(0.2)


def test_a_transfer_that_helps_is_accepted_with_its_figures(accepted: Verdict) -> None:
    assert accepted.loss is not None
    assert accepted.status != "rejected"
    assert reasons(accepted)["loss"].startswith("accepted: Δ lowers the loss")
    gain, kept = accepted.loss.gain, accepted.loss.kept
    assert gain is not None
    assert gain.low > 0.05
    assert kept is not None
    assert 0.8 < kept.value < 1.2
    assert accepted.prediction is not None
    assert accepted.prediction.basis == "loss"
    assert accepted.loss.version_barrier is not None
    assert accepted.loss.version_barrier.value < 0.1 * gain.value
    assert "expected to recover" in accepted.verdict


def test_the_loss_at_scale_1_is_that_of_the_merged_model(
    lesson: Lesson, accepted: Verdict, tmp_path: Path
) -> None:
    ftt_hub.apply(lesson.adapter, lesson.target, tmp_path / "merged")
    merged = lesson.verify(tmp_path / "merged", force=True)
    assert accepted.loss is not None
    assert merged.loss is not None
    mine, theirs = accepted.loss.curve.losses[1.0], merged.loss.curve.losses[0.0]
    assert mine.mean == pytest.approx(theirs.mean, abs=1e-6)


def test_a_mixture_ends_at_the_two_models(lesson: Lesson) -> None:
    (first, _), (second, _) = open_model(lesson.source), open_model(lesson.target)
    name = "model.embed_tokens.weight"
    with first, second:
        for place, end in ((0.0, first), (1.0, second)):
            read = mixture(first, second, place)
            assert np.array_equal(read(name, 3, 50), end.read_bits(name, 3, 50))


@pytest.mark.parametrize("depth", ["headers", "sketch", "weights", "loss"])
def test_every_verdict_satisfies_the_schema(lesson: Lesson, accepted: Verdict, depth: str) -> None:
    verdict = accepted if depth == "loss" else lesson.verify(depth=depth, text=None)
    value = json.loads(json.dumps(verdict.to_json(), allow_nan=False))
    assert validate(value, "verdict", "test")["depth"] == depth


def test_a_stranger_is_refused_before_any_model_runs(
    lesson: Lesson, family: TinyFamily, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a model was loaded")

    monkeypatch.setattr(AutoModelForCausalLM, "from_pretrained", refuse)
    verdict = lesson.verify(family.stranger)
    assert (verdict.status, verdict.depth, verdict.loss) == ("rejected", "sketch", None)


def test_harm_is_rejected(lesson: Lesson, tmp_path: Path) -> None:
    """A Δ that unlearns: the lesson's, backwards, onto the model that has learnt it."""
    tuned = lesson.source.parent / "tuned"
    back = ftt_hub.extract(tuned, lesson.source, tmp_path / "back")
    verdict = back.verify(tuned, depth="loss", text=TextOptions(lesson.text, 800, 64, FAST))
    assert verdict.status == "rejected"
    assert "Δ raises the loss at every scale" in verdict.verdict


def test_a_delta_larger_than_the_base_is_named(lesson: Lesson, tmp_path: Path) -> None:
    state = {n: -4 * t.float() for n, t in load_state(lesson.source).items()}
    huge = ftt_hub.extract(lesson.source, save_model(tmp_path / "m", state), tmp_path / "a")
    verdict = huge.verify(lesson.target, depth="weights", source_base=lesson.source)
    assert "Δ is larger than the target itself" in reasons(verdict)["delta"]


def test_a_zero_delta_is_named() -> None:
    found = judge_weights(WeightsEvidence(Sums(10, target=1.0), {}))
    assert [f.reason for f in found] == ["Δ is zero: adding it changes nothing"]


def test_a_sum_without_a_loss_is_rejected(lesson: Lesson, tmp_path: Path) -> None:
    state = {n: t.float() * (1e24 if "proj" in n else 1.0) for n, t in random_state(0).items()}
    broken = ftt_hub.extract(lesson.source, save_model(tmp_path / "m", state), tmp_path / "a")
    verdict = broken.verify(lesson.target, depth="loss", text=TextOptions(lesson.text, 300, 64))
    assert verdict.status == "rejected"
    assert "m_t + Δ does not compute" in verdict.verdict
    assert validate(verdict.to_json(), "verdict", "test")


def test_a_target_whose_own_loss_is_nan_is_an_error(lesson: Lesson, tmp_path: Path) -> None:
    state = {n: t * (1e30 if "layers.1" in n and "proj" in n else 1.0)
             for n, t in random_state(0).items()}  # fmt: skip
    with pytest.raises(LossError, match="the loss is not a number"):
        lesson.verify(save_model(tmp_path / "t", state), force=True)


def test_running_out_of_memory_says_what_to_do(
    lesson: Lesson, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise torch.OutOfMemoryError

    monkeypatch.setattr(AutoModelForCausalLM, "from_pretrained", full)
    with pytest.raises(LossError, match=r"out of memory.*Use --depth sketch or weights"):
        lesson.verify()


@pytest.mark.parametrize("content", ["", "w1 w2 w3"])
def test_an_empty_or_tiny_text_is_an_error(lesson: Lesson, tmp_path: Path, content: str) -> None:
    (tmp_path / "tiny.txt").write_text(content)
    with pytest.raises(FttError, match="too little text"):
        lesson.verify(text=tmp_path / "tiny.txt")


def test_a_short_text_is_cut_into_windows_enough(lesson: Lesson, tmp_path: Path) -> None:
    (tmp_path / "short.txt").write_text(TEXT[:1500])
    found = lesson.verify(text=TextOptions(tmp_path / "short.txt", scales=FAST)).loss
    assert found is not None
    assert len(found.text.windows) >= 8


def test_a_target_with_other_tokens_runs_no_model(lesson: Lesson, tmp_path: Path) -> None:
    words = [*WORDS[:3], *reversed(WORDS[3:]), "more"]
    state = random_state(0, rows=len(words))
    target = save_model(tmp_path / "t", state, config(vocab_size=len(words)), words=words)
    order = [words.index(word) for word in WORDS]
    state["model.embed_tokens.weight"][order] = random_state(0)["model.embed_tokens.weight"]
    save_model(target, state, config(vocab_size=len(words)), words=words)
    verdict = lesson.verify(target, force=True)
    assert verdict.loss is None
    assert "losses cannot be compared" in reasons(verdict)["tokenizer"]


def test_another_model_is_no_source_base(lesson: Lesson, family: TinyFamily) -> None:
    with pytest.raises(IncompatibleError, match="is not the source base"):
        lesson.adapter.verify(lesson.target, depth="weights", source_base=family.stranger)


def test_without_the_source_base_the_rest_is_still_told(lesson: Lesson) -> None:
    verdict = lesson.adapter.verify(lesson.target, depth="weights")
    assert verdict.weights is not None
    assert verdict.weights.figures["distance"] is None
    assert verdict.weights.figures["delta_to_target"] is not None
    assert "name it with --source-base" in reasons(verdict)["source base"]


def test_an_adapter_without_a_sketch_is_warned_about_and_measured_all_the_same(
    lesson: Lesson, tmp_path: Path
) -> None:
    bare = ftt_hub.extract(
        lesson.source, lesson.source.parent / "tuned", tmp_path / "a", sketch=False
    )
    verdict = bare.verify(lesson.target, depth="weights", source_base=lesson.source)
    assert "no sketch" in reasons(verdict)["sketch"]
    assert verdict.prediction is not None
    assert verdict.prediction.basis == "weights"


def test_a_model_that_is_no_language_model_has_no_loss(tmp_path: Path, lesson: Lesson) -> None:
    source, tuned, target = build(tmp_path, "bert")
    adapter = ftt_hub.extract(source, tuned, tmp_path / "a")
    with pytest.raises(FttError, match=r"tokenizer|causal language models"):
        adapter.verify(target, depth="loss", text=lesson.text)
    assert adapter.verify(target, depth="weights", source_base=source).status != "rejected"


@pytest.mark.parametrize("name", sorted(ARCHITECTURES))
def test_every_family_the_loaders_support_is_verified(tmp_path: Path, name: str) -> None:
    source, tuned, target = build(tmp_path, name)
    adapter = ftt_hub.extract(source, tuned, tmp_path / "a")
    assert adapter.verify(target).status != "rejected"
    verdict = adapter.verify(target, depth="weights", source_base=source)
    assert verdict.weights is not None
    assert verdict.lineage is not None
    exact = verdict.weights.figures["distance"]
    assert verdict.lineage.overall.distance.value == pytest.approx(exact, rel=0.06)


ENGLISH = "The house is on the hill and it was built by a man who had been in the army for years. "
TURKISH = "Bu ev tepenin üzerinde ve çok eski bir ev olarak biliniyor, ama içinde daha kimse yok. "


@pytest.mark.parametrize(
    ("text", "tag"),
    [
        (ENGLISH * 3, "en"),
        (TURKISH * 3, "tr"),
        ("Der Hund und die Katze sind auf dem Dach, aber es ist nicht kalt. " * 4, "de"),
        ("Она и он не были на улице, но это как раз то что из дома видно. " * 4, "ru"),
        ("Το σπίτι είναι στον λόφο. ", "el"),
        ("これは日本語の文章です。", "ja"),
        ("x = 1", None),
        ("", None),
    ],
)
def test_languages_are_told_apart_or_not_named(text: str, tag: str | None) -> None:
    assert language_of(text) == tag


def test_a_text_in_another_language_than_deltas_is_warned_about() -> None:
    found = check_language(ENGLISH * 3, ["tr-TR"])
    assert found.status == "warned"
    assert "seems to be in en, Δ is for tr" in found.reason
    assert check_language(TURKISH * 3, ["tr-TR"]).status == "accepted"
    assert check_language("w1 w2 " * 50, ["tr"]).status == "accepted"
    assert check_language(ENGLISH * 3, []).status == "accepted"


def test_few_windows_are_not_trusted() -> None:
    text = HeldOutText((Window((1, 2), (False, True)),), "t", "")
    assert text.tokens == 1


def run(*words: object) -> tuple[int, str]:
    done = CliRunner().invoke(cli, [str(word) for word in words])
    return done.exit_code, done.output


def test_the_command_prints_json_of_the_schema_and_draws(lesson: Lesson, tmp_path: Path) -> None:
    code, output = run(
        "verify", lesson.adapter.folder, "--target", lesson.target, "--text", lesson.text,
        "--tokens", 400, "--scales", "0.5", "--source-base", lesson.source,
        "--plot", tmp_path / "out.png", "--json",
    )  # fmt: skip
    assert code == 0, output
    assert validate(json.loads(output[output.index("{") :]), "verdict", "stdout")
    assert (tmp_path / "out.png").read_bytes().startswith(b"\x89PNG")


def test_the_command_prints_tables_and_exits_3_when_rejected(
    lesson: Lesson, family: TinyFamily
) -> None:
    code, output = run(
        "verify", lesson.adapter.folder, "--target", lesson.target, "--depth", "weights",
        "--source-base", lesson.source,
    )  # fmt: skip
    assert code == 0
    assert "effective rank" in output
    code, output = run(
        "verify", lesson.adapter.folder, "--target", family.stranger, "--depth", "weights"
    )
    assert code == 3
    assert "unrelated to the source base" in output.splitlines()[0]


@pytest.mark.parametrize(
    "words", [("--plot", "x.png"), ("--target", "t", "--scales", "a"), ("--record",)]
)
def test_wrong_usage_exits_2(lesson: Lesson, words: tuple[str, ...]) -> None:
    assert run("verify", lesson.adapter.folder, *words)[0] == 2


@pytest.mark.parametrize(
    "options", [{"depth": "loss"}, {"depth": "deep"}, {"depth": "sketch", "text": "t.txt"}]
)
def test_a_depth_and_a_text_belong_together(lesson: Lesson, options: dict[str, str]) -> None:
    with pytest.raises(FttError, match="depth"):
        lesson.adapter.verify(lesson.target, **options)


def test_old_calls_keep_working(lesson: Lesson) -> None:
    with open_adapter(lesson.adapter.folder) as opened:
        assert opened.config.content_digest
    assert ftt_hub.verify(lesson.adapter.folder, lesson.target).depth == "headers"
    assert ftt_hub.verify(lesson.adapter.folder).content_digest
