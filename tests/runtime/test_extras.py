"""The extras of pyproject.toml, on each Python: what they install works together."""

from pathlib import Path

import pytest
from packaging.requirements import Requirement

from albert_runtime.backends import cuda, tensorrt

tomllib = pytest.importorskip("tomllib", reason="Python 3.10 has no tomllib")
PROJECT = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text("utf-8"))["project"]
EXTRAS = PROJECT["optional-dependencies"]
# Which CUDA onnxruntime-gpu is built for, from the requirements of its own extra `cuda`.
BUILT_FOR = {"1.21.1": 12, "1.23.2": 12, "1.24.4": 12, "1.26.0": 12, "1.28.0": 13, "1.31.1": 13}


@pytest.fixture(params=["3.10", "3.11", "3.12", "3.13"])
def packages(request):
    """packages(extra) -> what it requires on one Python, by name, also through other extras."""

    def find(extra):
        found = {}
        for requirement in map(Requirement, EXTRAS[extra]):
            marker = requirement.marker
            if marker is not None and not marker.evaluate({"python_version": request.param}):
                continue
            if requirement.name != PROJECT["name"]:
                found[requirement.name] = requirement
                continue
            for other in requirement.extras:
                found |= find(other)
        return found

    return find


def test_no_extra_brings_two_onnxruntimes(packages):
    """They overwrite each other's files."""
    for extra in EXTRAS:
        assert len({"onnxruntime", "onnxruntime-gpu"} & packages(extra).keys()) < 2, extra


def test_refusals_name_the_extra_that_helps(packages):
    assert "onnxruntime-gpu" in packages(cuda.EXTRA)
    assert any(name.startswith("tensorrt-cu") for name in packages(tensorrt.EXTRA))


def test_tensorrt_and_onnxruntime_are_for_one_cuda(packages):
    """Else the TensorRT provider does not find its libraries."""
    found = packages("tensorrt")
    allowed = found["onnxruntime-gpu"].specifier
    builds = {f"tensorrt-cu{major}" for version, major in BUILT_FOR.items() if version in allowed}
    assert builds == {name for name in found if name.startswith("tensorrt")}
