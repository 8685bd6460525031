"""Time the backbones of trained detectors, as trained, folded and cropped, beside the plain one.

    OMP_NUM_THREADS=1 python tools/dev/time_trained.py FOLDER --seed 3 --out docs/data/times/seed3.json

FOLDER holds finished runs of tools/reproduce.py (VARIANT-seedK). Inference of one image of 320 x 320
pixels; all take turns within a round, and ratios are taken within rounds.
"""
from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path

import torch

from gmconv_mmdet.conversion import fold_gmconv
from gmconv_mmdet.conversion.crop import crop_plan
from gmconv_mmdet.deploy.trained_detector import trained_detector
from gmconv_mmdet.files import write_json
from gmconv_mmdet.lab.benchmark.compare import compare
from gmconv_mmdet.lab.reproduce.history import code_version, environment
from gmconv_mmdet.lab.reproduce.run_folder import RunFolder
from gmconv_mmdet.lab.reproduce.variants import Variant

CROP = 1e-3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('folder', type=Path)
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--variants', nargs='+', default=['plain', 'sgm', 'gm', 'gm-stem-l1', 'gm-recipe'])
    parser.add_argument('--rounds', type=int, default=60)
    parser.add_argument('--out', type=Path, required=True)
    args = parser.parse_args()
    networks, cropped = {}, {}
    for variant in args.variants:
        run = RunFolder(args.folder, Variant(variant, Path()), args.seed)
        backbone = trained_detector(run.config, run.newest_checkpoint()[1])[1].backbone
        networks[variant] = backbone
        if variant != 'plain':
            networks[f'{variant}, folded'] = fold_gmconv(backbone)
            cropped[variant] = sorted(crop_plan(backbone, CROP))
            if cropped[variant]:
                networks[f'{variant}, folded and cropped'] = fold_gmconv(backbone, crop=CROP)
    image = torch.randn(1, 3, 320, 320)
    with torch.no_grad():
        rows = compare({name: partial(network, image) for name, network in networks.items()},
                       args.rounds, warmup=3)
    content = dict(code=code_version(), environment=environment(), crop=CROP, layers_cropped=cropped,
                   threads=torch.get_num_threads(), rows=rows)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    write_json(args.out, content)
    for row in rows:
        print(f'{row["name"]:32} {1000 * row["seconds"]:7.1f} ms, {row["ratio"]:.3f} of plain '
              f'({row["ratio_low"]:.3f} to {row["ratio_high"]:.3f})')


if __name__ == '__main__':
    main()
