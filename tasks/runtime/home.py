"""MEDMTL_HOME: the folder of everything that outlives a run (stores, checkpoints, Prefect's and MLflow's databases)."""

import os
from pathlib import Path

from filelock import FileLock

from data_prep.errors import DataError


class Home:
    """MEDMTL_HOME and the paths below it, each created when it is first needed."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.phantoms = root / "phantoms"  # rendered phantoms, one folder per hash of their settings
        self.stores = root / "stores"  # stores of decoded images, one folder per hash of their inputs
        self.arms = root / "arms"  # checkpoints of unfinished arms; a finished arm is kept in MLflow only
        self.texts = root / "texts"  # downloaded text benchmarks and encoders, and word vectors, one folder each
        self.tokens = root / "tokens"  # tokenised texts, one file per content hash
        self.prefect = root / "prefect"  # Prefect's database and cached results, unless PREFECT_API_URL names a server

    @property
    def tracking_uri(self) -> str:
        """MLflow's tracking URI: MLFLOW_TRACKING_URI if it is set, else SQLite under MEDMTL_HOME."""
        return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{self.root / 'mlflow.db'}"

    @property
    def patient_key(self) -> bytes:
        """The secret (32 bytes) that makes patient keys opaque; created once, readable by its owner only."""
        path = self.root / "patient.key"
        with FileLock(f"{path}.lock"):  # without it, two commands at once would each create a key
            if not path.exists() or not path.stat().st_size:  # empty after a kill between creation and write
                with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600), "wb") as file:
                    file.write(os.urandom(32))
            return path.read_bytes()


def home() -> Home:
    """Return the folder named by MEDMTL_HOME, by default ~/.medmtl; create it if it does not exist.

    Raises:
        DataError: the folder cannot be created or written.
    """
    root = Path(os.environ.get("MEDMTL_HOME") or Path.home() / ".medmtl").absolute()
    try:
        root.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"cannot write {root} ({error.strerror}): set MEDMTL_HOME to a folder you own") from error
    if not os.access(root, os.W_OK):
        raise DataError(f"cannot write {root}: set MEDMTL_HOME to a folder you own")
    return Home(root)
