"""mmdet's ResNet with Gaussian Mask convolutions in the stem and in chosen stages."""
from __future__ import annotations

import copy
import logging
from collections.abc import Sequence
from inspect import Parameter, signature

from mmdet.models.backbones import ResNet
from mmdet.registry import MODELS
from mmengine.logging import print_log

from ..conversion.swap import check_gm_stem, is_plain_conv, spatial_convs, swap
from ..layers import GMConv2d
from .argument_names import NO_KIND, refuse_unknown
from .frozen_masks import FrozenMasks, check_freeze_masks


@MODELS.register_module()
class GMResNet(FrozenMasks, ResNet):
    """ResNet whose convolutions larger than 1x1 are GMConv in the stem and in chosen stages.

    The paper's "GMConv" network is the default: stem dynamic, stages static (arXiv 2302.04544,
    section III); ``gm_stem='static'`` gives its "S-GMConv". Names and shapes are those of mmdet's
    ``ResNet``, so ResNet checkpoints fit; only sigmas are new.

    mmdet freezes all that a frozen stage (``frozen_stages``) holds. Its masks learn nevertheless,
    unless ``freeze_masks=True``: masks which are frozen at their start never learn anything. When
    its weights are initialised, the network warns of such masks and of frozen random weights.

    Args:
        depth (int): 18, 34, 50, 101 or 152.
        gm_stem ('dynamic' | 'static' | None): mask in the stem. Of the three convolutions of a
            ``deep_stem`` the first becomes dynamic, the others static.
        gm_stages (Sequence[bool], optional): for each stage whether its convolutions larger than
            1x1 become static GMConv; ``num_stages`` long. By default those of all stages do. A
            stage has those or DCN, not both.
        gm_cfg (dict, optional): further arguments of every layer: ``init_sigma``,
            ``sigma_pattern``, ``reduction``, ``preserve`` (False: take plain weights as they are,
            without dividing them by the mask), ``input_scale`` (for a dynamic stem on images that
            are not normalised) of :class:`GMConv2d`.
        freeze_masks (bool): whether masks of frozen stages are frozen with them: the paper's
            protocol, for checkpoints that bring trained masks. See
            :class:`~gmconv_mmdet.backbones.frozen_masks.FrozenMasks`.
        **kwargs: of mmdet's ``ResNet``, ``dcn`` and ``stage_with_dcn`` included. ``conv_cfg`` has
            to stay ``None``: this class places the convolutions.

    Raises:
        ValueError: an argument of ours is out of its range, or a stage is to have GMConv and DCN.
        TypeError: there is no such argument.
    """

    def __init__(self,
                 depth: int,
                 *,
                 gm_stem: str | None = 'dynamic',
                 gm_stages: Sequence[bool] | None = None,
                 gm_cfg: dict | None = None,
                 freeze_masks: bool = False,
                 num_stages: int = 4,
                 conv_cfg: None = None,
                 dcn: dict | None = None,
                 stage_with_dcn: Sequence[bool] = (False, False, False, False),
                 **kwargs) -> None:
        refuse_unknown('GMResNet', kwargs, _ARGUMENTS, dict(kind=NO_KIND))
        if depth not in self.arch_settings:
            raise ValueError(f'depth must be one of {list(self.arch_settings)}, got {depth!r}')
        if num_stages not in (1, 2, 3, 4):
            raise ValueError(f'num_stages must be 1, 2, 3 or 4, got {num_stages!r}')
        gm_cfg = dict(gm_cfg or {})
        check_gm_stem(gm_stem, gm_cfg)
        if gm_stages is None:
            gm_stages = (True, ) * num_stages
        if (isinstance(gm_stages, str) or not isinstance(gm_stages, Sequence)
                or len(gm_stages) != num_stages
                or any(not isinstance(stage, bool) for stage in gm_stages)):
            raise ValueError(f'gm_stages must be num_stages = {num_stages} times True or False, '
                             f'got {gm_stages!r}: change one of the two, or leave gm_stages out '
                             'for all stages')
        check_freeze_masks(freeze_masks)
        if conv_cfg is not None:
            raise ValueError('conv_cfg must be None: GMResNet places the convolutions, see gm_stem '
                             f'and gm_stages. Got {conv_cfg!r}')
        if dcn is not None:
            if depth in (18, 34) and any(stage_with_dcn):
                raise ValueError('dcn needs depth 50, 101 or 152: mmdet has none for depth '
                                 f'{depth}')
            both = [f'L{i + 1}' for i, (gm, deform) in enumerate(zip(gm_stages, stage_with_dcn))
                    if gm and deform]
            if both:
                raise ValueError(
                    f'a stage has GMConv or DCN, not both: {", ".join(both)} would have the two. '
                    'Set gm_stages='
                    f'{tuple(g and not d for g, d in zip(gm_stages, stage_with_dcn))} '
                    f'to keep the DCN. Got gm_stages={tuple(gm_stages)}, '
                    f'stage_with_dcn={tuple(stage_with_dcn)}')
        # mmdet's blocks pop keys from the dict they are given: not from the user's config.
        super().__init__(depth, num_stages=num_stages, dcn=copy.deepcopy(dcn),
                         stage_with_dcn=stage_with_dcn, **kwargs)
        self.gm_stem = gm_stem
        self.gm_stages = tuple(gm_stages)
        if gm_stem:
            stem = [name for name in spatial_convs(self) if not name.startswith('layer')]
            swap(self, stem[:1], dynamic=gm_stem == 'dynamic', **gm_cfg)
            swap(self, stem[1:], dynamic=False, **gm_cfg)
        for layer, has_gm in zip(self.res_layers, self.gm_stages):
            if has_gm:
                names = spatial_convs(getattr(self, layer))
                swap(self, [f'{layer}.{name}' for name in names], dynamic=False, **gm_cfg)
        self.settle_frozen_masks(freeze_masks)
        print_log(f'GMResNet-{depth}: {self.placement_summary()}', logger='current',
                  level=logging.DEBUG)

    def placement(self) -> dict[str, str]:
        """What each convolution is: name -> ``'dynamic'``, ``'static'``, ``'plain'``, or, for other
        kinds, the class's name (``'DeformConv2dPack'``). A 1x1 convolution is always plain."""
        kinds: dict[str, str] = {}
        for name, module in self.named_modules():
            if name.rpartition('.')[0] in kinds:
                continue  # the offset branch inside a deformable convolution
            if isinstance(module, GMConv2d) and module.mask_parameters():
                kinds[name] = 'dynamic' if module.dynamic else 'static'
            elif isinstance(module, GMConv2d) or is_plain_conv(module):
                kinds[name] = 'plain'
            elif hasattr(module, 'kernel_size') and hasattr(module, 'weight'):
                kinds[name] = type(module).__name__
        return kinds

    def placement_summary(self) -> str:
        """One line: how many convolutions of each kind the stem and each stage hold."""
        counts: dict[str, dict[str, int]] = {}
        for name, kind in self.placement().items():
            part = name.split('.')[0].replace('layer', 'L') if name.startswith('layer') else 'stem'
            part_counts = counts.setdefault(part, {})
            part_counts[kind] = part_counts.get(kind, 0) + 1
        return '; '.join(f'{part} ' + ', '.join(f'{n} {kind}' for kind, n in kinds.items())
                         for part, kinds in counts.items())

    def __repr__(self) -> str:
        return f'{super().__repr__()}\n# GMConv: {self.placement_summary()}'


_ARGUMENTS = [*dict.fromkeys(
    name for cls in (GMResNet, ResNet) for name, argument in signature(cls).parameters.items()
    if argument.kind is not Parameter.VAR_KEYWORD)]
