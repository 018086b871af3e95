"""Unpacks Snappy's block format, in which old versions of TensorFlow compress the blocks of an index."""

from ...protobuf import Malformed, varint

_MAX_BYTES = 1 << 26


def unpack(data: bytes) -> bytes:
    """The unpacked bytes; Malformed if ``data`` is no Snappy block or unpacks to far more than a block."""
    size, at = varint(data, 0)
    if size > _MAX_BYTES:
        raise Malformed("a compressed block claims to be far larger than blocks are")
    out = bytearray()
    while at < len(data):
        tag = data[at]
        at += 1
        step = _copy if tag & 3 else _literal
        at = step(data, at, tag, out)
        if len(out) > size:
            raise Malformed("a compressed block is longer than it says")
    if len(out) != size:
        raise Malformed("a compressed block is shorter than it says")
    return bytes(out)


def _literal(data: bytes, at: int, tag: int, out: bytearray) -> int:
    """Append the bytes that stand here; the place behind them."""
    length = tag >> 2
    if length >= 60:  # the length itself is in the next one to four bytes
        more = length - 59
        length = int.from_bytes(_take(data, at, more), "little")
        at += more
    out += _take(data, at, length + 1)
    return at + length + 1


def _copy(data: bytes, at: int, tag: int, out: bytearray) -> int:
    """Append bytes that were unpacked before; the place behind the reference to them."""
    match tag & 3:
        case 1:
            length, more = (tag >> 2 & 7) + 4, 1
        case 2:
            length, more = (tag >> 2) + 1, 2
        case _:
            length, more = (tag >> 2) + 1, 4
    back = int.from_bytes(_take(data, at, more), "little")
    if tag & 3 == 1:
        back |= tag >> 5 << 8
    if not 0 < back <= len(out):
        raise Malformed("a compressed block refers to bytes before its start")
    for _ in range(length):  # the bytes may overlap those they make
        out.append(out[-back])
    return at + more


def _take(data: bytes, at: int, count: int) -> bytes:
    if count > len(data) - at:
        raise Malformed("a compressed block is cut short")
    return data[at : at + count]
