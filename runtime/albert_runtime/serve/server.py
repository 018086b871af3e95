"""Runs the HTTP and the gRPC server in one event loop: listen, load, serve, drain, stop."""

import asyncio
import contextlib
import logging
import math
import signal
import socket
from dataclasses import dataclass

import grpc.aio
import uvicorn

from ..errors import AlbertError
from .grpc.service import make_server
from .http import connection
from .http.app import make_app
from .service import Service

_log = logging.getLogger("albert_serve")
_MIN_STOP_SECONDS = 1.0  # for sending refusals after the time to drain is up
_BACKLOG = 2048


class CannotListen(AlbertError):
    """The server cannot listen on an address."""


@dataclass(frozen=True, slots=True)
class Address:
    """Where to listen.

    Attributes:
        host: Host name or IP address.
        port: Port for HTTP; 0 for any free one.
        grpc_port: Port for gRPC; 0 for any free one, None for no gRPC.
    """

    host: str
    port: int
    grpc_port: int | None


async def serve(service: Service, address: Address, version: str) -> bool:
    """Listen, load the models and serve until SIGTERM or SIGINT; then finish the requests that were accepted.

    On SIGHUP the models are loaded again. A load in progress at the end goes on (``service.loader.busy``).

    Args:
        service: What to serve.
        address: Where to listen.
        version: The version that the server reports.

    Returns:
        Whether every accepted request was answered within the time to drain.

    Raises:
        CannotListen: A port is taken, or the host is unknown.
        AlbertError: A model cannot be loaded.
    """
    shutdown, reload = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, shutdown.set)
    loop.add_signal_handler(signal.SIGHUP, reload.set)
    listening = _listen(address.host, address.port)
    grpc_server, grpc_port = await _start_grpc(service, address, version)
    http_server = _HttpServer(connection.uvicorn_config(make_app(service, version), service.limits))
    http_serving = asyncio.ensure_future(http_server.serve(sockets=[listening]))
    port = listening.getsockname()[1]
    fields = {
        "http": _authority(address.host, port),
        "grpc": None if grpc_port is None else _authority(address.host, grpc_port),
    }
    _log.info("listening", extra={"fields": fields})
    loading = asyncio.ensure_future(_load(service, reload))
    shutdown_requested = asyncio.ensure_future(shutdown.wait())
    await asyncio.wait({loading, shutdown_requested, http_serving}, return_when=asyncio.FIRST_COMPLETED)
    if loading.done():  # it ends only with an error
        await _stop(http_server, http_serving, grpc_server, _MIN_STOP_SECONDS)
        loading.result()
    loading.cancel()
    _log.info("draining")
    deadline = loop.time() + service.limits.drain_timeout
    all_answered = await service.drain()
    await asyncio.to_thread(service.models.close, cancel=not all_answered)
    # What is left are answers still being sent over gRPC, and refusals.
    stop_seconds = max(_MIN_STOP_SECONDS, deadline - loop.time())
    await _stop(http_server, http_serving, grpc_server, stop_seconds)
    _log.info("stopped", extra={"fields": {"all_answered": all_answered}})
    return all_answered


async def _stop(
    http_server: "_HttpServer",
    http_serving: "asyncio.Future[None]",
    grpc_server: grpc.aio.Server | None,
    seconds: float,
) -> None:
    """Close both servers, once their answers are sent or the time is up."""
    http_server.config.timeout_graceful_shutdown = math.ceil(seconds)
    http_server.should_exit = True
    if grpc_server is not None:
        await grpc_server.stop(seconds)
    await http_serving


async def _load(service: Service, reload: asyncio.Event) -> None:
    """Load the models, and again whenever the event is set."""
    await service.loader.start()
    _log.info("ready", extra={"fields": {"models": [model.name for model in service.models]}})
    while True:
        await reload.wait()
        reload.clear()  # a signal that comes during the load is another one
        await service.loader.reload_all()


async def _start_grpc(
    service: Service, address: Address, version: str
) -> tuple[grpc.aio.Server | None, int | None]:
    """The gRPC server and its port; (None, None) if there is to be none."""
    if address.grpc_port is None:
        return None, None
    server = make_server(service, version)
    authority = _authority(address.host, address.grpc_port)
    try:
        port = server.add_insecure_port(authority)
    except RuntimeError:
        raise CannotListen(f"cannot listen on {authority}; choose another --grpc-port or --host") from None
    await server.start()
    return server, port


class _HttpServer(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self):  # type: ignore[no-untyped-def]
        """Leave the signals alone: ``serve`` handles them for both servers."""
        yield


def _listen(host: str, port: int) -> socket.socket:
    try:
        info = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        listening = socket.socket(info[0], info[1])
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        # Headers and body are two writes; without this the second waits 40 ms for an acknowledgement.
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        listening.bind(info[4])
        listening.listen(_BACKLOG)
    except OSError as error:
        authority = _authority(host, port)
        raise CannotListen(
            f"cannot listen on {authority} ({error.strerror}); choose another --port or --host"
        ) from None
    return listening


def _authority(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
