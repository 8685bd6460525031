"""GMResNet beside mmdet's ResNet: the same network but for its masks."""
import copy

import pytest
import torch
import torch.nn as nn
from mmdet.models.backbones import ResNet
from mmdet.registry import MODELS
from mmengine.logging import MMLogger

from gmconv_mmdet import GMConv2d, GMResNet

SPATIAL = {18: 17, 34: 33, 50: 17, 101: 34, 152: 51}  # convolutions larger than 1x1, stem included
ALL, NONE = (True, ) * 4, (False, ) * 4
DCN = dict(type='DCN', deform_groups=1, fallback_on_stride=False)
DCN_V2 = dict(type='DCNv2', deform_groups=1, fallback_on_stride=False)


def small(depth=50, **kwargs):
    """An eighth of the width: the structure is what is tested."""
    return GMResNet(depth, base_channels=8, **kwargs)


def plain_resnet(depth):
    backbone = ResNet(depth, base_channels=8)
    backbone.eval()  # mmdet's returns nothing
    return backbone


def images(batch=2, size=64):
    return torch.randn(batch, 3, size, size, generator=torch.Generator().manual_seed(0))


def count(backbone, kind):
    return sum(k == kind for k in backbone.placement().values())


@pytest.mark.parametrize('depth', SPATIAL)
def test_placement_for_every_depth(depth):
    backbone = small(depth)
    placement = backbone.placement()
    assert placement['conv1'] == 'dynamic' and count(backbone, 'dynamic') == 1
    assert count(backbone, 'static') == SPATIAL[depth] - 1
    for name, module in backbone.named_modules():
        if isinstance(module, nn.Conv2d):
            assert isinstance(module, GMConv2d) == (module.kernel_size != (1, 1)), name
            assert (placement[name] == 'plain') == (module.kernel_size == (1, 1)), name
    static = small(depth, gm_stem='static')
    assert count(static, 'static') == SPATIAL[depth] and count(static, 'dynamic') == 0
    assert count(small(depth, gm_stem=None, gm_stages=NONE), 'static') == 0


@pytest.mark.slow
def test_50_extra_parameters_at_depth_50():
    def parameters(backbone):
        return sum(p.numel() for p in backbone.parameters())

    plain = parameters(ResNet(50))
    assert parameters(GMResNet(50)) - plain == 50
    assert parameters(GMResNet(50, gm_stem='static')) - plain == 17
    assert parameters(GMResNet(50, gm_stem=None, gm_stages=NONE)) == plain


@pytest.mark.parametrize('depth', [18, 50])
@pytest.mark.parametrize('stem', ['dynamic', 'static'])
def test_equals_resnet_at_huge_sigma(depth, stem):
    ours = small(depth, gm_stem=stem, gm_cfg=dict(init_sigma=1e6)).eval()
    theirs = plain_resnet(depth)
    missing, unexpected = ours.load_state_dict(theirs.state_dict(), strict=False)
    assert not unexpected and all('.sigma' in key for key in missing)
    for out, expected in zip(ours(images()), theirs(images())):
        assert torch.equal(out, expected)


@pytest.mark.parametrize('options', [dict(deep_stem=True), dict(deep_stem=True, avg_down=True)])
def test_deep_stem(options):
    backbone = small(50, **options)
    stem = [kind for name, kind in backbone.placement().items() if name.startswith('stem')]
    assert stem == ['dynamic', 'static', 'static']
    static = small(50, gm_stem='static', **options).placement()
    assert [kind for name, kind in static.items() if name.startswith('stem')] == ['static'] * 3
    plain = small(50, gm_stem=None, **options).placement()
    assert [kind for name, kind in plain.items() if name.startswith('stem')] == ['plain'] * 3
    assert [out.shape[-1] for out in backbone(images())] == [16, 8, 4, 2]


@pytest.mark.parametrize('frozen', [-1, 0, 1, 2, 4])
def test_frozen_stages_freeze_masks_too(frozen):
    backbone = small(50, frozen_stages=frozen, freeze_masks=True)
    for _ in range(2):  # before and after train(), which freezes again
        for name, parameter in backbone.named_parameters():
            stage = int(name[5]) if name.startswith('layer') else 0
            assert parameter.requires_grad == (stage > frozen), name
        backbone.train()
    assert backbone.layer1.training == (frozen < 1)


def test_warns_of_masks_frozen_untrained():
    logger = MMLogger.get_instance('gm_resnet_test', logger_name='gm')
    messages = []
    logger.handlers[0].emit = lambda record: messages.append(record.getMessage())
    small(18, frozen_stages=1, freeze_masks=True).init_weights()
    text, = [m for m in messages if 'never trained' in m]
    assert 'frozen_stages=1' in text and 'conv1' in text and 'layer1.1.conv2' in text
    assert 'layer2' not in text and 'frozen_stages=-1' in text
    messages.clear()
    for quiet in (dict(frozen_stages=-1), dict(frozen_stages=1),
                  dict(frozen_stages=1, gm_stem=None, gm_stages=NONE)):
        small(18, **quiet).init_weights()
    assert not [m for m in messages if 'never trained' in m]
    trained = small(18, frozen_stages=1, freeze_masks=True)
    for module in trained.modules():
        if isinstance(module, GMConv2d) and module.mask_parameters():
            module.mask_parameters()[-1].data += 1
    assert not trained.frozen_untrained_masks()


def test_norm_eval_and_train_return_self():
    backbone = small(18)
    assert backbone.train() is backbone and backbone.eval() is backbone
    norms = [m for m in backbone.train().modules() if isinstance(m, nn.BatchNorm2d)]
    assert not any(m.training for m in norms)
    assert all(m.training for m in small(18, norm_eval=False).train().modules())


@pytest.mark.parametrize('depth, norm', [(18, 'norm2'), (50, 'norm3')])
def test_zero_init_is_kept(depth, norm):
    backbone = small(depth)
    backbone.init_weights()
    assert all(not getattr(block, norm).weight.any()
               for i in range(1, 5) for block in getattr(backbone, f'layer{i}'))
    assert backbone.layer4[0].conv2.weight.std() > 0 and (backbone.bn1.weight == 1).all()
    assert all(m.mask_is_initial() for m in backbone.modules()
               if isinstance(m, GMConv2d) and m.mask_parameters())
    assert small(depth, zero_init_residual=False).layer1[0].norm2.weight.all()


@pytest.mark.parametrize('dcn', [DCN, DCN_V2])
def test_dcn_hybrid(dcn):
    user_dcn = copy.deepcopy(dcn)
    backbone = MODELS.build(dict(
        type='GMResNet', depth=50, base_channels=8, gm_stages=(True, False, False, False),
        dcn=user_dcn, stage_with_dcn=(False, True, True, True)))
    assert user_dcn == dcn  # not mutated
    kinds = backbone.placement()
    assert kinds['conv1'] == 'dynamic' and kinds['layer1.0.conv2'] == 'static'
    deform = [name for name, kind in kinds.items() if 'Deform' in kind]
    assert len(deform) == 13 and all(name.endswith('conv2') for name in deform)
    outs = backbone.train()(images(size=128))
    sum(out.square().mean() for out in outs).backward()
    assert all(torch.isfinite(p.grad).all() for p in backbone.parameters())
    assert backbone.layer1[0].conv2.sigma.grad.abs() > 0
    assert backbone.conv1.sigma_predictor.b1.grad.abs().sum() > 0


@pytest.mark.parametrize('options, message', [
    (dict(depth=77), r'depth must be one of \[18, 34, 50, 101, 152\], got 77'),
    (dict(gm_stem='both'), "gm_stem must be one of .* got 'both'"),
    (dict(gm_stages=(True, True)), r'num_stages = 4 times True or False, got \(True, True\)'),
    (dict(gm_stages='TTTT'), "got 'TTTT'"),
    (dict(gm_stages=(1, 0, 0, 0)), r'got \(1, 0, 0, 0\)'),
    (dict(num_stages=3, gm_stages=ALL), r'num_stages = 3 times .*, got \(True, True, True, True\): '
     'change one of the two'),
    (dict(gm_cfg=dict(dynamic=True)), 'gm_cfg must not hold "dynamic"'),
    (dict(gm_cfg=dict(init_sigma=-1)), 'init_sigma must be a positive finite number, got -1'),
    (dict(conv_cfg=dict(type='ConvWS')), "conv_cfg must be None.* Got {'type': 'ConvWS'}"),
    (dict(dcn=DCN, stage_with_dcn=(False, True, False, True)),
     r'GMConv or DCN, not both: L2, L4 .* gm_stages=\(True, False, True, False\)'),
    (dict(depth=18, gm_stages=NONE, dcn=DCN, stage_with_dcn=(False, True, True, True)),
     'dcn needs depth 50, 101 or 152'),
])
def test_refusals(options, message):
    with pytest.raises(ValueError, match=message):
        small(**options)


@pytest.mark.parametrize('name, says', [
    ('gm_stage', "GMResNet has no argument 'gm_stage': write gm_stages"),
    ('frozen_stage', "'frozen_stage': write frozen_stages"),
    ('widen_factor', "'widen_factor': Its arguments are depth, gm_stem, .* init_cfg"),
])
def test_unknown_arguments(name, says):
    with pytest.raises(TypeError, match=says):
        MODELS.build(dict(type='GMResNet', depth=18, **{name: 1}))
