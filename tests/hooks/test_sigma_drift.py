"""What weight decay does to a parameter, against a plain loop over the optimizers' definitions."""
import pytest
import torch
from torch.nn import Parameter

from gmconv_mmdet.hooks.sigma_drift import SigmaDrift

STEPS = 40
LR = [0.02 * (1 - step / 50) for step in range(STEPS)]  # a schedule


def gradients(step):
    generator = torch.Generator().manual_seed(step)
    return torch.randn(3, generator=generator, dtype=torch.double)


def train(optimizer, parameters, *drifts, steps=range(STEPS), skip=()):
    """Parameters' gradients are drawn, those of skipped steps are not applied."""
    for step in steps:
        for group in optimizer.param_groups:
            group['lr'] = LR[step] * group.get('lr_mult', 1)
        for drift in drifts:
            drift.before_step()
        for parameter, gradient in zip(parameters, gradients(step).split([1, 2])):
            parameter.grad = gradient.clone()
        if step not in skip:
            optimizer.step()
        optimizer.zero_grad()
        for drift in drifts:
            drift.after_step()


def make(kind, decay=(0.3, 0.1), **options):
    parameters = [Parameter(torch.tensor([5.], dtype=torch.double)),
                  Parameter(torch.tensor([2., 1.], dtype=torch.double))]
    optimizer = kind([dict(params=[parameters[0]], weight_decay=decay[0]),
                      dict(params=[parameters[1]], weight_decay=decay[1], lr_mult=3)], lr=0.02,
                     **options)
    return parameters, optimizer, SigmaDrift(dict(zip('ab', parameters)), [optimizer])


def sgd_by_decay(start, decay, lr, momentum=0., nesterov=False, skip=()):
    """Sum of what decay did to one number, and its end."""
    value, buffer, pull_buffer, total = start, 0., 0., 0.
    index = {5.: 0, 2.: 1, 1.: 2}[start]
    for step in range(STEPS):
        if step in skip:
            continue
        gradient, pull = float(gradients(step)[index]), decay * value
        buffer = momentum * buffer + gradient + pull
        pull_buffer = momentum * pull_buffer + pull
        both, pulled = ((gradient + pull + momentum * buffer, pull + momentum * pull_buffer)
                        if nesterov else (buffer, pull_buffer))
        value, total = value - lr[step] * both, total - lr[step] * pulled
    return total, value


@pytest.mark.parametrize('options', [dict(), dict(momentum=0.9),
                                     dict(momentum=0.9, nesterov=True)])
def test_sgd(options):
    parameters, optimizer, drift = make(torch.optim.SGD, **options)
    train(optimizer, parameters, drift, skip=(3, 7, 8))  # as accumulation or a scaler skips them
    assert drift.known
    values, by_decay, by_gradient = drift.parts()
    for i, (start, decay, lr) in enumerate([(5., 0.3, LR), (2., 0.1, [3 * lr for lr in LR]),
                                            (1., 0.1, [3 * lr for lr in LR])]):
        expected, end = sgd_by_decay(start, decay, lr, skip=(3, 7, 8), **options)
        sign = torch.tensor(end).sign()
        assert values[i].item() == pytest.approx(abs(end))
        if sign > 0:  # all steps went from one sign
            assert by_decay[i].item() == pytest.approx(expected)
        assert (start + by_decay[i] + by_gradient[i]).item() == pytest.approx(abs(end))


def test_adamw():
    parameters, optimizer, drift = make(torch.optim.AdamW, decay=(0.3, 0.))
    decayed = 0.
    for step in range(STEPS):
        before = parameters[0].item()
        train(optimizer, parameters, drift, steps=[step])
        decayed -= LR[step] * 0.3 * before
    assert drift.known
    assert drift.parts()[1].tolist() == pytest.approx([decayed, 0., 0.])


@pytest.mark.parametrize('kind, decay, known', [
    (torch.optim.Adam, 0., True), (torch.optim.Adam, 0.1, False), (torch.optim.RMSprop, 0.1, False),
    (torch.optim.AdamW, 0.1, True), (torch.optim.SGD, 0.1, True)])
def test_known(kind, decay, known):
    parameters, optimizer, drift = make(kind, decay=(decay, 0.))
    assert drift.known is known
    train(optimizer, parameters, drift, steps=range(3))  # does no harm
    if decay == 0:
        assert drift.parts()[1].tolist() == [0, 0, 0]


def test_state_goes_on_where_it_was_taken():
    parameters, optimizer, whole = make(torch.optim.SGD, momentum=0.9)
    train(optimizer, parameters, whole, steps=range(20))
    resumed = SigmaDrift(dict(zip('ab', parameters)), [optimizer])
    resumed.load_state_dict(whole.state_dict())
    train(optimizer, parameters, whole, resumed, steps=range(20, STEPS))
    torch.testing.assert_close(resumed.parts(), whole.parts())
    resumed.load_state_dict(dict(a=[[1.], [0.]], c=[[1.]] * 3))  # of another model: begins here
    torch.testing.assert_close(resumed.parts()[1], whole.parts()[1])
