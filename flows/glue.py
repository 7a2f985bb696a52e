"""The glue flow: multi-task against single-task networks with one pretrained encoder, with covariance alignment or not.

Wu, Zhang, Ré (ICLR 2020), section 3: CoLA, MRPC, QNLI, RTE and SST-2; each pair of them and all five in one network,
with and without alignment of the task embeddings, compared with single-task networks.
"""

from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator

from flows.text_study import TextStudySettings, run_text_study
from models.networks.pretrained_encoder import PretrainedSettings
from models.training.text_training import FINE_TUNING, TextTrainingSettings
from tasks.data.pretrained import prepare_encoder
from tasks.data.texts import GlueData, prepare_texts
from tasks.runtime.pipeline import pipeline
from tasks.runtime.run_folder import prepare_run_folder
from tasks.text.plan import Experiment, TextPlanSettings, check_tasks


class GlueSettings(TextStudySettings):
    """Settings of a GLUE study: the comparison, the tasks, the encoder, the training."""

    experiment: Literal["all", "singles", "pairs", "together"] = Field(
        "all",
        description="the comparison; singles: a network for each task; pairs: a network for each pair of tasks, with "
        "and without alignment; together: one network for all tasks; all: these three",
    )
    data: GlueData = Field(GlueData(), description="the tasks and their files")
    encoder: str = Field(
        "bert-large-uncased",
        min_length=1,
        description="the pretrained encoder: name of a Hugging Face model, or a folder with its config.json, "
        "tokenizer.json and model.safetensors",
    )
    shared: PretrainedSettings = Field(PretrainedSettings(), description="how the pretrained encoder is used")
    max_length: int = Field(
        128, ge=4, le=4096, description="subwords that are read of a sentence or sentence pair; the rest is cut off"
    )
    training: TextTrainingSettings = Field(FINE_TUNING, description="how each network is trained")

    @property
    def experiments(self) -> tuple[Experiment, ...]:
        """The comparisons that are run."""
        every: tuple[Experiment, ...] = ("singles", "pairs", "together")
        return every if self.experiment == "all" else (self.experiment,)

    @model_validator(mode="after")
    def _tasks_are_enough(self) -> Self:
        check_tasks(self.experiments, self.data.tasks)
        return self

    @property
    def title(self) -> str:
        """See the base class."""
        return f"glue · {self.experiment} · {Path(self.encoder).name} · {self.seeds} seeds"


@pipeline("glue")
def glue(settings: GlueSettings = GlueSettings(), out: Path | None = None, force: bool = False) -> Path:
    """Run a GLUE study and return its report's path. Finished arms are reused, unfinished ones are resumed."""
    folder = prepare_run_folder(out, "glue", settings, force)
    settings.check_before_download()
    data = prepare_texts(settings.data)
    encoder = prepare_encoder(settings.encoder)
    plan_settings = TextPlanSettings(
        encoder=settings.shared,
        align=settings.align,
        training=settings.training,
        max_length=settings.max_length,
        pretrained=encoder,
        control=settings.control,
    )
    return run_text_study(settings, data, settings.experiments, plan_settings, folder)
