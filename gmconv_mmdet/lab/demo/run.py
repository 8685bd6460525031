"""The demo: draw a detection set, train and evaluate on it with mmdet's own tools, and sum up."""
from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

from ...checkpoints import read_checkpoint
from ...doctor import FAIL, cuda_check
from ...files import folder_lock
from ...layers.find_layers import gm_layers
from ...openmmlab.config_file import read_config
from ...openmmlab.mim_files import shipped
from ...visualization.image_files import image_files
from ...visualization.mask_picture import write_masks
from ...visualization.masks import LayerMask
from ...visualization.measured_model import load_model
from .shapes import make_shapes

METRICS = {'AP': 'mAP', 'AP50': 'mAP_50', 'AP75': 'mAP_75', 'AP_S': 'mAP_s', 'AP_M': 'mAP_m',
           'AP_L': 'mAP_l'}
# What a run in a work dir must share with the one that is asked for, or it can't be continued.
RUN_SETTINGS = ('model', 'train_cfg', 'optim_wrapper', 'param_scheduler', 'randomness')
MAX_THREADS = 8  # more of them slow so small a network down


class DemoError(Exception):
    """The demo cannot go on; the text says why and what to do."""


def run_demo(config: Path, data: Path, work_dir: Path, images: tuple[int, int] = (320, 80)) -> str:
    """Run the demo, or what is left of it.

    Args:
        config: the detector's config; its ``data_root`` is ``$GMCONV_DEMO_DATA``.
        data: folder of the images; made where it does not exist.
        work_dir: folder of checkpoints, logs and pictures.
        images: numbers of training and of validation images.

    Returns:
        str: metrics, learned sigmas and where the files are, for people.

    Raises:
        DemoError: a step cannot be done. ShapesError: ``data`` holds something else.
        FolderBusy: another demo is at work in ``work_dir``.
    """
    config, data, work_dir = config.resolve(), data.resolve(), work_dir.resolve()
    work_dir.mkdir(parents=True, exist_ok=True)
    with folder_lock(work_dir / '.lock', 0, print) as lock:
        print(f'[1/4] images in {data}', flush=True)
        if not make_shapes(data, *images):
            print('They are there already.', flush=True)
        set_environment(data)
        print(f'[2/4] training in {work_dir}', flush=True)
        checkpoint = train(config, work_dir, lock)
        print('[3/4] evaluation', flush=True)
        metrics = evaluate(config, checkpoint, work_dir, lock)
        print('[4/4] masks', flush=True)
        model = load_model(str(config), str(checkpoint))
        masks = write_masks(model, work_dir / 'masks', image_files(data / 'val'))
    trained = read_checkpoint(checkpoint)
    minutes = trained['message_hub']['log_scalars']['train/time'].data[0].sum() / 60
    initial = {name: layer.init_sigma for name, layer in gm_layers(model.network).items()}
    return '\n'.join([
        '=' * 78,
        '  '.join(f'{name} {metrics[f"coco/bbox_{key}"]:.3f}' for name, key in METRICS.items()),
        f'{trained["meta"]["epoch"]} epochs, {trained["meta"]["iter"]} iterations in '
        f'{minutes:.1f} min', '', 'Learned sigmas, in kernel cells:',
        *(f'  {mask.name:<24} {initial[mask.name]:.2f} -> {sigma_text(mask)}' for mask in masks),
        '', f'checkpoint  {checkpoint}', f'detections  {work_dir / "pictures"}',
        f'masks       {work_dir / "masks"}', '=' * 78])


def train(config: Path, work_dir: Path, lock: int) -> Path:
    """Train what is left to train and return the last checkpoint, which is always a whole one."""
    cfg, written = read_config(config), work_dir / config.name
    if (work_dir / 'last_checkpoint').exists() and (not written.exists() or any(
            read_config(written).get(key) != cfg.get(key) for key in RUN_SETTINGS)):
        raise DemoError(f'{work_dir} holds a training with other settings than {config}. Name '
                        'another folder: --work-dir')
    checkpoint = work_dir / f'epoch_{cfg.train_cfg.max_epochs}.pth'
    if checkpoint.exists():
        print(f'It is finished already: {checkpoint}. To train anew, name another folder: '
              '--work-dir', flush=True)
    else:
        run_tool('train.py', config, '--work-dir', work_dir, '--resume', lock=lock)
    return checkpoint


def evaluate(config: Path, checkpoint: Path, work_dir: Path, lock: int) -> dict[str, float]:
    """The metrics of mmdet's test.py, which also draws its detections into ``pictures/``."""
    folder = work_dir / 'evaluation'
    earlier = set(folder.glob('*/*.json'))
    run_tool('test.py', config, checkpoint, '--work-dir', folder, '--show-dir',
             work_dir / 'pictures', lock=lock)
    results = set(folder.glob('*/*.json')) - earlier
    if not results:
        raise DemoError(f'mmdet\'s test.py left no metrics in {folder}: it writes none where nothing'
                        ' at all was detected')
    return json.loads(results.pop().read_text())


def run_tool(name: str, *arguments: object, lock: int) -> None:
    """Run one of mmdet's tools. It inherits the lock, so that no second demo joins a training which
    outlives its own."""
    command = [sys.executable, str(shipped(f'tools/{name}', 'mmdet')), *map(str, arguments)]
    print(f'$ {" ".join(map(shlex.quote, command))}', flush=True)
    status = subprocess.call(command, pass_fds=(lock,))
    if status < 0:
        raise DemoError(f'mmdet\'s {name} was ended from outside (signal {-status}; 9 is often a '
                        'lack of memory). The same command goes on where it stopped.')
    if status:
        raise DemoError(f'mmdet\'s {name} failed with exit code {status}, see above.')


def set_environment(data: Path) -> None:
    """Environment variables of mmdet's tools; this process reads the config too."""
    os.environ.update(GMCONV_DEMO_DATA=str(data), MPLBACKEND='Agg')
    os.environ.setdefault('OMP_NUM_THREADS', str(min(MAX_THREADS, os.cpu_count() or 1)))
    # GNU OpenMP's threads spin for milliseconds while they wait, which makes training several times
    # slower beside other work. Not spinning at all costs a quarter of the speed on idle cores.
    os.environ.setdefault('GOMP_SPINCOUNT', '10000')
    check = cuda_check()
    if check.status == FAIL:
        print(f'The GPU is not used: {check.found}. The fix: {check.fix}', flush=True)
        os.environ['CUDA_VISIBLE_DEVICES'] = ''


def sigma_text(mask: LayerMask) -> str:
    """Sigma of a static mask; mean and standard deviation of a dynamic one's over the images."""
    if mask.sigma_std is None:
        return f'{mask.sigma[0]:.3f}'
    pairs = zip(('s1', 's2'), mask.sigma, mask.sigma_std)
    both = ', '.join(f'{name} {mean:.3f} +- {std:.3f}' for name, mean, std in pairs)
    return f'{both} over {mask.images} images'
