import copy

import pytest
import torch
from mmengine.registry import MODELS, init_default_scope

from gmconv_mmdet.backbones import edited  # noqa: F401, registers

RESNET = dict(type='ResNet', depth=18, base_channels=8)


@pytest.fixture(autouse=True)
def mmdet_scope():
    init_default_scope('mmdet')


def build(edits, backbone=RESNET):
    return MODELS.build(dict(type='EditedBackbone', backbone=copy.deepcopy(backbone), edits=edits))


def test_small_image_stem():
    model = build(dict(conv1=dict(kernel_size=3, stride=1), maxpool=None))
    plain = MODELS.build(copy.deepcopy(RESNET))
    assert type(model) is type(plain)
    assert model.state_dict().keys() == plain.state_dict().keys()
    assert model.conv1.weight.shape == (8, 3, 3, 3) and model.conv1.padding == (1, 1)
    assert [tuple(f.shape[2:]) for f in model(torch.randn(1, 3, 32, 24))] == [
        (32, 24), (16, 12), (8, 6), (4, 3)]


def test_new_weights_learn_where_the_stem_was_frozen():
    model = build(dict(conv1=dict(kernel_size=(3, 5))), dict(RESNET, frozen_stages=1))
    assert model.conv1.weight.shape[2:] == (3, 5) and model.conv1.padding == (1, 2)
    assert model.conv1.weight.requires_grad
    assert not model.layer1[0].conv1.weight.requires_grad


def test_pretrained_weights_fit_all_but_the_new_stem(tmp_path):
    """The stem keeps its own start, everything else is loaded."""
    donor = MODELS.build(copy.deepcopy(RESNET))
    torch.save(donor.state_dict(), tmp_path / 'resnet.pth')
    model = build(dict(conv1=dict(kernel_size=3)), dict(
        RESNET, init_cfg=dict(type='Pretrained', checkpoint=str(tmp_path / 'resnet.pth'))))
    model.init_weights()
    assert torch.equal(model.layer1[0].conv1.weight, donor.layer1[0].conv1.weight)
    assert model.conv1.weight.shape[2:] == (3, 3) and torch.isfinite(model.conv1.weight).all()


def test_errors_are_those_of_the_edit():
    with pytest.raises(ValueError, match="ResNet has no layer 'conv9'"):
        build(dict(conv9=None))
