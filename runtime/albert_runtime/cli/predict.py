"""`albert-predict`: lines in, JSON lines out."""

import argparse
import contextlib
import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from importlib import metadata
from stat import S_ISREG

from ..backends.registry import COMPUTED, NAMES
from ..errors import AlbertError
from ..predictor import Predictor
from ..text.embedding import POOLINGS
from ..text.progress import bar
from .lines import FORMATS, LineAnswer, answer_lines, read_lines

_PROGRAM = "albert-predict"
_SOME_LINES, _TROUBLE, _INTERRUPTED = 1, 2, 130
_EPILOG = """\
A line is a text, or JSON if it begins with {. Each line gives one JSON line, in order, as soon as the input
pauses. A line that cannot be answered gives {"error": ...} and a message on stderr; the others go on.

examples, by the task of the model:
  sequence-classification   echo 'A great film.' | albert-predict ./sentiment
                            echo '{"text": "It rains.", "pair": "It is wet."}' | albert-predict ./entailment
  token-classification      albert-predict ./ner letters.txt | jq -r '.entities[].text'
  question-answering        echo '{"question": "Who?", "context": "Ada wrote it."}' | albert-predict ./squad
  masked-lm, pretraining    echo 'The list is [MASK].' | albert-predict ./albert-base-v2 --top-k 3
  multiple-choice           echo '{"prompt": "Open", "choices": ["doors", "skies"]}' | albert-predict ./swag
  model                     albert-predict ./albert-base-v2 --pooling cls < lines.txt > vectors.jsonl

exit codes: 0 every line is answered, 1 some are not, 2 wrong usage or a model or file that cannot be used
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; the exit code."""
    options = _parser().parse_args(arguments)
    if sys.stdout is None:
        _complain("error: the standard output is closed")
        return _TROUBLE
    try:
        return _predict(options)
    except BrokenPipeError:  # of `albert-predict ... | head`
        return _SOME_LINES
    except KeyboardInterrupt:
        return _INTERRUPTED
    except AlbertError as error:
        message = str(error)
    except OSError as error:
        message = f"{error.filename or options.file}: {error.strerror or error}"
    except MemoryError:
        message = "out of memory; free some and try again"
    _complain(f"error: {message}")
    return _TROUBLE


def _predict(options: argparse.Namespace) -> int:
    predictor = Predictor(
        options.artifact,
        backend=options.backend,
        precision=options.precision,
        num_threads=options.threads,
    )
    wanted = {
        "top_k": options.top_k,
        "pooling": options.pooling,
        "truncate": options.truncate or None,
        "allow_no_answer": options.allow_no_answer or None,
    }
    given = {name: value for name, value in wanted.items() if value is not None}
    code = 0
    with _input(options.file) as descriptor, _progress(descriptor) as advance:
        blocks = _counted(read_lines(descriptor), advance)
        for line in answer_lines(predictor, blocks, options.format, given):
            _write(line)
            if line.error is not None:
                code = _SOME_LINES
                _complain(line.error)
                if options.strict:
                    break
    return code


def _write(line: LineAnswer) -> None:
    answer = line.answer if line.answer is not None else {"error": line.error}
    with _output():
        sys.stdout.buffer.write(json.dumps(answer, ensure_ascii=False).encode() + b"\n")


@contextlib.contextmanager
def _output() -> Iterator[None]:
    """What fails here fails for the standard output, which then gets nothing more."""
    try:
        yield
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        error.filename = "standard output"
        raise


def _counted(blocks: Iterable[list[bytes]], advance: Callable[[int], None]) -> Iterator[list[bytes]]:
    """The blocks; what was written of one is out before the next is waited for."""
    for lines in blocks:
        yield lines
        with _output():
            sys.stdout.buffer.flush()
        advance(sum(map(len, lines)) + len(lines))


def _complain(message: str) -> None:
    print(f"{_PROGRAM}: {' '.join(message.split())}", file=sys.stderr)


@contextlib.contextmanager
def _input(name: str) -> Iterator[int]:
    if name == "-":
        yield 0
        return
    descriptor = os.open(name, os.O_RDONLY)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _progress(descriptor: int) -> Iterator[Callable[[int], None]]:
    """Bytes of a file that are answered, unless the answers themselves go to the terminal."""
    status = os.fstat(descriptor)
    if sys.stdout.isatty() or not S_ISREG(status.st_mode):
        yield lambda steps: None
        return
    with bar("bytes", status.st_size) as advance:
        yield advance


def _count(text: str) -> int:
    if not (text.isascii() and text.isdigit()) or not 0 < int(text) < 2**31:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number of at least 1")
    return int(text)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=_PROGRAM,
        description="Answer lines of text or JSON with an exported ALBERT model.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "artifact", metavar="ARTIFACT", help="the exported model: a folder, stem or file of it"
    )
    parser.add_argument(
        "file",
        metavar="FILE",
        nargs="?",
        default="-",
        help="lines to answer (default: -, the standard input)",
    )
    parser.add_argument(
        "--format", choices=FORMATS, default="auto", help="what the lines are (default: auto)"
    )
    parser.add_argument(
        "--top-k", metavar="K", type=_count, help="how many labels or words to give, with probabilities"
    )
    parser.add_argument("--pooling", choices=POOLINGS, help="how vectors are made (default: mean)")
    parser.add_argument(
        "--truncate", action="store_true", help="cut texts that are too long; they are errors otherwise"
    )
    parser.add_argument(
        "--allow-no-answer", action="store_true", help="give an empty answer to a question that has none"
    )
    parser.add_argument("--strict", action="store_true", help="stop at the first line that is not answered")
    parser.add_argument(
        "--backend", choices=("auto", *NAMES), default="auto", help="what runs the model (default: auto)"
    )
    parser.add_argument(
        "--precision",
        choices=("auto", *COMPUTED),
        default="auto",
        help="what the C++ engine multiplies in (default: what the artifact stores)",
    )
    parser.add_argument("--threads", metavar="N", type=_count, help="threads to use (default: all CPUs)")
    parser.add_argument(
        "--version", action="version", version=f"{_PROGRAM} {metadata.version('albert-runtime')}"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
