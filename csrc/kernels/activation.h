#pragma once

namespace albert {

// gelu: x * Phi(x) by erf; gelu_tanh: its tanh form (Hendrycks and Gimpel, "Gaussian Error Linear Units", 2016).
enum class Activation { none, gelu, gelu_tanh, relu, tanh };

}  // namespace albert
