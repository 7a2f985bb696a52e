"""Evaluation for the model registry: score challenger and champion on the same patients, promote by the gate's rule.

Both models are scored on the validation patients, on whom neither was trained. The test part does not affect the
decision. It is scored afterwards: of a candidate, once it is promoted; of models that are registered, always.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
from mlflow.entities.model_registry import ModelVersion
from mlflow.tracking import MlflowClient
from numpy.typing import NDArray
from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.runtime import flow_run
from pydantic import Field

from data_prep.errors import DataError
from data_prep.labels.splits import Split, SplitSettings
from data_prep.store.store import Store
from models.evaluation.auc import score
from models.evaluation.leakage import check_disjoint, hashed_patients
from tasks.arms import mlflow_runs
from tasks.arms.outages import outlasts_outages
from tasks.data.ingest import StoreRef
from tasks.data.open_split import open_split, open_store
from tasks.images.championship import (
    COMPARED_TAG,
    LONGEST_TAG,
    NO_CHAMPION,
    champions_before,
    make_champion,
    no_such_model,
    numbered_version,
)
from tasks.images.exported_program import Program, load_program
from tasks.images.gate import NO_CHALLENGER, Evidence, GateSettings, Predicted, Verdict, gather, judge
from tasks.images.model_facts import read_facts
from tasks.images.model_registry import (
    CHALLENGER,
    CHAMPION,
    DECISION_TAG,
    REASON_TAG,
    find_version,
    model_of,
    register_model,
    registered_name,
)
from tasks.records.base import Record
from tasks.records.scores import MeanRecord, ScoreRecord, score_records
from tasks.runtime.notify import notify
from tasks.runtime.progress import LOGGER, progress

_BATCH_SIZE = 256  # images


class ModelRecord(Record):
    """A model and its scores."""

    version: str | None = Field(description="in MLflow's registry; null if it is not registered")
    run_id: str = Field(description="MLflow run of its training")
    role: Literal["champion", "challenger"]
    scores: dict[str, dict[str, ScoreRecord]] = Field(description="part of the split that was scored -> label -> AUC")
    mean: dict[str, MeanRecord] = Field(description="part of the split that was scored -> mean AUC")


class EvaluationRecord(Record):
    """A comparison of a challenger with the champion, and the verdict."""

    data: str = Field(description="'sha256:...' of the store")
    split: str = Field(description="'sha256:...' of the split")
    models: tuple[ModelRecord, ...]
    delta: float | None = Field(
        None, description="challenger minus champion, mean validation AUC over the labels that count"
    )
    lo: float | None = None
    hi: float | None = None
    verdict: Verdict


class EvaluationResults(EvaluationRecord):
    """The contents of an evaluation's results.json."""

    schema_: Literal["medmtl/evaluation/2"] = Field("medmtl/evaluation/2", serialization_alias="schema")
    config: dict[str, Any]
    model_name: str


@dataclass(frozen=True)
class Candidate:
    """A challenger that is not registered yet.

    Attributes:
        run_id: MLflow run of a finished arm, with its model.
        night: date of the night that trained it, for the notification.
    """

    run_id: str
    night: str = ""


@dataclass(frozen=True)
class ChampionScores:
    """The champion's predictions on all images of a store whose patients it was not trained on.

    Attributes:
        version: of the champion.
        run_id: of its training.
        labels: k names, in the order of the outputs.
        probabilities: (n, k) float32 in [0, 1], a row per image of the store; NaN for its training patients.
    """

    version: str
    run_id: str
    labels: tuple[str, ...]
    probabilities: NDArray[np.float32]


@dataclass(frozen=True)
class _Model:
    """A model in MLflow with the facts logged with it; its program is loaded when it is first needed."""

    role: Literal["champion", "challenger"]
    version: str | None
    run_id: str
    uri: str
    labels: tuple[str, ...]
    size: int
    trained_on: frozenset[str]
    known: NDArray[np.float32] | None = None
    """(n, k) predictions on the whole store, made before."""
    _program: list[Program] = field(default_factory=list)

    @property
    def title(self) -> str:
        return f"{self.role} version {self.version}" if self.version else f"{self.role} of run {self.run_id[:8]}"

    def predict(self, store: Store, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """Predict the probabilities of the images at m rows: (m, k) float32."""
        if self.known is not None:
            return self.known[rows]
        predicted = np.empty((len(rows), len(self.labels)), np.float32)
        with progress(self.title) as update:
            for start in range(0, len(rows), _BATCH_SIZE):
                batch = slice(start, start + _BATCH_SIZE)
                predicted[batch] = self._load().predict(store.pixels[rows[batch]][:, None])
                update(min(start + _BATCH_SIZE, len(rows)), len(rows))
        return predicted

    def _load(self) -> Program:
        if not self._program:
            self._program.append(load_program(self.uri))
        return self._program[0]


@task(name="evaluate models", cache_policy=NO_CACHE)
def evaluate_models(
    name: str,
    ref: StoreRef,
    split: SplitSettings,
    rule: GateSettings,
    candidate: Candidate | None = None,
    alarms: Sequence[str] = (),
    champion: ChampionScores | None = None,
) -> EvaluationRecord:
    """Score the champion of `name` and a challenger, and promote the challenger if the rule allows it.

    The verdict is kept as tags. A candidate is registered only if it passes, and then is the champion, or the
    challenger that waits for approval. Called again with the same candidate, as after a kill, it comes to the same
    verdict and registers nothing twice.

    Args:
        name: of the model.
        ref: the images and labels.
        split: of the patients, the one with which the models were trained.
        rule: of the gate.
        candidate: the challenger; None: the version that has this alias in the registry.
        alarms: of a drift of the data, a few words each; any blocks.
        champion: what `score_champion` returned for these images, so that none is predicted twice.

    Raises:
        DataError: there is no such model, or the store lacks its labels or has images of another size.
        SettingError: a model was trained on patients on whom it would be scored.
    """
    if candidate is None:
        check_registered(name)
    mlflow_runs.connect()
    store, parts = open_split(ref, split)
    models = _models(name, candidate, champion)
    for model in models.values():
        _check_fits(model, store, parts)
    predicted = {role: model.predict(store, parts.val) for role, model in models.items()}
    evidence, verdict = None, NO_CHALLENGER
    if CHALLENGER in models:
        evidence = _evidence(models, predicted, store, parts, rule)
        verdict = judge(rule, evidence, alarms)
        models[CHALLENGER] = _settle(name, models[CHALLENGER], evidence, verdict, candidate)
    LOGGER.info("%s: %s", name, verdict.reason)
    tested = models.keys() if candidate is None else {CHALLENGER} if verdict.decision == "promoted" else ()
    records = tuple(_record(model, store, parts, predicted[role], role in tested) for role, model in models.items())
    difference = evidence and evidence.difference
    return EvaluationRecord(
        data=store.fingerprint,
        split=parts.fingerprint,
        models=records,
        delta=difference and difference.delta,
        lo=difference and difference.lo,
        hi=difference and difference.hi,
        verdict=verdict,
    )


@task(name="score champion", cache_policy=NO_CACHE)
def score_champion(name: str, ref: StoreRef) -> ChampionScores | None:
    """Predict with the champion all images of a store whose patients it was not trained on; None without a champion.

    Raises:
        DataError: the champion cannot be loaded, or does not fit the store.
    """
    mlflow_runs.connect()
    version = find_version(name, CHAMPION)
    if version is None:
        LOGGER.info("%s has no champion yet", name)
        return None
    model, store = _registered(name, CHAMPION, version), open_store(ref)
    _check_fits(model, store)
    keys, patients = np.unique(store.patients, return_inverse=True)
    strangers = np.array([hashed_patients(store.population, [key])[0] not in model.trained_on for key in keys])
    rows = np.flatnonzero(strangers[patients])
    probabilities = np.full((len(patients), len(model.labels)), np.nan, np.float32)
    probabilities[rows] = model.predict(store, rows)
    LOGGER.info(
        "%s version %s predicted %d of %d images; the others are of its training patients",
        name,
        model.version,
        len(rows),
        len(patients),
    )
    return ChampionScores(str(model.version), model.run_id, model.labels, probabilities)


def check_registered(name: str) -> None:
    """Check, before any image is decoded, that MLflow has a champion or a challenger of a name.

    Raises:
        DataError: it has none.
    """
    mlflow_runs.connect()
    if not any(find_version(name, role) for role in (CHAMPION, CHALLENGER)):
        raise DataError(no_such_model(name))


@outlasts_outages
def _models(name: str, candidate: Candidate | None, scores: ChampionScores | None) -> dict[str, _Model]:
    """Find the models by role, the champion first; of a candidate that is the champion already, the one before it."""
    champion, challenger = (find_version(name, role) for role in (CHAMPION, CHALLENGER))
    if candidate is not None and champion is not None and champion.run_id == candidate.run_id:
        before = champions_before(champion)
        champion = numbered_version(name, before[-1]) if before else None
    models = {}
    if champion is not None:
        models[CHAMPION] = _registered(name, CHAMPION, champion)
        if scores is not None and scores.version == models[CHAMPION].version:
            models[CHAMPION] = replace(models[CHAMPION], known=scores.probabilities)
    if candidate is not None:
        models[CHALLENGER] = _model(CHALLENGER, None, candidate.run_id, f"models:/{model_of(candidate.run_id)}")
    elif challenger is not None:
        models[CHALLENGER] = _registered(name, CHALLENGER, challenger)
    return models


def _registered(name: str, role: Literal["champion", "challenger"], version: ModelVersion) -> _Model:
    number = str(version.version)
    return _model(role, number, version.run_id, f"models:/{registered_name(name)}/{number}")


def _model(role: Literal["champion", "challenger"], version: str | None, run_id: str, uri: str) -> _Model:
    facts = read_facts(run_id)
    return _Model(role, version, run_id, uri, facts.labels, facts.size, frozenset(facts.trained_on))


def _check_fits(model: _Model, store: Store, split: Split | None = None) -> None:
    """Check that a store has a model's labels and size, and that no patient of validation and test trained it.

    Raises:
        DataError: the store lacks a label of the model, or has images of another size.
        SettingError: the model was trained on one of the patients.
    """
    missing = sorted(set(model.labels) - set(store.labels))
    if missing or model.size != store.size:
        problem = f"it takes images of {model.size} px, the store's have {store.size} px"
        if missing:
            problem = f"the store has no label {missing[0]!r}"
        raise DataError(
            f"the {model.title} does not fit these data: {problem}; "
            f"give data with the model's {len(model.labels)} labels at {model.size} px"
        )
    for rows in (split.val, split.test) if split else ():
        check_disjoint(model.trained_on, hashed_patients(store.population, store.patients[rows]))


def _evidence(
    models: Mapping[str, _Model],
    predicted: Mapping[str, NDArray[np.float32]],
    store: Store,
    split: Split,
    rule: GateSettings,
) -> Evidence:
    """Measure the challenger on the validation patients, and compare it with the champion if there is one."""
    of_role = {role: Predicted(model.labels, predicted[role]) for role, model in models.items()}
    labels = {label for model in models.values() for label in model.labels}
    targets = {label: store.targets[split.val, store.labels.index(label)] for label in labels}
    return gather(
        targets,
        store.patients[split.val],
        of_role[CHALLENGER],
        of_role.get(CHAMPION),
        version=models[CHAMPION].version if CHAMPION in models else None,
        least_patients=rule.least_patients,
    )


@outlasts_outages
def _settle(name: str, challenger: _Model, evidence: Evidence, verdict: Verdict, candidate: Candidate | None) -> _Model:
    """Do in MLflow what the verdict says, keep it as tags, and notify; return the challenger with its version."""
    client, registered = MlflowClient(), registered_name(name)
    tags = {
        REASON_TAG: verdict.reason[:LONGEST_TAG],
        DECISION_TAG: verdict.decision,
        COMPARED_TAG: evidence.champion or NO_CHAMPION,
    }
    if candidate is not None:
        for key, value in tags.items():
            client.set_tag(candidate.run_id, key, value)
        if not verdict.passes:
            return challenger
        challenger = replace(challenger, version=register_model.fn(candidate.run_id, name))
    for key, value in tags.items():
        client.set_model_version_tag(registered, str(challenger.version), key, value)
    if verdict.decision == "promoted":
        version = client.get_model_version(registered, str(challenger.version))
        make_champion(name, version, f"medmtl {flow_run.flow_name or 'evaluate'}: {verdict.reason}")
    elif verdict.decision == "waiting":
        champion = find_version(name, CHAMPION)
        if champion is None or str(champion.version) != challenger.version:  # it may have been approved meanwhile
            client.set_registered_model_alias(registered, CHALLENGER, str(challenger.version))
    if verdict.passes:
        summary = f"{name} version {challenger.version}: {verdict.reason}"
        notify(f"medmtl.model.{verdict.decision}", name, candidate.night if candidate else "", summary)
    return challenger


def _record(model: _Model, store: Store, split: Split, predicted: NDArray[np.float32], tested: bool) -> ModelRecord:
    """Score a model by its predictions on the validation part, and on the test part too if it is `tested`."""
    columns = [store.labels.index(label) for label in model.labels]
    parts = {"val": predicted} | ({"test": model.predict(store, split.test)} if tested else {})
    scores, means = {}, {}
    for part, probabilities in parts.items():
        rows = getattr(split, part)
        evaluation = score(store.targets[rows][:, columns], probabilities, store.patients[rows], model.labels)
        scores[part], means[part] = score_records(evaluation)
    return ModelRecord(version=model.version, run_id=model.run_id, role=model.role, scores=scores, mean=means)
