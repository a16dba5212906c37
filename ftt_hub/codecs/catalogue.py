"""All codecs by id. A new codec is one file, one line here, one test, one section in the docs."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from ftt_hub.codecs.abc import Codec
from ftt_hub.codecs.anchored import AnchoredCodec
from ftt_hub.codecs.exact import ExactCodec
from ftt_hub.codecs.factored import FactoredCodec
from ftt_hub.codecs.quantized import QuantizedCodec
from ftt_hub.errors import UnsupportedError

CODECS: Mapping[str, Callable[[], Codec]] = {
    kind.id: kind for kind in (ExactCodec, AnchoredCodec, QuantizedCodec, FactoredCodec)
}


def codec(codec_id: str) -> Codec:
    """The codec of an id.

    Raises:
        UnsupportedError: This release does not know the id.
    """
    factory = CODECS.get(codec_id)
    if factory is None:
        raise UnsupportedError(
            "unknown codec",
            expected=" or ".join(CODECS),
            found=repr(codec_id)[:40],
            hint="Upgrade ftt-hub.",
        )
    return factory()
