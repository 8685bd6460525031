"""Fine-tuning: a plain detector's checkpoint of 80 classes in a GM detector of 3."""
import pytest
import torch
from mmdet.registry import MODELS
from mmdet.utils import register_all_modules
from mmengine.config import Config
from mmengine.logging import MMLogger
from mmengine.runner import load_checkpoint

from gmconv_mmdet.checkpoints import CheckpointError
from gmconv_mmdet.layers.find_layers import gm_layers


@pytest.fixture(scope='module')
def plain(tmp_path_factory, repo):
    """A detector that has learned something: its batch norms are not those of the start."""
    register_all_modules()
    torch.manual_seed(0)
    model = MODELS.build(config(repo, 'ResNet', 80)).train()
    with torch.no_grad():
        for _ in range(20):
            model.backbone(torch.randn(2, 3, 96, 128))
    model.eval()
    path = tmp_path_factory.mktemp('zoo') / 'plain.pth'
    torch.save(dict(state_dict=model.state_dict(), meta=dict(dataset_meta=dict(classes=()))), path)
    return model, path


def config(repo, backbone, classes, **more):
    cfg = Config.fromfile(repo / 'configs/deeppcb/faster-rcnn_r18-half-gm_fpn_deeppcb.py')
    cfg.model.backbone.type = backbone
    if backbone == 'ResNet':
        cfg.model.backbone.pop('gm_stem')
    cfg.model.roi_head.bbox_head.num_classes = classes
    cfg.model.update(more)
    return cfg.model


def same_features(model, reference):
    image = torch.randn(2, 3, 96, 128)
    with torch.no_grad():
        for ours, theirs in zip(model.eval().extract_feat(image), reference.extract_feat(image)):
            assert 0 < (ours - theirs).abs().max() <= 1e-4 * theirs.abs().max()


@pytest.mark.slow
@pytest.mark.parametrize('way', ['load_from', 'GMPretrained'])
def test_three_classes_from_eighty(plain, repo, way, tmp_path):
    reference, path = plain
    MMLogger.get_instance('fine-tuning', log_file=str(tmp_path / 'log'))
    init_cfg = dict(type='GMPretrained', checkpoint=str(path)) if way == 'GMPretrained' else None
    model = MODELS.build(config(repo, 'GMResNet', 3, init_cfg=init_cfg))
    assert len(gm_layers(model)) == 17
    model.init_weights()
    if way == 'load_from':
        load_checkpoint(model, str(path), map_location='cpu')
    same_features(model, reference)
    own, theirs = model.state_dict(), reference.state_dict()
    for name in ('rpn_head.rpn_cls.weight', 'roi_head.bbox_head.shared_fcs.0.weight'):
        assert torch.equal(own[name], theirs[name])
    assert own['roi_head.bbox_head.fc_cls.weight'].shape == (4, 256)
    if way == 'GMPretrained':
        said = next(line for line in (tmp_path / 'log').read_text().splitlines()
                    if 'start anew' in line)
        assert 'roi_head.bbox_head.fc_cls.weight' in said and 'backbone' not in said.split('anew: ')[1]


@pytest.mark.slow
def test_backbone_and_neck_must_fit(plain, repo, tmp_path):
    _, path = plain
    state = torch.load(path)['state_dict']
    del state['neck.lateral_convs.0.conv.weight']
    torch.save(dict(state_dict=state), tmp_path / 'without.pth')
    model = MODELS.build(config(repo, 'GMResNet', 3, init_cfg=dict(
        type='GMPretrained', checkpoint=str(tmp_path / 'without.pth'))))
    with pytest.raises(CheckpointError, match='neck.lateral_convs.0.conv.weight'):
        model.init_weights()
    backbone = {name[len('backbone.'):]: t for name, t in state.items() if name.startswith('backbone.')}
    torch.save(dict(state_dict=backbone), tmp_path / 'backbone.pth')
    model = MODELS.build(config(repo, 'GMResNet', 3, init_cfg=dict(
        type='GMPretrained', checkpoint=str(tmp_path / 'backbone.pth'))))
    with pytest.raises(CheckpointError, match='is a whole detector and needs'):
        model.init_weights()


@pytest.mark.slow
def test_the_backbones_own_start_weights_are_not_asked_for(plain, repo, tmp_path):
    """The detector's checkpoint has them all: nothing is downloaded, nothing is called random."""
    reference, path = plain
    MMLogger.get_instance('fine-tuning', log_file=str(tmp_path / 'log'))
    cfg = config(repo, 'GMResNet', 3, init_cfg=dict(type='GMPretrained', checkpoint=str(path)))
    cfg.backbone.update(frozen_stages=1, init_cfg=dict(type='GMPretrained', checkpoint='not there.pth'))
    model = MODELS.build(cfg)
    model.init_weights()
    same_features(model, reference)
    log = (tmp_path / 'log').read_text()
    assert 'random weights' not in log
    assert 'conv1: 1 learn; layer1: 4 learn' in log


def test_a_neck_of_another_shape_may_be_allowed(plain, repo, tmp_path):
    _, path = plain
    init_cfg = dict(type='GMPretrained', checkpoint=str(path), allow=['neck.*'])
    cfg = config(repo, 'GMResNet', 3, init_cfg=init_cfg)
    cfg.neck.out_channels = cfg.rpn_head.in_channels = 16
    cfg.roi_head.bbox_roi_extractor.out_channels = cfg.roi_head.bbox_head.in_channels = 16
    MMLogger.get_instance('fine-tuning', log_file=str(tmp_path / 'log'))
    MODELS.build(cfg).init_weights()
    said = (tmp_path / 'log').read_text().split('start anew: ')[1].splitlines()[0].split(', ')
    assert {'neck.lateral_convs.0.conv.weight', 'rpn_head.rpn_conv.weight',
            'roi_head.bbox_head.fc_cls.weight'} <= set(said)
    assert not any(name.startswith('backbone') for name in said)


@pytest.mark.slow
def test_detectors_that_draw_weights_afterwards(plain, repo):
    """DETR and its kin would overwrite their encoders: MMEngine's own Pretrained loses them in silence."""
    from mmdet.models import FasterRCNN

    class DrawsAfterwards(FasterRCNN):
        def init_weights(self):
            super().init_weights()
            torch.nn.init.zeros_(self.neck.fpn_convs[0].conv.weight)

    cfg = config(repo, 'GMResNet', 3, init_cfg=dict(type='GMPretrained', checkpoint=str(plain[1])))
    cfg.type = DrawsAfterwards
    with pytest.raises(CheckpointError, match=r'DrawsAfterwards.*load_from='):
        MODELS.build(cfg).init_weights()
