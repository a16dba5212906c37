"""`.gitattributes`: which files the Hub wants under LFS."""

import re
from fnmatch import translate
from functools import lru_cache

_SUFFIXES = (
    "*.7z *.arrow *.bin *.bz2 *.ckpt *.ftz *.gz *.h5 *.joblib *.lfs.* *.mlmodel *.model *.msgpack "
    "*.npy *.npz *.onnx *.ot *.parquet *.pb *.pickle *.pkl *.pt *.pth *.rar *.safetensors "
    "*.tar.* *.tar *.tflite *.tgz *.wasm *.xz *.zip *.zst *tfevents*"
)
DEFAULT = "".join(
    f"{pattern} filter=lfs diff=lfs merge=lfs -text\n" for pattern in _SUFFIXES.split()
).encode()


@lru_cache(maxsize=64)
def lfs_names(attributes: bytes) -> re.Pattern[str]:
    """Return a regex that matches the file names which a `.gitattributes` puts under LFS."""
    lines = (line.split() for line in attributes.decode(errors="replace").splitlines())
    patterns = [words[0] for words in lines if words and "filter=lfs" in words[1:]]
    return re.compile("|".join(map(translate, patterns)) or r"(?!)")


def is_lfs(path: str, size: int, sample: bytes, *, attributes: bytes, threshold: int) -> bool:
    """Return whether a file goes under LFS: by pattern, by size, or because it is binary."""
    if size == 0:
        return False
    if size >= threshold or b"\0" in sample:
        return True
    return lfs_names(attributes).match(path.rsplit("/", 1)[-1]) is not None
