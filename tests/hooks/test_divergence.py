"""Real runs that are made to diverge, each at a known place."""
import math

import pytest
import torch
from mmengine.hooks import Hook

from gmconv_mmdet.checkpoints import read_checkpoint
from gmconv_mmdet.hooks.divergence import DivergenceError, DivergenceHook

from .small_runner import small_runner


class Break(Hook):
    """Does something to the model before one iteration."""
    priority = 'HIGHEST'

    def __init__(self, iteration, change):
        self.iteration, self.change = iteration, change

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        if runner.iter + 1 == self.iteration:
            self.change(runner)


def hurry(runner):
    runner.optim_wrapper.optimizer.param_groups[0].update(lr=3e38, weight_decay=1e10)


def run(tmp_path, change, iteration=3, interval=1, **options):
    """Train with the hook; returns the runner and what it said."""
    runner = small_runner(tmp_path, max_iters=6, hooks=[
        Break(iteration, change), dict(type='DivergenceHook', interval=interval)], **options)
    with pytest.raises(DivergenceError) as error:
        runner.train()
    assert len(str(error.value).splitlines()) == 1
    return runner, str(error.value)


def test_an_output_that_overflows_is_named(tmp_path):
    def scale(runner):
        with torch.no_grad():
            runner.model.backbone.layer2[0].bn2.weight.fill_(3e38)
            runner.model.backbone.layer2[0].bn2.bias.fill_(3e38)
    runner, said = run(tmp_path, scale)
    assert 'in iteration 3: the output of backbone.layer2.0.bn2 (BatchNorm2d) is the first' in said
    assert all(p.isfinite().all() for p in runner.model.parameters()), 'no step was made'


def test_a_sum_between_layers_is_named_by_the_next_one(tmp_path):
    def grow(runner):
        block = runner.model.backbone.layer2[0]
        for layer in (block.bn2, block.downsample[1]):
            layer.register_forward_hook(lambda module, x, out: torch.full_like(out, 3e38))
    assert ('the output of backbone.layer2.0.relu (ReLU) is the first that is not finite'
            ) in run(tmp_path, grow)[1]


def test_a_loss_that_is_infinite_by_itself(tmp_path):
    def spoil(runner):
        original = runner.model.forward

        def forward(*args, **kwargs):
            found = original(*args, **kwargs)
            return dict(found, loss_extra=found['loss'] * 0 + math.inf)
        runner.model.forward = forward
    assert 'loss_extra is inf, computed from finite outputs' in run(tmp_path, spoil)[1]


def test_a_step_that_is_too_large(tmp_path):
    assert 'is not finite after the step' in run(tmp_path, hurry)[1]


@pytest.mark.parametrize('iteration, interval', [(1, 1), (2, 3)])
def test_weights_that_were_bad_before(tmp_path, iteration, interval):
    def spoil(runner):
        with torch.no_grad():
            runner.model.backbone.layer1[0].conv1.sigma.fill_(math.nan)
    said = run(tmp_path, spoil, iteration, interval)[1]
    assert f'iteration {interval}: ' in said
    assert ' was not finite before the iteration' in said
    assert interval > 1 or 'backbone.layer1.0.conv1.sigma was' in said


@pytest.mark.slow
def test_no_bad_checkpoint_is_written(tmp_path):
    run(tmp_path, hurry, iteration=4, checkpoint=dict(interval=1))
    written = sorted(path.name for path in tmp_path.glob('iter_*.pth'))
    assert written == ['iter_1.pth', 'iter_2.pth', 'iter_3.pth']
    for path in tmp_path.glob('iter_*.pth'):
        state = read_checkpoint(path)['state_dict']
        assert all(tensor.isfinite().all() for tensor in state.values())


@pytest.mark.slow
def test_a_sound_run_is_the_same_with_it_and_leaves_no_hooks(tmp_path):
    states = []
    for name, hooks in (('without', ()), ('with', [dict(type='DivergenceHook')])):
        runner = small_runner(tmp_path / name, max_iters=4, hooks=hooks)
        runner.train()
        states.append(runner.model.state_dict())
    assert all(torch.equal(tensor, states[1][name]) for name, tensor in states[0].items())
    assert not any(module._forward_hooks for module in runner.model.modules())


def test_bad_interval():
    with pytest.raises(ValueError, match='interval must be a whole number of at least 1, got 0'):
        DivergenceHook(0)
