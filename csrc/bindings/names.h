// The names of precisions, activations and dtypes in Python.
#pragma once

#include <initializer_list>
#include <stdexcept>
#include <string>
#include <string_view>

#include "engine/dtype.h"
#include "kernels/activation.h"
#include "kernels/precision.h"

template <typename Value>
struct Named {
  const char* name;
  Value value;
};

inline constexpr Named<albert::Precision> kPrecisionNames[] = {{name_of(albert::Precision::fp32), albert::Precision::fp32},
                                                               {name_of(albert::Precision::bf16), albert::Precision::bf16},
                                                               {name_of(albert::Precision::int8), albert::Precision::int8}};
inline constexpr Named<albert::DType> kDTypeNames[] = {{"float32", albert::DType::float32},
                                                       {"float16", albert::DType::float16},
                                                       {"bfloat16", albert::DType::bfloat16},
                                                       {"int8", albert::DType::int8}};
inline constexpr Named<albert::Activation> kActivationNames[] = {{"none", albert::Activation::none},
                                                                 {"gelu", albert::Activation::gelu},
                                                                 {"gelu_tanh", albert::Activation::gelu_tanh},
                                                                 {"relu", albert::Activation::relu},
                                                                 {"tanh", albert::Activation::tanh}};
// The values of hidden_act in a model's config.
inline constexpr Named<albert::Activation> kHiddenActNames[] = {
    {"gelu", albert::Activation::gelu}, {"gelu_new", albert::Activation::gelu_tanh}, {"relu", albert::Activation::relu}};

// Looks `name` up; std::invalid_argument lists the choices for `argument`.
template <typename Value, size_t N>
Value from_name(const Named<Value> (&table)[N], const char* argument, std::string_view name) {
  std::string choices;
  for (size_t i = 0; i < N; ++i) {
    if (name == table[i].name) return table[i].value;
    choices.append(i == 0 ? "" : i + 1 < N ? ", " : " or ").append(table[i].name);
  }
  throw std::invalid_argument(std::string(argument) + " must be " + choices + ", not '" + std::string(name) + "'");
}

inline albert::Precision precision_from_name(std::string_view name) { return from_name(kPrecisionNames, "precision", name); }
