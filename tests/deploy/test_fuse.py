"""tools/deployment/fuse.py and what is behind it, on whole detectors; the result in a process of stock
mmdet."""
import os
import subprocess
import sys

import pytest
import torch
from mmengine.config import Config

from gmconv_mmdet.checkpoints import CheckpointError
from gmconv_mmdet.deploy.fuse import FuseError, fuse
from gmconv_mmdet.deploy.trained_detector import trained_detector

from ..networks import difference
from ..processes import run_tool
from .small_detectors import same_features, write_detector

STOCK = '''
import sys
sys.modules['gmconv_mmdet'] = None  # an import would fail
import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmengine.runner import load_checkpoint
from mmdet.registry import MODELS
from mmdet.models.backbones import ResNet

config, checkpoint, images, out = sys.argv[1:]
init_default_scope('mmdet')
model = MODELS.build(Config.fromfile(config).model)
load_checkpoint(model, checkpoint, map_location='cpu')
model.eval()
assert type(model.backbone) is ResNet
with torch.no_grad():
    torch.save(list(model.extract_feat(torch.load(images))), out)
assert not [name for name, module in sys.modules.items() if name.startswith('gmconv') and module]
'''


@pytest.fixture
def coco128(shared_data):
    return str(shared_data / 'coco128/annotations/instances_val.json'), next(
        str(path) for path in sorted((shared_data / 'coco128').rglob('*')) if path.is_dir()
        and any(path.glob('*.jpg')))


@pytest.mark.slow
def test_static_detector_runs_in_stock_mmdet(tmp_path):
    config, checkpoint, model = write_detector(tmp_path, gm_stem='static')
    report = fuse(config, checkpoint, tmp_path / 'folded' / 'detector')
    assert len(report.folded) == 17 and not report.left and not report.needs_package
    assert report.difference < 1e-5
    assert 'gmconv' not in report.config.read_text() and 'GM' not in report.config.read_text()
    images = torch.randn(2, 3, 96, 128, generator=torch.Generator().manual_seed(5))
    torch.save(images, tmp_path / 'images.pt')
    environment = {key: value for key, value in os.environ.items() if key != 'PYTHONPATH'}
    subprocess.run([sys.executable, '-c', STOCK, report.config, report.checkpoint,
                    tmp_path / 'images.pt', tmp_path / 'features.pt'],
                   check=True, cwd=tmp_path, env=environment)
    with torch.no_grad():
        expected = model.extract_feat(images)
    assert difference(torch.load(tmp_path / 'features.pt'), expected) <= 1e-4


@pytest.mark.slow
@pytest.mark.parametrize('options, left', [
    (dict(), {'backbone.conv1': 'dynamic GMConv'}),
    (dict(deep_stem=True), {'backbone.stem.0': 'dynamic GMConv', 'backbone.stem.3': 'static GMConv',
                            'backbone.stem.6': 'static GMConv'}),
])
def test_dynamic_stem_stays(tmp_path, options, left):
    config, checkpoint, model = write_detector(tmp_path, **options)
    report = fuse(config, checkpoint, tmp_path / 'folded.pth')
    assert len(report.folded) == 16 and report.left == left and not report.averaged
    assert report.needs_package == ['GMResNet'] and report.checkpoint == tmp_path / 'folded.pth'
    backbone = Config.fromfile(report.config).model.backbone
    assert backbone.type == 'GMResNet' and not any(backbone.gm_stages)
    cfg, folded, meta = trained_detector(report.config, report.checkpoint)
    assert cfg.custom_imports.imports == ['gmconv_mmdet'] and cfg.get('custom_hooks') == []
    assert meta['dataset_meta']['classes'] == ('person', )
    same_features(folded, model, 1e-5)
    assert 'left as it is: 1 dynamic GMConv' in report.text()


@pytest.mark.slow
def test_dcn_hybrid(tmp_path):
    config, checkpoint, _ = write_detector(
        tmp_path, depth=50, gm_stem='static', gm_stages=(True, False, False, False),
        dcn=dict(type='DCNv2', deform_groups=1, fallback_on_stride=False),
        stage_with_dcn=(False, True, True, True))
    report = fuse(config, checkpoint, tmp_path / 'folded')
    assert len(report.folded) == 4 and not report.needs_package
    assert list(report.left.values()) == ['ModulatedDeformConv2dPack'] * 13
    assert '13 ModulatedDeformConv2dPack' in report.text()


@pytest.mark.slow
def test_refocused_detector(tmp_path):
    config, checkpoint, model = write_detector(tmp_path, type='RefConvBackbone', backbone=dict(
        type='ResNet', depth=18, base_channels=8))
    report = fuse(config, checkpoint, tmp_path / 'folded')
    assert 'folded exactly: 17 RefConv' in report.text()
    assert not report.left and not report.needs_package
    assert Config.fromfile(report.config).model.backbone.type == 'ResNet'
    cfg, folded, _ = trained_detector(report.config, report.checkpoint)
    same_features(folded, model, 1e-5)
    with pytest.raises(FuseError, match='no static GMConv or RefConv to fold'):
        fuse(report.config, report.checkpoint, tmp_path / 'again')


@pytest.mark.slow
def test_refusals(tmp_path):
    config, checkpoint, model = write_detector(tmp_path, gm_stem='static')
    with pytest.raises(FuseError, match='average stem needs calibration images'):
        fuse(config, checkpoint, tmp_path / 'a', stem='average')
    with pytest.raises(FuseError, match="stem must be one of .*'mean'"):
        fuse(config, checkpoint, tmp_path / 'a', stem='mean')
    with pytest.raises(FileNotFoundError, match='no calibration data at .*nowhere'):
        fuse(config, checkpoint, tmp_path / 'a', calib=(tmp_path / 'nowhere', tmp_path))
    (tmp_path / 'a.py').write_text('# mine')
    with pytest.raises(FuseError, match=r'a\.py exists; --force'):
        fuse(config, checkpoint, tmp_path / 'a')
    assert (tmp_path / 'a.py').read_text() == '# mine' and not (tmp_path / 'a.pth').exists()
    report = fuse(config, checkpoint, tmp_path / 'a', force=True)
    assert (tmp_path / 'a.py').read_text() != '# mine'
    with pytest.raises(FuseError, match='no static GMConv or RefConv to fold'):
        fuse(report.config, report.checkpoint, tmp_path / 'b')
    state = model.state_dict()
    for value, error, says in ((float('nan'), CheckpointError, 'NaN or infinite values: backbone'),
                               (3e38, FuseError, 'nothing was written')):
        state['backbone.layer4.0.conv1.weight'].fill_(value)
        torch.save(dict(state_dict=state), tmp_path / 'broken.pth')
        with pytest.raises(error, match=says):
            fuse(config, tmp_path / 'broken.pth', tmp_path / 'b')
    del state['backbone.layer4.0.conv1.weight']
    torch.save(dict(state_dict=state), tmp_path / 'broken.pth')
    with pytest.raises(CheckpointError, match='does not hold this config'):
        fuse(config, tmp_path / 'broken.pth', tmp_path / 'b')
    assert not list(tmp_path.glob('b.*')) and not list(tmp_path.glob('.*'))


@pytest.mark.slow
@pytest.mark.parametrize('stem', ['dynamic', pytest.param('static', marks=pytest.mark.nightly)])
def test_metrics_are_the_same_on_real_images(tmp_path, coco128, stem):
    config, checkpoint, _ = write_detector(tmp_path, gm_stem=stem)
    report = fuse(config, checkpoint, tmp_path / 'folded', calib=coco128)
    assert report.before['bbox AR1000'] > 0.01  # untrained boxes find a person here and there
    assert set(report.before) == set(report.after) and len(report.before) == 12
    assert all(abs(report.after[name] - value) < 5e-5 for name, value in report.before.items())


@pytest.mark.slow
def test_average_stem(tmp_path, coco128):
    config, checkpoint, model = write_detector(tmp_path)
    report = fuse(config, checkpoint, tmp_path / 'folded', stem='average', calib=coco128)
    assert not report.needs_package and len(report.folded) == 16 and not report.left
    sigmas = report.averaged['backbone.conv1']
    assert len(report.average_difference) == len(sigmas) == 32
    assert sigmas.shape[1] == 2 and (sigmas > 0).all() and sigmas.std() > 0
    assert max(report.average_difference) > 1e-4
    text = report.text()
    assert 'APPROXIMATED backbone.conv1' in text and 'bbox AP50' in text and 'stock mmdet' in text
    _, folded, _ = trained_detector(report.config, report.checkpoint)
    conv = folded.backbone.conv1
    assert type(conv) is torch.nn.Conv2d
    s1, s2 = sigmas.double().mean(0)
    x = torch.arange(7.) - 3
    mask = torch.exp(-(x ** 2 / s1 ** 2)[None, :] / 2 - (x ** 2 / s2 ** 2)[:, None] / 2)
    torch.testing.assert_close(conv.weight, (model.backbone.conv1.weight.detach() * mask).float())


@pytest.mark.slow
def test_command_line(tmp_path):
    config, checkpoint, _ = write_detector(tmp_path, gm_stem='static')
    command = 'deployment/fuse.py', config, checkpoint, tmp_path / 'out'
    done = run_tool(*command)
    assert done.returncode == 0, done.stderr
    assert 'folded exactly: 17 static GMConv' in done.stdout
    assert f'written: {tmp_path / "out.pth"}' in done.stdout
    again = run_tool(*command)
    assert again.returncode == 1 and again.stderr.startswith('fuse: ') and '--force' in again.stderr
