"""A tiny comparison that several tests look at, and the files it is made of."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from models import TinyFamily

GENERATION = """\
task: tiny_gen
dataset_path: json
dataset_kwargs:
  data_files: {{test: {rows}}}
test_split: test
fewshot_split: test
num_fewshot: 2
doc_to_text: "{{{{prompt}}}}"
doc_to_target: "{{{{completion}}}}"
output_type: generate_until
generation_kwargs: {{until: ["</s>"], max_gen_toks: 2, do_sample: false}}
metric_list:
  - {{metric: exact_match, aggregation: mean, higher_is_better: true}}
"""


@dataclass(frozen=True)
class TaskFiles:
    """Files of local tasks."""

    choices: Path
    completions: Path
    generation: Path
    text: Path


def write_jsonl(path: Path, rows: list[dict[str, object]]) -> Path:
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
    return path


def task_files(folder: Path) -> TaskFiles:
    """Tasks that the tiny models get partly right."""
    choices = [
        {
            "prompt": f"w{i} w{i + 1}",
            "choices": [f"w{i + 2}", f"w{i + 5}", f"w{i + 8} w3"],
            "answer": i % 3,
        }
        for i in range(24)
    ]
    completions = [{"prompt": f"w{i} w{i + 1} ", "completion": f"w{i + 2}"} for i in range(12)]
    rows = write_jsonl(folder / "completions.jsonl", completions)
    generation = folder / "generation.yaml"
    generation.write_text(GENERATION.format(rows=rows), encoding="utf-8")
    text = folder / "held_out.txt"
    text.write_text(" ".join(f"w{n % 91}" for n in range(600)), encoding="utf-8")
    return TaskFiles(write_jsonl(folder / "choices.jsonl", choices), rows, generation, text)


def adapter_of(family: TinyFamily, out: Path) -> Path:
    """The transfer adapter of a family."""
    import ftt_hub

    ftt_hub.extract(family.source, family.tuned, out).close()
    return out
