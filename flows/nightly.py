"""The nightly flow: what is new, whether it drifts, a challenger, the gate, and the pages of night and series."""

import time
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator

from data_prep.labels.splits import SplitSettings
from data_prep.noise.protocols import AllProtocol
from data_prep.noise.registry import NoNoise
from flows.image_study import ImageTrainingSettings, Varied, plan_on_store
from flows.ingest import prepare_store
from models.augmentation.policies import NO_POLICY, PolicySettings
from models.weighting.registry import UniformSettings, WeightingSettings
from tasks.arms.runner import RunnerSettings
from tasks.data.ingest import StoreRef, check_images
from tasks.images.gate import GateSettings
from tasks.images.plan import with_sources
from tasks.images.promotion import Candidate, evaluate_models, score_champion
from tasks.nightly.challenger import start_of_night, train_challenger
from tasks.nightly.drift import DriftSettings
from tasks.nightly.night import Judged, Night, champion_record, find_drift, make_results, note_arrivals
from tasks.nightly.night_run import night_run
from tasks.nightly.records import NightResults
from tasks.nightly.report import report_night
from tasks.nightly.series import earlier_nights, is_unchanged, reference_end
from tasks.records.data import CheckRecord
from tasks.runtime.pipeline import pipeline
from tasks.runtime.run_folder import point_latest, prepare_night_folder, scheduled_night
from tasks.runtime.settings import ModelName


class NightlySettings(ImageTrainingSettings):
    """Settings of the nightly pipeline: the data that grow, a training, drift, and the gate."""

    command = "nightly"

    split: SplitSettings = Field(
        SplitSettings(name="hashed"),
        description="split of the patients into train, validation and test; only `hashed` never moves a patient when "
        "others come",
    )
    method: WeightingSettings = Field(UniformSettings(), description="the task weighting")
    policy: PolicySettings = Field(
        NO_POLICY, description="how the training images are augmented; not given: the policy of the backbone's recipe"
    )
    runner: RunnerSettings = Field(RunnerSettings(arms_at_once=1), description="processor threads, and where to train")
    start: Literal["anew", "champion"] = Field(
        "anew", description="anew: the challenger starts from new weights; champion: from those of the champion"
    )
    drift: DriftSettings = Field(DriftSettings(), description="the tests for a drift of the new images")
    promotion: GateSettings = Field(GateSettings(), description="the rule by which a challenger becomes the champion")
    model_name: ModelName = Field("medmtl", description="name of the model in MLflow's registry, and of the series")
    night: date | None = Field(
        None, description="date of the night; none: the day for which the run was scheduled, or today"
    )

    @model_validator(mode="after")
    def _parts_go_together(self) -> Self:
        self.check_arms(with_sources([self.method]), [self.policy])
        if self.split.name == "random":
            raise ValueError(
                "split.name is random: one new patient moves others from training to validation; use hashed"
            )
        return self

    @property
    def title(self) -> str:
        """See the base class."""
        return f"nightly · {Varied((self.method,), (self.policy,), NO_NOISE).describe(self, self.model_name)}"


NO_NOISE = AllProtocol(noise=(NoNoise(),))


@pipeline("nightly")
def nightly(settings: NightlySettings = NightlySettings(), out: Path | None = None, force: bool = False) -> Path:
    """Run a night: take in what is new, look for drift, train a challenger, judge it, and report.

    A night whose images, labels and settings are those of the last one trains nothing. A night that was stopped goes
    on where it was. The pages of earlier nights stay; `latest` beside them is the newest night that has finished.
    They stand in `out`, the folder of the series, by default runs/nightly-NAME, after the model. With `force`, a night
    of the same date that was run with other settings is replaced. Returns the path of the night's report.
    """
    begun = time.monotonic()
    night = Night(settings.model_name, settings.night or scheduled_night() or date.today())
    settings = settings.model_copy(update={"night": night.date})
    folder = prepare_night_folder(out or Path("runs") / f"nightly-{night.series}", night.date, settings, force)
    settings.check_before_decoding(settings.data.size)
    store = prepare_store(settings.data)
    checks = check_images(store, settings.data.expected_images)
    arrivals = note_arrivals(night, store, settings.split)
    earlier = earlier_nights(folder.parent, night.date)
    config = settings.model_dump(mode="json")
    with night_run(night, settings.title, settings) as run_id:
        if is_unchanged(earlier, store.fingerprint, config):
            judged = Judged()
        else:
            judged = _judge(settings, night, store, checks, earlier, folder, run_id)
        results = make_results(night, config, begun, store, settings.split, checks, arrivals, judged)
        page = report_night(results, folder, run_id)
    point_latest(folder)
    return page


def _judge(
    settings: NightlySettings,
    night: Night,
    store: StoreRef,
    checks: tuple[CheckRecord, ...],
    earlier: Sequence[NightResults],
    folder: Path,
    run_id: str,
) -> Judged:
    """Look for drift, train a challenger, and let the gate decide."""
    champion = score_champion(night.series, store)
    until = reference_end(earlier, champion.version if champion else None)
    drift = find_drift(night, store, until, champion, settings.drift, tuple(each.night for each in earlier))
    varied = Varied(
        (settings.method,), (settings.policy,), NO_NOISE, start=start_of_night(run_id, night.series, settings.start)
    )
    kind, plan = plan_on_store(settings, store, checks, folder, varied)
    challenger = train_challenger(kind, plan, run_id, settings.runner)
    alarms = tuple(test.name for test in drift.alarms) if drift else ()
    evaluation = evaluate_models(
        night.series,
        store,
        settings.split,
        settings.promotion,
        Candidate(challenger.run_id, night.date.isoformat()),
        alarms,
        champion,
    )
    scored = champion_record(night, store, settings.split, champion)
    return Judged(drift, scored, challenger, evaluation)
