"""Candidates, champions and what MLflow keeps of them; the models' predictions are made up, and nothing is trained."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pytest
from mlflow.tracking import MlflowClient

from data_prep.errors import DataError
from data_prep.labels.splits import SplitSettings
from data_prep.labels.table import LabelTable
from data_prep.store.store import Pixels, Store
from models.errors import SettingError
from models.evaluation.leakage import hashed_patients
from tasks.arms import mlflow_runs
from tasks.data.ingest import StoreRef
from tasks.data.open_split import open_split
from tasks.images import championship, promotion
from tasks.images.gate import GateSettings
from tasks.images.model_facts import MODEL_FACTS
from tasks.images.model_registry import CHALLENGER, CHAMPION, find_version, register_model
from tasks.images.promotion import Candidate, EvaluationRecord, evaluate_models, score_champion
from tasks.images.spec import ANEW
from tests.data_prep.store.written import write_store

pytestmark = pytest.mark.slow

N, SIZE, LABELS = 300, 4, ("Mass", "Nodule")
SPLIT, NAME = SplitSettings(seed=1, shares=(0.2, 0.4, 0.4)), "a model"
AUTOMATIC, MANUAL = GateSettings(), GateSettings(approve="manual")


@pytest.fixture
def ref(tmp_path: Path) -> StoreRef:
    """A store of 300 images of 150 patients; the first pixel of an image is its row."""
    images = np.array([f"{row:03}.png" for row in range(N)])
    pixels = np.repeat((np.arange(N) % 256).astype(np.uint8), SIZE * SIZE).reshape(N, SIZE, SIZE)
    pixels[:, 0, 0] = np.arange(N) // 256
    table = LabelTable(
        images=images,
        patients=np.array([f"key{row // 2}" for row in range(N)]),
        labels=LABELS,
        targets=np.random.default_rng(0).integers(0, 2, (N, 2)).astype(np.int8),
        views=np.full(N, ""),
        layout="columns",
        sha256="0" * 64,
    )
    store = write_store(tmp_path / "store", table, pixels, {"population": "here"})
    return StoreRef(name="made up", path=store.path, fingerprint=store.fingerprint, reused=False)


class MadeUp:
    """Predicts the labels of a store's images, more or less well; counts the images that it predicts."""

    def __init__(self, store: Store, skill: float, seed: int) -> None:
        noise = np.random.default_rng(seed).normal(size=(N, 2))
        self.answers, self.rows = (skill * store.targets + noise).astype(np.float32), list[int]()

    def predict(self, pixels: np.ndarray) -> np.ndarray:
        rows = pixels[:, 0, 1, 1].astype(int) + 256 * pixels[:, 0, 0, 0].astype(int)
        self.rows += rows.tolist()
        return self.answers[rows]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One home, and so one MLflow database, for all tests of the file: to make one takes seconds."""
    return tmp_path_factory.mktemp("home")


@pytest.fixture
def trained(ref: StoreRef, home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., str]]:
    """Makes finished MLflow runs with a model of a skill, and returns their ids."""
    monkeypatch.setenv("MEDMTL_HOME", str(home))
    store, parts = open_split(ref, SPLIT)
    experiment, programs = mlflow_runs.connect(), {}
    monkeypatch.setattr(promotion._Model, "_load", lambda model: programs[model.run_id])

    def make(skill: float, rows: Any = parts.train) -> str:
        tags = {mlflow_runs.ARM_TAG: f"{len(programs):016}"}
        run_id = mlflow_runs.create_run(experiment, f"arm {len(programs)}", tags, {})
        programs[run_id] = MadeUp(store, skill, len(programs))
        with mlflow_runs.active_run(run_id):
            mlflow.initialize_logged_model(name="model", source_run_id=run_id)
            patients = hashed_patients(store.population, store.patients[rows])
            mlflow.log_dict({"labels": LABELS, "size": SIZE, "trained_on": patients}, MODEL_FACTS)
        return run_id

    make.programs = programs  # type: ignore[attr-defined]
    yield make
    for known in MlflowClient().search_registered_models():
        MlflowClient().delete_registered_model(known.name)


def evaluated(ref: StoreRef, run_id: str | None, rule: GateSettings = AUTOMATIC, **more: Any) -> EvaluationRecord:
    return evaluate_models.fn(NAME, ref, SPLIT, rule, Candidate(run_id) if run_id else None, **more)


def aliases() -> tuple[str | None, str | None]:
    """The versions of the champion and of the challenger."""
    found = (find_version(NAME, role) for role in (CHAMPION, CHALLENGER))
    return tuple(version and str(version.version) for version in found)  # type: ignore[return-value]


def versions() -> int:
    return len(MlflowClient().search_model_versions(""))


def tags_of(number: str) -> dict[str, str]:
    return dict(MlflowClient().get_model_version(championship.registered_name(NAME), number).tags)


def test_a_candidate_is_registered_only_if_it_passes_and_again_it_is_the_same(
    ref: StoreRef, trained: Any, caplog: pytest.LogCaptureFixture
) -> None:
    _, parts = open_split(ref, SPLIT)
    assert score_champion.fn(NAME, ref) is None
    assert championship.champion_start(NAME) == ANEW

    chance = trained(0.0)
    refused = evaluated(ref, chance)
    assert (refused.verdict.decision, versions()) == ("refused", 0)
    assert refused.models[0].version is None
    tags = MlflowClient().get_run(chance).data.tags
    assert (tags["medmtl.decision"], tags["medmtl.promotion"]) == ("refused", refused.verdict.reason)

    first = trained(1.0)
    results = [evaluated(ref, first) for _ in range(2)]
    assert results[0] == results[1]
    assert (results[0].verdict.decision, aliases(), versions()) == ("promoted", ("1", None), 1)
    assert results[0].verdict.reason.endswith("there was no champion")

    better = trained(3.0)
    scores = score_champion.fn(NAME, ref)
    for _ in range(2):
        found = evaluated(ref, better, champion=scores)
        assert (found.verdict.decision, aliases(), versions()) == ("promoted", ("2", None), 2)
        assert "compared with version 1" in found.verdict.reason
    assert tags_of("2")["medmtl.champions_before"] == "1"
    assert championship.champion_start(NAME).arm.hash == MlflowClient().get_run(better).data.tags["medmtl.arm"]  # type: ignore[union-attr]

    worse = trained(1.0)
    alarmed = trained(9.0)
    assert evaluated(ref, worse).verdict.decision == "refused"
    blocked = evaluated(ref, alarmed, alarms=["the grey levels differ"])
    assert (blocked.verdict.decision, aliases(), versions()) == ("refused", ("2", None), 2)
    assert blocked.verdict.reason == "refused: drift alarms: the grey levels differ; wanted: none"
    test = set(parts.test.tolist())
    for run_id in (chance, worse, alarmed):  # the test part is not read for what is refused
        assert not test & set(trained.programs[run_id].rows)
    assert test <= set(trained.programs[better].rows)
    assert [sorted(model.scores) for model in found.models] == [["val"], ["test", "val"]]


def test_a_promotion_and_a_wait_are_notified_once_each_and_only_within_a_flow_run(
    ref: StoreRef, trained: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    events: list[Any] = []
    monkeypatch.setattr(
        "tasks.runtime.notify.emit_event", lambda *event, **more: events.append((*event, more["payload"]))
    )
    evaluated(ref, trained(1.0))
    assert events == []
    second, third = Candidate(trained(2.5), "2026-11-26"), Candidate(trained(5.0), "2026-11-27")
    refused = Candidate(trained(0.0))
    monkeypatch.setenv("PREFECT__RUNTIME__FLOW_RUN__ID", "a flow run")
    for candidate, rule in ((second, AUTOMATIC), (refused, AUTOMATIC), (third, MANUAL)):
        evaluate_models.fn(NAME, ref, SPLIT, rule, candidate)
    names, resources, payloads = zip(*events, strict=True)
    assert names == ("medmtl.model.promoted", "medmtl.model.waiting")
    resource = {"prefect.resource.id": "medmtl.model.a model", "prefect.resource.name": NAME}
    assert resources == (resource, resource)
    assert [payload["night"] for payload in payloads] == ["2026-11-26", "2026-11-27"]
    assert payloads[0]["summary"].startswith("a model version 2: promoted: mean validation AUC over 2 of 2 labels is +")
    assert payloads[1]["summary"].startswith("a model version 3: waiting for approval: mean validation AUC ")


def test_a_night_predicts_no_image_twice_with_the_champion_and_none_of_its_training_patients(
    ref: StoreRef, trained: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, parts = open_split(ref, SPLIT)
    first = trained(1.0)
    evaluated(ref, first)
    trained.programs[first].rows.clear()
    scores = score_champion.fn(NAME, ref)
    assert scores is not None
    assert (scores.version, scores.run_id, scores.labels) == ("1", first, LABELS)
    unseen = np.sort(np.concatenate([parts.val, parts.test]))
    assert np.array_equal(np.flatnonzero(~np.isnan(scores.probabilities).any(1)), unseen)
    assert sorted(trained.programs[first].rows) == unseen.tolist()
    assert np.array_equal(scores.probabilities[unseen], trained.programs[first].answers[unseen])

    second = trained(3.0)
    alone = evaluated(ref, second, MANUAL)
    trained.programs[first].rows.clear()
    assert evaluated(ref, second, MANUAL, champion=scores) == alone
    assert trained.programs[first].rows == []

    with pytest.raises(SettingError, match="patients the model was trained on"):
        evaluated(ref, trained(3.0, rows=np.arange(N)))
    before = Pixels.__getitem__
    monkeypatch.setattr(Pixels, "__getitem__", lambda self, rows: before(self, rows) if len(rows) <= 256 else 1 / 0)
    score_champion.fn(NAME, ref)  # not all images are in memory at once


def test_what_passes_waits_for_approval_and_is_promoted_and_rolled_back_by_hand(
    ref: StoreRef, trained: Any, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tasks.runtime.progress.LOGGER.propagate", True)
    caplog.set_level("INFO", "medmtl")
    with pytest.raises(DataError, match="no registered model 'a model'"):
        championship.promote(NAME)
    with pytest.raises(DataError, match="has no champion"):
        championship.roll_back(NAME)
    runs = [trained(skill) for skill in (1.0, 2.5, 5.0)]
    for run_id in runs[:1] * 2:
        assert evaluated(ref, run_id, MANUAL).verdict.decision == "waiting"
        assert (aliases(), versions()) == ((None, "1"), 1)
    assert championship.promote(NAME) == "a model version 1 is the champion now; there was none before"
    assert aliases() == ("1", None)
    assert evaluated(ref, runs[0], MANUAL).verdict.decision == "waiting"  # again, after the approval
    assert aliases() == ("1", None)
    with pytest.raises(DataError, match="no version of a model waits for approval"):
        championship.promote(NAME)

    for run_id in runs[1:]:
        assert evaluated(ref, run_id, MANUAL).verdict.decision == "waiting"
    assert (aliases(), versions()) == (("1", "3"), 3)
    assert "version 2, which waited for approval, is no longer the challenger" in caplog.text
    assert championship.promote(NAME, "2") == "a model version 2 is the champion now; version 1 was before"
    with pytest.raises(DataError, match=r"compared with champion 1, and the champion is 2 now.*--version 3"):
        championship.promote(NAME)
    assert championship.promote(NAME, "3") == "a model version 3 is the champion now; version 2 was before"
    assert championship.promote(NAME, "3").endswith("is the champion already; nothing changed")
    assert championship.promote(NAME, "1") == "a model version 1 is the champion now; version 3 was before"
    for now, before in (("3", "1"), ("2", "3"), ("1", "2")):
        line = f"a model version {now} is the champion again; version {before} was before"
        assert championship.roll_back(NAME) == line
        assert aliases() == (now, None)
    with pytest.raises(DataError, match="no champion before it is known"):
        championship.roll_back(NAME)
    history = [value for key, value in sorted(tags_of("1").items()) if key.startswith("medmtl.history.")]
    assert history == [
        "champion, by medmtl promote",
        "champion, by medmtl promote",
        "no longer champion, by medmtl rollback to version 3",
        "champion again, by medmtl rollback from version 2",
    ]


def test_what_was_refused_or_never_evaluated_is_promoted_only_by_its_number_and_that_is_said(
    ref: StoreRef, trained: Any, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tasks.runtime.progress.LOGGER.propagate", True)
    caplog.set_level("INFO", "medmtl")
    register_model.fn(trained(0.0), NAME)
    with pytest.raises(DataError, match=r"version 1 was never evaluated: .*--version 1"):
        championship.promote(NAME)
    register_model.fn(trained(0.0), NAME)
    assert "version 1, which was never evaluated, is no longer the challenger" in caplog.text
    assert championship.promote(NAME, "1").startswith(
        "a model version 1 is the champion now, though it was never evaluated"
    )
    results = evaluated(ref, None)
    assert results.verdict.decision == "refused"
    assert [sorted(model.scores) for model in results.models] == [["test", "val"]] * 2
    with pytest.raises(DataError, match=r"version 2 does not wait .refused: .*--version 2"):
        championship.promote(NAME)
    assert "though the gate refused it; version 1 was before" in championship.promote(NAME, "2")
    assert aliases() == ("2", None)
    with pytest.raises(DataError, match="has no version '3'"):
        championship.promote(NAME, "3")
    assert evaluated(ref, None).verdict.decision == "no_challenger"

    MlflowClient().delete_model_version(championship.registered_name(NAME), "1")
    with pytest.raises(DataError, match="no champion before it is known"):
        championship.roll_back(NAME)
    assert "version 1 is passed over" in caplog.text
