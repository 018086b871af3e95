"""Builds the C++ extension by CMake; all metadata is in pyproject.toml."""

import os
import subprocess
import sys
from pathlib import Path

import pybind11
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

ROOT = Path(__file__).resolve().parent


class CMakeBuild(build_ext):
    """Builds CMakeLists.txt with the tools of the build requirements; CMAKE_ARGS adds options."""

    def build_extension(self, ext: Extension) -> None:
        target = Path(self.get_ext_fullpath(ext.name)).resolve().parent
        build = Path(self.build_temp).resolve()
        build.mkdir(parents=True, exist_ok=True)
        options = [
            "-GNinja",
            "-DCMAKE_BUILD_TYPE=Release",
            f"-DPython_EXECUTABLE={sys.executable}",
            f"-Dpybind11_DIR={pybind11.get_cmake_dir()}",
            *os.environ.get("CMAKE_ARGS", "").split(),
        ]
        subprocess.run(["cmake", *options, str(ROOT)], cwd=build, check=True)
        subprocess.run(["cmake", "--build", "."], cwd=build, check=True)
        subprocess.run(["cmake", "--install", ".", "--prefix", str(target)], cwd=build, check=True)


setup(ext_modules=[Extension("albert_runtime._native", sources=[])], cmdclass={"build_ext": CMakeBuild})
