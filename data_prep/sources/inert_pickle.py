"""Pickles of arrays and lists read without running them: a pickle is a program, and one of a stranger may do anything.

The standard library's `pickletools` takes a pickle apart into its operations; a machine of those that plain values and
NumPy arrays need carries them out on values of its own. Nothing is imported or called, whatever a pickle names: what it
would call is recorded as `Made`. Of Python's own `pickle`, a subclass of `Unpickler` could refuse names, but not a
tuple nested so deeply that hashing it as a key ends the process, or a memo index for which 32 GB are set aside.
"""

import pickletools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data_prep.labels.safe_names import printable

MAX_OPERATIONS = 1_000_000  # the largest public batch, of 50,000 images, has 0.3 million

MAX_TEXT = 200  # characters of a key or a name
_RECONSTRUCT, _ARRAY, _DTYPE, _ENCODE = "_reconstruct", "ndarray", "dtype", "encode"
_NAMES = {
    "numpy.core.multiarray _reconstruct": _RECONSTRUCT,
    "numpy._core.multiarray _reconstruct": _RECONSTRUCT,
    "numpy ndarray": _ARRAY,
    "numpy dtype": _DTYPE,
    "_codecs encode": _ENCODE,
}
_UNSIGNED_BYTE = ("u1", "|u1", "uint8")


@dataclass(frozen=True)
class Named:
    """A function or class that a pickle names, one of `_NAMES`."""

    name: str


@dataclass(eq=False)
class Made:
    """What a pickle asks to be made by calling `function` with `arguments`, with the `state` that it asks to set."""

    function: str
    arguments: Any
    state: Any = None


def read_pickle(data: bytes) -> Any:
    """Return the value in a pickle of protocol 2 to 4: None, bool, int, bytes, str, tuple, list, dict, `Named`, `Made`.

    A str of Python 2 is bytes. Keys of a dict are str.

    Raises:
        ValueError: it is no such pickle, is damaged, or names anything but an array; in a few printable words.
    """
    machine = _Machine()
    try:
        for number, (operation, argument, _) in enumerate(pickletools.genops(data)):
            if number == MAX_OPERATIONS:
                raise ValueError(f"more than {MAX_OPERATIONS} operations, the limit")
            if operation.name == "STOP":
                return machine.stack.pop()
            carry_out = _OPERATIONS.get(operation.name)
            if carry_out is None:
                raise ValueError(f"operation {operation.name}, which plain values do not need")
            carry_out(machine, argument)
    except (IndexError, KeyError, TypeError, UnicodeError) as error:
        raise ValueError("its operations do not fit together") from error
    raise ValueError("it ends before its end")


def array_of(value: Any) -> NDArray[np.uint8]:
    """Return the array of unsigned bytes that a pickle describes; what it declares is checked against its bytes.

    Raises:
        ValueError: it is none, is of another type, or has another length than its shape.
    """
    if not isinstance(value, Made) or value.function != _RECONSTRUCT or not _is_tuple(value.state, 5):
        raise ValueError("no array where there must be one")
    _, shape, dtype, fortran_order, content = value.state
    kind = dtype.arguments[0] if isinstance(dtype, Made) and dtype.function == _DTYPE and dtype.arguments else None
    if text_of(kind) not in _UNSIGNED_BYTE:
        raise ValueError("an array of another type than unsigned bytes")
    raw = _encoded(content)
    if not isinstance(raw, bytes):
        raise ValueError("an array without its bytes")
    if not _is_tuple(shape, 2) or not all(type(side) is int and 0 < side <= len(raw) for side in shape):
        raise ValueError("an array of another shape than images by bytes")
    if shape[0] * shape[1] != len(raw):
        raise ValueError(f"an array of {len(raw)} bytes, which declares {shape[0]} x {shape[1]}")
    return np.frombuffer(raw, np.uint8).reshape(shape, order="F" if fortran_order is True else "C")


def _encoded(value: Any) -> Any:
    """Return the bytes that protocol 2 of Python 3 writes as a text to be encoded; any other value as it is."""
    if isinstance(value, Made) and value.function == _ENCODE and _is_tuple(value.arguments, 2):
        text, encoding = value.arguments
        if isinstance(text, str) and encoding in ("latin1", "latin-1"):
            return text.encode("latin-1")
    return value


def _is_tuple(value: Any, length: int) -> bool:
    return isinstance(value, tuple) and len(value) == length


def text_of(value: Any) -> str | None:
    """Return a str or bytes of at most `MAX_TEXT` characters as a str; None for anything else."""
    if isinstance(value, Made) and value.function == _ENCODE and value.arguments:
        value = value.arguments[0]
    if not isinstance(value, str | bytes) or len(value) > MAX_TEXT:
        return None
    return value if isinstance(value, str) else value.decode("utf-8", "backslashreplace")


@dataclass
class _Machine:
    """The state while a pickle is read: `stack` since the last mark, `below` it what was there at each mark."""

    stack: list[Any] = field(default_factory=list)
    below: list[list[Any]] = field(default_factory=list)
    memo: dict[int, Any] = field(default_factory=dict)

    def since_mark(self) -> list[Any]:
        """Take all values since the last mark, and the mark, off the stack."""
        values, self.stack = self.stack, self.below.pop()
        return values

    def last(self, count: int) -> list[Any]:
        """Take `count` values off the stack."""
        values = [self.stack.pop() for _ in range(count)]
        return values[::-1]


def _push(machine: _Machine, value: Any) -> None:
    machine.stack.append(value)


def _push_bytes(machine: _Machine, text: str) -> None:
    machine.stack.append(text.encode("latin-1"))  # a str of Python 2, as `pickletools` shows it


def _mark(machine: _Machine, _: Any) -> None:
    machine.below.append(machine.stack)
    machine.stack = []


def _tuple_of(count: int) -> Callable[[_Machine, Any], None]:
    return lambda machine, _: machine.stack.append(tuple(machine.last(count)))


def _tuple_since_mark(machine: _Machine, _: Any) -> None:
    values = tuple(machine.since_mark())
    machine.stack.append(values)


def _append(values: list[Any], machine: _Machine) -> None:
    target = machine.stack[-1]
    if type(target) is not list:
        raise TypeError
    target.extend(values)


def _set(values: list[Any], machine: _Machine) -> None:
    target = machine.stack[-1]
    keys = [text_of(key) for key in values[::2]]
    if type(target) is not dict or None in keys or len(values) % 2:
        raise TypeError
    target.update(zip(keys, values[1::2], strict=True))


def _name(machine: _Machine, name: str) -> None:
    if name not in _NAMES:
        raise ValueError(f"it names {printable(name.replace(' ', '.', 1))!r}, which an array does not need")
    machine.stack.append(Named(_NAMES[name]))


def _stack_name(machine: _Machine, _: Any) -> None:
    module, name = machine.last(2)
    if not isinstance(module, str) or not isinstance(name, str):
        raise TypeError
    _name(machine, f"{module} {name}")


def _reduce(machine: _Machine, _: Any) -> None:
    function, arguments = machine.last(2)
    if not isinstance(function, Named) or type(arguments) is not tuple:
        raise TypeError
    machine.stack.append(Made(function.name, arguments))


def _build(machine: _Machine, _: Any) -> None:
    state = machine.stack.pop()
    if not isinstance(machine.stack[-1], Made):
        raise TypeError
    machine.stack[-1].state = state


def _remember(machine: _Machine, index: Any) -> None:
    machine.memo[len(machine.memo) if index is None else index] = machine.stack[-1]


def _recall(machine: _Machine, index: int) -> None:
    machine.stack.append(machine.memo[index])


_OPERATIONS: dict[str, Callable[[_Machine, Any], None]] = {
    "PROTO": lambda machine, _: None,
    "FRAME": lambda machine, _: None,
    "NONE": _push,
    "NEWTRUE": lambda machine, _: machine.stack.append(True),
    "NEWFALSE": lambda machine, _: machine.stack.append(False),
    **dict.fromkeys(("BININT", "BININT1", "BININT2", "LONG1"), _push),
    **dict.fromkeys(("BINSTRING", "SHORT_BINSTRING"), _push_bytes),
    **dict.fromkeys(("BINBYTES", "SHORT_BINBYTES", "BINBYTES8"), _push),
    **dict.fromkeys(("BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"), _push),
    "MARK": _mark,
    "EMPTY_TUPLE": lambda machine, _: machine.stack.append(()),
    "TUPLE1": _tuple_of(1),
    "TUPLE2": _tuple_of(2),
    "TUPLE3": _tuple_of(3),
    "TUPLE": _tuple_since_mark,
    "EMPTY_LIST": lambda machine, _: machine.stack.append([]),
    "APPEND": lambda machine, _: _append(machine.last(1), machine),
    "APPENDS": lambda machine, _: _append(machine.since_mark(), machine),
    "EMPTY_DICT": lambda machine, _: machine.stack.append({}),
    "SETITEM": lambda machine, _: _set(machine.last(2), machine),
    "SETITEMS": lambda machine, _: _set(machine.since_mark(), machine),
    "GLOBAL": _name,
    "STACK_GLOBAL": _stack_name,
    "REDUCE": _reduce,
    "BUILD": _build,
    **dict.fromkeys(("BINPUT", "LONG_BINPUT", "MEMOIZE"), _remember),
    **dict.fromkeys(("BINGET", "LONG_BINGET"), _recall),
}
