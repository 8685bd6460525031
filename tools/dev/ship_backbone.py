"""Publish the backbone of a finished run of tools/reproduce.py, with kernels in fp16, and its card.

    python tools/dev/ship_backbone.py runs/deeppcb/gm-seed3 demo/networks

The detector is tested once more with the kernels as they were rounded: the card has both results.
"""
from __future__ import annotations

import argparse
import json
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

import torch

from gmconv_mmdet.checkpoints import read_checkpoint
from gmconv_mmdet.checkpoints.fetch import sha256
from gmconv_mmdet.files import write_text
from gmconv_mmdet.lab.reproduce.driver import (
    child_environment,
    coco_percentages,
    read_test_metrics,
)
from gmconv_mmdet.messages import markdown_table
from gmconv_mmdet.openmmlab.mim_files import shipped
from gmconv_mmdet.pretrained.publish import convert_backbone

CARD = '''# {name}

The backbone of a Faster R-CNN FPN, {variant}, that was trained from scratch on DeepPCB: a half-width
ResNet-18 with GMConv, for trying out loading, folding and drawing. Too small and too briefly trained for
anything else.

* File: `{file}`, {size:.1f} MB, SHA-256 `{sha256}`. Kernels in fp16, masks and batch norms in fp32.
* Load: `GMResNet(18, base_channels=32, init_cfg=dict(type='GMPretrained', checkpoint=PATH))`, or
  `load_pretrained(network, PATH)`.
* Data: DeepPCB (Tang et al. 2019; MIT license, "research purpose"), official split, 1,000 images, 320
  pixels. Black and white scans: mean 169, standard deviation 118.
* Config: `configs/deeppcb/{config}`{overrides}, seed {seed}, {epochs} epochs, one CPU thread; commit
  {code}. Made by `{command}`.
* License: Apache 2.0, as this project; mind that of the data.

AP on the 500 test images, per cent:

{table}
'''


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('run', type=Path, help='folder of a finished run')
    parser.add_argument('out', type=Path, help='folder for the file and its card')
    args = parser.parse_args()
    result = json.loads((args.run / 'result.json').read_text())
    checkpoint = args.run / result['files']['checkpoint']
    name = f'resnet18-half_{result["variant"]}_deeppcb'
    published = convert_backbone(checkpoint, args.out / f'{name}.safetensors', half=True)
    metrics = tested(checkpoint, args.run / result['files']['config'], published.path)
    body = [[what, *('' if value is None else f'{value:.1f}' for value in values.values())]
            for what, values in (('as trained', result['metrics']), ('kernels in fp16', metrics))]
    digest = sha256(published.path)
    write_text(args.out / f'{name}.md', CARD.format(
        name=name, file=published.path.name, size=published.path.stat().st_size / 1e6, sha256=digest,
        variant=f'variant `{result["variant"]}` of docs/results.md', config=result['base_config'],
        overrides=''.join(f' `{text}`' for text in result['overrides']), seed=result['seed'],
        epochs=result['epochs'], code=' '.join(code[:10] for code in result['code']),
        command=shlex.join(['python', 'tools/dev/ship_backbone.py', f'RUNS/{args.run.name}',
                            str(args.out)]),
        table='\n'.join(markdown_table(['', *result['metrics']], body))))
    print(f'wrote {published.path} and its card')
    return 0


def tested(checkpoint: Path, config: Path, backbone: Path) -> dict[str, float | None]:
    """COCO metrics of the detector with the published backbone in it."""
    content = read_checkpoint(checkpoint)
    state = content['state_dict']
    for key, tensor in read_checkpoint(backbone)['state_dict'].items():
        state[f'backbone.{key}'] = tensor.to(state[f'backbone.{key}'].dtype)
    with tempfile.TemporaryDirectory() as folder:
        rounded = Path(folder) / 'rounded.pth'
        torch.save(dict(state_dict=state, meta={}), rounded)
        subprocess.run([sys.executable, str(shipped('tools/test.py', 'mmdet')), str(config),
                        str(rounded), '--work-dir', folder], check=True,
                       env=child_environment(0, 1), stdout=subprocess.DEVNULL)
        found = read_test_metrics(Path(folder))
    assert found is not None, 'the test left no metrics'
    return coco_percentages(found)[0]


if __name__ == '__main__':
    sys.exit(main())
