"""MEDMTL_HOME: the folder of everything that outlives a run (stores, checkpoints, Prefect's and MLflow's databases)."""

import os
import shutil
import stat
from contextlib import suppress
from pathlib import Path

from filelock import FileLock

from data_prep.errors import DataError

KEY_BYTES = 32
OWN_FOLDER = "set MEDMTL_HOME to a folder you own"  # the remedy where it cannot be used
LEAST_FREE_MB = 200  # less is used up by the databases and checkpoints of one small study
OWN = frozenset(
    {"arms", "downloads", "leases", "mlflow", "mlflow-artifacts", "nights", "patient", "phantoms", "pixels", "prefect"}
    | {"stores", "texts", "theory", "tokens"}
)
"""What medmtl keeps in MEDMTL_HOME, by the part of the name before the first dot."""


class Home:
    """MEDMTL_HOME and the paths below it, each created when it is first needed."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.phantoms = root / "phantoms"  # rendered phantoms, one folder per hash of their settings
        self.pixels = root / "pixels"  # decoded pixels that stores share, one folder per way of decoding
        self.stores = root / "stores"  # stores of decoded images, one folder per hash of their inputs
        self.arms = root / "arms"  # checkpoints of unfinished arms; a finished arm is kept in MLflow only
        self.nights = root / "nights"  # of each series of the nightly pipeline, when its images were first seen
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
                    file.write(os.urandom(KEY_BYTES))
            key = path.read_bytes()
        if len(key) != KEY_BYTES:
            raise DataError(
                f"{path} is damaged ({len(key)} bytes, not {KEY_BYTES}): restore it from a backup, or delete it: "
                "stores are then built again"
            )
        return key

    def check_space(self) -> None:
        """Check that the disk has room for a start.

        Raises:
            DataError: it has not.
        """
        free = shutil.disk_usage(self.root).free / 1e6
        if free < LEAST_FREE_MB:
            raise DataError(
                f"the disk of MEDMTL_HOME is full: {free:.0f} MB are free in {self.root}, {LEAST_FREE_MB} MB are the "
                "least to start with; free some space, or set MEDMTL_HOME to a folder on another disk"
            )


def home_path() -> Path:
    """Return the path that MEDMTL_HOME names, by default ~/.medmtl, whatever is there.

    Raises:
        DataError: it is no path, or cannot be named in the address of a database.
    """
    try:
        root = Path(os.environ.get("MEDMTL_HOME") or "~/.medmtl").expanduser().absolute()
    except RuntimeError as error:  # the home of a user whom there is not
        raise DataError(f"MEDMTL_HOME leads nowhere ({error}): {OWN_FOLDER}") from error
    _check_name(str(root))
    return root


def home() -> Home:
    """Return the folder named by MEDMTL_HOME, by default ~/.medmtl; create it if it does not exist.

    It is for its owner only, since stores and models are made from patients.

    Raises:
        DataError: the folder cannot be created, written or named in the address of a database, or is another user's.
    """
    root = home_path()
    try:
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
    except FileExistsError as error:
        raise DataError(f"{root} is a file, or a link to nothing: {OWN_FOLDER}") from error
    except OSError as error:
        raise DataError(f"cannot write {root} ({error.strerror}): {OWN_FOLDER}") from error
    _check_owner(root)
    _make_private(root)
    return Home(root)


def look_at_home() -> Home:
    """Return the folder named by MEDMTL_HOME as it is, there or not: nothing is made or changed.

    Raises:
        DataError: `home` could not use it.
    """
    root = home_path()
    try:
        if root.is_dir():
            _check_owner(root)
            return Home(root)
        if os.path.lexists(root):
            raise DataError(f"{root} is a file, or a link to nothing: {OWN_FOLDER}")
        above = next(folder for folder in root.parents if os.path.lexists(folder))
    except OSError as error:
        raise DataError(f"cannot reach {root} ({error.strerror}): {OWN_FOLDER}") from error
    if not (above.is_dir() and os.access(above, os.W_OK | os.X_OK)):
        raise DataError(f"{root} cannot be made in {above}: {OWN_FOLDER}")
    return Home(root)


def _check_owner(root: Path) -> None:
    if os.geteuid() not in (0, root.stat().st_uid):
        raise DataError(f"{root} belongs to another user, who could read your data: {OWN_FOLDER}")
    if not os.access(root, os.R_OK | os.W_OK | os.X_OK):
        raise DataError(f"cannot write {root}: {OWN_FOLDER}")


def _check_name(name: str) -> None:
    wrong = next((sign for sign in name if sign == "?" or not sign.isprintable()), None)
    if wrong is not None:
        raise DataError(
            f"MEDMTL_HOME is {name!r}: the address of a database cannot hold {wrong!r}; set it to a folder without"
        )


def _make_private(root: Path) -> None:
    """Take away others' rights that an older version left; what is not medmtl's keeps its own."""
    mode = root.stat().st_mode
    if not mode & 0o077:
        return
    entries = list(root.iterdir())
    ours = [entry for entry in entries if entry.name.partition(".")[0] in OWN]
    # a folder that holds other things too, such as a home folder or /tmp, is not for us to close
    shared = len(ours) < len(entries) or mode & stat.S_ISVTX
    for path in ours if shared else [root]:
        with suppress(OSError):  # just now removed by another command, or another user's
            path.chmod(path.stat().st_mode & 0o700)
