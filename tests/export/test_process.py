"""Workers that end before they answer: one line says how, whatever the parent was doing."""

import sys
from pathlib import Path

import pytest

from albert_export.errors import ExportError
from albert_export.pipeline.messages import AnswerJob, AnswerResult
from albert_export.pipeline.parent import run_job
from albert_export.pipeline.report import Report
from albert_runtime.artifact.tasks import Head


def test_a_worker_that_never_reads_its_job(tmp_path, tiny, monkeypatch):
    monkeypatch.setattr(sys, "executable", "/bin/false")
    more_than_a_pipe_holds = "x" * 1_000_000
    job = AnswerJob(tiny, Head(), more_than_a_pipe_holds, Path("m"), None, Path("a"), None)
    with pytest.raises(ExportError, match="the trace process failed: it printed nothing"):
        run_job(job, AnswerResult, tmp_path, Report(quiet=True), {}, "trace")
