"""Products with their last steps, against float64."""

import pytest
import torch
from torch.nn.functional import gelu

from albert_runtime.gpu.kernels.linear import Linear, linear
from albert_runtime.gpu.kernels.quantize import quantize_rows

from .conftest import FLOATS, ROUNDING

ACTIVATIONS = {
    "none": lambda x: x,
    "gelu": gelu,
    "gelu_new": lambda x: gelu(x, approximate="tanh"),
    "relu": torch.relu,
    "tanh": torch.tanh,
}
# Rows, K and N: single ones, tails of every tile, more than one tile of each, the wide tile.
SHAPES = [(1, 1, 1), (3, 26, 2), (64, 64, 64), (65, 63, 65), (130, 200, 130), (129, 33, 300), (70, 40, 2304)]


def ints(device, *values):
    return torch.tensor(values, dtype=torch.int32, device=device)


def normal(generator, device, dtype, *shape):
    return torch.randn(*shape, generator=generator).to(dtype).to(device)


def close(found, expected, dtype, inner):
    """Within the rounding of the result's type, and of sums of K products in float32."""
    tolerance = expected.abs() * ROUNDING[dtype] + inner * 2**-22
    assert ((found.double().cpu() - expected.cpu()).abs() <= tolerance).all()


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_against_float64(device, generator, dtype, shape):
    rows, inner, columns = shape
    x = normal(generator, device, dtype, rows, inner)
    weight = normal(generator, device, dtype, columns, inner) / 8
    bias = normal(generator, device, torch.float32, columns)
    out = torch.empty(rows, columns, dtype=dtype, device=device)
    linear(x, Linear(weight, bias), out, ints(device, rows))
    close(out, x.double() @ weight.double().T + bias.double(), dtype, inner)


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("columns", [30, 64])  # a tail, and a tile that is full
def test_activations_and_residual(device, generator, dtype, activation, columns):
    x = normal(generator, device, dtype, 20, 40) * 3
    weight = normal(generator, device, dtype, columns, 40) / 3
    bias = normal(generator, device, torch.float32, columns)
    residual = normal(generator, device, dtype, 20, columns)
    out = torch.empty_like(residual)
    linear(x, Linear(weight, bias), out, ints(device, 20), activation=activation, residual=residual)
    expected = ACTIVATIONS[activation](x.double() @ weight.double().T + bias.double()) + residual.double()
    close(out, expected, dtype, 40)


@pytest.mark.parametrize("activation", ["gelu", "gelu_new", "tanh"])
def test_activations_of_extreme_values(device, activation):
    """No NaN where an exponential overflows."""
    x = torch.tensor([[-1e30, -200.0, -9.0, -1e-20, 0.0, 1e-20, 9.0, 200.0, 1e30]], device=device)
    one = Linear(torch.eye(9, device=device), torch.zeros(9, device=device))
    out = torch.empty_like(x)
    linear(x, one, out, ints(device, 1), activation=activation)
    close(out, ACTIVATIONS[activation](x.double()), torch.float32, 1)


def test_rows_past_the_count_are_left_alone(device, generator):
    x = normal(generator, device, torch.float32, 9, 16)
    map = Linear(normal(generator, device, torch.float32, 5, 16), normal(generator, device, torch.float32, 5))
    out = torch.full((9, 5), 7.0, device=device)
    linear(x, map, out, ints(device, 4))
    assert (out[4:] == 7).all() and not (out[:4] == 7).any()


def test_a_view_of_wider_tensors(device, generator):
    """Q, K and V lie side by side: columns of the map, and of what it is written to."""
    x = normal(generator, device, torch.float16, 6, 40)[:, 4:36]
    weight, bias = (
        normal(generator, device, torch.float16, 48, 32),
        normal(generator, device, torch.float32, 48),
    )
    whole = torch.empty(6, 48, dtype=torch.float16, device=device)
    linear(x, Linear(weight, bias), whole, ints(device, 6))
    part = torch.zeros(6, 60, dtype=torch.float16, device=device)
    linear(x, Linear(weight, bias).columns(16, 48), part[:, 20:52], ints(device, 6))
    assert torch.equal(part[:, 20:52], whole[:, 16:]) and not part[:, :20].any() and not part[:, 52:].any()


@pytest.mark.parametrize("dtype", [*FLOATS, torch.int8], ids=str)
def test_a_row_has_the_same_bits_anywhere(device, generator, dtype):
    rows, inner, columns = 200, 72, 40
    x = normal(generator, device, torch.float32, rows, inner)
    weight = normal(generator, device, torch.float32, columns, inner)
    bias = normal(generator, device, torch.float32, columns)
    scale = None
    if dtype == torch.int8:
        x, weight = (x * 30).clamp(-127, 127).to(dtype), (weight * 30).clamp(-127, 127).to(dtype)
        scale = normal(generator, device, torch.float32, columns).abs()
    map = Linear(weight.to(dtype), bias, scale)
    x = x.to(dtype)
    row_scale = torch.ones(rows, device=device)

    def product(x):
        out = torch.empty(len(x), columns, device=device)
        linear(x, map, out, ints(device, len(x)), x_scale=row_scale if dtype == torch.int8 else None)
        return out

    whole = product(x)
    for row in (0, 63, 64, 150, 199):
        assert torch.equal(product(x[row : row + 1])[0], whole[row])
    assert torch.equal(product(x[100:]), whole[100:])
    assert torch.equal(product(x.flip(0)), whole.flip(0))


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_integers(device, generator, shape):
    rows, inner, columns = shape
    floats = normal(generator, device, torch.float32, rows, inner)
    x = torch.empty(rows, inner, dtype=torch.int8, device=device)
    x_scale = torch.empty(rows, device=device)
    quantize_rows(floats, x, x_scale, ints(device, rows))
    weight = torch.randint(-127, 128, (columns, inner), generator=generator).to(torch.int8).to(device)
    scale = normal(generator, device, torch.float32, columns).abs() / 127
    bias = normal(generator, device, torch.float32, columns)
    out = torch.empty(rows, columns, device=device)
    linear(x, Linear(weight, bias, scale), out, ints(device, rows), x_scale=x_scale)
    sums = x.double() @ weight.double().T
    expected = sums * x_scale.double()[:, None] * scale.double() + bias.double()
    close(out, expected, torch.float32, inner)


def test_integers_are_those_of_the_cpu_engine(device):
    """To nearest, ties to even; the greatest becomes 127; zeros stay zeros, a row with NaN becomes NaN."""
    x = torch.tensor(
        [
            [127.0, 0.5, 1.5, 2.5, -0.5, -1.5],
            [0.0, 0.0, 0.0, 0.0, 0.0, 0.0],
            [1.0, float("nan"), 0.0, 2.0, 3.0, 4.0],
            [float("inf"), 1.0, 2.0, 3.0, 4.0, 5.0],
            [-1e-31, 1e-32, 0.0, 0.0, 0.0, 0.0],
            [-254.0, 127.0, 2.0, 3.0, 5.0, 0.0],
        ],
        device=device,
    )
    integers = torch.empty(6, 6, dtype=torch.int8, device=device)
    scale = torch.empty(6, device=device)
    quantize_rows(x, integers, scale, ints(device, 6))
    expected = [
        [127, 0, 2, 2, 0, -2],
        [0] * 6,
        [0] * 6,
        [0] * 6,
        [0] * 6,
        [-127, 64, 1, 2, 2, 0],
    ]
    assert integers.tolist() == expected
    assert scale[[0, 1, 4, 5]].tolist() == [1, 0, 0, 2] and scale[[2, 3]].isnan().all()
