"""The zoo as a test: a sample by default, every architecture under `make test-all`."""

from __future__ import annotations

from collections import Counter

import pytest

from zoo.architectures import MAPPINGS, Architecture, architectures, selected
from zoo.run import UNBUILT, outcomes, quiet
from zoo.spellings import VARIANTS
from zoo.trial import ABSENT, REFUSED, RIGHT, Outcome

SAMPLE = {
    "causal/llama": ["same", "prefix"],
    "causal/mixtral": ["names-tuned", "tokens"],
    "causal/gpt_neox": ["names-base"],
    "causal/mamba": ["tied"],
    "causal/qwen3_next": ["names-base"],
    "seq2seq/t5": ["same", "prefix"],
    "masked/bert": ["tied", "tokens"],
    "classification/roberta": ["headless", "other-head"],
    "classification/qwen3": ["labels"],
    "image-text/qwen2_vl": ["names-tuned"],
    "speech/whisper": ["tied"],
    "ctc/wav2vec2": ["headless"],
    "audio/hubert": ["labels"],
    "image/vit": ["headless", "labels"],
    "image/resnet": ["same"],
}
# Refusals that are right, by architecture and variant, each with its reason.
EXPECTED_REFUSALS: dict[tuple[str, str], str] = {}


def _faults(found: list[Outcome]) -> list[str]:
    return [
        f"{o.architecture} {o.variant}: {o.outcome}: {o.detail}"
        for o in found
        if o.outcome not in (RIGHT, ABSENT)
        and not (o.outcome == REFUSED and (o.architecture, o.variant) in EXPECTED_REFUSALS)
    ]


@pytest.mark.parametrize("name", SAMPLE)
def test_results_are_what_transformers_would_load(name: str) -> None:
    (architecture,) = selected([name])
    found = outcomes(architecture, SAMPLE[name], ways=True)
    assert ABSENT not in {o.outcome for o in found}, "a variant of the sample does not apply"
    assert not _faults(found)


@pytest.mark.slow
@pytest.mark.parametrize("architecture", architectures(), ids=lambda a: a.name)
def test_every_architecture_in_every_spelling(architecture: Architecture) -> None:
    found = outcomes(architecture, list(VARIANTS))
    if found[0].outcome == UNBUILT:
        pytest.skip(found[0].detail)
    assert not _faults(found)


@pytest.mark.slow
def test_most_architectures_are_built() -> None:
    built: Counter[str] = Counter()
    for architecture in architectures():
        with quiet():
            built[architecture.mapping.key] += architecture.can_be_built
    for mapping in MAPPINGS:
        assert built[mapping.key] >= 0.9 * len(mapping.model_types), mapping.title
