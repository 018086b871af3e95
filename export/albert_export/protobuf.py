"""Reads protocol buffers without the package of that name: fields by number, bounds-checked."""

from collections.abc import Iterator


class Malformed(Exception):
    """The bytes are no such message; the text says what is wrong."""


def message_fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """(number, value) of each field of one message: an int for a varint, else the bytes."""
    at = 0
    while at < len(data):
        key, at = varint(data, at)
        field, wire = key >> 3, key & 7
        if field == 0:
            raise Malformed("it is not a protocol buffer")
        match wire:
            case 0:  # a varint
                number, at = varint(data, at)
                yield field, number
                continue
            case 1:  # 64 bits
                length = 8
            case 2:  # bytes, a text or a message
                length, at = varint(data, at)
            case 5:  # 32 bits
                length = 4
            case _:
                raise Malformed("it is not a protocol buffer")
        if length > len(data) - at:
            raise Malformed("it is cut short, or not a protocol buffer")
        yield field, data[at : at + length]
        at += length


def varints(data: bytes) -> Iterator[int]:
    """The numbers of a packed field."""
    at = 0
    while at < len(data):
        number, at = varint(data, at)
        yield number


def varint(data: bytes, at: int) -> tuple[int, int]:
    """The number that starts at ``at``, and where the next field starts."""
    number = 0
    for shift in range(0, 70, 7):
        if at >= len(data):
            break
        byte = data[at]
        at += 1
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            return number, at
    raise Malformed("it is cut short, or not a protocol buffer")
