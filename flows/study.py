"""The robustness study: does a task weighting make training more robust to label noise?

Methods x conditions x seeds are trained on the same images and split; every method of a seed sees the same
noise. Selection looks at validation, the test set is scored once at the end of each arm, and methods are compared
with the baseline on the same test patients.
"""

from pathlib import Path

from prefect import flow
from pydantic import Field, field_validator

from data_prep.protocols import AllProtocol, ProtocolSettings
from flows.experiment import ExperimentSettings, run_experiment
from models.weighting import ScalarizationSettings, SvdSettings, UniformSettings, WeightingSettings
from tasks.logged_model import best_arm, register_model
from tasks.output import claim_output


class StudySettings(ExperimentSettings):
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
def study(settings: StudySettings = StudySettings(), out: Path | None = None, force: bool = False) -> Path:
    """Run a study; returns the path of its report. Finished arms are reused, unfinished ones go on."""
    folder = claim_output(out, "study", settings, force)
    title = f"study · {settings.describe(settings.methods, settings.protocol.name)} · {settings.seeds} seeds"
    report, arms = run_experiment(
        settings, folder, title, settings.methods, settings.protocol, settings.seeds, settings.baseline
    )
    if settings.model_name:
        register_model(best_arm([arm.run_id for arm in arms]), settings.model_name)
    return report
