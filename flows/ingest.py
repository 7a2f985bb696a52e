"""The ingest flow: decode the images of a source (phantom, folder, archives) with their labels into a store."""

import time
from pathlib import Path

from pydantic import Field

from data_prep.labels.patients import CHESTXRAY14
from data_prep.sources.medmnist import CHESTMNIST
from flows.settings import FlowSettings
from tasks.data.ingest import (
    PHANTOM,
    DataSettings,
    StoreRef,
    check_images,
    decode_archives,
    decode_chestmnist,
    decode_images,
    render_phantom,
)
from tasks.data.ingest_report import report_ingest
from tasks.runtime.pipeline import pipeline
from tasks.runtime.run_folder import prepare_run_folder


class IngestSettings(FlowSettings):
    """Settings of an ingest: the data."""

    data: DataSettings = Field(DataSettings(), description="images and labels")

    @property
    def title(self) -> str:
        """See the base class."""
        return f"ingest · {self.data.name} {self.data.size} px"


@pipeline("ingest")
def ingest(settings: IngestSettings = IngestSettings(), out: Path | None = None, force: bool = False) -> StoreRef:
    """Build the store of a source, unless it is there already, and report on it in `out`; return the store."""
    begun = time.monotonic()
    folder = prepare_run_folder(out, "ingest", settings, force)
    store = prepare_store(settings.data)
    checks = check_images(store, settings.data.expected_images)
    report_ingest(store, checks, settings.model_dump(mode="json"), time.monotonic() - begun, folder)
    return store


def prepare_store(data: DataSettings) -> StoreRef:
    """Build the store of a source, unless it is there already: the first step of every image flow."""
    if data.source == CHESTXRAY14:
        return decode_archives(data)
    if data.source == CHESTMNIST:
        return decode_chestmnist(data)
    folder = render_phantom(data.phantom) if data.source == PHANTOM else Path(data.source)
    return decode_images(data, folder)
