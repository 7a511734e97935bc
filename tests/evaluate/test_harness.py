"""The harness: packed requests against lm-eval's Hugging Face model, tasks end to end, and errors."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
import torch
from lm_eval.api.instance import Instance

from cpt_ray.config.sections.evaluate import CompareConfig, EvaluateConfig
from cpt_ray.errors import ConfigError
from cpt_ray.evaluate import harness
from cpt_ray.evaluate.exam.scores import exam_score
from cpt_ray.evaluate.harness import PackedLM, packed_lm, score_harness_task
from cpt_ray.evaluate.per_item import read_item_scores
from tests.evaluate.own_tasks import write_own_tasks
from tests.evaluate.tiny import SENTENCES, build_model, make_items


def make_requests() -> list[Instance]:
    pairs = [(item.question, " " + choice) for item in make_items(9) for choice in item.choices]
    pairs += [("", "no context at all"), ("x " * 200, " cut from the left"), ("short", " a"), ("short", " b")]
    return [Instance("loglikelihood", {}, pair, index) for index, pair in enumerate(pairs)]


@pytest.mark.parametrize("batch_tokens", [1, 90, 4096])
def test_packed_requests_score_like_lm_evals_padded_batches(model, tokenizer, reference, batch_tokens):
    packed = PackedLM(model, tokenizer, prefix=0, max_length=64, batch_tokens=batch_tokens)
    requests = make_requests()
    theirs = reference.loglikelihood(requests, disable_tqdm=True)

    ours = packed.loglikelihood(requests, disable_tqdm=True)

    assert [nats for nats, _ in ours] == pytest.approx([nats for nats, _ in theirs], rel=1e-4)
    assert [greedy for _, greedy in ours] == [greedy for _, greedy in theirs]


def test_greedy_continuations_are_recognized(model, tokenizer):
    context = tokenizer("The licensee may")["input_ids"]
    written = list(context)
    plain = build_model(len(tokenizer))
    with torch.no_grad():
        for _ in range(3):
            written.append(int(plain(torch.tensor([written])).logits[0, -1].argmax()))
    packed = PackedLM(model, tokenizer, prefix=0, max_length=64, batch_tokens=64)

    answers = packed._loglikelihood_tokens([(None, context, written[-3:]), (None, context, [1, 2, 3])])

    assert [greedy for _, greedy in answers] == [True, False]


def test_rolling_log_likelihood_through_the_packed_model_is_the_same_too(model, tokenizer, reference):
    packed = PackedLM(model, tokenizer, prefix=0, max_length=64, batch_tokens=256)
    requests = [Instance("loglikelihood_rolling", {}, (" ".join(SENTENCES) * 3,), 0)]

    assert packed.loglikelihood_rolling(requests, disable_tqdm=True) == pytest.approx(
        reference.loglikelihood_rolling(requests, disable_tqdm=True), rel=1e-4
    )


def test_generation_leaves_document_attention_for_its_own_calls_only(model, tokenizer, reference):
    packed = PackedLM(model, tokenizer, prefix=0, max_length=64, batch_tokens=256)
    requests = [Instance("generate_until", {}, ("The licensee", {"until": ["\n"], "max_gen_toks": 5}), 0)]

    assert packed.generate_until(requests, disable_tqdm=True) == reference.generate_until(requests, disable_tqdm=True)
    assert model.config._attn_implementation == "document"


def score_harness_tasks(model, tokenizer, *, config, compare, folder):
    lm, taken, scores = packed_lm(model, tokenizer, prefix=0, config=config), [], []
    for task in config.harness_tasks:
        for one in score_harness_task(lm, task, config, folder=folder, taken=taken).tasks:
            taken.append(one.task)
            lines = read_item_scores(folder / one.items_path)
            scores.append(exam_score(one, lines, compare, label=one.task, suite=task.group))
    return scores


def test_an_unknown_harness_task_is_named(model, tokenizer, tmp_path):
    config = EvaluateConfig(harness_tasks=("no_such_task",))
    with pytest.raises(ConfigError, match=r"evaluate\.harness_tasks names 'no_such_task', which the installed lm-eval does"):
        score_harness_tasks(model, tokenizer, config=config, compare=CompareConfig(), folder=tmp_path)


def test_a_harness_task_whose_data_is_not_here_says_so(model, tokenizer, tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise ConnectionError("Couldn't reach 'ibm/piqa' on the Hub (OfflineModeIsEnabled)\nmore")

    monkeypatch.setattr("datasets.load_dataset", refuse)
    config = EvaluateConfig(harness_tasks=("piqa",))
    with pytest.raises(ConfigError, match=r"harness_tasks piqa: lm-eval could not load it: Couldn't reach") as caught:
        score_harness_tasks(model, tokenizer, config=config, compare=CompareConfig(), folder=tmp_path)
    assert "HF_HOME" in caught.value.fix
    assert "more" not in caught.value.problem


def test_a_harness_task_by_name_is_scored_under_its_own_name_and_prints_nothing(
    model, tokenizer, tmp_path, monkeypatch, capsys, caplog
):
    import datasets

    rows = [{"goal": f"open door {n}", "sol1": "turn the knob", "sol2": "eat it", "label": n % 2} for n in range(4)]
    data = datasets.DatasetDict({split: datasets.Dataset.from_list(rows) for split in ("train", "validation")})
    monkeypatch.setattr("datasets.load_dataset", lambda *_, **__: data)
    config = EvaluateConfig(harness_tasks=("piqa",), exam_context=64)

    [score] = score_harness_tasks(model, tokenizer, config=config, compare=CompareConfig(), folder=tmp_path)

    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "")
    assert [record for record in caplog.records if record.name.startswith("lm_eval")] == []
    assert (score.task, score.label, score.items, score.chance) == ("piqa", "piqa", 4, 0.5)
    assert len((tmp_path / score.items_path).read_text().splitlines()) == 4


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    return write_own_tasks(tmp_path_factory.mktemp("tasks"))


def score(model, tokenizer, folder, own, *tasks, **changes):
    config = EvaluateConfig(harness_tasks=tasks, harness_path=str(own), exam_context=64, **changes)
    return score_harness_tasks(model, tokenizer, config=config, compare=CompareConfig(subsets=100), folder=folder)


def test_a_group_that_lm_eval_averages_over_items_is_one_score_and_a_list_of_tasks_is_several(model, tokenizer, own, tmp_path):
    [pooled] = score(model, tokenizer, tmp_path / "a", own, {"task": "own_mean", "group": "domain"})
    parts = score(model, tokenizer, tmp_path / "b", own, "own_group")

    assert (pooled.task, pooled.suite, pooled.items) == ("own_mean", "domain", 26)
    assert [part.task for part in parts] == ["own_choice", "own_free"]
    assert [part.suite for part in parts] == [None, None]
    lines = read_item_scores(tmp_path / "a" / pooled.items_path)
    assert {line.id.split("/")[0] for line in lines} == {"own_choice", "own_other"}
    assert pooled.accuracy == pytest.approx(sum(line.accuracy for line in lines) / 26)


def test_examples_a_limit_and_the_samples_are_kept(model, tokenizer, own, tmp_path):
    plain, other = (
        score(model, tokenizer, tmp_path / str(shots), own, {"task": "own_choice", "num_fewshot": shots, "limit": 9})[0]
        for shots in (0, 3)
    )

    assert (plain.items, plain.few_shot, other.few_shot) == (9, 0, 3)
    before, after = (read_item_scores(tmp_path / str(shots) / plain.items_path) for shots in (0, 3))
    assert [line.id for line in before] == [line.id for line in after]
    assert [line.log_p for line in before] != [line.log_p for line in after]
    assert all(line.right is not None for line in before)
    samples = [json.loads(line) for line in (tmp_path / "3/samples/own_choice.jsonl").read_text().splitlines()]
    assert len(samples) == 9
    assert {"doc", "prompt_hash", "filtered_resps"} <= set(samples[0])


def test_a_task_file_is_scored_by_its_path(model, tokenizer, own, tmp_path):
    config = EvaluateConfig(harness_tasks=[str(own / "own_choice.yaml")], exam_context=64)
    [found] = score_harness_tasks(model, tokenizer, config=config, compare=CompareConfig(), folder=tmp_path)
    assert (found.task, found.items) == ("own_choice", 13)


def test_a_task_in_two_entries_is_refused(model, tokenizer, own, tmp_path):
    with pytest.raises(ConfigError, match=r"evaluate\.harness_tasks: own_choice is in own_choice and in another entry"):
        score(model, tokenizer, tmp_path, own, "own_group", "own_choice")


@pytest.mark.slow
@pytest.mark.accept(answer=3)
@pytest.mark.full
def test_a_task_has_the_figures_of_lm_evals_command_line_to_the_last_digit(model, tokenizer, tiny_folder, own, tmp_path):
    tasks, shots = "own_choice,own_mean", 2
    arguments = [
        *("run", "--model", "hf", "--model_args", f"pretrained={tiny_folder},dtype=float32,max_length=64"),
        *("--tasks", tasks, "--num_fewshot", str(shots), "--include_path", str(own), "--device", "cpu", "--batch_size", "4"),
        *("--output_path", str(tmp_path / "theirs"), "--log_samples"),
    ]
    # As many threads as here: the order of a sum decides the last digit, and with it a tie between two choices.
    threads = {"OMP_NUM_THREADS": str(torch.get_num_threads())}
    # Training in this process leaves variables that would have lm-eval wait for other processes.
    own_process = {name: value for name, value in os.environ.items() if name not in ("RANK", "WORLD_SIZE", "LOCAL_RANK")}
    offline = {"CUDA_VISIBLE_DEVICES": "", "HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}
    environment = {**own_process, **threads, **offline}
    theirs = {}
    for task in tasks.split(","):
        arguments[arguments.index("--tasks") + 1] = task
        ran = subprocess.run([sys.executable, "-m", "lm_eval", *arguments], env=environment, capture_output=True, text=True)
        assert ran.returncode == 0, ran.stderr[-3000:]
        [file] = (tmp_path / "theirs").rglob("results_*.json")
        theirs[task] = json.loads(file.read_text())["results"][task]
        file.unlink()

    for task in tasks.split(","):
        [ours] = score(model, tokenizer, tmp_path / task, own, {"task": task, "num_fewshot": shots})
        assert ours.accuracy == theirs[task]["acc,none"], task
        assert 0 < ours.accuracy < 1


def test_a_task_without_accuracy_is_compared_by_another_share_of_each_item(model, tokenizer, own, tmp_path):
    [found] = score(model, tokenizer, tmp_path, own, "own_written")
    assert (found.task, found.metric, found.items, found.chance) == ("own_written", "exact_match", 3, 0.0)
    lines = read_item_scores(tmp_path / found.items_path)
    assert [(line.log_p, line.right, line.margin) for line in lines] == [((), None, None)] * 3
    samples = [json.loads(line) for line in (tmp_path / "samples/own_written.jsonl").read_text().splitlines()]
    assert [line.accuracy for line in lines] == [sample["exact_match"] for sample in samples]


def test_a_task_without_a_share_of_each_item_is_refused(model, tokenizer, own, tmp_path):
    with pytest.raises(ConfigError, match=r"evaluate\.harness_tasks own_text: it reports word_perplexity; .* takes acc, exact"):
        score(model, tokenizer, tmp_path, own, "own_text")


def results_of(values, mean, **more):
    samples = [{"doc_id": n, "doc": {}, "target": "", "filtered_resps": ["a"], "filter": "none", "metrics": ["f1"], "f1": value}
               for n, value in enumerate(values)]  # fmt: skip
    return {
        "samples": {"t": samples}, "configs": {"t": {"output_type": "generate_until"}}, "results": {"t": {"f1,none": mean}},
        "versions": {"t": 2}, "n-shot": {"t": 0}, **more,
    }  # fmt: skip


def test_only_the_mean_of_shares_is_taken_for_lm_evals_figure():
    task = EvaluateConfig(harness_tasks=("t",)).harness_tasks[0]
    [(scored, lines)] = harness._parts(task, results_of([0.5, 1.0], 0.75))
    assert (scored.metric, scored.version, [line.accuracy for line in lines]) == ("f1", "2", [0.5, 1.0])
    with pytest.raises(
        ConfigError, match=r"harness_tasks t: lm-eval reports f1 0\.6, which is not the mean of its items, 0\.75"
    ):
        harness._parts(task, results_of([0.5, 1.0], 0.6))
    with pytest.raises(ConfigError, match="t: f1 of item '1' is 80, and only shares from 0 to 1"):
        harness._parts(task, results_of([0.5, 80.0], 40.25))
    with pytest.raises(ConfigError, match="harness_tasks t: it has no items"):
        harness._parts(task, results_of([], 0.0))


def of_tasks(number, *, mean=None):
    """What lm-eval gives of an entry of tasks with four items each; of a group with its mean."""
    found = {}
    for place in range(number):
        one = results_of([0.0, 1.0, float(place % 2), 1.0], (2 + place % 2) / 4)
        for key, value in one.items():
            found.setdefault(key, {})[f"t{place}"] = value["t"]
    return found | ({"groups": {"t": {"f1,none": mean}}} if mean is not None else {})


def test_the_tasks_of_an_entry_are_groups_only_where_they_are_one_score():
    """Ten tasks of a tag, each a score of its own, have intervals over their items as nine do."""
    task = EvaluateConfig(harness_tasks=("t",)).harness_tasks[0]
    for number in (9, 10):
        apart = harness._parts(task, of_tasks(number))
        assert [(scored.task, {line.group for line in lines}) for scored, lines in apart] == [
            (f"t{place}", {""}) for place in range(number)
        ]
    [(whole, lines)] = harness._parts(task, of_tasks(10, mean=25 / 40))
    assert (whole.task, len({line.group for line in lines})) == ("t", 10)
    [(_, few)] = harness._parts(task, of_tasks(9, mean=22 / 36))
    assert {line.group for line in few} == {""}


def test_of_several_filters_the_first_counts():
    task = EvaluateConfig(harness_tasks=("t",)).harness_tasks[0]
    results = results_of([0.0, 1.0], 0.5)
    results["samples"]["t"] += [{**one, "filter": "flexible", "f1": 1.0} for one in results["samples"]["t"]]
    [(_, lines)] = harness._parts(task, results)
    assert [line.accuracy for line in lines] == [0.0, 1.0]


@pytest.mark.parametrize(("seed", "others"), [(1234, 0), (7, 7)])
def test_the_seeds_are_those_of_lm_evals_command_line(model, tokenizer, tmp_path, monkeypatch, seed, others):
    asked = {}
    monkeypatch.setattr(harness.lm_eval, "simple_evaluate", lambda **settings: asked.update(settings) or {})
    config = EvaluateConfig(harness_tasks=("piqa",), harness_seed=seed)
    harness._run(packed_lm(model, tokenizer, prefix=0, config=config), config.harness_tasks[0], config)
    names = ("random_seed", "numpy_random_seed", "torch_random_seed", "fewshot_random_seed")
    assert [asked[name] for name in names] == [others, seed, seed, seed]
