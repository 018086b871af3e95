"""`albert-predict`: answer lines of text or JSON, one JSON line for each."""

import argparse
import contextlib
import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from importlib import metadata
from stat import S_ISREG

from ..artifact.tasks import ACTIVATIONS
from ..backends.registry import NAMES, PRECISIONS
from ..errors import AlbertError
from ..predictor import Predictor
from ..text.embedding import POOLINGS
from ..text.progress import bar
from .lines import FORMATS, LineResult, answer_lines, read_lines

_PROGRAM = "albert-predict"
_LINES_FAILED, _FAILED, _INTERRUPTED = 1, 2, 130
_EPILOG = """\
Each input line is a text, or a JSON object if it begins with {. One JSON line is written for each, in the
same order, without waiting for the end of the input. A line that fails gives {"error": ...} and a
message on standard error; the lines after it are still answered.

examples, by the task of the model:
  sequence-classification   echo 'A great film.' | albert-predict ./sentiment
                            echo '{"text": "It rains.", "pair": "It is wet."}' | albert-predict ./entailment
  token-classification      albert-predict ./ner articles.txt | jq -r '.entities[].text'
  question-answering        echo '{"question": "Who?", "context": "Ada wrote it."}' | albert-predict ./squad
  masked-lm, pretraining    echo 'The list is [MASK].' | albert-predict ./albert-base-v2 --top-k 3
  multiple-choice           echo '{"prompt": "Open", "choices": ["doors", "skies"]}' | albert-predict ./swag
  model                     albert-predict ./albert-base-v2 --pooling cls < lines.txt > vectors.jsonl

to see whether this machine computes to the bit what the exporting machine did:
  albert-predict ./albert-base-v2 --prove

exit codes: 0 all lines answered, 1 some lines failed, 2 wrong usage, or a model or file that cannot be used,
  130 interrupted
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command.

    Args:
        arguments: The command's arguments; None for those of the process.

    Returns:
        The exit code, as the help explains it.
    """
    parser = _parser()
    options = parser.parse_intermixed_args(arguments)
    if options.prove and options.file is not None:
        parser.error("--prove answers no lines; leave FILE out")
    if sys.stdout is None:
        _print_error("error: the standard output is closed")
        return _FAILED
    try:
        return _predict(options)
    except BrokenPipeError:  # of `albert-predict ... | head`
        return _LINES_FAILED
    except KeyboardInterrupt:
        return _INTERRUPTED
    except AlbertError as error:
        message = str(error)
    except OSError as error:
        message = f"{error.filename or options.file}: {error.strerror or error}"
    except MemoryError:
        message = "out of memory; free some and try again"
    _print_error(f"error: {message}")
    return _FAILED


def _predict(options: argparse.Namespace) -> int:
    predictor = Predictor(
        options.artifact,
        backend=options.backend,
        precision=options.precision,
        num_threads=options.threads,
        prove=options.prove,
    )
    if options.prove:
        with _writing():
            print(predictor.proved, flush=True)
        return 0
    method_options = {
        "top_k": options.top_k,
        "targets": options.target,
        "activation": options.activation,
        "pooling": options.pooling,
        "prompt_name": options.prompt_name,
        "truncate": options.truncate or None,
        "allow_no_answer": options.allow_no_answer or None,
    }
    given = {name: value for name, value in method_options.items() if value is not None}
    code = 0
    with _input(options.file) as descriptor, _progress(descriptor) as advance:
        blocks = _flush_after_each(read_lines(descriptor), advance)
        for line in answer_lines(predictor, blocks, options.format, given):
            _write(line)
            if line.error is not None:
                code = _LINES_FAILED
                _print_error(line.error)
                if options.strict:
                    break
    return code


def _write(line: LineResult) -> None:
    answer = line.answer if line.answer is not None else {"error": line.error}
    with _writing():
        sys.stdout.buffer.write(json.dumps(answer, ensure_ascii=False).encode() + b"\n")


@contextlib.contextmanager
def _writing() -> Iterator[None]:
    """Name the standard output in errors of writing to it, and write nothing more to it."""
    try:
        yield
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        error.filename = "standard output"
        raise


def _flush_after_each(blocks: Iterable[list[bytes]], advance: Callable[[int], None]) -> Iterator[list[bytes]]:
    """The blocks of lines; the answers to one are flushed before the next is read."""
    for lines in blocks:
        yield lines
        with _writing():
            sys.stdout.buffer.flush()
        advance(sum(map(len, lines)) + len(lines))


def _print_error(message: str) -> None:
    print(f"{_PROGRAM}: {' '.join(message.split())}", file=sys.stderr)


@contextlib.contextmanager
def _input(name: str | None) -> Iterator[int]:
    if name in (None, "-"):
        yield 0
        return
    descriptor = os.open(name, os.O_RDONLY)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _progress(descriptor: int) -> Iterator[Callable[[int], None]]:
    """A progress bar over the bytes of a file, unless the answers themselves go to the terminal."""
    status = os.fstat(descriptor)
    if sys.stdout.isatty() or not S_ISREG(status.st_mode):
        yield lambda steps: None
        return
    with bar("bytes", status.st_size) as advance:
        yield advance


def _count(text: str) -> int:
    if not (text.isascii() and text.isdigit()) or not 0 < int(text) < 2**31:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of 1 or more")
    return int(text)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=_PROGRAM,
        description="Answer each line of a file, or of the standard input, with an exported ALBERT model.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "artifact",
        metavar="ARTIFACT",
        help="exported model: its folder, its stem (the path without a suffix) or one of its files",
    )
    parser.add_argument(
        "file",
        metavar="FILE",
        nargs="?",
        help="file with the lines to answer; - is the standard input (default: -)",
    )
    parser.add_argument(
        "--format",
        choices=FORMATS,
        default="auto",
        help="how to read the lines; auto reads those that begin with { as JSON (default: auto)",
    )
    parser.add_argument(
        "--top-k",
        metavar="K",
        type=_count,
        help="return the K best labels or words with their probabilities",
    )
    parser.add_argument(
        "--target",
        metavar="WORD",
        action="append",
        help="fill masks with this word or those of other --target, whichever is likelier",
    )
    parser.add_argument(
        "--pooling",
        choices=POOLINGS,
        help="how to make one vector of a text's tokens (default: what the model's sentence-transformers "
        "folder said, else mean)",
    )
    parser.add_argument(
        "--prompt-name",
        metavar="NAME",
        help="prompt of the model's sentence-transformers folder to put before each text",
    )
    parser.add_argument(
        "--activation",
        choices=ACTIVATIONS,
        help="what makes scores of a classifier's logits (default: what its checkpoint says)",
    )
    parser.add_argument(
        "--truncate",
        action="store_true",
        help="shorten texts that are too long instead of refusing them",
    )
    parser.add_argument(
        "--allow-no-answer",
        action="store_true",
        help="answer a question with an empty text if the context does not answer it",
    )
    parser.add_argument("--strict", action="store_true", help="stop at the first line that fails")
    parser.add_argument(
        "--backend",
        choices=("auto", *NAMES),
        default="auto",
        help="library that runs the model; auto takes the first that works here (default: auto)",
    )
    parser.add_argument(
        "--precision",
        choices=("auto", *PRECISIONS),
        default="auto",
        help="number format in which the native backend multiplies matrices (default: the artifact's)",
    )
    parser.add_argument(
        "--threads",
        metavar="N",
        type=_count,
        help="threads to use (default: OMP_NUM_THREADS, at most the CPUs this process may use)",
    )
    parser.add_argument(
        "--prove",
        action="store_true",
        help="answer no lines: compare the bits of a few answers with those of the export, and say what was "
        "compared",
    )
    parser.add_argument(
        "--version", action="version", version=f"{_PROGRAM} {metadata.version('albert-runtime')}"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
