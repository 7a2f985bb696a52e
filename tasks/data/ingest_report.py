"""The results of an ingest: results.json for programs, report.html for people."""

import json
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import numpy as np
from prefect import task
from prefect.cache_policies import NO_CACHE
from pydantic import Field

from data_prep.store.store import Store
from tasks.data.ingest import StoreRef
from tasks.records.base import Count, Record, write_results
from tasks.records.data import CheckRecord, StoreRecord
from tasks.reporting.log_report import markdown_table, show_report
from tasks.reporting.page import example_images, write_page
from tasks.runtime.run_folder import REPORT, RESULTS


class DecodedRecord(StoreRecord):
    """A store of decoded images, before any split."""

    path: str
    reused: bool = Field(description="the store was there already")
    decoded: Count = Field(0, description="number of images that were decoded for it, unreadable ones included")
    reused_images: Count = Field(0, description="number of images whose files had been decoded before")
    images: Count
    patients: Count
    positives: dict[str, Count] = Field(description="label -> number of positive images")
    unknown: dict[str, Count] = Field(description="label -> number of images whose label is unknown")
    megabytes: float = Field(description="size of the store's files, 10^6 bytes; shared pixels count in each store")


class IngestResults(Record):
    """The whole results.json of an ingest."""

    schema_: Literal["medmtl/ingest/1"] = Field("medmtl/ingest/1", serialization_alias="schema")
    config: dict[str, Any] = Field(description="the complete config; running it again finds the same store")
    version: str
    data: DecodedRecord
    seconds: float = Field(description="wall time of the whole ingest, seconds")


@task(name="write ingest report", cache_policy=NO_CACHE)
def report_ingest(
    ref: StoreRef, checks: tuple[CheckRecord, ...], config: dict[str, Any], seconds: float, folder: Path
) -> Path:
    """Write results.json and report.html of an ingest that took `seconds` into `folder`; return the report's path."""
    store = Store.open(ref.path)
    results = IngestResults(
        config=config, version=version("medmtl"), data=_store_record(ref, store, checks), seconds=seconds
    )
    write_results(results, folder / RESULTS)
    contents = {
        "data": results.data,
        "broken": [check for check in checks if check.result != "ok"],
        "seconds": seconds,
        "version": results.version,
        "config": json.dumps(config, indent=2, ensure_ascii=False),
    }
    page = write_page("ingest.html.j2", contents, example_images(store, np.arange(len(store.images))), folder / REPORT)
    show_report(page, _summary(results.data))
    return page


def _summary(data: DecodedRecord) -> str:
    """Return what was decoded, in Markdown."""
    size = f"{data.images} images of {data.patients} patients, {data.size} px"
    rows = [[label, str(data.positives[label]), str(data.unknown[label])] for label in data.positives]
    return f"## {size}\n\n{markdown_table(['label', 'positive images', 'unknown'], rows)}"


def _store_record(ref: StoreRef, store: Store, checks: tuple[CheckRecord, ...]) -> DecodedRecord:
    def count(value: int) -> dict[str, int]:
        return dict(zip(store.labels, (store.targets == value).sum(axis=0).tolist(), strict=True))

    return DecodedRecord.of(
        ref.name,
        store,
        checks,
        path=str(ref.path),
        reused=ref.reused,
        decoded=ref.decoded,
        reused_images=ref.reused_images,
        images=len(store.images),
        patients=len(np.unique(store.patients)),
        positives=count(1),
        unknown=count(-1),
        megabytes=sum(file.stat().st_size for file in ref.path.iterdir()) / 1e6,
    )
