"""configs/segmentation with mmsegmentation: a few steps on drawn images, folded into the stock segmentor."""
from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope
from mmengine.runner import Runner

from gmconv_mmdet import GMConv2d, RefConv2d, fold_gmconv

from ..networks import on_one_process

cv2 = pytest.importorskip('cv2')
try:
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        import mmseg.datasets
        import mmseg.models  # noqa: F401
except Exception as error:  # mmsegmentation asserts versions of mmcv and needs ftfy
    pytest.skip(f'mmsegmentation does not work here ({type(error).__name__}: {error}); '
                'pip install mmsegmentation ftfy regex', allow_module_level=True)

FOLDER = Path(__file__).resolve().parents[2] / 'configs' / 'segmentation'
NAME = 'deeplabv3plus_r18-d8-{}_4xb2-80k_cityscapes-512x1024.py'
BASE = 'mmseg::deeplabv3plus/deeplabv3plus_r18-d8_4xb2-80k_cityscapes-512x1024.py'
SIDE = 64


@pytest.fixture(scope='module')
def drawn(tmp_path_factory) -> Path:
    """Eight images of a bright rectangle on dark noise, and which of their pixels it covers."""
    folder = tmp_path_factory.mktemp('drawn')
    generator = np.random.RandomState(0)
    for kind in ('images', 'labels'):
        (folder / kind).mkdir()
    for number in range(8):
        image = generator.randint(0, 80, (SIDE, SIDE, 3), dtype=np.uint8)
        label = np.zeros((SIDE, SIDE), np.uint8)
        top, left = generator.randint(4, 28, 2)
        image[top:top + 30, left:left + 30] += 120
        label[top:top + 30, left:left + 30] = 1
        cv2.imwrite(str(folder / f'images/{number}.png'), image)
        cv2.imwrite(str(folder / f'labels/{number}.png'), label)
    return folder


def plain_segmentor():
    """The base config's network, with batch norms that fit its weights."""
    torch.manual_seed(0)
    model = MODELS.build(stock_config())
    model.init_weights()
    with torch.no_grad():
        for _ in range(5):
            model.train()(torch.randn(2, 3, SIDE, SIDE))
    return model.eval()


def stock_config():
    init_default_scope('mmseg')
    base = Config.fromstring(f"_base_ = '{BASE}'", '.py')
    return narrow(base).model


def narrow(cfg: Config) -> Config:
    """SyncBN as MMEngine's runner makes it on one process, no start weights from the internet."""
    cfg.model.pretrained = None
    on_one_process(cfg.model)
    return cfg


def two_classes(model: dict) -> dict:
    for head in (model.decode_head, model.auxiliary_head):
        head.num_classes = 2
    return model


def on_drawn_images(cfg: Config, drawn: Path) -> Config:
    size = (SIDE, SIDE)
    image, labels = dict(type='LoadImageFromFile'), dict(type='LoadAnnotations')
    data = dict(type='BaseSegDataset', data_root=str(drawn), img_suffix='.png',
                data_prefix=dict(img_path='images', seg_map_path='labels'),
                metainfo=dict(classes=('ground', 'box'), palette=[[0, 0, 0], [255, 255, 255]]))
    cfg.model.data_preprocessor.size = size
    two_classes(cfg.model)
    loader = dict(num_workers=0, persistent_workers=False)
    cfg.train_dataloader = dict(
        batch_size=4, sampler=dict(type='InfiniteSampler'), **loader,
        dataset=dict(pipeline=[image, labels, dict(type='PackSegInputs')], **data))
    cfg.val_dataloader = cfg.test_dataloader = dict(
        batch_size=1, sampler=dict(type='DefaultSampler', shuffle=False), **loader,
        dataset=dict(pipeline=[image, labels, dict(type='PackSegInputs')], **data))
    cfg.train_cfg = dict(type='IterBasedTrainLoop', max_iters=3, val_interval=3)
    cfg.default_hooks.logger.interval = 1
    return cfg


@pytest.mark.slow
@pytest.mark.parametrize('kind', ['sgm', 'refconv'])
def test_trains_evaluates_and_folds_into_the_stock_segmentor(kind, drawn, tmp_path):
    cfg = on_drawn_images(narrow(Config.fromfile(FOLDER / NAME.format(kind))), drawn)
    cfg.work_dir, cfg.experiment_name = str(tmp_path), f'segmentation-{kind}'
    plain = plain_segmentor()
    torch.save(dict(state_dict=plain.state_dict(), meta={}), tmp_path / 'plain.pth')
    if kind == 'refconv':
        cfg.load_from = str(tmp_path / 'plain.pth')
    else:
        cfg.model.backbone.init_cfg.checkpoint = str(tmp_path / 'plain.pth')
    runner = Runner.from_cfg(cfg)
    segmentor = runner.train()
    layers = [layer for layer in segmentor.backbone.modules() if isinstance(layer, (GMConv2d, RefConv2d))]
    larger = [layer for layer in plain.backbone.modules()
              if isinstance(layer, torch.nn.Conv2d) and layer.kernel_size != (1, 1)]
    assert len(layers) == len(larger) == 19
    learned = [layer.sigma if kind == 'sgm' else layer.convmap.weight for layer in layers]
    momentum = runner.optim_wrapper.optimizer.state
    assert all(momentum[tensor]['momentum_buffer'].any() and torch.isfinite(tensor).all()
               for tensor in learned)
    assert 0 <= runner.val_loop.run()['mIoU'] <= 100

    stock_cfg = two_classes(stock_config())
    stock = MODELS.build(stock_cfg).eval()
    stock.load_state_dict(fold_gmconv(segmentor).state_dict(), strict=True)
    image = torch.randn(2, 3, SIDE, SIDE)
    with torch.no_grad():
        ours, theirs = segmentor.eval()(image), stock(image)
    assert 0 < theirs.abs().max() and (ours - theirs).abs().max() <= 1e-5 * theirs.abs().max()


@pytest.mark.parametrize('kind', ['sgm', 'refconv'])
def test_is_one_base_and_its_difference(kind):
    cfg = Config.fromfile(FOLDER / NAME.format(kind))
    assert cfg.default_scope == 'mmseg' and cfg.model.pretrained is None
    assert cfg.train_cfg.max_iters == 80000
