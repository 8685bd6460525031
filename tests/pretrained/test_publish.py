"""Published backbones: round trips, rows, metadata, and the tool itself."""
import hashlib
from contextlib import nullcontext
from functools import partial

import pytest
import torch

from gmconv_mmdet.backbones import GMBackbone, GMResNet
from gmconv_mmdet.checkpoints import CheckpointError
from gmconv_mmdet.openmmlab.config_placement import row_placement
from gmconv_mmdet.pretrained import load_pretrained
from gmconv_mmdet.pretrained.publish import convert_backbone, resnet_depth

from ..processes import run_tool

NONE = (False, ) * 4


def resnet(depth=18, **kwargs):
    return GMResNet(depth, base_channels=8, **kwargs).eval()


@pytest.fixture
def trained(tmp_path):
    """A training checkpoint of a GM classifier, and its backbone."""
    torch.manual_seed(0)
    net = resnet()
    with torch.no_grad():
        for name, parameter in net.named_parameters():
            if name.endswith('sigma'):
                parameter.uniform_(0.8, 7)
        net.conv1.sigma_predictor.b1.copy_(torch.tensor([2.3, 0.8]))
    path = tmp_path / 'epoch_3.pth'
    state = {f'backbone.{name}': tensor for name, tensor in net.state_dict().items()}
    torch.save(dict(state_dict={**state, 'head.fc.weight': torch.ones(10, 64)},
                    optimizer=dict(state={}), meta=dict(epoch=3)), path)
    return path, net


X = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))


def same(left, right):
    for a, b in zip(left(X), right(X)):
        assert torch.allclose(a, b, rtol=1e-5, atol=1e-5 * float(b.abs().max()))


def loaded(path, **kwargs):
    net = resnet(**kwargs)
    load_pretrained(net, path)
    return net


@pytest.mark.parametrize('suffix', ['.pth', '.safetensors'])
def test_gm_to_plain_to_gm(trained, tmp_path, suffix):
    source, net = trained
    gm = convert_backbone(source, tmp_path / f'gm{suffix}')
    plain = convert_backbone(gm.path, tmp_path / f'plain{suffix}', to='plain')
    again = convert_backbone(plain.path, tmp_path / f'again{suffix}', to='gm')
    same(loaded(gm.path), net)
    same(loaded(plain.path, gm_stem=None, gm_stages=NONE), net)
    same(loaded(again.path), net)
    assert gm.meta['depth'] == plain.meta['depth'] == 18
    assert gm.meta['placement'] == again.meta['placement'] and not plain.meta['placement']
    assert len(gm.meta['placement']) == 17 and gm.meta['placement']['conv1'] == 'dynamic'


def test_what_is_published(trained, tmp_path):
    source, net = trained
    published = convert_backbone(source, tmp_path / 'new' / 'gm.pth')
    digest = hashlib.sha256(published.path.read_bytes()).hexdigest()
    assert published.path == tmp_path / 'new' / f'gm-{digest[:8]}.pth'
    content = torch.load(published.path, weights_only=True)
    assert set(content) == {'meta', 'state_dict'}
    assert list(content['state_dict']) == sorted(
        content['state_dict'], key=list(net.state_dict()).index)
    assert content['meta']['source_sha256'] == hashlib.sha256(source.read_bytes()).hexdigest()
    assert content['meta']['sigma_pattern'] == 'sigma_ratio'
    report = published.report
    assert 'head.fc.weight' in report.ignored and sorted(report.loaded) == sorted(net.state_dict())
    again = convert_backbone(source, tmp_path / 'new' / 'gm.pth')
    assert again.path == published.path  # the same bytes: nothing to overwrite
    published.path.write_bytes(b'mine')
    with pytest.raises(CheckpointError, match='exists and holds something else'):
        convert_backbone(source, tmp_path / 'new' / 'gm.pth')


def test_new_predictors_are_the_same_every_time(tmp_path):
    torch.save(resnet(gm_stem=None, gm_stages=NONE).state_dict(), tmp_path / 'plain.pth')
    paths = [convert_backbone(tmp_path / 'plain.pth', tmp_path / f'{i}.pth', to='gm').path
             for i in range(2)]
    assert paths[0].read_bytes() == paths[1].read_bytes()


@pytest.mark.slow
def test_rows(trained, tmp_path):
    source, net = trained
    published = convert_backbone(source, tmp_path / 'row.pth',
                                 to=partial(row_placement, 'r50-gm-stem-l1'))
    assert set(published.meta['placement']) == {'conv1', *(
        f'layer1.{i}.conv{j}' for i in (0, 1) for j in (1, 2))}
    same(loaded(published.path, gm_stages=(True, False, False, False)), net)
    plain = convert_backbone(source, tmp_path / 'r50.pth', to=partial(row_placement, 'r50'))
    assert plain.meta['placement'] == {}
    with pytest.raises(CheckpointError, match="--row must be one of r50, .*got 'r51'"):
        convert_backbone(source, tmp_path / 'x.pth', to=partial(row_placement, 'r51'))
    body = convert_backbone(source, tmp_path / 'b.pth',
                            to=partial(row_placement, 'r50-gm-stem-l1-dcn-l2-l4'))
    assert body.meta['placement'] == published.meta['placement']


def test_any_network(tmp_path):
    pytest.importorskip('mmpretrain')

    def build(**kwargs):
        return GMBackbone(dict(type='mmpretrain.MobileNetV2', widen_factor=0.25), **kwargs).eval()
    torch.manual_seed(0)
    net = build()
    with torch.no_grad():
        net.layer2[0].conv[1].conv.sigma.fill_(1.2)
    torch.save(dict(state_dict={f'backbone.{n}': t for n, t in net.state_dict().items()}),
               tmp_path / 'mobile.pth')
    plain = convert_backbone(tmp_path / 'mobile.pth', tmp_path / 'plain.pth', to='plain')
    other = build(gm_stem=None, gm_body=None)
    load_pretrained(other, plain.path)
    same(other, net)
    gm = convert_backbone(plain.path, tmp_path / 'gm.pth', to='gm')
    assert gm.meta['depth'] is None and gm.meta['placement']['conv1.conv'] == 'dynamic'
    third = build()
    load_pretrained(third, gm.path)
    same(third, net)
    with pytest.raises(CheckpointError, match='wants a ResNet.*conv1, layer1.*layer7'):
        convert_backbone(plain.path, tmp_path / 'x.pth', to=partial(row_placement, 'r50-gm-stem-l1'))


def test_records_what_was_approximated(trained, tmp_path):
    source, _ = trained
    checkpoint = torch.load(source)
    checkpoint['state_dict']['backbone.conv1.sigma_predictor.w1'].normal_()
    torch.save(checkpoint, tmp_path / 'follows.pth')
    published = convert_backbone(tmp_path / 'follows.pth', tmp_path / 'plain.pth', to='plain')
    assert published.report.approximated == published.meta['approximated'] == ['conv1.weight']


def test_resnet_depth():
    for depth in (18, 34, 50, 101, 152):
        with torch.device('meta') if hasattr(torch.device, '__enter__') else nullcontext():
            net = GMResNet(depth, gm_stem=None, gm_stages=NONE)
        assert resnet_depth(list(net.state_dict())) == depth
    assert resnet_depth(['features.0.weight']) is None


def test_tool(trained, tmp_path):
    def tool(*arguments):
        return run_tool('model_converters/convert_backbone.py', *arguments)

    run = tool(trained[0], tmp_path / 'gm.pth', '--to', 'plain')
    assert run.returncode == 0, run.stderr
    for text in ('multiplied into its weight', 'outside the backbone: head', 'depth: 18',
                 'masks: none', f'written: {tmp_path}/gm-'):
        assert text in run.stdout
    (tmp_path / 'empty.pth').write_bytes(b'')
    run = tool(tmp_path / 'empty.pth', tmp_path / 'x.pth')
    assert run.returncode == 1 and run.stderr.count('\n') == 1 and 'is empty' in run.stderr
