"""load_pretrained and GMPretrained on whole backbones: every tensor accounted for, outputs kept."""
import ast
import re

import mmengine.hub
import pytest
import timm
import torch
import torch.nn as nn
import torchvision
from mmdet.models.backbones import ResNet
from mmdet.registry import MODELS
from mmengine.model import BaseModule
from mmengine.registry import DefaultScope
from safetensors.torch import save_file

from gmconv_mmdet.backbones import GMResNet
from gmconv_mmdet.checkpoints import CheckpointError
from gmconv_mmdet.pretrained import load_pretrained
from gmconv_mmdet.pretrained.load import allowing

from ..oracles import accounted

DCN = dict(type='DCN', deform_groups=1, fallback_on_stride=False)
NONE = (False, ) * 4
ROWS = {  # Table V: stem, stages with GMConv, with DCN
    'r50': (None, NONE, NONE),
    'stem-l1': ('dynamic', (True, False, False, False), NONE),
    'stem-l1-l2': ('dynamic', (True, True, False, False), NONE),
    'stem-l1-l3': ('dynamic', (True, True, True, False), NONE),
    'stem-l1-l4': ('dynamic', (True, ) * 4, NONE),
    'dcn': (None, NONE, (False, True, True, True)),
    'stem-l1-dcn': ('dynamic', (True, False, False, False), (False, True, True, True)),
}


def resnet(stem='dynamic', stages=(True, ) * 4, depth=50, trained=True, **kwargs):
    """A small GMResNet with masks and statistics as after training, in fp64."""
    torch.manual_seed(depth)
    net = GMResNet(depth, gm_stem=stem, gm_stages=stages, base_channels=8, **kwargs).double()
    if trained:
        with torch.no_grad():
            for name, tensor in net.state_dict().items():
                if name.endswith('sigma'):
                    tensor.uniform_(0.6, 7)
                elif name.endswith('sigma_predictor.b1'):
                    tensor.copy_(torch.tensor([2.3, 0.8]))
                elif 'running_var' in name or tensor.dim() == 1 and 'weight' in name:
                    tensor.uniform_(0.5, 1.5)
                elif 'running_mean' in name:
                    tensor.normal_(std=0.1)
    return net.eval()


@pytest.fixture
def x():
    torch.manual_seed(7)
    return torch.randn(2, 3, 96, 96, dtype=torch.float64)


def close(a, b, tolerance=1e-10):
    assert len(a) == len(b)
    for left, right in zip(a, b):
        largest = float(right.abs().max())
        assert torch.allclose(left, right, rtol=tolerance, atol=tolerance * largest)


TEACHERS = {'GMConv': ('dynamic', (True, ) * 4), 'S-GMConv': ('static', (True, ) * 4),
            'StdConv': (None, NONE)}


@pytest.mark.slow
@pytest.mark.parametrize('source, row', [
    *(('GMConv', row) for row in ROWS), ('S-GMConv', 'stem-l1-dcn'), ('StdConv', 'stem-l1-l4')])
def test_one_backbone_serves_every_row_of_table_v(row, source, x):
    teacher = resnet(*TEACHERS[source])
    stem, stages, dcn = ROWS[row]
    net = resnet(stem, stages, trained=False, dcn=DCN if any(dcn) else None, stage_with_dcn=dcn)
    report = load_pretrained(net, teacher.state_dict())
    accounted(report, net, teacher.state_dict())
    assert not report.approximated
    close(net(x), teacher(x))  # DCN too: its offsets start at zero


def test_plain_to_gm_to_plain(x):
    plain, gm, back = resnet(None, NONE), resnet(trained=False), resnet(None, NONE, trained=False)
    load_pretrained(gm, plain.state_dict())
    close(gm(x), plain(x))
    load_pretrained(back, gm.state_dict())
    close(back(x), plain(x))
    raw = resnet(trained=False)
    report = load_pretrained(raw, plain.state_dict(), preserve=False)
    assert torch.equal(raw.conv1.weight, plain.conv1.weight)
    assert 'copied as it is' in report.reasons['conv1.weight']


def test_torchvision_at_full_size():
    torch.manual_seed(0)
    theirs = torchvision.models.resnet18().eval()
    net = GMResNet(18).eval()
    report = load_pretrained(net, theirs.state_dict())
    accounted(report, net, theirs.state_dict())
    assert sorted(report.ignored) == ['fc.bias', 'fc.weight']
    assert report.reasons['fc.weight'] == 'classifier'
    assert len(report.initialized) == 3 + 16  # the stem's predictor and sixteen sigmas
    x = torch.randn(1, 3, 64, 64)
    body = nn.Sequential(*list(theirs.children())[:-2])
    close(net(x)[-1:], [body(x)], 1e-5)


@pytest.mark.slow
@pytest.mark.parametrize('name, ours', [('resnet26', None), ('resnet26d', dict(
    deep_stem=True, avg_down=True)), ('resnet18', None)])
def test_timm(name, ours, monkeypatch, x):
    theirs = timm.create_model(name).double().eval()
    depth = int(name[6:8])
    # timm's ResNet-26 is a ResNet-50 with two blocks a stage, for which mmdet has no number.
    monkeypatch.setitem(ResNet.arch_settings, 26, (ResNet.arch_settings[50][0], (2, ) * 4))
    net = GMResNet(depth, **ours or {}).double().eval()
    report = load_pretrained(net, theirs.state_dict())
    accounted(report, net, [])
    assert len(report.loaded) + len(report.ignored) == len(theirs.state_dict())
    close(net(x)[-1:], [theirs.forward_features(x)])


@pytest.mark.parametrize('version', ['c', 'd'])
def test_mmpretrain_deep_stem(version, x):
    pretrain = pytest.importorskip('mmpretrain.models.backbones')
    theirs = getattr(pretrain, f'ResNetV1{version}')(depth=50, base_channels=8, stem_channels=8)
    theirs.double().eval()
    checkpoint = dict(meta=dict(), state_dict={
        **{f'backbone.{n}': t for n, t in theirs.state_dict().items()},
        'head.fc.weight': torch.ones(3, 2)})
    net = GMResNet(50, base_channels=8, deep_stem=True, avg_down=version == 'd').double()
    report = load_pretrained(net.eval(), checkpoint)
    assert report.ignored == ['head.fc.weight']
    close(net(x)[-1:], theirs(x))


def test_files(tmp_path, x):
    teacher = resnet()
    state = teacher.state_dict()
    torch.save(dict(state_dict={f'module.backbone.{n}': t for n, t in state.items()},
                    optimizer=dict()), tmp_path / 'ddp.pth')
    save_file(state, tmp_path / 'net.safetensors')
    for file in ('ddp.pth', 'net.safetensors'):
        net = resnet(trained=False)
        report = load_pretrained(net, tmp_path / file)
        assert str(tmp_path / file) in str(report)
        close(net(x), teacher(x), 1e-15)


def test_sigma_patterns_are_told_by_the_metadata():
    teacher = resnet(gm_cfg=dict(sigma_pattern='sigma_pair'))
    config = "model = dict(backbone=dict(type='GMResNet', gm_cfg=dict(sigma_pattern='sigma_pair')))"
    for meta in (dict(cfg=config), dict(sigma_pattern='sigma_pair')):
        net = resnet(trained=False)
        load_pretrained(net, dict(meta=meta, state_dict=teacher.state_dict()))
        sigma, ratio = net.conv1.sigma_predictor.b1.tolist()
        assert (sigma, sigma * ratio) == pytest.approx((2.3, 0.8))


def lacking(state):
    return {n: t for n, t in state.items() if n != 'layer2.0.conv1.weight'}


def with_another(state):
    return {**state, 'layer1.0.attention.weight': torch.ones(2)}


def of_another_shape(state):
    return {**state, 'conv1.weight': state['conv1.weight'][:, :1]}


@pytest.mark.parametrize('spoil, says', [
    (lacking, r'not in the checkpoint \(1\): layer2.0.conv1.weight'),
    (with_another, r'superfluous in the checkpoint \(1\): layer1.0.attention.weight'),
    (of_another_shape, r'conv1.weight is \(8, 1, 7, 7\) in the checkpoint, \(8, 3, 7, 7\)'),
])
def test_what_does_not_fit_is_listed_and_nothing_written(spoil, says):
    net = resnet(depth=18)
    before = {n: t.clone() for n, t in net.state_dict().items()}
    spoilt = spoil(resnet(depth=18, stem=None, stages=NONE).state_dict())
    with pytest.raises(CheckpointError, match=says) as error:
        load_pretrained(net, spoilt)
    assert 'allow=' in str(error.value) and 'does not fit GMResNet' in str(error.value)
    assert all(torch.equal(t, before[n]) for n, t in net.state_dict().items())
    advised = re.search(r'allow=(\[.*\])', str(error.value))[1]
    report = load_pretrained(net, spoilt, allow=ast.literal_eval(advised))
    assert any(reason.startswith('allowed') for reason in report.reasons.values())
    accounted(report, net, spoilt)


def detector(kind, classes):
    config = mmengine.hub.get_config(f'mmdet::{kind}_r50_fpn_1x_coco.py').model
    config.backbone = dict(type='GMResNet', depth=18, base_channels=8, out_indices=(0, 1, 2, 3))
    config.neck.update(in_channels=[8, 16, 32, 64], out_channels=8)
    if 'roi_head' in config:
        config.rpn_head.update(in_channels=8, feat_channels=8)
        config.roi_head.bbox_roi_extractor.out_channels = 8
        config.roi_head.bbox_head.update(in_channels=8, fc_out_channels=8, num_classes=classes)
    else:
        config.bbox_head.update(in_channels=8, feat_channels=8, num_classes=classes)
    with DefaultScope.overwrite_default_scope('mmdet'):
        return MODELS.build(config)


@pytest.mark.slow
@pytest.mark.parametrize('kind, advised', [
    ('faster_rcnn/faster-rcnn', ['roi_head.bbox_head.fc_cls.*', 'roi_head.bbox_head.fc_reg.*']),
    ('retinanet/retinanet', ['bbox_head.retina_cls.*'])])
def test_a_detector_of_80_classes_starts_one_of_3(kind, advised, tmp_path):
    torch.manual_seed(0)
    trained, net = detector(kind, 80), detector(kind, 3)
    torch.save(dict(state_dict=trained.state_dict()), tmp_path / 'x.pth')
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    with pytest.raises(CheckpointError, match='of another shape') as error:
        load_pretrained(net, tmp_path / 'x.pth')
    assert f'allow={advised}' in str(error.value)
    report = load_pretrained(net, tmp_path / 'x.pth', allow=advised)
    accounted(report, net, trained.state_dict())
    for name, tensor in net.state_dict().items():
        new = any(name.startswith(module[:-1]) for module in advised)
        assert torch.equal(tensor, before[name] if new else trained.state_dict()[name]), name
        assert (name in report.initialized) == new
    shapes = report.reasons[advised[0].replace('*', 'weight')]
    assert re.match(r'allowed: \(.*\) in the checkpoint, \(.*\) in the network', shapes)
    assert advised[0].replace('*', 'weight') in str(report)


def test_the_advice_covers_what_does_not_fit_and_nothing_else():
    fit = ['a.b.c.weight', 'a.x.weight', 'first']
    for unfit, patterns in ((['a.b.d.weight', 'a.b.d.bias'], ['a.b.d.*']),
                            (['a.b.c.bias', 'last'], ['a.b.c.bias', 'last']),
                            (['z.a.b', 'z.c.d', 'a.y.q.r'], ['z.*', 'a.y.*'])):
        assert allowing(unfit, fit) == patterns


@pytest.mark.slow
def test_another_architecture_and_nothing_at_all(tmp_path):
    for wrong, depth in ((50, 18), (18, 50)):
        with pytest.raises(CheckpointError, match='another architecture, only .* tensors fit'):
            load_pretrained(resnet(depth=depth), resnet(depth=wrong).state_dict())
    torch.save(dict(state_dict=timm.create_model('vit_tiny_patch16_224').state_dict()),
               tmp_path / 'vit.pth')
    with pytest.raises(CheckpointError, match='vit.pth: nothing in the checkpoint fits'):
        load_pretrained(resnet(depth=18), tmp_path / 'vit.pth')
    detector = nn.Module()
    detector.backbone = resnet(depth=18)
    with pytest.raises(CheckpointError):
        load_pretrained(detector, resnet(depth=50).state_dict())


class Block(BaseModule):
    """Blocks that zero a norm when they are initialised, as mmdet's do."""

    def __init__(self):
        super().__init__(dict(type='Constant', val=0, override=dict(name='norm')))
        self.norm = nn.BatchNorm2d(4)


class Net(BaseModule):

    def __init__(self, init_cfg):
        super().__init__(init_cfg)
        self.conv = nn.Conv2d(3, 4, 3)
        self.block = Block()


@pytest.mark.parametrize('first', [[], [dict(type='Kaiming', layer='Conv2d')]])
def test_is_the_last_initialiser(first, tmp_path):
    torch.manual_seed(0)
    trained = Net(None)
    nn.init.uniform_(trained.block.norm.weight, 1, 2)
    torch.save(trained.state_dict(), tmp_path / 'net.pth')
    net = Net([*first, dict(type='GMPretrained', checkpoint=str(tmp_path / 'net.pth'))])
    parent = nn.Sequential(net)
    for module in parent:
        module.init_weights()
    for name, tensor in trained.state_dict().items():
        assert torch.equal(net.state_dict()[name], tensor), name
    assert net.block.is_init


@pytest.mark.slow
@pytest.mark.parametrize('kind', ['ResNet', 'GMResNet'])
@pytest.mark.parametrize('depth', [18, 50])
def test_survives_block_inits_and_dcn(kind, depth, tmp_path):
    teacher = resnet(depth=depth).float()
    torch.save(teacher.state_dict(), tmp_path / 'gm.pth')
    stages = (False, False, True, True) if depth == 50 else NONE
    options = dict(gm_stages=tuple(not s for s in stages)) if kind == 'GMResNet' else {}
    net = MODELS.build(dict(type=kind, depth=depth, base_channels=8, zero_init_residual=True,
                            dcn=DCN if depth == 50 else None, stage_with_dcn=stages, **options))
    # init configs in the blocks, which mmdet sets where it is given no init_cfg, then ours first
    net.init_cfg = [dict(type='Kaiming', layer='Conv2d')]
    net.init_cfg.insert(0 if kind == 'GMResNet' else 1,
                        dict(type='GMPretrained', checkpoint=str(tmp_path / 'gm.pth')))
    reference = MODELS.build(dict(
        type=kind, depth=depth, base_channels=8, dcn=DCN if depth == 50 else None,
        stage_with_dcn=stages, **options))
    net.init_weights()
    load_pretrained(reference, teacher.state_dict())
    norm = 'bn2' if depth == 18 else 'bn3'
    assert net.state_dict()[f'layer1.0.{norm}.weight'].abs().min() > 0.4
    for name, tensor in reference.state_dict().items():
        if 'conv_offset' not in name and 'sigma_predictor.w0' not in name:
            assert torch.equal(net.state_dict()[name], tensor), name
        elif 'conv_offset' in name:
            assert not tensor.any()


@pytest.mark.parametrize('nested', [False, True])
def test_the_pattern_that_a_state_dict_notes_is_known(nested):
    state = resnet(depth=18, gm_cfg=dict(sigma_pattern='sigma_pair')).state_dict()
    net = GMResNet(18, base_channels=8).double()
    report = load_pretrained(net, dict(state_dict=state) if nested else state)
    # (s1, s2) = (2.3, 0.8), which 'sigma_ratio' predicts as (s1, s2 / s1).
    torch.testing.assert_close(net.conv1.sigma_predictor.b1.detach(),
                               torch.tensor([2.3, 0.8 / 2.3], dtype=torch.float64))
    assert 'conv1.weight' in report.loaded
