#pragma once

#include <cfenv>

namespace albert {

// While it lives, this thread computes in the floating-point state that the kernels' bits are defined for, whatever the host has
// set (flush-to-zero, another rounding).
class DefaultFloatEnv {
 public:
  DefaultFloatEnv() {
    std::fegetenv(&saved_);
    std::fesetenv(FE_DFL_ENV);
  }
  ~DefaultFloatEnv() { std::fesetenv(&saved_); }
  DefaultFloatEnv(const DefaultFloatEnv&) = delete;
  DefaultFloatEnv& operator=(const DefaultFloatEnv&) = delete;

 private:
  std::fenv_t saved_;
};

}  // namespace albert
