"""Reads .json, the form in which Paddle saves programs from 3.0 on: its intermediate representation, PIR.

Values are numbered; one may be a list of others. Names of operators and types start with the number of the
dialect that they are of (paddle/fluid/pir/serialize_deserialize).
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from ...checkpoint.stored_tensor import shown
from ..graph import Graph, Input
from .paddle_operation import Operation, Type
from .paddle_program import Damaged, Program, damaged, data_type, read_program, read_weights, sizes_of
from .pir_operators import named_inputs

_DIALECTS = {"0": "builtin", "1": "pd_op", "2": "cf", "3": "custom_op", "4": "pd_dist"}
_PADDLE = "pd_op."
_NO_VALUE = 0
# The most values that all operators together may read, for one may read a list again and again.
_MAX_READ = 1 << 22
_TENSOR, _LIST = "0.t_dtensor", "0.t_vec"
_TYPES = {
    "0.t_bool": "bool",
    "0.t_i8": "int8",
    "0.t_ui8": "uint8",
    "0.t_i16": "int16",
    "0.t_i32": "int32",
    "0.t_i64": "int64",
    "0.t_f16": "float16",
    "0.t_bf16": "bfloat16",
    "0.t_f32": "float32",
    "0.t_f64": "float64",
}
# Attributes whose name differs from that of the same one of other operators.
_ATTRIBUTES = {"keep_dim": "keepdim"}
_INFINITE = {"NaN": float("nan"), "INF": float("inf"), "-INF": float("-inf")}

# Operators that give the program's outputs, and the attribute that names them.
_FETCHES = {"pd_op.fetch": "name", "builtin.shadow_output": "output_name"}

_Values = tuple[str, ...]
_Item = TypeVar("_Item")


@dataclass(frozen=True)
class _Operator:
    """An operator of the program. Each input and output is a list of values, mostly of one."""

    kind: str
    name: str
    inputs: tuple[_Values, ...]
    outputs: tuple[_Values, ...]
    attributes: dict[str, object]


def read_pir(path: Path) -> Graph:
    """The program in ``path``, its weights mapped from the .pdiparams of the same name in the same folder.

    Raises ArtifactError if a file is missing or damaged, or they do not belong together.
    """
    try:
        return _graph(path, _parsed(read_program(path)))
    except Damaged as error:
        raise damaged(path, error) from None


def _parsed(data: bytes) -> list[object]:
    """The operators of the program's one block."""
    try:
        program = json.loads(data.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise Damaged(f"it is not JSON ({str(error)[:80]})") from None
    match program:
        case {"base_code": {"magic": "pir"}, "program": {"regions": [{"blocks": [{"ops": list(ops)}]}]}}:
            return ops
    raise Damaged("it does not hold one block of operators in Paddle's form")


def _graph(path: Path, ops: list[object]) -> Graph:
    reader = _Reader()
    for number, op in enumerate(ops):
        try:
            reader.read(op)
        except Damaged as error:
            raise Damaged(f"op {number}: {error}") from None
    shapes = {name: weight.shape for name, weight in reader.weights.items()}
    dtypes = {name: weight.dtype for name, weight in reader.weights.items()}
    constants, files = read_weights(path, shapes, dtypes)
    read = {name for operator in reader.operators for values in operator.inputs for name in values}
    program = Program(constants, reader.types, read)
    for item in reader.inputs:
        program.add_input(item.name)
    outputs: list[tuple[int, tuple[str, str]]] = []
    for operator in reader.operators:
        if operator.kind in _FETCHES:
            outputs.append(_output(program, operator, len(outputs)))
        else:
            program.add(_operation(operator))
    return program.graph(list(enumerate(reader.inputs)), outputs, files)


def _output(program: Program, operator: _Operator, count: int) -> tuple[int, tuple[str, str]]:
    """The place, name and value of an output of the program."""
    place, name = operator.attributes.get("col", count), operator.attributes.get(_FETCHES[operator.kind])
    values = operator.inputs[0] if operator.inputs else ()
    if not isinstance(place, int) or not isinstance(name, str) or len(values) != 1:
        raise Damaged(f"{operator.name} does not name one output")
    return place, (name, program.value(values[0]))


def _operation(operator: _Operator) -> Operation:
    op = operator.kind.removeprefix(_PADDLE).removesuffix("_") if operator.kind.startswith(_PADDLE) else ""
    return Operation(
        op,
        operator.kind,
        operator.name,
        named_inputs(op, operator.inputs),
        operator.outputs[0] if operator.outputs else (),
        tuple(name for values in operator.outputs[1:] for name in values),
        operator.attributes,
        operator.kind.endswith("_"),
    )


class _Reader:
    """The operators of the file, one after another: their values by name instead of by number."""

    def __init__(self) -> None:
        self.inputs: list[Input] = []
        self.weights: dict[str, Type] = {}  # bfloat16 as such
        self.operators: list[_Operator] = []
        self.types: dict[str, Type] = {}
        self._values: dict[int, _Values] = {}
        self._count = self._read = 0

    def read(self, op: object) -> None:
        """The next operator."""
        name = f"op {self._count}"
        self._count += 1
        match op:
            case {"#": "p", "A": [*_, str(parameter)], "O": dict(result)}:
                self._read_weight(parameter, result)
                return
            case {"#": str(kind), "I": list(operands), "O": list(results), "A": list(attributes)}:
                pass
            case _:
                raise Damaged("it is not an operator with inputs, outputs and attributes")
        dialect, dot, rest = kind.partition(".")
        kind = f"{_DIALECTS.get(dialect, dialect)}{dot}{rest}"
        inputs = tuple(self._operand(operand) for operand in operands)
        self._read += sum(map(len, inputs))
        if self._read > _MAX_READ:
            raise Damaged("it reads more values than a program has")
        named = dict(_attribute(attribute) for attribute in attributes)
        if kind == "builtin.combine":
            self._define(_only(results), tuple(_only(values) for values in inputs))
        elif kind == "builtin.split":
            self._read_split(inputs, results)
        elif kind == "builtin.slice":
            self._read_slice(inputs, named, results)
        elif kind in ("pd_op.data", "pd_op.feed"):
            self._read_input(named, _only(results))
        else:
            outputs = tuple(self._results(result) for result in results)
            self.operators.append(_Operator(kind, name, inputs, outputs, named))

    def _read_weight(self, name: str, result: dict[str, object]) -> None:
        dtype, shape = _tensor(result.get("TT"))
        self._declare(name, dtype, shape)
        self._define(result, (name,))
        self.weights[name] = Type(dtype, shape)

    def _read_input(self, attributes: dict[str, object], result: object) -> None:
        name = attributes.get("name")
        if not isinstance(name, str) or not isinstance(result, dict):
            raise Damaged("an input has no name")
        dtype, shape = _tensor(result.get("TT"))
        if not data_type(dtype):
            raise Damaged(f"the input {shown(name)} is of no known type")
        self._declare(name, dtype, shape)
        self._define(result, (name,))
        self.inputs.append(Input(name, shape, data_type(dtype)))

    def _read_split(self, inputs: tuple[_Values, ...], results: list[object]) -> None:
        """A list into its values."""
        values = _only(inputs)
        if len(values) != len(results):
            raise Damaged(f"it takes {len(results)} values out of a list of {len(values)}")
        for value, result in zip(values, results, strict=True):
            self._define(result, (value,))

    def _read_slice(
        self, inputs: tuple[_Values, ...], attributes: dict[str, object], results: list[object]
    ) -> None:
        """One value of a list."""
        values, index = _only(inputs), attributes.get("index")
        if not isinstance(index, int) or not 0 <= index < len(values):
            raise Damaged(f"it takes a value that a list of {len(values)} has not")
        self._define(_only(results), (values[index],))

    def _operand(self, operand: object) -> _Values:
        number = _number(operand)
        if number == _NO_VALUE:
            return ()
        if number not in self._values:
            raise Damaged(f"nothing before it gives the value {number}")
        return self._values[number]

    def _results(self, result: object) -> _Values:
        """New values: one, or those of a list."""
        number = _number(result)
        kind = result.get("TT") if isinstance(result, dict) else None
        if number == _NO_VALUE:
            return ()
        match kind:
            case {"#": str(title), "D": list(items)} if title == _LIST:
                names = tuple(f"%{number}[{index}]" for index in range(len(items)))
            case _:
                names, items = (f"%{number}",), [kind]
        for name, item in zip(names, items, strict=True):
            if isinstance(item, dict) and item.get("#") == _TENSOR:
                self._declare(name, *_tensor(item))
        self._define(result, names)
        return names

    def _declare(self, name: str, dtype: str, shape: tuple[int | None, ...]) -> None:
        if name in self.types:
            raise Damaged(f"two values are called {shown(name)}")
        if data_type(dtype):
            self.types[name] = Type(data_type(dtype), shape)

    def _define(self, result: object, values: _Values) -> None:
        number = _number(result)
        if number in self._values or number == _NO_VALUE:
            raise Damaged(f"the value {number} is given twice, or is none")
        self._values[number] = values


def _only(items: Sequence[_Item]) -> _Item:
    if len(items) != 1:
        raise Damaged(f"it has {len(items)} values where there must be one")
    return items[0]


def _number(value: object) -> int:
    """The number of a value."""
    match value:
        case {"%": int(number)}:
            return number
    raise Damaged("it has a value without a number")


def _tensor(kind: object) -> tuple[str, tuple[int | None, ...]]:
    """The type and shape of a tensor; bfloat16 as such, '' for a type unknown here."""
    match kind:
        case {"#": str(title), "D": [{"#": str(dtype)}, list(dims), *_]} if title == _TENSOR:
            if all(type(size) is int for size in dims):
                return _TYPES.get(dtype, ""), sizes_of(dims)
    raise Damaged("it has a value of no shape")


def _attribute(attribute: object) -> tuple[str, object]:
    match attribute:
        case {"N": str(name), "AT": kind}:
            return _ATTRIBUTES.get(name, name), _attribute_value(kind)
    raise Damaged("it has an attribute without a name")


def _attribute_value(kind: object) -> object:
    """The value of an attribute; None for one of a kind that no operator here has."""
    value: object = None
    match kind:
        case {"#": "0.a_array", "D": list(items)}:
            value = tuple(_number_or_text(item) for item in items)
        case {"#": "1.a_intarray", "D": list(items)}:
            value = tuple(items)
        case {"#": "1.a_dtype", "D": str(name)}:
            value = data_type(name)
        case _:
            value = _number_or_text(kind)
    return value


def _number_or_text(kind: object) -> object:
    value: object = None
    match kind:
        case {"#": "0.a_bool" | "0.a_i32" | "0.a_i64" | "0.a_f32" | "0.a_f64" | "0.a_str", "D": found}:
            value = found
        case {"#": "0.a_f32" | "0.a_f64", "VD": str(text)}:
            value = _INFINITE.get(text)
        case {"#": "1.a_scalar", "D": [_, found]}:
            value = found
    return value
