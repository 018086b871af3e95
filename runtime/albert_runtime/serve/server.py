"""Both servers in one event loop, from the open ports to the last answer."""

import asyncio
import contextlib
import logging
import math
import signal
import socket
from dataclasses import dataclass

import uvicorn

from ..errors import AlbertError
from .grpc.service import make_server
from .http import connection
from .http.app import make_app
from .service import Service

_log = logging.getLogger("albert_serve")
_LAST_SECONDS = 1.0  # when the time to drain is up, for telling so


class CannotListen(AlbertError):
    """An address cannot be listened at."""


@dataclass(frozen=True, slots=True)
class Address:
    """Where to listen; port 0 = any that is free, None = not at all."""

    host: str
    port: int
    grpc_port: int | None


async def serve(service: Service, address: Address, version: str) -> bool:
    """Listen, warm up, answer until SIGTERM or SIGINT, and then answer what was accepted.

    Whether all of it was answered in time.
    """
    going_down = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, going_down.set)
    listening = _listen(address.host, address.port)
    grpc_server = make_server(service, version) if address.grpc_port is not None else None
    grpc_port = None
    if grpc_server is not None:
        try:
            grpc_port = grpc_server.add_insecure_port(_authority(address.host, address.grpc_port or 0))
        except RuntimeError:
            where = _authority(address.host, address.grpc_port or 0)
            raise CannotListen(f"cannot listen at {where}; choose another --grpc-port or --host") from None
        await grpc_server.start()
    http = _Http(connection.config(make_app(service, version), service.limits))
    serving = asyncio.ensure_future(http.serve(sockets=[listening]))
    port = listening.getsockname()[1]
    fields = {
        "http": _authority(address.host, port),
        "grpc": None if grpc_port is None else _authority(address.host, grpc_port),
    }
    _log.info("listening", extra={"fields": fields})
    await service.warm_up()
    _log.info("ready", extra={"fields": {"models": [model.name for model in service.models]}})
    stopping = asyncio.ensure_future(going_down.wait())
    await asyncio.wait({stopping, serving}, return_when=asyncio.FIRST_COMPLETED)
    _log.info("draining")
    until = loop.time() + service.limits.drain_timeout
    in_time = await service.drain()
    await asyncio.to_thread(service.models.close, cancel=not in_time)
    # Answers that are being sent over gRPC, and refusals.
    left = max(_LAST_SECONDS, until - loop.time())
    http.config.timeout_graceful_shutdown = math.ceil(left)
    http.should_exit = True
    if grpc_server is not None:
        await grpc_server.stop(left)
    await serving
    _log.info("stopped", extra={"fields": {"all_answered": in_time}})
    return in_time


class _Http(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self):  # type: ignore[no-untyped-def]
        """The signals are the whole server's."""
        yield


def _listen(host: str, port: int) -> socket.socket:
    try:
        info = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        found = socket.socket(info[0], info[1])
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        # Head and body of an answer are two writes; without this the second waits 40 ms for the first's ack.
        found.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        found.bind(info[4])
        found.listen(2048)
    except OSError as error:
        where = _authority(host, port)
        raise CannotListen(
            f"cannot listen at {where} ({error.strerror}); choose another --port or --host"
        ) from None
    return found


def _authority(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
