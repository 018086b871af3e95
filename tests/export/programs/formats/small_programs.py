"""Makes a small Paddle program of every operator that the readers translate. A script, for it imports paddle:

python small_programs.py pdmodel|json FOLDER

FOLDER/NAME/model.pdmodel (or .json), model.pdiparams if it has weights, and io.npz: in/NAME/0 what it is
given, out/PLACE/0 what Paddle answers.
"""

# The arguments of a case name what it is given.
# ruff: noqa: PLW0108

import inspect
import os
import sys
from pathlib import Path

import numpy as np

FORM, FOLDER = sys.argv[1:]
os.environ["FLAGS_enable_pir_api"] = str(int(FORM == "json"))  # noqa: SIM112 - Paddle's own name

import paddle  # noqa: E402 - after its flag
from paddle.nn import functional as F  # noqa: E402

paddle.enable_static()
generator = np.random.default_rng(7)
# What a case may ask for by the name of an argument: the shape that is declared, and what it is given.
GIVEN = {
    "x": ([-1, 4], generator.normal(size=(3, 4)).astype(np.float32)),
    "y": ([-1, 4], generator.normal(size=(3, 4)).astype(np.float32)),
    "p": ([-1, 4], generator.uniform(0.5, 2, (3, 4)).astype(np.float32)),
    "row": ([4], generator.normal(size=4).astype(np.float32)),
    "z": ([-1, 3, 4], generator.normal(size=(2, 3, 4)).astype(np.float32)),
    "w": ([-1, 4, 3], generator.normal(size=(2, 4, 3)).astype(np.float32)),
    "i": ([-1, 4], generator.integers(-9, 9, (3, 4))),
    "j": ([-1, 4], generator.integers(1, 9, (3, 4))),
    "b": ([-1, 4], generator.integers(0, 2, (3, 4)).astype(bool)),
    "c": ([-1, 4], generator.integers(0, 2, (3, 4)).astype(bool)),
    "ids": ([-1, 3], np.array([[0, 5, 1], [4, 0, 0]])),
    "n": ([1], np.array([3])),
    "one": ([-1, 1, 4], generator.normal(size=(3, 1, 4)).astype(np.float32)),
}


def old(kind, inputs, attributes, dtype="float32", output="Out", count=1, **others):
    """An operator of .pdmodel that Paddle's functions no longer make."""
    block = paddle.static.default_main_program().current_block()
    results = [block.create_var(dtype=dtype) for _ in range(count)]
    more = {name: [block.create_var(dtype=dtype)] for name in others}
    block.append_op(type=kind, inputs=inputs, outputs={output: results, **more}, attrs=attributes)
    return results if count > 1 else results[0]


def table(rows=6, columns=4):
    weight = paddle.create_parameter([rows, columns], "float32")
    values.append((weight, generator.normal(size=(rows, columns)).astype(np.float32)))
    return weight


values = []  # the weights of the program that is made, and what they are to be


BOTH = {
    "abs": lambda x: x.abs(),
    "add": lambda x, y: x + y,
    "add-row": lambda z, row: z + row,
    "arange": lambda n: paddle.arange(0, n[0], 1, "int64"),
    "arange-constant": lambda x: x + paddle.arange(4, dtype="float32"),
    "argmax": lambda x: paddle.argmax(x, -1),
    "argmax-flat": lambda x: paddle.argmax(x),
    "argmax-kept": lambda x: paddle.argmax(x, 0, True, "int32"),
    "assign": lambda x: paddle.assign(x),
    "assign-values": lambda x: x + paddle.assign(np.array([[1.5, 2, -3, 4]], np.float32)),
    "assign-integers": lambda i: i + paddle.assign(np.array([1, 2, -3, 4])),
    "bitwise": lambda b, c: (b & c) | ~(b ^ c),
    "bmm": lambda z, w: paddle.bmm(z, w),
    "cast": lambda x: (x * 3).astype("int64"),
    "cast-bool": lambda i: i.astype("bool").astype("float32"),
    "ceil-floor": lambda x: x.ceil() + x.floor(),
    "clip": lambda x: paddle.clip(x, -0.5, 0.25),
    "compare": lambda i, j: [i == j, i != j, i < j, i <= j, i > j, i >= j],
    "concat": lambda x, y: paddle.concat([x, y], -1),
    "cumsum": lambda x: paddle.cumsum(x, 1),
    "cumsum-flat": lambda i: paddle.cumsum(i),
    "divide": lambda x, p: x / p,
    "dropout": lambda x: F.dropout(x, 0.25, training=False),
    "dropout-scaled": lambda x: F.dropout(x, 0.25, training=False, mode="downscale_in_infer"),
    "elementwise-pow": lambda p, y: paddle.pow(p, y),
    "embedding": lambda ids: F.embedding(ids, table()),
    "embedding-padded": lambda ids: F.embedding(ids, table(), padding_idx=0),
    "erf": lambda x: paddle.erf(x),
    "exp-log": lambda p: [p.exp(), p.log()],
    "expand": lambda one: one.expand([-1, 5, 4]),
    "expand-by-shape": lambda one, z: one.expand([paddle.shape(one)[0], paddle.shape(z)[1], 4]),
    "expand-as": lambda row, x: row.expand_as(x),
    "flatten": lambda z: paddle.flatten(z),
    "flatten-first": lambda z: paddle.flatten(z, 0, 1),
    "flatten-last": lambda z: paddle.flatten(z, -2, -1),
    "floor-divide": lambda i, j: [i // j, i % j],
    "full": lambda x: x + paddle.full([1, 4], 0.5),
    "full-infinite": lambda x: paddle.maximum(x, paddle.full([1], float("-inf"))),
    "full-by-shape": lambda x: paddle.full([paddle.shape(x)[0], 2], 7, "int64"),
    "full-of-tensor": lambda x, n: x.astype("int64") + paddle.full([1, 4], n[0], "int64"),
    "full-like": lambda x: [paddle.full_like(x, 2.5), paddle.ones_like(x), paddle.zeros_like(x, "int64")],
    "gather": lambda x, n: paddle.gather(x, n - 1, axis=1),
    "gather-nd": lambda z, ids: paddle.gather_nd(z, ids[:, :1] // 5),
    "gelu": lambda x: F.gelu(x),
    "gelu-tanh": lambda x: F.gelu(x, approximate=True),
    "increment": lambda n: paddle.increment(n + 1, 2),
    "index-select": lambda x, n: paddle.index_select(x, n, 1),
    "is-nan-is-inf": lambda x: [paddle.isnan(x.log()), paddle.isinf(x / (x - x.floor() * 0 - x))],
    "layer-norm": lambda z: F.layer_norm(z, 4, table(1, 4).reshape([4]), table(1, 4).reshape([4]), 1e-6),
    "layer-norm-plain": lambda z: F.layer_norm(z, [3, 4]),
    "log-softmax": lambda x: F.log_softmax(x, -1),
    "logical": lambda b, c: [
        paddle.logical_and(b, c),
        paddle.logical_or(b, c),
        paddle.logical_xor(b, c),
        paddle.logical_not(b),
    ],
    "matmul": lambda z, w: paddle.matmul(z, w),
    "matmul-transposed": lambda z: paddle.matmul(z, z, transpose_y=True),
    "matmul-transposed-x": lambda z: paddle.matmul(z, z, transpose_x=True),
    "matmul-weight": lambda z: paddle.matmul(z, table(4, 5)),
    "maximum-minimum": lambda x, y: [paddle.maximum(x, y), paddle.minimum(x, y)],
    "multiply": lambda x, y: x * y,
    "numel": lambda x: paddle.numel(x),
    "pow": lambda x: paddle.pow(x, 3.0),
    "reciprocal": lambda p: paddle.reciprocal(p),
    "reduce": lambda z: [z.mean(-1), z.sum([0, 2]), z.max(1, keepdim=True), z.min(), z.mean(), z.prod(2)],
    "reduce-bool": lambda b: b.sum(-1),
    "reduce-cast": lambda i: i.sum(-1, dtype="float32"),
    "relu": lambda x: F.relu(x),
    "reshape": lambda z: z.reshape([0, -1]),
    "reshape-by-shape": lambda z: z.reshape([paddle.shape(z)[0], paddle.shape(z)[1], 2, 2]),
    "reshape-by-tensor": lambda z: paddle.reshape(z, paddle.shape(z)[::-1]),
    "rsqrt": lambda p: paddle.rsqrt(p),
    "scale": lambda x: x * 0.5 - 1,
    "scale-first": lambda x: paddle.scale(x, 2.0, 1.0, bias_after_scale=False),
    "scale-integers": lambda i: paddle.scale(i, 2.0, 1.0),
    "scale-by-tensor": lambda x, n: paddle.scale(x, n.astype("float32")),
    "share-data": lambda x: paddle.assign(x.detach()),
    "sigmoid": lambda x: F.sigmoid(x),
    "sign": lambda x: paddle.sign(x),
    "sine": lambda x: paddle.sin(x) + paddle.cos(x),
    "slice": lambda z: z[:, 1:3, -2:],
    "slice-dropping": lambda z: z[:, 0],
    "slice-by-shape": lambda z, ids: z[:, : paddle.shape(ids)[1], : paddle.shape(ids)[0]],
    "slice-number": lambda z: paddle.shape(z)[1] * 2,
    "slice-strided": lambda z: z[:, ::2, ::-1],
    "softmax": lambda z: F.softmax(z, 1),
    "split": lambda x: paddle.split(x, 2, -1),
    "split-sizes": lambda x: paddle.split(x, [1, -1], -1),
    "sqrt-square": lambda p: [p.sqrt(), p.square()],
    "squeeze": lambda one: paddle.squeeze(one, [1, 2]),
    "squeeze-all": lambda one: paddle.squeeze(one),
    "stack": lambda x, y: paddle.stack([x, y], -2),
    "subtract": lambda x, y: x - y,
    "take-along-axis": lambda x, j: paddle.take_along_axis(x, j % 3, 0),
    "tanh": lambda x: x.tanh(),
    "tile": lambda x: paddle.tile(x, [2, 1, 3]),
    "tile-short": lambda z: paddle.tile(z, [2]),
    "transpose": lambda z: z.transpose([1, 2, 0]),
    "triangles": lambda z: [paddle.tril(z), paddle.triu(z, 1)],
    "unbind": lambda x: paddle.unbind(x, 1),
    "unstack": lambda z: paddle.unstack(z, 1),
    "unsqueeze": lambda x: x.unsqueeze([1, 2]),
    "unsqueeze-from-behind": lambda x: x.unsqueeze([-1, 0]),
    "where": lambda b, x, y: paddle.where(b, x, y),
}
OLD = {
    "elementwise-axis": lambda w, row: old("elementwise_add", {"X": w, "Y": row}, {"axis": 1}),
    "expand-as-shape": lambda row: old("expand_as_v2", {"X": row}, {"target_shape": [3, 4]}),
    "fc": lambda z: old(
        "fc",
        {"Input": z, "W": table(4, 5), "Bias": table(1, 5)},
        {"in_num_col_dims": 2, "activation_type": "relu"},
    ),
    "lookup-table": lambda ids: old(
        "lookup_table", {"Ids": ids.unsqueeze(-1), "W": table()}, {"padding_idx": 0}
    ),
    "matmul-scaled": lambda z, w: old("matmul", {"X": z, "Y": w}, {"alpha": 0.5}),
    "mean": lambda z: old("mean", {"X": z}, {}),
    "mul": lambda z: old("mul", {"X": z, "Y": table(4, 5)}, {"x_num_col_dims": 2, "y_num_col_dims": 1}),
    "reduce-extremes": lambda z: [paddle.amax(z, 1), paddle.amin(z, 1)],
    "reshape-first-form": lambda z: old("reshape", {"X": z}, {"shape": [0, 12]}),
    "transpose-first-form": lambda z: old("transpose", {"X": z}, {"axis": [0, 2, 1]}),
    "written-twice": lambda x: written_twice(x),
}


def written_twice(x):
    """A value that is overwritten: what was read before has the old one."""
    block = paddle.static.default_main_program().current_block()
    value = paddle.assign(x)
    before = value * 2.0
    block.append_op(type="scale", inputs={"X": [value]}, outputs={"Out": [value]}, attrs={"scale": 10.0})
    return before + value


def make(name, case):
    values.clear()
    main, startup = paddle.static.Program(), paddle.static.Program()
    with paddle.static.program_guard(main, startup):
        names = list(inspect.signature(case).parameters)
        inputs = [paddle.static.data(name, GIVEN[name][0], str(GIVEN[name][1].dtype)) for name in names]
        outputs = case(*inputs)
        outputs = outputs if isinstance(outputs, list | tuple) else [outputs]
    executor = paddle.static.Executor(paddle.CPUPlace())
    executor.run(startup)
    for weight, array in values:
        paddle.static.global_scope().find_var(weight.name).get_tensor().set(array, paddle.CPUPlace())
    folder = Path(FOLDER) / name
    folder.mkdir(parents=True)
    prefix = folder / "model"
    paddle.static.save_inference_model(str(prefix), inputs, outputs, executor, program=main)
    given = {name: GIVEN[name][1] for name in names}
    answers = run(executor, prefix, given)
    arrays = {f"in/{name}/0": value for name, value in given.items()}
    np.savez(folder / "io.npz", **arrays, **{f"out/{place}/0": value for place, value in enumerate(answers)})


def run(executor, prefix, given):
    program, _, targets = paddle.static.load_inference_model(str(prefix), executor)
    return executor.run(program, feed=given, fetch_list=targets)


if __name__ == "__main__":
    for name, case in (BOTH | OLD if FORM == "pdmodel" else BOTH).items():
        make(name, case)
