"""`ftt-hub apply`."""

from __future__ import annotations

import click
from ftt_hub.cli.options import ByteSize, json_option, registry_option, workers_option


@click.command(
    "apply",
    epilog="Example: ftt-hub apply me/base-v1-turkish@v1.0.0 --target org/base-v2 "
    "--out ./base-v2-turkish",
)
@click.argument("adapter")
@click.option("--target", required=True, metavar="MODEL", help="Folder or Hub reference of m_t.")
@click.option("--out", required=True, type=click.Path(), help="Folder to make.")
@click.option("--scale", default=1.0, show_default=True, help="λ in m_t + λΔ.")
@click.option(
    "--dtype",
    type=click.Choice(["bfloat16", "float16", "float32"]),
    help="Dtype of the result; default the target's.",
)
@click.option(
    "--max-shard-size",
    default="5GB",
    show_default=True,
    type=ByteSize(),
    help="Largest size of a weight file.",
)
@click.option("--revision", help="Branch, tag or commit of the adapter.")
@click.option(
    "--source-base", metavar="MODEL", help="m_s, to decode an anchored adapter for another target."
)
@click.option("--force", is_flag=True, help="Continue although the adapter does not fit.")
@registry_option
@workers_option
@json_option
def command(
    adapter: str,
    target: str,
    out: str,
    scale: float,
    dtype: str | None,
    max_shard_size: int,
    revision: str | None,
    source_base: str | None,
    force: bool,
    registry: str | None,
    workers: int | None,
    as_json: bool,
) -> None:
    """Write the merged checkpoint target + scale × Δ as an ordinary model folder.

    Memory stays flat whatever the size of the model; OUT appears whole or not at all.
    """
    from ftt_hub.cli.output import print_json, print_line, size
    from ftt_hub.cli.progress import progress_bar

    from ftt_hub.transfer.apply import apply

    with progress_bar() as bar:
        result = apply(
            adapter,
            target,
            out,
            scale=scale,
            dtype=dtype,
            max_shard_size=max_shard_size,
            revision=revision,
            registry=registry,
            force=force,
            source_base=source_base,
            workers=workers,
            progress=bar,
        )
    if as_json:
        facts = {"bytes": result.nbytes, "tensors": result.tensors, "changed": result.changed}
        print_json({"folder": str(result.folder), **facts})
        return
    print_line(
        f"{result.folder}: {size(result.nbytes)}, Δ added to {result.changed} of "
        f"{result.tensors} tensors"
    )
