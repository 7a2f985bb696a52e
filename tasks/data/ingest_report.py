"""What came of an ingest, for programs (results.json) and for people (report.html)."""

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
from tasks.records.study import CheckRecord, Count, Record, StoreRecord, write_results
from tasks.reporting.page import example_images, write_page
from tasks.runtime.progress import LOGGER
from tasks.runtime.run_folder import REPORT, RESULTS


class DecodedRecord(StoreRecord):
    """A store by itself, not yet split."""

    path: str
    reused: bool = Field(description="the store was there already")
    images: Count
    patients: Count
    positives: dict[str, Count] = Field(description="label -> images that have it")
    unknown: dict[str, Count] = Field(description="label -> images of which it is not known")
    megabytes: float = Field(description="of the store on disk, 10^6 bytes")


class IngestResults(Record):
    """All of results.json."""

    schema_: Literal["medmtl/ingest/1"] = Field("medmtl/ingest/1", serialization_alias="schema")
    config: dict[str, Any] = Field(description="the complete config; running it again finds the store")
    version: str
    data: DecodedRecord
    seconds: float = Field(description="wall time of the whole ingest")


@task(name="write ingest report", cache_policy=NO_CACHE)
def report_ingest(
    ref: StoreRef, checks: tuple[CheckRecord, ...], config: dict[str, Any], seconds: float, folder: Path
) -> Path:
    """Write results.json and report.html into `folder`; returns the page's path."""
    store = Store.open(ref.path)
    results = IngestResults(
        config=config, version=version("medmtl"), data=_decoded(ref, store, checks), seconds=seconds
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
    LOGGER.info("report: %s", page)
    return page


def _decoded(ref: StoreRef, store: Store, checks: tuple[CheckRecord, ...]) -> DecodedRecord:
    def counted(value: int) -> dict[str, int]:
        return dict(zip(store.labels, (store.targets == value).sum(axis=0).tolist(), strict=True))

    return DecodedRecord.of(
        ref.name, store, checks,
        path=str(ref.path),
        reused=ref.reused,
        images=len(store.images),
        patients=len(np.unique(store.patients)),
        positives=counted(1),
        unknown=counted(-1),
        megabytes=sum(file.stat().st_size for file in ref.path.iterdir()) / 1e6,
    )  # fmt: skip
