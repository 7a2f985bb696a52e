"""The robustness study: does a task weighting make training more robust to label noise?

Methods x conditions x seeds are trained on the same images and split; every method of a seed sees the same
noise. Selection looks at validation, the test set is scored once at the end of each arm, and methods are compared
with the baseline on the same test patients.
"""

from pathlib import Path
from tempfile import TemporaryDirectory

from prefect import flow
from pydantic import Field, field_validator

from data_prep.noise.protocols import AllProtocol, ProtocolSettings
from flows.image_study import ImageStudySettings, plan_image_study, run_image_study
from models.weighting.registry import ScalarizationSettings, SvdSettings, UniformSettings, WeightingSettings
from tasks.images.dry_run import dry_run
from tasks.images.model_registry import best_arm, register_model
from tasks.runtime.run_folder import prepare_run_folder


class StudySettings(ImageStudySettings):
    """Which methods are compared, on what data, under what noise."""

    methods: tuple[WeightingSettings, ...] = Field(
        (UniformSettings(), SvdSettings(), ScalarizationSettings(kind="uncertainty")),
        min_length=1,
        description="task weightings; uniform is the baseline where it is among them, else the first",
    )
    protocol: ProtocolSettings = Field(
        AllProtocol(), description="which labels are trained together, and what happens to them"
    )
    model_name: str | None = Field(
        None, description="the arm with the highest validation AUC is registered under this name, as challenger"
    )
    seeds: int = Field(2, ge=1, description="arms per method and noise, with seeds that count up from the first")
    dry_run: bool = Field(
        False, description="list the arms, what is reused and how long the rest will take, and train nothing"
    )

    @field_validator("methods")
    @classmethod
    def _methods_are_named_once(cls, methods: tuple[WeightingSettings, ...]) -> tuple[WeightingSettings, ...]:
        names = [method.name for method in methods]
        if twice := {name for name in names if names.count(name) > 1}:
            raise ValueError(f"{', '.join(sorted(twice))} stands twice among {', '.join(names)}; name each once")
        return methods

    @property
    def baseline(self) -> str:
        """The method that the others are compared with."""
        names = [method.name for method in self.methods]
        return "uniform" if "uniform" in names else names[0]


@flow(name="study")
def study(settings: StudySettings = StudySettings(), out: Path | None = None, force: bool = False) -> Path | None:
    """Run a study; returns the path of its report. Finished arms are reused, unfinished ones go on.

    A dry run leaves nothing behind but the decoded images, and returns None.
    """
    if settings.dry_run:
        with TemporaryDirectory() as masks:
            _, _, arms, _ = plan_image_study(settings, Path(masks), settings.methods, settings.protocol, settings.seeds)
            dry_run(arms, settings.runner)
        return None
    folder = prepare_run_folder(out, "study", settings, force)
    title = f"study · {settings.describe(settings.methods, settings.protocol.name)} · {settings.seeds} seeds"
    report, done = run_image_study(
        settings, folder, title, settings.methods, settings.protocol, settings.seeds, settings.baseline
    )
    if settings.model_name:
        register_model(best_arm([arm.run_id for arm in done]), settings.model_name)
    return report
