#pragma once

#include <cfenv>

namespace albert {

// While it lives, this thread computes in the floating-point state that the kernels' bits are defined for, whatever the host has
// set (flush-to-zero, another rounding).
class DefaultFloats {
 public:
  DefaultFloats() {
    std::fegetenv(&saved_);
    std::fesetenv(FE_DFL_ENV);
  }
  ~DefaultFloats() { std::fesetenv(&saved_); }
  DefaultFloats(const DefaultFloats&) = delete;
  DefaultFloats& operator=(const DefaultFloats&) = delete;

 private:
  std::fenv_t saved_;
};

}  // namespace albert
