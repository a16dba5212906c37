"""Licence ids, as the Hub's cards write them: from its list, or ``other`` with a name."""

from __future__ import annotations

import re
from collections.abc import Mapping

_LISTED = """
afl-3.0 agpl-3.0 apache-2.0 apple-amlr apple-ascl artistic-2.0 bigcode-openrail-m
bigscience-bloom-rail-1.0 bigscience-openrail-m bsd bsd-2-clause bsd-3-clause bsd-3-clause-clear
bsl-1.0 c-uda cc cc-by-2.0 cc-by-2.5 cc-by-3.0 cc-by-4.0 cc-by-nc-2.0 cc-by-nc-3.0 cc-by-nc-4.0
cc-by-nc-nd-3.0 cc-by-nc-nd-4.0 cc-by-nc-sa-2.0 cc-by-nc-sa-3.0 cc-by-nc-sa-4.0 cc-by-nd-4.0
cc-by-sa-3.0 cc-by-sa-4.0 cc0-1.0 cdla-permissive-1.0 cdla-permissive-2.0 cdla-sharing-1.0
creativeml-openrail-m deepfloyd-if-license ecl-2.0 epl-1.0 epl-2.0 etalab-2.0 eupl-1.1 eupl-1.2
gemma gfdl gpl gpl-2.0 gpl-3.0 h-research intel-research isc lgpl lgpl-2.1 lgpl-3.0 lgpl-lr llama2
llama3 llama3.1 llama3.2 llama3.3 llama4 lppl-1.3c mit mpl-2.0 ms-pl ncsa odbl odc-by ofl-1.1
openrail openrail++ osl-3.0 other pddl postgresql unknown unlicense wtfpl zlib
"""
LISTED = frozenset(_LISTED.split())
"""What the Hub takes for `license`; it refuses a card with any other."""


def licence_id(text: str) -> str:
    """A licence as an id: lower case, nothing but letters, digits, dots, plus and dashes."""
    return re.sub(r"[^a-z0-9.+]+", "-", text.lower()).strip("-")


def card_licence(text: str) -> dict[str, str]:
    """The entries of a card's front matter that name a licence."""
    identity = licence_id(text)
    if identity in LISTED:
        return {"license": identity}
    return {"license": "other", **({"license_name": identity} if identity else {})}


_PERMISSIVE_NAMES = """
afl-3.0 apache-2.0 bsd bsd-2-clause bsd-3-clause bsd-3-clause-clear bsl-1.0 cc-by-2.0 cc-by-2.5
cc-by-3.0 cc-by-4.0 cc0-1.0 cdla-permissive-1.0 cdla-permissive-2.0 ecl-2.0 isc mit ncsa odc-by
pddl postgresql unlicense wtfpl zlib
"""
_PERMISSIVE = frozenset(_PERMISSIVE_NAMES.split())
_COPYLEFT = (
    "gpl",
    "agpl",
    "lgpl",
    "cc-by-sa",
    "cc-by-nc-sa",
    "eupl",
    "osl",
    "odbl",
    "gfdl",
    "cdla-sharing",
)


def combine_licences(licences: Mapping[str, str | None]) -> tuple[str | None, list[str]]:
    """The licence of a work made of several, and what stands in its way.

    It is a reading of the licences' names and no legal advice: the strictest holds for the whole;
    two that each want the whole under their own terms are a conflict.

    Args:
        licences: Label of each part → its licence.

    Returns:
        The licence (several joined by ``+``; ``None`` when a part names none), and the conflicts.
    """
    notes = [f"{label} names no licence: ask its author" for label, x in licences.items() if not x]
    named = {label: licence_id(text) for label, text in licences.items() if text}
    found = sorted(set(named.values()))
    strict = [identity for identity in found if identity not in _PERMISSIVE]
    for label, identity in named.items():
        if "-nd-" in identity and len(licences) > 1:
            notes.append(f"{label} is {identity}, which allows no derived works")
    demanding = [x for x in strict if x.startswith(_COPYLEFT)]
    if demanding and len(strict) > 1:
        notes.append(
            f"{' and '.join(strict)} conflict: {demanding[0]} wants the whole under itself"
        )
    elif len(strict) > 1:
        notes.append(f"{' and '.join(strict)} hold together: check that their terms agree")
    if len(named) < len(licences):
        return None, notes
    return "+".join(strict or found) or None, notes
