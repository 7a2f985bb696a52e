"""What would stop an arm after others had trained is told when the study is planned."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from data_prep.errors import DataError
from data_prep.labels.splits import SplitSettings
from flows.study import StudySettings
from models.errors import DivergenceError, SettingError
from models.training.image_training import fit
from tasks.data.ingest import StoreRef
from tasks.engine.plan import Plan
from tasks.images.inputs import load_image_inputs, start_weighting
from tasks.images.plan import MOST_ARMS, ImagePlanSettings, plan_images
from tasks.images.spec import ImageArm
from tests.tasks.small_store import SIZE, write_small_store


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> StoreRef:
    return write_small_store(tmp_path_factory.mktemp("small") / "store")


def planned(store: StoreRef, folder: Path, given: dict[str, Any]) -> Plan[ImageArm]:
    """Validate the settings of a study, and plan it."""
    study = StudySettings.model_validate({"seeds": 1, "floor": False, **given})
    of_plan = {name: getattr(study, name) for name in ("network", "training", "seed")}
    of_plan |= study.varied._asdict()
    of_plan["baseline"] = study.varied.baseline
    made = ImagePlanSettings(**of_plan, split=SplitSettings(seed=1), device="cpu", threads=1)
    return plan_images.fn(store, made, folder / "masks")


def train(arm: ImageArm) -> None:
    """Train an arm; the network of its source has random weights here."""
    inputs = load_image_inputs(arm)
    if arm.method.feature_source != "running":
        source = inputs.network if arm.method.feature_source == "finished" else None
        start_weighting(arm, inputs, source, lambda done, total: None)
    fit(*inputs.trained, arm.training, seed=arm.seed, policy=arm.policy, device="cpu")


RANKS = st.sampled_from([None, 1, 2, 3, "validation", "spectrum"])
ROWS = st.sampled_from([None, 5, 12, 1000, 0.5])
FEATURES = st.sampled_from(["finished", "running"])
METHODS = st.one_of(
    st.sampled_from(["uniform", "single_task", "oracle", "dwa", "famo", "rlw", "uncertainty", "pcgrad", "mgda", "krum",
                     "trimmed_mean", "cagrad", "nash_mtl", "upgrad"]).map(lambda kind: {"kind": kind}),
    st.fixed_dictionaries(
        {"kind": st.just("svd"), "rank": RANKS, "rows": ROWS, "features": FEATURES},
        optional={"refresh": st.lists(st.integers(0, 3), min_size=1, max_size=2)},
    ),
    st.fixed_dictionaries(
        {"kind": st.just("svd_dynamic"), "rank": RANKS, "rows": ROWS, "features": FEATURES},
        optional={"first": st.integers(1, 3), "by": st.sampled_from(["trust", "svd", "both"])},
    ),
    st.fixed_dictionaries({"kind": st.just("trust"), "rows": ROWS}),
)  # fmt: skip
POLICIES = st.one_of(
    st.sampled_from(["none", "simple", "randaugment", "trivialaugment"]).map(lambda kind: {"kind": kind}),
    st.builds(
        lambda kind, then: {"kind": kind, "then": then, "allow": ["cutout", "mixup"]},
        st.sampled_from(["composed", "uncertainty", "compute_matched"]),
        st.sampled_from(["nothing", "crop_and_flip", "paper"]),
    ),
)
CONTROLS = METHODS.map(lambda of: {"kind": "permuted_weights", "of": of})
STUDIES = st.fixed_dictionaries(
    {
        "methods": st.lists(METHODS | CONTROLS, min_size=1, max_size=2),
        "policies": st.lists(POLICIES, min_size=1, max_size=2),
        "training": st.fixed_dictionaries(
            {"epochs": st.integers(1, 3), "batch_size": st.sampled_from([1, 2, 20, 100])},
            optional={"micro_batch": st.sampled_from([1, 3, 50])},
        ),
        "network": st.sampled_from(["conv4", "test_vit", "test_resnet"]).map(lambda name: {"backbone": name}),
        "protocol": st.sampled_from(
            [
                {"kind": "all", "noise": [{"kind": "random", "rate": 0.2}]},
                {"kind": "pairs", "pairs": 1, "min_positives": 1},
            ]
        ),
    }
)


def a_planned_study_trains(store: StoreRef, folder: Path, study: dict[str, Any]) -> None:
    try:
        plan = planned(store, folder, study)
    except (DataError, SettingError, ValidationError):
        return
    for arm in plan.arms:
        try:
            train(arm)
        except DivergenceError:
            continue


@pytest.mark.slow
@settings(max_examples=25, suppress_health_check=list(HealthCheck))
@given(STUDIES)
def test_a_study_that_is_planned_can_be_trained(store: StoreRef, tmp_path: Path, study: dict[str, Any]) -> None:
    a_planned_study_trains(store, tmp_path, study)


@pytest.mark.long
@settings(max_examples=500, suppress_health_check=list(HealthCheck))
@given(STUDIES)
def test_many_studies_that_are_planned_can_be_trained(store: StoreRef, tmp_path: Path, study: dict[str, Any]) -> None:
    a_planned_study_trains(store, tmp_path, study)


UNKNOWN_LABEL = {"kind": "random", "rate": 0.1, "labels": ["Maas"]}
MANY_LEVELS = {"kind": "curve", "levels": [level / 100 for level in range(100)]}
RUNNING = [{"kind": "uniform"}, {"kind": "svd", "features": "running"}]
REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "a rank above the labels": ({"methods": [{"kind": "svd", "rank": 3}]}, "number of labels"),
    "too few labels": ({"methods": [{"kind": "uniform"}, {"kind": "krum"}]}, "needs at least 4 labels"),
    "too few epochs": ({"methods": RUNNING, "training": {"epochs": 1}}, "no epoch would use them"),
    "a cut batch": ({"methods": [{"kind": "dwa"}], "training": {"micro_batch": 4}}, "cannot be split"),
    "too few patients": ({"methods": [{"kind": "trust", "rows": 5}]}, "patients for each network"),
    "too few values": ({"network": {"backbone": "resnet18"}, "training": {"batch_size": 1}}, f"images of {SIZE} px"),
    "an unknown label": ({"protocol": {"kind": "all", "noise": [UNKNOWN_LABEL]}}, "did you mean Mass"),
    "a policy that destroys labels": (
        {"policies": [{"kind": "composed", "operations": "paper"}]},
        "air looks like bone",
    ),
    "too many arms": ({"seeds": 1000, "protocol": MANY_LEVELS}, f"{MOST_ARMS:,}"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_cannot_work_is_refused_before_a_mask_is_drawn(store: StoreRef, tmp_path: Path, what: str) -> None:
    study, said = REFUSED[what]
    with pytest.raises((DataError, SettingError, ValidationError), match=said):
        planned(store, tmp_path, study)
    assert not list(tmp_path.rglob("*.npz"))
