"""FoldGMConvHook in MMEngine's own Runner: what validates is folded, what trains is not touched."""
import copy

import pytest
import torch
import torch.nn as nn
from mmengine.evaluator import BaseMetric
from mmengine.hooks import Hook
from mmengine.model import BaseModel, MMDistributedDataParallel
from mmengine.runner import Runner
from torch.utils.data import DataLoader

from gmconv_mmdet import FoldGMConvHook, GMConv2d


class Net(BaseModel):
    """A regression: static masks, then batch norm and a dynamic one."""

    def __init__(self):
        super().__init__()
        self.conv = GMConv2d(3, 4, 3, init_sigma=1.0)
        self.norm = nn.BatchNorm2d(4)
        self.stem = GMConv2d(4, 2, 3, dynamic=True)

    def forward(self, inputs, mode='tensor'):
        x = torch.stack(inputs) if isinstance(inputs, (list, tuple)) else inputs
        out = self.stem(self.norm(self.conv(x))).mean(dim=(1, 2, 3))
        return dict(loss=(out - 1).square().mean()) if mode == 'loss' else [out]


class Mean(BaseMetric):
    """Mean output, under the name that the checkpoint hook follows."""
    default_prefix = 'out'

    def process(self, data_batch, data_samples):
        self.results.append(torch.as_tensor(data_samples[0]).mean().item())

    def compute_metrics(self, results):
        return dict(mean=sum(results) / len(results))


class Observer(Hook):
    """Sees the runner's model within and between epochs of validation."""
    priority = 'LOWEST'

    def __init__(self):
        self.validated, self.trained, self.saved = [], [], []

    def before_val_iter(self, runner, batch_idx, data_batch=None):
        self.validated.append((runner.model, copy.deepcopy(runner.model.state_dict())))

    before_test_iter = before_val_iter

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        self.trained.append(runner.model)

    def before_save_checkpoint(self, runner, checkpoint):
        self.saved.append(set(checkpoint['state_dict']))


def loader():
    samples = [torch.randn(3, 8, 8, generator=torch.Generator().manual_seed(i)) for i in range(4)]
    return DataLoader([dict(inputs=sample) for sample in samples], batch_size=2)


def run(tmp_path, model, hooks, train=True, iterations=False):
    observer = Observer()
    train_cfg = dict(by_epoch=True, max_epochs=2, val_interval=1)
    if iterations:
        train_cfg = dict(type='IterBasedTrainLoop', max_iters=4, val_interval=2)
    torch.manual_seed(0)
    runner = Runner(
        model=model,
        work_dir=str(tmp_path),
        train_dataloader=loader() if train else None,
        train_cfg=train_cfg if train else None,
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.1)) if train else None,
        val_dataloader=loader() if train else None,
        val_cfg=dict() if train else None,
        val_evaluator=[Mean()] if train else None,
        test_dataloader=loader(),
        test_cfg=dict(),
        test_evaluator=[Mean()],
        custom_hooks=[*hooks, observer],
        default_hooks=dict(checkpoint=dict(type='CheckpointHook', interval=2 if iterations else 1,
                                           by_epoch=not iterations, save_best='out/mean',
                                           rule='greater')),
        experiment_name=tmp_path.name)
    metrics = runner.train() if train else runner.test()
    return runner, observer, metrics


@pytest.mark.parametrize('iterations', [False, True])
def test_validates_a_folded_copy_and_trains_the_original(tmp_path, iterations):
    torch.manual_seed(0)
    model = Net()
    twin = copy.deepcopy(model)
    runner, observer, _ = run(tmp_path / 'folded', model, [FoldGMConvHook()], iterations=iterations)
    assert runner.model is model and all(trained is model for trained in observer.trained)
    assert len(observer.validated) == 4
    for validated, state in observer.validated:
        assert validated is not model
        assert type(validated.conv) is nn.Conv2d and type(validated.stem) is GMConv2d
    assert observer.saved and all('conv.sigma' in keys for keys in observer.saved)  # "best" too
    # The same run without the hook ends in the same weights and has validated the same outputs.
    plain, plain_observer, _ = run(tmp_path / 'plain', twin, [], iterations=iterations)
    assert all(torch.equal(a, b) for a, b in zip(model.state_dict().values(),
                                                 twin.state_dict().values()))
    folded, unfolded = (r.message_hub.get_scalar('val/out/mean').data[0] for r in (runner, plain))
    assert folded == pytest.approx(unfolded, rel=1e-5)


def test_folds_the_averaged_weights(tmp_path):
    model = Net()
    run_hooks = [FoldGMConvHook(), dict(type='EMAHook', momentum=0.5)]
    runner, observer, _ = run(tmp_path, model, run_hooks)
    ema = next(hook for hook in runner.hooks if type(hook).__name__ == 'EMAHook').ema_model.module
    _, state = observer.validated[-1]
    torch.testing.assert_close(state['conv.weight'], (ema.conv.weight * ema.conv.mask()).detach())
    assert not torch.allclose(state['stem.weight'], model.stem.weight)
    assert runner.model is model


def test_a_wrapped_model_and_a_broken_epoch(tmp_path):
    """One process of gloo is a real DistributedDataParallel."""
    torch.distributed.init_process_group('gloo', init_method=f'file://{tmp_path}/store', rank=0,
                                         world_size=1)
    try:
        wrapped = MMDistributedDataParallel(Net())
        runner = type('', (), dict(model=wrapped))()
        hook = FoldGMConvHook()
        hook.before_val_epoch(runner)
        first = runner.model
        assert type(first) is Net and type(first.conv) is nn.Conv2d
        out = first.val_step(dict(inputs=torch.ones(2, 3, 8, 8)))
        torch.testing.assert_close(out, wrapped.val_step(dict(inputs=torch.ones(2, 3, 8, 8))))
        hook.before_test_epoch(runner)  # the validation above never ended
        assert type(runner.model.conv) is nn.Conv2d and runner.model is not first
        hook.after_test_epoch(runner)
        assert runner.model is wrapped
        hook.before_train_epoch(runner)
        assert runner.model is wrapped and type(wrapped.module.conv) is GMConv2d
    finally:
        torch.distributed.destroy_process_group()
