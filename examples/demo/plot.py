"""The picture of a transfer: loss against the scale λ, between two reference lines."""

import re
from dataclasses import dataclass
from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")  # draws into files; a demo may run where there is no screen

from matplotlib import pyplot as plt
from matplotlib.axes import Axes

# Okabe and Ito's palette, told apart with every kind of colour vision and in grey.
_BLUE, _ORANGE, _GREEN, _GREY = "#0072B2", "#D55E00", "#009E73", "#444444"


@dataclass(frozen=True)
class Curve:
    """Held-out losses in nats per token: of target + λΔ by λ, and of the fine-tuned target."""

    losses: dict[float, float]
    reference: float
    recovered: float
    title: str
    target: str
    tuned: str


def draw(curve: Curve, file: Path) -> Path:
    """Write the picture as a PNG of 1600 × 1000 pixels."""
    figure, axes = plt.subplots(figsize=(8, 5), dpi=200, layout="constrained")
    _reference(axes, curve.losses[0.0], f"{curve.target} as it is", _GREY, "--")
    _reference(axes, curve.reference, f"{curve.tuned}, fine-tuned", _ORANGE, "-.")
    scales = sorted(curve.losses)
    losses = [curve.losses[scale] for scale in scales]
    axes.plot(
        scales,
        losses,
        color=_BLUE,
        marker="o",
        linewidth=2.2,
        markersize=6,
        label=_typeset(f"{curve.target} + λΔ, no training"),
    )
    _mark(axes, curve)
    _dress(axes, curve)
    figure.savefig(file)
    plt.close(figure)
    return file


def _reference(axes: Axes, loss: float, label: str, color: str, style: str) -> None:
    label = _typeset(f"{label}: {loss:.3f}")
    axes.axhline(loss, color=color, linestyle=style, linewidth=1.6, label=label)


def _mark(axes: Axes, curve: Curve) -> None:
    """Point out λ = 1, the transfer as it is published."""
    loss = curve.losses[1.0]
    axes.plot([1.0], [loss], marker="o", markersize=11, color=_GREEN, linestyle="none")
    axes.annotate(
        f"λ = 1: {loss:.3f}\n{curve.recovered:.1%} of the gain recovered",
        xy=(1.0, loss),
        xytext=(0, 46),
        textcoords="offset points",
        ha="center",
        fontsize=10,
        color=_GREEN,
        arrowprops={"arrowstyle": "->", "color": _GREEN, "shrinkB": 7},
    )


def _dress(axes: Axes, curve: Curve) -> None:
    axes.set_title(_typeset(curve.title), loc="left", fontsize=13, pad=12)
    axes.set_xlabel("scale λ (1 = the diff vector Δ as published)")
    axes.set_ylabel("held-out Turkish loss (nats per token)")
    axes.set_xticks(sorted(curve.losses))
    axes.grid(color="#DDDDDD", linewidth=0.8)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(loc="upper right", bbox_to_anchor=(1.0, 0.9), frameon=False, fontsize=10)


def _typeset(text: str) -> str:
    """Set the names of models, such as m'_s, as formulas."""
    return re.sub(r"m'?_[st]", r"$\g<0>$", text)
