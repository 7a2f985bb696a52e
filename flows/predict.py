"""The predict flow: probabilities of a registered model for files and folders of images, without labels."""

from pathlib import Path
from typing import Annotated

from pydantic import Field

from data_prep.errors import DataError
from data_prep.settings import MAX_PATH
from flows.settings import FlowSettings
from tasks.prediction.predict_files import predict_files
from tasks.prediction.registered import ModelReference
from tasks.runtime.pipeline import pipeline
from tasks.runtime.run_folder import prepare_run_folder


class PredictSettings(FlowSettings):
    """Settings of a prediction: the files, the model, and what is written."""

    files: tuple[Annotated[str, Field(min_length=1, max_length=MAX_PATH)], ...] = Field(
        (), max_length=100_000, description="images (PNG, JPEG, DICOM) and folders that are searched for images"
    )
    model: ModelReference = Field("medmtl@champion", description="the registered model, NAME@ALIAS or NAME/VERSION")
    page: bool = Field(False, description="write report.html too, with pictures")
    chest_radiographs: bool = Field(
        False, description="vouch that a DICOM file shows a chest radiograph where it does not say what it shows"
    )

    @property
    def title(self) -> str:
        """See the base class."""
        return f"predict · {self.model}"


@pipeline("predict")
def predict(settings: PredictSettings = PredictSettings(), out: Path | None = None, force: bool = False) -> Path:
    """Predict the images, and return the path of predictions.csv."""
    if not settings.files:
        raise DataError("no file is named: name files or folders of images")
    folder = prepare_run_folder(out, "predict", settings, force)
    config = settings.model_dump(mode="json")
    return predict_files(settings.files, settings.model, settings.chest_radiographs, settings.page, config, folder)
