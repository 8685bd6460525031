import importlib.util
import json

import pytest

from ...processes import run_tool


def tool(repo, name):
    spec = importlib.util.spec_from_file_location(name, repo / 'tools' / 'dev' / f'{name}.py')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_growth_is_measured_and_drawn(repo, tmp_path):
    growth, docs = tool(repo, 'bench_growth'), tool(repo, 'benchmark_docs')
    sweep = growth.Sweep('channels', (2, 4), 2, 8, 3, 1, 0, 0)
    found = growth.measure(sweep, rounds=2)
    assert [point['value'] for point in found['points']] == [2, 4]
    assert [row['name'] for row in found['points'][0]['rows']] == ['plain', 'static', 'dynamic']
    assert len(growth.table(found)) == 4
    docs.draw([found, found], tmp_path / 'a' / 'growth.png')
    assert (tmp_path / 'a' / 'growth.png').stat().st_size > 5000


def test_docs_hold_what_was_measured(repo, tmp_path):
    """docs/benchmarks.md is what its command makes of docs/benchmarks."""
    if not list((repo / 'docs' / 'benchmarks').glob('*.json')):
        pytest.skip('no results in docs/benchmarks')
    page_path = tmp_path / 'docs' / 'benchmarks.md'
    page_path.parent.mkdir()
    assert not run_tool('dev/benchmark_docs.py', '--out', page_path, '--plot',
                        tmp_path / 'docs/images/growth.png').returncode
    assert page_path.read_text() == (repo / 'docs' / 'benchmarks.md').read_text()


def test_tool_on_a_small_image(tmp_path):
    out = tmp_path / 'new' / 'a.json'
    run = run_tool('analysis_tools/benchmark.py', '--variants', 'plain', 'GM', '--size', 64, 64, '--batch', 1,
                   '--rounds', 1, '--json', out, '--work', 'step')
    assert 'backbone, step, 1 x 3 x 64 x 64, fp32' in run.stdout and '| GM | 1 |' in run.stdout
    assert json.loads(out.read_text())['runs'][0]['rows'][0]['ratio'] == 1
