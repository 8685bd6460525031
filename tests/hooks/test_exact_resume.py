"""A run that is interrupted and resumed against one that is not: bit for bit."""
import logging
import random

import numpy as np
import pytest
import torch
from mmengine.hooks import Hook

from gmconv_mmdet import doctor
from gmconv_mmdet.hooks.exact_resume import seed_all

from .small_runner import small_runner

ONEDL = doctor.installed_stack() is doctor.ONEDL
EXACT = dict(type='ExactResumeHook')


class Interrupted(Exception):
    pass


class Interrupt(Hook):
    """Ends a run after an iteration, as a kill does: nothing else is called."""
    priority = 'LOWEST'

    def __init__(self, after):
        self.after = after

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        if runner.iter + 1 == self.after:
            raise Interrupted


class Data(Hook):
    """What each iteration is given: iteration -> sum of its images."""

    def __init__(self):
        self.seen = {}

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        self.seen[runner.iter] = float(data_batch['inputs'].double().sum())


def outcome(runner):
    """All that training leaves behind, without times."""
    histories = {name: buffer.data[0].tolist()
                 for name, buffer in runner.message_hub.log_scalars.items() if 'time' not in name}
    return dict(weights=runner.model.state_dict(), optimizer=runner.optim_wrapper.state_dict(),
                histories=histories)


def assert_same(a, b):
    torch.testing.assert_close(a, b, rtol=0, atol=0)


def train_interrupted(folder, interrupts, hooks=(EXACT, ), **options):
    data, resume = Data(), False
    for after in interrupts:
        runner = small_runner(folder, hooks=[*hooks, data, Interrupt(after)], resume=resume,
                              **options)
        with pytest.raises(Interrupted):
            runner.train()
        resume = True
    runner = small_runner(folder, hooks=[*hooks, data], resume=resume, **options)
    runner.train()
    return outcome(runner), data.seen


@pytest.mark.slow
@pytest.mark.parametrize('options, interrupts', [
    (dict(), (6, 10)),  # epochs of 4 iterations: in the second and in the third
    # in the last iteration of each epoch, before its checkpoint
    (dict(), (4, 8, 12)),
    (dict(max_iters=9), (3, 6, 8)),
    (dict(workers=1), (7, )),  # persistent
    pytest.param(dict(max_iters=9, workers=1), (5, ), marks=[pytest.mark.xfail(
        ONEDL, strict=True, reason="OneDL's MMEngine skips samples that its loader has drawn")]),
], ids=['epochs', 'ends of epochs', 'iterations', 'worker', 'iterations with a worker'])
def test_resumed_run_ends_as_the_undisturbed_one(tmp_path, options, interrupts):
    expected, data = train_interrupted(tmp_path / 'undisturbed', (), **options)
    resumed, data_resumed = train_interrupted(tmp_path / 'resumed', interrupts, **options)
    assert data_resumed == data
    assert len(set(data.values())) == len(data)  # other images, other augmentations every time
    assert_same(resumed, expected)
    assert len(expected['histories']['train/loss']) == options.get('max_iters', 12)
    assert len(expected['histories']['val/score']) == 3


@pytest.mark.slow
def test_best_score_is_known_after_a_resume(tmp_path):
    best = dict(save_best='score', rule='greater')
    expected, _ = train_interrupted(tmp_path / 'undisturbed', (), checkpoint=best)
    resumed, _ = train_interrupted(tmp_path / 'resumed', (6, 10), checkpoint=best)
    assert_same(resumed, expected)
    found = [[path.name for path in (tmp_path / name).glob('best_*.pth')]
             for name in ('undisturbed', 'resumed')]
    assert found[0] == found[1] and len(found[0]) == 1


def test_seeds_differ_with_every_number_of_the_key():
    def draws(*key):
        seed_all(*key)
        return random.random(), float(np.random.rand()), float(torch.rand(()))

    keys = [(1, 0, 0), (1, 0, 1), (1, 1, 0), (2, 0, 0, 0), (2, 0, 0, 1), (2, 0, 1, 0),
            (2, 1, 0, 0), (1, 2**31, 5), (1, 5, 2**31)]
    drawn = [draws(*key) for key in keys]
    assert draws(1, 0, 0) == drawn[0]
    for one_generator in zip(*drawn):
        assert len(set(one_generator)) == len(keys)


class Collect(logging.Handler):
    def __init__(self):
        super().__init__()
        self.said = []

    def emit(self, record):
        if 'ExactResumeHook' in record.getMessage():
            self.said.append(record.getMessage())


def warnings_of(folder, **options):
    runner, collect = small_runner(folder, hooks=[EXACT], **options), Collect()
    runner.logger.addHandler(collect)
    runner.train()
    return collect.said


@pytest.mark.slow
def test_without_a_fixed_seed_it_says_so_once(tmp_path):
    said, = warnings_of(tmp_path, seed=None, max_epochs=2)
    assert 'no seed is set' in said and 'randomness = dict(seed=0)' in said
    said, = warnings_of(tmp_path, seed=None, resume=True)  # though the checkpoint has one
    assert 'no seed is set' in said
    assert not warnings_of(tmp_path / 'seeded', max_epochs=2)


@pytest.mark.parametrize('options, warns', [
    (dict(accumulative_counts=3), True),  # epochs of 4 iterations
    (dict(accumulative_counts=2), False),
    (dict(accumulative_counts=3, max_iters=8), True),  # saved every 2
    (dict(accumulative_counts=3, max_iters=8, checkpoint=dict(interval=3)), False)])
def test_gradients_that_a_checkpoint_lacks_are_warned_of(tmp_path, options, warns):
    said = warnings_of(tmp_path, **options)
    assert len(said) == warns and all('accumulative_counts does not divide' in s for s in said)
