from . import annotations, checkpoints, configs, environment, images
from .case import CASES as ALL

__all__ = ['ALL', 'annotations', 'checkpoints', 'configs', 'environment', 'images']
