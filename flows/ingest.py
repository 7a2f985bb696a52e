"""Ingest: from a source of images and labels to a store, each image decoded once."""

from pathlib import Path

from prefect import flow
from pydantic import BaseModel, ConfigDict, Field

from tasks.ingest import PHANTOM, DataSettings, StoreRef, decode_images, render_phantom, write_summary
from tasks.output import claim_output


class IngestSettings(BaseModel):
    """What to ingest."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    data: DataSettings = Field(DataSettings(), description="images and labels")


@flow(name="ingest")
def ingest(settings: IngestSettings = IngestSettings(), out: Path | None = None, force: bool = False) -> StoreRef:
    """Build the store of a source, or find it built; a summary goes to `out`."""
    folder = claim_output(out, "ingest", settings, force)
    store = take_data(settings.data)
    write_summary(store, settings.model_dump(mode="json"), folder)
    return store


def take_data(data: DataSettings) -> StoreRef:
    """The store of the data, whatever their source; the first steps of every flow on images."""
    folder = render_phantom(data.phantom) if data.source == PHANTOM else Path(data.source)
    return decode_images(data, folder)
