"""The exporter's own errors; each message is one line with its remedy."""

from albert_runtime.errors import AlbertError


class ExportError(AlbertError):
    """An export that cannot be done or whose result did not pass verification (exit code 1)."""


class UsageError(AlbertError):
    """Arguments that cannot be understood (exit code 2)."""
