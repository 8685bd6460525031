"""A plain detector's weights in a GM detector: its features stay, on every way that mmdet has."""
import warnings
from unittest import mock

import pytest
import torch
from mmdet.apis import init_detector
from mmdet.models.backbones import ResNet
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope
from mmengine.runner import Runner

from gmconv_mmdet import GMResNet

from ..deploy.small_detectors import CONFIG

WAYS = ['Pretrained', 'load_from', 'init_detector']


def config_text(depth, **backbone):
    channels = [8, 16, 32, 64] if depth == 18 else [32, 64, 128, 256]
    text = ', '.join(f'{key}={value!r}' for key, value in
                     dict(depth=depth, base_channels=8, **backbone).items())
    return CONFIG.format(channels=channels, backbone=text)


def build(path):
    with DefaultScope.overwrite_default_scope('mmdet'):
        return MODELS.build(Config.fromfile(path).model)


def spread(model):
    """Batch norms as after a training."""
    generator = torch.Generator().manual_seed(0)
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1, generator=generator)
            module.running_var.uniform_(0.5, 1.5, generator=generator)


@pytest.mark.slow
@pytest.mark.parametrize('way', WAYS)
@pytest.mark.parametrize('depth, stem', [(18, 'dynamic'), *(
    pytest.param(*case, marks=pytest.mark.nightly) for case in (
        (18, 'static'), (50, 'dynamic'), (50, 'static')))])
def test_features_stay(tmp_path, way, stem, depth):
    torch.manual_seed(0)
    plain_config = tmp_path / 'plain.py'
    plain_config.write_text(config_text(depth, type='ResNet'))
    plain = build(plain_config).eval()
    spread(plain)
    torch.save(dict(state_dict=plain.state_dict(), meta=dict(
        dataset_meta=dict(classes=('person', )))), tmp_path / 'plain.pth')
    torch.save(plain.backbone.state_dict(), tmp_path / 'backbone.pth')
    init = dict(init_cfg=dict(type='Pretrained', checkpoint=str(tmp_path / 'backbone.pth')))
    config = tmp_path / 'gm.py'
    config.write_text(config_text(depth, type='GMResNet', gm_stem=stem,
                                  **(init if way == 'Pretrained' else {})))
    if way == 'init_detector':
        model = init_detector(str(config), str(tmp_path / 'plain.pth'), device='cpu')
    elif way == 'Pretrained':
        model = build(config)
        model.init_weights()
    else:
        settings = Config.fromfile(config)
        for name in ('test_dataloader', 'test_evaluator', 'test_cfg'):
            settings.pop(name)
        settings.update(load_from=str(tmp_path / 'plain.pth'), work_dir=str(tmp_path / 'work'),
                        custom_hooks=[], default_scope='mmdet')
        runner = Runner.from_cfg(settings)
        runner.load_or_resume()
        model = runner.model
    model.eval()
    x = torch.randn(2, 3, 96, 128)
    with torch.no_grad():
        for got, expected in zip(model.backbone(x), plain.backbone(x)):
            assert (got - expected).abs().max() <= 1e-4 * expected.abs().max()
    assert sum(parameter.numel() for parameter in model.backbone.parameters()) > sum(
        parameter.numel() for parameter in plain.backbone.parameters())


def test_the_log_says_once_how_many_layers():
    network = GMResNet(18, base_channels=8)
    with warnings.catch_warnings(), mock.patch(
            'gmconv_mmdet.backbones.frozen_masks.print_log') as print_log:
        warnings.simplefilter('error')
        missing, _ = network.load_state_dict(ResNet(18, base_channels=8).state_dict())
        network.load_state_dict(network.state_dict())  # of which there is nothing to say
    assert not missing
    (message, ), _ = print_log.call_args
    assert message.startswith('17 of 17 GMConv layers take plain weights')
    assert print_log.call_count == 1
