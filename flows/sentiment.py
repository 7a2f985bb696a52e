"""The sentiment flow: multi-task against single-task networks on six sentence tasks, with covariance alignment or not.

Wu, Zhang, Ré (ICLR 2020), section 3: each pair of tasks with and without covariance alignment, transfer from one task
to the others, and the capacity of the shared module, compared with single-task networks.
"""

from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from data_prep.settings import named_once
from flows.text_study import TextStudySettings, run_text_study
from models.augmentation.policies import NO_POLICY
from models.augmentation.word_replacement import TextPolicySettings
from models.networks.word_encoders import CnnSettings, LstmSettings, MlpSettings
from models.training.text_training import TextTrainingSettings
from tasks.data.pretrained import prepare_vectors
from tasks.data.texts import SentimentData, prepare_texts
from tasks.runtime.pipeline import pipeline
from tasks.runtime.run_folder import prepare_run_folder
from tasks.text.plan import TextPlanSettings, check_tasks

WordEncoder = Annotated[LstmSettings | CnnSettings | MlpSettings, Field(discriminator="kind")]


class SentimentSettings(TextStudySettings):
    """Settings of a sentiment study: the comparison, the tasks, the encoder, the training."""

    experiment: Literal["singles", "pairs", "together", "transfer", "capacity"] = Field(
        "pairs",
        description="the comparison; singles: a network for each task; pairs: a network for each pair of tasks, with "
        "and without alignment; together: one network for all tasks; transfer: train on the source task, then "
        "fine-tune on each other task; capacity: one network for all tasks and single-task networks, over several "
        "widths of the encoder",
    )
    data: SentimentData = Field(SentimentData(), description="the sentences")
    encoder: WordEncoder = Field(LstmSettings(), description="the shared encoder: lstm, cnn or mlp")
    vectors: Path | None = Field(
        None,
        description="file of pretrained word vectors of the encoder's dimension (GloVe's text file, or its zip), or "
        "glove.6B or glove.840B to download that release of GloVe (0.9 or 2.2 GB); none: word vectors start at random "
        "and are trained",
    )
    max_length: int = Field(256, ge=1, le=4096, description="words that are read of a sentence; the rest is cut off")
    training: TextTrainingSettings = Field(TextTrainingSettings(epochs=6), description="how each network is trained")
    policies: tuple[TextPolicySettings, ...] = Field(
        (NO_POLICY,),
        min_length=1,
        max_length=100,
        description="augmentation policies of the training sentences; every network is trained under each, and the "
        "others are compared with none if it is among them, otherwise with the first",
    )
    floor: bool = Field(
        False,
        description="also train the networks of the policy that the others are compared with on as many other seeds "
        "(A/A): differences of this size are noise",
    )
    source: str = Field("sst", description="the source task, for transfer")
    fine_tuning_epochs: int = Field(
        6, ge=1, le=100_000, description="epochs of fine-tuning on the target task, for transfer"
    )
    widths: tuple[Annotated[int, Field(ge=1, le=65_536)], ...] = Field(
        (5, 10, 25, 50, 100, 250, 500),
        min_length=1,
        max_length=100,
        description="widths of the shared encoder, for capacity",
    )
    leave_overlap: bool = Field(
        True,
        description="train pairs that share sentences (MR, SST, SUBJ) once more without removing these from training, "
        "to measure the effect of the leak; these extra networks do not count among the pairs",
    )

    @field_validator("encoder", mode="before")
    @classmethod
    def _named(cls, encoder: Any) -> Any:
        """Accept the name of an encoder instead of its settings."""
        return {"kind": encoder} if isinstance(encoder, str) else encoder

    @field_validator("policies")
    @classmethod
    def _check_unique(cls, policies: tuple[TextPolicySettings, ...]) -> tuple[TextPolicySettings, ...]:
        return named_once(policies)

    @model_validator(mode="after")
    def _tasks_are_enough(self) -> Self:
        check_tasks([self.experiment], self.data.tasks, self.source)
        return self

    @property
    def title(self) -> str:
        """See the base class."""
        limit = f" · at most {self.data.limit} sentences" if self.data.limit else ""
        policies = "" if self.policies == (NO_POLICY,) else f" · {len(self.policies)} policies"
        return f"sentiment · {self.experiment} · {self.encoder.kind}{limit}{policies} · {self.seeds} seeds"


@pipeline("sentiment")
def sentiment(settings: SentimentSettings = SentimentSettings(), out: Path | None = None, force: bool = False) -> Path:
    """Run a sentiment study and return its report's path. Finished arms are reused, unfinished ones are resumed."""
    folder = prepare_run_folder(out, "sentiment", settings, force)
    settings.check_before_download()
    data = prepare_texts(settings.data)
    dimensions = settings.encoder.dimension
    plan_settings = TextPlanSettings(
        encoder=settings.encoder,
        align=settings.align,
        training=settings.training,
        fine_tuning_epochs=settings.fine_tuning_epochs,
        max_length=settings.max_length,
        vectors=settings.vectors and prepare_vectors(settings.vectors, dimensions, data),
        source=settings.source,
        widths=settings.widths,
        leave_overlap=settings.leave_overlap,
        control=settings.control,
        policies=settings.policies,
        floor=settings.floor,
    )
    return run_text_study(settings, data, [settings.experiment], plan_settings, folder)
