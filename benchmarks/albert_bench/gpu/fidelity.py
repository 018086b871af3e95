"""How close is the engine on a GPU to the CPU engine in fp32? On seeded models and on the golden ones.

The batches and the figures are those that verify an export; 16 and 8 bits may deviate as far as there.
"""

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from albert_export.precision import PRECISIONS
from albert_export.verify import Allowed, Bounds, Errors, Likeness, make_batches, measure
from albert_runtime import AlbertError, Predictor
from albert_runtime.artifact import Artifact

from ..check import MAX_DIFFERENCE
from ..output import log, report_error, write_json
from ..report import table
from ..seeded import TINY, checkpoint_artifact, seeded_artifact
from .command import add_options, find_device

_PROGRAM = "python -m albert_bench.gpu.fidelity"
_SEEDED = ("albert-base-v2", "albert-base-v1", "albert-chinese-base")  # one for each activation
# TF32 keeps the 10 bits of fp16's mantissa.
_BOUNDED_AS = {"tf32": "fp16"}
_PRECISIONS = ("fp32", "tf32", "fp16", "bf16", "int8")
_TINY_PRECISIONS = ("fp32", "bf16")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; the exit code: 1 if the engine is further off than its precision allows."""
    parser = add_options(argparse.ArgumentParser(prog=_PROGRAM, description=__doc__))
    parser.add_argument(
        "--golden", metavar="DIR", type=Path, required=True, help="folder of the golden checkpoints"
    )
    options = parser.parse_intermixed_args(arguments)
    lines: list[dict[str, Any]] = []
    try:
        gpu, _ = find_device(tiny=options.tiny)
        for path in _models(options):
            lines += _compare(path, options.tiny)
            write_json({"gpu": gpu, "outputs": lines}, options.output / "fidelity.json")
            (options.output / "fidelity.md").write_text(markdown(gpu, lines), encoding="utf-8")
    except (AlbertError, OSError) as error:
        return report_error(str(error), 1)
    print(markdown(gpu, lines), end="")
    wrong = [f"{line['model']} in {line['precision']}: {line['fault']}" for line in lines if line["fault"]]
    return report_error("; ".join(wrong), 1) if wrong else 0


def allowed(precision: str) -> Allowed:
    """How far the answers in a precision may be from those of the CPU engine in fp32."""
    known = PRECISIONS[_BOUNDED_AS.get(precision, precision)]
    if known.least_cosine is None:
        return Bounds(MAX_DIFFERENCE, MAX_DIFFERENCE)
    return Likeness(known.least_cosine, known.typical)


def markdown(gpu: dict[str, Any], lines: Sequence[dict[str, Any]]) -> str:
    """All outputs of all models as a table."""
    rows = []
    for line in lines:
        errors = line["errors"]
        shown = ["-"] * 3
        if errors is not None:
            shown = [f"{errors[name]:.6f}" for name in ("cosine", "typical_cosine")]
            shown.append(f"{errors['max_rel']:.1e}")
        rows.append([line["model"], line["precision"], line["output"], *shown, line["fault"] or "yes"])
    headings = (
        "model",
        "precision",
        "output",
        "least cosine",
        "median cosine",
        "greatest error / value",
        "close enough",
    )
    return f"{gpu['name']}: the backend gpu against the CPU engine in fp32.\n\n{table(headings, rows, 3)}\n"


def _models(options: argparse.Namespace) -> Iterator[Path]:
    """The artifacts, each written when it is its turn."""
    for variant in (TINY,) if options.tiny else _SEEDED:
        yield seeded_artifact(options.models, variant)
    checkpoints = sorted(file.parent for file in options.golden.glob("*/config.json"))
    if not checkpoints:
        raise AlbertError(f"{options.golden} holds no checkpoints")
    for checkpoint in checkpoints[:1] if options.tiny else checkpoints:
        yield checkpoint_artifact(options.models / "golden", checkpoint)


def _compare(path: Path, tiny: bool) -> list[dict[str, Any]]:
    """The errors of each output in each precision, ready for JSON."""
    manifest = Artifact.open(path).manifest
    assert manifest is not None
    batches = make_batches(manifest.config, manifest.head)[2 if tiny else 0 :]
    reference = Predictor(path, backend="native")
    expected = [reference.run(batch) for batch in batches]
    lines = []
    for precision in _TINY_PRECISIONS if tiny else _PRECISIONS:
        log(f"{manifest.name} in {precision}")
        line: dict[str, Any] = {"model": manifest.name, "precision": precision}
        try:
            predictor = Predictor(path, backend="gpu", precision=precision)
            answers = [predictor.run(batch) for batch in batches]
        except Exception as error:  # the others are still worth knowing
            fault = " ".join(f"{type(error).__name__}: {error}".split())[:300]
            lines.append(line | {"output": "all", "errors": None, "fault": fault})
            continue
        for output, errors in measure(expected, answers, batches, manifest.head).items():
            lines.append(
                line | {"output": output, "errors": asdict(errors), "fault": _fault(errors, precision)}
            )
    return lines


def _fault(errors: Errors, precision: str) -> str | None:
    bound = allowed(precision)
    return None if bound.hold(errors) else f"more than {bound} off"


if __name__ == "__main__":
    sys.exit(main())
