"""Reads .pdmodel, the form in which Paddle saved programs up to 2.6 and can save them still."""

from pathlib import Path

from ...checkpoint.stored_tensor import shown
from ...protobuf import Malformed
from ..graph import Graph, Input
from .paddle_operation import Operation, Type
from .paddle_program import Damaged, Program, damaged, data_type, read_program, read_weights
from .pdmodel_operators import PDMODEL_OPERATORS, Renamed
from .program_desc import Operator, read_program_desc

# The attributes of assign_value, one for each type.
_VALUES = ("bool_values", "fp32_values", "fp64_values", "int32_values", "int64_values", "values")


def read_pdmodel(path: Path) -> Graph:
    """The program in ``path``, its weights mapped from the .pdiparams of the same name in the same folder.

    Raises ArtifactError if a file is missing or damaged, or they do not belong together.
    """
    try:
        return _graph(path, read_program(path))
    except (Malformed, Damaged) as error:
        raise damaged(path, error) from None


def _graph(path: Path, data: bytes) -> Graph:
    variables, operators = read_program_desc(data)
    weights = [variable for variable in variables.values() if variable.persistable]
    constants, files = read_weights(
        path,
        {weight.name: weight.shape for weight in weights},
        {weight.name: weight.dtype for weight in weights},
    )
    types = {
        variable.name: Type(data_type(variable.dtype), variable.shape)
        for variable in variables.values()
        if variable.dtype
    }
    read = {name for operator in operators for names in operator.inputs.values() for name in names}
    program = Program(constants, types, read)
    inputs: list[tuple[int, Input]] = []
    outputs: list[tuple[int, tuple[str, str]]] = []
    for operator in operators:
        if operator.kind == "feed":
            name = _only(operator.outputs, "Out")
            if name not in types:
                raise Damaged(f"the input {shown(name)} is of no known type")
            inputs.append((_column(operator), Input(name, types[name].shape, types[name].dtype)))
            program.add_input(name)
        elif operator.kind == "fetch":
            name = _only(operator.inputs, "X")
            outputs.append((_column(operator), (name, program.value(name))))
        else:
            program.add(_operation(operator))
    return program.graph(inputs, outputs, files)


def _only(variables: dict[str, tuple[str, ...]], parameter: str) -> str:
    """The one variable of a feed or a fetch."""
    names = variables.get(parameter, ())
    if len(names) != 1:
        raise Damaged("an input or output of the program is not one variable")
    return names[0]


def _column(operator: Operator) -> int:
    column = operator.attributes.get("col", 0)
    if not isinstance(column, int):
        raise Damaged(f"the column of a {operator.kind} is no number")
    return column


# ---- From the file's operators to Paddle 3's


def _operation(operator: Operator) -> Operation:
    renamed = PDMODEL_OPERATORS.get(operator.kind, Renamed(""))
    inputs: dict[str, tuple[str, ...]] = {}
    for parameter, names in operator.inputs.items():
        if names:
            inputs.setdefault(renamed.names.get(parameter, parameter.lower()), names)
    attributes = {renamed.names.get(key, key): value for key, value in operator.attributes.items()}
    outputs = operator.outputs.get(renamed.output, ())
    others = (names for parameter, names in operator.outputs.items() if parameter != renamed.output)
    flat = tuple(name for names in others for name in names)
    first = next(iter((*outputs, *flat)), operator.kind)
    return Operation(renamed.op, operator.kind, first, inputs, outputs, flat, _settled(attributes))


def _settled(attributes: dict[str, object]) -> dict[str, object]:
    """The attributes with the one value that counts where the file has it in several forms."""
    text = attributes.get("str_value")
    if isinstance(text, str) and text:  # of fill_constant: exact where the float may not be
        attributes["value"] = _number(text)
    filled = [attributes[key] for key in _VALUES if attributes.get(key)]
    if filled:
        attributes["values"] = filled[0]
    return attributes


def _number(text: str) -> object:
    try:
        return int(text) if len(text) < 20 else float(text)
    except ValueError:
        pass
    try:
        return float(text)
    except ValueError:
        return None
