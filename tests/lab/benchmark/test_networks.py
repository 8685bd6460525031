import pytest
import torch

from gmconv_mmdet import GMConv2d
from gmconv_mmdet.lab.benchmark.networks import VARIANTS, build_network
from gmconv_mmdet.lab.benchmark.suite import Case, peak_of, run
from gmconv_mmdet.lab.benchmark.work import Worker
from gmconv_mmdet.layers import RefConv2d


def convs(model, kind):
    return sum(isinstance(module, kind) for module in model.modules())


@pytest.mark.slow
@pytest.mark.parametrize('variant', VARIANTS)
def test_every_variant_infers(variant):
    model = build_network('backbone', variant)
    masks = {'S-GM': 17, 'GM': 17, 'GM folded': 1}.get(variant, 0)
    assert convs(model, GMConv2d) == masks
    assert convs(model, RefConv2d) == (17 if variant == 'RefConv' else 0)
    worker = Worker(model, 'inference', 1, (64, 64))
    worker()
    assert not model.training and all(p.grad is None for p in model.parameters())


@pytest.mark.slow
def test_a_step_trains_and_its_peak_is_counted():
    worker = Worker(build_network('backbone', 'S-GM', frozen_stages=1), 'step', 1, (64, 64))
    before = [p.detach().clone() for p in worker.model.parameters()]
    worker()
    changed = [not torch.equal(p, old) for p, old in zip(worker.model.parameters(), before)]
    assert any(changed) and not all(changed)
    assert peak_of(worker) > 3 * sum(p.numel() * 4 for p in worker.model.layer4.parameters())


@pytest.mark.slow
def test_run_leaves_out_what_cannot_train():
    result = run(Case(variants=('plain', 'S-GM folded'), batch=1, size=(64, 64)), rounds=1)
    assert [row['name'] for row in result['rows']] == ['plain'] == list(result['peak_bytes'])


def test_refusals():
    with pytest.raises(ValueError, match='variant one of'):
        build_network('backbone', 'none')
    with pytest.raises(ValueError, match='work must be one of'):
        Worker(torch.nn.Identity(), 'sleep', 1, (8, 8))
