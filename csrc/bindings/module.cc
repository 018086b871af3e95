// The Python module albert_runtime._native. Thin: checks of types and shapes, no arithmetic.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <system_error>

#include "bindings/bindings.h"
#include "engine/cpu.h"
#include "engine/probe.h"
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
  module.def("isas", &albert::usable_isas, "The ISAs that this build has and this processor runs, the newest first.");
  module.def("default_isa", &albert::default_isa,
             "ALBERT_FORCE_ISA where it is set, else the fastest of isas(). Raises ValueError if it names none of them.");
  module.def(
      "available_cpus", [] { return albert::whole_cpus(albert::usable_cpus()); },
      "The CPUs this process may use: affinity and cgroup quota, at least 1.");
  module.def(
      "probe",
      [](const std::string& precision, int num_threads, const std::optional<std::string>& isa) {
        const albert::Kernels& kernels = kernels_or_default(isa);
        const albert::Precision type = precision_from_name(precision);
        const py::gil_scoped_release unlocked;
        return albert::measure_peak(kernels, type, num_threads);
      },
      py::arg("precision"), py::arg("num_threads"), py::kw_only(), py::arg("isa") = py::none(),
      "The operations a second, in 10^9, that the multiply-adds of a precision reach on registers alone; a multiply-add counts "
      "two. "
      "Takes about 50 ms. Raises ValueError for names and numbers that are not there.");
  register_engine(module);
  register_kernels(module);
}
