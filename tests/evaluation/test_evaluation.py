"""Models compared by the real harness: tiny random Llamas, local tasks, no network."""

from __future__ import annotations

import json
import math
import weakref
from collections.abc import Callable
from pathlib import Path

import jsonschema
import numpy as np
import pytest
import torch
from evaluation_fixtures import TaskFiles, adapter_of, task_files, write_jsonl
from ftt_hub.schemas import load_schema
from models import TinyFamily, load_state, random_state, save_model
from transformers import AutoModelForCausalLM, AutoTokenizer

import ftt_hub
from ftt_hub.errors import FttError, HubError, IncompatibleError, MissingExtraError
from ftt_hub.evaluation.contestants import Entrant
from ftt_hub.evaluation.lineup import Lineup
from ftt_hub.evaluation.report import Evaluation
from ftt_hub.evaluation.rows import read_rows
from ftt_hub.evaluation.scores import aggregated_score, group_score, mean_score
from ftt_hub.evaluation.settings import read_setting, setting_names
from ftt_hub.evaluation.tasks import Asked
from ftt_hub.loss import mean_difference, measure, read_text


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> TaskFiles:
    return task_files(tmp_path_factory.mktemp("tasks"))


@pytest.fixture(scope="module")
def adapter(family: TinyFamily, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return adapter_of(family, tmp_path_factory.mktemp("adapter") / "tr")


@pytest.fixture(scope="module")
def found(family: TinyFamily, files: TaskFiles, adapter: Path) -> Evaluation:
    return ftt_hub.evaluate(
        family.target,
        adapters=[adapter],
        models=[family.tuned],
        tasks=[str(files.choices), str(files.completions), str(files.generation)],
        text=files.text,
        dtype="float32",
    )


def figure(found: Evaluation, task: str, metric: str, place: int = 0) -> float:
    [row] = [row for row in found.rows if (row.line.task, row.line.metric) == (task, metric)]
    return row.scores[place].value


def test_every_model_has_every_figure_with_its_interval(found: Evaluation) -> None:
    assert [who.kind for who in found.contestants] == ["target", "transfer", "model"]
    assert [(row.line.task, row.line.metric) for row in found.rows] == [
        ("choices", "acc"),
        ("choices", "acc_norm"),
        ("completions", "perplexity"),
        ("completions", "acc"),
        ("tiny_gen", "exact_match"),
        ("held_out.txt", "loss"),
        ("held_out.txt", "perplexity"),
    ]
    for row in found.rows:
        for place, score in enumerate(row.scores):
            assert score.estimate.low <= score.value <= score.estimate.high
            assert (row.change(place) is None) == (place == 0)


def test_the_report_is_what_its_schema_says(found: Evaluation) -> None:
    value = json.loads(json.dumps(found.to_json(), allow_nan=False))
    jsonschema.validate(value, load_schema("evaluation"))
    assert value["harness"] is not None
    shots = {task["name"]: task["num_fewshot"] for task in value["tasks"]}
    assert shots == {"choices": 0, "completions": 0, "tiny_gen": 2, "held_out.txt": None}


def test_choices_are_scored_by_the_model_s_own_likelihoods(
    found: Evaluation, family: TinyFamily, files: TaskFiles
) -> None:
    model = AutoModelForCausalLM.from_pretrained(family.target, dtype=torch.float32)
    words = AutoTokenizer.from_pretrained(family.target)

    def likelihood(prompt: str, choice: str) -> float:
        start = len(words(prompt)["input_ids"])
        ids = torch.tensor([words(f"{prompt} {choice}")["input_ids"]])
        with torch.inference_mode():
            log_p = model(ids).logits[0].log_softmax(-1)
        return sum(float(log_p[n - 1, ids[0, n]]) for n in range(start, ids.shape[1]))

    right = 0
    for row in read_rows(files.choices).rows:
        scores = [likelihood(row["prompt"], choice) for choice in row["choices"]]
        right += int(np.argmax(scores)) == row["answer"]
    assert 0 < right < 24
    assert figure(found, "choices", "acc") == pytest.approx(right / 24)


def test_m_t_plus_delta_is_measured_as_the_merged_checkpoint(
    found: Evaluation, family: TinyFamily, files: TaskFiles, adapter: Path, tmp_path: Path
) -> None:
    ftt_hub.apply(adapter, family.target, tmp_path / "merged")
    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "merged", dtype=torch.float32)
    words = AutoTokenizer.from_pretrained(family.target)
    loss = measure(merged, read_text(files.text, words, window=64))
    assert figure(found, "held_out.txt", "loss", 1) == pytest.approx(loss.mean, rel=2e-3)
    assert figure(found, "held_out.txt", "loss", 1) != figure(found, "held_out.txt", "loss", 0)
    assert figure(found, "held_out.txt", "perplexity") == pytest.approx(
        math.exp(figure(found, "held_out.txt", "loss"))
    )


def test_the_target_is_loaded_once_unchanged_bit_for_bit_and_freed(
    family: TinyFamily, adapter: Path
) -> None:
    states: list[dict[str, torch.Tensor]] = []
    models: list[weakref.ref[torch.nn.Module]] = []

    def visit(entrant: Entrant) -> str:
        if entrant.contestant.kind == "model":
            assert models[0]() is None
        models.append(weakref.ref(entrant.model))
        states.append({n: t.clone() for n, t in entrant.model.state_dict().items()})
        return entrant.contestant.label

    kept: list[torch.Tensor] = []
    lineup = Lineup(family.target, [adapter, adapter], [family.tuned])
    labels = []
    for label in lineup.each(visit):
        labels.append(label)
        model = models[-1]()
        if model is not None and len(labels) <= 3:
            kept = [parameter.detach().clone() for parameter in model.parameters()]
            names = [name for name, _ in model.named_parameters()]
            before = [states[0][name] for name in names]
            assert all(torch.equal(a, b) for a, b in zip(kept, before, strict=True))
        del model
    assert labels == ["target", "+ Δ tr", "+ Δ tr", "tuned"]
    assert any(not torch.equal(states[0][n], states[1][n]) for n in states[0])
    disk = load_state(family.target)
    assert all(torch.equal(disk[n], states[0][n]) for n in disk)


def test_a_standard_error_is_the_harness_s(found: Evaluation) -> None:
    from lm_eval.api.metrics import mean_stderr

    values = np.array([1.0] * 7 + [0.0] * 17)
    score = mean_score(values, np.ones(24), [str(n) for n in range(24)])
    assert score.standard_error == pytest.approx(mean_stderr(values.tolist()))
    assert score.estimate.low < 7 / 24 < score.estimate.high


def test_changes_are_paired_by_sample() -> None:
    generator = np.random.default_rng(3)
    keys = [str(n) for n in range(80)]
    tokens = generator.integers(5, 50, 80).astype(float)
    first, second = generator.normal(3, 1, 80), generator.normal(3, 1, 80)
    change = mean_score(second, tokens, keys).change_from(mean_score(first, tokens, keys))
    expected = mean_difference(second * tokens, first * tokens, tokens)
    assert change is not None
    assert (change.value, change.low, change.high) == pytest.approx(
        (expected.value, expected.low, expected.high)
    )
    steady = mean_score(first + 0.1, tokens, keys).change_from(mean_score(first, tokens, keys))
    assert steady is not None
    assert steady.high - steady.low < 1e-9
    others = mean_score(first, tokens, [f"{key}!" for key in keys])
    assert others.change_from(mean_score(first, tokens, keys)) is None


def test_figures_that_are_no_mean_are_drawn_through_their_own_function() -> None:
    def perplexity(items: list[float]) -> float:
        return math.exp(-sum(items) / len(items))

    items = np.random.default_rng(0).normal(-2, 0.3, 50).tolist()
    score = aggregated_score(items, perplexity, [str(n) for n in range(50)])
    assert score.value == pytest.approx(perplexity(items))
    assert score.estimate.low < score.value < score.estimate.high
    assert score.standard_error == pytest.approx(score.value * np.std(items) / 50**0.5, rel=0.2)


@pytest.mark.parametrize("by_size", [True, False])
def test_a_group_has_the_interval_of_its_own_mean(by_size: bool) -> None:
    parts = [(np.array([1.0, 0.0, 0.0, 0.0]), list("abcd")), (np.array([1.0, 1.0]), list("ef"))]
    value = 3 / 6 if by_size else (1 / 4 + 1) / 2
    score = group_score(parts, value)
    assert score is not None
    assert score.value == pytest.approx(value)
    assert score.samples == tuple("abcdef")
    assert group_score(parts, 0.9) is None


def test_every_setting_names_a_task_of_the_harness() -> None:
    """The harness's own registry over the folders concerned; all of it takes ten times as long."""
    import lm_eval.tasks
    from lm_eval.tasks import TaskManager

    root = Path(lm_eval.tasks.__file__).parent
    names = (
        "gsm8k",
        "minerva_math",
        "benchmarks",
        "llama3/instruct/arc_challenge",
        "llama3/instruct/mmlu_cot",
        "gpqa/cot_zeroshot",
        "ifeval",
        "global_mmlu/full/mg",
        "global_mmlu/full/si",
        "global_mmlu/full/tr",
    )
    folders = [root / name for name in names]
    manager = TaskManager(include_defaults=False, include_path=folders)
    wanted = {
        "arc_challenge",
        "global_mmlu_mg",
        "global_mmlu_si",
        "global_mmlu_tr",
        "gpqa",
        "gpqa_diamond",
        "gsm8k",
        "ifeval",
        "math",
        "math500",
        "mmlu",
    }
    assert set(setting_names()) == wanted
    for name in setting_names():
        setting = read_setting(name)
        assert setting.task in manager.task_index, name
        assert setting.num_fewshot is not None
        config = manager.task_index[setting.task].cfg
        lists = config.get("metric_list") or config.get("aggregate_metric_list")
        metrics = {entry["metric"] for entry in lists}
        assert {metric.split(",")[0] for metric in setting.metrics} <= metrics, name
    assert read_setting("gsm8k").num_fewshot == 8


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (['{"prompt": "a", "completion": "b"}', "{"], "line 2: not a line of JSON"),
        (["[1]"], "line 1: not a JSON object"),
        (['{"question": "a"}'], "line 1: no prompt in this row"),
        (['{"prompt": "a"}'], "line 1: no completion in this row"),
        (['{"prompt": "a", "choices": ["b"], "answer": 0}'], "line 1: not choices"),
        (['{"prompt": "a", "choices": ["b", "c"], "answer": 2}'], "line 1: the answer is not"),
        (['{"prompt": "a", "choices": ["b", "c"], "answer": true}'], "line 1: the answer is not"),
        (
            [
                '{"prompt": "a", "completion": "b"}',
                "",
                '{"prompt": "a", "choices": ["b", "c"], "answer": "c"}',
            ],
            "line 3: rows of two kinds",
        ),
        ([], "no rows"),
    ],
)
def test_a_row_that_cannot_be_used_is_named_by_its_line(
    tmp_path: Path, rows: list[str], message: str
) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join(rows))
    with pytest.raises(FttError, match=message) as caught:
        read_rows(path)
    assert "\n" not in str(caught.value)


def test_an_answer_may_be_one_of_the_choices(tmp_path: Path) -> None:
    path = write_jsonl(
        tmp_path / "r.jsonl", [{"prompt": "a", "choices": ["b", "c"], "answer": "c"}]
    )
    assert read_rows(path).rows[0]["answer"] == 1


class TestRefusals:
    """Each ends before a model is loaded, or with the model and task named."""

    def test_nothing_to_measure(self, family: TinyFamily) -> None:
        with pytest.raises(FttError, match="nothing to measure"):
            ftt_hub.evaluate(family.target)

    def test_unknown_setting(self, family: TinyFamily) -> None:
        with pytest.raises(FttError, match="gsm9k: no such setting: expected one of arc_challenge"):
            ftt_hub.evaluate(family.target, settings=["gsm9k"])

    def test_unknown_task(self, family: TinyFamily, monkeypatch: pytest.MonkeyPatch) -> None:
        few_tasks(monkeypatch)
        with pytest.raises(FttError, match=r"gsm9k: no such task\. Did you mean gsm8k"):
            ftt_hub.evaluate(family.target, tasks=["gsm9k"])

    def test_a_data_set_that_is_not_here_offline(
        self, family: TinyFamily, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        few_tasks(monkeypatch)
        monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path)
        with pytest.raises(HubError, match="gsm8k_cot_llama: the task's data set is not on this"):
            ftt_hub.evaluate(family.target, settings=["gsm8k"])

    def test_a_file_that_is_not_there(self, family: TinyFamily, tmp_path: Path) -> None:
        for name in ("none.yaml", "none.jsonl"):
            with pytest.raises(FttError, match=f"{name}: cannot read the task: found No such"):
                ftt_hub.evaluate(family.target, tasks=[str(tmp_path / name)])

    @pytest.mark.parametrize("text", ["a: [", "dataset_path: json", "task: x\noutput_type: y"])
    def test_a_malformed_yaml(self, family: TinyFamily, tmp_path: Path, text: str) -> None:
        path = tmp_path / "bad.yaml"
        path.write_text(text)
        with pytest.raises(FttError, match=r"bad.yaml: the task cannot be run"):
            ftt_hub.evaluate(family.target, tasks=[str(path)])

    def test_the_same_task_twice(self, family: TinyFamily, files: TaskFiles) -> None:
        with pytest.raises(FttError, match="completions: two tasks have the same name"):
            ftt_hub.evaluate(family.target, tasks=[str(files.completions)] * 2)

    def test_without_the_extra(
        self, family: TinyFamily, files: TaskFiles, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("ftt_hub.evaluation.harness.find_spec", lambda _: None)
        with pytest.raises(MissingExtraError, match=r"pip install 'ftt-hub\[eval\]'"):
            ftt_hub.evaluate(family.target, tasks=[str(files.completions)])
        text = ftt_hub.evaluate(family.target, text=files.text)
        assert text.harness is None

    def test_a_stranger(self, family: TinyFamily, files: TaskFiles, adapter: Path) -> None:
        other = save_model(family.root / "wider", random_state(0, rows=200), words=None)
        value = json.loads((other / "config.json").read_text()) | {"num_hidden_layers": 3}
        (other / "config.json").write_text(json.dumps(value))
        with pytest.raises(IncompatibleError):
            ftt_hub.evaluate(other, adapters=[adapter], text=files.text)

    def test_nan(
        self, new_family: Callable[..., TinyFamily], files: TaskFiles, tmp_path: Path
    ) -> None:
        state = random_state(0)
        state["model.norm.weight"][0] = float("nan")
        broken = save_model(tmp_path / "broken", state)
        with pytest.raises(FttError, match="broken: the model's outputs are not numbers"):
            ftt_hub.evaluate(broken, tasks=[str(files.completions)])

    def test_no_such_device_or_dtype(self, family: TinyFamily, files: TaskFiles) -> None:
        with pytest.raises(FttError, match="cuda:7: no such device here"):
            ftt_hub.evaluate(family.target, text=files.text, device="cuda:7")
        with pytest.raises(FttError, match="float31: torch has no such dtype"):
            ftt_hub.evaluate(family.target, text=files.text, dtype="float31")


def few_tasks(monkeypatch: pytest.MonkeyPatch) -> None:
    """The harness's registry over one folder: all of it takes ten seconds to read."""
    import lm_eval.tasks
    from lm_eval.tasks import TaskManager

    folder = Path(lm_eval.tasks.__file__).parent / "gsm8k"
    manager = TaskManager(include_defaults=False, include_path=folder)
    monkeypatch.setattr("ftt_hub.evaluation.tasks._manager", lambda **_: manager)


def test_a_limit_takes_the_first_samples(family: TinyFamily, files: TaskFiles) -> None:
    few = ftt_hub.evaluate(family.target, tasks=[str(files.choices)], asked=Asked(limit=5))
    assert [len(row.scores[0].samples) for row in few.rows] == [5, 5]
    assert few.to_json()["limit"] == 5


def test_a_chat_is_rendered_by_the_adapter_s_template_where_the_target_has_none(
    new_family: Callable[..., TinyFamily], tmp_path: Path
) -> None:
    family = new_family()
    template = "{% for m in messages %}{{ m['content'] + ' </s> ' }}{% endfor %}"
    (family.tuned / "chat_template.jinja").write_text(template)
    adapter = adapter_of(family, tmp_path / "tr")
    chat = [{"role": "user", "content": "w1"}, {"role": "assistant", "content": "w2 " * 40}]
    path = write_jsonl(tmp_path / "chat.jsonl", [{"messages": chat}] * 3)
    with pytest.raises(FttError, match="no chat template"):
        ftt_hub.evaluate(family.target, text=path)
    found = ftt_hub.evaluate(family.target, adapters=[adapter], text=path)
    assert found.rows[0].change(1) is not None
