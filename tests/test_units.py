"""The systemd units: systemd understands them, what they start exists, and their variables are known and agree."""

import inspect
import os
import re
import shutil
import subprocess
import sys
from configparser import ConfigParser
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SYSTEMD = ROOT / "systemd"
SERVICES = sorted(SYSTEMD.glob("*.service"))
UNITS = [*SERVICES, *sorted(SYSTEMD.glob("*.timer"))]
EXAMPLE = SYSTEMD / "medmtl.env.example"
PAGE = (ROOT / "docs" / "leave_running.md").read_text(encoding="utf-8")
INSTALLED = "/opt/medmtl"
MOST_EXPOSED = 30  # of 100, in systemd's own count; a unit without any protection has 92


def read_unit(file: Path) -> ConfigParser:
    unit = ConfigParser(interpolation=None, delimiters="=", comment_prefixes="#", strict=False)
    unit.optionxform = str  # type: ignore[assignment,method-assign]
    unit.read_string(file.read_text(encoding="utf-8"))
    return unit


def started(file: Path) -> list[str]:
    """The words of what a service starts."""
    return read_unit(file)["Service"]["ExecStart"].split()


def here(program: str) -> Path:
    """Where this machine has a program of an installed medmtl."""
    in_environment = program.removeprefix(f"{INSTALLED}/.venv/bin/")
    if in_environment != program:
        return Path(sys.executable).parent / in_environment
    return Path(program.replace(INSTALLED, str(ROOT), 1))


def variables() -> dict[str, str]:
    lines = [line for line in EXAMPLE.read_text(encoding="utf-8").splitlines() if line and not line.startswith("#")]
    return dict(line.split("=", 1) for line in lines)


@pytest.fixture(scope="module")
def analyze() -> str:
    if not (found := shutil.which("systemd-analyze")):
        pytest.skip("not installed: systemd-analyze (Debian's package systemd)")
    return found


@pytest.fixture(scope="module")
def units(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The units, with programs where this machine has them."""
    folder = tmp_path_factory.mktemp("units")
    for file in UNITS:
        text = file.read_text(encoding="utf-8")
        if file in SERVICES:
            program = started(file)[0]
            text = text.replace(f"ExecStart={program}", f"ExecStart={here(program)}")
        (folder / file.name).write_text(text, encoding="utf-8")
    return sorted(folder.iterdir())


def test_systemd_finds_nothing_to_say_of_the_units(analyze: str, units: list[Path]) -> None:
    said = subprocess.run([analyze, "verify", "--man=no", *units], capture_output=True, text=True, check=False)
    ours = [line for line in said.stderr.splitlines() if "medmtl" in line]  # not what it says of the machine's own
    assert (said.returncode, ours) == (0, [])


def test_systemd_counts_each_service_among_the_protected(analyze: str, units: list[Path]) -> None:
    services = [unit for unit in units if unit.suffix == ".service"]
    command = [analyze, "security", "--offline=true", f"--threshold={MOST_EXPOSED}", "--no-pager", *services]
    said = subprocess.run(command, capture_output=True, text=True, check=False)
    assert said.returncode == 0, re.findall("→ .*", said.stdout)


@pytest.mark.parametrize("file", SERVICES, ids=lambda file: str(file.stem))
def test_what_a_service_starts_is_here_and_can_be_executed(file: Path) -> None:
    program = here(started(file)[0])
    assert os.access(program, os.X_OK), program


@pytest.mark.parametrize("file", SERVICES, ids=lambda file: str(file.stem))
def test_each_service_has_a_user_of_its_own_and_the_variables_of_all_and_writes_for_nobody_else(file: Path) -> None:
    service = read_unit(file)["Service"]
    wanted = {"User": "medmtl", "EnvironmentFile": "/etc/medmtl/medmtl.env", "UMask": "0077", "NoNewPrivileges": "yes"}
    assert {name: service[name] for name in wanted} == wanted
    assert not re.search(r"[$@]|://", service["ExecStart"]), "other users can read arguments"


def test_no_restart_of_a_server_ends_a_night() -> None:
    for file in SERVICES:
        assert not {"Requires", "BindsTo", "PartOf"} & set(read_unit(file)["Unit"]), file.name


def known_variables() -> set[str]:
    """Names that the code, Prefect's settings, MLflow's or MLflow's server reads."""
    import mlflow.environment_variables
    import prefect.settings
    from mlflow.cli import server

    mlflow_names = {value.name for _, value in inspect.getmembers(mlflow.environment_variables, has_name)}
    options = {str(option.envvar) for option in server.params if option.envvar}
    floors = (file for floor in ("flows", "tasks") for file in (ROOT / floor).rglob("*.py"))
    texts = [file.read_text(encoding="utf-8") for file in (*floors, SYSTEMD / "backup")]
    ours = set(re.findall(r"\b(?:MEDMTL_\w+|DO_NOT_TRACK)\b", " ".join(texts)))
    of_prefect = {name for name in variables() if name.startswith("PREFECT_") and hasattr(prefect.settings, name)}
    return mlflow_names | options | of_prefect | ours


def has_name(value: object) -> bool:
    return isinstance(getattr(value, "name", None), str)


def test_every_variable_is_one_that_somebody_reads() -> None:
    assert set(variables()) - known_variables() == set()


def test_the_shell_reads_the_variables_as_systemd_does() -> None:
    script = f"set -a; . {EXAMPLE}; exec env -0"
    read = subprocess.run(["bash", "-c", script], env={}, capture_output=True, text=True, check=True).stdout
    seen = dict(line.split("=", 1) for line in read.split("\0") if line)
    assert {name: seen.get(name) for name in variables()} == variables()


def test_what_must_agree_agrees() -> None:
    values = variables()
    words = {file.stem: " ".join(started(file)) for file in SERVICES}
    for unit, variable in (("medmtl-mlflow", "MLFLOW_TRACKING_URI"), ("medmtl-prefect", "PREFECT_API_URL")):
        found = re.fullmatch(r"http://([\d.]+):(\d+)(/api)?", values[variable])
        assert found
        assert f"--host {found[1]} --port {found[2]}" in words[unit]
        assert found[1] == "127.0.0.1"
    assert values["PREFECT_API_AUTH_STRING"] == values["PREFECT_SERVER_API_AUTH_STRING"]
    backup = read_unit(SYSTEMD / "medmtl-backup.service")["Service"]
    assert values["MEDMTL_BACKUPS"] == backup["ReadWritePaths"]
    state = "/var/lib/" + backup["StateDirectory"]
    assert [values[name].startswith(f"{state}/") for name in ("MEDMTL_HOME", "PREFECT_HOME")] == [True, True]


def test_the_page_names_every_unit_and_every_variable_and_no_others() -> None:
    named = set(re.findall(r"medmtl-[a-z]+\.(?:service|timer)", PAGE))
    assert named == {file.name for file in UNITS}
    rows = re.findall(r"^\| (`[^|]+`) \|", PAGE.split("## Variables")[1].split("\n## ")[0], re.MULTILINE)
    assert set(re.findall(r"`([A-Z_]+)`", " ".join(rows))) == set(variables())
