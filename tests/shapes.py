"""An adapter and a target in the shape of an 8B Llama: real headers and index over sparse files."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from hub_server import HubServer
from hub_server.blobs import Blob, git_oid
from hub_server.hub import Message
from hub_server.repos import Edit
from models import config as llama_config

from ftt_hub.artifact import card
from ftt_hub.artifact.index import Block, RawTensor, TensorEntry, encode_index
from ftt_hub.artifact.manifest import (
    CONFIG_NAME,
    AdapterConfig,
    CodecSpec,
    Fidelity,
    ModelIdentity,
    TensorSummary,
    VocabularySummary,
)
from ftt_hub.artifact.reader import CONTAINER_NAME, slot_key
from ftt_hub.tensors.dtypes import DTYPES
from ftt_hub.tensors.header import build_header

ROWS, HIDDEN, INNER, KV, LAYERS, BLOCK = 128_256, 4096, 14_336, 1024, 32, 4 << 20
TOKENIZER = b'{"model": {"vocab": {}}}' + b" " * 9_000_000
Shape = tuple[int, ...]


def big_config() -> dict[str, Any]:
    """config.json of the 8B model."""
    return llama_config(
        hidden_size=HIDDEN,
        intermediate_size=INNER,
        num_hidden_layers=LAYERS,
        num_attention_heads=32,
        num_key_value_heads=8,
        head_dim=128,
        vocab_size=ROWS,
        tie_word_embeddings=False,
        rope_theta=500000.0,
    )


def tensors() -> dict[str, Shape]:
    """All 291 tensors."""
    found: dict[str, Shape] = {"model.embed_tokens.weight": (ROWS, HIDDEN)}
    layer: dict[str, Shape] = {
        "self_attn.q_proj": (HIDDEN, HIDDEN),
        "self_attn.k_proj": (KV, HIDDEN),
        "self_attn.v_proj": (KV, HIDDEN),
        "self_attn.o_proj": (HIDDEN, HIDDEN),
        "mlp.gate_proj": (INNER, HIDDEN),
        "mlp.up_proj": (INNER, HIDDEN),
        "mlp.down_proj": (HIDDEN, INNER),
        "input_layernorm": (HIDDEN,),
        "post_attention_layernorm": (HIDDEN,),
    }
    for number in range(LAYERS):
        found |= {f"model.layers.{number}.{n}.weight": s for n, s in layer.items()}
    return found | {"model.norm.weight": (HIDDEN,), "lm_head.weight": (ROWS, HIDDEN)}


def count(shape: Shape) -> int:
    """Elements."""
    total = 1
    for n in shape:
        total *= n
    return total


def _hash(*parts: object) -> str:
    return hashlib.sha256(repr(parts).encode()).hexdigest()


def entries() -> list[TensorEntry]:
    """Index entries with hashes that do not compress."""
    found = []
    for slot, (name, shape) in enumerate(sorted(tensors().items()), 1):
        row, offset, blocks = count(shape[1:]), 0, []
        step, left = max(1, BLOCK // row) * row, count(shape)
        while left:
            elements = min(step, left)
            length = elements * 3 // 8 + len(blocks) % 97
            blocks.append(Block(offset, length, elements, _hash(name, len(blocks))))
            offset, left = offset + length, left - elements
        found.append(
            TensorEntry(
                name,
                "delta",
                DTYPES["BF16"],
                shape,
                RawTensor("BF16", _hash(name, "s")),
                RawTensor("BF16", _hash(name, "f")),
                slot,
                "exact",
                tuple(blocks),
                norm=(0.012345, 3.21098),
            )
        )
    return found


def sparse(server: HubServer, folder: Path, name: str, head: bytes, size: int) -> Blob:
    """A file of which only the beginning is on the disk."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    with path.open("wb") as file:
        file.write(head)
        file.truncate(size)
    return server._hub.store.adopt(path, _hash(str(path)))


def put(server: HubServer, name: str, files: dict[str, bytes | Blob]) -> str:
    """Commit contents, some of which are stored already."""
    if name not in server._hub.repos:
        server.create_repo(name)
    repo = server._repo(name)
    edits = [
        Edit(p, d if isinstance(d, Blob) else server._hub.blob(p, d)) for p, d in files.items()
    ]
    return server._hub.commit(repo, "main", edits, Message("Seeded")).sha


def put_model(server: HubServer, folder: Path, name: str) -> str:
    """The 8B-shaped model in four shards, with a tokenizer of 9 MB."""
    names, shards = sorted(tensors().items()), 4
    files: dict[str, bytes | Blob] = {
        "config.json": json.dumps(big_config()).encode(),
        "tokenizer.json": Blob(len(TOKENIZER), git_oid(TOKENIZER), None, TOKENIZER),
    }
    mapping = {}
    for number in range(shards):
        part = names[number * len(names) // shards : (number + 1) * len(names) // shards]
        shard = f"model-{number + 1:05}-of-{shards:05}.safetensors"
        header = build_header({n: ("BF16", s, 2 * count(s)) for n, s in part}, {"format": "pt"})
        size = len(header) + sum(2 * count(s) for _, s in part)
        files[shard] = sparse(server, folder / name.replace("/", "-"), shard, header, size)
        mapping |= {n: shard for n, _ in part}
    index = {"metadata": {"total_size": 16_060_522_496}, "weight_map": mapping}
    files["model.safetensors.index.json"] = json.dumps(index, indent=2).encode()
    return put(server, name, files)


def put_adapter(server: HubServer, folder: Path, name: str, base: tuple[str, str]) -> str:
    """An adapter for it, 3 GB by its headers."""
    found = entries()
    index = encode_index(found)
    sizes = [len(index), *(e.nbytes for e in found)]
    header = build_header(
        {slot_key(i): ("U8", (n,), n) for i, n in enumerate(sizes)}, {"format": "pt"}
    )
    size = len(header) + sum(sizes)
    blob = sparse(server, folder / "adapter", CONTAINER_NAME, header + index, size)
    config = AdapterConfig(
        source_base=ModelIdentity(*base, f"sha256:{_hash('s')}", big_config()),
        fine_tuned=ModelIdentity("org/big-tr", None, f"sha256:{_hash('f')}"),
        codec=CodecSpec("exact", {}, BLOCK, {"pcodec": "1.1.0"}),
        fidelity=Fidelity(True, 0.0, 0.0, 0.003, 8_030_261_248, 4_000_000_000, 3.4, 0.21),
        tensors=TensorSummary(len(found), 0),
        num_slots=len(sizes),
        task_type="CAUSAL_LM",
        languages=["tr"],
        license="apache-2.0",
        vocabulary=VocabularySummary(ROWS, f"sha256:{_hash('v')}", ROWS),
    ).with_files({CONTAINER_NAME: {"size": size, "sha256": blob.sha256}})
    files: dict[str, bytes | Blob] = {
        CONFIG_NAME: config.to_bytes(),
        "README.md": card.render(config).encode(),
        CONTAINER_NAME: blob,
    }
    return put(server, name, files)
