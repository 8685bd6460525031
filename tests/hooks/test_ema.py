"""MMEngine's EMAHook beside masks: sigmas are averaged, saved and restored like any weight."""
import pytest
import torch
from mmengine.hooks import Hook

from gmconv_mmdet.checkpoints import read_checkpoint

from .small_runner import small_runner

SIGMAS = ('backbone.conv1.sigma_predictor.b1', 'backbone.layer3.0.conv2.sigma')
MOMENTUM = 0.3


class Trace(Hook):
    """Sigmas in training after every iteration."""

    def __init__(self):
        self.seen = []

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        self.seen.append({n: runner.model.get_parameter(n).detach().clone() for n in SIGMAS})


def ema_hook():
    return dict(type='EMAHook', momentum=MOMENTUM)


@pytest.mark.slow
def test_sigmas_are_averaged_saved_and_restored(tmp_path):
    trace = Trace()
    runner = small_runner(tmp_path, max_epochs=2, hooks=[ema_hook(), trace])
    runner.train()
    assert len(trace.seen) == 8

    saved = read_checkpoint(tmp_path / 'epoch_2.pth')
    for name in SIGMAS:
        average = trace.seen[0][name].clone()  # the first update copies
        for seen in trace.seen[1:]:
            average += MOMENTUM * (seen[name] - average)
        assert not torch.equal(trace.seen[-1][name], trace.seen[0][name])
        # The file's state_dict is the average, to be used; the one in training lies beside it.
        torch.testing.assert_close(saved['state_dict'][name], average)
        torch.testing.assert_close(saved['ema_state_dict'][f'module.{name}'],
                                   trace.seen[-1][name], rtol=0, atol=0)

    resumed = small_runner(tmp_path, max_epochs=2, hooks=[ema_hook()], resume=True)
    resumed.train()
    ema, = (hook for hook in resumed.hooks if type(hook).__name__ == 'EMAHook')
    for name in SIGMAS:
        torch.testing.assert_close(resumed.model.get_parameter(name), trace.seen[-1][name],
                                   rtol=0, atol=0)
        torch.testing.assert_close(ema.ema_model.module.get_parameter(name),
                                   saved['state_dict'][name], rtol=0, atol=0)
