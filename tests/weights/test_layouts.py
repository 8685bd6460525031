"""The backbone is found in every layout, tensor for tensor."""
import pytest
import torch

from gmconv_mmdet.weights import CheckpointError
from gmconv_mmdet.weights.layouts import find_backbone, why_superfluous

NET = {'conv1.weight': torch.randn(2, 3, 3, 3), 'bn1.weight': torch.randn(2),
       'layer1.0.conv1.weight': torch.randn(2, 2, 3, 3)}


def behind(prefix, tensors=NET):
    return {prefix + name: tensor for name, tensor in tensors.items()}


LAYOUTS = {
    'bare': (NET, ''),
    'torchvision': ({**NET, 'fc.weight': torch.ones(4, 2)}, ''),
    'ddp': (behind('module.'), ''),
    'mmdet': (dict(meta={}, state_dict={**behind('backbone.'), 'rpn_head.w': torch.ones(1)}), ''),
    'mmdet ddp': (dict(state_dict=behind('module.backbone.')), ''),
    'reference': (dict(model=NET, optimizer=dict(state={}), epoch=3), ''),
    'mmengine ema': (dict(state_dict=behind('backbone.'),
                          ema_state_dict=behind('module.backbone.', {
                              n: t + 1 for n, t in NET.items()})), 'state_dict'),
    'timm ema': (dict(state_dict={n: t + 1 for n, t in NET.items()}, state_dict_ema=NET),
                 'state_dict_ema'),
    'torchvision ema': (dict(model={n: t + 1 for n, t in NET.items()},
                             model_ema={'n_averaged': torch.tensor(3), **behind('module.')}),
                        'model_ema'),
}


@pytest.mark.parametrize('name', LAYOUTS)
def test_finds(name):
    checkpoint, container = LAYOUTS[name]
    found = find_backbone(checkpoint, NET)
    for key, tensor in NET.items():
        assert torch.equal(found.tensors[key], tensor)
        assert found.source[key].endswith(key)
    assert container in found.layout


def test_leaves_the_rest_of_a_model_outside():
    checkpoint = dict(state_dict={**behind('backbone.'), 'neck.weight': torch.ones(1)})
    found = find_backbone(checkpoint, NET)
    assert found.outside == ['neck.weight'] and set(found.tensors) == set(NET)


def test_ambiguous_and_told_apart():
    other = {n: t + 1 for n, t in NET.items()}
    checkpoint = {**behind('student.backbone.'), **behind('teacher.backbone.', other)}
    with pytest.raises(CheckpointError, match="'student.backbone.', 'teacher.backbone.'.*prefix="):
        find_backbone(checkpoint, NET)
    found = find_backbone(checkpoint, NET, prefix='teacher.backbone')
    assert torch.equal(found.tensors['bn1.weight'], other['bn1.weight'])
    with pytest.raises(CheckpointError, match="behind the prefix 'pupil.'"):
        find_backbone(checkpoint, NET, prefix='pupil')


def test_nothing():
    with pytest.raises(CheckpointError, match='like a.b, expected are names like conv1.weight'):
        find_backbone({'a.b': torch.ones(1)}, NET)
    with pytest.raises(CheckpointError, match='holds no tensors: its entries are epoch, lr'):
        find_backbone(dict(epoch=3, lr=0.1), NET)
    with pytest.raises(CheckpointError, match='holds no tensors'):
        find_backbone({}, NET)


def test_deep_stems():
    expected = {f'stem.{i}.weight' for i in (0, 1, 3, 4, 6, 7)} | {'layer1.0.conv1.weight'}
    tensors = {name: torch.randn(2) for name in expected}
    timm = {name.replace('stem.7', 'bn1').replace('stem', 'conv1'): tensor
            for name, tensor in tensors.items()}
    mmpretrain = {}
    for name, tensor in tensors.items():
        index = int(name.split('.')[1]) if name.startswith('stem') else None
        mmpretrain[name if index is None else
                   f'stem.{index // 3}.{"bn" if index % 3 else "conv"}.weight'] = tensor
    for checkpoint in (timm, dict(state_dict=behind('backbone.', mmpretrain))):
        found = find_backbone(checkpoint, expected)
        assert found.tensors.keys() == expected
        assert all(torch.equal(found.tensors[name], tensors[name]) for name in expected)


def test_why_superfluous():
    for head in ('fc.weight', 'classifier.6.bias', 'head.fc.weight', 'last_linear.weight'):
        assert why_superfluous(head, NET) == 'classifier'
    assert why_superfluous('layer2.0.conv1.weight', NET) == 'the network ends after layer1'
    assert why_superfluous('layer1.5.conv1.weight', NET) is None
    assert why_superfluous('conv9.weight', NET) is None
