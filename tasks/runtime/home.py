"""Where medmtl keeps what outlives a run: stores, checkpoints, and the databases of Prefect and MLflow."""

import os
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock

from data_prep.errors import DataError


@dataclass(frozen=True)
class Home:
    """The folder that outlives a run; every path below it is made when it is first needed."""

    root: Path

    @property
    def phantoms(self) -> Path:
        """Rendered phantoms, one folder per content hash."""
        return self.root / "phantoms"

    @property
    def stores(self) -> Path:
        """Decoded pixels, one folder per hash of what went in."""
        return self.root / "stores"

    @property
    def arms(self) -> Path:
        """Checkpoints of arms that are not finished; a finished arm lives in MLflow."""
        return self.root / "arms"

    @property
    def texts(self) -> Path:
        """Text benchmarks, word vectors and encoders that were fetched, one folder each."""
        return self.root / "texts"

    @property
    def tokens(self) -> Path:
        """Encoded texts, one file per content hash."""
        return self.root / "tokens"

    @property
    def prefect(self) -> Path:
        """Prefect's database and cached results, used when no server is named."""
        return self.root / "prefect"

    @property
    def tracking_uri(self) -> str:
        """MLflow's store: the environment's if it names one, else SQLite under the home."""
        return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{self.root / 'mlflow.db'}"

    @property
    def patient_key(self) -> bytes:
        """The secret (32 bytes) that makes patient keys opaque; made once, readable by its owner only."""
        path = self.root / "patient.key"
        with FileLock(f"{path}.lock"):  # two commands at once would each make one
            if not path.exists() or not path.stat().st_size:  # a kill may have come before it was written
                with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600), "wb") as file:
                    file.write(os.urandom(32))
            return path.read_bytes()


def home() -> Home:
    """The folder named by MEDMTL_HOME, or ~/.medmtl.

    Raises:
        DataError: the folder cannot be made or written.
    """
    root = Path(os.environ.get("MEDMTL_HOME") or Path.home() / ".medmtl").absolute()
    try:
        root.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"cannot write {root} ({error.strerror}): set MEDMTL_HOME to a folder you own") from error
    if not os.access(root, os.W_OK):
        raise DataError(f"cannot write {root}: set MEDMTL_HOME to a folder you own")
    return Home(root)
