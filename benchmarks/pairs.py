"""Real diff vectors to measure codecs on: SmolLM2-135M, two Turkish fine-tunes and a next version.

    python benchmarks/pairs.py FOLDER

trains (once, about ten minutes on two cores; kept in the demo's cache) and prints the folders of

- m_s, and m_t (m_s after 25 steps of English),
- m'_s *small*: 40 steps at 1e-4 as in the demo; *large*: 100 steps at 1e-3,

and writes `held_out.txt`, half of the speeches (79,000 tokens), which none of them was trained on,
and `training.txt`, the other half, to FOLDER.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "examples"))

from demo import materials  # noqa: E402
from demo.cache import open_cache  # noqa: E402
from demo.models import CONTINUED, TURKISH  # noqa: E402
from demo.training import Recipe, fine_tune  # noqa: E402

LARGE = Recipe(steps=100, learning_rate=1e-3)


def main() -> None:
    """Train what is missing and print where it lies."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    given = parser.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    cache = open_cache()
    turkish, held_out = materials.split(materials.turkish_text(cache), every=2)
    english, _ = materials.split(materials.english_text(cache))
    (given.folder / "held_out.txt").write_text(held_out, encoding="utf-8")
    (given.folder / "training.txt").write_text(turkish, encoding="utf-8")
    source = materials.smollm2(cache)
    print("m_s", source)
    target = fine_tune("smollm2-135m-next", source, english, CONTINUED, label="training m_t")
    print("m_t", target)
    small = fine_tune("smollm2-135m-tr", source, turkish, TURKISH, label="training the small Δ")
    print("small", small)
    large = fine_tune("smollm2-135m-tr-large", source, turkish, LARGE, label="training the large Δ")
    print("large", large)


if __name__ == "__main__":
    main()
