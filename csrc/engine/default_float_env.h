#pragma once

#include <cfenv>

namespace albert {

// While in scope, this thread computes in the default floating-point state, in which the kernels' results are defined, whatever the
// host application has set (flush-to-zero, another rounding mode).
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
