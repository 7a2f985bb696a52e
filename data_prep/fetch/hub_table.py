"""Tables of the Hugging Face hub: Parquet files, read under limits.

A few bytes of Parquet can stand for very many of text: a compressed page expands, and a dictionary gives one text to
many rows. So the sizes in the file's footer are looked at before it is read, and texts are read as dictionaries,
which are measured before their rows are filled.
"""

from collections.abc import Sequence
from pathlib import Path

import pyarrow  # type: ignore[import-untyped]
from pyarrow import parquet

from data_prep.errors import DataError
from data_prep.fetch.text_file import MAX_FILE_BYTES, MAX_LINE_CHARACTERS

MAX_ROWS = 5_000_000  # QNLI, the largest of those read here, has 104,743


def read_columns(path: Path, texts: Sequence[str], label: str, remedy: str) -> tuple[list[list[str]], list[int]]:
    """Return the n values of each column of `texts`, and of the column `label`, whole numbers.

    Raises DataError for a file that is missing, no Parquet file, damaged or too large, that lacks a column, or has
    a cell without a value, with too long a text or of another kind.
    """
    try:
        with parquet.ParquetFile(path) as file:
            _check_footer(path, file, [*texts, label], remedy)
        with parquet.ParquetFile(path, read_dictionary=list(texts)) as file:
            table = file.read(columns=[*texts, label])
            table.validate(full=True)
            columns = [_texts(path, name, table.column(name)) for name in texts]
            labels = table.column(label)
            _check_column(path, label, labels, pyarrow.types.is_integer(labels.type), "whole numbers")
            return columns, labels.to_pylist()
    except FileNotFoundError as error:
        raise DataError(f"{path}: not there; {remedy}") from error
    except (OSError, pyarrow.ArrowException, UnicodeDecodeError) as error:
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise DataError(f"{path}: not a whole Parquet file ({reason}); {remedy}") from error


def _check_footer(path: Path, file: parquet.ParquetFile, columns: Sequence[str], remedy: str) -> None:
    facts, names = file.metadata, file.schema_arrow.names
    size = max(path.stat().st_size, sum(facts.row_group(i).total_byte_size for i in range(facts.num_row_groups)))
    if size > MAX_FILE_BYTES or facts.num_rows > MAX_ROWS:
        raise DataError(
            f"{path}: {facts.num_rows} rows and {size} bytes; at most {MAX_ROWS} rows and {MAX_FILE_BYTES} bytes are "
            "read: see whether this is the file you mean"
        )
    for column in columns:
        if column not in names:
            raise DataError(f"{path}: no column {column!r}; there are {', '.join(names)}; {remedy}")


def _check_column(path: Path, name: str, column: pyarrow.ChunkedArray, right: bool, kind: str) -> None:
    if not right:
        raise DataError(f"{path}: column {name!r} holds {column.type}, not {kind}")
    if column.null_count:
        row = column.is_null().index(True).as_py() + 1
        raise DataError(f"{path}: row {row} has nothing in column {name!r}; fill or drop the row")


def _texts(path: Path, name: str, column: pyarrow.ChunkedArray) -> list[str]:
    kind = column.type.value_type if pyarrow.types.is_dictionary(column.type) else column.type
    _check_column(path, name, column, pyarrow.types.is_string(kind) or pyarrow.types.is_large_string(kind), "texts")
    texts: list[str] = []
    characters = 0
    for chunk in column.chunks:
        words = chunk.dictionary.to_pylist()
        for number in chunk.indices.to_numpy():
            characters += (length := len(words[number]))
            texts.append(words[number])
            if length > MAX_LINE_CHARACTERS or characters > MAX_FILE_BYTES:
                raise DataError(
                    f"{path}: row {len(texts)} has {length} characters in column {name!r}, {characters} with those "
                    f"above; at most {MAX_LINE_CHARACTERS} and {MAX_FILE_BYTES} are read: see whether this is the "
                    "file you mean"
                )
    return texts
