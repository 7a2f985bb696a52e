"""Tables of the Hugging Face Hub: Parquet files, read within size limits.

A small Parquet file can hold very much text: its pages are compressed, and with dictionary encoding many rows share
one stored text. So the sizes in the file's footer are checked before it is read, and texts are read as dictionaries,
whose total length is checked while the rows are filled.
"""

from collections.abc import Sequence
from pathlib import Path

import pyarrow  # type: ignore[import-untyped]
from pyarrow import parquet

from data_prep.errors import DataError
from data_prep.fetch.text_file import MAX_FILE_BYTES, MAX_LINE_CHARACTERS

MAX_ROWS = 5_000_000  # QNLI, the largest table read here, has 104,743


def read_columns(path: Path, texts: Sequence[str], label: str, remedy: str) -> tuple[list[list[str]], list[int]]:
    """Read the n texts of each column of `texts` and the n whole numbers of the column `label` of a Parquet file.

    Raises:
        DataError: the file is missing (`remedy` says how to get it), not a Parquet file, damaged or too large, or
            lacks a column; or a cell is empty, too long, or of another type.
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
        raise DataError(f"{path}: not a complete Parquet file ({reason}); {remedy}") from error


def _check_footer(path: Path, file: parquet.ParquetFile, columns: Sequence[str], remedy: str) -> None:
    metadata, names = file.metadata, file.schema_arrow.names
    size = max(path.stat().st_size, sum(metadata.row_group(i).total_byte_size for i in range(metadata.num_row_groups)))
    if size > MAX_FILE_BYTES or metadata.num_rows > MAX_ROWS:
        raise DataError(
            f"{path}: {metadata.num_rows} rows and {size} bytes; at most {MAX_ROWS} rows and {MAX_FILE_BYTES} bytes "
            "are read: check that this is the file you mean"
        )
    for column in columns:
        if column not in names:
            raise DataError(f"{path}: no column {column!r}; columns found: {', '.join(names)}; {remedy}")


def _check_column(path: Path, name: str, column: pyarrow.ChunkedArray, type_ok: bool, expected: str) -> None:
    if not type_ok:
        raise DataError(f"{path}: column {name!r} holds {column.type}, not {expected}")
    if column.null_count:
        row = column.is_null().index(True).as_py() + 1
        raise DataError(f"{path}: row {row} is empty in column {name!r}; fill in or delete the row")


def _texts(path: Path, name: str, column: pyarrow.ChunkedArray) -> list[str]:
    kind = column.type.value_type if pyarrow.types.is_dictionary(column.type) else column.type
    _check_column(path, name, column, pyarrow.types.is_string(kind) or pyarrow.types.is_large_string(kind), "texts")
    texts: list[str] = []
    characters = 0
    for chunk in column.chunks:
        distinct = chunk.dictionary.to_pylist()
        for number in chunk.indices.to_numpy():
            characters += (length := len(distinct[number]))
            texts.append(distinct[number])
            if length > MAX_LINE_CHARACTERS or characters > MAX_FILE_BYTES:
                raise DataError(
                    f"{path}: row {len(texts)} has {length} characters in column {name!r}, {characters} in all rows "
                    f"so far; at most {MAX_LINE_CHARACTERS} and {MAX_FILE_BYTES} are read: check that this is the "
                    "file you mean"
                )
    return texts
