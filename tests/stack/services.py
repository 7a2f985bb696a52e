"""PostgreSQL, MLflow's and Prefect's servers on it, and a Prefect worker; each on 127.0.0.1 with a port of its own."""

import json
import os
import pwd
import shutil
import subprocess
import sys
import tempfile
import urllib.request
from contextlib import closing
from pathlib import Path
from typing import Any

from tasks.runtime.prefect_app import authorization
from tests.stack.service import Service

DEBIAN = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: float(path.parent.name), reverse=True)
"""Where Debian's packages put PostgreSQL's programs, the newest version first; they are not on the PATH."""


def postgres_program(name: str) -> str | None:
    return shutil.which(name, path=os.pathsep.join([*map(str, DEBIAN), os.environ.get("PATH", "")]))


class Postgres(Service):
    """A cluster of its own, under a user that is not root (PostgreSQL refuses root), with a password."""

    name = "postgres"

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.user = "postgres" if os.geteuid() == 0 else None
        # not in pytest's folders, which no other user may enter
        self._place = tempfile.TemporaryDirectory(prefix="medmtl-postgres-", ignore_cleanup_errors=True)
        self.folder = Path(self._place.name)
        self.data = self.folder / "data"

    def create(self) -> None:
        """Make the cluster."""
        secret = self.folder / "secret"
        secret.write_text(self.password)
        if self.user:
            owner = pwd.getpwnam(self.user)
            for path in (self.folder, secret):
                os.chown(path, owner.pw_uid, owner.pw_gid)
        options = ["--username=medmtl", f"--pwfile={secret}", "--auth=scram-sha-256"]
        made = subprocess.run(
            [_program("initdb"), *options, "--no-locale", "--encoding=UTF8", "--no-sync", f"--pgdata={self.data}"],
            cwd=self.folder,
            user=self.user,
            group=self.user,
            extra_groups=[] if self.user else None,
            capture_output=True,
            text=True,
            check=False,
        )
        assert made.returncode == 0, made.stderr
        secret.unlink()

    def command(self) -> list[str]:
        # no fsync: a killed process loses nothing that it has written, only a machine would
        settings = ["listen_addresses=127.0.0.1", "unix_socket_directories=", "fsync=off"]
        return [_program("postgres"), f"-D{self.data}", f"-p{self.port}", *(f"-c{each}" for each in settings)]

    def is_up(self) -> bool:
        import psycopg2

        try:
            self.query("postgres", "SELECT 1")
        except psycopg2.OperationalError:
            return False
        return True

    def query(self, database: str, statement: str) -> list[tuple[Any, ...]]:
        """Run one statement, and return the rows of one that has some."""
        import psycopg2

        with closing(psycopg2.connect(self.url(database), connect_timeout=5)) as connection:
            connection.autocommit = True
            with connection.cursor() as cursor:
                cursor.execute(statement)
                return cursor.fetchall() if cursor.description else []

    def url(self, database: str, driver: str = "postgresql") -> str:
        return f"{driver}://medmtl:{self.password}@127.0.0.1:{self.port}/{database}"

    def remove(self) -> None:
        self._place.cleanup()


def _program(name: str) -> str:
    found = postgres_program(name)
    assert found, f"PostgreSQL's {name} is not installed"
    return found


class MlflowServer(Service):
    """MLflow's tracking server on a database, which serves artifacts too. It has no password: that is an extra."""

    name = "mlflow"

    def __init__(self, folder: Path, database: str) -> None:
        super().__init__(folder)
        self.url = f"http://127.0.0.1:{self.port}"
        self.artifacts = folder / "mlflow-artifacts"
        self._database = database

    def command(self) -> list[str]:
        listen = ["--host", "127.0.0.1", "--port", str(self.port), "--workers", "1"]
        return [sys.executable, "-m", "mlflow", "server", "--artifacts-destination", str(self.artifacts), *listen]

    def environment(self) -> dict[str, str]:
        return {
            "MLFLOW_BACKEND_STORE_URI": self._database,  # with its password, which an argument would show to everybody
            "MLFLOW_DISABLE_TELEMETRY": "true",
            # jobs are for traces and evaluations of language models; their processes cost seconds at the start
            "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        }

    def is_up(self) -> bool:
        return answers(f"{self.url}/health")


class PrefectServer(Service):
    """Prefect's server with its pages, on a database, behind a password."""

    name = "prefect"

    def __init__(self, folder: Path, database: str) -> None:
        super().__init__(folder)
        self.url = f"http://127.0.0.1:{self.port}"
        self.user_password = f"medmtl:{self.password}"
        self._database = database

    @property
    def client(self) -> dict[str, str]:
        """Variables of whoever uses it."""
        return {
            "PREFECT_API_URL": f"{self.url}/api",
            "PREFECT_API_AUTH_STRING": self.user_password,
            "PREFECT_HOME": str(self.folder / "prefect-home"),
            "DO_NOT_TRACK": "1",
        }

    def command(self) -> list[str]:
        return [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(self.port)]

    def environment(self) -> dict[str, str]:
        return self.client | {
            "PREFECT_SERVER_DATABASE_CONNECTION_URL": self._database,
            "PREFECT_SERVER_API_AUTH_STRING": self.user_password,
            "PREFECT_SERVER_UI_API_URL": f"{self.url}/api",
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            "PREFECT_SERVER_LOGGING_LEVEL": "WARNING",
        }

    def is_up(self) -> bool:
        return answers(f"{self.url}/api/health")

    def ask(self, method: str, path: str, content: object = None) -> Any:
        """Send a request to its API (`path` without /api/), and return the JSON of its answer."""
        request = urllib.request.Request(
            f"{self.url}/api/{path}",
            method=method,
            data=None if content is None else json.dumps(content).encode(),
            headers={"Authorization": authorization(self.user_password), "Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.loads(answer.read() or b"null")


class Worker(Service):
    """A worker of the pool `local`, whose runs are processes on this machine; they go on when it is killed."""

    name = "worker"
    has_family = False

    def __init__(self, folder: Path, variables: dict[str, str]) -> None:
        super().__init__(folder)
        self._variables = variables

    def command(self) -> list[str]:
        return [sys.executable, "-m", "prefect", "worker", "start", "--pool", "local", "--name", "tests"]

    def environment(self) -> dict[str, str]:
        quick = {"PREFECT_WORKER_QUERY_SECONDS": "1", "PREFECT_WORKER_HEARTBEAT_SECONDS": "2"}
        return self._variables | quick | {"PREFECT_LOGGING_LEVEL": "INFO"}

    def is_up(self) -> bool:
        return "started!" in self.log.read_text(errors="replace")

    def start(self) -> None:
        self.log.unlink(missing_ok=True)
        super().start()


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2) as answer:
            return bool(answer.status == 200)
    except OSError:  # also urllib's errors
        return False
