"""The four models of the story, trained once and kept."""

from dataclasses import dataclass
from pathlib import Path

from demo import materials
from demo.terminal import out
from demo.training import Recipe, fine_tune

CONTINUED = Recipe(steps=25, learning_rate=5e-5)
TURKISH = Recipe(steps=40, learning_rate=1e-4)


@dataclass(frozen=True)
class Models:
    """m_s, m'_s, m_t and FT(m_t), as checkpoint folders."""

    source: Path
    source_tuned: Path
    target: Path
    target_tuned: Path


def prepare(cache: Path, *, english: str, turkish: str) -> Models:
    """Return the four models, trained on the texts given unless an earlier run did it."""
    source = materials.smollm2(cache)
    out.print("  m_s       SmolLM2-135M-Instruct, the source base")
    target = fine_tune("smollm2-135m-next", source, english, CONTINUED, label="training m_t")
    out.print(f"  m_t       m_s after {CONTINUED.steps} steps of English: its next version")
    tuned = fine_tune("smollm2-135m-tr", source, turkish, TURKISH, label="training m'_s")
    out.print(f"  m'_s      m_s fine-tuned on Turkish, {TURKISH.steps} steps")
    reference = fine_tune(
        "smollm2-135m-next-tr", target, turkish, TURKISH, label="training FT(m_t)"
    )
    out.print("  FT(m_t)   m_t fine-tuned the same way: what transfer saves")
    return Models(source, tuned, target, reference)
