"""The parts of a SentencePiece model (spiece.model) that make a tokenizer: its pieces and its normalizer.

The file is a protocol buffer, sentencepiece_model.proto. Only the fields below are needed, so they are read
here, bounds-checked, and the export has no dependency for them.
"""

import enum
import struct
from dataclasses import dataclass
from pathlib import Path

from ..errors import ExportError
from ..protobuf import Malformed, message_fields

SPACE = "\u2581"  # stands for a space within a piece

_MAX_BYTES = 64 << 20
_MAX_CHARSMAP_BYTES = 8 << 20
_UNIGRAM = 1
_MODEL_TYPES = {1: "unigram", 2: "BPE", 3: "word", 4: "char"}


class Kind(enum.IntEnum):
    """ModelProto.SentencePiece.Type."""

    NORMAL = 1
    UNKNOWN = 2
    CONTROL = 3
    USER_DEFINED = 4
    UNUSED = 5
    BYTE = 6


@dataclass(frozen=True, slots=True)
class Piece:
    """One token of the vocabulary; its id is its place in the list."""

    text: str
    score: float
    kind: Kind


@dataclass(frozen=True, slots=True)
class SentencePiece:
    """A unigram model. ``charsmap``: compiled character replacements, empty for none.

    ``composes``: they include NFKC's, which combine decomposed characters.
    """

    pieces: list[Piece]
    unknown_id: int
    byte_fallback: bool
    charsmap: bytes
    composes: bool
    add_dummy_prefix: bool
    remove_extra_whitespaces: bool


def read_spiece(path: Path) -> SentencePiece:
    """Read a unigram model. Raises ExportError naming the file if it is not one."""
    if path.stat().st_size > _MAX_BYTES:
        raise ExportError(f"{path} is far larger than a SentencePiece model can be")
    try:
        return _model(path.read_bytes())
    except Malformed as error:
        raise ExportError(f"{path} is no SentencePiece model that ALBERT can use: {error}") from None


def _model(data: bytes) -> SentencePiece:
    pieces: list[Piece] = []
    trainer: dict[int, int | bytes] = {}
    normalizer: dict[int, int | bytes] = {}
    for field, value in message_fields(data):
        match field, value:
            case 1, bytes():
                pieces.append(_piece(value))
            case 2, bytes():
                trainer.update(message_fields(value))
            case 3, bytes():
                normalizer.update(message_fields(value))
    if not pieces:
        raise Malformed("it holds no pieces")
    if (kind := _number(trainer, 3, _UNIGRAM)) != _UNIGRAM:
        raise Malformed(f"it is a {_MODEL_TYPES.get(kind, kind)} model, not a unigram one")
    unknown = [index for index, piece in enumerate(pieces) if piece.kind is Kind.UNKNOWN]
    if len(unknown) != 1:
        raise Malformed(f"it has {len(unknown)} unknown-word pieces instead of one")
    rule, charsmap = normalizer.get(1, b""), normalizer.get(2, b"")
    if not isinstance(rule, bytes) or not isinstance(charsmap, bytes):
        raise Malformed("its normalizer has fields of another type")
    _check_charsmap(charsmap)
    return SentencePiece(
        pieces,
        unknown[0],
        bool(_number(trainer, 35, 0)),
        charsmap,
        bool(charsmap) and b"nfkc" in rule,
        bool(_number(normalizer, 3, 1)),
        bool(_number(normalizer, 4, 1)),
    )


def _piece(data: bytes) -> Piece:
    values = dict(message_fields(data))
    text, score = values.get(1, b""), values.get(2, b"\0\0\0\0")
    if not isinstance(text, bytes) or not isinstance(score, bytes) or len(score) != 4:
        raise Malformed("a piece has fields of another type")
    number: float = struct.unpack("<f", score)[0]
    if not abs(number) < float("inf"):
        raise Malformed("a piece's score is no finite number")
    try:
        return Piece(text.decode(), number, Kind(_number(values, 3, Kind.NORMAL)))
    except ValueError:  # UnicodeDecodeError too
        raise Malformed("a piece is no UTF-8 text or of an unknown type") from None


def _check_charsmap(charsmap: bytes) -> None:
    """Its layout: the size of the trie, the trie (whole 32-bit units), then the replacement texts."""
    if not charsmap:
        return
    size = int.from_bytes(charsmap[:4], "little")
    if len(charsmap) > _MAX_CHARSMAP_BYTES or size % 4 or not 0 < size <= len(charsmap) - 4:
        raise Malformed("its character map is damaged")
    try:
        charsmap[4 + size :].decode()
    except UnicodeDecodeError:
        raise Malformed("its character map is damaged") from None


def _number(values: dict[int, int | bytes], field: int, default: int) -> int:
    value = values.get(field, default)
    if not isinstance(value, int):
        raise Malformed(f"field {field} is not a number")
    return value
