"""The robustness study: does a task weighting make training more robust to label noise?

Methods x noise conditions x seeds are trained on the same images and split; every method of a seed sees the same
noise. Selection looks at validation, the test set is scored once at the end of each arm, and methods are compared
with the baseline on the same test patients.
"""

from pathlib import Path

from prefect import flow
from pydantic import Field, model_validator

from data_prep.noise import NoiseSettings, NoNoise, RandomNoise
from flows.experiment import ExperimentSettings, run_experiment
from models.weighting import SvdSettings, UncertaintySettings, UniformSettings, WeightingSettings
from tasks.output import claim_output


class StudySettings(ExperimentSettings):
    """Which methods are compared, on what data, under what noise."""

    methods: tuple[WeightingSettings, ...] = Field(
        (UniformSettings(), SvdSettings(), UncertaintySettings()),
        min_length=1,
        description="task weightings; uniform is the baseline where it is among them, else the first",
    )
    noise: tuple[NoiseSettings, ...] = Field(
        (NoNoise(), RandomNoise(rate=0.2)), min_length=1, description="what happens to the training labels"
    )
    seeds: int = Field(2, ge=1, description="arms per method and noise, with seeds that count up from the first")

    @model_validator(mode="after")
    def _methods_and_noise_are_named_once(self) -> "StudySettings":
        for what in (self.methods, self.noise):
            names = [entry.name for entry in what]
            if twice := {name for name in names if names.count(name) > 1}:
                raise ValueError(f"{', '.join(sorted(twice))} stands twice among {', '.join(names)}; name each once")
        return self

    @property
    def baseline(self) -> str:
        """The method that the others are compared with."""
        names = [method.name for method in self.methods]
        return "uniform" if "uniform" in names else names[0]


@flow(name="study")
def study(settings: StudySettings = StudySettings(), out: Path | None = None, force: bool = False) -> Path:
    """Run a study; returns the path of its report. Finished arms are reused, unfinished ones go on."""
    folder = claim_output(out, "study", settings, force)
    title = f"study · {settings.describe(settings.methods, settings.noise)} · {settings.seeds} seeds"
    report, _ = run_experiment(
        settings, folder, title, settings.methods, settings.noise, settings.seeds, settings.baseline
    )
    return report
