#pragma once

#include <pybind11/numpy.h>

#include <cstdint>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

#include "bindings/names.h"
#include "kernels/kernels.h"

// C-contiguous and of exactly this dtype: pybind11 would convert other arrays by silently copying them.
using FloatArray = pybind11::array_t<float, pybind11::array::c_style>;
using IntArray = pybind11::array_t<int32_t, pybind11::array::c_style>;

void register_engine(pybind11::module_& module);
void register_kernels(pybind11::module_& module);

// Throws std::invalid_argument unless the array is aligned and has this shape; -1 stands for any size.
template <typename Array>
void demand_shape(const Array& array, const char* name, const std::vector<pybind11::ssize_t>& shape) {
  bool same = array.ndim() == static_cast<pybind11::ssize_t>(shape.size());
  for (size_t i = 0; same && i < shape.size(); ++i)
    same = shape[i] == -1 || array.shape(static_cast<pybind11::ssize_t>(i)) == shape[i];
  if (reinterpret_cast<uintptr_t>(array.data()) % alignof(typename Array::value_type) != 0)
    throw std::invalid_argument(std::string(name) + " is not aligned");
  if (same) return;
  std::string message = std::string(name) + " must have shape [";
  for (size_t i = 0; i < shape.size(); ++i) {
    if (i > 0) message.append(", ");
    message.append(shape[i] == -1 ? "any" : std::to_string(shape[i]));
  }
  throw std::invalid_argument(message.append("]"));
}

inline const albert::Kernels& kernels_or_default(const std::optional<std::string>& isa) {
  return albert::kernels_for(isa ? *isa : albert::default_isa());
}
