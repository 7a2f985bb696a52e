"""The challenger: the network that a night trains, and where its weights start."""

from typing import Literal

from mlflow.entities import RunTag
from mlflow.tracking import MlflowClient

from tasks.arms.outages import outlasts_outages
from tasks.arms.runner import RunnerSettings
from tasks.engine.plan import Plan
from tasks.engine.training import train_plan
from tasks.images.championship import champion_start
from tasks.images.kind import ImageKind
from tasks.images.spec import ANEW, ImageArm, Start
from tasks.nightly.records import ChallengerRecord

START_TAG = "medmtl.start"


@outlasts_outages
def start_of_night(run_id: str, model_name: str, start: Literal["anew", "champion"]) -> Start:
    """Return where the challenger's weights start; the same when a night is started again.

    It is remembered in the night's MLflow run: a night that was stopped after it promoted its challenger must not start
    another one from that.

    Args:
        run_id: of the night's MLflow run.
        model_name: of the series.
        start: what the settings say.
    """
    client = MlflowClient()
    if known := client.get_run(run_id).data.tags.get(START_TAG):
        return Start.model_validate_json(known)
    found = champion_start(model_name) if start == "champion" else ANEW
    client.log_batch(run_id, tags=[RunTag(START_TAG, found.model_dump_json())])
    return found


def train_challenger(kind: ImageKind, plan: Plan[ImageArm], run_id: str, runner: RunnerSettings) -> ChallengerRecord:
    """Train the last arm of a plan, after those whose networks it needs; one that finished before is reused.

    Args:
        kind: images.
        plan: of the night.
        run_id: of the night's MLflow run.
        runner: how many arms train at a time, and where.

    Raises:
        DivergenceError: a loss is not finite.
    """
    arm = plan.arms[-1]
    found = train_plan(kind, plan, run_id, runner).finished[arm.hash]
    start = "anew" if arm.start.arm is None else "champion"
    return ChallengerRecord(run_id=found.run_id, hash=arm.hash, start=start, reused=found.reused)
