"""The stages that need paddle: build the model, trace and save the program, run the eager references.

Runs in the worker process, where FLAGS_enable_pir_api was set before paddle is imported.
"""

import gc
import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import paddle

from albert_runtime.artifact.config import AlbertConfig
from albert_runtime.artifact.tasks import INPUTS, MULTIPLE_CHOICE, Head
from albert_runtime.artifact.tensor_table import TensorRecord, tensor_shapes, with_scales
from albert_runtime.files import sha256_file

from ..calibration import batches_of
from ..checkpoint.weights import tensor_sha256
from ..errors import ExportError
from .heads import build
from .pdiparams import read_tensor_ranges
from .quantized import find_ranges, quantize_layers

Batch = Mapping[str, np.ndarray]
Tensors = Iterable[tuple[str, np.ndarray]]
Progress = Callable[[int, int], None]

# Under a default dtype that is none of these the tensors come in the types of their parameters.
_WIDE = ("float32", "float64")


def build_model(
    config: AlbertConfig,
    head: Head,
    tensors: Tensors,
    dtype: str,
    progress: Progress,
    quantized: Mapping[str, str] | None = None,
) -> paddle.nn.Layer:
    """The model and its head with its tensors filled in; ``progress(done, total)`` counts values.

    For a ``dtype`` of 16 bits the tensors are rounded already, and so they are for ``quantized``, the stored
    types by name.
    """
    before = paddle.get_default_dtype()
    paddle.set_default_dtype(dtype)  # what it means for a model is said in model.py
    try:
        # Parameter names are unique within a guard; the reference model needs the same ones as the first.
        with paddle.utils.unique_name.guard():
            model = build(config, head)
    finally:
        paddle.set_default_dtype(before)
    expected = tensor_shapes(config, head)
    if quantized is not None:
        quantize_layers(model, quantized)
        expected = with_scales(expected, quantized)
    parameters = {parameter.name: parameter for parameter in (*model.parameters(), *model.buffers())}
    shapes = {name: tuple(parameter.shape) for name, parameter in parameters.items()}
    if shapes != expected:
        raise ExportError("internal: the paddle model's parameters differ from the config's tensor table")
    done, total = 0, sum(map(math.prod, shapes.values()))
    for name, tensor in tensors:
        parameters[name].set_value(
            tensor.astype(dtype, copy=False) if tensor.dtype == np.float32 and dtype in _WIDE else tensor
        )
        done += tensor.size
        progress(done, total)
    return model


def run_calibration(
    model: paddle.nn.Layer, rows: Sequence[Batch], progress: Progress
) -> dict[str, list[float]]:
    """The greatest absolute input of each of the layers' matrices, by name and, in order, by depth.

    ``progress(done, total)`` counts layers, as in ``run_eager``.
    """
    encoder, batches = getattr(model, "albert", model), batches_of(rows)
    with _counted(encoder, len(batches), progress):
        return find_ranges(encoder, batches)


def run_eager(
    model: paddle.nn.Layer,
    names: Sequence[str],
    batches: Sequence[Batch],
    progress: Progress,
    depths: list[dict[str, np.ndarray]] | None = None,
) -> list[dict[str, np.ndarray]]:
    """The outputs of each batch, ``names`` in the model's order, in the model's own type.

    Appended to ``depths`` are the hidden states of each batch after each depth, [rows, T, H] in float32 under
    the names 1, 2... ``progress(done, total)`` counts the layers of all batches.
    """
    encoder, answers = getattr(model, "albert", model), []

    def keep(layer: paddle.nn.Layer, inputs: object, states: Sequence[paddle.Tensor]) -> None:
        if depths is not None:
            depths.append(
                {str(depth): state.numpy().astype(np.float32) for depth, state in enumerate(states) if depth}
            )

    hook = encoder.encoder.register_forward_post_hook(keep)
    try:
        with paddle.no_grad(), _counted(encoder, len(batches), progress):
            for batch in batches:
                outputs = model(*(paddle.to_tensor(batch[name]) for name in INPUTS))
                named = zip(names, outputs, strict=True)
                answers.append({name: output.numpy() for name, output in named})
    finally:
        hook.remove()
    return answers


@contextmanager
def _counted(encoder: paddle.nn.Layer, runs: int, progress: Progress) -> Iterator[None]:
    """Tell ``progress`` of every layer that is through, of all in so many runs of the encoder."""
    done = itertools.count(1)
    total = runs * encoder.encoder.config.num_hidden_layers

    def tell(layer: paddle.nn.Layer, inputs: object, output: object) -> None:
        progress(next(done), total)

    hooks = [group.register_forward_post_hook(tell) for group in encoder.encoder.albert_layer_groups]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def save_program(model: paddle.nn.Layer, head: Head, program_file: Path, weights_file: Path) -> None:
    """Trace ``model`` with all dimensions dynamic and write both files, whose names share their stem."""
    dimensions = [None] * (3 if head.task == MULTIPLE_CHOICE else 2)
    spec = [paddle.static.InputSpec(dimensions, "int64", name=name) for name in INPUTS]
    traced = paddle.jit.to_static(model, input_spec=spec, full_graph=True)
    paddle.jit.save(traced, str(weights_file.with_suffix("")))
    # Names for training frameworks; no predictor reads it.
    weights_file.with_name(f"{weights_file.name}.info").unlink(missing_ok=True)
    for file in (program_file, weights_file):
        if not file.is_file() or file.stat().st_size == 0:
            raise ExportError(
                f"paddle wrote no {file.name}; check that paddlepaddle is 3.1 and the disk has room"
            )


def hashed(
    tensors: Iterable[tuple[str, np.ndarray]], sha256: dict[str, str]
) -> Iterator[tuple[str, np.ndarray]]:
    """Pass tensors through, noting each one's sha256 by name."""
    for name, tensor in tensors:
        sha256[name] = tensor_sha256(tensor)
        yield name, tensor


def check_weight_file(
    path: Path,
    shapes: Mapping[str, tuple[int, ...]],
    dtypes: Mapping[str, str],
    sha256: Mapping[str, str],
) -> list[TensorRecord]:
    """The tensor table of the written file, proven: each range holds the very bytes of its source tensor.

    The file has no names, so this is also what proves that Paddle stored the tensors in the order assumed.
    """
    ranges = read_tensor_ranges(path, shapes, dtypes)
    for tensor in ranges:
        if sha256_file(path, tensor.offset, tensor.length) != sha256[tensor.name]:
            raise ExportError(f"{path.name}: the bytes of tensor {tensor.name} differ from its source")
    return ranges


def read_tensors(path: Path, ranges: Iterable[TensorRecord]) -> Iterator[tuple[str, np.ndarray]]:
    """(name, array) of every tensor of a weight file, one in memory at a time."""
    for tensor in ranges:
        flat = np.fromfile(path, np.float32, tensor.length // 4, offset=tensor.offset)
        yield tensor.name, flat.reshape(tensor.shape)


def release() -> None:
    """Give the memory of dropped models back: paddle's layers sit in reference cycles."""
    gc.collect()
