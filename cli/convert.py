"""`ftt-hub convert`: between transfer adapters and the forms that others use."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click
from ftt_hub.cli.options import json_option, provenance_options, registry_option, workers_option

if TYPE_CHECKING:
    from ftt_hub.convert.lora_report import LoraReport

CODECS = ("factored", "exact", "anchored", "quantized", "auto")


@click.group("convert", epilog="Example: ftt-hub convert from-peft ./my-lora ./adapter")
def command() -> None:
    """Convert PEFT adapters to transfer adapters, and these to LoRA or to sparse patches."""


@command.command(
    "from-peft",
    epilog="Example: ftt-hub convert from-peft me/my-lora ./adapter --base org/base-v1",
)
@click.argument("adapter")
@click.argument("out", type=click.Path())
@click.option("--base", metavar="MODEL", help="Model it was trained on; default the one it names.")
@click.option(
    "--codec",
    type=click.Choice(CODECS),
    default="factored",
    show_default=True,
    help="How Δ is stored; factored keeps the factors of LoRA.",
)
@provenance_options
@click.option("--source-id", metavar="ID", help="Model that the folder of the base is a copy of.")
@click.option("--no-sketch", is_flag=True, help="Store no sample of the base.")
@click.option("--resume", is_flag=True, help="Continue the work of a run that was killed.")
@click.option("--force", is_flag=True, help="Continue although the adapter names another base.")
@workers_option
@json_option
def from_peft(
    adapter: str,
    out: str,
    base: str | None,
    codec: str,
    languages: tuple[str, ...],
    datasets: tuple[str, ...],
    licence: str | None,
    source_id: str | None,
    no_sketch: bool,
    resume: bool,
    force: bool,
    workers: int | None,
    as_json: bool,
) -> None:
    """Make the transfer adapter OUT of the PEFT adapter ADAPTER (folder or Hub reference).

    Every method that PEFT can merge works: LoRA and its variants, IA3, OFT, LoHa, VeRA and others.
    """
    from ftt_hub.cli.output import print_json, print_line, size
    from ftt_hub.cli.progress import progress_bar

    from ftt_hub.api.convert import convert_from_peft
    from ftt_hub.extraction.builder import Provenance

    provenance = Provenance(
        languages=languages, datasets=datasets, license=licence, source_id=source_id
    )
    with progress_bar() as bar:
        made = convert_from_peft(
            adapter,
            out,
            base=base,
            codec=codec,
            provenance=provenance,
            sketch=not no_sketch,
            workers=workers,
            resume=resume,
            force=force,
            progress=bar,
        )
    config = made.config
    if as_json:
        print_json(config.to_json())
        return
    stored = sum(facts["size"] for facts in config.files.values())
    print_line(
        f"{out}: {size(stored)}, {config.fidelity.ratio:.1%} of the model, "
        f"{config.tensors.changed} tensors changed"
    )


@command.command(
    "to-lora",
    epilog="Example: ftt-hub convert to-lora me/base-v1-turkish ./turkish-lora --energy 0.9",
)
@click.argument("adapter")
@click.argument("out", type=click.Path())
@click.option("--rank", type=int, metavar="R", help="Components of every module. [default: 64]")
@click.option(
    "--energy", type=float, metavar="E", help="Share of ‖Δ‖² every module keeps; the rank follows."
)
@click.option(
    "--max-error",
    type=float,
    metavar="X",
    help="Largest ‖Δ − BA‖/‖Δ‖ of every module; the rank follows.",
)
@click.option(
    "--target-modules",
    multiple=True,
    metavar="NAME",
    help="Layers to take, as q_proj; repeatable. Default all but the head.",
)
@click.option(
    "--modules-to-save",
    is_flag=True,
    help="Carry norms, embeddings, the head whole; reads the source base.",
)
@click.option("--base", metavar="MODEL", help="The source base, where it is not at its id.")
@click.option(
    "--dtype",
    type=click.Choice(["bfloat16", "float16", "float32"]),
    help="Dtype of the factors; default that of Δ.",
)
@click.option("--device", default="cpu", show_default=True, help="Where to compute.")
@click.option("--seed", default=0, show_default=True, help="Seed for the random test vectors.")
@click.option("--revision", help="Branch, tag or commit of the adapter.")
@registry_option
@workers_option
@json_option
def to_lora(
    adapter: str,
    out: str,
    rank: int | None,
    energy: float | None,
    max_error: float | None,
    target_modules: tuple[str, ...],
    modules_to_save: bool,
    base: str | None,
    dtype: str | None,
    device: str,
    seed: int,
    revision: str | None,
    registry: str | None,
    workers: int | None,
    as_json: bool,
) -> None:
    """Write the LoRA adapter OUT, which approximates ADAPTER and loads in plain PEFT."""
    from ftt_hub.cli.output import print_json
    from ftt_hub.cli.progress import progress_bar

    from ftt_hub.api.convert import convert_to_lora

    with progress_bar() as bar:
        report = convert_to_lora(
            adapter,
            out,
            rank=rank,
            energy=energy,
            max_error=max_error,
            target_modules=target_modules,
            modules_to_save=modules_to_save,
            base=base,
            dtype=dtype,
            device=device,
            seed=seed,
            revision=revision,
            registry=registry,
            workers=workers,
            progress=bar,
        )
    if as_json:
        print_json(report.to_json())
        return
    _print_lora(out, report)


def _print_lora(out: str, report: LoraReport) -> None:
    from ftt_hub.cli.output import message, print_line, print_table, size

    rows = [(m.module, str(m.rank), f"{m.error:.4f}") for m in report.modules]
    print_table(None, ("module", "rank", "error"), rows)
    print_line(
        f"{out}: {size(report.nbytes)}, {len(rows)} modules, relative error {report.error:.4f} "
        f"over them, {report.total_error:.4f} over all of Δ"
    )
    kept = sum(m.kept for m in report.modules)
    if kept:
        message(f"{kept} modules keep the factors that the adapter stores: no SVD")
    for item in report.left_out:
        fate = "saved whole" if item.saved else "left out"
        message(f"{fate}: {item.name} ({item.reason}; {item.share:.2%} of ‖Δ‖²)")
    if any(not item.saved for item in report.left_out):
        message("LoRA carries linear layers only; --modules-to-save carries the rest whole")


@command.command(
    "to-sparse-patch",
    epilog="Example: ftt-hub convert to-sparse-patch ./turkish p.safetensors --base org/base-v1",
)
@click.argument("adapter")
@click.argument("out", type=click.Path())
@click.option("--base", required=True, metavar="MODEL", help="Model that the server runs.")
@click.option(
    "--encoding",
    type=click.Choice(["raw", "gap_delta"]),
    default="raw",
    show_default=True,
    help="Encoding of indices: int32 for vLLM, or smaller gaps.",
)
@click.option("--scale", default=1.0, show_default=True, help="λ in base + λΔ.")
@click.option("--revision", help="Branch, tag or commit of the adapter.")
@click.option("--force", is_flag=True, help="Continue although the adapter does not fit.")
@registry_option
@json_option
def to_sparse_patch(
    adapter: str,
    out: str,
    base: str,
    encoding: str,
    scale: float,
    revision: str | None,
    force: bool,
    registry: str | None,
    as_json: bool,
) -> None:
    """Write the patch OUT: indices and new values of the weights of BASE that Δ changes."""
    from ftt_hub.cli.output import print_json, print_line, size
    from ftt_hub.cli.progress import progress_bar

    from ftt_hub.api.convert import convert_to_sparse_patch

    with progress_bar() as bar:
        report = convert_to_sparse_patch(
            adapter,
            base,
            out,
            encoding=encoding,
            scale=scale,
            revision=revision,
            registry=registry,
            force=force,
            progress=bar,
        )
    if as_json:
        facts = {"tensors": report.tensors, "changed": report.changed, "elements": report.elements}
        print_json({"file": str(report.path), "bytes": report.nbytes, **facts})
        return
    print_line(
        f"{out}: {size(report.nbytes)}, {report.changed:,} of {report.elements:,} weights in "
        f"{report.tensors} tensors"
    )
