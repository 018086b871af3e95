"""Sentence-transformers folders exported through the command."""

import pytest

from albert_export.cli import main


@pytest.fixture
def export(tmp_path):
    """export(folder, *options) -> the folder of its artifact."""

    def run(folder, *options):
        target = tmp_path / "out"
        assert main([str(folder), "-o", str(target), "--quiet", "--force", *options]) == 0
        return target

    return run
