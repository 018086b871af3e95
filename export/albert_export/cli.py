"""`albert-export`: from a variant name or a checkpoint folder to a verified artifact."""

import argparse
import contextlib
import errno
import importlib.util
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from importlib import metadata
from pathlib import Path
from types import FrameType

from albert_runtime.errors import AlbertError

from .checkpoint import TOKENIZER_NAME, Checkpoint, check_same_model, read_folder
from .errors import ExportError, UsageError
from .publish import STAGING_PREFIX, is_plain_stem
from .request import Request
from .variants import VARIANTS, nearest_variants
from .weights import CheckpointWeights, RandomWeights, WeightSource

_PROGRAM = "albert-export"
_FAILED, _USAGE = 1, 2
_INTERRUPTED = 130
# A serving machine has the command without the extra that it needs.
_NEEDED = ("paddle", "onnx", "onnxruntime", "rich")
_MAX_SEED = 2**63
_EPILOG = """\
examples:
  albert-export albert-base-v2 --random-weights        seeded weights, to try things out
  albert-export albert-base-v2 --weights DIR           PaddleNLP weights of this variant
  albert-export ./my-checkpoint -o artifacts           a PaddleNLP folder of any ALBERT config
exit codes: 0 done, 1 failed, 2 wrong usage, 130 interrupted; after a failure nothing is left behind
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; the exit code."""
    parser = _parser()
    options = parser.parse_args(arguments)
    if options.model is None and not options.list:
        parser.error("MODEL is missing: give a variant name (see --list) or a checkpoint folder")
    code = _FAILED
    try:
        with _terminable():
            _print_variants() if options.list else _export(options)
        return 0
    except BrokenPipeError:  # of `albert-export --list | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return code
    except AlbertError as error:
        message = str(error)
        if isinstance(error, UsageError):
            code = _USAGE
    except OSError as error:
        message = _describe(error, options.output)
    except MemoryError:
        message = "out of memory; free some and try again"
    except KeyboardInterrupt:
        code, message = _INTERRUPTED, "interrupted; nothing was written"
    print(f"{_PROGRAM}: error: {' '.join(message.split())}", file=sys.stderr)
    return code


def _export(options: argparse.Namespace) -> None:
    request = _request(options)
    missing = [name for name in _NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise ExportError(f"{', '.join(missing)} not installed; pip install 'albert-runtime[export]'")
    from .pipeline import export  # noqa: PLC0415  (only now is it known that its imports work)
    from .report import Report  # noqa: PLC0415

    report = Report(quiet=options.quiet)
    if isinstance(request.weights, RandomWeights):
        seed = request.weights.seed
        report.say(f"RANDOM WEIGHTS (seed {seed}): this model's outputs mean nothing", style="bold yellow")
    export(request, report)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=_PROGRAM,
        description="Export an ALBERT model to a Paddle program and an ONNX graph on one weight file.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "model", metavar="MODEL", nargs="?", help="variant name, or a PaddleNLP checkpoint folder (./NAME)"
    )
    parser.add_argument(
        "-o", "--output", metavar="DIR", type=Path, default=Path(), help="folder to write to (default: here)"
    )
    source = parser.add_mutually_exclusive_group()
    source.add_argument(
        "--weights", metavar="PATH", type=Path, help="PaddleNLP checkpoint folder or .pdparams file"
    )
    source.add_argument(
        "--random-weights",
        metavar="SEED",
        nargs="?",
        type=_seed,
        const=0,
        help="seeded random weights (default seed 0); outputs mean nothing",
    )
    parser.add_argument(
        "--format",
        choices=("pdmodel", "json"),
        default="pdmodel",
        help="form of the Paddle program (default: pdmodel)",
    )
    parser.add_argument("--name", metavar="STEM", help="start of the file names (default: the model's name)")
    parser.add_argument("--force", action="store_true", help="replace an artifact of the same name")
    parser.add_argument("--quiet", action="store_true", help="print errors only")
    parser.add_argument("--list", action="store_true", help="list the variants and exit")
    parser.add_argument(
        "--version", action="version", version=f"{_PROGRAM} {metadata.version('albert-runtime')}"
    )
    return parser


def _seed(text: str) -> int:
    if not (text.isascii() and text.isdigit()) or int(text) >= _MAX_SEED:
        raise argparse.ArgumentTypeError(f"{text!r} is no seed (a whole number); MODEL comes first")
    return int(text)


def _request(options: argparse.Namespace) -> Request:
    """Options to a request; UsageError for what cannot be understood, ExportError for what cannot be done."""
    name: str = options.model
    if name in VARIANTS:
        config, folder = VARIANTS[name], None
    else:
        folder = _model_folder(name)
        config = folder.config
    weights, tokenizer = _weights(options, folder)
    stem = (
        options.name if options.name is not None else name if folder is None else folder.folder.resolve().name
    )
    if not is_plain_stem(stem):
        raise UsageError(f"{stem!r} cannot start a file name; give a plain one with --name")
    return Request(config, weights, tokenizer, options.output, stem, options.format, options.force)


def _model_folder(name: str) -> Checkpoint:
    path = Path(name)
    if path.is_dir():
        return read_folder(path)
    if path.exists():
        raise UsageError(
            f"{name} is a file; MODEL is a variant name or a folder (a .pdparams goes to --weights)"
        )
    nearest = nearest_variants(name)
    hint = f"did you mean {', '.join(nearest)}?" if nearest else f"see {_PROGRAM} --list"
    raise UsageError(f"{name!r} is no variant and no folder; {hint}")


def _weights(options: argparse.Namespace, folder: Checkpoint | None) -> tuple[WeightSource, Path | None]:
    """The source of the tensors, and the tokenizer.json that belongs to it."""
    own_tokenizer = folder.tokenizer if folder is not None else None
    if options.random_weights is not None:
        return RandomWeights(options.random_weights), own_tokenizer
    if options.weights is None:
        if folder is None:
            raise ExportError(
                f"{options.model}: this version does not download published weights yet; give them with "
                "--weights PATH (a PaddleNLP folder or .pdparams file) or try --random-weights"
            )
        return CheckpointWeights(folder.weights_file().absolute()), own_tokenizer
    path: Path = options.weights
    if path.is_dir():
        checkpoint = read_folder(path)
        config = folder.config if folder is not None else VARIANTS[options.model]
        check_same_model(options.model, config, checkpoint)
        return CheckpointWeights(checkpoint.weights_file().absolute()), own_tokenizer or checkpoint.tokenizer
    if not path.is_file():
        raise ExportError(f"--weights {path} does not exist; give a PaddleNLP folder or a .pdparams file")
    beside = path.parent / TOKENIZER_NAME
    return CheckpointWeights(path.absolute()), own_tokenizer or (beside if beside.is_file() else None)


def _print_variants() -> None:
    row = "{:<22}  {:>6}  {:>6}  {:>5}  {:<10}  {:>6}  {:>11}  {:>7}".format
    lines = [row("variant", "layers", "hidden", "heads", "activation", "vocab", "parameters", "fp32 MB")]
    for name, config in VARIANTS.items():
        count = config.parameter_count()
        sizes = (config.num_hidden_layers, config.hidden_size, config.num_attention_heads)
        parameters, megabytes = f"{count:,}", f"{4 * count / 1e6:.1f}"
        lines.append(row(name, *sizes, config.hidden_act, config.vocab_size, parameters, megabytes))
    print("\n".join(lines), flush=True)


def _describe(error: OSError, directory: Path) -> str:
    """One line with the remedy for what the operating system refused."""
    subject = error.filename
    if subject is None or STAGING_PREFIX in str(subject):
        subject = directory  # the user knows nothing of the staging folder in it
    reason = error.strerror or str(error)
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return f"{subject}: {reason}; nothing was written, free some space or choose another folder with -o"
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return f"{subject}: {reason}; change its permissions or choose another folder with -o"
    return f"{subject}: {reason}"


@contextlib.contextmanager
def _terminable() -> Iterator[None]:
    """Let SIGTERM and SIGHUP unwind as Ctrl-C does, so that staging folders and workers go away."""

    def interrupt(signum: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = {number: signal.signal(number, interrupt) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


if __name__ == "__main__":
    sys.exit(main())
