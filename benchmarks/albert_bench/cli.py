"""`albert-bench`: compare the engine with other libraries on your model, on this machine."""

import argparse
import sys
import tempfile
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from albert_runtime import AlbertError
from albert_runtime.threads import available_cpus

from .compare import Plan, compare, encoder_manifest
from .output import log, report_error, write_json
from .peers.base import ENGINE, PEERS, PRECISIONS, Contender
from .plots import draw
from .process import ProcessFailed
from .report import markdown
from .session import REFERENCE, Settings
from .workload import QUICK, STANDARD

_PROGRAM = "albert-bench"
_OTHERS = tuple(name for name in PEERS if name != ENGINE)
_FAILED, _USAGE, _INTERRUPTED = 1, 2, 130
_EPILOG = """\
Each library runs in a process of its own, in turns, with the same number of threads. Outputs are compared
before anything is timed. The peers are the other libraries; by default all that are installed take part
(pip install 'albert-runtime[bench]' installs them, except Paddle: pip install 'albert-runtime[paddle]').

examples:
  albert-bench ./albert-base-v2 --quick                a first impression, in a few minutes
  albert-bench ./my-encoder --only onnxruntime --precision fp32,int8 --threads 1,2
                                                       one peer, two precisions, on 1 and on 2 threads
  albert-bench ./base ./large -o results               two models; writes bench.json, bench.md and plots

exit codes: 0 done, 1 failed, 2 wrong usage, or an artifact or peer that cannot be used, 130 interrupted
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; the exit code."""
    options = _parser().parse_intermixed_args(arguments)
    try:
        chosen = choose_contenders(options.only, options.precision)
        for artifact in options.artifact:
            encoder_manifest(artifact)
        workloads = QUICK if options.quick else STANDARD
        by_threads = dict.fromkeys(options.threads, workloads)
        plans = [Plan(artifact, by_threads, not options.quick) for artifact in options.artifact]
    except (AlbertError, UsageError) as error:
        return report_error(str(error), _USAGE)
    return measure(plans, chosen, settings(options), options.output)


def settings(options: argparse.Namespace) -> Settings:
    """How to time workloads, from the options that albert-bench and the suite share."""
    return Settings(options.rounds, options.turn, options.quick)


def measure(plans: Sequence[Plan], chosen: Sequence[Contender], settings: Settings, output: Path) -> int:
    """Compare, print the tables, and write bench.json, bench.md and plots to a folder; the exit code."""
    try:
        output.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="albert-bench-") as scratch:
            results = compare(
                plans, chosen, settings, Path(scratch), log, lambda results: _write(results, output)
            )
        _write(results, output)
        draw(results, output)
    except KeyboardInterrupt:
        return report_error("interrupted; the output folder holds what was measured so far", _INTERRUPTED)
    except (AlbertError, ProcessFailed, OSError) as error:
        return report_error(str(error), _FAILED)
    print(markdown(results), end="")
    return 0


class UsageError(Exception):
    """A request that cannot be met; the message is one line."""


def choose_contenders(only: Sequence[str] | None, precisions: Sequence[str]) -> list[Contender]:
    """The engine and the installed peers, in these precisions; the engine in fp32 always takes part.

    Args:
        only: Names of the peers to choose from; None for all.
        precisions: Names of the precisions.

    Raises:
        UsageError: A peer named in ``only`` is not installed.
    """
    chosen = [REFERENCE]
    for peer in PEERS.values():
        if only is not None and peer.name not in (ENGINE, *only):
            continue
        missing = peer.missing()
        if missing is not None:
            if only is not None:
                raise UsageError(f"{peer.name} needs {missing}, which is not installed; {peer.remedy}")
            log(f"{peer.name} is left out: {missing} is not installed; {peer.remedy}")
            continue
        chosen += [c for c in peer.contenders if c.precision in precisions and c != REFERENCE]
    return chosen


def _write(results: dict[str, Any], output: Path) -> None:
    write_json(results, output / "bench.json")
    (output / "bench.md").write_text(markdown(results), encoding="utf-8")


def _several(known: Sequence[str], text: str) -> tuple[str, ...]:
    names = tuple(dict.fromkeys(text.split(",")))
    for name in names:
        if name not in known:
            raise argparse.ArgumentTypeError(f"{name!r} is unknown; known are {', '.join(known)}")
    return names


def _peers(text: str) -> tuple[str, ...]:
    return _several(_OTHERS, text)


def _precisions(text: str) -> tuple[str, ...]:
    return _several(PRECISIONS, text)


def _count(text: str) -> int:
    if not (text.isascii() and text.isdigit()) or not 0 < int(text) <= 1024:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number from 1 to 1024")
    return int(text)


def _counts(text: str) -> tuple[int, ...]:
    return tuple(dict.fromkeys(_count(part) for part in text.split(",")))


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 60:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of seconds from 0 to 60")
    return value


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=_PROGRAM,
        description="Compare the speed of the C++ engine and of other libraries on exported ALBERT models.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "artifact",
        metavar="ARTIFACT",
        nargs="+",
        type=Path,
        help="exported model of task 'model': its folder, its stem (the path without a suffix) or a file",
    )
    add_common(parser)
    parser.add_argument(
        "--threads",
        metavar="N,N",
        type=_counts,
        default=(available_cpus(),),
        help="numbers of threads to measure with (default: the CPUs this process may use)",
    )
    parser.add_argument(
        "-o",
        "--output",
        metavar="DIR",
        type=Path,
        default=Path("albert-bench"),
        help="folder for the results (default: albert-bench)",
    )
    parser.add_argument(
        "--version", action="version", version=f"{_PROGRAM} {metadata.version('albert-runtime')}"
    )
    return parser


def add_common(parser: argparse.ArgumentParser) -> None:
    """Add the options that albert-bench and the suite share."""
    parser.add_argument(
        "--quick",
        action="store_true",
        help=f"measure only the workloads {', '.join(QUICK)}; takes a few minutes",
    )
    parser.add_argument(
        "--only",
        metavar="PEER,PEER",
        type=_peers,
        help=f"peers to compare with: {', '.join(_OTHERS)} (default: all that are installed)",
    )
    parser.add_argument(
        "--precision",
        metavar="P,P",
        type=_precisions,
        default=PRECISIONS,
        help="precisions to compare: fp32, bf16, int8 (default: all)",
    )
    parser.add_argument(
        "--rounds",
        metavar="N",
        type=_count,
        default=3,
        help="rounds, in each of which every library has a turn (default: 3)",
    )
    parser.add_argument(
        "--turn",
        metavar="S",
        type=_seconds,
        default=0.4,
        help="seconds for which a short workload is repeated within one turn (default: 0.4)",
    )


if __name__ == "__main__":
    sys.exit(main())
