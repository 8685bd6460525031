import pytest
from mmengine.config import Config

from gmconv_mmdet.openmmlab.configured_size import configured_scale, configured_size

from ..detector_config import detector

PIPELINES = [
    (dict(type='Resize', scale=(1333, 800), keep_ratio=True), 32, ((1333, 800), True), (800, 1344)),
    (dict(type='mmdet.FixShapeResize', scale=(300, 200)), 1, ((300, 200), False), (200, 300)),
    (dict(type='CenterCrop', crop_size=224), 1, ((224, 224), False), (224, 224)),
    (dict(type='TestTimeAug',
          transforms=[[dict(type='Resize', scale=(640, 640), keep_ratio=True)]]),
     32, ((640, 640), True), (640, 640)),
    (dict(type='Resize', scale_factor=1.0), 1, ((511, 500), False), (500, 511))]


@pytest.mark.parametrize('step, divisor, scale, size', PIPELINES)
def test_size_from_the_test_pipeline(step, divisor, scale, size):
    model = detector()
    model['data_preprocessor']['pad_size_divisor'] = divisor
    # The training pipeline's crop counts only where the test pipeline names no size.
    train = [dict(type='Resize', scale=9), dict(type='RandomCrop', crop_size=(511, 500))]
    cfg = Config(dict(model=model, train_pipeline=train, test_dataloader=dict(dataset=dict(
        type='RepeatDataset', dataset=dict(pipeline=[dict(type='LoadImageFromFile'), step])))))
    assert configured_scale(cfg) == scale
    assert configured_size(cfg) == size


def test_pipeline_on_the_top_level():
    cfg = Config(dict(model=dict(detector()), test_pipeline=[dict(PIPELINES[0][0])]))
    assert configured_size(cfg) == (800, 1344)


def test_no_size():
    cfg = Config(dict(model=detector(), test_pipeline=[dict(type='LoadImageFromFile')]))
    assert configured_scale(cfg) is None and configured_size(cfg) is None


def test_last_step_counts():
    cfg = Config(dict(model=dict(backbone={}), test_pipeline=[
        dict(type='ResizeEdge', scale=256), dict(type='CenterCrop', crop_size=224)]))
    assert configured_size(cfg) == (224, 224)
