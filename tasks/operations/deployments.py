"""Deployments and their work pools, from prefect.yaml to a Prefect server, by Prefect's own `prefect deploy`.

`prefect deploy` writes every deployment again each time, and with it drops the scheduled runs. Here the version of a
deployment on the server is the hash of its entry in the file and of its flow's parameters: an entry whose hash is there
already is not sent. So what a person changed on the server stays until the entry or the flow changes. Schedules with a
slug stay paused even then.
"""

import hashlib
import json
import subprocess
import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple, cast

import yaml
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.client.schemas.filters import DeploymentFilter
from prefect.client.schemas.responses import DeploymentResponse
from prefect.exceptions import MissingFlowError, ObjectNotFound, ScriptError
from prefect.flows import Flow, load_flow_from_entrypoint
from prefect.utilities.callables import parameter_schema
from prefect.utilities.templating import apply_values
from prefect.workers.process import ProcessWorker

from data_prep.errors import DataError
from tasks.operations.automations import TAG
from tasks.operations.changes import Change
from tasks.runtime.servers import environment

DIGITS = 12  # of a hash that serves as version
DEPLOY_SECONDS = 600.0  # the flows are imported, which takes a minute on a busy machine


class Entry(NamedTuple):
    """A deployment as prefect.yaml states it.

    Attributes:
        name: of its flow and of itself, as flow/name.
        version: the hash of the entry, of the steps before a run, and of the flow's parameters.
        fields: what the file says of it.
    """

    name: str
    version: str
    fields: dict[str, Any]


def read_prefect_file(file: Path) -> dict[str, Any]:
    """Read a prefect.yaml, with variables of the environment and this folder (`{{ $PWD }}`) in their places.

    Raises:
        DataError: there is no such file, or it names no deployments with a name, an entrypoint and a work pool each.
    """
    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise DataError(f"cannot read {file}: {str(error).splitlines()[0]}; --file names a prefect.yaml") from error
    entries = content.get("deployments") if isinstance(content, dict) else None
    if not entries or not isinstance(entries, list):
        raise DataError(f"{file} names no deployments: expected a list of them under 'deployments:'")
    for number, entry in enumerate(entries, 1):
        pool = entry.get("work_pool") if isinstance(entry, dict) else None
        if not (isinstance(pool, dict) and pool.get("name") and entry.get("name") and entry.get("entrypoint")):
            raise DataError(f"deployment {number} in {file} lacks one of: name, entrypoint, work_pool with a name")
    plain = json.loads(json.dumps(content, default=str))  # dates become texts, as in Prefect
    with environment({"PWD": str(Path.cwd())}):
        return cast("dict[str, Any]", apply_values(plain, {}, remove_notset=False))


def create_pools(client: SyncPrefectClient, content: Mapping[str, Any]) -> Iterator[Change]:
    """Create the work pools that the deployments name and the server lacks; their runs are processes."""
    for name in sorted({entry["work_pool"]["name"] for entry in content["deployments"]}):
        try:
            pool = client.read_work_pool(name)
            yield Change("unchanged", "work pool", name, "paused" if pool.is_paused else "")
        except ObjectNotFound:
            template = ProcessWorker.get_default_base_job_template()
            client.create_work_pool(WorkPoolCreate(name=name, type="process", base_job_template=template))
            yield Change("created", "work pool", name, f"its worker: prefect worker start --pool {name}")


def register_deployments(client: SyncPrefectClient, content: Mapping[str, Any]) -> Iterator[Change]:
    """Register the deployments that the server lacks or has in another version, and name all others that are ours.

    Raises:
        DataError: the flow of an entry cannot be loaded, or Prefect refuses an entry.
    """
    entries = [_entry(fields, content.get("pull")) for fields in content["deployments"]]
    before = {entry.name: _find(client, entry.name) for entry in entries}
    fresh = [entry for entry in entries if getattr(before[entry.name], "version", None) != entry.version]
    said = _prefect_deploy(content, fresh) if fresh else ""
    for entry in entries:
        found = _find(client, entry.name)
        if found is None or found.version != entry.version:
            raise DataError(f"Prefect has not registered the deployment {entry.name}: {said}")
        if entry not in fresh:
            yield Change("unchanged", "deployment", entry.name, _note(found))
        else:
            yield Change("updated" if before[entry.name] else "created", "deployment", entry.name, _note(found))
    yield from _unnamed(client, {entry.name for entry in entries})


def _entry(fields: dict[str, Any], pull: object) -> Entry:
    place = fields["entrypoint"]
    try:
        flow: Flow[..., Any] = load_flow_from_entrypoint(place, use_placeholder_flow=False)
    except (OSError, ScriptError, MissingFlowError, ValueError, ImportError) as error:
        raise DataError(f"deployment {fields['name']}: no flow at {place}, seen from {Path.cwd()}") from error
    text = json.dumps([fields, pull, parameter_schema(flow).model_dump()], sort_keys=True, default=str)
    version = hashlib.sha256(text.encode()).hexdigest()[:DIGITS]
    return Entry(f"{flow.name}/{fields['name']}", version, fields)


def _find(client: SyncPrefectClient, name: str) -> DeploymentResponse | None:
    try:
        return client.read_deployment_by_name(name)
    except ObjectNotFound:
        return None


def _prefect_deploy(content: Mapping[str, Any], entries: Sequence[Entry]) -> str:
    """Let Prefect register some entries; return the last line that it said."""
    deployments = [{**entry.fields, "version": entry.version} for entry in entries]
    with TemporaryDirectory() as folder:
        file = Path(folder) / "prefect.yaml"
        file.write_text(yaml.safe_dump({**content, "deployments": deployments}), encoding="utf-8")
        command = [sys.executable, "-m", "prefect", "--no-prompt", "deploy", "--all", "--prefect-file", str(file)]
        log = Path(folder) / "log"  # not a pipe, which something that it starts could hold open for ever
        with log.open("wb") as out, environment({"COLUMNS": "1000"}):
            subprocess.run(command, stdout=out, stderr=out, timeout=DEPLOY_SECONDS, check=False)
        lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return lines[-1] if lines else "it said nothing"


def _note(found: DeploymentResponse) -> str:
    """Return what a person should know of a deployment: its limit, and what somebody has paused."""
    limit = found.global_concurrency_limit
    notes = [f"at most {limit.limit} at a time"] if limit else []
    if found.paused:
        notes.append("paused")
    if found.schedules and not any(schedule.active for schedule in found.schedules):
        notes.append("its schedule is paused")
    return ", ".join(notes)


def _unnamed(client: SyncPrefectClient, named: Collection[str]) -> Iterator[Change]:
    """Name our deployments on the server that the file does not name; they may be another file's."""
    ours = DeploymentFilter.model_validate({"tags": {"all_": [TAG]}})
    flows = {flow.id: flow.name for flow in client.read_flows()}
    for found in client.read_deployments(deployment_filter=ours):
        name = f"{flows.get(found.flow_id, '')}/{found.name}"
        if name not in named:
            yield Change("left", "deployment", name, f"not in this file; prefect deployment delete {name}")
