"""A codec from outside the package: a class and a line in the catalogue, and all commands know it.

This is the checklist of docs/architecture.md as a test: it fails while any list of codecs but the
catalogue's is left.
"""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
from click.testing import CliRunner
from codec_contract import CodecContract
from ftt_hub.cli.main import cli
from models import TinyFamily

from ftt_hub.artifact.reader import Container, weight_dtype
from ftt_hub.codecs.abc import BlockContext, Codec
from ftt_hub.codecs.catalogue import CODECS
from ftt_hub.combining.recipe import RecipeError, read_recipe
from ftt_hub.errors import CodecError
from ftt_hub.tensors.delta_block import DeltaBlock, identity
from ftt_hub.tensors.dtypes import Bits, DType
from ftt_hub.tensors.file import SafetensorsFile


class DeflateCodec(Codec):
    """Stores hi and lo as they are, deflated."""

    id: ClassVar[str] = "deflate"
    exact: ClassVar[bool] = True

    def encode(self, block: DeltaBlock, place: BlockContext) -> bytes:
        if block.is_identity:
            return b""
        lo = np.zeros_like(block.hi) if block.lo is None else block.lo
        return zlib.compress(block.hi.tobytes() + lo.tobytes())

    def decode(
        self,
        frame: bytes,
        count: int,
        dtype: DType,
        source: Bits | None = None,
        first: bytes | None = None,
    ) -> DeltaBlock:
        if not frame:
            return identity(count, dtype)
        size = 2 * count * dtype.itemsize
        inflater = zlib.decompressobj()
        try:
            data = inflater.decompress(frame, size + 1)
        except zlib.error as error:
            raise CodecError("the frame is damaged") from error
        if len(data) != size or not inflater.eof or inflater.unused_data:
            raise CodecError("the frame has another length", expected=size, found=len(data))
        hi, lo = np.frombuffer(data, dtype.numpy).reshape(2, count)
        return DeltaBlock(hi.copy(), lo.copy() if lo.any() else None, dtype)


@pytest.fixture
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(CODECS, DeflateCodec.id, DeflateCodec)


class TestDeflateCodec(CodecContract):
    @pytest.fixture
    def each(self) -> Codec:
        return DeflateCodec()


def run(*words: object) -> str:
    done = CliRunner().invoke(cli, [str(word) for word in words], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


@pytest.mark.usefixtures("registered")
def test_the_command_line_extracts_and_applies_with_it(family: TinyFamily, tmp_path: Path) -> None:
    assert "deflate" in run("extract", "--help")
    folder, merged = tmp_path / "adapter", tmp_path / "merged"
    run("extract", family.source, family.tuned, folder, "--codec", "deflate")
    with Container(folder) as container:
        stored = {e.codec for e in container.entries.values() if e.slot is not None}
        assert stored == {"deflate"}
        assert all(weight_dtype(e) is e.dtype for e in container.entries.values())
        assert container.factors(next(e for e in container.entries.values() if e.blocks)) is None
    run("apply", folder, "--target", family.source, "--out", merged)
    rebuilt, tuned = (tensors(path) for path in (merged, family.tuned))
    assert rebuilt == tuned


def tensors(folder: Path) -> dict[str, bytes]:
    result: dict[str, bytes] = {}
    for path in sorted(folder.glob("*.safetensors")):
        with SafetensorsFile(path) as file:
            for name, info in file.tensors.items():
                result[name] = bytes(file.read(info.start, info.nbytes))
    return result


RECIPE = "adapters:\n  - adapter: org/a\n  - adapter: org/b\n"


@pytest.mark.usefixtures("registered")
def test_recipes_know_it(tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(f"codec: {{id: deflate}}\n{RECIPE}")
    assert read_recipe(path).coding.codec == "deflate"


def test_recipes_name_the_codecs_there_are(tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(f"codec: {{id: deflate}}\n{RECIPE}")
    with pytest.raises(RecipeError, match="expected one of exact, quantized, auto"):
        read_recipe(path)


def test_a_container_of_an_unknown_codec_asks_for_an_upgrade(
    family: TinyFamily, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as known:
        known.setitem(CODECS, DeflateCodec.id, DeflateCodec)
        run("extract", family.source, family.tuned, tmp_path / "a", "--codec", "deflate")
    words = ["apply", tmp_path / "a", "--target", family.source, "--out", tmp_path / "m"]
    done = CliRunner().invoke(cli, [str(word) for word in words])
    assert done.exit_code != 0
    assert "unknown codec" in done.output + str(done.exception)
    assert "Upgrade ftt-hub" in done.output + str(done.exception)
