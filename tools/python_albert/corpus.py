"""English prose about Python, found on every Debian machine with Python, its documentation and numpy.

The documentation of Python in its source form (package python3-doc), docstrings and comment blocks of the
standard library's and numpy's sources, the docstrings of built-in types and functions, and the language
reference that ``help()`` shows (pydoc topics), cleaned to paragraphs.
"""

import ast
import importlib
import inspect
import pydoc_data.topics
import re
import sys
import sysconfig
import warnings
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import numpy as np

SKIPPED_FOLDERS = {"test", "tests", "site-packages", "idlelib", "lib2to3", "turtledemo", "__phello__"}
# Written in C: only a running interpreter has their docstrings.
BUILT_IN = """
builtins _abc _asyncio _bisect _collections _contextvars _csv _datetime _decimal _elementtree
_functools _hashlib _heapq _io _json _operator _pickle _random _socket _sqlite3 _ssl _struct _thread _weakref
array atexit binascii cmath errno faulthandler fcntl gc itertools marshal math mmap posix pyexpat resource
select signal sys syslog termios time unicodedata zlib
""".split()  # noqa: SIM905
DOCUMENTATION = Path(
    "/usr/share/doc/python{0.major}.{0.minor}/html/_sources".format(sys.version_info)  # noqa: UP032
)
HELD_OUT_PERCENT = 4

_ROLE = re.compile(r":[a-z:]+:`~?([^`<]+?)(?: <[^>]*>)?`")
_QUOTED = re.compile(r"(``?|\"\"?)([^`\"]+)\1")
_STRESSED = re.compile(r"(?<!\w)(\*\*?|_)(\w[^*_]*?)\1(?!\w)")
_BULLET = re.compile(r"^\s*(?:[-*+o]|\(?\d{1,2}[.)]|#\.)\s+")
_RULE = re.compile(r"^\s*([-=~^*#_+|.])\1{2,}.*$|^\s*\.\. ")
_CODE = re.compile(
    r">>>|\.\.\. |^\s*[\w.]+\(.*\)(?: -> .*)?$|[{}=|<>]{2,}|==|\\|https?:|@|\$|copyright|license", re.I
)


@dataclass(frozen=True)
class Document:
    """Paragraphs of one docstring, comment block or topic."""

    source: str
    paragraphs: tuple[str, ...]
    held_out: bool


def documents() -> list[Document]:
    """All documents, in an order that depends on the texts alone; each paragraph occurs once."""
    seen: set[str] = set()
    found = []
    for source, origin, text in _texts():
        kept = []
        for paragraph in prose(text):
            key = re.sub(r"\W+", " ", paragraph.lower())
            if key not in seen:
                seen.add(key)
                kept.append(paragraph)
        if kept:
            # Whole subjects are held out: a module's docstrings and its documentation resemble each other.
            subject = origin.rpartition("/")[2].partition(".")[0].lstrip("_")
            held_out = zlib.crc32(subject.encode()) % 100 < HELD_OUT_PERCENT
            found.append(Document(source, tuple(kept), held_out))
    return found


def prose(text: str) -> Iterator[str]:
    """The prose paragraphs of a text, without markup, tables and code."""
    for block in re.split(r"\n\s*\n", inspect.cleandoc(text)):
        lines: list[str] = []
        for line in block.splitlines():
            if _RULE.match(line):
                lines = []  # the text above a rule is a heading
            elif _BULLET.match(line) and lines:
                yield from _prose(lines)
                lines = [_BULLET.sub("", line)]
            else:
                lines.append(_BULLET.sub("", line))
        yield from _prose(lines)


def _prose(lines: list[str]) -> Iterator[str]:
    text = " ".join(" ".join(lines).split())
    text = _ROLE.sub(r"\1", text)
    text = _STRESSED.sub(r"\2", _QUOTED.sub(r"\2", text)).replace("::", ":")
    kept = " ".join(filter(_is_prose, re.split(r"(?<=[a-z)][.!?:]) (?=[A-Z])", text)))
    if kept:
        yield kept


def _is_prose(sentence: str) -> bool:
    words = re.findall(r"(?<![\w.])[A-Za-z]+(?![\w(.]*[\w(])", sentence)
    if len(words) < 4 or len(sentence) < 20 or _CODE.search(sentence):
        return False
    return sum(map(len, words)) >= 0.68 * len(sentence) and sentence.isascii()


def _texts() -> Iterator[tuple[str, str, str]]:
    """(source, file or module, text)."""
    if not DOCUMENTATION.is_dir():
        raise FileNotFoundError(f"{DOCUMENTATION} is not there; Debian: apt install python3-doc")
    for path in sorted(DOCUMENTATION.rglob("*.txt")):
        yield "documentation", path.relative_to(DOCUMENTATION).as_posix(), path.read_text(encoding="utf-8")
    for name, topic in sorted(pydoc_data.topics.topics.items()):
        yield "pydoc topics", name, topic
    for name in BUILT_IN:
        for text in _docstrings_of(name):
            yield "built-in docstrings", name, text
    for source, root in (
        ("standard library", Path(sysconfig.get_path("stdlib"))),
        ("numpy", Path(np.__file__).parent),
    ):
        for path in sorted(root.rglob("*.py")):
            place = path.relative_to(root)
            if not SKIPPED_FOLDERS & set(place.parts):
                for text in _texts_of_file(path):
                    yield source, place.as_posix(), text


def _docstrings_of(module_name: str) -> Iterator[str]:
    try:
        module = importlib.import_module(module_name)
    except ImportError:
        return
    seen: set[str] = set()
    pending: list[object] = [module]
    while pending:
        thing = pending.pop(0)
        text = inspect.getdoc(thing)
        if text and text not in seen:
            seen.add(text)
            yield text
        if isinstance(thing, type | ModuleType):
            mine = (
                v for k, v in sorted(vars(thing).items()) if not isinstance(v, ModuleType) and k != "__doc__"
            )
            pending += [v for v in mine if callable(v) and (thing is module or not isinstance(v, type))]


def _texts_of_file(path: Path) -> Iterator[str]:
    try:
        source = path.read_text(encoding="utf-8")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(source)
    except (SyntaxError, UnicodeDecodeError):
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield ast.get_docstring(node) or ""
    for block in re.findall(r"(?:^[ \t]*#.*\n)+", source, re.MULTILINE):
        yield "\n".join(line.strip().lstrip("#!:") for line in block.splitlines())
