"""The NVIDIA GPU of this machine, asked of its driver alone.

Where there is none nothing GPU-shaped is imported. The functions are those of the CUDA Driver API (cuInit,
cuDriverGetVersion, cuDeviceGet...).
"""

import ctypes
from dataclasses import dataclass

from ..errors import BackendError

DRIVER = "libcuda.so.1"
# The least that the builds of ONNX Runtime and torch in our extras need; most of them need 13.
OLDEST_CUDA = (12, 0)
_CAPABILITY = (75, 76)  # CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, _MINOR
_MAX_NAME = 256


@dataclass(frozen=True)
class Gpu:
    """The first visible GPU: its name, compute capability and the CUDA version that its driver offers."""

    name: str
    capability: tuple[int, int]
    cuda: tuple[int, int]


def find_gpu() -> Gpu:
    """The first GPU that CUDA_VISIBLE_DEVICES leaves; BackendError says why there is none, or none of use."""
    try:
        driver = ctypes.CDLL(DRIVER)
    except OSError:
        raise BackendError(f"no NVIDIA GPU here: its driver's {DRIVER} is not installed") from None
    status = driver.cuInit(0)
    count = ctypes.c_int()
    if status == 0:
        status = driver.cuDeviceGetCount(ctypes.byref(count))
    if status != 0 or count.value < 1:
        raise BackendError(
            f"no NVIDIA GPU here: the driver sees none (status {status}); is it visible to this process?"
        )
    version = ctypes.c_int()
    driver.cuDriverGetVersion(ctypes.byref(version))
    cuda = (version.value // 1000, version.value % 1000 // 10)
    if cuda < OLDEST_CUDA:
        raise BackendError(
            f"the NVIDIA driver is too old: it offers CUDA {cuda[0]}.{cuda[1]}, "
            f"{OLDEST_CUDA[0]}.{OLDEST_CUDA[1]} is needed; update it"
        )
    device = ctypes.c_int()
    driver.cuDeviceGet(ctypes.byref(device), 0)
    name = ctypes.create_string_buffer(_MAX_NAME)
    driver.cuDeviceGetName(name, _MAX_NAME, device)
    major, minor = (_attribute(driver, which, device) for which in _CAPABILITY)
    return Gpu(name.value.decode("utf-8", "replace"), (major, minor), cuda)


def describe(gpu: Gpu) -> dict[str, object]:
    """A GPU, ready for JSON."""
    return {"gpu": gpu.name, "capability": "{}.{}".format(*gpu.capability)}


def _attribute(driver: ctypes.CDLL, which: int, device: ctypes.c_int) -> int:
    value = ctypes.c_int()
    driver.cuDeviceGetAttribute(ctypes.byref(value), which, device)
    return value.value
