"""Texts as a kind of study: what is compared, and what is said of the data."""

import numpy as np
import pytest

from models.evaluation.metrics import average
from models.networks.word_encoders import LstmSettings
from models.training.text_training import TextTrainingSettings
from tasks.data.texts import SentimentData
from tasks.engine.kind import Finished, Unit
from tasks.engine.plan import Plan
from tasks.text.kind import TextKind, mean_score_name
from tasks.text.plan import TextPlanSettings, plan_texts
from tests.sentences import LEAKED, write_sentences
from tests.tasks.fake_text_study import fake_text_study

N, SEEDS, TASKS = 60, (0, 1, 2), ("MR", "SST")


@pytest.fixture(scope="module")
def kind(tmp_path_factory: pytest.TempPathFactory) -> TextKind:
    folder = write_sentences(tmp_path_factory.mktemp("texts") / "sentences")
    return TextKind(SentimentData(folder=folder, tasks=("mr", "sst", "cr")))


def targets(task: str) -> np.ndarray:
    return np.random.default_rng(TASKS.index(task)).integers(2, size=N)


def arm(seed: int, tasks: tuple[str, ...]) -> Finished:
    """An arm with random predictions, which differ between arms with one and with several tasks."""
    predictions = {}
    for task in tasks:
        rng = np.random.default_rng([seed, TASKS.index(task), len(tasks)])
        predictions[f"test/{task}"] = rng.dirichlet((1, 1), size=N)
        predictions[f"targets/{task}"] = targets(task)
        predictions[f"sentences/{task}"] = TASKS.index(task) * N + np.arange(N, dtype=np.uint64)
    return Finished(fake_text_study().arms[0], predictions)


def test_a_difference_is_the_mean_over_the_tasks_of_the_methods_arms(kind: TextKind) -> None:
    units: dict[str, Unit] = {
        "both": {seed: ([arm(seed, TASKS)], [arm(seed, (task,)) for task in reversed(TASKS)]) for seed in SEEDS},
        "the second": {seed: ([arm(seed, TASKS[1:])], [arm(seed, TASKS)]) for seed in SEEDS},
    }

    def score(arms: list[Finished], task: str) -> float:
        (predictions,) = (each.predictions[f"test/{task}"] for each in arms if f"test/{task}" in each.predictions)
        return average(("accuracy",), targets(task), predictions)

    found = kind.differences(units)
    for name, tasks in (("both", TASKS), ("the second", TASKS[1:])):
        by_hand = [
            np.mean([score(method, task) - score(baseline, task) for task in tasks])
            for method, baseline in units[name].values()
        ]
        differences = found[name]
        assert not isinstance(differences, str)
        assert differences.seeds == list(SEEDS)
        assert differences.deltas == pytest.approx(by_hand)
        assert differences.influence.shape == (2 * N, len(SEEDS))


def test_nothing_finished_is_no_difference(kind: TextKind) -> None:
    assert kind.differences({}) == {}


@pytest.mark.parametrize(
    ("metrics", "name"),
    [
        ([("accuracy",)], "accuracy"),
        ([("matthews",), ("matthews",)], "matthews"),
        ([("matthews",), ("accuracy",)], "GLUE score"),
        ([("accuracy", "f1"), ("accuracy", "f1")], "GLUE score"),
    ],
)
def test_the_mean_score_is_named_for_the_metric_if_all_tasks_have_the_same(
    metrics: list[tuple[str, ...]], name: str
) -> None:
    assert mean_score_name(metrics) == name


def test_a_kind_is_named_for_its_benchmark(kind: TextKind) -> None:
    assert (kind.command, kind.metric) == ("sentiment", "accuracy")


def test_the_data_are_those_of_the_single_tasks(kind: TextKind) -> None:
    data = kind.data()
    assert data.labels == ("MR", "SST", "CR")
    assert data.n == {part: sum(task.n[part] for task in data.tasks) for part in ("train", "val", "test")}
    assert {task.name: sum(task.n.values()) for task in data.tasks} == {"MR": 160 + LEAKED, "SST": 190, "CR": 160}
    assert [task.skipped for task in data.tasks] == [0, 0, 1]
    assert all(0 < data.positives[part][task.name] < task.n[part] for part in data.positives for task in data.tasks)


def test_the_notes_name_what_a_group_changes_in_the_data_of_a_task(kind: TextKind) -> None:
    settings = TextPlanSettings(
        encoder=LstmSettings(), align="free", training=TextTrainingSettings(), max_length=50, leave_overlap=True
    )

    def notes(experiment: str) -> list[str]:
        plan: Plan = plan_texts.fn(kind.texts, (experiment,), settings, range(2), "cpu", 1)
        return list(kind.notes(plan, []))

    assert notes("singles") == []
    (note,) = [note for note in notes("pairs") if note.startswith("MR, in a group with SST: ")]
    assert "sentences left out" in note
    assert all("CR, in a group" not in note for note in notes("pairs"))
