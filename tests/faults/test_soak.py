"""A run of many iterations keeps what it holds constant; `python -m benchmarks.soak` watches a longer one."""

from pathlib import Path

import pytest

from benchmarks.soak import slope, watch
from running import CONF, SMALL


@pytest.mark.faults
def test_nothing_grows_with_the_iterations(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(CONF.parent)
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    code, readings = watch(tmp_path / "run", [*SMALL, "eval.every=10"], 150, scratch)
    assert code == 0
    early = [r for r in readings if 20 < r.iteration <= 85]
    late = [r for r in readings if r.iteration > 85]
    assert min(len(early), len(late)) > 20
    # Two: a reading may fall into a moment at which a file is being written.
    assert max(r.descriptors for r in late) <= max(r.descriptors for r in early) + 2
    assert max(r.threads for r in late) <= max(r.threads for r in early)
    assert max(r.children for r in late) <= max(r.children for r in early)
    assert slope(readings) < 5  # MB in 100 iterations; the whole process has some 500
    assert list(scratch.iterdir()) == []
