// The Python module albert_runtime._native. Thin: checks of types and shapes, no arithmetic.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <system_error>

#include "bindings/bindings.h"
#include "engine/cpu.h"
#include "engine/probe.h"
#include "engine/thread_team.h"
#include "kernels/kernels.h"

namespace py = pybind11;

PYBIND11_MODULE(_native, module) {
  module.doc() = "C++ engine and kernels of albert_runtime; use albert_runtime.Predictor and albert_runtime.kernels.";
  // pybind11 makes std::invalid_argument a ValueError and std::bad_alloc a MemoryError; a file's error becomes an OSError here.
  py::register_exception_translator([](std::exception_ptr pointer) {
    try {
      if (pointer) std::rethrow_exception(pointer);
    } catch (const std::system_error& error) {
      PyErr_SetObject(PyExc_OSError, py::make_tuple(error.code().value(), error.what()).ptr());
    }
  });
  module.def("isas", &albert::usable_isas, R"(The ISAs that this build has and this processor runs.

Returns:
    Their names, the newest first; the last is always "generic".)");
  module.def("default_isa", &albert::default_isa, R"(The ISA to use unless the caller names one.

Returns:
    The environment variable ALBERT_FORCE_ISA if it is set, else the fastest of isas() on this machine.

Raises:
    ValueError: ALBERT_FORCE_ISA is not one of isas().)");
  module.def(
      "available_cpus", [] { return albert::whole_cpus(albert::usable_cpus()); },
      R"(The number of CPUs that this process may use, by its affinity and its cgroup's quota.

Returns:
    Whole CPUs, at least 1.)");
  module.def(
      "probe",
      [](const std::string& precision, int num_threads, const std::optional<std::string>& isa) {
        const albert::Kernels& kernels = kernels_or_default(isa);
        const albert::Precision type = precision_from_name(precision);
        const py::gil_scoped_release unlocked;
        return albert::measure_peak(kernels, type, num_threads);
      },
      py::arg("precision"), py::arg("num_threads"), py::kw_only(), py::arg("isa") = py::none(),
      R"(Measures the peak speed of a precision's multiply-adds, on registers alone. Takes about 50 ms; releases the GIL.

Args:
    precision: "fp32", "bf16" or "int8".
    num_threads: Threads that compute at the same time, at least 1.
    isa: One of isas(); default_isa() if None.

Returns:
    GFLOP/s of all threads together; a multiply-add counts as two operations.

Raises:
    ValueError: No such precision or ISA, or num_threads is out of range.)");
  // Made before any fork: a child forked while another thread makes it would wait for that thread for ever.
  static_cast<void>(albert::ThreadTeamPool::instance());
  register_engine(module);
  register_kernels(module);
}
