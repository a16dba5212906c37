"""`verify`: is an adapter intact, and does it fit a target?"""

from __future__ import annotations

from pathlib import Path

from ftt_hub.adapter import Adapter
from ftt_hub.checkpoint.resolve import open_model, read_headers
from ftt_hub.errors import FttError
from ftt_hub.preparation import make_report, plan_for
from ftt_hub.report import CompatibilityReport
from ftt_hub.transfer import check_sketch

DEPTHS = ("headers", "sketch")


def verify_target(
    adapter: Adapter, target: str | Path, *, depth: str = "headers"
) -> CompatibilityReport:
    """Whether an adapter fits a target.

    Args:
        adapter: The opened adapter.
        target: Folder or Hub reference. Of a Hub model only headers are fetched at depth
            ``headers``; depth ``sketch`` reads weights and downloads it.
        depth: ``headers`` or ``sketch``.

    Raises:
        FttError: Unknown depth, or the target cannot be read.
    """
    if depth == "headers":
        headers = read_headers(target)
        return make_report(adapter, headers, plan_for(adapter, headers), None)
    if depth != "sketch":
        raise FttError("unknown depth", where=depth[:40], expected=" or ".join(DEPTHS))
    checkpoint, headers = open_model(target)
    with checkpoint:
        plan = plan_for(adapter, headers)
        finding = check_sketch(adapter.folder, plan, checkpoint.tensors, checkpoint.read_bits)
        return make_report(adapter, headers, plan, finding)
