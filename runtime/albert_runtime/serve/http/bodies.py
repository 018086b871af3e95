"""Request bodies: read within a limit and a deadline, decompressed, and form fields taken from them."""

import asyncio
import zlib
from collections.abc import Sequence
from urllib.parse import parse_qs

from starlette.requests import ClientDisconnect, Request

from ..errors import BodyTimeout, BodyTooLarge, ClientDisconnected, MalformedRequest

_MAX_FORM_FIELDS = 8


async def read_body(request: Request, max_bytes: int, timeout: float) -> bytes:
    """Read the whole body and decompress it.

    Args:
        request: The request.
        max_bytes: Most bytes to accept, before and after decompression.
        timeout: Seconds in which the body must arrive.

    Raises:
        BodyTooLarge: As soon as the body is known to be too large.
        BodyTimeout: The body did not arrive in time.
        ClientDisconnected: The client closed the connection before the end of the body.
        MalformedRequest: The body cannot be decompressed.
    """
    length = request.headers.get("content-length", "")
    if length.isascii() and length.isdigit() and int(length[:20]) > max_bytes:
        raise BodyTooLarge(f"the body has {length[:20]} bytes; this server takes {max_bytes} at most")
    try:
        body = await asyncio.wait_for(_receive(request, max_bytes), timeout)
    except asyncio.TimeoutError:
        raise BodyTimeout(f"the body did not arrive within {timeout:g} s") from None
    except ClientDisconnect:
        raise ClientDisconnected("the client closed the connection before the end of the body") from None
    encoding = request.headers.get("content-encoding", "identity").lower()
    if encoding == "identity":
        return body
    if encoding not in ("gzip", "deflate"):
        raise MalformedRequest(f"content-encoding {encoding[:20]!r} is not supported; use gzip or deflate")
    return await asyncio.to_thread(_decompress, body, max_bytes)


async def _receive(request: Request, max_bytes: int) -> bytes:
    chunks, size = [], 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > max_bytes:
            raise BodyTooLarge(f"the body is too large; this server takes {max_bytes} bytes at most")
        chunks.append(chunk)
    return b"".join(chunks)


def _decompress(body: bytes, max_bytes: int) -> bytes:
    decompressor = zlib.decompressobj(zlib.MAX_WBITS | 32)  # 32: tell gzip from zlib by the header
    try:
        plain = decompressor.decompress(body, max_bytes + 1)
    except zlib.error as error:
        raise MalformedRequest(f"the body cannot be decompressed ({error})") from None
    if len(plain) > max_bytes:
        raise BodyTooLarge(f"the decompressed body is too large; this server takes {max_bytes} bytes at most")
    if not decompressor.eof:
        raise MalformedRequest("the compressed body is cut short")
    if decompressor.unused_data:
        raise MalformedRequest(f"{len(decompressor.unused_data)} bytes follow the compressed body")
    return plain


def form_fields(body: bytes, names: Sequence[str]) -> list[str]:
    """The values of form fields, "" for those that are missing."""
    try:
        fields = parse_qs(body.decode("utf-8", "replace"), max_num_fields=_MAX_FORM_FIELDS)
    except ValueError:
        raise MalformedRequest(f"the form has more than {_MAX_FORM_FIELDS} fields") from None
    return [fields.get(name, [""])[0] for name in names]


async def wait_for_disconnect(request: Request) -> None:
    """Return when the client closes the connection. The body must have been read before."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
