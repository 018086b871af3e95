"""`albert-export`: from a variant name or a checkpoint folder to a verified artifact."""

import argparse
import contextlib
import errno
import importlib.util
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from types import FrameType

from albert_runtime import Predictor
from albert_runtime.artifact.tasks import MULTIPLE_CHOICE, TASKS, Head
from albert_runtime.backends.nvidia import find_gpu
from albert_runtime.errors import AlbertError

from .checkpoint.weights import RandomWeights
from .errors import ExportError, UsageError
from .pipeline.publish import STAGING_PREFIX, check_target
from .pipeline.request import ExportRequest
from .precision import PRECISIONS, stored_bytes
from .sources import resolve, stem
from .variants import VARIANTS

_PROGRAM = "albert-export"
_FAILED, _USAGE = 1, 2
_INTERRUPTED = 130
# A serving machine has the command without the extra that it needs.
_NEEDED = ("paddle", "onnx", "onnxruntime", "rich")
_MAX_SEED = 2**63
_SOURCES = ("paddlenlp", "huggingface")
_EPILOG = """\
examples:
  albert-export ./my-checkpoint -o artifacts           a folder saved by PaddleNLP or transformers
  albert-export model.onnx                             a program exported elsewhere; or .pdmodel, .json
  albert-export albert-base-v2                         a published model; its weights are downloaded
  albert-export albert-base-v2 --task masked-lm        the same, with its masked-LM head
  albert-export albert-base-v2 --random-weights        random weights, for benchmarks and tests
  albert-export albert-base-v2 --weights PATH          a variant with weights of your own
  albert-export albert-xxlarge-v2 --fp16               half the size; writes albert-xxlarge-v2-fp16.*
  albert-export ./my-checkpoint --int8 --calibration texts.txt
                                                       a quarter of the size, calibrated on your texts

exit codes: 0 done, 1 failed, 2 wrong usage, 130 interrupted; a failed export leaves no files behind
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; the exit code."""
    parser = _parser()
    options = parser.parse_intermixed_args(arguments)
    if options.model is None and not options.list:
        parser.error("MODEL is missing: give a variant name (see --list), a checkpoint folder or a program")
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
    if options.calibration is not None and options.precision != "int8":
        raise UsageError("--calibration is for --int8; add that, or leave it out")
    if options.precision == "fp16" and options.format == "json":
        raise UsageError(
            "Paddle cannot trace float16 for --format json on a CPU; use --format pdmodel, or --bf16"
        )
    if options.tensorrt:
        find_gpu()  # a refusal costs less before an export than after it
    name = stem(options)
    _check_extra()
    source, note = resolve(options, lambda variant: _download(options, variant, name))
    from .pipeline.export import export  # noqa: PLC0415  (only now is it known that its imports work)
    from .pipeline.report import Report  # noqa: PLC0415

    if options.hidden_states:
        if source.head.task == MULTIPLE_CHOICE:
            raise UsageError("--hidden-states is for models with rows of tokens, not for multiple-choice")
        source = replace(source, head=replace(source.head, hidden_states=True))
    report = Report(quiet=options.quiet)
    report.say(f"{name}: {note}")
    for text in source.notes:
        report.say(f"note: {text}", style="yellow")
    if isinstance(source.weights, RandomWeights):
        seed = source.weights.seed
        report.say(f"RANDOM WEIGHTS (seed {seed}): this model's outputs mean nothing", style="bold yellow")
    request = ExportRequest(
        source=source,
        directory=options.output,
        stem=name,
        precision=PRECISIONS[options.precision],
        calibration=options.calibration,
        format=options.format,
        force=options.force,
    )
    program = export(request, report)
    if options.tensorrt:
        report.start("tensorrt", "building and checking the engine")
        try:
            engine = Predictor(program, backend="tensorrt").info()["engine_folder"]
        finally:
            report.stop()
        report.done(f"engine in {engine}")


def _download(options: argparse.Namespace, variant: str, stem: str) -> Path:
    """The folder of a published variant's files, fetched unless the cache has them."""
    _check_extra()
    # A refusal costs less before hundreds of megabytes than after them.
    check_target(options.output.absolute(), stem, force=options.force)
    from .hub.fetch import fetch  # noqa: PLC0415  (its imports, too, belong to the extra)
    from .pipeline.report import Report  # noqa: PLC0415

    report = Report(quiet=options.quiet)
    file = ""

    def progress(name: str, done: int, total: int | None) -> None:
        nonlocal file
        if name != file:
            file = name
            report.start("fetch", name)
        report.progress(done, done if total is None else total)

    try:
        folder = fetch(
            variant, source=options.source or _SOURCES[0], revision=options.revision, progress=progress
        )
    finally:
        report.stop()
    if file:
        report.say(f"fetched {variant} into {folder}")
    return folder


def _check_extra() -> None:
    missing = [name for name in _NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise ExportError(f"{', '.join(missing)} not installed; pip install 'albert-runtime[export]'")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=_PROGRAM,
        description="Export an ALBERT model as a Paddle program and an ONNX graph with a shared weight file.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "model",
        metavar="MODEL",
        nargs="?",
        help="name of a variant (see --list), or a checkpoint folder saved by PaddleNLP, Hugging Face "
        "transformers or TensorFlow (or one checkpoint in the latter's folder, without .index), or a program "
        "that another tool exported (.onnx, .pdmodel, .json); write a relative folder as ./NAME",
    )
    parser.add_argument(
        "-o", "--output", metavar="DIR", type=Path, default=Path(), help="folder to write to (default: .)"
    )
    source = parser.add_mutually_exclusive_group()
    source.add_argument(
        "--weights",
        metavar="PATH",
        type=Path,
        help="weights for a variant: a checkpoint folder, or a .pdparams, .safetensors, .bin or .index file",
    )
    source.add_argument(
        "--random-weights",
        metavar="SEED",
        nargs="?",
        type=_seed,
        const=0,
        help="use random weights drawn from SEED (0 if it is left out); the model's outputs are meaningless",
    )
    parser.add_argument(
        "--task",
        choices=TASKS,
        metavar="TASK",
        help=f"head to export: {', '.join(TASKS)} (default: the one in the checkpoint folder; model for a "
        "variant)",
    )
    precision = parser.add_mutually_exclusive_group()
    for name, text in (
        ("fp16", "store and compute in float16"),
        ("bf16", "store and compute in bfloat16"),
        (
            "int8",
            "store and multiply the matrices in 8 bits; the ONNX graph gets activation ranges per layer",
        ),
    ):
        precision.add_argument(
            f"--{name}", dest="precision", action="store_const", const=name, default="fp32", help=text
        )
    parser.add_argument(
        "--hidden-states",
        action="store_true",
        help="add the output hidden_states, the embeddings and each layer's output: [batch, sequence, "
        "layers + 1, hidden]",
    )
    parser.add_argument(
        "--calibration",
        metavar="FILE",
        type=Path,
        help="for --int8: a text file, one text per line, similar to those the model will serve (default: a "
        "sample that comes with the package)",
    )
    parser.add_argument(
        "--tensorrt",
        action="store_true",
        help="also build and check a TensorRT engine for this machine's GPU; takes minutes",
    )
    parser.add_argument(
        "--lowercase",
        action=argparse.BooleanOptionalAction,
        help="make tokenizer.json lowercase texts, or not (default: as the checkpoint says)",
    )
    accents = parser.add_mutually_exclusive_group()
    accents.add_argument(
        "--keep-accents",
        action="store_true",
        default=None,
        help="make tokenizer.json keep accents, and marks of Indic scripts (default: as the checkpoint says)",
    )
    accents.add_argument(
        "--strip-accents",
        dest="keep_accents",
        action="store_false",
        default=None,
        help="make tokenizer.json drop them",
    )
    parser.add_argument(
        "--source", choices=_SOURCES, help=f"where to download a variant's weights (default: {_SOURCES[0]})"
    )
    parser.add_argument(
        "--revision", metavar="REV", help="branch, tag or commit to download from huggingface"
    )
    parser.add_argument(
        "--format",
        choices=("pdmodel", "json"),
        default="pdmodel",
        help="file format of the Paddle program (default: pdmodel)",
    )
    parser.add_argument(
        "--name", metavar="STEM", help="name of the files without suffixes (default: the model's name)"
    )
    parser.add_argument("--force", action="store_true", help="overwrite an artifact of the same name")
    parser.add_argument("--quiet", action="store_true", help="print nothing but errors")
    parser.add_argument("--list", action="store_true", help="list the variants and exit")
    parser.add_argument(
        "--version", action="version", version=f"{_PROGRAM} {metadata.version('albert-runtime')}"
    )
    return parser


def _seed(text: str) -> int:
    if not (text.isascii() and text.isdigit()) or int(text) >= _MAX_SEED:
        raise argparse.ArgumentTypeError(f"{text!r} is no seed (a whole number); MODEL comes first")
    return int(text)


def _print_variants() -> None:
    row = "{:<22}  {:>6}  {:>6}  {:>5}  {:<10}  {:>6}  {:>11}  {:>7}  {:>7}  {:>7}".format
    sizes = ("fp32 MB", "16 bits", "int8 MB")
    lines = [row("variant", "layers", "hidden", "heads", "activation", "vocab", "parameters", *sizes)]
    for name, config in VARIANTS.items():
        shape = (config.num_hidden_layers, config.hidden_size, config.num_attention_heads)
        stored = [stored_bytes(config, Head(), PRECISIONS[one]) for one in ("fp32", "bf16", "int8")]
        megabytes = [f"{size / 1e6:.1f}" for size in stored]
        parameters = f"{config.parameter_count():,}"
        lines.append(row(name, *shape, config.hidden_act, config.vocab_size, parameters, *megabytes))
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
