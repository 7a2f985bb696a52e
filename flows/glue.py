"""GLUE: do tasks help one another in one pretrained encoder, and does aligning them help?

Wu, Zhang, Ré (ICLR 2020), section 3: CoLA, MRPC, QNLI, RTE and SST-2, every pair of them and all five together, with
and without alignment of the task embeddings, against the tasks alone.
"""

from pathlib import Path
from typing import Literal

from prefect import flow
from pydantic import Field

from flows.text_study import TextStudySettings, run_text_study
from models.networks.pretrained_encoder import PretrainedSettings
from models.training.text_training import FINE_TUNING, TextTrainingSettings
from tasks.data.pretrained import prepare_encoder
from tasks.data.texts import GlueData, prepare_texts
from tasks.runtime.run_folder import prepare_run_folder
from tasks.text.plan import Experiment, TextMethod


class GlueSettings(TextStudySettings):
    """Which experiment, on which of GLUE's tasks, with which encoder."""

    experiment: Literal["all", "singles", "pairs", "together"] = Field(
        "all",
        description="singles: each task alone; pairs: every two in one encoder, aligned and not; together: all of "
        "them; all: each of these",
    )
    data: GlueData = Field(GlueData(), description="the tasks")
    encoder: str = Field(
        "bert-large-uncased",
        min_length=1,
        description="an encoder on the Hugging Face hub, or a folder with its config.json, tokenizer.json and "
        "model.safetensors",
    )
    shared: PretrainedSettings = Field(PretrainedSettings(), description="what is done with the encoder")
    max_length: int = Field(128, ge=4, le=4096, description="subwords of a sentence, or pair, that are read")
    training: TextTrainingSettings = Field(FINE_TUNING, description="how it is trained")


@flow(name="glue")
def glue(settings: GlueSettings = GlueSettings(), out: Path | None = None, force: bool = False) -> Path:
    """Run an experiment; returns the path of its report. Finished arms are reused, unfinished ones go on."""
    folder = prepare_run_folder(out, "glue", settings, force)
    data = prepare_texts(settings.data)
    encoder = prepare_encoder(settings.encoder)
    how = TextMethod(
        encoder=settings.shared,
        align=settings.align,
        training=settings.training,
        max_length=settings.max_length,
        pretrained=encoder,
        control=settings.control,
    )
    experiments: tuple[Experiment, ...] = ("singles", "pairs", "together")
    chosen = experiments if settings.experiment == "all" else (settings.experiment,)
    title = f"glue · {settings.experiment} · {encoder.name} · {settings.seeds} seeds"
    return run_text_study(settings, data, chosen, how, title, folder)
