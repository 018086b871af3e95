"""What comes with a request, bounded and decompressed; what is sent; and the end of the connection."""

import asyncio
import zlib
from collections.abc import Sequence
from urllib.parse import parse_qs

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Send

from ..errors import Gone, Malformed, TooLarge, TooSlow

_MAX_FIELDS = 8
_SLICE = 2**18


async def read_body(request: Request, most: int, seconds: float) -> bytes:
    """The whole body, decompressed; TooLarge as soon as it is known to be, TooSlow, Gone or Malformed."""
    length = request.headers.get("content-length", "")
    if length.isascii() and length.isdigit() and int(length[:20]) > most:
        raise TooLarge(f"the body has {length[:20]} bytes; this server takes {most}")
    try:
        body = await asyncio.wait_for(_received(request, most), seconds)
    except asyncio.TimeoutError:
        raise TooSlow(f"the body did not come within {seconds:g} s") from None
    except ClientDisconnect:
        raise Gone("the client closed the connection within its body") from None
    encoding = request.headers.get("content-encoding", "identity").lower()
    if encoding == "identity":
        return body
    if encoding not in ("gzip", "deflate"):
        raise Malformed(f"content-encoding {encoding[:20]!r} is unknown; gzip and deflate are known")
    return await asyncio.to_thread(_decompressed, body, most)


async def _received(request: Request, most: int) -> bytes:
    chunks, size = [], 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > most:
            raise TooLarge(f"the body has more than {most} bytes, which this server takes")
        chunks.append(chunk)
    return b"".join(chunks)


def _decompressed(body: bytes, most: int) -> bytes:
    reader = zlib.decompressobj(zlib.MAX_WBITS | 32)  # the header tells gzip from zlib
    try:
        plain = reader.decompress(body, most + 1)
    except zlib.error as error:
        raise Malformed(f"the body cannot be decompressed ({error})") from None
    if len(plain) > most:
        raise TooLarge(f"the decompressed body has more than {most} bytes, which this server takes")
    if not reader.eof:
        raise Malformed("the compressed body ends too early")
    if reader.unused_data:
        raise Malformed(f"{len(reader.unused_data)} bytes follow the compressed body")
    return plain


def form_of(body: bytes, fields: Sequence[str]) -> list[str]:
    """Fields of a form, "" for those that are not in it."""
    try:
        found = parse_qs(body.decode("utf-8", "replace"), max_num_fields=_MAX_FIELDS)
    except ValueError:
        raise Malformed(f"the form has more than {_MAX_FIELDS} fields") from None
    return [found.get(field, [""])[0] for field in fields]


async def send_in_slices(response: Response, send: Send) -> None:
    """Send an answer in slices, each when the one before is on its way, and return when the last is begun.

    How long a slice may take is the connection's to say.
    """
    await send(
        {"type": "http.response.start", "status": response.status_code, "headers": response.raw_headers}
    )
    body = memoryview(response.body)
    for start in range(0, max(1, len(body)), _SLICE):
        stop = start + _SLICE
        part = {"body": bytes(body[start:stop]), "more_body": stop < len(body)}
        await send({"type": "http.response.body", **part})


async def disconnected(request: Request) -> None:
    """Return when the client closes the connection. The body must have been read."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
