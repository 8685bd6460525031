"""Data sets and configs that were spoilt in one place each, and what the preflight has to answer.

The data are a few images of DeepPCB, the detector its half-width ResNet-18 (configs/deeppcb).
"""
from __future__ import annotations

import io
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.logging import HistoryBuffer
from mmengine.registry import MODELS
from PIL import Image

from gmconv_mmdet.openmmlab.config_file import config_scope
from gmconv_mmdet.preflight import command

REPO = Path(__file__).resolve().parents[2]
CLASSES = ('open', 'short', 'mousebite', 'spur', 'copper', 'pin-hole')
NOWHERE = 'http://127.0.0.1:9/resnet18-half.pth'  # nothing listens: as without internet

_CONFIG = '''\
_base_ = ['{repo}/configs/deeppcb/faster-rcnn_r18-half-gm_fpn_deeppcb.py']
train_dataloader = dict(dataset=dict(
    data_root='{folder}/', ann_file='train.json', data_prefix=dict(img='images/')))
val_dataloader = dict(dataset=dict(
    data_root='{folder}/', ann_file='val.json', data_prefix=dict(img='images/')))
val_evaluator = dict(ann_file='{folder}/val.json')
loaders = [train_dataloader, val_dataloader]
{changes}
del loaders
test_dataloader = val_dataloader
test_evaluator = val_evaluator
'''


@dataclass(frozen=True)
class Sabotage:
    """One fault.

    Attributes:
        fault: what was done.
        spoil: does it in a folder that has ``train.json``, ``val.json``, ``images/`` and
            ``config.py``; may return other arguments for the doctor than the config.
        says: pattern of the one line that has to come.
        changes: lines for the config.
        trial: whether a training step is needed to find it.
    """
    fault: str
    says: str
    changes: str = ''
    spoil: Callable[[Path], list[str] | None] = lambda folder: None
    trial: bool = False


def write_set(folder: Path, data: Path, train: int = 6, val: int = 3) -> None:
    """A few images of DeepPCB as ``train.json``, ``val.json`` and ``images/``."""
    (folder / 'images').mkdir(parents=True)
    for split, source, count in (('train', 'train', train), ('val', 'test', val)):
        content = json.loads((data / 'deeppcb' / 'annotations' / f'instances_{source}.json').read_text())
        content['images'] = content['images'][:count]
        kept = {image['id'] for image in content['images']}
        content['annotations'] = [a for a in content['annotations'] if a['image_id'] in kept]
        for image in content['images']:
            shutil.copy(data / 'deeppcb' / 'images' / image['file_name'],
                        folder / 'images' / image['file_name'])
            (folder / 'images' / image['file_name']).chmod(0o644)
        (folder / f'{split}.json').write_text(json.dumps(content))


def write_config(folder: Path, changes: str = '') -> Path:
    path = folder / 'config.py'
    path.write_text(_CONFIG.format(repo=REPO, folder=folder, changes=changes.format(folder=folder)))
    return path


def prepared(item: Sabotage, folder: Path, data: Path) -> list[str]:
    """Set a sabotage up; returns the doctor's arguments."""
    write_set(folder, data)
    config = write_config(folder, item.changes)
    arguments = item.spoil(folder) or [str(config)]
    return arguments if item.trial else [*arguments, '--no-trial']


def answer(arguments: list[str]) -> tuple[int, list[str]]:
    """The doctor's exit status and its lines, in this process."""
    out = io.StringIO()
    status = command.main(arguments, out)
    return status, out.getvalue().splitlines()


def edit(name: str, change: Callable[[dict], object]) -> Callable[[Path], None]:
    """Spoils an annotation file."""
    def spoil(folder: Path) -> None:
        path = folder / name
        content = json.loads(path.read_text())
        change(content)
        path.write_text(json.dumps(content))
    return spoil


def corners(content: dict) -> None:
    for a in content['annotations']:
        x, y, w, h = a['bbox']
        a['bbox'] = [x, y, x + w, y + h]


def fractions(content: dict) -> None:
    sizes = {i['id']: (i['width'], i['height']) for i in content['images']}
    for a in content['annotations']:
        width, height = sizes[a['image_id']]
        x, y, w, h = a['bbox']
        a['bbox'] = [x / width, y / height, w / width, h / height]


def first_image(folder: Path) -> Path:
    content = json.loads((folder / 'train.json').read_text())
    return folder / 'images' / content['images'][0]['file_name']


def cut_image(folder: Path) -> None:
    path = first_image(folder)
    path.write_bytes(path.read_bytes()[:-3000])


def turn_image(folder: Path) -> None:
    path = first_image(folder)
    image = Image.open(path).crop((0, 0, 640, 480))
    exif = image.getexif()
    exif[0x0112] = 6
    image.save(path, exif=exif)
    edit('train.json', lambda c: c['images'][0].update(width=640, height=480))(folder)


def resize_image(folder: Path) -> None:
    path = first_image(folder)
    Image.open(path).resize((320, 320)).save(path)


def built(folder: Path, part: str | None = None) -> torch.nn.Module:
    cfg = Config.fromfile(folder / 'config.py')
    with config_scope(cfg):
        return MODELS.build(cfg.model if part is None else cfg.model[part])


def save_backbone(folder: Path, prefix: str = '', **arguments) -> None:
    cfg = Config.fromfile(folder / 'config.py').model.backbone
    with config_scope(cfg):
        network = MODELS.build(dict(cfg, init_cfg=None, **arguments))
    torch.save({prefix + name: value for name, value in network.state_dict().items()},
               folder / 'weights.pth')


def cut_weights(folder: Path) -> None:
    save_backbone(folder)
    path = folder / 'weights.pth'
    path.write_bytes(path.read_bytes()[:-5000])


def save_detector(folder: Path, **meta) -> Path:
    """As MMEngine saves it: with a log history, which torch >= 2.6 refuses."""
    path, text = folder / 'epoch_8.pth', Config.fromfile(folder / 'config.py').pretty_text
    hub = dict(runtime_info=dict(cfg=text), log_scalars=dict(loss=HistoryBuffer([1.0], [1])))
    torch.save(dict(state_dict=built(folder).state_dict(), meta=dict(meta), message_hub=hub), path)
    return path


def weights_alone(folder: Path) -> list[str]:
    return [str(save_detector(folder, dataset_meta=dict(classes=CLASSES)))]


def tensors_alone(folder: Path) -> list[str]:
    torch.save(built(folder).state_dict(), folder / 'model.pth')
    return [str(folder / 'model.pth')]


def other_classes(folder: Path) -> list[str]:
    path = save_detector(folder, dataset_meta=dict(classes=CLASSES[::-1]))
    return [str(folder / 'config.py'), '--checkpoint', str(path)]


def plain_config(text: str) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        (folder / 'config.py').write_text(text.format(repo=REPO, folder=folder))
    return spoil


def metainfo(text: str, loaders: str = 'loaders') -> str:
    return (f'for loader in {loaders}:\n'
            f'    loader[\'dataset\'][\'metainfo\'] = dict(_delete_=True, {text})\ndel loader\n')


PRETRAINED = ('model = dict(backbone=dict(init_cfg=dict(type=\'Pretrained\', '
              'checkpoint=\'{folder}/weights.pth\')))')
GM_PRETRAINED = PRETRAINED.replace('Pretrained', 'GMPretrained')

SABOTAGES = (
    # What costs a new user an hour.
    Sabotage('no metainfo', 'there is no metainfo.*need at least one array to concatenate.*'
             r'Write metainfo=dict\(classes=\(.open.', metainfo('')),
    Sabotage('num_classes left at 80', 'bbox_head.num_classes is 80.*6 classes: set it to 6.*'
             'IndexError', 'model = dict(roi_head=dict(bbox_head=dict(num_classes=80)))'),
    Sabotage('start weights behind a link, no internet', 'not on this machine.*does not answer.*'
             'Without internet: fetch .* and put it at',
             'model = dict(backbone=dict(init_cfg=dict(type=\'Pretrained\', checkpoint=\'' + NOWHERE
             + '\')))'),
    Sabotage('from scratch with mmdet\'s frozen stage', 'frozen at random weights.*'
             'set frozen_stages=-1', 'model = dict(backbone=dict(frozen_stages=1))'),
    Sabotage('from scratch with mmdet\'s norm_eval', 'first statistics.*set norm_eval=False',
             'model = dict(backbone=dict(norm_eval=True))'),
    Sabotage('a checkpoint alone, as for a DetInferencer', 'is a checkpoint: give the config'
             + (r'.*DetInferencer\(weights=...\) alone stops.*DetInferencer\(model='
                if torch.__version__ >= (2, 6) else ''), spoil=weights_alone),
    Sabotage('the same, saved as a state dict', r'DetInferencer\(weights=...\) alone stops, since '
             r'model.pth holds no config: write DetInferencer\(model=', spoil=tensors_alone),
    # Classes.
    Sabotage('a head with too few classes', 'num_classes is 3.*set it to 6.*the loss ends',
             'model = dict(roi_head=dict(bbox_head=dict(num_classes=3)))'),
    Sabotage('classes without their comma: (\'open\')', 'a comma is missing. Write classes=',
             metainfo('classes=(\'open\')', '[train_dataloader]')),
    Sabotage('metainfo with CLASSES, as in MMDetection 2', 'is ignored: write metainfo=dict',
             metainfo('CLASSES=' + repr(CLASSES), '[train_dataloader]')),
    Sabotage('a class misspelt', 'classes without a category.*mouse-bite.*let metainfo classes name',
             metainfo('classes=' + repr(tuple(c.replace('mouseb', 'mouse-b') for c in CLASSES)),
                      '[train_dataloader]')),
    Sabotage('classes in alphabetical order', 'another order than the categories.*Write classes=',
             metainfo('classes=' + repr(tuple(sorted(CLASSES))), '[train_dataloader]')),
    Sabotage('the validation file lists its categories in another order',
             'need the same classes in the same order, have the same in another order.*Give both',
             spoil=edit('val.json', lambda c: c['categories'].reverse())),
    Sabotage('two categories of one name', 'two categories named short.*Give each its own name',
             spoil=edit('train.json', lambda c: c['categories'][0].update(name='short'))),
    # Files and images.
    Sabotage('an annotation file that is not there', 'instances_train.json is not there. Correct '
             'data_root or ann_file', 'train_dataloader[\'dataset\'][\'ann_file\'] = '
             '\'instances_train.json\''),
    Sabotage('a folder of text files in place of a JSON file', 'is a folder, where a COCO annotation '
             'file', 'train_dataloader[\'dataset\'][\'ann_file\'] = \'images/\''),
    Sabotage('an annotation file that was cut off', 'not readable as JSON.*copy or unpack it again',
             spoil=lambda folder: (folder / 'train.json').write_text(
                 (folder / 'train.json').read_text()[:-100]) and None),
    Sabotage('an image folder of another name', 'image folder .*JPEGImages is not there.*Correct',
             'train_dataloader[\'dataset\'][\'data_prefix\'][\'img\'] = \'JPEGImages\''),
    Sabotage('data_prefix without img', 'KeyError: .img.. Write data_prefix=dict',
             'train_dataloader[\'dataset\'][\'data_prefix\'] = dict(_delete_=True, '
             'img_path=\'images/\')'),
    Sabotage('an image deleted', '1 of 6 images .* are not in .*The folder is',
             spoil=lambda folder: first_image(folder).unlink()),
    Sabotage('a JPEG cut off', '1 of the 6 images .*is unreadable.*Copy those again',
             spoil=cut_image),
    Sabotage('an image of another size than noted', 'is 320x320 pixels, not 640x640.*mend their',
             spoil=resize_image),
    Sabotage('an image that its EXIF entry turns', 'noted as 640x480, but its EXIF entry turns it.*'
             'mend their entries', spoil=turn_image),
    # Boxes.
    Sabotage('boxes as corners x1, y1, x2, y2', 'look like corners.*write x2 - x1',
             spoil=edit('train.json', corners)),
    Sabotage('boxes as fractions of the image', 'fractions of the image.*Multiply',
             spoil=edit('train.json', fractions)),
    Sabotage('an exporter that left area out', 'lack area, which mmdet reads: add width times',
             spoil=edit('train.json', lambda c: [a.pop('area') for a in c['annotations']])),
    Sabotage('a box with NaN', 'not four finite numbers.*mend or delete', spoil=edit(
        'train.json', lambda c: c['annotations'][0].update(bbox=[1, 2, float('nan'), 4]))),
    Sabotage('two annotations of one id', 'ids of annotations .* more than once.*Give each',
             spoil=edit('train.json', lambda c: c['annotations'][1].update(
                 id=c['annotations'][0]['id']))),
    Sabotage('boxes of an image that the file lacks', 'belong to images that it lacks.*Export it',
             spoil=edit('train.json', lambda c: c['images'].pop())),
    Sabotage('an evaluator left at another file', 'val_evaluator compares with .*train.json, but.*'
             'set val_evaluator.ann_file', 'val_evaluator[\'ann_file\'] = \'{folder}/train.json\''),
    # Start weights.
    Sabotage('weights under "backbone.", for Pretrained', 'none of the .* tensors.*without a word.*'
             'prefix=.backbone', PRETRAINED, lambda folder: save_backbone(folder, 'backbone.')),
    Sabotage('weights of a ResNet-34 for a ResNet-18 of double width', 'Names agree and shapes do not',
             PRETRAINED, lambda folder: save_backbone(folder, depth=34, base_channels=64)),
    Sabotage('weights of another network, for GMPretrained', 'does not fit|holds another',
             GM_PRETRAINED, lambda folder: save_backbone(folder, depth=50)),
    Sabotage('weights that were cut off', 'is truncated.*fetch it again', GM_PRETRAINED, cut_weights),
    Sabotage('load_from that is not there', 'load_from names .*epoch_12.pth, which is not there.*'
             'Correct the path', 'load_from = \'{folder}/epoch_12.pth\''),
    Sabotage('load_from with a bare backbone', 'load_from: .*none of.*It is a backbone.s: take '
             'load_from out', 'load_from = \'{folder}/weights.pth\'', save_backbone),
    Sabotage('masks frozen as they start (freeze_masks=True)', 'never learn: set freeze_masks=False',
             GM_PRETRAINED.replace('init_cfg', 'frozen_stages=1, freeze_masks=True, init_cfg'),
             lambda folder: save_plain_backbone(folder)),
    Sabotage('a checkpoint of other classes', 'was trained on the classes pin-hole.*Name the config',
             spoil=other_classes),
    # The config.
    Sabotage('no custom_imports', 'nothing imports gmconv_mmdet.*Add custom_imports',
             'custom_imports = dict(_delete_=True, imports=[])'),
    Sabotage('a type misspelt', 'GMResnet is not in the .*misspelt.*Nearest is GMResNet',
             'model = dict(backbone=dict(type=\'GMResnet\'))'),
    Sabotage('a config of MMDetection 2', 'is one of MMDetection 2.*Start from a config of mmdet 3',
             spoil=plain_config('model = dict(type="FasterRCNN")\ndata = dict(samples_per_gpu=2)\n')),
    Sabotage('a model config without data', 'no train_dataloader: add',
             spoil=plain_config('_base_ = ["mmdet::_base_/models/faster-rcnn_r50_fpn.py"]\n')),
    Sabotage('a syntax error', 'can.t be read as a config: SyntaxError.*line .*orrect that line',
             spoil=plain_config('model = dict(\n    type="FasterRCNN"\n    backbone=dict())\n')),
    Sabotage('_base_ that is not there', 'can.t be read as a config.*faster-rcnn_r50.py.*orrect the '
             'path', spoil=plain_config('_base_ = ["faster-rcnn_r50.py"]\n')),
    Sabotage('an argument that the class does not have', 'unexpected keyword argument .deph.*remove or '
             'correct', 'model = dict(neck=dict(deph=3))'),
    # What only a step shows.
    Sabotage('pixels of 0 to 255 for a dynamic stem', 'far from normalised.*input_scale=',
             'model = dict(data_preprocessor=dict(mean=[0., 0., 0.], std=[1., 1., 1.]))', trial=True),
    Sabotage('in_channels of the neck for a full-width network', 'in_channels of the neck',
             'model = dict(neck=dict(in_channels=[64, 128, 256, 512]))', trial=True),
    Sabotage('a learning rate of 20 without warm-up', 'the first step takes the loss from .* to .*'
             'lower the learning rate', 'optim_wrapper = dict(optimizer=dict(lr=20), clip_grad=None)\n'
             'param_scheduler = []', trial=True),
    Sabotage('masks evaluated where none are learnt', 'segm.*set metric=.bbox', 'val_evaluator['
             '\'metric\'] = [\'bbox\', \'segm\']', trial=True),
    Sabotage('a pipeline that reads masks from boxes', 'learns masks and the annotations have none',
             'train_pipeline = [dict(type=\'LoadImageFromFile\'), dict(type=\'LoadAnnotations\', '
             'with_bbox=True, with_mask=True), dict(type=\'Resize\', scale=(320, 320)), '
             'dict(type=\'PackDetInputs\')]\ntrain_dataloader[\'dataset\'][\'pipeline\'] = '
             'train_pipeline', trial=True),
)


def save_plain_backbone(folder: Path) -> None:
    cfg = Config.fromfile(folder / 'config.py').model.backbone
    network = MODELS.build(dict(type='mmdet.ResNet', depth=cfg.depth, base_channels=cfg.base_channels))
    torch.save(network.state_dict(), folder / 'weights.pth')
