"""Checks, before anything is installed, whether this machine can build the project; one line says if not."""

import shutil
import sys

SUPPORTED = ((3, 10), (3, 13))


def main() -> str | None:
    if not SUPPORTED[0] <= sys.version_info[:2] <= SUPPORTED[1]:
        return (
            f"Python {sys.version.split()[0]} is not supported: albert-runtime needs 3.10 to 3.13. "
            "Choose another: make PYTHON=python3.12 ... (Debian: apt install python3 python3-venv)"
        )
    try:
        import ensurepip  # noqa: F401, PLC0415
    except ImportError:
        return "this Python cannot make virtual environments; Debian: apt install python3-venv"
    if not (shutil.which("c++") or shutil.which("g++") or shutil.which("clang++")):
        return "no C++ compiler found; Debian: apt install g++"
    return None


if __name__ == "__main__":
    sys.exit(main())
