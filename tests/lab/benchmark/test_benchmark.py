import json
import time

import pytest
import torch

from gmconv_mmdet import GMConv2d
from gmconv_mmdet.lab.benchmark.compare import compare, peak_bytes
from gmconv_mmdet.lab.benchmark.workloads import VARIANTS, build_network, held_bytes, workload
from gmconv_mmdet.layers import RefConv2d

from ...processes import run_tool


def count(model, kind):
    return sum(isinstance(module, kind) for module in model.modules())


def test_rounds_ratios_and_the_budget():
    calls = {'a': lambda: time.sleep(0.002), 'b': lambda: time.sleep(0.01)}
    a, b = compare(calls, 1000, seconds=0)
    assert a['rounds'] == b['rounds'] == 3 and a['ratio'] == 1 < b['ratio_low'] <= b['ratio']
    assert compare(calls, 2, warmup=0)[0]['rounds'] == 2


@pytest.mark.parametrize('calls, rounds, warmup', [({}, 1, 1), ({'a': int}, 0, 1),
                                                   ({'a': int}, 1, -1)])
def test_compare_refuses(calls, rounds, warmup):
    with pytest.raises(ValueError, match='compare needs a call'):
        compare(calls, rounds, warmup=warmup)


def test_peak_counts_what_is_alive_at_once():
    def call():
        torch.ones(1000, 1000)
        return torch.ones(1000, 1000)
    assert 4e6 <= peak_bytes(call) < 5e6


@pytest.mark.slow
@pytest.mark.parametrize('variant', VARIANTS)
def test_every_variant_infers(variant):
    model = build_network('backbone', variant)
    masks = {'S-GM': 17, 'GM': 17, 'GM folded': 1, 'GM-DCN': 4}.get(variant, 0)
    assert count(model, GMConv2d) == masks
    assert count(model, RefConv2d) == (17 if variant == 'RefConv' else 0)
    side = 128 if 'DCN' in variant else 64  # deformable convolution refuses images below its kernel
    workload(model, 'inference', 1, (side, side))[0]()
    assert not model.training and all(p.grad is None for p in model.parameters())


@pytest.mark.parametrize('options', [{}, dict(amp=True, channels_last=True)])
def test_a_step_trains_and_its_peak_is_counted(options):
    model = build_network('resnet20', 'S-GM')
    before = [p.detach().clone() for p in model.parameters()]
    step, optimizer = workload(model, 'step', 2, (32, 32), **options)
    step()
    assert any(not torch.equal(p, old) for p, old in zip(model.parameters(), before))
    assert held_bytes(model, optimizer) > 2 * 4 * sum(p.numel() for p in model.parameters())


def test_cropping_takes_a_small_sigma():
    for sigma, side in ((5, 7), (0.5, 3)):
        model = build_network('7x7', 'S-GM cropped', sigma)
        assert model[0].kernel_size == (side, side)
        workload(model, 'inference', 1, (16, 16))[0]()


def test_refusals():
    for network, variant in (('backbone', 'none'), ('none', 'GM'), ('resnet20', 'DCN')):
        with pytest.raises(ValueError, match='variant one of'):
            build_network(network, variant)
    with pytest.raises(ValueError, match='work must be one of'):
        workload(torch.nn.Identity(), 'sleep', 1, (8, 8))


def test_tool_measures_a_detector_and_shows_its_file(tmp_path):
    out = tmp_path / 'new' / 'a.json'
    run = run_tool('analysis_tools/benchmark.py', '--network', 'detector', '--variants', 'plain', 'GM folded',
                   '--size', 64, 64, '--batch', 1, '--rounds', 1, '--json', out)
    assert '## detector, batch 1, 64x64, fp32' in run.stdout and '| GM folded |' in run.stdout
    step, inference = json.loads(out.read_text())['runs']
    assert [row['name'] for row in step['rows']] == ['plain'] == list(step['peak_bytes'])
    assert [row['name'] for row in inference['rows']] == ['plain', 'GM folded']
    shown = run_tool('analysis_tools/benchmark.py', '--show', out).stdout
    assert '| GM folded |  |  |  | ' in shown


def test_docs_hold_what_was_measured(repo):
    files = sorted((repo / 'docs' / 'benchmarks').glob('*.json'))
    shown = run_tool('analysis_tools/benchmark.py', '--show', *files).stdout
    page = (repo / 'docs' / 'benchmarks.md').read_text()
    assert page.partition('<!-- tables -->\n')[2] == shown
