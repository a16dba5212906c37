"""What cannot be loaded is refused in one line, and no half-built model reaches the caller."""

from __future__ import annotations

import signal
import threading
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from architectures import build
from models import TinyFamily, config, load_state, random_state, same_bits, save_model

import ftt_hub
from ftt_hub import AutoTransferModelForCausalLM
from ftt_hub.artifact.reader import Container
from ftt_hub.errors import FttError, IncompatibleError

pytestmark = pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated")
WAYS = pytest.mark.parametrize("way", ["streaming", "apply_to", "load_adapter", "PeftModel"])


@pytest.fixture(scope="module")
def adapter(family: TinyFamily, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("bad") / "a"
    ftt_hub.extract(family.source, family.tuned, out)
    return out


def load(folder: Path) -> Any:
    return transformers.AutoModelForCausalLM.from_pretrained(folder, dtype="auto")


def use(way: str, adapter: Path, target: Path) -> Any:
    """The target with the adapter, in one of four ways; and the model that was handed in."""
    if way == "streaming":
        return AutoTransferModelForCausalLM.from_pretrained(adapter, base_model=target)
    model = load(target)
    try:
        if way == "apply_to":
            ftt_hub.TransferAdapter.from_pretrained(adapter).apply_to(model)
        elif way == "load_adapter":
            model.load_adapter(str(adapter))
        else:
            from peft import PeftModel

            model = PeftModel.from_pretrained(model, str(adapter)).merge_and_unload()
    except BaseException:
        left = model.state_dict()
        assert all(same_bits(left[n], t) for n, t in load(target).state_dict().items())
        raise
    return model


@WAYS
def test_another_architecture_is_refused(adapter: Path, tmp_path: Path, way: str) -> None:
    mixtral, _, _ = build(tmp_path, "mixtral")
    with pytest.raises(IncompatibleError, match="the adapter is for llama, the target is mixtral"):
        use(way, adapter, mixtral)


@WAYS
def test_a_target_that_lacks_tensors_is_refused_by_name(
    adapter: Path, tmp_path: Path, way: str
) -> None:
    state = {n: t for n, t in random_state(0).items() if "layers.1." not in n}
    target = save_model(tmp_path / "t", state, config(num_hidden_layers=1))
    with pytest.raises(IncompatibleError, match=r"model\.layers\.1\..*"):
        use(way, adapter, target)


@WAYS
def test_an_interrupted_load_leaves_nothing_behind(
    family: TinyFamily, adapter: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    decode, calls = Container.decode, 0
    lock = threading.Lock()

    def interrupted(self: Container, entry: Any, number: int) -> Any:
        nonlocal calls
        with lock:
            calls += 1
            now = calls == 7
        if now:
            signal.raise_signal(signal.SIGINT)  # to the main thread, as Ctrl-C
        return decode(self, entry, number)

    monkeypatch.setattr(Container, "decode", interrupted)
    with pytest.raises(KeyboardInterrupt):
        use(way, adapter, family.target)
    monkeypatch.undo()
    model = use(way, adapter, family.target)
    ftt_hub.apply(adapter, family.target, tmp_path / "m")
    state = model.state_dict()
    assert all(same_bits(state[n], t) for n, t in load_state(tmp_path / "m").items())


@pytest.mark.parametrize("auto", ["AutoTransferModelForCausalLM", "AutoTransferModel"])
@pytest.mark.parametrize("scale", [float("nan"), float("inf")])
def test_a_scale_that_is_no_number_is_refused_before_anything_is_opened(
    auto: str, scale: float
) -> None:
    with pytest.raises(FttError, match="finite"):
        getattr(ftt_hub, auto).from_pretrained("no/such-adapter", scale=scale)


def test_arguments_that_are_not_ours_reach_transformers_unchanged(
    family: TinyFamily, adapter: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: dict[str, Any] = {}
    load = transformers.LlamaForCausalLM.from_pretrained.__func__

    def recording(cls: Any, *args: Any, **kwargs: Any) -> Any:
        given.update(kwargs)
        return load(cls, *args, **{k: v for k, v in kwargs.items() if k != "of_the_future"})

    monkeypatch.setattr(transformers.LlamaForCausalLM, "from_pretrained", classmethod(recording))
    mark = object()
    model = AutoTransferModelForCausalLM.from_pretrained(
        adapter, base_model=family.target, of_the_future=mark, low_cpu_mem_usage=True
    )
    assert given["of_the_future"] is mark
    assert given["low_cpu_mem_usage"] is True
    assert torch.isfinite(model(torch.tensor([[1, 2]])).logits).all()
