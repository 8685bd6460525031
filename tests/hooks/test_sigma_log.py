"""The hook in real training runs of MMEngine's Runner, read back from the files that it leaves."""
import csv
import logging
from pathlib import Path

import pytest
import torch
import torch.nn as nn
from mmengine.model import BaseModel
from mmengine.optim import OptimWrapper
from mmengine.runner import Runner
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch.utils.data import DataLoader

from gmconv_mmdet import GMConv2d, SigmaLogHook
from gmconv_mmdet.layers.masked_kernel import masked_extent


class Model(BaseModel):
    """A dynamic and a static mask, or, ``masked=False``, none."""

    def __init__(self, masked=True):
        super().__init__()
        kind = GMConv2d if masked else lambda *args, dynamic, **kwargs: nn.Conv2d(*args, **kwargs)
        self.stem = kind(3, 4, 7, padding=3, dynamic=True)
        self.body = kind(4, 2, 3, padding=1, dynamic=False)
        self.point = nn.Conv2d(2, 2, 1)
        if masked:
            nn.init.normal_(self.stem.sigma_predictor.w1, std=0.1)

    def forward(self, images, mode='loss'):
        out = self.point(self.body(self.stem(images)))
        return dict(loss=out.square().mean())

    def train_step(self, data, optim_wrapper):
        self.batch = data
        return super().train_step(data, optim_wrapper)


class Listener(logging.Handler):
    def __init__(self):
        super().__init__(logging.WARNING)
        self.said = []

    def emit(self, record):
        if record.getMessage().startswith('SigmaLogHook'):
            self.said.append(record.getMessage())


class WatchedHook(SigmaLogHook):
    """Notes what the model held when the numbers were taken."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.truth = {}

    def after_train_iter(self, runner, *args, **kwargs):
        model = runner.model
        if not hasattr(self, 'watching'):
            self.watching = []
        self.watching.append(bool(model.stem.sigma_predictor._forward_hooks))
        if (runner.iter + 1) % self.interval == 0:
            self.truth[runner.iter + 1] = abs(model.body.sigma.item())
        super().after_train_iter(runner, *args, **kwargs)


def batch(images):
    return dict(images=torch.stack(images))


def train(folder: Path, hook, model=None, iterations=6, lr=0.05, wrapper=OptimWrapper, listen=None,
          resume=False, checkpoint=None, **options):
    torch.manual_seed(0)
    model = model or Model()
    runner = Runner(
        model, work_dir=str(folder), experiment_name=f'sigma_log_{folder.name}',
        train_dataloader=DataLoader(torch.randn(24, 3, 16, 16), batch_size=4, collate_fn=batch),
        train_cfg=dict(by_epoch=False, max_iters=iterations),
        optim_wrapper=wrapper(torch.optim.SGD(model.parameters(), lr=lr, **options)),
        visualizer=dict(type='Visualizer', name=f'sigma_log_{folder.name}', vis_backends=[
            dict(type='LocalVisBackend'), dict(type='TensorboardVisBackend')]),
        default_hooks=dict(checkpoint=checkpoint), custom_hooks=[hook], log_level='WARNING',
        resume=resume)
    if listen is not None:
        runner.logger.addHandler(listen)
    runner.train()
    runner.visualizer.close()
    return runner


def tensorboard(folder: Path):
    """tag -> step -> value, from the event file."""
    event_file, = folder.rglob('events.out.tfevents.*')
    events = EventAccumulator(str(event_file))
    events.Reload()
    return {tag: {s.step: s.value for s in events.Scalars(tag)} for tag in events.Tags()['scalars']}


@pytest.fixture(scope='module')
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp('run')
    hook = WatchedHook(interval=2)
    return folder, hook, train(folder, hook)


TAGS = ['sigma_x/stem', 'sigma_y/stem', 'effective_kernel/stem', 'sigma/body',
        'effective_kernel/body']


def test_scalars_in_tensorboards_event_file(run):
    folder, hook, _ = run
    scalars = tensorboard(folder)
    assert set(TAGS) <= set(scalars)
    for tag in TAGS:
        assert list(scalars[tag]) == [2, 4, 6]
    assert scalars['sigma/body'] == pytest.approx(hook.truth)
    assert len(set(scalars['sigma/body'].values())) == 3  # it learns
    for step, sigma in scalars['sigma/body'].items():
        x = torch.tensor([-1., 0., 1.]).double()
        mask = torch.exp(-(x[:, None] ** 2 + x ** 2) / (2 * sigma ** 2))
        assert scalars['effective_kernel/body'][step] == pytest.approx(masked_extent(mask)[0])


def test_picture_and_table_at_the_end(run):
    folder, _, runner = run
    picture, = folder.rglob('masks.png')
    assert picture.read_bytes().startswith(b'\x89PNG') and str(picture.parent) == runner.log_dir
    rows = list(csv.DictReader(picture.with_name('masks.csv').open()))
    assert [(row['layer'], row['mask']) for row in rows] == [
        ('stem', 'dynamic'), ('body', 'static'), ('average of stem', 'average')][:len(rows)]
    assert float(rows[1]['sigma_x']) == pytest.approx(abs(runner.model.body.sigma.item()), rel=1e-4)


def test_a_lost_sigma_does_not_end_the_training(tmp_path):
    model = Model()
    model.body.sigma.data.fill_(float('nan'))
    train(tmp_path, SigmaLogHook(interval=1), model, iterations=2)
    assert list(tmp_path.rglob('masks.png'))


def test_model_in_a_wrapper(tmp_path):
    """MMEngine's wrapper of a real process group of one."""
    torch.distributed.init_process_group('gloo', init_method=f'file://{tmp_path}/group', rank=0,
                                         world_size=1)
    try:
        from mmengine.model import MMDistributedDataParallel
        model = MMDistributedDataParallel(Model())
        train(tmp_path, SigmaLogHook(interval=2), model, iterations=2)
    finally:
        torch.distributed.destroy_process_group()
    assert set(TAGS) <= set(tensorboard(tmp_path))  # without a leading `module.`


def test_what_moves_sigmas(tmp_path):
    train(tmp_path, SigmaLogHook(interval=2), momentum=0.9, weight_decay=0.1)
    scalars = tensorboard(tmp_path)
    for own, start in (('sigma/body', 5), ('b1_sigma/stem', 5), ('b1_ratio/stem', 1)):
        number, layer = own.split('/')
        parts = [scalars[f'{number}{part}/{layer}'] for part in ('', '_by_decay', '_by_gradient')]
        for step in (2, 4, 6):
            value, by_decay, by_gradient = (part[step] for part in parts)
            assert value == pytest.approx(start + by_decay + by_gradient, rel=1e-5)
            assert by_decay < 0 and by_gradient != 0
        assert all(norm > 0 for norm in scalars[f'{number}_gradient_norm/{layer}'].values())


def test_gradient_norms_are_those_of_the_loss(tmp_path):
    """The last one, by hand; with lr=0 weights stay."""
    model = Model()
    train(tmp_path, SigmaLogHook(interval=6), model, lr=0.)
    model(model.batch['images'])['loss'].backward()
    scalars = tensorboard(tmp_path)
    own = abs(model.body.sigma.grad.item())
    assert scalars['sigma_gradient_norm/body'][6] == pytest.approx(own)
    assert [scalars[f'b1_{name}_gradient_norm/stem'][6] for name in ('sigma', 'ratio')] == (
        pytest.approx(model.stem.sigma_predictor.b1.grad.abs().tolist()))


@pytest.mark.slow
def test_a_resumed_run_goes_on_adding_up(tmp_path):
    options = dict(momentum=0.9, weight_decay=0.1, checkpoint=dict(
        type='CheckpointHook', by_epoch=False, interval=3))
    torch.manual_seed(0)
    train(tmp_path, SigmaLogHook(interval=1), iterations=3, **options)
    hook = SigmaLogHook(interval=1)
    runner = train(tmp_path, hook, iterations=6, resume=True, **options)
    values, by_decay, by_gradient = hook._drift.parts()  # b1's two and the body's sigma
    torch.testing.assert_close(values - by_decay - by_gradient, torch.tensor([5., 1., 5.]).double())
    assert runner.iter == 6 and runner.model.body.sigma.item() == pytest.approx(values[2].item())


@pytest.mark.parametrize('change, told', [
    (lambda model: None, []),
    (lambda model: model.body.sigma.data.fill_(1e4), ['masks of body are flat']),
    (lambda model: model.point.requires_grad_(False).weight.data.zero_(),
     ['no gradient has reached the masks of stem, body']),
    (lambda model: model.requires_grad_(False).point.requires_grad_(True),
     ['all masks are frozen']),
    (lambda model: model.body.sigma.requires_grad_(False), [])])
def test_masks_that_do_not_learn_are_warned_of_once(tmp_path, change, told):
    model, listener = Model(), Listener()
    change(model)
    if 'no gradient' in ''.join(told):
        model.point.bias.data.zero_()
    train(tmp_path, SigmaLogHook(interval=1), model, listen=listener, lr=1e-9)
    assert len(listener.said) == len(told)
    assert all(text in said for text, said in zip(told, listener.said))


@pytest.mark.parametrize('interval', [0, -1, 2.5, True, '50'])
def test_interval_is_checked(interval):
    with pytest.raises(ValueError, match=r'interval must be a whole number.*got'):
        SigmaLogHook(interval=interval)
