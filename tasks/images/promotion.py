"""Promotion in the model registry: compare the challenger with the champion on validation patients.

Both models are scored on the same validation patients, on whom neither was trained. The test part is also scored and
reported, but does not affect the decision.
"""

import tempfile
from dataclasses import dataclass
from typing import Any, Literal

import mlflow
import numpy as np
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient
from prefect import task
from prefect.cache_policies import NO_CACHE
from pydantic import Field

from data_prep.errors import DataError, did_you_mean
from data_prep.labels.splits import Split, SplitSettings
from data_prep.store.store import Store
from models.evaluation.auc import score
from models.evaluation.leakage import check_disjoint, hashed_patients
from models.evaluation.paired import Comparison, Unit, auc_differences, compare_units
from tasks.arms import mlflow_runs
from tasks.data.ingest import StoreRef
from tasks.data.open_split import open_split
from tasks.images.model_registry import CHALLENGER, CHAMPION, MODEL_FACTS, registered_name
from tasks.records.base import Record
from tasks.records.scores import MeanRecord, ScoreRecord, score_records
from tasks.runtime.progress import LOGGER, progress
from tasks.runtime.settings import Settings

_BATCH_SIZE = 256  # images


class PromotionSettings(Settings):
    """The rule by which a challenger becomes the champion."""

    rule: Literal["better", "not_worse", "never"] = Field(
        "better",
        description="better: the whole 95 % interval of the difference in mean validation AUC lies above 0; "
        "not_worse: above minus the margin; never: only report",
    )
    margin: float = Field(0.01, ge=0, le=1, description="for not_worse: the loss of mean AUC that is accepted")


class ModelRecord(Record):
    """A registered model and its scores."""

    version: str
    role: str = Field(description="champion or challenger")
    scores: dict[str, dict[str, ScoreRecord]] = Field(description="part of the split -> label -> AUC")
    mean: dict[str, MeanRecord] = Field(description="part of the split -> mean AUC")


class EvaluationResults(Record):
    """The contents of an evaluation's results.json."""

    schema_: Literal["medmtl/evaluation/1"] = Field("medmtl/evaluation/1", serialization_alias="schema")
    config: dict[str, Any]
    model_name: str
    data: str = Field(description="'sha256:...' of the store")
    split: str = Field(description="'sha256:...' of the split")
    models: tuple[ModelRecord, ...]
    delta: float | None = Field(None, description="challenger minus champion, mean validation AUC")
    lo: float | None = None
    hi: float | None = None
    promoted: bool
    reason: str


@dataclass(frozen=True)
class _RegisteredModel:
    """A model version in the registry, loaded, with the facts logged with it."""

    version: str
    role: str
    labels: tuple[str, ...]
    size: int
    trained_on: tuple[str, ...]
    predict: Any

    def predict_all(self, pixels: np.ndarray) -> np.ndarray:
        """Predict probabilities: (n, s, s) uint8 -> (n, k) float32."""
        batches = []
        with progress(f"{self.role}, version {self.version}") as update:
            for start in range(0, len(pixels), _BATCH_SIZE):
                batches.append(np.asarray(self.predict(pixels[start : start + _BATCH_SIZE, None])))
                update(min(start + _BATCH_SIZE, len(pixels)), len(pixels))
        return np.concatenate(batches)


@task(name="evaluate models", cache_policy=NO_CACHE)
def evaluate_models(
    name: str, ref: StoreRef, split: SplitSettings, rule: PromotionSettings, config: dict[str, Any]
) -> EvaluationResults:
    """Score the registered champion and challenger of `name`, and promote the challenger if the rule allows it.

    Both are scored on the validation and test parts of the split. The reason is stored as a tag of the challenger's
    version. `config` holds the complete settings, for the results.

    Raises:
        DataError: there is no such model, or the store lacks its labels or has images of another size.
        SettingError: a model was trained on patients on whom it would be scored.
    """
    check_registered(name)
    client = MlflowClient()
    store, parts = open_split(ref, split)
    models = {role: model for role in (CHAMPION, CHALLENGER) if (model := _load_model(client, name, role))}
    scored = {role: _score(model, store, parts) for role, model in models.items()}
    difference = _difference(scored, store, parts) if len(models) == 2 else None
    promoted, reason = _decide(rule, difference, tuple(scored))
    if CHALLENGER in models:
        version, registered = models[CHALLENGER].version, registered_name(name)
        if promoted:
            client.set_registered_model_alias(registered, CHAMPION, version)
            client.delete_registered_model_alias(registered, CHALLENGER)
        client.set_model_version_tag(registered, version, "medmtl.promotion", reason)
    LOGGER.info("%s: %s", name, reason)
    return EvaluationResults(
        config=config,
        model_name=name,
        data=store.fingerprint,
        split=parts.fingerprint,
        models=tuple(record for record, _ in scored.values()),
        delta=difference and difference.delta,
        lo=difference and difference.lo,
        hi=difference and difference.hi,
        promoted=promoted,
        reason=reason,
    )


def check_registered(name: str) -> None:
    """Check, before any image is decoded, that MLflow has a champion or a challenger of a name.

    Raises:
        DataError: it has none.
    """
    mlflow_runs.connect()
    client = MlflowClient()
    if not any(_version(client, name, role) for role in (CHAMPION, CHALLENGER)):
        raise DataError(_no_such_model(client, name))


def _version(client: MlflowClient, name: str, role: str) -> ModelVersion | None:
    try:
        return client.get_model_version_by_alias(registered_name(name), role)
    except MlflowException as error:
        if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):  # no such model; no such alias
            return None
        raise


def _load_model(client: MlflowClient, name: str, role: str) -> _RegisteredModel | None:
    version = _version(client, name, role)
    if version is None:
        return None
    try:
        with tempfile.TemporaryDirectory() as folder:
            facts = mlflow.artifacts.load_dict(f"runs:/{version.run_id}/{MODEL_FACTS}")
            model = mlflow.pyfunc.load_model(f"models:/{registered_name(name)}/{version.version}", dst_path=folder)
    except (MlflowException, OSError) as error:
        raise DataError(f"{name} version {version.version} cannot be loaded ({error}): register it again") from error
    return _RegisteredModel(
        str(version.version), role, tuple(facts["labels"]), facts["size"], tuple(facts["trained_on"]), model.predict
    )


def _no_such_model(client: MlflowClient, name: str) -> str:
    known = [model.name for model in client.search_registered_models()]
    if registered_name(name) in known:
        return (
            f"{name} has neither a {CHAMPION} nor a {CHALLENGER}: set one of these aliases in MLflow, or train a model"
        )
    return f"MLflow has no registered model {name!r}{did_you_mean(name, known)}; medmtl train registers one"


def _score(model: _RegisteredModel, store: Store, split: Split) -> tuple[ModelRecord, dict[str, np.ndarray]]:
    """Score a model on validation and test patients.

    Returns:
        The scores, and the predictions by part with the labels in the model's order.

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
            f"{model.role} version {model.version} does not fit these data: {problem}; "
            f"give data with the model's {len(model.labels)} labels at {model.size} px"
        )
    columns = [store.labels.index(label) for label in model.labels]
    scores, means, predictions = {}, {}, {}
    for part in ("val", "test"):
        rows = getattr(split, part)
        patients = store.patients[rows]
        check_disjoint(model.trained_on, hashed_patients(store.population, patients))
        predictions[part] = model.predict_all(store.pixels[rows])
        evaluation = score(store.targets[rows][:, columns], predictions[part], patients, model.labels)
        scores[part], means[part] = score_records(evaluation)
    return ModelRecord(version=model.version, role=model.role, scores=scores, mean=means), predictions


def _difference(scored: dict[str, tuple[ModelRecord, dict[str, np.ndarray]]], store: Store, split: Split) -> Comparison:
    """Compare challenger minus champion on the validation patients, over the labels that both have."""
    champion_labels, challenger_labels = (list(scored[role][0].scores["val"]) for role in (CHAMPION, CHALLENGER))
    common = [label for label in challenger_labels if label in champion_labels]
    if not common:
        raise DataError(
            f"champion and challenger have no label in common, so they cannot be compared: {champion_labels} and "
            f"{challenger_labels}; train a challenger with labels of the champion"
        )
    targets = store.targets[split.val][:, [store.labels.index(label) for label in common]]
    challenger, champion = (
        scored[role][1]["val"][:, [labels.index(label) for label in common]]
        for role, labels in ((CHALLENGER, challenger_labels), (CHAMPION, champion_labels))
    )
    unit = Unit(targets, {0: challenger}, {0: champion})
    return compare_units(auc_differences({"validation": unit}, store.patients[split.val]))


def _decide(rule: PromotionSettings, difference: Comparison | None, roles: tuple[str, ...]) -> tuple[bool, str]:
    """Return whether to promote the challenger, and the reason."""
    if roles == (CHAMPION,):
        return False, "not promoted: there is no challenger, the champion stays"
    if rule.rule == "never":
        return False, "not promoted: the rule is to report only"
    if difference is None:
        return True, "promoted: there was no champion"
    if difference.delta is None or difference.lo is None:
        return False, f"not promoted: the difference has no interval ({difference.reason})"
    threshold = 0.0 if rule.rule == "better" else -rule.margin
    promoted = difference.lo > threshold
    return promoted, (
        f"{'promoted' if promoted else 'not promoted'}: mean validation AUC {difference.delta:+.4f} "
        f"[{difference.lo:+.4f}, {difference.hi:+.4f}] compared with the champion; the rule {rule.rule!r} requires an "
        f"interval above {threshold:g}"
    )
