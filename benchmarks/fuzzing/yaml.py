"""A grammar of YAML files of settings: the truth is a tree of names, texts, lists and nothing, in any style.

Settings take every plain value as text, so the texts are those that YAML would make something else of: `no`, `1:30`,
`08`, `1e3`. The reader lies above the floors that a benchmark may use; its test gives it to `judge`.
"""

import json
import re
from collections.abc import Callable
from typing import Any

from benchmarks.fuzzing.case import CANARIES, Case, Random, chance, pick

Tree = dict[str, Any]

TEXTS = (
    "svd", "0.1", "1e-3", "no", "Yes", "true", "1:30", "08", "0x1F", "1_000", ".inf", "2024-02-29", "a b", "Ödem",
    "💥", "a: b", "# not", "it's", 'so "called"', "- x", "*a", "&a", "!tag", "%", "@", "`", "null", "~", "", " ",
    "a\nb", "\t", "<<", "=", "{", "]", "x" * 300, CANARIES[0], "null ", "...", "---",
)  # fmt: skip
_PLAIN = re.compile(r"[A-Za-z0-9Ö][\w.+-]*(?: \w+)*")  # what needs no quotes anywhere


def draw(random: Random) -> Case:
    """Draw a file of settings; six in ten are legal."""
    tree, rules = _mapping(random, 3), []
    body = _block(tree, 0, random)
    if chance(random, 0.2):
        rules.append("alias")
        inner = _mapping(random, 1)
        body += f"first_use: &name {_flow(inner, random)}\nsecond_use: [*name, *name]\n"
        tree |= {"first_use": inner, "second_use": [inner, inner]}
    head = pick(random, ["", "", "---\n", "# settings\n\n", "%YAML 1.1\n---\n", "\ufeff"])
    tail = pick(random, ["", "", "...\n", "\n\n", "# end"])
    if not chance(random, 0.4):
        end = pick(random, ["\n", "\n", "\r\n"])
        return Case(".yaml", (head + body + tail).replace("\n", end).encode(), tuple(rules), True, tree)
    defect = pick(random, DEFECTS)
    rules.append(f"defect: {defect.__name__}")
    text, expected = defect(body, tree, random)
    data = text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass")
    return Case(".yaml", data, tuple(rules), False, expected)


def _mapping(random: Random, depth: int) -> Tree:
    """Draw a group of settings that is not empty."""
    names = random.permutation(["seed", "method", "Data", "a b", "no", "1", "Ödem", "x-y"])[: random.integers(1, 6)]
    return {name: _value(random, depth - 1) for name in names.tolist()}


def _value(random: Random, depth: int) -> Any:
    kind = random.random()
    if depth > 0 and kind < 0.25:
        return _mapping(random, depth)
    if depth > 0 and kind < 0.45:
        return [_value(random, depth - 1) for _ in range(int(random.integers(0, 4)))]
    return None if kind > 0.95 else pick(random, TEXTS)


def _block(tree: Tree, indent: int, random: Random) -> str:
    """Write a group line by line, what is in it in either style."""
    space, deeper = " " * indent, indent + int(random.integers(1, 5))
    out = ""
    for name, value in tree.items():
        key = f"{space}{_scalar(name, random)}:"
        if isinstance(value, dict) and chance(random, 0.7):
            out += f"{key}\n{_block(value, deeper, random)}"
        elif isinstance(value, list) and value and chance(random, 0.6):
            out += f"{key}\n" + "".join(f"{space}- {_flow(each, random)}\n" for each in value)
        elif value == "a\nb" and chance(random, 0.7):
            out += f"{key} |-\n{space}  a\n{space}  b\n"
        else:
            out += f"{key} {_flow(value, random)}{pick(random, ['', '', '  # why'])}\n"
        if chance(random, 0.1):
            out += pick(random, ["\n", f"{space}# note\n"])
    return out


def _flow(value: Any, random: Random) -> str:
    """Write a value on one line."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_scalar(name, random)}: {_flow(each, random)}" for name, each in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(_flow(each, random) for each in value) + "]"
    return pick(random, ["null", "~", "Null"]) if value is None else _scalar(value, random)


def _scalar(text: str, random: Random) -> str:
    """Write a text plain where that means the text, else in quotes."""
    if _PLAIN.fullmatch(text) and text.casefold() != "null" and chance(random, 0.6):
        return text
    if text.isprintable() and chance(random, 0.5):
        return "'" + text.replace("'", "''") + "'"
    return json.dumps(text, ensure_ascii=all(ord(c) < 2**16 for c in text) and chance(random, 0.5))


Made = tuple[str | bytes, Any]


def _repeated_name(body: str, tree: Tree, random: Random) -> Made:
    name = pick(random, tree)
    return body + f"{json.dumps(name)}: again\n", "a setting is given twice"


def _tag(body: str, tree: Tree, random: Random) -> Made:
    tags = ["!!python/object/apply:os.system [x]", "!!set {a}", "!!binary aGk=", "!own x", "!!int '7'", "!<tag:x> y"]
    return body + f"tagged: {pick(random, tags)}\n", "a tag makes something else of a value"


def _second_document(body: str, tree: Tree, random: Random) -> Made:
    return f"{body}---\n{body}", "there are two documents"


def _broken(body: str, tree: Tree, random: Random) -> Made:
    """Put a character where it opens, closes or ends what it should not; the file may still mean something."""
    place = int(random.integers(len(body) + 1))
    return body[:place] + pick(random, list("[]{}'\"&*!|>%@`\t:-#,?\n")) + body[place:], None


def _cut(body: str, tree: Tree, random: Random) -> Made:
    data = body.encode()
    return data[: int(random.integers(len(data)))], None


def _other_bytes(body: str, tree: Tree, random: Random) -> Made:
    bad = pick(random, [b"\xff", b"\0", b"\x80", b"\xed\xa0\x80", b"\x1b", b"\x7f", b"\xef\xbf\xbe"])
    data = body.encode()
    return data + b"bad: '" + bad + b"'\n", "bytes are no text"


def _other_encoding(body: str, tree: Tree, random: Random) -> Made:
    return body.encode(pick(random, ["utf-16", "utf-16-le", "utf-32", "utf-16-be"])), tree


def _escape(body: str, tree: Tree, random: Random) -> Made:
    escapes = ["\\UFFFFFFFF", "\\ud800", "\\xZZ", "\\U00110000", "\\q", "\\u12"]
    return body + f'escaped: "{pick(random, escapes)}"\n', "an escape stands for no character"


def _deep(body: str, tree: Tree, random: Random) -> Made:
    depth = int(random.choice([100, 5000, 100_000]))
    opened, closed = pick(random, ["[]", ("{a: ", "}"), ("[{a: ", "}]")])
    return f"{body}deep: {opened * depth}{closed * (depth if chance(random, 0.5) else 0)}\n", "it is nested without end"


def _deep_block(body: str, tree: Tree, random: Random) -> Made:
    depth = int(random.choice([100, 600]))
    return body + "".join(" " * level + "a:\n" for level in range(depth)), "it is nested without end"


def _many_laughs(body: str, tree: Tree, random: Random) -> Made:
    """Name a list of ten of the one before, thirty times."""
    lines = ["l0: &l0 [lol]"]
    lines += [f"l{level}: &l{level} [{', '.join([f'*l{level - 1}'] * 10)}]" for level in range(1, 30)]
    return body + "\n".join(lines) + "\n", "it grows without end"


def _own_alias(body: str, tree: Tree, random: Random) -> Made:
    return body + pick(
        random, ["own: &own [*own]\n", "own: *nothing\n", "own: &own {a: *own}\n"]
    ), "an alias stands for nothing"


def _no_mapping(body: str, tree: Tree, random: Random) -> Made:
    return pick(random, ["", "[]\n", "text\n", "- a\n", "42", "# nothing", "---\n---\n", "null\n"]), "it is no mapping"


def _no_name(body: str, tree: Tree, random: Random) -> Made:
    return body + pick(
        random, ["? [a]\n: b\n", "? {a: b}\n: c\n", ": x\n", "~: x\n", "[a]: b\n"]
    ), "a setting has no name"


def _large(body: str, tree: Tree, random: Random) -> Made:
    many = pick(
        random, ["x: " + "9" * 300_000, "x: [" + "1, " * 60_000 + "]", "#" * 10**6, "a" * 2000 + ": 1", "\n" * 10**6]
    )
    return f"{body}{many}\n", None


def _tabs(body: str, tree: Tree, random: Random) -> Made:
    return body + "group:\n\tinner: 1\n", "a tab indents"


DEFECTS: tuple[Callable[[str, Tree, Random], Made], ...] = (
    _repeated_name, _tag, _second_document, _broken, _broken, _broken, _cut, _other_bytes, _other_encoding, _escape,
    _deep, _deep_block, _many_laughs, _own_alias, _no_mapping, _no_name, _large, _tabs,
)  # fmt: skip


def difference(found: Tree, truth: Tree | str) -> str:
    """Say that settings that were read are others than those drawn; "" if they are the same."""
    if isinstance(truth, str):
        return f"taken, although {truth}"
    return "" if found == truth else f"read as {found!r}"[:200]
