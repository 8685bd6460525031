import json
import subprocess
import sys

import pytest

from gmconv_mmdet.lab.benchmark import growth
from gmconv_mmdet.lab.benchmark.page import draw


def test_growth_is_measured_and_drawn(tmp_path):
    sweep = growth.Sweep('channels', (2, 4), 2, 8, 3, 1, 0, 0)
    found = growth.measure(sweep, rounds=2)
    assert [point['value'] for point in found['points']] == [2, 4]
    assert [row['name'] for row in found['points'][0]['rows']] == ['plain', 'static', 'dynamic']
    assert len(growth.table(found)) == 4
    draw([found, found], tmp_path / 'a' / 'growth.png')
    assert (tmp_path / 'a' / 'growth.png').stat().st_size > 5000


@pytest.mark.slow
def test_docs_hold_what_was_measured(repo, tmp_path):
    """docs/benchmarks.md is what its command makes of docs/benchmarks."""
    if not list((repo / 'docs' / 'benchmarks').glob('*.json')):
        pytest.skip('no results in docs/benchmarks')
    page_path = tmp_path / 'docs' / 'benchmarks.md'
    page_path.parent.mkdir()
    subprocess.run([sys.executable, '-W', 'ignore', str(repo / 'tools' / 'dev' / 'benchmark_docs.py'),
                    '--out', str(page_path), '--plot', str(tmp_path / 'docs/images/growth.png')],
                   check=True, capture_output=True)
    assert page_path.read_text() == (repo / 'docs' / 'benchmarks.md').read_text()


@pytest.mark.slow
def test_tool_on_a_small_image(repo, tmp_path):
    out = tmp_path / 'new' / 'a.json'
    run = subprocess.run(
        [sys.executable, '-W', 'ignore', str(repo / 'tools/analysis_tools/benchmark.py'), '--variants',
         'plain', 'GM', '--size', '64', '64', '--batch', '1', '--rounds', '1', '--json', str(out), '--work',
         'step'], check=True, capture_output=True, text=True)
    assert 'backbone, step, 1 x 3 x 64 x 64, fp32' in run.stdout and '| GM | 1 |' in run.stdout
    assert json.loads(out.read_text())['runs'][0]['rows'][0]['ratio'] == 1
