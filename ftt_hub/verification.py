"""`verify`: is an adapter intact, and does it fit a target?

Of an adapter or a target on the Hub only headers are read, by ranged reads; at depth ``sketch``
also the sampled runs of the target's weights, some kilobytes each.
"""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np

from ftt_hub import hub, vocab
from ftt_hub.adapter import Adapter, AdapterHeaders
from ftt_hub.checkpoint.headers import ModelHeaders
from ftt_hub.checkpoint.remote import RemoteModel, without_large_tokenizer
from ftt_hub.checkpoint.resolve import open_model, read_headers
from ftt_hub.errors import FttError
from ftt_hub.preparation import has_same_tokens, make_report, plan_for
from ftt_hub.refs import parse_ref
from ftt_hub.report import CompatibilityReport, Finding
from ftt_hub.sketch import SKETCH_NAME
from ftt_hub.tensors.dtypes import Bits
from ftt_hub.transfer import TransferPlan, check_sketch

DEPTHS = ("headers", "sketch")
_Run = tuple[str, int, int]


def verify_target(
    adapter: Adapter | AdapterHeaders, target: str | Path, *, depth: str = "headers"
) -> CompatibilityReport:
    """Whether an adapter fits a target.

    Args:
        adapter: The opened adapter, or its headers.
        target: Folder or Hub reference. Of a Hub model only headers are fetched at depth
            ``headers``, and at depth ``sketch`` the sampled runs of its weights.
        depth: ``headers`` or ``sketch``.

    Raises:
        FttError: Unknown depth, or the target cannot be read.
    """
    described = adapter.headers if isinstance(adapter, Adapter) else adapter
    if depth == "headers":
        return verify_headers(described, read_headers(target))
    if depth != "sketch":
        raise FttError("unknown depth", where=depth[:40], expected=" or ".join(DEPTHS))
    ref = parse_ref(target)
    if ref.name is not None and not hub.is_offline():
        try:
            return _by_ranges(described, RemoteModel(ref.name, ref.revision))
        except hub.RangesIgnoredError:
            size = RemoteModel(ref.name, ref.revision).headers.nbytes
            message = (
                f"{ref}: the server ignores ranges; downloading all {size / 1e6:,.0f} MB of it"
            )
            warnings.warn(message, stacklevel=3)
    checkpoint, headers = open_model(target)
    with checkpoint:
        plan = plan_for(described, headers)
        folder = _sketch_folder(described)
        finding = check_sketch(folder, plan, checkpoint.tensors, checkpoint.read_bits)
        return make_report(described, headers, plan, finding)


def verify_headers(adapter: AdapterHeaders, target: ModelHeaders) -> CompatibilityReport:
    """Whether an adapter fits a target whose headers are known; reads no weight.

    A large tokenizer on the Hub is downloaded only where rows have to be matched by token: where
    the hashes agree, or the number of rows does, it is not.
    """
    same_rows = vocab.vocabulary_size(adapter.config.source_base.config) == vocab.vocabulary_size(
        target.config
    )
    same = has_same_tokens(adapter.config, target)
    if same_rows and not same:
        target = without_large_tokenizer(target)
    return make_report(adapter, target, plan_for(adapter, target, same_tokens=same), None)


def _sketch_folder(adapter: AdapterHeaders) -> Path:
    """The folder that holds the adapter's sketch; one without any when it has none."""
    path = adapter.file(SKETCH_NAME)
    return Path(adapter.label) if path is None else path.parent


def _by_ranges(adapter: AdapterHeaders, model: RemoteModel) -> CompatibilityReport:
    headers = model.headers
    plan = plan_for(adapter, headers)
    finding = _remote_sketch(_sketch_folder(adapter), plan, model)
    return make_report(adapter, headers, plan, finding)


def _remote_sketch(folder: Path, plan: TransferPlan, model: RemoteModel) -> Finding:
    """Compare the sketch with runs of the target, read side by side in one round."""
    wanted: list[_Run] = []
    tensors = model.headers.tensors

    def note(name: str, start: int, count: int) -> Bits:
        wanted.append((name, start, count))
        return np.zeros(count, dtype=tensors[name].dtype.numpy)

    check_sketch(folder, plan, tensors, note)
    held = model.prefetched(wanted)
    return check_sketch(folder, plan, tensors, lambda name, start, n: held[name, start, n])
