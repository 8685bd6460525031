"""How far weight decay, and how far gradients, have moved the sigmas of a model in training."""
from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor
from torch.nn import Parameter
from torch.optim import SGD, AdamW, Optimizer


class SigmaDrift:
    """Splits the change of some small parameters into what weight decay did and the rest.

    Both optimizers with which mmdet trains are linear in the decay, so that its part is exact:

    * SGD adds ``weight_decay * p`` to the gradient. Its share of the momentum buffer,
      ``v = momentum * v + (1 - dampening) * weight_decay * p``, is followed beside it; a step moves
      ``p`` by ``-lr * v`` (Nesterov: ``-lr * (weight_decay * p + momentum * v)``).
    * AdamW multiplies ``p`` by ``1 - lr * weight_decay``.

    With another optimizer it works where ``weight_decay`` is 0, :attr:`known` tells. All numbers
    stay on the parameters' device, which is never waited for.

    Args:
        parameters (Mapping[str, Parameter]): those to follow, by name; all on one device.
        optimizers (Iterable[Optimizer]): that train them; the ones in none of them stand still.
    """

    def __init__(self, parameters: Mapping[str, Parameter],
                 optimizers: Iterable[Optimizer]) -> None:
        self.parameters = dict(parameters)
        self._sizes = [parameter.numel() for parameter in self.parameters.values()]
        first = next(iter(self.parameters.values()))
        # Decay moves by 1e-5 a step what is 5 large, tens of thousands of times.
        double = first.device.type in ('cpu', 'cuda')
        self._options = dict(device=first.device, dtype=torch.double if double else torch.float)
        groups = {id(own): (optimizer, group) for optimizer in optimizers
                  for group in optimizer.param_groups for own in group['params']}
        self._groups = [groups.get(id(own), (None, {})) for own in self.parameters.values()]
        self.start = self._now = self._values()
        self.decay = torch.zeros_like(self.start)  # of the value without its sign
        self._buffer = torch.zeros_like(self.start)
        self._settings: tuple | None = None

    @property
    def known(self) -> bool:
        """Whether the part of weight decay can be told."""
        return all(not group.get('weight_decay')
                   or (type(optimizer) in (SGD, AdamW) and not group.get('maximize'))
                   for optimizer, group in self._groups)

    @torch.no_grad()
    def _values(self) -> Tensor:
        return torch.cat([parameter.detach().reshape(-1) for parameter in self.parameters.values()]
                         ).to(**self._options)

    def before_step(self) -> None:
        """Notes the settings of the step that comes, which schedulers change after it."""
        settings = tuple(_settings(optimizer, group) for optimizer, group in self._groups)
        if settings != self._settings:
            self._settings = settings
            rows = [row for row, size in zip(settings, self._sizes) for _ in range(size)]
            self._rates = torch.tensor(rows, dtype=self._options['dtype']).t().to(
                self._options['device'], non_blocking=True)

    @torch.no_grad()
    def after_step(self) -> None:
        """Adds up what decay did, for parameters that have moved: a step may be left out, to gather
        gradients or by a gradient scaler."""
        before, now = self._now, self._values()
        self._now = now
        lr, decay, momentum, share, nesterov, decoupled = self._rates
        pull = decay * before
        buffer = momentum * self._buffer + share * pull
        step = torch.where(nesterov > 0, pull + momentum * buffer, buffer)
        step = torch.where(decoupled > 0, pull, step)
        moved = now != before
        self._buffer = torch.where(moved, buffer, self._buffer)
        self.decay -= torch.where(moved, lr * step * before.sign(), torch.zeros_like(step))

    def parts(self) -> Tensor:
        """``(3, numbers)``: the values without sign, and what decay and what the rest have added to
        them since the training began. The numbers of all parameters, one after another."""
        now = self._now.abs()
        return torch.stack([now, self.decay, now - self.start.abs() - self.decay])

    def state_dict(self) -> dict[str, list[list[float]]]:
        """By parameter: starting values, decay's part and its share of the momentum."""
        rows = torch.stack([self.start, self.decay, self._buffer]).cpu().split(self._sizes, 1)
        return {name: row.tolist() for name, row in zip(self.parameters, rows)}

    def load_state_dict(self, state: Mapping[str, list[list[float]]]) -> None:
        """Goes on where a state was taken; parameters that are not in it begin here."""
        own = self.state_dict()
        rows = [torch.tensor(state[name] if name in state and [len(r) for r in state[name]] == [
            size] * 3 else own[name], dtype=torch.double)
            for name, size in zip(self.parameters, self._sizes)]
        self.start, self.decay, self._buffer = torch.cat(rows, 1).to(**self._options)
        self._now = self._values()


def _settings(optimizer: Optimizer | None, group: Mapping) -> tuple[float, ...]:
    """Learning rate, weight decay, momentum, the gradient's share in it, and whether the optimizer
    is Nesterov's and whether it decays weights apart from gradients."""
    momentum = float(group.get('momentum') or 0)
    sgd = type(optimizer) is SGD
    return (float(group.get('lr', 0)), float(group.get('weight_decay') or 0), momentum * sgd,
            1 - float(group.get('dampening') or 0) if momentum and sgd else 1.,
            float(bool(group.get('nesterov')) and sgd), float(not sgd))
