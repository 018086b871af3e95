"""`albert-serve`: serve exported models over HTTP and gRPC."""

import argparse
import math
import os
import sys
from collections.abc import Callable, Sequence
from importlib import metadata

from ..backends.registry import NAMES
from ..errors import AlbertError
from .limits import ServerLimits

# Half of the server's limit: when one model's queue is full, there is still room for the other models.
_DEFAULT_MAX_QUEUE = ServerLimits().max_concurrency // 2
_INSTALL = "pip install 'albert-runtime[serve]'"
_EPILOG = """\
examples:
  serve one model, HTTP on port 8000 and gRPC on port 8001 of this machine only:
    albert-serve ./albert-base-v2
    curl localhost:8000/predict -d '{"text": "A great film."}'

  serve two models to other machines, over HTTP only:
    albert-serve ./sentiment ./embedder --host 0.0.0.0 --no-grpc
    curl SERVER:8000/predict -d '{"model": "sentiment", "text": "A great film."}'
    curl SERVER:8000/v1/embeddings -d '{"model": "embedder", "input": ["A sentence."]}'

  multiply in int8 on 4 threads, and refuse work early when the server is busy:
    albert-serve ./albert-base-v2 --precision int8 --threads 4 --max-queue 64 --timeout 5

  serve only if this machine computes to the bit what the exporting machine did:
    albert-serve ./albert-base-v2 --backend native --prove

endpoints: /v2/models/NAME/infer, /predict, /v1/embeddings, /v1/rerank, /v1/models, /metrics,
  /v2/health/ready and more, all of them described in /openapi.json; / is a status page with a form to try
  the models

signals: SIGTERM and SIGINT answer the accepted requests and stop; SIGHUP loads the models again, for example
  after albert-export --force, and each takes over when it is checked and warm

exit codes: 0 stopped by SIGTERM or SIGINT with every accepted request answered, 1 failed, or stopped with
  some requests unanswered, 2 wrong usage
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command.

    Args:
        arguments: The command's arguments; None for those of the process.

    Returns:
        The exit code, as the help explains it.
    """
    options = _parser().parse_intermixed_args(arguments)
    limits = ServerLimits(
        max_body_bytes=options.max_body_mib * 2**20,
        max_answer_bytes=options.max_answer_mib * 2**20,
        max_texts=options.max_texts,
        max_tokens=options.max_tokens,
        max_concurrency=options.max_concurrency,
        timeout=options.timeout,
        keep_alive=options.keep_alive,
        drain_timeout=options.drain_timeout,
        truncate=options.truncate,
    )
    # gRPC's own log is not JSON, and reports only errors that clients made.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    try:
        import uvloop  # noqa: PLC0415  (in the extra, as are the imports of these modules)

        from . import logs, models, server, service  # noqa: PLC0415
    except ModuleNotFoundError as error:
        print(f"albert-serve: error: the package {error.name} is not installed; {_INSTALL}", file=sys.stderr)
        return 1
    logs.configure(options.log_level)
    try:
        loaded = models.Models(limits)
        for path in options.artifacts:
            loaded.add(
                path,
                backend=options.backend,
                precision=options.precision,
                num_threads=options.threads,
                max_batch_tokens=options.max_batch_tokens,
                max_queue=options.max_queue,
                max_queue_delay=options.max_queue_delay,
                prove=options.prove,
            )
        address = server.Address(options.host, options.port, None if options.no_grpc else options.grpc_port)

        async def run() -> int:
            served = service.Service(loaded, limits, allow_load=options.allow_load)
            code = 0 if await server.serve(served, address, metadata.version("albert-runtime")) else 1
            if served.loader.busy:
                # A load cannot be stopped, and Python must not end under the engine's threads.
                os._exit(code)
            return code

        return uvloop.run(run())
    except AlbertError as error:
        print(f"albert-serve: error: {error}", file=sys.stderr)
        return 1


def _number(
    convert: Callable[[str], float], minimum: float, maximum: float, expected: str
) -> Callable[[str], float]:
    """A type for argparse: a number within bounds; ``expected`` is what the error message asks for."""

    def read(text: str) -> float:
        try:
            value = convert(text)
        except ValueError:
            value = math.nan
        if not minimum <= value <= maximum:
            raise argparse.ArgumentTypeError(f"{text[:40]!r} is not {expected}")
        return value

    return read


_count = _number(int, 1, 2**31 - 1, "a whole number of 1 or more")
_port = _number(int, 0, 65535, "a port number from 0 to 65535")
_seconds = _number(float, 0, 3600, "a number of seconds from 0 to 3600")
_timeout = _number(float, 0.001, 3600, "a number of seconds from 0.001 to 3600")


def _parser() -> argparse.ArgumentParser:
    defaults = ServerLimits()
    parser = argparse.ArgumentParser(
        prog="albert-serve",
        description="Serve exported ALBERT models over HTTP and gRPC: the Open Inference Protocol\n"
        "(KServe v2), embeddings for OpenAI's clients, and answers to plain text.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "artifacts",
        metavar="ARTIFACT",
        nargs="+",
        help="exported model: its folder, its stem (the path without a suffix) or one of its files; a second "
        "one with the same name becomes version 2",
    )
    _add_addresses(parser)
    _add_execution(parser)
    _add_limits(parser, defaults)
    parser.add_argument(
        "--log-level",
        choices=("debug", "info", "warning", "error"),
        default="info",
        help="least severe messages to log; info logs a line for every request (default: info)",
    )
    return parser


def _add_addresses(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("addresses")
    group.add_argument(
        "--host",
        default="127.0.0.1",
        help="address to listen on; 0.0.0.0 accepts connections from other machines (default: 127.0.0.1)",
    )
    group.add_argument(
        "--port", type=_port, metavar="N", default=8000, help="HTTP port; 0 picks a free one (default: 8000)"
    )
    group.add_argument(
        "--grpc-port",
        type=_port,
        metavar="N",
        default=8001,
        help="gRPC port; 0 picks a free one (default: 8001)",
    )
    group.add_argument("--no-grpc", action="store_true", help="serve HTTP only")
    group.add_argument(
        "--allow-load",
        action="store_true",
        help="let clients load models again, from the same ARTIFACT, and unload them (Triton's repository "
        "load and unload); without it only SIGHUP loads them again",
    )


def _add_execution(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("execution")
    group.add_argument(
        "--backend",
        choices=("auto", *NAMES),
        default="auto",
        help="library that runs the models; auto takes the first of the list that works here (default: auto)",
    )
    group.add_argument(
        "--precision",
        default="auto",
        help="number format in which matrices are multiplied: fp32, bf16 or int8 on native and gpu, "
        "also fp16 and tf32 on gpu; auto is the format the artifact was exported in (default: auto)",
    )
    group.add_argument(
        "--prove",
        action="store_true",
        help="serve only models whose answers have the bits of the export, on whatever machine that was: a "
        "few answers are computed first and compared with the digests in the manifest (native backend)",
    )
    group.add_argument(
        "--threads",
        type=_count,
        metavar="N",
        help="threads that compute a batch (default: OMP_NUM_THREADS, at most the CPUs this process may use)",
    )
    group.add_argument(
        "--max-batch-tokens",
        type=_count,
        metavar="N",
        help="most tokens to compute in one batch (default: 128 on the native backend, 4096 on onnxruntime "
        "and paddle, 16384 on a GPU)",
    )
    group.add_argument(
        "--max-queue",
        type=_count,
        metavar="N",
        default=_DEFAULT_MAX_QUEUE,
        help="most requests that may be queued or running for one model; further ones are refused with 429 "
        f"(default: {_DEFAULT_MAX_QUEUE})",
    )
    group.add_argument(
        "--max-queue-delay",
        type=_seconds,
        metavar="SECONDS",
        default=0.0,
        help="how long a batch that is not full waits for more requests (default: 0, start at once)",
    )


def _add_limits(parser: argparse.ArgumentParser, defaults: ServerLimits) -> None:
    group = parser.add_argument_group("limits")
    group.add_argument(
        "--max-body-mib",
        type=_count,
        metavar="MIB",
        default=defaults.max_body_bytes >> 20,
        help="largest request body, before and after decompression "
        f"(default: {defaults.max_body_bytes >> 20})",
    )
    group.add_argument(
        "--max-answer-mib",
        type=_count,
        metavar="MIB",
        default=defaults.max_answer_bytes >> 20,
        help=f"most output data for one request (default: {defaults.max_answer_bytes >> 20})",
    )
    group.add_argument(
        "--max-texts",
        type=_count,
        metavar="N",
        default=defaults.max_texts,
        help=f"most texts in one request (default: {defaults.max_texts})",
    )
    group.add_argument(
        "--max-tokens",
        type=_count,
        metavar="N",
        default=defaults.max_tokens,
        help=f"most tokens in one request, all texts together (default: {defaults.max_tokens})",
    )
    group.add_argument(
        "--truncate",
        action="store_true",
        help="cut texts that are too long for a model, where the request does not say; without this they are "
        "refused",
    )
    group.add_argument(
        "--max-concurrency",
        type=_count,
        metavar="N",
        default=defaults.max_concurrency,
        help="most requests in progress at once, all models together; further ones are refused with 429 "
        f"(default: {defaults.max_concurrency})",
    )
    group.add_argument(
        "--timeout",
        type=_timeout,
        metavar="SECONDS",
        default=defaults.timeout,
        help="time allowed for the headers, for the body and for the answer of a request, each; a client may "
        f"ask for less (default: {defaults.timeout:g})",
    )
    group.add_argument(
        "--keep-alive",
        type=_timeout,
        metavar="SECONDS",
        default=defaults.keep_alive,
        help="how long to keep an idle HTTP connection open; choose more than the idle timeout of the proxy "
        f"in front of this server (default: {defaults.keep_alive:g})",
    )
    group.add_argument(
        "--drain-timeout",
        type=_seconds,
        metavar="SECONDS",
        default=defaults.drain_timeout,
        help="how long accepted requests may take to finish after SIGTERM "
        f"(default: {defaults.drain_timeout:g})",
    )
