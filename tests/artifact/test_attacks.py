"""Hostile and damaged adapters: refused with exit code 4 (or 1), before any harm."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import zstandard
from models import TinyFamily

import ftt_hub
from ftt_hub.artifact.folder import check_adapter
from ftt_hub.artifact.manifest import parse_config, read_config
from ftt_hub.artifact.reader import Container, slot_key
from ftt_hub.artifact.sketch import read_sketch
from ftt_hub.errors import FttError, IntegrityError, UnsupportedError
from ftt_hub.support.canonical import digest_of
from ftt_hub.tensors.header import build_header

Change = Callable[[dict[str, Any]], None]


@pytest.fixture(scope="module")
def intact(family: TinyFamily, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("intact") / "a"
    ftt_hub.extract(family.source, family.tuned, out)
    return out


@pytest.fixture
def adapter(intact: Path, tmp_path: Path) -> Path:
    return shutil.copytree(intact, tmp_path / "a")


def rewrite_config(folder: Path, change: Change, *, seal: bool = True) -> None:
    """Change the manifest and, as an attacker would, make its digest fit again."""
    path = folder / "adapter_config.json"
    value = json.loads(path.read_bytes())
    change(value)
    if seal:
        value["content_digest"] = digest_of(
            {key: item for key, item in value.items() if key != "content_digest"}
        )
    path.write_text(json.dumps(value))


def rewrite_index(folder: Path, change: Change, *, level: int = 3) -> None:
    """Change the index inside the container, and every hash that covers it."""
    path = folder / "adapter_model.safetensors"
    with Container(folder) as container:
        slots = [container._slot_bytes(i) for i in range(container.num_slots)]
    value = json.loads(zstandard.ZstdDecompressor().decompress(slots[0]))
    change(value)
    slots[0] = zstandard.ZstdCompressor(level=level).compress(json.dumps(value).encode())
    write_slots(path, slots)
    reseal(folder)


def write_slots(path: Path, slots: list[bytes]) -> None:
    header = build_header({slot_key(i): ("U8", (len(s),), len(s)) for i, s in enumerate(slots)}, {})
    path.write_bytes(header + b"".join(slots))


def reseal(folder: Path) -> None:
    def change(value: dict[str, Any]) -> None:
        for name, facts in value["files"].items():
            data = (folder / name).read_bytes()
            facts.update(size=len(data), sha256=hashlib.sha256(data).hexdigest())

    rewrite_config(folder, change)


def set_in(*path: str | int, to: object) -> Change:
    def change(value: dict[str, Any]) -> None:
        place: Any = value
        for part in path[:-1]:
            place = place[part]
        place[path[-1]] = to

    return change


def test_an_intact_adapter_passes(adapter: Path) -> None:
    assert check_adapter(adapter).content_digest == read_config(adapter).content_digest


@pytest.mark.parametrize(
    "change",
    [
        set_in("num_slots", to="many"),
        set_in("num_slots", to=10**30),
        set_in("num_slots", to=-1),
        set_in("num_slots", to=True),
        set_in("peft_type", to="LORA"),
        set_in("languages", to="tr"),
        set_in("languages", to=["../../etc"]),
        set_in("fidelity", "ratio", to=1e300),
        set_in("codec", to=[]),
        set_in("files", to={"../outside": {"size": 1, "sha256": "0" * 64}}),
        set_in("files", to={"/etc/passwd": {"size": 1, "sha256": "0" * 64}}),
        set_in("files", to={"a/b": {"size": 1, "sha256": "0" * 64}}),
        set_in("files", to={"x": {"size": -1, "sha256": "0" * 64}}),
        set_in("source_base", "digest", to="md5:1"),
        set_in("content_digest", to=None),
    ],
)
def test_a_manifest_with_impossible_values_is_refused(adapter: Path, change: Change) -> None:
    rewrite_config(adapter, change, seal=False)
    with pytest.raises(IntegrityError, match="invalid at"):
        read_config(adapter)


@pytest.mark.parametrize(
    "data",
    [b"", b"{", b"[]", b"null", b"\xff\xfe", b"[" * 100_000, b'{"a": NaN}', b"9" * 5000,
     b'{"a":' + b"1" * 5000 + b"}", b" " * 70_000],
    ids=range(10),
)  # fmt: skip
def test_bytes_that_are_no_manifest_are_refused(data: bytes) -> None:
    with pytest.raises(IntegrityError):
        parse_config(data, "adapter_config.json")


def test_an_altered_manifest_is_noticed(adapter: Path) -> None:
    rewrite_config(adapter, set_in("license", to="mit"), seal=False)
    with pytest.raises(IntegrityError, match="content digest"):
        read_config(adapter)


@pytest.mark.parametrize("version", ["2.0", "99.1"])
def test_an_unknown_major_version_asks_for_an_upgrade(adapter: Path, version: str) -> None:
    rewrite_config(adapter, set_in("format_version", to=version))
    with pytest.raises(UnsupportedError, match="Upgrade ftt-hub"):
        read_config(adapter)


def test_an_unknown_minor_version_and_unknown_keys_are_read(adapter: Path) -> None:
    def change(value: dict[str, Any]) -> None:
        value.update({"format_version": "1.7", "x-note": "hello", "later_field": 1})
        value["fidelity"]["later"] = 1

    rewrite_config(adapter, change)
    config = read_config(adapter)
    assert config.format_version == "1.7"
    assert config.extra["x-note"] == "hello"


def test_an_unknown_required_feature_is_refused(adapter: Path) -> None:
    rewrite_config(adapter, set_in("required_features", to=["teleport"]))
    with pytest.raises(UnsupportedError, match="teleport"):
        read_config(adapter)


@pytest.mark.parametrize("name", ["adapter_model.safetensors", "sketch.safetensors"])
@pytest.mark.parametrize("damage", ["flip", "cut", "grow", "delete"])
def test_a_damaged_file_is_named(adapter: Path, name: str, damage: str) -> None:
    path = adapter / name
    data = bytearray(path.read_bytes())
    if damage == "delete":
        path.unlink()
    else:
        data[len(data) // 2] ^= damage == "flip"
        path.write_bytes({"flip": data, "cut": data[:-1], "grow": data + b"x"}[damage])
    with pytest.raises(IntegrityError, match=name):
        check_adapter(adapter)


def first_delta(value: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = next(e for e in value["tensors"] if e["role"] == "delta")
    return found


@pytest.mark.parametrize(
    ("key", "to"),
    [
        ("slot", 0), ("slot", 10**9), ("slot", "1"), ("slot", 2), ("shape", [-1]),
        ("shape", [2**60, 2**60]), ("shape", [10**18]), ("dtype", "I64"), ("dtype", "Q7"),
        ("codec", None), ("codec", "telepathy"), ("blocks", []), ("blocks", [[0, 1, 1, "x"]]),
        ("blocks", [[0, 2**49, 1, "0" * 64]]), ("name", ""), ("role", "malware"),
        ("blocks", [[5, 1, 3072, "0" * 64]]),
    ],
)  # fmt: skip
def test_an_index_with_impossible_values_is_refused(adapter: Path, key: str, to: object) -> None:
    rewrite_index(adapter, lambda value: first_delta(value).update({key: to}))
    with pytest.raises(FttError) as caught:
        check_adapter(adapter)
    assert isinstance(caught.value, IntegrityError | UnsupportedError)
    assert "\n" not in str(caught.value)


def test_two_entries_of_one_name_are_refused(adapter: Path) -> None:
    rewrite_index(adapter, lambda value: value["tensors"].append(value["tensors"][0]))
    with pytest.raises(IntegrityError, match="not unique"):
        check_adapter(adapter)


def test_a_frame_that_expands_past_its_declared_size_is_refused(adapter: Path) -> None:
    """An attacker controls frame and hash: the declared number of elements still holds."""
    import numpy as np

    from ftt_hub.codecs.entropy.ordered import to_ordered
    from ftt_hub.codecs.entropy.planes import encode_plane
    from ftt_hub.codecs.exact import ExactCodec
    from ftt_hub.tensors.dtypes import BF16

    plane = encode_plane(to_ordered(np.zeros(8 << 20, np.uint16), BF16))
    bomb = struct.pack("<IIII", 0, len(plane), 0, 0) + plane
    with Container(adapter) as container:
        slots = [container._slot_bytes(i) for i in range(container.num_slots)]
    value = json.loads(zstandard.ZstdDecompressor().decompress(slots[0]))
    entry = first_delta(value)
    slots[entry["slot"]] = bomb
    count = entry["blocks"][0][2]
    entry["blocks"] = [[0, len(bomb), count, hashlib.sha256(bomb).hexdigest()]]
    slots[0] = zstandard.ZstdCompressor().compress(json.dumps(value).encode())
    write_slots(adapter / "adapter_model.safetensors", slots)
    reseal(adapter)
    with pytest.raises(IntegrityError, match="another length"):
        check_adapter(adapter)
    assert ExactCodec.id == entry["codec"]


def test_an_index_bomb_is_refused(adapter: Path) -> None:
    with Container(adapter) as container:
        slots = [container._slot_bytes(i) for i in range(container.num_slots)]
    stream = zstandard.ZstdCompressor(level=1).compressobj(size=300 << 20)
    slots[0] = stream.compress(bytes(300 << 20)) + stream.flush()
    write_slots(adapter / "adapter_model.safetensors", slots)
    with pytest.raises(IntegrityError, match="too large"):
        Container(adapter)


@pytest.mark.parametrize(
    "header",
    [
        (2**63).to_bytes(8, "little"), (10**8 + 1).to_bytes(8, "little"), b"\x10", b"",
        (4).to_bytes(8, "little") + b"nope",
        (2).to_bytes(8, "little") + b"[]",
    ],
    ids=range(6),
)  # fmt: skip
def test_a_container_with_a_bad_header_is_refused(adapter: Path, header: bytes) -> None:
    (adapter / "adapter_model.safetensors").write_bytes(header)
    with pytest.raises(IntegrityError):
        Container(adapter)


@pytest.mark.parametrize(
    "entry",
    [
        {"dtype": "U8", "shape": [4], "data_offsets": [0, 5]},
        {"dtype": "U8", "shape": [2**62, 4], "data_offsets": [0, 4]},
        {"dtype": "U8", "shape": [-4], "data_offsets": [0, 4]},
        {"dtype": "U8", "shape": [4], "data_offsets": [-4, 0]},
        {"dtype": "U8", "shape": 4, "data_offsets": [0, 4]},
        {"dtype": "EVIL", "shape": [4], "data_offsets": [0, 4]},
        {"dtype": "U8", "shape": [10**12], "data_offsets": [0, 10**12]},
        "text",
    ],
)
def test_a_header_that_points_astray_is_refused(adapter: Path, entry: object) -> None:
    text = json.dumps({slot_key(0): entry}).encode()
    data = len(text).to_bytes(8, "little") + text + b"1234"
    (adapter / "adapter_model.safetensors").write_bytes(data)
    with pytest.raises(IntegrityError):
        Container(adapter)


def test_overlapping_slots_are_refused(adapter: Path) -> None:
    text = json.dumps(
        {slot_key(i): {"dtype": "U8", "shape": [4], "data_offsets": [0, 4]} for i in range(2)}
    ).encode()
    (adapter / "adapter_model.safetensors").write_bytes(
        len(text).to_bytes(8, "little") + text + b"1234"
    )
    with pytest.raises(IntegrityError, match="overlaps"):
        Container(adapter)


@pytest.mark.parametrize("shard", ["../x.safetensors", "/etc/passwd", "x.bin", 7])
def test_a_shard_index_cannot_leave_the_folder(adapter: Path, shard: object) -> None:
    (adapter / "adapter_model.safetensors").unlink()
    index = {"weight_map": {slot_key(0): shard}}
    (adapter / "adapter_model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(IntegrityError, match="shards"):
        Container(adapter)


@pytest.mark.parametrize(
    "runs", ["", "[]", '{"a": 1}', '{"a": [[0]]}', '{"a": [[-1, 4]]}', "[" * 50_000]
)
def test_a_hostile_sketch_is_refused(adapter: Path, runs: str) -> None:
    header = build_header({"a": ("BF16", (4,), 8)}, {"runs": runs})
    (adapter / "sketch.safetensors").write_bytes(header + bytes(8))
    with pytest.raises(IntegrityError):
        read_sketch(adapter)


def test_a_sketch_whose_runs_lie_outside_the_target_is_no_crash(
    adapter: Path, family: TinyFamily
) -> None:
    name = "model.norm.weight"
    runs = json.dumps({name: [[10**15, 4]]})
    header = build_header({name: ("BF16", (4,), 8)}, {"runs": runs})
    (adapter / "sketch.safetensors").write_bytes(header + bytes(8))
    reseal(adapter)
    report = ftt_hub.TransferAdapter.from_pretrained(adapter).verify(family.target, depth="sketch")
    assert "lineage unknown" in report.verdict


def test_a_fifo_or_missing_folder_is_one_line(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", tmp_path / "nowhere", tmp_path):
        with pytest.raises(FttError) as caught:
            ftt_hub.TransferAdapter.from_pretrained(path)
        assert "\n" not in str(caught.value)
