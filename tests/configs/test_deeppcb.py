"""configs/deeppcb: the variants of the comparison."""
import pytest
import torch
from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.registry import init_default_scope

from gmconv_mmdet.deploy.plain_config import plain_twin
from gmconv_mmdet.layers import RefConv2d

NAME = 'faster-rcnn_r18-half{}_fpn_deeppcb.py'


@pytest.mark.slow
@pytest.mark.skipif(MODELS.get('RefConvBackbone') is None, reason='no RefConvBackbone')
def test_refconv_starts_as_the_trained_plain_detector(repo, tmp_path):
    """A plain detector's file, loaded as mmdet's load_from does, becomes the basis of every RefConv
    and all other weights; the plain twin is the detector of the comparison."""
    from mmengine.runner import load_checkpoint
    init_default_scope('mmdet')
    cfg = Config.fromfile(repo / 'configs' / 'deeppcb' / NAME.format('-refconv'))
    base = Config.fromfile(repo / 'configs' / 'deeppcb' / '_base_' / NAME.format(''))
    twin = plain_twin(cfg)
    assert twin.model == base.model and cfg.train_cfg == base.train_cfg
    plain = MODELS.build(twin.model)
    torch.save(dict(state_dict=plain.state_dict(), meta={}), tmp_path / 'epoch_8.pth')
    detector = MODELS.build(cfg.model)
    detector.init_weights()
    load_checkpoint(detector, str(tmp_path / 'epoch_8.pth'), map_location='cpu')
    trained, state = plain.state_dict(), detector.state_dict()
    layers = [layer for layer in detector.modules() if isinstance(layer, RefConv2d)]
    assert len(layers) == 17 and all(layer.basis_loaded for layer in layers)
    assert all(torch.equal(state[name], tensor) for name, tensor in trained.items())
    assert {name.rpartition('convmap')[2] for name in state.keys() - trained.keys()} == {'.weight'}
