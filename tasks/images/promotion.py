"""Which registered model serves: a challenger takes the champion's place when validation patients say it may.

Both are scored on the same patients of the validation part, whom neither was trained on. The test part is scored too
and reported; it decides nothing.
"""

import tempfile
from dataclasses import dataclass
from typing import Any, Literal

import mlflow
import numpy as np
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient
from prefect import task
from prefect.cache_policies import NO_CACHE
from pydantic import Field

from data_prep.errors import DataError, did_you_mean
from data_prep.labels.splits import Split, SplitSettings, make_split
from data_prep.store.store import Store
from models.evaluation.auc import score
from models.evaluation.leakage import check_disjoint, hashed_patients
from models.evaluation.paired import Comparison, Unit, compare
from tasks.arms import mlflow_runs
from tasks.data.ingest import StoreRef
from tasks.images.model_registry import CHALLENGER, CHAMPION, FACTS
from tasks.records.study import MeanRecord, Record, ScoreRecord, scores_of
from tasks.runtime.progress import LOGGER, progress
from tasks.runtime.settings import Settings

_BATCH = 256  # images a model is given at a time


class PromotionSettings(Settings):
    """When a challenger becomes champion."""

    rule: Literal["better", "not_worse", "never"] = Field(
        "better",
        description="better: the whole 95 % interval of the difference in mean validation AUC lies above 0; "
        "not_worse: above minus the margin; never: only report",
    )
    margin: float = Field(0.01, ge=0, le=1, description="loss of mean AUC that not_worse puts up with")


class ModelRecord(Record):
    """A registered model, scored."""

    version: str
    role: str = Field(description="champion or challenger")
    scores: dict[str, dict[str, ScoreRecord]] = Field(description="part of the split -> label -> AUC")
    mean: dict[str, MeanRecord] = Field(description="part of the split -> mean AUC")


class EvaluationResults(Record):
    """All of results.json of an evaluation."""

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
class _Registered:
    """A version in the registry, and what it says of itself."""

    version: str
    role: str
    labels: tuple[str, ...]
    size: int
    trained_on: tuple[str, ...]
    predict: Any

    def scores(self, pixels: np.ndarray) -> np.ndarray:
        """(n, s, s) uint8 -> (n, k) float32 probabilities."""
        parts = []
        with progress(f"{self.role}, version {self.version}") as update:
            for start in range(0, len(pixels), _BATCH):
                parts.append(np.asarray(self.predict(pixels[start : start + _BATCH, None])))
                update(min(start + _BATCH, len(pixels)), len(pixels))
        return np.concatenate(parts)


@task(name="evaluate models", cache_policy=NO_CACHE)
def evaluate_models(
    name: str, ref: StoreRef, split: SplitSettings, rule: PromotionSettings, config: dict[str, Any]
) -> EvaluationResults:
    """Score the registered champion and challenger of `name`, and promote the challenger if the rule allows.

    The reason is kept as a tag of the challenger's version.

    Raises:
        DataError: there is no such model, or its labels or size are not the store's.
        SettingError: a model was trained on patients to be scored.
    """
    mlflow_runs.connect()
    client = MlflowClient()
    store = Store.open(ref.path)
    found = make_split(split, store.images, store.patients)
    models = [model for role in (CHAMPION, CHALLENGER) if (model := _registered(client, name, role)) is not None]
    if not models:
        raise DataError(_no_such_model(client, name))
    scored = {model.role: _score(model, store, found) for model in models}
    difference = _difference(scored, store, found) if len(models) == 2 else None
    promoted, reason = _decide(rule, difference, tuple(scored))
    if promoted:
        version = next(model.version for model in models if model.role == CHALLENGER)
        client.set_registered_model_alias(name, CHAMPION, version)
        client.delete_registered_model_alias(name, CHALLENGER)
    for model in models:
        if model.role == CHALLENGER:
            client.set_model_version_tag(name, model.version, "medmtl.promotion", reason)
    LOGGER.info("%s: %s", name, reason)
    return EvaluationResults(
        config=config, model_name=name, data=store.fingerprint, split=found.fingerprint,
        models=tuple(record for record, _ in scored.values()),
        delta=difference and difference.delta, lo=difference and difference.lo, hi=difference and difference.hi,
        promoted=promoted, reason=reason,
    )  # fmt: skip


def _registered(client: MlflowClient, name: str, role: str) -> _Registered | None:
    try:
        version = client.get_model_version_by_alias(name, role)
    except MlflowException as error:
        if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):  # no such model, no such alias
            return None
        raise
    try:
        with tempfile.TemporaryDirectory() as folder:
            facts = mlflow.artifacts.load_dict(f"runs:/{version.run_id}/{FACTS}")
            model = mlflow.pyfunc.load_model(f"models:/{name}/{version.version}", dst_path=folder)
    except (MlflowException, OSError) as error:
        raise DataError(f"{name} version {version.version} cannot be loaded ({error}): register it anew") from error
    return _Registered(
        str(version.version), role, tuple(facts["labels"]), facts["size"], tuple(facts["trained_on"]), model.predict
    )


def _no_such_model(client: MlflowClient, name: str) -> str:
    known = [model.name for model in client.search_registered_models()]
    if name in known:
        return f"{name} has neither a {CHAMPION} nor a {CHALLENGER}: set an alias in MLflow, or train one"
    return f"MLflow knows no model {name!r}{did_you_mean(name, known)}; medmtl train registers one"


def _score(model: _Registered, store: Store, split: Split) -> tuple[ModelRecord, dict[str, np.ndarray]]:
    """Scores by part, and the predictions on the validation part with the store's labels in the model's order."""
    missing = sorted(set(model.labels) - set(store.labels))
    if missing or model.size != store.size:
        what = f"label {missing[0]!r} is not among the store's" if missing else f"it takes images of {model.size} px"
        raise DataError(f"{model.role} version {model.version} does not fit these data: {what} (size {store.size})")
    columns = [store.labels.index(label) for label in model.labels]
    scores, means, predictions = {}, {}, {}
    for part in ("val", "test"):
        rows = getattr(split, part)
        patients = store.patients[rows]
        check_disjoint(model.trained_on, hashed_patients(store.population, patients))
        predictions[part] = model.scores(store.pixels[rows])
        evaluation = score(store.targets[rows][:, columns], predictions[part], patients, model.labels, seed=0)
        scores[part], means[part] = scores_of(evaluation)
    return ModelRecord(version=model.version, role=model.role, scores=scores, mean=means), predictions


def _difference(scored: dict[str, tuple[ModelRecord, dict[str, np.ndarray]]], store: Store, split: Split) -> Comparison:
    """Challenger minus champion on validation patients, over the labels that both have."""
    (champion, of_champion), (challenger, of_challenger) = scored[CHAMPION], scored[CHALLENGER]
    mine, others = list(challenger.scores["val"]), list(champion.scores["val"])
    common = [label for label in mine if label in others]
    if not common:
        raise DataError("champion and challenger have no label in common: they cannot be compared")
    targets = store.targets[split.val][:, [store.labels.index(label) for label in common]]
    pair = (
        predictions["val"][:, [labels.index(label) for label in common]]
        for predictions, labels in ((of_challenger, mine), (of_champion, others))
    )
    first, second = pair
    return compare({"validation": Unit(targets, {0: first}, {0: second})}, store.patients[split.val])


def _decide(rule: PromotionSettings, difference: Comparison | None, roles: tuple[str, ...]) -> tuple[bool, str]:
    if roles == (CHAMPION,):
        return False, "there is no challenger: the champion stays"
    if rule.rule == "never":
        return False, "not promoted: the rule is to report only"
    if difference is None:
        return True, "promoted: there was no champion"
    if difference.delta is None or difference.lo is None:
        return False, f"not promoted: nothing can be said of the difference ({difference.reason})"
    least = 0.0 if rule.rule == "better" else -rule.margin
    said = (
        f"mean validation AUC {difference.delta:+.4f} [{difference.lo:+.4f}, {difference.hi:+.4f}] against the "
        f"champion; the rule {rule.rule!r} asks for an interval above {least:g}"
    )
    return difference.lo > least, f"{'promoted' if difference.lo > least else 'not promoted'}: {said}"
