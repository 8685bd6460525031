"""Plain checkpoints to GM ones: any placement, the same function, nothing overwritten."""
import pytest
import torch
from mmengine.config import Config

from gmconv_mmdet.checkpoints import CheckpointError
from gmconv_mmdet.deploy.plain_to_gm import plain_to_gm
from gmconv_mmdet.deploy.trained_detector import new_detector, trained_detector

from ..processes import run_tool
from .small_detectors import same_features, write_detector


@pytest.fixture(scope='module')
def plain(tmp_path_factory):
    folder = tmp_path_factory.mktemp('plain')
    return write_detector(folder, type='ResNet')


def gm_config(plain, folder, model):
    path = folder / 'gm.py'
    path.write_text(f"_base_ = {str(plain[0])!r}\nmodel = {model!r}\n")
    return path


def drop_in(**arguments):
    return dict(backbone=dict(type='GMBackbone', base='ResNet', **arguments))


@pytest.mark.slow
@pytest.mark.parametrize('model, placed', [
    (drop_in(), {'conv1': 'dynamic', 'layer2.0.conv1': 'static', 'layer4.1.conv2': 'static'}),
    (drop_in(gm_stem='static', gm_body=['layer[23]'], gm_cfg=dict(init_sigma=2)),
     {'conv1': 'static', 'layer2.0.conv1': 'static'}),
    (dict(drop_in(gm_stem=None, gm_body=None), neck=dict(conv_cfg=dict(type='GMConv'))), {}),
    (dict(backbone=dict(type='GMResNet', gm_stages=(False, True, False, False))),
     {'conv1': 'dynamic', 'layer2.0.conv1': 'static'})])
def test_any_placement(plain, tmp_path, model, placed):
    config = gm_config(plain, tmp_path, model)
    done = plain_to_gm(config, plain[1], tmp_path / 'gm.pth')
    assert done.difference < 1e-4 and not done.as_they_were and not done.left_out
    assert placed.items() <= {name[len('backbone.'):]: kind for name, kind in done.placement.items()
                              }.items()
    if 'neck' in model:
        assert list(done.placement) == [f'neck.fpn_convs.{i}.conv' for i in range(4)]
    _, converted, meta = trained_detector(config, done.path)  # strictly
    same_features(converted, plain[2].eval())
    assert meta['placement'] == done.placement and meta['dataset_meta'] == dict(classes=('person', ))


def test_heads_of_another_shape_are_kept_as_they_are(plain, tmp_path):
    config = gm_config(plain, tmp_path, dict(drop_in(), roi_head=dict(bbox_head=dict(num_classes=3))))
    done = plain_to_gm(config, plain[1], tmp_path / 'gm.pth')
    heads = ['fc_cls.weight', 'fc_cls.bias', 'fc_reg.weight', 'fc_reg.bias']
    assert sorted(done.as_they_were) == sorted(f'roi_head.bbox_head.{head}' for head in heads)
    state = torch.load(done.path)['state_dict']
    for name in done.as_they_were:
        assert torch.equal(state[name], plain[2].state_dict()[name])


def test_a_backbone(plain, tmp_path):
    torch.save({f'module.{name}': tensor for name, tensor in plain[2].backbone.state_dict().items()},
               tmp_path / 'backbone.pth')
    config = gm_config(plain, tmp_path, drop_in(gm_body=['layer1']))
    with pytest.raises(CheckpointError, match='whole detector and needs a detector'):
        plain_to_gm(config, tmp_path / 'backbone.pth', tmp_path / 'gm.pth')
    done = plain_to_gm(config, tmp_path / 'backbone.pth', tmp_path / 'gm.pth', backbone_only=True)
    model = new_detector(Config.fromfile(config))
    model.backbone.load_state_dict(torch.load(done.path)['state_dict'])
    model.neck.load_state_dict(plain[2].neck.state_dict())
    model.eval()
    same_features(model, plain[2].eval())
    assert list(done.placement)[0] == 'conv1'


@pytest.mark.parametrize('model, says', [
    ({}, 'has no GMConv or RefConv: there is nothing'),
    (dict(backbone=dict(_delete_=True, type='RefConvBackbone', backbone=dict(
        type='ResNet', depth=18, base_channels=8))), "feature maps differ by .*unless init='identity'"),
    (drop_in(base_channels=16), 'does not fit FasterRCNN')])
def test_errors_write_nothing(plain, tmp_path, model, says):
    config = gm_config(plain, tmp_path, model)
    with pytest.raises(CheckpointError, match=says):
        plain_to_gm(config, plain[1], tmp_path / 'gm.pth')
    assert list(tmp_path.iterdir()) == [config]


def test_masks_that_depend_on_the_image_are_refused(plain, tmp_path):
    config = gm_config(plain, tmp_path, drop_in())
    gm = plain_to_gm(config, plain[1], tmp_path / 'gm.pth').path
    content = torch.load(gm)
    content['state_dict']['backbone.conv1.sigma_predictor.w1'] += 0.1
    torch.save(content, gm)
    with pytest.raises(CheckpointError, match='no plain network.*convert_backbone.py'):
        plain_to_gm(config, gm, tmp_path / 'again.pth')


@pytest.mark.slow
def test_tool(plain, tmp_path):
    config, out = gm_config(plain, tmp_path, drop_in(gm_body=['layer1'])), tmp_path / 'to' / 'gm.pth'
    done = run_tool('model_converters/plain_to_gm.py', config, plain[1], '--out', out)
    assert done.returncode == 0, done.stderr
    assert 'layers: 1 dynamic, 4 static\n' in done.stdout and f'written: {out}' in done.stdout
    before = out.read_bytes()
    with pytest.raises(FileExistsError, match='gm.pth exists; --force replaces it'):
        plain_to_gm(config, plain[1], out)
    assert out.read_bytes() == before and [path.name for path in out.parent.iterdir()] == ['gm.pth']
