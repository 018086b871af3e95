"""A driver and an ONNX Runtime of a machine with a GPU, faked at their boundaries.

The fake session answers with ONNX Runtime's own CPU provider, so outputs are real.
"""

import types

import numpy as np
import onnxruntime

from albert_runtime.backends.tensorrt import PROVIDER


class Driver:
    """libcuda.so.1 of a machine with one H100."""

    status, devices, version = 0, 1, 12040

    def cuInit(self, flags):
        return self.status

    def cuDeviceGetCount(self, count):
        count._obj.value = self.devices
        return 0

    def cuDriverGetVersion(self, version):
        version._obj.value = self.version
        return 0

    def cuDeviceGet(self, device, ordinal):
        return 0

    def cuDeviceGetName(self, name, size, device):
        name.value = b"NVIDIA H100"
        return 0

    def cuDeviceGetAttribute(self, value, which, device):
        value._obj.value = {75: 9, 76: 0}[which]
        return 0


class Binding:
    def __init__(self):
        self.inputs, self.outputs, self.results = {}, [], []
        self.bound_on_gpu, self.synchronized = [], False

    def bind_cpu_input(self, name, values):
        self.inputs[name] = values

    def bind_ortvalue_input(self, name, value):
        self.inputs[name] = value.numpy()
        self.bound_on_gpu.append(name)

    def synchronize_inputs(self):
        self.synchronized = True

    def bind_output(self, name, device):
        assert device == "cuda"
        self.outputs.append(name)

    def copy_outputs_to_cpu(self):
        return self.results


class Runtime(types.ModuleType):
    """onnxruntime-gpu, as far as it is used, and what was done with it."""

    def __init__(self):
        super().__init__("onnxruntime")
        self.__version__ = onnxruntime.__version__
        self.available = [PROVIDER, "CUDAExecutionProvider", "CPUExecutionProvider"]
        self.loads = True  # whether the providers' libraries do
        self.spoil = lambda values: values
        self.sessions, self.shapes, self.preloaded = [], [], 0
        self.bindings = []
        self.OrtValue = onnxruntime.OrtValue
        self.SessionOptions = onnxruntime.SessionOptions

    def get_available_providers(self):
        return self.available

    def preload_dlls(self):
        self.preloaded += 1

    def InferenceSession(self, path, options, providers):
        self.sessions.append(providers)
        runtime, inner = self, onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])

        class Session:
            get_inputs, get_outputs = inner.get_inputs, inner.get_outputs

            def get_providers(self):
                names = [provider[0] for provider in providers[:-1]]
                return [*(names if runtime.loads else []), "CPUExecutionProvider"]

            def io_binding(self):
                runtime.bindings.append(Binding())
                return runtime.bindings[-1]

            def run_with_iobinding(self, binding):
                runtime.shapes.append(binding.inputs["input_ids"].shape)
                found = inner.run(binding.outputs, binding.inputs)
                binding.results = [runtime.spoil(values) for values in found]

        return Session()


class GpuArray:
    """An array as a GPU's: numpy cannot read it, ONNX Runtime can."""

    def __init__(self, values, dtype=np.int64):
        self.values = np.asarray(values, dtype)

    def __dlpack_device__(self):
        return 2, 0  # kDLCUDA

    def __dlpack__(self, **options):
        return self.values.__dlpack__(**options)

    def __array__(self, *arguments, **options):
        raise TypeError("can't convert cuda:0 device type tensor to numpy")

    def __getitem__(self, index):
        return GpuArray(self.values[index], self.values.dtype)
