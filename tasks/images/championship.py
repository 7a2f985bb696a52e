"""Which version of a model is the champion: how one becomes it, how the one before is made it again, and their history.

The champion is an alias in MLflow's registry. Tags of the versions hold the rest:

    medmtl.champions_before   on a version that was made the champion: the champions before it, "1,3", the last one last
    medmtl.history.TIME       what happened to the version at a time (UTC), by which command, and why
    medmtl.decision           what the gate decided: promoted, waiting or refused; with its reason in medmtl.promotion
    medmtl.compared_with      the champion with which the gate compared the version, or "none"
"""

from datetime import UTC, datetime

import mlflow
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from data_prep.errors import DataError, did_you_mean
from tasks.arms import mlflow_runs
from tasks.arms.base import Source
from tasks.arms.outages import outlasts_outages
from tasks.images.model_facts import MODEL_FACTS
from tasks.images.model_registry import (
    CHALLENGER,
    CHAMPION,
    DECISION_TAG,
    REASON_TAG,
    find_version,
    registered_name,
)
from tasks.images.spec import ANEW, Start
from tasks.runtime.part_errors import is_away
from tasks.runtime.progress import LOGGER

COMPARED_TAG, BEFORE_TAG = "medmtl.compared_with", "medmtl.champions_before"
HISTORY_TAG = "medmtl.history."  # begins the keys of a version's history; the time follows, see HISTORY_TIME
HISTORY_TIME = "%Y-%m-%dT%H-%M-%S.%fZ"
NO_CHAMPION = "none"
LONGEST_TAG = 5000  # characters that MLflow keeps of a tag of a version

_REMEMBERED = 500  # earlier champions


def make_champion(name: str, version: ModelVersion, why: str) -> None:
    """Make a version the champion, which remembers the champions before it; nothing changes if it is the champion.

    Args:
        name: of the model.
        version: of it.
        why: and by which command, for the history.
    """
    champion, registered, client = find_version(name, CHAMPION), registered_name(name), MlflowClient()
    number = str(version.version)
    if champion is None or str(champion.version) != number:
        before = [*champions_before(champion), str(champion.version)] if champion else []
        client.set_model_version_tag(registered, number, BEFORE_TAG, ",".join(before[-_REMEMBERED:]))
        _note(name, number, f"champion, by {why}")
        client.set_registered_model_alias(registered, CHAMPION, number)  # last: until then nothing has changed
    challenger = find_version(name, CHALLENGER)
    if challenger is not None and str(challenger.version) == number:
        client.delete_registered_model_alias(registered, CHALLENGER)


def champions_before(version: ModelVersion) -> list[str]:
    """Return the versions that were champions before this one, the last one last."""
    return [each for each in version.tags.get(BEFORE_TAG, "").split(",") if each]


def promote(name: str, number: str | None = None) -> str:
    """Make the version that waits for approval the champion, or the version named, whatever the gate said of it.

    Returns:
        What changed, in one line.

    Raises:
        DataError: there is no such version, its model is not in MLflow, or none waits for approval.
    """
    mlflow_runs.connect()
    version = _waiting(name) if number is None else numbered_version(name, number)
    champion = find_version(name, CHAMPION)
    if champion is not None and champion.version == version.version:
        return f"{name} version {version.version} is the champion already; nothing changed"
    _check_usable(name, version)
    decision = version.tags.get(DECISION_TAG)
    judged = {
        None: ", though it was never evaluated",
        "refused": ", though the gate refused it",
    }.get(decision, "")
    make_champion(name, version, f"medmtl promote{judged}")
    before = f"; version {champion.version} was before" if champion else "; there was none before"
    return f"{name} version {version.version} is the champion now{judged}{before}"


def roll_back(name: str) -> str:
    """Make the version that was the champion before the champion again; called again, the one before that.

    Returns:
        What changed, in one line.

    Raises:
        DataError: there is no champion, or none before it that still exists.
    """
    mlflow_runs.connect()
    champion, client, registered = find_version(name, CHAMPION), MlflowClient(), registered_name(name)
    if champion is None:
        raise DataError(f"{name} has no champion, so none can be rolled back; medmtl promote makes one")
    before = champions_before(champion)
    while before:
        number = before.pop()
        try:
            version = numbered_version(name, number)
            _check_usable(name, version)
        except DataError as error:
            LOGGER.info("version %s is passed over: %s", number, error)
            continue
        client.set_model_version_tag(registered, number, BEFORE_TAG, ",".join(before))
        _note(name, number, f"champion again, by medmtl rollback from version {champion.version}")
        _note(name, str(champion.version), f"no longer champion, by medmtl rollback to version {number}")
        client.set_registered_model_alias(registered, CHAMPION, number)
        return f"{name} version {number} is the champion again; version {champion.version} was before"
    raise DataError(
        f"{name} version {champion.version} is the champion, and no champion before it is known that still exists: "
        "name a version with medmtl promote --version"
    )


def champion_version(name: str) -> str | None:
    """Return the version of the champion; None if there is none."""
    champion = find_version(name, CHAMPION)
    return None if champion is None else str(champion.version)


@outlasts_outages
def champion_start(name: str) -> Start:
    """Return the start from the champion's network, or `ANEW` if there is no champion.

    Raises:
        DataError: medmtl did not train the champion.
    """
    mlflow_runs.connect()
    champion = find_version(name, CHAMPION)
    if champion is None:
        LOGGER.info("%s has no champion to start from: the network starts anew", name)
        return ANEW
    try:
        tags = MlflowClient().get_run(champion.run_id).data.tags
    except MlflowException as error:
        if is_away(error):
            raise
        raise DataError(_not_ours(name, champion)) from error
    if mlflow_runs.ARM_TAG not in tags:
        raise DataError(_not_ours(name, champion))
    return Start(arm=Source(hash=tags[mlflow_runs.ARM_TAG], run_id=champion.run_id))


def no_such_model(name: str) -> str:
    """Return why a model has neither a champion nor a challenger."""
    known = [model.name for model in MlflowClient().search_registered_models()]
    if registered_name(name) in known:
        return (
            f"{name} has neither a {CHAMPION} nor a {CHALLENGER}: set one of these aliases in MLflow, or train a model"
        )
    return f"MLflow has no registered model {name!r}{did_you_mean(name, known)}; medmtl train registers one"


def _not_ours(name: str, version: ModelVersion) -> str:
    return (
        f"{name} version {version.version} has no run of medmtl in MLflow, so no network can start from it: "
        "start anew, or promote another version"
    )


def _waiting(name: str) -> ModelVersion:
    """Return the version that waits for approval, if the gate's decision still holds."""
    version, champion = find_version(name, CHALLENGER), find_version(name, CHAMPION)
    if version is None:
        if champion is None:
            raise DataError(no_such_model(name))
        raise DataError(f"no version of {name} waits for approval: name one with --version")
    anyway = f"evaluate it, or name it with --version {version.version} to promote it anyway"
    decision = version.tags.get(DECISION_TAG)
    if decision is None:
        raise DataError(f"{name} version {version.version} was never evaluated: {anyway}")
    if decision != "waiting":
        raise DataError(f"{name} version {version.version} does not wait ({version.tags.get(REASON_TAG)}): {anyway}")
    compared, now = version.tags.get(COMPARED_TAG), str(champion.version) if champion else NO_CHAMPION
    if compared != now:
        raise DataError(
            f"{name} version {version.version} was compared with champion {compared}, and the champion is {now} now: "
            f"{anyway}"
        )
    return version


def numbered_version(name: str, number: str) -> ModelVersion:
    """Return a version of the model `name`.

    Raises:
        DataError: there is no such version.
    """
    try:
        return MlflowClient().get_model_version(registered_name(name), number)
    except MlflowException as error:
        if error.error_code not in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            raise
        raise DataError(f"{name} has no version {number!r}; MLflow's page of the model lists them all") from error


def _check_usable(name: str, version: ModelVersion) -> None:
    """Check that MLflow has what belongs to a version, before it becomes the champion."""
    try:
        mlflow.artifacts.load_dict(f"runs:/{version.run_id}/{MODEL_FACTS}")
    except (MlflowException, OSError) as error:
        if is_away(error):
            raise
        why = str(error).partition("\n")[0]
        raise DataError(
            f"the files of {name} version {version.version} are not in MLflow ({why}): promote another version"
        ) from error


def _note(name: str, number: str, what: str) -> None:
    """Note in the history of a version what happened to it."""
    key = f"{HISTORY_TAG}{datetime.now(UTC).strftime(HISTORY_TIME)}"
    MlflowClient().set_model_version_tag(registered_name(name), number, key, what[:LONGEST_TAG])
