"""One architecture in one variant: run the product and compare its results with the truth."""

from __future__ import annotations

import time
import traceback
from collections import Counter
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import transformers

import ftt_hub
from ftt_hub import FttError
from zoo.spellings import VARIANTS, Case, NotApplicableError, Trio, unprefixed
from zoo.truth import Family, faults
from zoo.weights import Loaded, load, loaded

RIGHT, REFUSED, WRONG, CRASH, ABSENT = "right", "refused", "wrong", "crash", "absent"


@dataclass(frozen=True)
class Outcome:
    """What came of one architecture in one variant."""

    architecture: str
    variant: str
    outcome: str
    detail: str = ""
    seconds: float = 0.0
    transformers: str = transformers.__version__

    def as_json(self) -> dict[str, Any]:
        """The fields, as a row of the results file."""
        return asdict(self)


def _summary(found: dict[str, str]) -> str:
    kinds = Counter(found.values())
    parts = []
    for kind, count in kinds.most_common(4):
        name = next(n for n, k in found.items() if k == kind)
        parts.append(f"{kind}: {count} ({name})")
    return "; ".join(parts)


def _config_faults(result: Loaded, case: Case) -> dict[str, str]:
    tuned = case.family.tuned.config
    found = {}
    if case.labels and result.config.id2label != tuned.id2label:
        found["config.id2label"] = "labels are not the fine-tune's"
    if case.labels and result.config.architectures != tuned.architectures:
        found["config.architectures"] = "class is not the fine-tune's"
    return found


def _result(case: Case, trio: Trio, adapter: Path, target: Path, family: Family) -> str:
    out = adapter.with_name(f"{adapter.name}-on-{target.name}")
    ftt_hub.apply(str(adapter), target, out, workers=1)
    if case.prefix:
        unprefixed(out, case.prefix)
    try:
        result = load(trio.loader, out)
    except Exception as error:
        return f"result does not load: {type(error).__name__}: {' '.join(str(error).split())[:160]}"
    found = faults(result, family, added_tokens=case.added_tokens)
    return _summary(found | _config_faults(result, case))


def _streamed(case: Case, trio: Trio, adapter: Path) -> str:
    """The model that the Auto class of the product loads."""
    name = trio.architecture.mapping.auto_class.replace("AutoModel", "AutoTransferModel")
    loader = getattr(ftt_hub, name, None)
    if loader is None or not case.target_loads:
        return ""
    made = loader.from_pretrained(
        str(adapter), base_model=case.target, dtype="auto", output_loading_info=True
    )
    found = faults(loaded(*made), case.family, added_tokens=case.added_tokens)
    if case.labels and made[0].config.id2label != case.family.tuned.config.id2label:
        found["config.id2label"] = "labels are not the fine-tune's"
    return _summary(found)


def _in_memory(case: Case, trio: Trio, adapter: Path) -> str:
    """The target in memory after `apply_to`, and its own bits again after `remove_from`."""
    if (
        not case.target_loads or case.labels or case.added_tokens
    ):  # a model in memory keeps its shape
        return ""
    made = trio.loader.from_pretrained(case.target, dtype="auto", output_loading_info=True)
    opened = ftt_hub.TransferAdapter.from_pretrained(str(adapter))
    opened.apply_to(made[0])
    found = faults(loaded(*made), case.family)
    opened.remove_from(made[0])
    for name in faults(loaded(*made), replace(case.family, tuned=case.family.source)):
        found.setdefault(name, "not as before after remove_from")
    return _summary(found)


def _judged(case: Case, trio: Trio, variant: str, ways: bool) -> tuple[str, str]:
    adapter = trio.folder(f"adapter-{variant}")
    ftt_hub.extract(case.source, case.tuned, adapter, codec="exact", workers=1)
    checks = {
        "on the source base": _result(case, trio, adapter, case.source, case.family.on_itself),
        "on the target": _result(case, trio, adapter, case.target, case.family),
    }
    if ways:
        checks["streamed"] = _streamed(case, trio, adapter)
        checks["in memory"] = _in_memory(case, trio, adapter)
    parts = [f"{where}: {fault}" for where, fault in checks.items() if fault]
    return (WRONG, " | ".join(parts)) if parts else (RIGHT, "")


def _where(error: BaseException) -> str:
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return f"{Path(frame.filename).name}:{frame.lineno}"


def _outcome(trio: Trio, variant: str, ways: bool) -> tuple[str, str]:
    try:
        case = VARIANTS[variant](trio)
    except NotApplicableError as error:
        return ABSENT, str(error)
    except Exception as error:
        return ABSENT, f"transformers cannot make it: {_line(error)}"
    try:
        return _judged(case, trio, variant, ways)
    except FttError as error:
        return REFUSED, _line(error)
    except Exception as error:
        return CRASH, f"{_where(error)}: {_line(error)}"


def _line(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"[:400]


def trial(trio: Trio, variant: str, *, ways: bool = False) -> Outcome:
    """Run one variant; never raises what the product raises.

    Args:
        trio: The models of an architecture.
        variant: A key of `VARIANTS`.
        ways: Also load while transformers reads, and change a model in memory.
    """
    start = time.perf_counter()
    outcome, detail = _outcome(trio, variant, ways)
    seconds = round(time.perf_counter() - start, 2)
    detail = detail.replace(f"{trio.root}/", "")
    return Outcome(trio.architecture.name, variant, outcome, detail, seconds)
