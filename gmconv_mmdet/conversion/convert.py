"""Masks for any network: its convolutions larger than 1x1 become GMConv, its function stays."""
from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any, Dict, cast
from weakref import WeakKeyDictionary

import torch
import torch.nn as nn
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from ..layers import GMConv2d
from ..layers.plain_weights import divided_by_initial_mask
from ..messages import shortened
from .find_convs import find_convs
from .swap import GM_STEMS, become, converted

OPTIONS = ('init_sigma', 'sigma_pattern', 'reduction', 'input_scale')


@dataclass
class ConversionReport:
    """What :func:`convert_gmconv` did to each convolution of a network; as ``str`` a table.

    Attributes:
        converted (dict[str, str]): layer -> ``'dynamic'`` or ``'static'``, with ``', frozen'``
            where the convolution's weight is frozen, and the mask with it.
        left (dict[str, str]): layer -> why it stayed as it is.
    """
    converted: Dict[str, str] = field(default_factory=dict)
    left: Dict[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        total = len(self.converted) + len(self.left)
        lines = [f'{len(self.converted)} of {total} convolutions became GMConv']
        for fates, says in ((self.converted, ''), (self.left, 'left, ')):
            for fate in dict.fromkeys(fates.values()):
                names = [name or '(the network)' for name, its in fates.items() if its == fate]
                lines.append(f'  {says}{fate} ({len(names)}): {shortened(names, 4)}')
        return '\n'.join(lines)


# Beside the networks, so that nothing of it gets into their state dicts, copies and pickles.
_REPORTS: WeakKeyDictionary[nn.Module, ConversionReport] = WeakKeyDictionary()


def conversion_report(model: nn.Module) -> ConversionReport:
    """What became of each convolution of a network that :func:`convert_gmconv` returned:
    ``print(conversion_report(model))``.

    Raises:
        ValueError: another network, or a copy of that one.
    """
    if model not in _REPORTS:
        raise ValueError(f'there is no report on this {type(model).__name__}: it is kept for the '
                         'very network that convert_gmconv returned, in the process that converted')
    return _REPORTS[model]


def convert_gmconv(model: nn.Module,
                   stem: str | None = 'dynamic',
                   body: str | Sequence[str] | None = 'static',
                   preserve: bool = True,
                   inplace: bool = False,
                   **options: Any) -> nn.Module:
    """Make the convolutions of a network that are larger than 1x1 GMConv, depthwise ones too.

    The stem is the first of them in the order of registration, the body all others; the paper makes
    the first dynamic and the rest static (arXiv 2302.04544, sections III and IV-A). With
    ``preserve`` the network computes what it did, to rounding, and can be fine-tuned from there.
    :func:`fold_gmconv` makes plain convolutions of static masks again.

    Converted are ``nn.Conv2d`` and subclasses that do nothing more than pad (timm's ``Conv2dSame``,
    mmcv's ``Conv2d`` and ``Conv2dAdaptivePadding``). All other convolutions are left and named with
    the reason in :func:`conversion_report`: deformable, weight-standardised, parametrized ones,
    those that share their weight with another module, those whose mask is too strong to divide by.

    The converted layers are the very objects they were, of another class: names, parameters,
    ``requires_grad`` (a frozen weight's mask is frozen with it), dtype, device, mode, hooks and
    shared modules stay; state dicts have the masks' tensors in addition. Convert before an
    optimizer gets the parameters, and before DistributedDataParallel. A network whose code reads
    ``conv.weight`` itself instead of calling the layer doesn't see the mask there.

    Args:
        model (nn.Module): any network. Where it is itself a convolution, that is the stem.
        stem ('dynamic' | 'static' | None): mask of the first convolution; None leaves it plain.
        body ('static' | None | str | Sequence[str]): masks of the others. Names of modules, or
            patterns as of a shell, choose those that match or lie in a module that does:
            ``['layer1', 'layer[23].*.conv2']``.
        preserve (bool): divide the weights by the mask of ``init_sigma``, which keeps the function.
            False keeps the weights and changes the function.
        inplace (bool): change ``model`` itself instead of a copy.
        **options: of every :class:`GMConv2d`: ``init_sigma``, ``sigma_pattern``, ``reduction``,
            ``input_scale`` (about 60 for a dynamic stem on pixels of 0 to 255).

    Returns:
        nn.Module: the copy, or ``model`` if in place.

    Raises:
        ValueError: an argument outside its range, a pattern that matches no convolution that could
            be converted, a network with nothing to convert, with GMConv already, or that can't be
            copied.
        TypeError: there is no such option.
    """
    _check_arguments(stem, body, preserve, inplace, options)
    _check_network(model)
    found = find_convs(model)
    first = next((name for name, why_not in found.items() if why_not != '1x1'
                  and isinstance(model.get_submodule(name), nn.Conv2d)), None)
    fit = [name for name, why_not in found.items() if not why_not and name != first]
    if body is not None and body != 'static':
        patterns = [body] if isinstance(body, str) else list(body)
        chosen = set(within(fit, patterns, 'body'))
    else:
        chosen = set(fit) if body else set()
    if not inplace:
        model = _copied(model)
    report = ConversionReport()
    layers: dict[nn.Conv2d, tuple[GMConv2d, Tensor]] = {}  # with what it starts from
    for name, why_not in found.items():
        mask = stem if name == first else 'static' if name in chosen else None
        if not why_not and mask is None:
            why_not = f'not chosen (stem={stem!r})' if name == first else 'not chosen by body'
        if not why_not:
            conv = cast(nn.Conv2d, model.get_submodule(name))
            layer = _layer(name, conv, dynamic=mask == 'dynamic', preserve=preserve, **options)
            try:
                layers[conv] = layer, _start_weight(layer)
            except ValueError as error:
                why_not = str(error)
            else:
                frozen = '' if conv.weight.requires_grad else ', frozen'
                report.converted[name] = f'{mask}{frozen}'
        if why_not:
            report.left[name] = why_not
    if not layers:
        raise ValueError(f'nothing in {type(model).__name__} can become GMConv with '
                         f'stem={stem!r}, body={body!r}. {report}')
    with torch.no_grad():
        for conv, (masked, weight) in layers.items():
            become(conv, masked)
            if weight is not conv.weight:
                conv.weight.copy_(weight)  # the same parameter
    _REPORTS[model] = report
    return model


def within(convs: Sequence[str], patterns: Iterable[str], argument: str) -> list[str]:
    """Those of ``convs`` that match one of ``patterns``, or lie in a module that does.

    Args:
        convs (Sequence[str]): dotted names.
        patterns (Iterable[str]): names of modules, or patterns as of a shell.
        argument (str): what the user calls ``patterns``.

    Raises:
        ValueError: a pattern matches none of ``convs``; names the modules that have some.
    """
    chosen = set()
    for pattern in patterns:
        matched = {conv for conv in convs if any(fnmatchcase(module, pattern)
                                                 for module in _with_parents(conv))}
        if not matched:
            tops = sorted({conv.split('.')[0] for conv in convs})
            raise ValueError(f'{argument}: no convolution larger than 1x1 in {pattern!r}, but in '
                             f'{", ".join(tops) or "none"}')
        chosen |= matched
    return [conv for conv in convs if conv in chosen]


def _with_parents(name: str) -> list[str]:
    parts = name.split('.')
    return ['.'.join(parts[:count + 1]) for count in range(len(parts))]


def _check_arguments(stem: object, body: object, preserve: object, inplace: object,
                     options: Mapping[str, object]) -> None:
    if stem not in GM_STEMS:
        raise ValueError(f'stem must be one of {GM_STEMS}, got {stem!r}')
    if body is not None and not isinstance(body, str) and not (
            isinstance(body, Sequence) and all(isinstance(name, str) for name in body)):
        raise ValueError('body must be \'static\', None, or names of modules or patterns as of a '
                         f'shell, got {body!r}')
    for name, value in (('preserve', preserve), ('inplace', inplace)):
        if not isinstance(value, bool):
            raise ValueError(f'{name} must be True or False, got {value!r}')
    unknown = [name for name in options if name not in OPTIONS]
    if unknown:
        raise TypeError(f'convert_gmconv has no argument {unknown[0]!r}: options of GMConv2d are '
                        f'{", ".join(OPTIONS)}')


def _check_network(model: nn.Module) -> None:
    masked = [name or type(model).__name__ for name, module in model.named_modules()
              if isinstance(module, GMConv2d)]
    if masked:
        raise ValueError(f'{type(model).__name__} has GMConv layers already ({shortened(masked)}): '
                         'convert the plain network, or fold_gmconv(model) first')
    if any(isinstance(module, DistributedDataParallel) for module in model.modules()):
        raise ValueError('DistributedDataParallel has fixed its list of parameters: convert the '
                         'network before it is wrapped')


def _copied(model: nn.Module) -> nn.Module:
    try:
        return copy.deepcopy(model)
    except (RuntimeError, TypeError) as error:  # weight_norm's products, locks, generators
        raise ValueError(f'{type(model).__name__} can\'t be copied ({error}): convert it in place, '
                         'inplace=True') from error


def _layer(name: str, conv: nn.Conv2d, **options: Any) -> GMConv2d:
    try:
        return cast(GMConv2d, converted(conv, **options))
    except ValueError as error:
        raise ValueError(f'{name}: {error}' if name else str(error)) from error


def _start_weight(layer: GMConv2d) -> Tensor:
    """The weight that ``layer``, which has a plain one, starts from; raises a ``ValueError`` where
    the mask is too strong."""
    weight = layer.weight
    if not layer.preserve:
        return weight
    divided = divided_by_initial_mask(weight, layer.init_sigma, weight.dtype).to(weight.dtype)
    if not weight.is_meta and not bool(divided.isfinite().all()) and bool(weight.isfinite().all()):
        raise ValueError(f'divided by the mask of init_sigma={layer.init_sigma:g} the weight '
                         f'exceeds {weight.dtype}. Set a larger init_sigma, or preserve=False')
    return divided
