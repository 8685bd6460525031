"""Training in two real processes (gloo, CPU) against one process with the joint batch."""
import json
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.nn as nn
from mmengine.model import convert_sync_batchnorm, revert_sync_batchnorm

from gmconv_mmdet.backbones import GMResNet
from gmconv_mmdet.layers.find_layers import gm_layers

from ..processes import torchrun

NETWORKS = ('static', 'dynamic stem', 'dynamic stem, sigma pair', 'dynamic stem and body',
            'DCN hybrid', 'frozen stem and L1, their masks learn', 'RefConv',
            'checkpointed activations')


@pytest.fixture(scope='module')
def results(tmp_path_factory):
    out = tmp_path_factory.mktemp('two') / 'results.json'
    torchrun(Path(__file__).with_name('train_in_two.py'), out)
    found = json.loads(out.read_text())
    assert set(found) == set(NETWORKS)
    return found


@pytest.mark.slow
@pytest.mark.parametrize('network', NETWORKS)
def test_two_processes_train_as_one_with_the_joint_batch(results, network):
    result = results[network]
    assert result['ranks_differ_by'] == 0  # all ranks hold the same weights, to the last bit
    assert max(result['loss'], result['gradients'], result['weights']) < 1e-10, result
    assert result['our_gradients'] and not result['vanishing']  # masks and maps took part


@pytest.fixture
def group_of_one():
    """mmcv's SyncBN asks for its process group when it is built."""
    dist.init_process_group('gloo', store=dist.HashStore(), rank=0, world_size=1)
    yield
    dist.destroy_process_group()


@pytest.mark.parametrize('convert', [
    nn.SyncBatchNorm.convert_sync_batchnorm,
    lambda model: convert_sync_batchnorm(model, 'torch'),
    lambda model: convert_sync_batchnorm(model, 'mmcv'),
], ids=['torch', 'mmengine', 'mmcv'])
def test_sync_bn_conversion_keeps_masks(convert, group_of_one):
    torch.manual_seed(0)
    net = GMResNet(18, base_channels=8, norm_eval=False, frozen_stages=-1).eval()
    images = torch.randn(2, 3, 64, 64)
    before, outputs = gm_layers(net), net(images)
    keys = list(net.state_dict())
    converted = convert(net)
    assert not any(type(module) is nn.BatchNorm2d for module in converted.modules())
    assert gm_layers(converted) == before  # the very same layers under the same names
    assert list(converted.state_dict()) == keys
    back = revert_sync_batchnorm(converted).eval()  # in eval mode no SyncBN synchronises
    assert gm_layers(back) == before
    for a, b in zip(back(images), outputs):
        torch.testing.assert_close(a, b, rtol=0, atol=0)
