"""FoldGMConvHook in MMEngine's own Runner: what validates is folded, what trains is not touched."""
import copy

import pytest
import torch
import torch.nn as nn
from mmengine.hooks import Hook
from mmengine.model import MMDistributedDataParallel

from gmconv_mmdet import FoldGMConvHook, GMConv2d

from .small_runner import SmallModel, small_runner


class Observer(Hook):
    """Sees the runner's model within and between epochs of validation."""
    priority = 'LOWEST'

    def __init__(self):
        self.validated, self.trained, self.saved = [], [], []

    def before_val_iter(self, runner, batch_idx, data_batch=None):
        self.validated.append((runner.model, copy.deepcopy(runner.model.state_dict())))

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        self.trained.append(runner.model)

    def before_save_checkpoint(self, runner, checkpoint):
        self.saved.append(set(checkpoint['state_dict']))


def run(folder, *hooks, **options):
    """A runner after training, its model before, and what was seen."""
    observer = Observer()
    runner = small_runner(folder, hooks=[*hooks, observer],
                          checkpoint=dict(save_best='score', rule='greater'), **options)
    model = runner.model
    runner.train()
    assert runner.model is model
    return runner, observer


@pytest.mark.slow
@pytest.mark.parametrize('options', [dict(max_epochs=2), dict(max_iters=8)])
def test_validates_a_folded_copy_and_trains_the_original(tmp_path, options):
    runner, observer = run(tmp_path / 'folded', FoldGMConvHook(), **options)
    assert len(observer.trained) == 8 and all(model is runner.model for model in observer.trained)
    assert len(observer.validated) == 8
    for validated, _ in observer.validated:
        assert validated is not runner.model and type(validated.backbone.conv1) is GMConv2d
        assert type(validated.backbone.layer1[0].conv1) is nn.Conv2d
    assert observer.saved and all('backbone.layer1.0.conv1.sigma' in keys for keys in observer.saved)
    # The same run without the hook ends in the same weights and has validated the same outputs.
    plain, _ = run(tmp_path / 'plain', **options)
    for name, value in plain.model.state_dict().items():
        assert torch.equal(value, runner.model.state_dict()[name]), name
    folded, unfolded = (r.message_hub.get_scalar('val/score').data[0] for r in (runner, plain))
    assert folded == pytest.approx(unfolded, rel=1e-4, abs=1e-5)


@pytest.mark.slow
def test_folds_the_averaged_weights(tmp_path):
    runner, observer = run(tmp_path, FoldGMConvHook(), dict(type='EMAHook', momentum=0.5), max_epochs=2)
    ema = next(hook for hook in runner.hooks if type(hook).__name__ == 'EMAHook').ema_model.module
    conv, name = ema.backbone.layer1[0].conv1, 'backbone.layer1.0.conv1.weight'
    _, state = observer.validated[-1]
    torch.testing.assert_close(state[name], (conv.weight * conv.mask()).detach())
    assert not torch.allclose(state['fc.weight'], runner.model.fc.weight)


def test_a_wrapped_model_and_a_broken_epoch(tmp_path):
    """One process of gloo is a real DistributedDataParallel."""
    torch.distributed.init_process_group('gloo', init_method=f'file://{tmp_path}/store', rank=0,
                                         world_size=1)
    try:
        wrapped = MMDistributedDataParallel(SmallModel()).eval()
        runner = type('', (), dict(model=wrapped))()
        hook = FoldGMConvHook()
        hook.before_val_epoch(runner)
        first = runner.model
        assert type(first) is SmallModel and type(first.backbone.layer1[0].conv1) is nn.Conv2d
        data = dict(inputs=torch.ones(2, 3, 32, 32), labels=torch.zeros(2, dtype=torch.long))
        torch.testing.assert_close(first.val_step(data), wrapped.val_step(data))
        hook.before_test_epoch(runner)  # the validation above never ended
        assert type(runner.model.backbone.layer1[0].conv1) is nn.Conv2d and runner.model is not first
        hook.after_test_epoch(runner)
        assert runner.model is wrapped
        hook.before_train_epoch(runner)
        assert runner.model is wrapped and type(wrapped.module.backbone.layer1[0].conv1) is GMConv2d
    finally:
        torch.distributed.destroy_process_group()
