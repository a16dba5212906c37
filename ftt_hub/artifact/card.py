"""The model card: YAML that the Hub indexes, and what a reader wants to know."""

from __future__ import annotations

import re

from ftt_hub.artifact.card_editing import UNPUBLISHED
from ftt_hub.artifact.manifest import AdapterConfig
from ftt_hub.support.licences import card_licence

_MODEL_ID = re.compile(r"^[\w.-]+(/[\w.-]+)?$", re.ASCII)
TAGS = ("ftt-hub", "transfer-adapter", "diff-vector")

_TEMPLATE = """\
# {name}: a transfer adapter

This repository holds a **diff vector** Δ = fine-tuned model − source base, packaged as a transfer
adapter. Added to another version of the base model it carries the fine-tuning over, with no
training ([Lin et al. 2025](https://arxiv.org/abs/2503.20110)).

| | |
|---|---|
| Source base | {source} |
| Fine-tuned model | {tuned} |
| Languages | {languages} |
| Training data | {datasets} |
| Method | {method} |
| Licence | {license} |
{combined}
## How to load it

```bash
pip install ftt-hub
```

```python
import ftt_hub

model = ftt_hub.AutoTransferModelForCausalLM.from_pretrained(
    "{ref}", base_model="{target}"
)
```

Without `base_model` it is loaded onto the source base, which gives the fine-tuned model back.
Plain `transformers` and `peft` do not know this adapter type unless `ftt_hub` is imported first.
Check a target before you download anything:

```bash
ftt-hub verify {ref} --target {target}
```

## Fidelity

| | |
|---|---|
| Codec | `{codec}` |
| Rebuilds the fine-tuned model bit for bit on its source base | {exact} |
| Relative error of Δ | {error:g} |
| Size of Δ, ‖Δ‖/‖m‖ | {norm:g} |
| Bits per weight | {bits:g} |
| Size against the model | {ratio:.1%} |
| Weights changed | {changed:,} of {parameters:,} |
| Tensors | {tensors} |

## Limits

Transfer works best between versions that are linearly connected in weight space, such as
successive checkpoints of one model family; onto a distant model it can do harm. Content digest:
`{digest}`.
"""


def front_matter(config: AdapterConfig) -> dict[str, object]:
    """The card's YAML: what the Hub indexes and browsing filters by."""
    value: dict[str, object] = {
        "library_name": "ftt-hub",
        "tags": list(TAGS),
    }
    if _MODEL_ID.match(config.source_base.id):  # the Hub refuses a card with any other
        value["base_model"] = config.source_base.id
        value["base_model_relation"] = "adapter"
    if config.languages:  # the Hub refuses capitals
        value["language"] = list(dict.fromkeys(tag.lower() for tag in config.languages))
    if config.license:
        value.update(card_licence(config.license))
    if config.datasets:
        value["datasets"] = list(config.datasets)
    return value


def _tensors(config: AdapterConfig) -> str:
    summary = config.tensors
    parts = [f"{summary.changed} changed", f"{summary.unchanged} unchanged"]
    for label in ("added", "dropped", "resized"):
        names = getattr(summary, label)
        if names:
            parts.append(f"{len(names)} {label} ({', '.join(f'`{n}`' for n in names[:4])})")
    return ", ".join(parts)


def render(config: AdapterConfig) -> str:
    """The card's text."""
    import yaml

    fidelity = config.fidelity
    name = config.fine_tuned.id.rsplit("/", 1)[-1]
    body = _TEMPLATE.format(
        name=name,
        ref=f"{UNPUBLISHED}/{name}",
        target="a-newer-version-of-the-base",
        source=f"`{config.source_base.id}`" + _at(config.source_base.revision),
        tuned=f"`{config.fine_tuned.id}`" + _at(config.fine_tuned.revision),
        languages=", ".join(config.languages) or "not stated",
        datasets=", ".join(config.datasets) or "not stated",
        method=_method(config),
        license=config.license or "not stated",
        combined=_combined(config),
        codec=config.codec.id,
        exact="yes" if fidelity.exact else "no",
        error=fidelity.relative_error,
        norm=fidelity.relative_norm,
        bits=fidelity.bits_per_weight,
        ratio=fidelity.ratio,
        changed=fidelity.changed_parameters,
        parameters=fidelity.parameters,
        tensors=_tensors(config),
        digest=config.content_digest,
    )
    header = yaml.safe_dump(front_matter(config), sort_keys=False, allow_unicode=True)
    return f"---\n{header}---\n\n{body}"


def _combined(config: AdapterConfig) -> str:
    """Where a combined adapter comes from; nothing for any other."""
    if not config.combination:
        return ""
    parents = [
        f"- {parent['weight']:g} × `{parent['ref']}`"
        + (f", layers {parent['layers']}" if "layers" in parent else "")
        + f" ({parent['content_digest'][7:19]})"
        for parent in config.combination["parents"]
    ]
    notes = [f"- Licences: {note}" for note in config.combination.get("licence_notes", [])]
    lines = "\n".join([*parents, *notes])
    return (
        f"\n## Combined\n\nBy `{config.combination['method']}` from other transfer adapters; there "
        f"is no fine-tuned model.\n\n{lines}\n"
    )


def _method(config: AdapterConfig) -> str:
    """How it was fine-tuned, and on top of which diff vectors."""
    parents = " + ".join(f"`{p['ref']}` ({p['content_digest'][7:19]})" for p in config.parents)
    return f"{config.method}, from the source base + {parents}" if parents else config.method


def _at(revision: str | None) -> str:
    return f" at `{revision[:12]}`" if revision else ""
