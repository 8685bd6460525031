"""The links behind ``torchvision://``, ``open-mmlab://`` and ``mmcls://``, as MMEngine keeps them."""
from __future__ import annotations

from mmengine.runner.checkpoint import (
    get_deprecated_model_names,
    get_external_models,
    get_mmcls_models,
    get_torchvision_models,
)

from ..checkpoints.fetch import ZOOS


def open_mmlab_links() -> dict[str, str]:
    """Links by name, old names included."""
    links = get_external_models()
    renamed = get_deprecated_model_names().items()
    return {**links, **{old: links[new] for old, new in renamed if new in links}}


def register_zoos() -> None:
    """Let :func:`gmconv_mmdet.checkpoints.fetch.resolve` know these links."""
    ZOOS.update({'torchvision': get_torchvision_models, 'modelzoo': get_torchvision_models,
                 'open-mmlab': open_mmlab_links, 'openmmlab': open_mmlab_links,
                 'mmcls': get_mmcls_models})
