"""The page of the docs: what came of every architecture in every variant."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable

from zoo.architectures import MAPPINGS
from zoo.run import UNBUILT
from zoo.spellings import VARIANTS
from zoo.trial import ABSENT, RIGHT, Outcome

TITLES = {
    "same": "same",
    "tied": "tied copies stored",
    "names-tuned": "fine-tune under run-time names",
    "names-base": "bases under run-time names",
    "tokens": "two added tokens",
    "labels": "other labels",
    "headless": "bases without head",
    "other-head": "bases with another head",
    "prefix": "prefix",
}

INTRODUCTION = """# Architectures: every model of transformers, in every spelling

Made by `make zoo` (`make zoo-oldest` first, for the oldest supported version); do not edit.
For every architecture in nine auto mappings of transformers, the zoo builds three tiny random
models in bf16: a source base, a fine-tune and a target. It writes their checkpoints in the variants
below, makes an adapter, applies it to the target and to the source base, and loads the results with
`from_pretrained`. A result is right if every parameter equals the correctly rounded
`target + (fine-tune − source base)` of what `from_pretrained` loads on each side, and if the result
on the source base equals the fine-tune bit for bit.

| variant | what differs between the three checkpoints |
|---|---|
| same | nothing: all are written by `save_pretrained` |
| tied copies stored | source base (`.bin`) and target hold every tied copy, the fine-tune one |
| fine-tune under run-time names | the fine-tune is saved with `save_original_format=False` |
| bases under run-time names | source base and target are |
| two added tokens | tokenizer and vocabulary of the fine-tune have two more |
| other labels | the fine-tune has five named labels, the others two |
| bases without head | source base and target are saved from the model without its head and prefix |
| bases with another head | source base and target are language models, the fine-tune a classifier |
| prefix | `_orig_mod.` or `module.` precedes every name of one of the three |
"""


def page(runs: list[list[Outcome]]) -> str:
    """The page, newest version of transformers first.

    Args:
        runs: Outcomes of one version of transformers each.
    """
    parts = [INTRODUCTION]
    for outcomes in runs:
        parts += [_table(outcomes), _not_right(outcomes), _unbuilt(outcomes)]
    return "\n".join(parts)


def _table(outcomes: list[Outcome]) -> str:
    by_mapping = defaultdict(list)
    for outcome in outcomes:
        by_mapping[outcome.architecture.split("/")[0]].append(outcome)
    head = ["mapping", "built", *TITLES.values()]
    lines = [
        f"## transformers {outcomes[0].transformers}\n",
        f"{len({o.architecture for o in outcomes})} architectures: right results of those to which"
        " the variant applies.\n",
        "| " + " | ".join(head) + " |",
        "|" + "---|" * len(head),
    ]
    for mapping in MAPPINGS:
        rows = by_mapping[mapping.key]
        names = {o.architecture for o in rows}
        built = names - {o.architecture for o in rows if o.outcome == UNBUILT}
        cells = [
            mapping.title,
            f"{len(built)} of {len(names)}",
            *(_cell(rows, v) for v in VARIANTS),
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join([*lines, ""])


def _cell(rows: Iterable[Outcome], variant: str) -> str:
    counts = Counter(o.outcome for o in rows if o.variant == variant)
    total = counts.total() - counts[ABSENT] - counts[UNBUILT]
    return f"{counts[RIGHT]} of {total}" if total else "–"


def _not_right(outcomes: list[Outcome]) -> str:
    rows = [o for o in outcomes if o.outcome not in (RIGHT, ABSENT, UNBUILT)]
    rows.sort(key=lambda o: (list(TITLES).index(o.variant), o.architecture))
    if not rows:
        return "Nothing is wrong, refused or crashed.\n"
    lines = ["### Not right\n", "| architecture | variant | outcome | why |", "|---|---|---|---|"]
    for o in rows:
        detail = o.detail.replace("|", "\\|")[:200]
        lines.append(f"| {o.architecture} | {TITLES[o.variant]} | {o.outcome} | {detail} |")
    return "\n".join([*lines, ""])


def _unbuilt(outcomes: list[Outcome]) -> str:
    reasons = {o.architecture: o.detail for o in outcomes if o.outcome == UNBUILT}
    lines = ["### Not built\n", "| architecture | why |", "|---|---|"]
    lines += [f"| {name} | {reasons[name].replace('|', ' ')[:160]} |" for name in sorted(reasons)]
    return "\n".join([*lines, ""]) if reasons else ""
