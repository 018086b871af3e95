#include "kernels/kernels.h"

#include <pybind11/stl.h>

#include <algorithm>
#include <cmath>

#include "bindings/bindings.h"
#include "engine/default_float_env.h"
#include "engine/linear.h"

namespace py = pybind11;
using albert::Activation;

namespace {

using Isa = std::optional<std::string>;

FloatArray like(const FloatArray& x) { return FloatArray(std::vector<py::ssize_t>(x.shape(), x.shape() + x.ndim())); }

FloatArray activate(const FloatArray& x, const std::string& activation, const Isa& isa) {
  FloatArray out = like(x);
  const albert::Kernels& kernels = kernels_or_default(isa);
  const Activation function = from_name(kActivationNames, "activation", activation);
  const float* from = x.data();
  float* to = out.mutable_data();
  const auto count = static_cast<size_t>(x.size());
  const py::gil_scoped_release unlocked;
  const albert::DefaultFloatEnv floats;
  std::copy_n(from, count, to);
  kernels.activate(function, to, count);
  return out;
}

FloatArray layer_norm(const FloatArray& x, const FloatArray& scale, const FloatArray& shift, float epsilon,
                      const std::optional<FloatArray>& bias, const std::optional<FloatArray>& residual, const Isa& isa) {
  demand_shape(x, "x", {-1, -1});
  const py::ssize_t rows = x.shape(0), columns = x.shape(1);
  if (columns == 0) throw std::invalid_argument("x must have at least one column");
  demand_shape(scale, "scale", {columns});
  demand_shape(shift, "shift", {columns});
  if (bias) demand_shape(*bias, "bias", {columns});
  if (residual) demand_shape(*residual, "residual", {rows, columns});
  FloatArray out = like(x);
  const albert::Kernels& kernels = kernels_or_default(isa);
  const auto stride = static_cast<size_t>(columns);
  const albert::LayerNorm n{.x = x.data(),
                            .x_stride = stride,
                            .bias = bias ? bias->data() : nullptr,
                            .residual = residual ? residual->data() : nullptr,
                            .residual_stride = stride,
                            .scale = scale.data(),
                            .shift = shift.data(),
                            .epsilon = epsilon,
                            .out = out.mutable_data(),
                            .out_stride = stride,
                            .rows = static_cast<int>(rows),
                            .columns = static_cast<int>(columns)};
  const py::gil_scoped_release unlocked;
  const albert::DefaultFloatEnv floats;
  kernels.layer_norm(n);
  return out;
}

FloatArray linear(const FloatArray& x, const FloatArray& weight, const std::optional<FloatArray>& bias,
                  const std::string& activation, int num_threads, const std::string& precision, const Isa& isa) {
  demand_shape(x, "x", {-1, -1});
  const py::ssize_t rows = x.shape(0), inner_dim = x.shape(1);
  demand_shape(weight, "weight", {inner_dim, -1});
  const py::ssize_t columns = weight.shape(1);
  if (inner_dim == 0 || columns == 0) throw std::invalid_argument("weight must not be empty");
  if (bias) demand_shape(*bias, "bias", {columns});
  if (num_threads < 1) throw std::invalid_argument("num_threads must be at least 1");
  FloatArray out({rows, columns});
  if (rows == 0) return out;
  const albert::Kernels& kernels = kernels_or_default(isa);
  const Activation function = from_name(kActivationNames, "activation", activation);
  const albert::Precision type = precision_from_name(precision);
  const float *from = x.data(), *w = weight.data(), *b = bias ? bias->data() : nullptr;
  float* to = out.mutable_data();
  const py::gil_scoped_release unlocked;
  const albert::DefaultFloatEnv floats;
  albert::PackedMatrix packed(static_cast<int>(inner_dim), static_cast<int>(columns), kernels.panel_columns, type);
  const albert::Block<std::byte> memory = albert::allocate<std::byte>(packed.placed_bytes());
  packed.place(memory.get());
  packed.clear();
  const albert::ThreadTeamPool::Lease team(albert::ThreadTeamPool::instance(), num_threads);
  const albert::FileValues values{reinterpret_cast<const std::byte*>(w), albert::DType::float32,
                                  static_cast<size_t>(inner_dim * columns)};
  packed.pack(*team, {.values = values, .columns = static_cast<size_t>(columns)}, 0);
  if (b != nullptr) std::copy_n(b, columns, packed.bias());
  const size_t stride = albert::row_stride(static_cast<int>(columns));
  const albert::FloatBlock result = albert::allocate_floats(static_cast<size_t>(rows) * stride);
  const albert::OwnedActivations activations(kernels, type, from, static_cast<int>(rows), static_cast<int>(inner_dim));
  const albert::FloatBlock scratch = albert::allocate_floats(static_cast<size_t>(num_threads) * albert::kLinearScratch);
  team->run([&](int thread) {
    albert::linear(
        *team, kernels, packed, activations.get(), static_cast<int>(rows),
        {.c = result.get(), .stride = stride, .scratch = scratch.get() + static_cast<size_t>(thread) * albert::kLinearScratch},
        b != nullptr, function);
  });
  for (py::ssize_t row = 0; row < rows; ++row)
    std::copy_n(result.get() + static_cast<size_t>(row) * stride, columns, to + row * columns);
  return out;
}

FloatArray attention(const FloatArray& q, const FloatArray& k, const FloatArray& v, const std::string& precision, const Isa& isa) {
  const albert::Precision type = precision_from_name(precision);
  if (type == albert::Precision::int8) throw std::invalid_argument("attention computes in fp32 or bf16");
  demand_shape(q, "q", {-1, -1, -1});
  const py::ssize_t queries = q.shape(0), heads = q.shape(1), size = q.shape(2);
  demand_shape(k, "k", {-1, heads, size});
  const py::ssize_t keys = k.shape(0);
  demand_shape(v, "v", {keys, heads, size});
  if (keys == 0 || heads == 0 || size == 0) throw std::invalid_argument("k must not be empty");
  FloatArray out = like(q);
  const albert::Kernels& kernels = kernels_or_default(isa);
  const float *q_data = q.data(), *k_data = k.data(), *v_data = v.data();
  float* to = out.mutable_data();
  const py::gil_scoped_release unlocked;
  const albert::DefaultFloatEnv floats;
  // A row for each head of each token.
  const auto activations = [&](const float* x, py::ssize_t tokens) {
    return albert::OwnedActivations(kernels, type, x, static_cast<int>(tokens * heads), static_cast<int>(size));
  };
  const albert::OwnedActivations q_rows = activations(q_data, queries), k_rows = activations(k_data, keys),
                                 v_rows = activations(v_data, keys);
  const size_t stride = q_rows.get().stride * static_cast<size_t>(heads) * static_cast<size_t>(albert::values_per_word(type));
  const albert::FloatBlock scratch =
      albert::allocate_floats(albert::attention_scratch(static_cast<int>(keys), static_cast<int>(size)));
  for (py::ssize_t head = 0; head < heads; ++head)
    kernels.attention_head({.precision = type,
                            .q = q_rows.get().from(static_cast<int>(head)).words,
                            .q_stride = stride,
                            .k = k_rows.get().from(static_cast<int>(head)).words,
                            .v = v_rows.get().from(static_cast<int>(head)).words,
                            .kv_stride = stride,
                            .out = to + head * size,
                            .out_stride = static_cast<size_t>(heads * size),
                            .queries = static_cast<int>(queries),
                            .keys = static_cast<int>(keys),
                            .head_size = static_cast<int>(size),
                            .scale = 1.0f / std::sqrt(static_cast<float>(size)),
                            .scratch = scratch.get()});
  return out;
}

}  // namespace

void register_kernels(py::module_& module) {
  module.def("activate", &activate, py::arg("x"), py::arg("activation"), py::kw_only(), py::arg("isa") = py::none(),
             R"(Applies an activation to each element. Releases the GIL.

Args:
    x: float32, any shape.
    activation: "none", "gelu", "gelu_tanh", "relu" or "tanh".
    isa: One of isas(); default_isa() if None.

Returns:
    float32, the shape of x.

Raises:
    ValueError: No such activation or ISA.)");
  module.def("layer_norm", &layer_norm, py::arg("x"), py::arg("scale"), py::arg("shift"), py::kw_only(), py::arg("epsilon"),
             py::arg("bias") = py::none(), py::arg("residual") = py::none(), py::arg("isa") = py::none(),
             R"((v - mean) / sqrt(variance + epsilon) * scale + shift of each row, v = (x + bias) + residual. Releases the GIL.

Args:
    x: float32 [N, H].
    scale: float32 [H].
    shift: float32 [H].
    epsilon: Added to the variance.
    bias: float32 [H], or None for zeros.
    residual: float32 [N, H], or None for zeros.
    isa: One of isas(); default_isa() if None.

Returns:
    float32 [N, H].

Raises:
    ValueError: The shapes do not fit together, or no such ISA.)");
  module.def("linear", &linear, py::arg("x"), py::arg("weight"), py::arg("bias") = py::none(), py::kw_only(),
             py::arg("activation") = "none", py::arg("num_threads") = 1, py::arg("precision") = "fp32", py::arg("isa") = py::none(),
             R"(activation(x @ weight + bias). Packs the weight anew in each call. Releases the GIL.

Args:
    x: float32 [N, K].
    weight: float32 [K, M].
    bias: float32 [M], or None for zeros.
    activation: "none", "gelu", "gelu_tanh", "relu" or "tanh".
    num_threads: At least 1.
    precision: "fp32", "bf16" or "int8": what x and weight are converted to before they are multiplied.
    isa: One of isas(); default_isa() if None.

Returns:
    float32 [N, M].

Raises:
    ValueError: The shapes do not fit together, no such activation, precision or ISA, or num_threads is out of range.)");
  module.def("attention", &attention, py::arg("q"), py::arg("k"), py::arg("v"), py::kw_only(), py::arg("precision") = "fp32",
             py::arg("isa") = py::none(), R"(softmax(q k^T / sqrt(D)) v for each head of one sequence. Releases the GIL.

Args:
    q: float32 [Tq, heads, D].
    k: float32 [Tk, heads, D], Tk at least 1.
    v: float32 [Tk, heads, D].
    precision: "fp32", or "bf16": q, k, v and the softmax weights are rounded to bfloat16 before they are multiplied.
    isa: One of isas(); default_isa() if None.

Returns:
    float32 [Tq, heads, D].

Raises:
    ValueError: The shapes do not fit together, or no such precision or ISA.)");
}
