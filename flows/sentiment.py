"""Sentiment: do six tasks on sentences help one another, and does aligning them help?

Wu, Zhang, Ré (ICLR 2020), section 3: every pair of tasks with and without covariance alignment, transfer from one task
to the others, and the capacity of the shared module, against the tasks alone.
"""

from pathlib import Path
from typing import Annotated, Any, Literal

from prefect import flow
from pydantic import Field, field_validator

from flows.text_study import TextStudySettings, run_text_study
from models.networks.word_encoders import CnnSettings, LstmSettings, MlpSettings
from models.training.text_training import TextTrainingSettings
from tasks.data.pretrained import prepare_vectors
from tasks.data.texts import SentimentData, prepare_texts
from tasks.runtime.run_folder import prepare_run_folder
from tasks.text.plan import TextMethod

WordEncoder = Annotated[LstmSettings | CnnSettings | MlpSettings, Field(discriminator="kind")]


class SentimentSettings(TextStudySettings):
    """Which experiment, on what sentences, with which encoder."""

    experiment: Literal["singles", "pairs", "together", "transfer", "capacity"] = Field(
        "pairs",
        description="singles: each task alone; pairs: every two together, aligned and not; together: all of them; "
        "transfer: from one task to each other; capacity: together and alone, over widths of the shared encoder",
    )
    data: SentimentData = Field(SentimentData(), description="the sentences")
    encoder: WordEncoder = Field(LstmSettings(), description="the shared encoder: lstm, cnn or mlp")
    vectors: Path | None = Field(
        None,
        description="file of word vectors (GloVe's text file, or its zip) of the encoder's dimension; "
        "none: random, and trained",
    )
    max_length: int = Field(256, ge=1, le=4096, description="words of a sentence that are read")
    training: TextTrainingSettings = Field(TextTrainingSettings(epochs=6), description="how it is trained")
    source: str = Field("sst", description="the task that transfer begins with")
    fine_tuning_epochs: int = Field(6, ge=1, description="epochs on the target, in transfer")
    widths: tuple[int, ...] = Field(
        (5, 10, 25, 50, 100, 250, 500), min_length=1, description="of the shared encoder, in the capacity curve"
    )
    leave_overlap: bool = Field(
        True,
        description="train pairs that share sentences (MR, SST, SUBJ) once more with those left in, to show what a "
        "leak is worth; they are not counted among the pairs",
    )

    @field_validator("encoder", mode="before")
    @classmethod
    def _named(cls, encoder: Any) -> Any:
        """A name alone will do."""
        return {"kind": encoder} if isinstance(encoder, str) else encoder


@flow(name="sentiment")
def sentiment(settings: SentimentSettings = SentimentSettings(), out: Path | None = None, force: bool = False) -> Path:
    """Run an experiment; returns the path of its report. Finished arms are reused, unfinished ones go on."""
    folder = prepare_run_folder(out, "sentiment", settings, force)
    data = prepare_texts(settings.data)
    dimensions = settings.encoder.dimension
    how = TextMethod(
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
    )
    limit = f" · at most {data.limit} sentences" if data.limit else ""
    title = f"sentiment · {settings.experiment} · {settings.encoder.kind}{limit} · {settings.seeds} seeds"
    return run_text_study(settings, data, [settings.experiment], how, title, folder)
