"""Where Δ is: norms by layer and kind of module."""

from __future__ import annotations

import pytest

from ftt_hub.artifact.index import DELTA, UNCHANGED, TensorEntry
from ftt_hub.artifact.norms import layer_norms, norm_grid
from ftt_hub.tensors.dtypes import DTYPES
from ftt_hub.web.heat import heat_map, percent


def entry(name: str, norm: tuple[float, float] | None, role: str = DELTA) -> TensorEntry:
    return TensorEntry(name, role, DTYPES["F32"], (2, 2), norm=norm)


def test_kinds_stand_in_the_order_of_the_data_and_experts_together() -> None:
    grid = norm_grid([
        entry("model.layers.1.mlp.experts.0.up_proj.weight", (3.0, 10.0)),
        entry("model.layers.1.mlp.experts.1.up_proj.weight", (4.0, 0.0)),
        entry("model.layers.1.input_layernorm.weight", None, UNCHANGED),
        entry("model.layers.1.self_attn.k_proj.weight", (1.0, 4.0)),
        entry("model.layers.0.self_attn.q_proj.weight", (1.0, 2.0)),
        entry("model.embed_tokens.weight", (1.0, 8.0)),
    ])  # fmt: skip
    assert grid.layers == (0, 1)
    assert grid.kinds == (
        "self_attn.q_proj", "self_attn.k_proj", "mlp.experts.up_proj", "input_layernorm",
    )  # fmt: skip
    assert grid.cells[1, "mlp.experts.up_proj"] == pytest.approx(0.5)
    assert grid.cells[1, "input_layernorm"] == 0
    assert grid.outside == {"model.embed_tokens.weight": 0.125}


def test_a_second_stack_keeps_its_name() -> None:
    grid = norm_grid([
        entry("model.layers.0.mlp.up_proj.weight", (1.0, 2.0)),
        entry("model.layers.0.mlp.down_proj.weight", (1.0, 2.0)),
        entry("vision.encoder.layers.0.mlp.up_proj.weight", (1.0, 4.0)),
    ])  # fmt: skip
    assert grid.cells[0, "mlp.up_proj"] == 0.5
    assert grid.cells[0, "vision.encoder.mlp.up_proj"] == 0.25


def test_layers_are_summed_and_norms_of_zero_are_no_ratio() -> None:
    found = layer_norms([
        entry("model.layers.3.a.weight", (3.0, 6.0)),
        entry("model.layers.3.b.weight", (4.0, 8.0)),
        entry("added.weight", (2.0, 0.0)),
    ])  # fmt: skip
    assert found == {"layer   3": 0.5}


def test_a_hostile_index_draws_no_endless_map() -> None:
    grid = norm_grid(entry(f"m.layers.{n}.k{n}.weight", (1e30, 1e-30)) for n in range(400))
    drawn = heat_map(grid)
    assert drawn is not None
    assert (len(drawn.rows), len(drawn.kinds), drawn.hidden) == (200, 24, 576)
    assert heat_map(norm_grid([])) is None


@pytest.mark.parametrize(
    ("ratio", "text"),
    [(0, "0"), (1e-7, "<0.001"), (5e-5, "0.005"), (0.0091, "0.91"), (0.0123, "1.23"), (1.5, "150")],
)
def test_ratios_are_read_in_percent(ratio: float, text: str) -> None:
    assert percent(ratio) == text
