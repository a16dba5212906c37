"""The search for scales: it finds the valley, says how sure it is, and gives the model back."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from click.testing import CliRunner
from ftt_hub.cli.main import cli
from models import TinyFamily, drifted, load_state, random_state, same_bits, save_model
from transformers import AutoModelForCausalLM

import ftt_hub
from ftt_hub.artifact.card_scales import recommendations
from ftt_hub.errors import FttError, MissingExtraError
from ftt_hub.loss import Loss
from ftt_hub.transfer.live.arrangement import Arrangement
from ftt_hub.tuning import tune as tune_module
from ftt_hub.tuning.search import Range, rounded, search_one, search_several

TEXT = " ".join(f"w{n * n % 89}" for n in range(200))


@pytest.fixture(scope="module")
def pair(family: TinyFamily, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    root = tmp_path_factory.mktemp("pair")
    other = save_model(root / "f", drifted(random_state(0), 5, 0.05))
    ftt_hub.extract(family.source, family.tuned, root / "one")
    ftt_hub.extract(family.source, other, root / "two")
    return root / "one", root / "two"


@pytest.fixture
def text(tmp_path: Path) -> Path:
    path = tmp_path / "held_out.txt"
    path.write_text(TEXT)
    return path


def valley(monkeypatch: pytest.MonkeyPatch, best: tuple[float, ...]) -> list[tuple[float, ...]]:
    """Replace the measured loss by a bowl around known scales; returns what was tried."""
    tried: list[tuple[float, ...]] = []
    change = Arrangement.set

    def set_scales(self: Arrangement, scales: list[float | None]) -> None:
        change(self, scales)
        tried.append(tuple(scale or 0.0 for scale in self.scales))

    def measured(model: object, text: object, **_: object) -> Loss:
        distance = sum((x - b) ** 2 for x, b in zip(tried[-1], best, strict=True))
        noise = np.random.default_rng(0).normal(2.0, 0.1, 40)
        return Loss((noise + distance) * 10, np.full(40, 10.0))

    monkeypatch.setattr(Arrangement, "set", set_scales)
    monkeypatch.setattr(tune_module, "measure", measured)
    return tried


def test_golden_section_finds_the_scale_of_one_adapter(
    family: TinyFamily, pair: tuple[Path, Path], text: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried = valley(monkeypatch, (1.37,))
    found = ftt_hub.tune(pair[0], family.target, text)
    assert found.scales[0] == pytest.approx(1.37, abs=0.02)
    assert len(tried) == len(set(tried)) <= 14
    assert found.against_one.value == pytest.approx(-(0.37**2), abs=1e-3)
    assert found.against_zero.high < 0
    assert found.against_one.high - found.against_one.low < 1e-9  # paired by window
    assert "chosen on held_out.txt" in found.notes[0]


def test_nelder_mead_finds_the_scales_of_several(
    family: TinyFamily, pair: tuple[Path, Path], text: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    valley(monkeypatch, (0.4, 1.3))
    found = ftt_hub.tune(pair, family.target, text)
    assert found.scales == pytest.approx((0.4, 1.3), abs=0.04)
    assert len(found.curve) <= 60


def test_a_best_scale_at_the_edge_is_pointed_out(
    family: TinyFamily, pair: tuple[Path, Path], text: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    valley(monkeypatch, (5.0,))
    found = ftt_hub.tune(pair[0], family.target, text)
    assert any("lies at the edge of 0 to 2" in note for note in found.notes)


def test_the_losses_are_those_of_merged_models_and_the_model_is_given_back(
    family: TinyFamily, pair: tuple[Path, Path], text: Path, tmp_path: Path
) -> None:
    from transformers import AutoTokenizer

    from ftt_hub.loss import measure, read_text

    model = AutoModelForCausalLM.from_pretrained(family.target, dtype="auto")
    found = ftt_hub.tune(pair[0], model, text, limits=Range(0, 2, 0.3))
    for name, tensor in model.state_dict().items():
        if name != "lm_head.weight":
            assert same_bits(tensor, load_state(family.target)[name]), name
    held_out = read_text(text, AutoTokenizer.from_pretrained(family.target))
    for number, ((scale,), loss) in enumerate(found.curve[:4]):
        merged = tmp_path / str(number)
        ftt_hub.apply(pair[0], family.target, merged, scale=scale)
        again = AutoModelForCausalLM.from_pretrained(merged, dtype="auto")
        assert measure(again, held_out).mean == pytest.approx(loss, abs=1e-6)
    assert found.loss.value == min(loss for _, loss in found.curve)


def test_an_error_in_the_middle_gives_the_model_back(
    family: TinyFamily, pair: tuple[Path, Path], text: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = AutoModelForCausalLM.from_pretrained(family.target, dtype="auto")
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}

    def interrupted(*_: object, **__: object) -> Loss:
        raise KeyboardInterrupt

    tried: list[int] = []
    real = tune_module.measure

    def some(*args: object, **kwargs: object) -> Loss:
        tried.append(1)
        return interrupted() if len(tried) == 4 else real(*args, **kwargs)

    monkeypatch.setattr(tune_module, "measure", some)
    with pytest.raises(KeyboardInterrupt):
        ftt_hub.tune(list(pair), model, text)
    for name, tensor in model.state_dict().items():
        assert same_bits(tensor, before[name]), name


def test_the_command_prints_a_curve_saves_a_plot_and_writes_the_card(
    family: TinyFamily, pair: tuple[Path, Path], text: Path, tmp_path: Path
) -> None:
    ftt_hub.extract(family.source, family.tuned, tmp_path / "mine")
    words = [
        "tune",
        str(tmp_path / "mine"),
        "--target",
        str(family.target),
        "--text",
        str(text),
        "--tolerance",
        "0.2",
        "--plot",
        str(tmp_path / "p.png"),
        "--write",
    ]
    done = CliRunner().invoke(cli, words)
    assert done.exit_code == 0, done.output
    assert "best scale: " in done.stdout
    assert "note: the scale was chosen on held_out.txt" in done.stderr
    assert (tmp_path / "p.png").read_bytes()[:4] == b"\x89PNG"
    ftt_hub.verify(tmp_path / "mine")  # the card is not part of the content
    (found,) = recommendations(tmp_path / "mine")
    assert (found.target, found.text) == ("target", "held_out.txt")
    front = yaml.safe_load((tmp_path / "mine" / "README.md").read_text().split("---")[1])
    assert front["library_name"] == "ftt-hub"
    done = CliRunner().invoke(cli, [*words[:-3], "--json"])
    assert json.loads(done.stdout)["scales"] == [found.scale]
    two = [words[0], str(pair[0]), str(pair[1]), *words[2:-3], "--plot", str(tmp_path / "two.svg")]
    assert CliRunner().invoke(cli, two).exit_code == 0
    assert (tmp_path / "two.svg").is_file()


def test_a_recommended_scale_survives_publication_and_is_mentioned_not_applied(
    family: TinyFamily, tmp_path: Path
) -> None:
    from ftt_hub.artifact.card_scales import Recommendation, recommend

    ftt_hub.extract(family.source, family.tuned, tmp_path / "mine")
    recommend(tmp_path / "mine", Recommendation("org/base-v2", 0.5, "t.txt", 0.1))
    recommend(tmp_path / "mine", Recommendation("org/base-v2", 1.5, "t.txt", 0.2))
    registry = tmp_path / "registry"
    ftt_hub.publish(tmp_path / "mine", "me/a", version="1.0.0", registry=registry)
    with pytest.warns(UserWarning, match=r"recommends scale 1\.5 on org/base-v2"):
        ftt_hub.apply("me/a@v1.0.0", family.source, tmp_path / "out", registry=registry)
    assert same_bits(
        load_state(tmp_path / "out")["model.norm.weight"],
        load_state(family.tuned)["model.norm.weight"],
    )
    ftt_hub.apply("me/a@v1.0.0", family.source, tmp_path / "half", scale=0.5, registry=registry)


@pytest.mark.parametrize(
    "said",
    ["[]", "{scale: 1}", "[{scale: .nan}]", "[{scale: high}]", "[1, null]", "[{scale: true}]"],
)
def test_a_card_that_says_nonsense_recommends_nothing(tmp_path: Path, said: str) -> None:
    (tmp_path / "README.md").write_text(f"---\nftt_hub: {{recommended_scales: {said}}}\n---\n")
    assert recommendations(tmp_path) == ()


def test_a_published_adapter_is_not_written_to(
    family: TinyFamily, pair: tuple[Path, Path], text: Path
) -> None:
    found = ftt_hub.tune(pair[0], family.target, text, limits=Range(0, 2, 1.0))
    with pytest.raises(FttError, match="into the card of a local folder"):
        tune_module.write_recommendations(found, ["me/published@v1.0.0"])
    with pytest.raises(FttError, match="into the card of a local folder"):
        tune_module.write_recommendations(found, [pair[1]])


@pytest.mark.parametrize(("module", "extra"), [("scipy", "tune"), ("matplotlib", "plot")])
def test_a_missing_extra_is_named_with_the_command(
    family: TinyFamily,
    pair: tuple[Path, Path],
    text: Path,
    monkeypatch: pytest.MonkeyPatch,
    module: str,
    extra: str,
) -> None:
    from ftt_hub.tuning.plot import check_plot

    monkeypatch.setitem(sys.modules, module, None)
    run: dict[str, Callable[[], object]] = {
        "tune": lambda: ftt_hub.tune(pair[0], family.target, text),
        "plot": lambda: check_plot("p.png"),
    }
    with pytest.raises(MissingExtraError, match=rf"pip install 'ftt-hub\[{extra}\]'"):
        run[extra]()


def test_ranges_that_are_none_are_refused() -> None:
    for low, high, tolerance in ((1, 1, 0.1), (0, 2, 0), (0, float("inf"), 0.1), (0, 1, 2)):
        with pytest.raises(FttError, match="not a range of scales"):
            Range(low, high, tolerance)


def test_two_valleys_do_not_mislead() -> None:
    seen: dict[float, float] = {}

    def loss(scales: tuple[float, ...]) -> float:
        (x,) = scales
        seen[x] = min((x - 0.1) ** 2 + 0.5, 4 * (x - 1.6) ** 2)
        return seen[x]

    search_one(loss, Range(0, 2, 0.01))
    assert min(seen, key=lambda x: seen[x]) == pytest.approx(1.6, abs=0.01)


def test_scales_stay_in_their_range() -> None:
    seen = []

    def loss(scales: tuple[float, ...]) -> float:
        seen.append(scales)
        return sum((s - 9) ** 2 for s in scales)

    search_several(loss, 3, Range(0.5, 1.5, 0.05))
    assert all(0.5 <= s <= 1.5 for scales in seen for s in scales)
    assert rounded((0.123456, -1e-9), Range(0, 2, 0.02)) == (0.123, 0.0)


def test_an_arrangement_is_what_a_fresh_model_would_have(
    family: TinyFamily, pair: tuple[Path, Path]
) -> None:
    model = AutoModelForCausalLM.from_pretrained(family.target, dtype="auto")
    base = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    adapters = [ftt_hub.TransferAdapter.from_pretrained(folder) for folder in pair]
    generator = np.random.default_rng(0)
    with Arrangement(model, [adapter.opened for adapter in adapters]) as arrangement:
        for _ in range(8):
            scales = [
                None if draw < 0.3 else round(float(draw), 2) for draw in generator.uniform(0, 2, 2)
            ]
            arrangement.set(scales)
            assert arrangement.scales == tuple(scales)
            fresh = AutoModelForCausalLM.from_pretrained(family.target, dtype="auto")
            for adapter, scale in zip(adapters, scales, strict=True):
                if scale is not None:
                    adapter.apply_to(fresh, scale=scale)
            for name, tensor in fresh.state_dict().items():
                assert same_bits(tensor, model.state_dict()[name]), (scales, name)
    for name, tensor in model.state_dict().items():
        assert same_bits(tensor, base[name]), name
    with pytest.raises(FttError, match="there twice"), torch.no_grad():
        Arrangement(model, [adapters[0].opened, adapters[0].opened])
