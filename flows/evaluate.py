"""The evaluate flow: score the registered champion and challenger on validation and test patients, and promote."""

from pathlib import Path

from pydantic import Field

from data_prep.labels.splits import SplitSettings
from flows.ingest import prepare_store
from flows.settings import FlowSettings
from tasks.data.ingest import DataSettings
from tasks.images.evaluation_report import report_evaluation
from tasks.images.gate import GateSettings
from tasks.images.promotion import check_registered, evaluate_models
from tasks.runtime.pipeline import pipeline
from tasks.runtime.run_folder import prepare_run_folder
from tasks.runtime.settings import ModelName


class EvaluateSettings(FlowSettings):
    """Settings of an evaluation: the model, the data, and the rule of promotion."""

    data: DataSettings = Field(DataSettings(), description="images and labels")
    split: SplitSettings = Field(SplitSettings(), description="the split with which the models were trained")
    model_name: ModelName = Field("medmtl", description="name of the model in MLflow's registry")
    promotion: GateSettings = Field(GateSettings(), description="when the challenger becomes champion")

    @property
    def title(self) -> str:
        """See the base class."""
        return f"evaluate · {self.data.name} {self.data.size} px · {self.model_name}"


@pipeline("evaluate")
def evaluate(settings: EvaluateSettings = EvaluateSettings(), out: Path | None = None, force: bool = False) -> Path:
    """Score champion and challenger, promote the challenger if the rule allows; return the report's path."""
    folder = prepare_run_folder(out, "evaluate", settings, force)
    check_registered(settings.model_name)
    store = prepare_store(settings.data)
    found = evaluate_models(settings.model_name, store, settings.split, settings.promotion)
    return report_evaluation(found, settings.model_name, settings.model_dump(mode="json"), folder)
