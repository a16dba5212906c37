"""`ftt-hub evaluate`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click
from ftt_hub.cli.options import json_option, registry_option

if TYPE_CHECKING:
    from ftt_hub.evaluation.report import Evaluation, Row


@click.command(
    "evaluate",
    epilog="Example: ftt-hub evaluate --target org/base-v2 --adapter me/base-v1-turkish "
    "--setting global_mmlu_tr --text held-out.txt --plot turkish.png",
)
@click.option("--target", required=True, metavar="MODEL", help="m_t, a folder or Hub reference.")
@click.option(
    "--adapter",
    "adapters",
    multiple=True,
    metavar="ADAPTER",
    help="Also measure m_t + Δ; repeatable, each alone.",
)
@click.option(
    "--model",
    "models",
    multiple=True,
    metavar="MODEL",
    help="Also measure another model, such as m_t fine-tuned; repeatable.",
)
@click.option("--scale", default=1.0, show_default=True, help="λ in m_t + λΔ.")
@click.option(
    "--tasks",
    "tasks",
    multiple=True,
    metavar="TASK,…",
    help="lm-evaluation-harness tasks by name, YAML files, or JSONL files of prompts "
    "with completions or choices.",
)
@click.option(
    "--setting",
    "settings",
    multiple=True,
    metavar="NAME",
    help="A setting of the paper: gsm8k, math, mmlu, ifeval …; repeatable.",
)
@click.option(
    "--text",
    type=click.Path(),
    metavar="FILE",
    help="Loss and perplexity on held-out text, plain or JSONL.",
)
@click.option(
    "--tokens", type=click.IntRange(64), metavar="N", help="--text: scored tokens to use."
)
@click.option("--limit", type=click.IntRange(1), metavar="N", help="Samples per task, for a trial.")
@click.option(
    "--num-fewshot",
    type=click.IntRange(0),
    metavar="N",
    help="Examples before the question. [default: as the task says]",
)
@click.option(
    "--chat-template/--no-chat-template",
    default=None,
    help="Ask in the chat template of models that have one. "
    "[default: as the setting says, else no]",
)
@click.option("--batch-size", default="1", show_default=True, metavar="N|auto")
@click.option("--device", metavar="DEVICE", help="Such as cpu or cuda:0. [default: CUDA if any]")
@click.option("--dtype", default="auto", show_default=True, help="auto: as stored.")
@click.option("--plot", type=click.Path(), metavar="FILE", help="Draw it: .png, .svg or .pdf.")
@click.option(
    "--record", "recorded", is_flag=True, help="Write the figures into the adapters' cards."
)
@registry_option
@json_option
def command(
    target: str,
    adapters: tuple[str, ...],
    models: tuple[str, ...],
    scale: float,
    tasks: tuple[str, ...],
    settings: tuple[str, ...],
    text: str | None,
    tokens: int | None,
    limit: int | None,
    num_fewshot: int | None,
    chat_template: bool | None,
    batch_size: str,
    device: str | None,
    dtype: str,
    plot: str | None,
    recorded: bool,
    registry: str | None,
    as_json: bool,
) -> None:
    """Compare the target, the target + Δ and other models on tasks and text.

    Every figure has a 95% interval; changes are against the target, paired by sample. One model is
    in memory at a time. Tasks need: pip install 'ftt-hub[eval]'.
    """
    from ftt_hub.cli.output import message, print_json
    from ftt_hub.cli.progress import are_bars_wanted

    from ftt_hub.evaluation.evaluate import evaluate
    from ftt_hub.evaluation.tasks import Asked

    if recorded and not adapters:
        raise click.UsageError("--record writes into the cards of adapters: give --adapter.")
    evaluation = evaluate(
        target,
        adapters=adapters,
        models=models,
        scale=scale,
        tasks=[name for part in tasks for name in part.split(",") if name],
        settings=[name for part in settings for name in part.split(",") if name],
        text=text,
        tokens=tokens,
        asked=Asked(num_fewshot, chat_template, limit),
        batch_size=_batch(batch_size),
        device=device,
        dtype=dtype,
        registry=registry,
        notify=message,
        bars=are_bars_wanted(),
    )
    if as_json:
        print_json(evaluation.to_json())
    else:
        print_evaluation(evaluation)
    if plot is not None:
        from ftt_hub.evaluation.plot import draw

        draw(evaluation, Path(plot))
        message(f"drawn: {plot}")
    if recorded:
        from ftt_hub.evaluation.record import record

        changed = record(evaluation, registry=registry)
        message(f"recorded in the card of {', '.join(changed)}" if changed else "recorded already")


def _batch(text: str) -> int | str:
    if text == "auto" or (text.isdecimal() and int(text) > 0):
        return text if text == "auto" else int(text)
    raise click.BadParameter(f"{text!r} is neither a number nor auto", param_hint="--batch-size")


def print_evaluation(evaluation: Evaluation) -> None:
    """A table: a line for each metric and model."""
    from ftt_hub.cli.output import print_table

    rows = [
        (
            row.line.task if number == 0 else "",
            row.line.title if number == 0 else "",
            str(len(row.scores[0].samples)) if number == 0 else "",
            who.label,
            _figure(row, number),
            _interval(row, number),
            _change(row, number),
        )
        for row in evaluation.rows
        for number, who in enumerate(evaluation.contestants)
    ]
    columns = ("task", "metric", "n", "model", "value", "95% interval", "change, paired")
    print_table(None, columns, rows)


def _figure(row: Row, number: int) -> str:
    score = row.scores[number]
    error = "" if score.standard_error is None else f" ± {score.standard_error:.2g}"
    return f"{score.value:.4g}{error}"


def _interval(row: Row, number: int) -> str:
    estimate = row.scores[number].estimate
    return f"{estimate.low:.4g} to {estimate.high:.4g}"


def _change(row: Row, number: int) -> str:
    if number == 0:
        return ""
    change = row.change(number)
    if change is None:
        return "not asked the same"
    return f"{change.value:+.4g} ({change.low:+.4g} to {change.high:+.4g})"
