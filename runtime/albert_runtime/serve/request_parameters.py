"""Parameters of requests, which mean the same over HTTP and gRPC."""

from collections.abc import Iterable

from ..errors import InputError
from .errors import MalformedRequest

_UNSUPPORTED_OUTPUT_PARAMETERS = ("classification", "shared_memory_region")  # Triton has them


def timeout_seconds(microseconds: object) -> float | None:
    """The parameter ``timeout`` in seconds; None if there is none, or if it is 0, as in Triton.

    MalformedRequest if it is not a whole number of microseconds.
    """
    if microseconds is None:
        return None
    if isinstance(microseconds, bool) or not isinstance(microseconds, int) or microseconds < 0:
        raise MalformedRequest(
            f"parameter timeout is {str(microseconds)[:20]}; give a whole number of microseconds"
        )
    return microseconds / 1e6 or None


def check_load_parameters(parameters: Iterable[str]) -> None:
    """InputError if a load brings its own configuration or files, as Triton allows."""
    for name in parameters:
        raise InputError(
            f"parameter {name[:60]!r} is not supported: a model is loaded from the artifact that the "
            "server was started with; replace its files, then load it without parameters"
        )


def truncate_flag(value: object) -> bool | None:
    """The parameter ``truncate``; None if there is none. MalformedRequest if it is neither true nor false."""
    if value is None or isinstance(value, bool):
        return value
    raise MalformedRequest(f"parameter truncate is {str(value)[:20]}; give true or false")


def check_output_parameters(output: str, parameters: Iterable[str]) -> None:
    """InputError if an output is requested in a form that this server does not support.

    ``parameters`` are the names of those that are given.
    """
    given = set(parameters)
    for name in _UNSUPPORTED_OUTPUT_PARAMETERS:
        if name in given:
            raise InputError(f"output {output[:60]!r} asks for {name}, which this server does not support")
