"""Rows of Tables III and V: which config makes which row, and which row is its baseline."""
from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from ...openmmlab.mim_files import shipped
from .paper import DETECTION_TABLES, DetectionResult

# What the paper compares a row with. The other backbones' baseline is the plain ResNet-50.
_BASELINES = {'r50': None, 'r50-gm-stem-l1-dcn-l2-l4': 'r50-dcn-l2-l4'}


class Row(NamedTuple):
    """One detector with one backbone."""
    detector: str
    backbone: str

    @property
    def name(self) -> str:
        return f'{self.detector}_{self.backbone}'

    @property
    def config(self) -> Path:
        return config_folder() / f'{self.name}_fpn_1x_coco.py'

    @property
    def baseline(self) -> Row | None:
        """The row that the paper calls a gain against, None for a baseline."""
        backbone = _BASELINES.get(self.backbone, 'r50')
        return None if backbone is None else Row(self.detector, backbone)

    @property
    def has_gmconv(self) -> bool:
        return 'gm-' in self.backbone


def config_folder() -> Path:
    """``configs/gmconv``."""
    return shipped('configs/gmconv')


def paper_results(table: str) -> dict[Row, DetectionResult]:
    """The rows of a table, in the paper's order, with what the paper prints there.

    Raises:
        ValueError: not a detection table.
    """
    if table not in DETECTION_TABLES:
        raise ValueError(f'table must be one of {", ".join(DETECTION_TABLES)}, got {table!r}')
    return {Row(result.detector, result.backbone): result for result in DETECTION_TABLES[table]}


def select_rows(table: str, names: Sequence[str] | None = None) -> list[Row]:
    """Rows of a table, all or those named, in the paper's order.

    Args:
        table (str): 'III' or 'V'.
        names (Sequence[str], optional): row names (``faster-rcnn_r50-gm-stem-l1``), backbones for
            both detectors (``r50-gm-stem-l1``) or detectors (``faster-rcnn``).

    Raises:
        ValueError: a name that means no row of the table.
    """
    rows = list(paper_results(table))
    if names is None:
        return rows
    unknown = [name for name in names
               if not any(name in (row.name, row.backbone, row.detector) for row in rows)]
    if unknown:
        raise ValueError(f'no such row in Table {table}: {", ".join(unknown)}. Its rows are '
                         f'{", ".join(row.name for row in rows)}; a backbone (r50) or a detector '
                         '(faster-rcnn) names all rows that have it')
    return [row for row in rows
            if any(name in (row.name, row.backbone, row.detector) for name in names)]
