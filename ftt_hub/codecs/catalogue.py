"""All codecs by id. A new codec is one file, one line here, one test, one section in the docs."""

from __future__ import annotations

from ftt_hub.codecs.abc import Codec
from ftt_hub.codecs.anchored import AnchoredCodec
from ftt_hub.codecs.exact import ExactCodec
from ftt_hub.codecs.factored import FactoredCodec
from ftt_hub.codecs.quantized import QuantizedCodec
from ftt_hub.errors import UnsupportedError

CODECS: dict[str, type[Codec]] = {
    kind.id: kind
    for kind in (
        ExactCodec,
        AnchoredCodec,
        QuantizedCodec,
        FactoredCodec,
    )
}
"""Codec id → class. The class makes a codec without arguments; this is the only list of ids."""


def codec(codec_id: str) -> Codec:
    """The codec of an id.

    Raises:
        UnsupportedError: This release does not know the id.
    """
    kind = CODECS.get(codec_id)
    if kind is None:
        raise UnsupportedError(
            "unknown codec",
            expected=" or ".join(CODECS),
            found=repr(codec_id)[:40],
            hint="Upgrade ftt-hub.",
        )
    return kind()
