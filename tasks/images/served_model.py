"""The registered model: a probability by label, for pixels or for files.

MLflow keeps a copy of this file in each model, which must load where this project is not installed: the decoder is
imported only when files come. Whatever a model is given, it answers for all of it or refuses all of it in one line.

n images, c channels, s side in pixels.
"""

import base64
import binascii
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import torch
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE

PROGRAM = "program"  # the artifact
USED_FACTS = ("labels", "classes", "size", "channels", "decoder")  # of those in medmtl.json
FILE = "file"  # the column of files
VOUCH = "chest_radiographs"  # a parameter: a DICOM file that does not say what it shows is a radiograph of the chest
MOST_FILES = 64
MOST_PIXELS = 2**26  # values in one request

_EXPECTED = f"pixels as whole numbers from 0 to 255, or files as a column {FILE!r}, in base64 by HTTP"


class RefusedError(MlflowException):
    """What a model was given is refused; its message is one line.

    MLflow's server would put all that it was sent before the message, which is then sent back and may be logged: so
    the message cannot be changed.
    """

    def __init__(self, message: str) -> None:
        self._line = message
        super().__init__(message, error_code=INVALID_PARAMETER_VALUE)

    @property
    def message(self) -> str:
        """The line."""
        return self._line

    @message.setter
    def message(self, changed: str) -> None:
        pass


class ServedModel(mlflow.pyfunc.PythonModel):
    """Predicts with an exported program."""

    def load_context(self, context: Any) -> None:
        """Load the program, and what it takes and gives."""
        facts = context.model_config
        self._outputs = facts["classes"] or facts["labels"]
        self._are_pictures = bool(facts["classes"])
        self._shape = (facts["channels"], facts["size"], facts["size"])
        self._decoder = facts["decoder"]
        self._module = torch.export.load(context.artifacts[PROGRAM]).module()

    # of the types that come, the one for which MLflow neither makes a schema nor warns
    def predict(self, context: Any, model_input: np.ndarray, params: dict[str, Any] | None = None) -> pd.DataFrame:
        """Predict the probabilities of n images: a row for each, a column for each label or class.

        Args:
            context: is not used.
            model_input: pixels, (n, c, s, s), or (n, s, s) where c is 1, whole numbers from 0 to 255; or the contents
                of n PNG, JPEG or DICOM files, as bytes or in base64: a list, a table or a mapping with "file".
            params: "chest_radiographs", whether a DICOM file that does not say what it shows is one.

        Raises:
            RefusedError: some of it cannot be predicted.
        """
        files, vouched = _files_in(model_input), bool((params or {}).get(VOUCH))
        pixels = self._checked(model_input) if files is None else self._decode(files, vouched)
        with torch.inference_mode():
            parts = [self._module(part).numpy() for part in torch.from_numpy(pixels).split(MOST_FILES)]
        return pd.DataFrame(np.concatenate(parts), columns=self._outputs)

    def _checked(self, given: Any) -> np.ndarray:
        """Return pixels as (n, c, s, s) uint8."""
        if not isinstance(given, np.ndarray):
            raise RefusedError(f"got {_kind_of(given)}; expected {_EXPECTED}")
        if given.dtype.kind not in "iu":
            raise RefusedError(f"pixels of type {given.dtype}; expected whole numbers from 0 to 255, as in a file")
        with_channel = given[:, None] if given.ndim == 3 and self._shape[0] == 1 else given
        if with_channel.shape[1:] != self._shape or not len(given):
            expected = ", ".join(map(str, self._shape))
            raise RefusedError(f"pixels of shape {given.shape}; expected (n, {expected}), n at least 1")
        if given.size > MOST_PIXELS:
            most = MOST_PIXELS // int(np.prod(self._shape))
            raise RefusedError(f"{len(given)} images at once; at most {most} of this size are taken")
        if given.min() < 0 or given.max() > 255:
            raise RefusedError(f"pixels from {given.min()} to {given.max()}; expected 0 to 255")
        return np.require(with_channel, np.uint8, ["C", "W"])

    def _decode(self, files: list[Any], chest: bool) -> np.ndarray:
        """Decode files, in a process of its own each, since they are a stranger's: (n, c, s, s) uint8."""
        if not 1 <= len(files) <= MOST_FILES:
            raise RefusedError(f"{len(files)} files at once; expected 1 to {MOST_FILES}")
        try:
            from data_prep.decoding.picture import PICTURE_VERSION
            from data_prep.decoding.raster import DECODE_VERSION
            from data_prep.decoding.sandbox import safe_decode
            from data_prep.errors import DataError
        except ImportError as error:
            raise RefusedError("files are decoded by medmtl, which is not here: install it, or give pixels") from error
        version = PICTURE_VERSION if self._are_pictures else DECODE_VERSION
        if self._decoder and version != self._decoder["version"]:
            raise RefusedError(
                f"this medmtl decodes files by version {version}, the training images were by "
                f"{self._decoder['version']}: train a model anew, serve this one with the medmtl that trained it, or "
                "give pixels"
            )
        channels = self._shape[0] if self._are_pictures else None
        options: dict[str, Any] = {"isolate": True, "chest": chest, "picture_channels": channels}
        decoded = []
        for number, file in enumerate(files, start=1):
            try:
                decoded.append(safe_decode(_content(file), self._shape[1], **options).pixels)
            except (DataError, RefusedError) as error:
                raise RefusedError(f"file {number} of {len(files)}: {error}") from None
        return np.stack(decoded).reshape(-1, *self._shape)


def _files_in(given: Any) -> list[Any] | None:
    """Return the files in what a model was given; None if there are none."""
    if isinstance(given, pd.DataFrame | dict) and set(given) == {FILE}:
        given = list(np.atleast_1d(np.asarray(given[FILE], object)))
    if isinstance(given, bytes | str):
        given = [given]
    return given if isinstance(given, list) and all(isinstance(each, bytes | str) for each in given) else None


def _content(file: bytes | str) -> bytes:
    if isinstance(file, bytes):
        return file
    try:
        return base64.b64decode(file, validate=True)
    except (binascii.Error, ValueError):
        raise RefusedError("it is not in base64") from None


def _kind_of(given: Any) -> str:
    if isinstance(given, pd.DataFrame):
        return f"a table with {len(given.columns)} columns"
    if isinstance(given, dict):
        return f"a mapping with {len(given)} entries"
    return f"a {type(given).__name__}"


mlflow.models.set_model(ServedModel())
