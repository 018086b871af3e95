"""Workers that end before they answer: one line says how, whatever the parent was doing."""

import sys

import pytest

from albert_export.errors import ExportError
from albert_export.pipeline.parent import run_stage
from albert_export.pipeline.report import Report


def test_a_worker_that_never_reads_its_request(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "executable", "/bin/false")
    request = {"stage": "trace", "more than a pipe holds": "x" * 1_000_000}
    with pytest.raises(ExportError, match="the trace process failed: it printed nothing"):
        run_stage(request, tmp_path, Report(quiet=True), {}, "trace")
