"""Any registered backbone with refocusing convolutions."""
from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn as nn
from mmengine.registry import MODELS

from ..conversion.convert import within
from ..conversion.swap import swap
from ..layers import RefConv2d
from .argument_names import refuse_unknown
from .converted_backbone import ConvertedBackbone, build_plain, subclass

ARGUMENTS = ('backbone', 'stem', 'body', 'ref_cfg', 'init_cfg')


class Refocused(ConvertedBackbone):
    """Mixin, before a backbone's class: a basis that ``init_weights`` draws anew, and doesn't load
    again, is no longer a loaded one."""

    def init_weights(self) -> None:
        """As :meth:`ConvertedBackbone.init_weights`."""
        loaded = {layer: layer.weight.clone() for layer in self.modules()
                  if isinstance(layer, RefConv2d) and layer.basis_loaded}
        for layer in loaded:
            layer.basis_loaded = False
        super().init_weights()
        for layer, basis in loaded.items():
            layer.basis_loaded |= torch.equal(layer.weight, basis)


@MODELS.register_module()
def RefConvBackbone(  # noqa: N802  (a config's `type` reads like a class)
        backbone: dict,
        *,
        stem: bool = True,
        body: bool | Sequence[str] = True,
        ref_cfg: dict | None = None,
        init_cfg: dict | list | None = None,
        **unknown) -> nn.Module:
    """Build ``backbone`` and make its convolutions larger than 1x1 RefConv (arXiv 2310.10563).

    RefConv trains on top of a trained network: the checkpoint that ``init_cfg`` or ``load_from``
    names becomes the frozen basis. The result is the backbone itself with other convolutions: its
    attributes, its parameters' names and its checkpoints' keys stay, only ``convmap.weight`` of
    each is new. Its class is a subclass made on the spot, ``RefConvResNeXt`` of ``ResNeXt``.

    The maps of stages that the backbone freezes (``frozen_stages``) are frozen with them, which
    takes ``init='identity'``. Deformable convolutions stay as they are.

    Args:
        backbone (dict): config of a registered backbone derived from MMEngine's ``BaseModule``, of
            the current scope (mmdet's where there is none); of another with the scope's name:
            ``type='mmpretrain.MobileNetV2'``.
        stem (bool): whether the first of its convolutions larger than 1x1 becomes RefConv.
        body (bool | Sequence[str]): whether all others do; or names of modules, ``['layer2']``: the
            others in these do.
        ref_cfg (dict, optional): of every layer: ``map_kernel_size``, ``init`` of
            :class:`RefConv2d`.
        init_cfg (dict | list, optional): instead of the backbone's own; for those, too, which take
            no such argument.

    Raises:
        ValueError: an argument outside its range, a name in ``body`` without convolutions, a kernel
            smaller than the map, a frozen convolution with ``init='paper'``, or a backbone that
            places layers of ours itself.
        TypeError: the backbone is no ``BaseModule``, or there is no such argument.
    """
    refuse_unknown('RefConvBackbone', unknown, ARGUMENTS,
                   otherwise='what the network takes belongs in backbone=dict(type=..., ...). ')
    ref_cfg = dict(ref_cfg or {})
    refuse_unknown('ref_cfg', ref_cfg, ('map_kernel_size', 'init'))
    if not isinstance(stem, bool):
        raise ValueError(f'stem must be True or False, got {stem!r}')
    if isinstance(body, str) or not isinstance(body, (bool, Sequence)):
        raise ValueError(f'body must be True, False or names of modules, got {body!r}')
    network, first, others = build_plain('RefConvBackbone', backbone, init_cfg)
    if not isinstance(body, bool):
        others = within(others, body, 'body')
    swap(network, [first] * stem + others * (body is not False), 'RefConv', **ref_cfg)
    name = f'RefConv{type(network).__name__}'
    network.__class__ = subclass(type(network), Refocused, name)
    return network
