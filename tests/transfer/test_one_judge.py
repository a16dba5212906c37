"""Whoever asks whether a target is a relative of the source base gets the same answer."""

from __future__ import annotations

import json
import math
import tempfile
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from models import State, load_state, save_model
from transformers import AutoModelForCausalLM

import ftt_hub
from ftt_hub.catalogue.rank import rank
from ftt_hub.errors import IncompatibleError
from ftt_hub.extraction.manifest import Provenance
from ftt_hub.registry.open import open_adapter
from ftt_hub.registry.push import push
from ftt_hub.transfer.prepare import prepared
from ftt_hub.verdict.report import Verdict

pytestmark = pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated")

COSINES = (-0.1, 0.1, 0.23, 0.25, 0.27, 0.6, 0.88, 0.9, 0.92, 0.999, 1.0)
KINDS = ("embed_tokens", "lm_head", "self_attn", "mlp")


@dataclass(frozen=True)
class Case:
    """A family of models: shapes, how near the target's matrices are, and what Δ changes."""

    hidden: int
    inner: int
    vocabulary: int
    experts: bool
    cosines: tuple[float, float, float, float]
    changed: str
    seed: int

    def model(self) -> Any:
        """The source base."""
        sizes = {
            "hidden_size": self.hidden, "intermediate_size": self.inner, "head_dim": 4,
            "vocab_size": self.vocabulary, "num_hidden_layers": 2, "num_attention_heads": 2,
            "num_key_value_heads": 1, "max_position_embeddings": 32, "tie_word_embeddings": False,
            "bos_token_id": 1, "eos_token_id": 2,
        }  # fmt: skip
        torch.manual_seed(self.seed)
        if self.experts:
            config = transformers.MixtralConfig(**sizes, num_local_experts=2, num_experts_per_tok=1)
            return transformers.MixtralForCausalLM(config)
        return transformers.LlamaForCausalLM(transformers.LlamaConfig(**sizes))

    def target(self, source: State) -> State:
        """Matrices at the case's cosine from the source base's; the rest stays."""
        noise = torch.Generator().manual_seed(self.seed + 1)
        target = dict(source)
        for name, tensor in source.items():
            kind = next((k for k in KINDS if k in name), "mlp")
            cosine = self.cosines[KINDS.index(kind)]
            if tensor.dim() >= 2:
                other = torch.randn(tensor.shape, generator=noise) * tensor.float().std()
                target[name] = cosine * tensor + math.sqrt(1 - cosine**2) * other
        return target


CASES = st.builds(
    Case,
    hidden=st.sampled_from([4, 8, 24]),
    inner=st.sampled_from([4, 16, 300]),
    vocabulary=st.sampled_from([8, 96]),
    experts=st.booleans(),
    cosines=st.tuples(*[st.sampled_from(COSINES)] * 4),
    changed=st.sampled_from(["", "q_proj", "lm_head"]),
    seed=st.integers(0, 3),
)
SHORT_ROWS = Case(4, 300, 8, False, (0.1, 0.1, 0.1, 0.4), "", 0)
"""Rows of 4 beside rows of 300: pooling all weights alike, the long rows would decide."""
UNTOUCHED_STRANGER = Case(8, 16, 96, False, (0.1, 0.1, 0.999, 0.1), "q_proj", 0)
"""Only what Δ changes looks like a relative."""
STRANGE_EXPERTS = Case(8, 16, 8, True, (0.999, 0.999, 0.999, 0.1), "", 0)
"""Only what a model in memory has fused is a stranger's."""


def refused(run: Callable[[], object]) -> bool:
    """Whether something is refused for what the sketch says."""
    reason = None
    try:
        run()
    except IncompatibleError as error:
        reason = str(error)
    assert reason is None or "unrelated" in reason
    return reason is not None


def with_peft_model(model: Any, adapter: Path) -> Any:
    """The model under PEFT's own loader."""
    from peft import PeftModel

    return PeftModel.from_pretrained(model, str(adapter))


@given(case=CASES)
@example(case=SHORT_ROWS)
@example(case=UNTOUCHED_STRANGER)
@example(case=STRANGE_EXPERTS)
@settings(max_examples=12, deadline=None, derandomize=True,
          suppress_health_check=list(HealthCheck))  # fmt: skip
def test_every_way_to_a_target_judges_it_alike(case: Case) -> None:
    with tempfile.TemporaryDirectory() as folder:
        judge_in(Path(folder), case)


def judge_in(root: Path, case: Case) -> None:
    case.model().save_pretrained(root / "source")
    source = load_state(root / "source")
    config = json.loads((root / "source" / "config.json").read_bytes())
    tuned = {n: t * 1.01 if case.changed in n else t for n, t in source.items()}
    for name, state in (("tuned", tuned), ("target", case.target(source))):
        save_model(root / name, state, config, words=None, dtype=torch.float32)
    folder, target = root / "adapter", root / "target"
    ftt_hub.extract(
        root / "source", root / "tuned", folder,
        provenance=Provenance(source_id="org/base", fine_tuned_id="org/tuned"),
    )  # fmt: skip

    verdict = ftt_hub.verify(folder, target, depth="sketch")
    assert isinstance(verdict, Verdict)
    findings = {(f.check, f.status, f.reason) for f in verdict.findings}
    rejected = verdict.status == "rejected"

    push(folder, "me/adapter", version="1.0.0", registry=root / "registry")
    [ranked] = rank(target, registry=root / "registry")
    assert ranked.report.status == verdict.status
    assert refused(lambda: ftt_hub.apply(folder, target, root / "merged")) == rejected

    with warnings.catch_warnings(), open_adapter(folder) as opened:
        warnings.simplefilter("ignore")  # it says that it was forced
        with prepared(opened, target, force=True) as ready:
            assert {(f.check, f.status, f.reason) for f in ready.report.findings} == findings

    auto = ftt_hub.AutoTransferModelForCausalLM
    assert refused(lambda: auto.from_pretrained(folder, base_model=target)) == rejected
    adapter = ftt_hub.TransferAdapter.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(target)
    report = adapter.apply_to(model, force=True)
    assert {(f.check, f.status, f.reason) for f in report.findings} == findings
    model = AutoModelForCausalLM.from_pretrained(target)
    assert refused(lambda: adapter.apply_to(model)) == rejected
    for load in (lambda m, path: m.load_adapter(str(path)), with_peft_model):
        model = AutoModelForCausalLM.from_pretrained(target)
        assert refused(lambda m=model, way=load: way(m, folder)) == rejected
