"""What an exception of mmdet, MMEngine or torch means, and what to do about it."""
from __future__ import annotations

import re
import traceback
from difflib import get_close_matches
from pathlib import Path

from ..openmmlab.config_file import one_line
from .registered_names import registered

# Searched for in order, in the class and the text of the exception.
_KNOWN = (
    (r'need at least one array to concatenate|num_samples should be a positive|'
     r'integer division or modulo by zero',
     'no training image has a box of a known class: set metainfo=dict(classes=(...)) to the names '
     'of the annotation file\'s categories'),
    (r'SyntaxError', 'correct that line'),
    (r'FileNotFoundError.*\.py\b', 'correct the path in _base_, which is relative to the config'),
    (r'is not in the .*registry', 'the type is misspelt, or the package that registers it is not '
     'named in custom_imports'),
    (r'Duplicate key', 'two files in _base_ define the same part: keep one of them, and write the '
     'difference into your config'),
    (r'out of memory', 'lower train_dataloader.batch_size or the image scale'),
    (r'Expected more than 1 value per channel', 'BatchNorm needs more than one value: raise '
     'batch_size or the image scale'),
    (r'expected input.* to have \d+ channels|expected weight to be at least|'
     r'len\(inputs\) == len\(self\.in_channels\)',
     'in_channels of the neck, or of a head, differ from what the part before gives: for a ResNet '
     'those are base_channels times 1, 2, 4, 8, from depth 50 on four times that'),
    (r'shapes cannot be multiplied', 'in_channels or roi_feat_size of a head differ from what it is '
     'given: set them to out_channels of the neck and output_size of the RoI extractor'),
    (r'IndexError|Target \d+ is out of bounds|Class values must be smaller',
     'num_classes of a head is not the number of classes: set them equal'),
    (r'unexpected keyword argument', 'remove or correct that argument; configs of MMDetection 2 have '
     'others'),
    (r'URLError|ConnectionError|name resolution|Max retries|not be downloaded', 'without internet, '
     'fetch the file elsewhere and name it as a local path'),
    (r'gt_masks|polygons|segmentation|KeyError: .mask', 'the model or its pipeline learns '
     'masks and the annotations have none: take a config that detects boxes, or add segmentation to '
     'each annotation'),
    (r'is not in results', 'the evaluator asks for a metric that the model does not give: set '
     'metric=\'bbox\''),
    (r'ModuleNotFoundError|Failed to import', 'install the package, or correct custom_imports'),
    (r'amp.*only available|AmpOptimWrapper', 'mixed precision needs a GPU: optim_wrapper.type='
     '\'OptimWrapper\''),
    (r'should be either all None or not None', 'give all three, or set all three to None'),
    (r'KeyError: .img', 'write data_prefix=dict(img=FOLDER) in each dataset'),
)


def way_out(error: BaseException) -> str:
    """An exception in one line: what it says, where it came from, and what to do."""
    text = one_line(error, 300).partition(' Please check')[0].rstrip('.')
    frames = traceback.extract_tb(error.__traceback__)
    place = ''
    if frames:
        last = frames[-1]
        source = f' ("{last.line}")' if isinstance(error, AssertionError) and last.line else ''
        place = f', in {"/".join(Path(last.filename).parts[-2:])} line {last.lineno}{source}'
    searched = f'{type(error).__name__} {text} {place}'
    known = next((advice for pattern, advice in _KNOWN
                  if re.search(pattern, searched, re.IGNORECASE)), None)
    return f'{text}{place}. ' + (f'Cause and way out: {known}{_alike(text)}' if known else
                                 'The line named says what it is about: correct that part of the '
                                 'config')


def _alike(text: str) -> str:
    """The registered name that is nearest to one that is not."""
    asked = re.search(r'(\w+) is not in the .*registry', text)
    near = get_close_matches(asked[1], registered(), 1) if asked else []
    return f'. Nearest is {near[0]}' if near else ''
