"""albert-serve: exported models behind HTTP and gRPC."""

import argparse
import math
import os
import sys
from collections.abc import Callable, Sequence
from importlib import metadata

from ..backends.registry import NAMES
from ..errors import AlbertError
from .limits import Limits

# Half of what the server takes at once: one model that is asked too much leaves room for the others.
_MAX_OWED = Limits().concurrency // 2
_INSTALL = "pip install 'albert-runtime[serve]'"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; 0 after SIGTERM with everything answered, 1 if something failed, 2 for bad usage."""
    options = _parser().parse_args(arguments)
    limits = Limits(
        body_bytes=options.max_body_mib * 2**20,
        answer_bytes=options.max_answer_mib * 2**20,
        texts=options.max_texts,
        tokens=options.max_tokens,
        concurrency=options.max_concurrency,
        timeout=options.timeout,
        keep_alive=options.keep_alive,
        drain_timeout=options.drain_timeout,
    )
    # gRPC's own log is no JSON, and tells nothing but errors of clients.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    try:
        import uvloop  # noqa: PLC0415  (parts of the extra)

        from . import logs, models, server, service  # noqa: PLC0415
    except ModuleNotFoundError as error:
        print(f"albert-serve: error: the package {error.name} is not installed; {_INSTALL}", file=sys.stderr)
        return 1
    logs.set_up(options.log_level)
    try:
        loaded = models.Models(limits)
        for path in options.artifacts:
            loaded.load(
                path,
                backend=options.backend,
                precision=options.precision,
                num_threads=options.threads,
                max_batch_tokens=options.max_batch_tokens,
                max_queue=options.max_queue,
                max_queue_delay=options.max_queue_delay,
            )
        address = server.Address(options.host, options.port, None if options.no_grpc else options.grpc_port)

        async def run() -> bool:
            return await server.serve(
                service.Service(loaded, limits), address, metadata.version("albert-runtime")
            )

        return 0 if uvloop.run(run()) else 1
    except AlbertError as error:
        print(f"albert-serve: error: {error}", file=sys.stderr)
        return 1


def _number(kind: Callable[[str], float], least: float, most: float, wanted: str) -> Callable[[str], float]:
    def read(text: str) -> float:
        try:
            value = kind(text)
        except ValueError:
            value = math.nan
        if not least <= value <= most:
            raise argparse.ArgumentTypeError(f"{text[:40]!r} is not {wanted}")
        return value

    return read


_count = _number(int, 1, 2**31 - 1, "a whole number of at least 1")
_port = _number(int, 0, 65535, "a port from 0 to 65535")
_seconds = _number(float, 0, 3600, "seconds from 0 to 3600")
_wait = _number(float, 0.001, 3600, "seconds from 0.001 to 3600")


def _parser() -> argparse.ArgumentParser:
    limits = Limits()
    parser = argparse.ArgumentParser(
        prog="albert-serve",
        description="Serve exported models: the Open Inference Protocol (KServe v2) over HTTP and gRPC, "
        "/v1/embeddings, /predict, /metrics and a page at /.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument(
        "artifacts", metavar="ARTIFACT", nargs="+", help="as for Predictor: program, stem or folder"
    )
    where = parser.add_argument_group("where")
    where.add_argument("--host", default="127.0.0.1", help="address to listen at; 0.0.0.0 for all")
    where.add_argument("--port", type=_port, default=8000, help="for HTTP; 0 = any free one")
    where.add_argument("--grpc-port", type=_port, default=8001, help="for gRPC; 0 = any free one")
    where.add_argument("--no-grpc", action="store_true", help="HTTP only")
    how = parser.add_argument_group("how")
    how.add_argument("--backend", choices=("auto", *NAMES), default="auto", help="what runs the models")
    how.add_argument("--precision", default="auto", help="auto, or fp32, bf16, int8 on the C++ engine")
    how.add_argument(
        "--threads", type=_count, default=None, help="of a pass; None = the CPUs of this process"
    )
    how.add_argument("--max-batch-tokens", type=_count, default=None, help="of a pass; None = the backend's")
    how.add_argument("--max-queue", type=_count, default=_MAX_OWED, help="requests a model may owe")
    how.add_argument("--max-queue-delay", type=_seconds, default=0.0, help="seconds a pass waits to fill")
    bounds = parser.add_argument_group("bounds")
    bounds.add_argument(
        "--max-body-mib", type=_count, default=limits.body_bytes >> 20, help="MiB of a request"
    )
    bounds.add_argument(
        "--max-answer-mib", type=_count, default=limits.answer_bytes >> 20, help="MiB of an answer's numbers"
    )
    bounds.add_argument("--max-texts", type=_count, default=limits.texts, help="texts of a request")
    bounds.add_argument("--max-tokens", type=_count, default=limits.tokens, help="tokens of a request")
    bounds.add_argument("--max-concurrency", type=_count, default=limits.concurrency, help="requests at once")
    bounds.add_argument(
        "--timeout", type=_wait, default=limits.timeout, help="seconds until a request is given up"
    )
    bounds.add_argument(
        "--keep-alive",
        type=_wait,
        default=limits.keep_alive,
        help="seconds an idle connection is kept; more than the proxy in front keeps its own",
    )
    bounds.add_argument(
        "--drain-timeout", type=_seconds, default=limits.drain_timeout, help="seconds, after SIGTERM"
    )
    parser.add_argument(
        "--log-level", choices=("debug", "info", "warning", "error"), default="info", help="of the log"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
