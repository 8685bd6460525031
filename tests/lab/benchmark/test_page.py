import json

import pytest

from ...processes import run_tool


def test_docs_hold_what_was_measured(repo, tmp_path):
    """docs/benchmarks.md is what its command makes of docs/benchmarks."""
    page_path = tmp_path / 'benchmarks.md'
    assert not run_tool('dev/benchmark_docs.py', '--out', page_path).returncode
    assert page_path.read_text() == (repo / 'docs' / 'benchmarks.md').read_text()


@pytest.mark.slow
def test_tool_on_a_small_image(tmp_path):
    out = tmp_path / 'new' / 'a.json'
    run = run_tool('analysis_tools/benchmark.py', '--variants', 'plain', 'GM', '--size', 64, 64, '--batch', 1,
                   '--rounds', 1, '--json', out, '--work', 'step')
    assert 'backbone, step, 1 x 3 x 64 x 64, fp32' in run.stdout and '| GM | 1 |' in run.stdout
    assert json.loads(out.read_text())['runs'][0]['rows'][0]['ratio'] == 1
