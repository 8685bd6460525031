import pytest
import torch
from mmengine.config import Config

from gmconv_mmdet.visualization.measured_model import (
    RANDOM,
    feature_maps,
    load_model,
    model_labels,
    stride_of,
)

NET = """
model = dict(type='FasterRCNN', backbone=dict(
    type='{backbone}', depth=18, base_channels=4, out_indices={indices},
    init_cfg=dict(type='Pretrained', checkpoint='https://localhost/none.pth')),
    {neck}data_preprocessor=dict(type='DetDataPreprocessor'))
"""
FPN = """neck=dict(type='FPN', in_channels={channels}, out_channels=4, num_outs=5,
    start_level={start}, add_extra_convs={extra!r}), """


def write(path, backbone='ResNet', indices=(0, 1, 2, 3), neck=''):
    path.write_text(NET.format(backbone=backbone, indices=indices, neck=neck))
    return str(path)


@pytest.mark.parametrize('configs, checkpoints, labels', [
    (['x/a_b.py', 'b.py'], [None, 'x.pth'], ['a_b', 'b']),
    (['f.py', 'f.py'], [None, 'w/epoch_9.pth'], ['f, random', 'f, epoch_9'])])
def test_labels(configs, checkpoints, labels):
    assert model_labels(configs, checkpoints) == labels


def test_random_weights_are_the_same_in_every_call_and_across_structures(tmp_path):
    fpn = FPN.format(channels=[4, 8, 16, 32], start=0, extra=False)
    plain = write(tmp_path / 'plain.py', neck=fpn)
    masked = write(tmp_path / 'gm.py', 'GMResNet')
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    first, second = load_model(plain), load_model(plain, label='mine')
    assert torch.equal(torch.rand(3), expected)  # the caller's generator is as it was
    assert (first.label, second.label, first.weights) == ('plain', 'mine', RANDOM)
    assert first.key == second.key
    assert load_model(masked).key != first.key
    weights = load_model(masked).network.state_dict()
    for name, value in first.network.state_dict().items():
        assert torch.equal(value, second.network.state_dict()[name])
        if name.startswith('backbone'):
            assert torch.equal(value, weights[name])
    convs = [m for m in first.network.modules() if isinstance(m, torch.nn.Conv2d)]
    assert len({float(m.weight.flatten()[0]) for m in convs}) == len(convs)
    for conv in convs:  # uniform, as PyTorch's own
        assert conv.weight.abs().max() <= (conv.weight[0].numel())**-0.5
    assert not first.network.training
    assert not any(p.requires_grad for p in first.network.parameters())


def test_checkpoint(tmp_path):
    config = write(tmp_path / 'net.py', 'GMResNet')
    network = load_model(config).network
    state = {key: value + 1 for key, value in network.state_dict().items()}
    torch.save(dict(state_dict=state), tmp_path / 'all.pth')
    del state['backbone.layer1.0.conv1.sigma']
    torch.save(dict(state_dict=state), tmp_path / 'plain.pth')
    loaded = load_model(config, str(tmp_path / 'all.pth'))
    assert loaded.weights == 'weights of all.pth' and loaded.key != load_model(config).key
    assert loaded.network.backbone.layer1[0].conv1.sigma.item() == 6
    partial = load_model(config, str(tmp_path / 'plain.pth'))
    assert partial.weights == (f'weights of plain.pth, {len(state)} of {len(state) + 1} tensors, '
                               'the others random')


@pytest.mark.parametrize('indices, neck, names', [
    ((0, 1, 2, 3), '', 'C2 C3 C4 C5'), ((1, 3), '', 'C3 C5'),
    ((0, 1, 2, 3), FPN.format(channels=[4, 8, 16, 32], start=0, extra=False),
     'C2 C3 C4 C5 P2 P3 P4 P5 P6'),
    ((0, 1, 2, 3), FPN.format(channels=[4, 8, 16, 32], start=1, extra='on_output'),
     'C2 C3 C4 C5 P3 P4 P5 P6 P7'),
    ((3, ), "neck=dict(type='mmpretrain.GlobalAveragePooling'), ", 'C5')])
def test_names_of_maps(tmp_path, indices, neck, names):
    model = load_model(write(tmp_path / 'net.py', indices=indices, neck=neck))
    image = torch.zeros(1, 3, 128, 160)
    maps = feature_maps(model.network, image)
    assert ' '.join(maps) == names
    assert [stride_of(feature, image) for feature in maps.values()] == [2**int(n[1:]) for n in maps]


def test_a_network_without_maps(tmp_path):
    config = write(tmp_path / 'net.py')
    cfg = Config.fromfile(config)
    cfg.model.backbone = dict(type='mmpretrain.LeNet5', num_classes=10)
    cfg.dump(config)
    with pytest.raises(ValueError, match=r'need feature maps \(N, C, H, W\).*\(10,\)'):
        feature_maps(load_model(config).network, torch.zeros(1, 1, 32, 32))
