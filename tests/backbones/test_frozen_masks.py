"""freeze_masks: who learns in frozen stages, alone, after a resume, and in two processes."""
import json
import logging

import pytest
import torch
from mmengine.logging import MMLogger

from gmconv_mmdet.backbones import GMResNet
from gmconv_mmdet.weights.fetch import cache_path

from ..processes import torchrun

FROZEN_MASKS = {'conv1.sigma_predictor.w0', 'conv1.sigma_predictor.w1', 'conv1.sigma_predictor.b1',
                *(f'layer1.{i}.conv{j}.sigma' for i in (0, 1) for j in (1, 2))}


def resnet(freeze_masks, init_cfg=None, **kwargs):
    return GMResNet(18, base_channels=8, frozen_stages=1, freeze_masks=freeze_masks,
                    init_cfg=init_cfg, **kwargs)


@pytest.fixture
def trained(tmp_path):
    """A checkpoint with trained masks."""
    path = tmp_path / 'trained.pth'
    net = resnet(True)
    with torch.no_grad():
        for name in FROZEN_MASKS:
            net.get_parameter(name).add_(1)
    torch.save(net.state_dict(), path)
    return path


@pytest.fixture
def plain(tmp_path):
    path = tmp_path / 'plain.pth'
    torch.save(resnet(True, gm_stem=None, gm_stages=(False, ) * 4).state_dict(), path)
    return path


@pytest.fixture
def messages():
    logger = MMLogger.get_instance('frozen_masks_test', logger_name='frozen')
    records = []
    logger.handlers[0].emit = records.append
    return records


def learning(net):
    """Names of the parameters that learn in stem and L1, the same after every train()."""
    found = []
    for mode in (None, True, False, True):
        if mode is not None:
            assert net.train(mode) is net
        found.append({name for name, parameter in net.named_parameters() if parameter.requires_grad
                      and name.startswith(('conv1', 'bn1', 'layer1'))})
    assert all(names == found[0] for names in found)
    return found[0]


def pretrained(path, kind='GMPretrained'):
    return dict(type=kind, checkpoint=str(path))


@pytest.mark.parametrize('kind', ['GMPretrained', 'Pretrained'])
def test_auto_follows_the_checkpoint(trained, plain, kind):
    assert learning(resnet('auto', pretrained(trained, kind))) == set()
    assert learning(resnet('auto', pretrained(plain, kind))) == FROZEN_MASKS
    assert learning(resnet('auto')) == FROZEN_MASKS
    assert learning(resnet('auto', pretrained('torchvision://resnet18', kind))) == FROZEN_MASKS
    for path in (trained, plain):
        assert learning(resnet(True, pretrained(path, kind))) == set()
        assert learning(resnet(False, pretrained(path, kind))) == FROZEN_MASKS


def test_auto_decides_layer_by_layer(tmp_path, trained):
    state = torch.load(trained)
    state['layer1.1.conv2.sigma'].fill_(5)  # as at its start: never trained
    del state['layer1.0.conv1.sigma']
    torch.save(state, tmp_path / 'some.pth')
    assert learning(resnet('auto', pretrained(tmp_path / 'some.pth'))) == {
        'layer1.1.conv2.sigma', 'layer1.0.conv1.sigma'}


def test_auto_follows_masks_through_other_layouts(tmp_path):
    static = resnet(True, gm_stem='static')
    with torch.no_grad():
        static.conv1.sigma.fill_(3)
    torch.save(dict(state_dict={f'backbone.{n}': t for n, t in static.state_dict().items()}),
               tmp_path / 'static.pth')
    net = resnet('auto', pretrained(tmp_path / 'static.pth'))
    assert not any(name.startswith('conv1') for name in learning(net))
    # MMEngine's own initialiser wants prefix= and moves no static sigma into a predictor.
    net = resnet('auto', dict(
        prefix='backbone.', **pretrained(tmp_path / 'static.pth', 'Pretrained')))
    assert 'conv1.sigma_predictor.w1' in learning(net)


def test_no_file_is_needed_to_build(tmp_path, trained):
    assert learning(resnet('auto', pretrained(tmp_path / 'gone.pth'))) == FROZEN_MASKS
    (tmp_path / 'damaged.pth').write_bytes(trained.read_bytes()[:1000])
    assert learning(resnet('auto', pretrained(tmp_path / 'damaged.pth'))) == FROZEN_MASKS


def test_a_resumed_checkpoint_does_not_flip_it(trained, plain):
    for path, expected in ((trained, set()), (plain, FROZEN_MASKS)):
        net = resnet('auto', pretrained(path))
        net.init_weights()
        net.load_state_dict(torch.load(trained))  # as the Runner's resume does, after init_weights
        assert learning(net) == expected


def test_link_that_is_not_downloaded_yet(trained, tmp_path, monkeypatch):
    before = torch.hub.get_dir()
    torch.hub.set_dir(str(tmp_path / 'hub'))
    try:
        link = 'http://127.0.0.1:9/trained.pth'
        net = resnet('auto', pretrained(link))
        assert learning(net) == FROZEN_MASKS
        cache_path(link).parent.mkdir(parents=True)
        cache_path(link).write_bytes(trained.read_bytes())
        net.init_weights()
        assert learning(net) == set()
        assert learning(resnet('auto', pretrained(link))) == set()  # a resume: it is there now
    finally:
        torch.hub.set_dir(before)


@pytest.mark.parametrize('freeze_masks, file, level, says', [
    (True, 'plain', logging.WARNING,
     'conv1: 1 are frozen untrained; layer1: 4 are frozen untrained'),
    (True, 'trained', logging.INFO, 'conv1: 1 come trained and are frozen; layer1: 4 come trained'),
    ('auto', 'plain', logging.INFO, 'conv1: 1 go on learning; layer1: 4 go on learning'),
    ('auto', 'trained', logging.INFO, 'conv1: 1 come trained and are frozen'),
    (False, 'trained', logging.INFO, 'conv1: 1 go on learning'),
])
def test_says_what_becomes_of_each_stage(freeze_masks, file, level, says, messages, request):
    resnet(freeze_masks, pretrained(request.getfixturevalue(file))).init_weights()
    record, = [r for r in messages if 'Masks of frozen stages' in r.getMessage()]
    assert record.levelno == level and says in record.getMessage()
    assert f'freeze_masks={freeze_masks!r}' in record.getMessage()


def test_masks_learn_in_a_frozen_stage(plain):
    net = resnet('auto', pretrained(plain))
    net.init_weights()
    before = {n: p.detach().clone() for n, p in net.named_parameters()}
    optimizer = torch.optim.SGD([p for p in net.parameters() if p.requires_grad], lr=0.1)
    net.train()
    sum(out.square().mean() for out in net(torch.randn(2, 3, 64, 64))).backward()
    optimizer.step()
    changed = {n for n, p in net.named_parameters() if not torch.equal(p, before[n])}
    assert 'layer1.1.conv2.sigma' in changed and 'conv1.sigma_predictor.b1' in changed
    assert 'layer1.1.conv2.weight' not in changed and 'conv1.weight' not in changed


def test_bad_value():
    with pytest.raises(ValueError, match="freeze_masks must be one of .*got 'sometimes'"):
        resnet('sometimes')


WORKER = """
import json, sys, torch, torch.nn as nn
import torch.distributed as dist
from mmengine.dist import get_rank, barrier
from mmengine.model import MMDistributedDataParallel
from gmconv_mmdet.backbones import GMResNet
checkpoint, out = sys.argv[1:]
dist.init_process_group('gloo')
torch.manual_seed(0)
net = GMResNet(18, base_channels=8, frozen_stages=1, freeze_masks='auto',
               init_cfg=dict(type='GMPretrained', checkpoint=checkpoint))
ddp = MMDistributedDataParallel(net, broadcast_buffers=False)  # as the Runner: before init_weights
net.init_weights()
loaded = float(sum(p.double().sum() for n, p in net.named_parameters() if 'w0' not in n))
optimizer = torch.optim.SGD([p for p in net.parameters() if p.requires_grad], lr=0.05)
torch.manual_seed(get_rank())  # other data on every rank
for step in range(3):
    ddp.train()
    optimizer.zero_grad()
    sum(out.square().mean() for out in ddp(torch.randn(2, 3, 64, 64))).backward()
    optimizer.step()
json.dump(dict(loaded=loaded, learns=net.conv1.sigma_predictor.b1.requires_grad,
               masks={n: p.tolist() for n, p in net.named_parameters()
                      if 'sigma' in n and 'w0' not in n}), open(f'{out}.{get_rank()}', 'w'))
barrier()
"""


@pytest.mark.slow
@pytest.mark.parametrize('file, learns', [('trained', False), ('plain', True)])
def test_two_processes_agree(file, learns, tmp_path, request):
    checkpoint = request.getfixturevalue(file)
    (tmp_path / 'worker.py').write_text(WORKER)
    torchrun(tmp_path / 'worker.py', checkpoint, tmp_path / 'out')
    first, second = (json.loads((tmp_path / f'out.{rank}').read_text()) for rank in (0, 1))
    assert first == second  # loaded alike, and gradients were averaged: the masks moved alike
    assert first['learns'] is learns
    moved = first['masks']['layer1.0.conv1.sigma'][0]
    start = float(torch.load(checkpoint).get('layer1.0.conv1.sigma', torch.tensor(5.)))
    assert (moved != start) is learns
