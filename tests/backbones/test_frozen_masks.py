"""Who learns in frozen stages: as freeze_masks says, then as the user does. Start weights."""
import copy
import logging
import pickle
import time

import pytest
import torch
from mmdet.models.backbones import ResNet
from mmengine.logging import MMLogger
from mmengine.model import BaseModel
from mmengine.runner import Runner
from torch.utils.data import DataLoader

from gmconv_mmdet.backbones import GMBackbone, GMResNet, RefConvBackbone

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
    logger.handlers[0].filters.clear()  # MMEngine shows a warning's text once only
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


@pytest.mark.parametrize('options', [dict(), dict(freeze_masks=False), dict(freeze_masks=True)])
def test_who_learns_is_said_by_the_argument_alone(options, trained, plain, tmp_path):
    (tmp_path / 'damaged.pth').write_bytes(trained.read_bytes()[:1000])
    expected = set() if options.get('freeze_masks') else FROZEN_MASKS
    for start in (trained, plain, tmp_path / 'gone.pth', tmp_path / 'damaged.pth',
                  'torchvision://resnet18', 'http://127.0.0.1:9/masks.pth'):
        net = GMResNet(18, base_channels=8, frozen_stages=1, init_cfg=pretrained(start), **options)
        assert learning(net) == expected  # and nothing was read
    net = resnet(not expected, pretrained(trained))
    net.init_weights()
    net.load_state_dict(torch.load(plain), strict=False)  # as a resume does, after init_weights
    assert learning(net) == expected


def gm_resnext(freeze_masks=False, frozen_stages=1):
    return GMBackbone(dict(type='mmdet.ResNeXt', depth=50, groups=4, base_width=8, base_channels=8,
                           frozen_stages=frozen_stages), freeze_masks=freeze_masks)


BUILT = {'GMResNet': resnet, 'GMBackbone': gm_resnext,
         'copy': lambda *args: copy.deepcopy(gm_resnext(*args)),
         'pickle': lambda *args: pickle.loads(pickle.dumps(gm_resnext(*args)))}


@pytest.mark.parametrize('build', BUILT.values(), ids=BUILT)
@pytest.mark.parametrize('freeze_masks', [False, True])
def test_train_restores_what_the_user_set(build, freeze_masks):
    net = build(freeze_masks)
    masks = {n: p for n, p in net.named_parameters() if '.sigma' in n}
    frozen = {n: p for n, p in masks.items() if n.startswith(('conv1', 'layer1'))}
    assert {p.requires_grad for p in frozen.values()} == {not freeze_masks}

    one = next(iter(frozen.values()))
    one.requires_grad_(freeze_masks)  # the user's word counts, either way
    assert net.train() is net and one.requires_grad is freeze_masks
    one.requires_grad_(not freeze_masks)
    net.layer3.requires_grad_(False)  # as a freeze of its own of a later stage, with its masks
    for mode in (True, False, True):
        net.train(mode)
        for name, parameter in net.named_parameters():
            learns = not name.startswith(('conv1', 'bn1', 'layer1', 'layer3'))
            assert parameter.requires_grad == (learns or name in frozen and not freeze_masks), name

    net.requires_grad_(False)
    for mode in (True, False, True):
        assert not any(p.requires_grad for p in net.train(mode).parameters())


@pytest.mark.parametrize('freeze_masks, file, level, says', [
    (True, 'plain', logging.WARNING,
     'conv1: 1 are frozen untrained; layer1: 4 are frozen untrained'),
    (True, 'trained', logging.INFO, 'conv1: 1 come trained and are frozen; layer1: 4 come trained'),
    (False, 'plain', logging.INFO, 'conv1: 1 learn; layer1: 4 learn'),
    (False, 'trained', logging.INFO, 'conv1: 1 learn; layer1: 4 learn'),
])
def test_says_what_becomes_of_each_stage(freeze_masks, file, level, says, messages, request):
    resnet(freeze_masks, pretrained(request.getfixturevalue(file))).init_weights()
    record, = [r for r in messages if 'Masks of frozen stages' in r.getMessage()]
    assert record.levelno == level and says in record.getMessage()
    assert f'freeze_masks={freeze_masks!r}' in record.getMessage()


def refconv_resnet(freeze_masks, init_cfg=None, frozen_stages=1, **kwargs):
    return RefConvBackbone(dict(type='mmdet.ResNet', depth=18, base_channels=8,
                                frozen_stages=frozen_stages, init_cfg=init_cfg), stem=False,
                           body=['layer2', 'layer3', 'layer4'])


@pytest.mark.slow
@pytest.mark.parametrize('build', [resnet, refconv_resnet])
def test_warns_of_stages_frozen_at_random_weights(build, plain, messages):
    def told(net):
        messages.clear()
        net.init_weights()
        return [r.getMessage() for r in messages if 'Frozen at random' in r.getMessage()
                and r.levelno == logging.WARNING]

    options = dict(gm_stages=(False, True, True, True), gm_stem=None)
    text, = told(build(False, **options))
    assert 'conv1, layer1 never learn anything' in text and 'frozen_stages=1' in text
    assert 'load_from' in text and 'GMPretrained' in text
    assert told(build(False, dict(type='Kaiming', layer='Conv2d'), **options))
    assert told(gm_resnext()) and not told(gm_resnext(frozen_stages=-1))
    assert not told(build(False, pretrained(plain)))
    assert not told(build(False, pretrained(plain, 'Pretrained')))
    assert not told(GMResNet(18, base_channels=8, **options))  # nothing frozen
    assert not told(refconv_resnet(False, frozen_stages=-1))


@pytest.mark.parametrize('value', ['auto', 'sometimes', None, 1])
@pytest.mark.parametrize('build', [resnet, gm_resnext])
def test_bad_value(build, value):
    with pytest.raises(ValueError, match=f'must be True or False, got {value!r}.*'
                                         'write freeze_masks=False to let the masks'):
        build(value)


class Trained(BaseModel):
    """A backbone and a plain one, each with start weights, as the smallest model of a Runner."""

    def __init__(self, checkpoint, plain):
        super().__init__()
        self.backbone = resnet(True, pretrained(checkpoint))
        self.other = ResNet(18, base_channels=8, init_cfg=[
            dict(type='Kaiming', layer='Conv2d'), pretrained(plain, 'Pretrained')])

    def forward(self, inputs, data_samples=None, mode='tensor'):
        return dict(loss=self.backbone(inputs)[-1].mean() + self.other(inputs)[-1].mean())


def run(checkpoint, plain, work_dir, epochs, **options):
    runner = Runner(
        Trained(checkpoint, plain), str(work_dir), optim_wrapper=dict(
            optimizer=dict(type='SGD', lr=0.01)),
        train_dataloader=DataLoader([torch.ones(3, 32, 32)] * 2, batch_size=2, collate_fn=lambda b:
                                    dict(inputs=torch.stack(b))),
        train_cfg=dict(by_epoch=True, max_epochs=epochs), log_level='WARNING',
        custom_hooks=[dict(type='SafeCheckpoints')], default_scope='mmdet',
        experiment_name=f'resume-{time.time_ns()}', **options)
    runner.train()
    return runner.model


@pytest.mark.slow
@pytest.mark.parametrize('by_path', [False, True])
def test_a_resume_needs_no_start_weights(trained, plain, tmp_path, by_path):
    first = run(trained, plain, tmp_path / 'run', 1)
    assert first.backbone.layer1[0].conv1.sigma.item() == 6  # loaded, and frozen
    trained.unlink()
    plain.unlink()
    options = dict(load_from=str(tmp_path / 'run' / 'epoch_1.pth')) if by_path else {}
    second = run(trained, plain, tmp_path / 'run', 2, resume=True, **options)
    assert second.backbone.layer1[0].conv1.sigma.item() == 6
    for name in ('backbone.layer1.0.conv1.weight', 'other.bn1.weight'):
        frozen = name.startswith('backbone')
        assert torch.equal(first.get_parameter(name), second.get_parameter(name)) is frozen
    with pytest.raises(FileNotFoundError):  # a first run does
        run(trained, plain, tmp_path / 'anew', 1, resume=True)
