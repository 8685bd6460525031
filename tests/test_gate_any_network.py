"""The gate over other libraries' networks: its page, and what it says of networks made for it."""
from __future__ import annotations

import inspect
import json
import runpy

import pytest
import torch
import torch.nn as nn
import torch.nn.functional as F

needs_torch = pytest.mark.skipif('mmap' not in inspect.signature(torch.load).parameters,
                                 reason='the gate needs torch 2.1')


@pytest.fixture(scope='module')
def program(repo):
    return runpy.run_path(str(repo / 'tools' / 'dev' / 'gate_any_network.py'))


def test_page_is_up_to_date(program, repo):
    results = json.loads((repo / 'docs' / 'data' / 'any_network.json').read_text())
    page = (repo / 'docs' / 'any_network.md').read_text(encoding='utf-8')
    assert page.partition(program['BEGIN'])[2].partition(program['END'])[0] == program['table'](results)


class Net(nn.Sequential):

    def __init__(self):
        super().__init__(nn.Conv2d(3, 4, 3, 2), nn.BatchNorm2d(4), nn.ReLU(),
                         nn.Conv2d(4, 4, 5, padding=2, groups=2))


class ReadsWeights(Net):
    """Its code takes a weight itself: no mask there."""

    def forward(self, x):
        return F.conv2d(super().forward(x), self[3].weight, groups=2)


class LosesGradients(Net):

    def forward(self, x):
        return self[3](self[0](x).detach()) + self[0](x).mean() * float('nan' if self.training else 0)


@needs_torch
def test_a_network_that_passes(program):
    result = program['gate'](Net)
    assert result['passed'] and result['convolutions'] == result['converted'] == 2
    assert result['unreached'] == 0 and result['size'] == 64 and not result['left']


@pytest.mark.slow
@needs_torch
@pytest.mark.parametrize('network', ['torchvision/squeezenet1_1', 'mmdet/MobileNetV2'])
def test_networks_of_the_gate(program, network):
    library = network.partition('/')[0]
    pytest.importorskip(library)
    assert program['gate'](program['LIBRARIES'][library]([])[network])['passed']


@needs_torch
@pytest.mark.parametrize('network, says', [
    (ReadsWeights, 'outputs differ by .* after conversion'), (LosesGradients, 'no finite gradient')])
def test_networks_that_fail(program, network, says):
    with pytest.raises(program['Failed'], match=says):
        program['gate'](network)


@needs_torch
@pytest.mark.parametrize('network, says', [
    (lambda: nn.Sequential(nn.Conv2d(3, 4, 3)), 'fewer than two'),
    (lambda: nn.Sequential(nn.Conv2d(4, 4, 3), nn.Conv2d(4, 4, 3)), 'does not run itself'),
    (lambda: nn.Sequential(*(nn.utils.parametrizations.weight_norm(nn.Conv2d(3, 3, 3)) for _ in range(2))),
     'no convolution larger than 1x1 can become GMConv: its weight is parametrized')])
def test_networks_left_out(program, network, says):
    assert says in program['gate'](network)['left_out']
