"""The backbone is found in every layout, tensor for tensor."""
import pytest
import torch

from gmconv_mmdet.checkpoints import CheckpointError
from gmconv_mmdet.pretrained.layouts import bare_backbone, find_backbone, why_superfluous

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


COUNTED = {**NET, 'bn1.num_batches_tracked': torch.tensor(3), 'conv1.sigma': torch.tensor([4.])}
PLACES = [('teacher.', 'student.'), ('student.backbone.', 'teacher.backbone.'),
          ('backbone.', 'backbone.backbone.'), ('', 'teacher.'), ('module.', 'module.ema.')]


@pytest.mark.parametrize('first, second', [*PLACES, *(pair[::-1] for pair in PLACES)])
@pytest.mark.parametrize('lacks', [(), ('bn1.num_batches_tracked', ), ('conv1.sigma', ),
                                   ('bn1.num_batches_tracked', 'conv1.sigma', 'bn1.weight')])
def test_two_networks_are_never_chosen_between_silently(first, second, lacks):
    some = {name: tensor for name, tensor in COUNTED.items() if name not in lacks}
    checkpoint = dict(state_dict={**behind(first, COUNTED), **behind(second, some)})
    with pytest.raises(CheckpointError, match='more than once.*say which with prefix=') as error:
        find_backbone(checkpoint, COUNTED)
    assert repr(first) in str(error.value) and repr(second) in str(error.value)
    for prefix, tensors in ((first, COUNTED), (second, some)):
        found = find_backbone(checkpoint, COUNTED, prefix=prefix)
        assert all(found.source[name] == prefix + name for name in tensors)


def test_without_a_network_to_compare_with_neither():
    for first, second in PLACES[1:3]:
        with pytest.raises(CheckpointError, match='several backbones.*say which with prefix='):
            bare_backbone({**behind(first), **behind(second)})
        found = bare_backbone({**behind(first), **behind(second)}, prefix=second)
        assert set(found.source) == set(NET)
    for prefix in ('', 'module.', 'backbone.', 'module.backbone.', 'backbone.backbone.'):
        found = bare_backbone(dict(state_dict={**behind(prefix), 'head.fc.weight': torch.ones(1)}))
        assert set(found.source) - {'head.fc.weight'} == set(NET)


def test_one_network_needs_no_prefix():
    """Parts of a network look like smaller networks; so do necks and other architectures' parts."""
    blocks = {f'layer{stage}.{block}.{name}': tensor for stage in (1, 2) for block in (0, 1)
              for name, tensor in NET.items()}
    for expected in ({**NET, **blocks}, {f'body.{n}': t for n, t in blocks.items()},
                     {'weight': torch.ones(1), 'a.weight': torch.ones(1),
                      'a.a.weight': torch.ones(1)}):
        for prefix in ('', 'backbone.', 'module.backbone.'):
            checkpoint = {**behind(prefix, expected), 'roi_head.shared_head.conv1.weight':
                          torch.ones(1), 'neck.bn1.weight': torch.ones(1)}
            found = find_backbone(checkpoint, expected)
            assert all(found.source[name] == prefix + name for name in expected)


def test_averaged_weights_come_first_though_they_lack_counters():
    raw = {name: tensor + 1 for name, tensor in COUNTED.items()}
    for container, others in (('state_dict_ema', 'state_dict'), ('model_ema', 'model')):
        for order in ((container, others), (others, container)):
            checkpoint = {name: NET if name == container else raw for name in order}
            found = find_backbone(checkpoint, COUNTED)
            assert found.layout == container
            assert torch.equal(found.tensors['bn1.weight'], NET['bn1.weight'])


def test_nothing():
    with pytest.raises(CheckpointError, match='like a.b, expected are names like conv1.weight'):
        find_backbone({'a.b': torch.ones(1)}, NET)
    with pytest.raises(CheckpointError, match='holds no tensors: its entries are epoch, lr'):
        find_backbone(dict(epoch=3, lr=0.1), NET)
    with pytest.raises(CheckpointError, match='holds no tensors'):
        find_backbone({}, NET)


def test_why_superfluous():
    for head in ('fc.weight', 'classifier.6.bias', 'head.fc.weight', 'last_linear.weight'):
        assert why_superfluous(head, NET) == 'classifier'
    assert why_superfluous('layer2.0.conv1.weight', NET) == 'the network ends after layer1'
    assert why_superfluous('layer1.5.conv1.weight', NET) is None
    assert why_superfluous('conv9.weight', NET) is None
