import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

from gmconv_mmdet.lab.benchmark.suite import record
from gmconv_mmdet.lab.benchmark.targets import verdicts


def row(name, ratio):
    return dict(name=name, rounds=4, seconds=ratio, seconds_low=ratio, seconds_high=ratio,
                ratio=ratio, ratio_low=ratio, ratio_high=ratio)


def results(ratio, size=(512, 512), device='cpu', memory=1.01):
    settings = dict(network='backbone', work='step', variants=['plain', 'GM'], batch=2, size=size,
                    precision='fp32', channels_last=False, compiled=False, frozen_stages=-1,
                    device=device, threads=2)
    return dict(runs=[dict(settings, rows=[row('plain', 1.), row('GM', ratio)],
                           peak_bytes=dict(plain=1e9, GM=memory * 1e9))], import_seconds=0.25)


def test_verdicts():
    found = {verdict.what: verdict.met for verdict in verdicts(results(1.06))}
    assert found == {'time of GM, step, fp32, CPU': True,
                     'peak memory of GM, step, fp32, CPU': True,
                     'import gmconv_mmdet after mmdet (s)': True}
    found = {verdict.what: verdict.met for verdict in verdicts(results(1.06, device='cuda',
                                                                       memory=1.04))}
    assert found['time of GM, step, fp32, CUDA'] is False
    assert found['peak memory of GM, step, fp32, CUDA'] is False
    assert len(list(verdicts(results(1., size=(256, 256))))) == 1  # too small to say anything


def tool(repo, name):
    spec = importlib.util.spec_from_file_location(name, repo / 'tools' / 'dev' / f'{name}.py')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_page_says_what_is_missing(repo):
    page = tool(repo, 'benchmark_docs').page
    content = {**record(['a', 'command']), **results(1.5)}
    assert 'Nothing was measured on a GPU yet' in page([], 'x', None)
    text = page([(Path('quick.json'), content)], 'x', None)
    assert '| time of GM, step, fp32, CPU | quick | 1.500 | <= 1.06 | MISSED |' in text
    assert '| GM | 4 | 1500.0 | 1.500 | 1.500 - 1.500 | 1010.0 | 1.0100 |' in text
    assert '`a command`' in text


def test_growth_is_measured_and_drawn(repo, tmp_path):
    growth, docs = tool(repo, 'bench_growth'), tool(repo, 'benchmark_docs')
    sweep = growth.Sweep('channels', (2, 4), 2, 8, 3, 1, 0, 0)
    found = growth.measure(sweep, rounds=2)
    assert [point['value'] for point in found['points']] == [2, 4]
    assert [row['name'] for row in found['points'][0]['rows']] == ['plain', 'static', 'dynamic']
    assert len(growth.table(found)) == 4
    docs.draw([found, found], tmp_path / 'a' / 'growth.png')
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
