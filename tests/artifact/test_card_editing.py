"""Cards are written by anyone: what registries read of them is checked, what they write is kept."""

from __future__ import annotations

import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ftt_hub.artifact.card_editing import (
    Deprecation,
    History,
    clean_reason,
    history_from,
    published_card,
    sorted_versions,
    split_card,
)

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=8,
)
TAGS = st.tuples(*[st.integers(0, 99)] * 3).map(lambda v: "v{}.{}.{}".format(*v))
REASONS = st.text(min_size=1, max_size=40).map(clean_reason).filter(bool)


@settings(suppress_health_check=[HealthCheck.too_slow])  # the first text takes seconds
@given(st.dictionaries(st.sampled_from(["versions", "deprecated", "x"]), JSON) | JSON)
def test_any_front_matter_gives_a_history_or_none(value: object) -> None:
    found = history_from({"ftt_hub": value})
    assert found is None or list(found.versions) == list(sorted_versions(found.versions))


@settings(max_examples=50, deadline=None)
@given(st.sets(TAGS, max_size=4), st.dictionaries(TAGS, REASONS, max_size=3))
def test_what_is_written_is_read_back(tags: set[str], reasons: dict[str, str]) -> None:
    marked = {tag: Deprecation(reason, "v1.2.3") for tag, reason in reasons.items()}
    history = History(sorted_versions(tags), marked)
    card = published_card(b"---\nlanguage: [no]\n---\n\n# Title\n", "org/name", history)
    front, body = split_card(card)
    assert body == "\n# Title\n"
    assert (history_from(front) or History()) == history


@given(st.binary(max_size=300))
def test_any_bytes_can_be_published_as_a_card(data: bytes) -> None:
    once = published_card(data, "org/name", History(("v1.0.0",)))
    assert published_card(once, "org/name", History(("v1.0.0",))) == once
    assert history_from(split_card(once)[0]) == History(("v1.0.0",))


def test_a_users_own_words_and_fields_stay() -> None:
    text = "---\ntags: [mine]\nx-own: {a: 1}\n---\n\nUse your-namespace/tiny-tr, your-namespace.\n"
    front, body = split_card(published_card(text.encode(), "org/real", History()))
    assert front == {"tags": ["mine"], "x-own": {"a": 1}}
    assert body == "\nUse org/real, your-namespace.\n"


def test_a_card_of_nested_aliases_does_not_expand() -> None:
    bomb = "a: &a [x, x]\n" + "".join(
        f"{chr(98 + i)}: &{chr(98 + i)} [*{chr(97 + i)}, *{chr(97 + i)}]\n" for i in range(24)
    )
    front, _ = split_card(f"---\n{bomb}---\n".encode())
    assert len(front) == 25
    assert len(published_card(f"---\n{bomb}---\n".encode(), "org/x", History())) < 10_000


def test_versions_sort_by_number_and_strangers_are_left_out() -> None:
    tags = ["v1.9.0", "v1.10.0", "latest", "v1", "1.0.0", "v01.0.0", 7, None]
    assert sorted_versions(tags) == ("v1.10.0", "v1.9.0")
    assert sorted_versions("v1.0.0") == ()


def test_yaml_norway_survives() -> None:
    text = b"---\nlanguage: [no, tr]\nday: 2025-01-31\nflag: true\n---\n"
    card = published_card(text, "o/n", History())
    front, _ = split_card(card)
    assert front == {"language": ["no", "tr"], "day": "2025-01-31", "flag": True}
    assert yaml.safe_load(card.split(b"---")[1])["language"] == ["no", "tr"]
