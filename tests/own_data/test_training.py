"""Written configs in mmdet's own tools, on parts of real data sets."""
from __future__ import annotations

import json
from pathlib import Path

import pytest
from mmdet.apis import inference_detector, init_detector

from gmconv_mmdet.own_data.own_config import Options
from gmconv_mmdet.own_data.write import write_own_config

from ..processes import finished, mmdet_tool


def few_images(annotations, out, count):
    """An annotation file of the first ``count`` images with boxes."""
    content = json.loads(Path(annotations).read_text())
    boxed = {a['image_id'] for a in content['annotations'] if not a.get('iscrowd')}
    content['images'] = [i for i in content['images'] if i['id'] in boxed][:count]
    kept = {image['id'] for image in content['images']}
    content['annotations'] = [a for a in content['annotations'] if a['image_id'] in kept]
    out.write_text(json.dumps(content))
    return str(out)


@pytest.mark.slow
@pytest.mark.parametrize('data, base', [
    ('coco128', 'configs/gmconv/faster-rcnn_r50-gm-stem-l1_fpn_1x_coco.py'),
    pytest.param('deeppcb', 'configs/gmconv/cascade-rcnn_r50-gm-stem-l1_fpn_1x_coco.py',
                 marks=pytest.mark.nightly),
    pytest.param('deeppcb', 'configs/gmconv/retinanet_r50-gm-stem-l1_fpn_1x_coco.py',
                 marks=pytest.mark.nightly),
])
def test_trains_tests_and_detects(shared_data, tmp_path, data, base):
    folder = shared_data / data
    if not folder.is_dir():
        pytest.skip(f'no {folder}')
    train = few_images(folder / 'annotations' / 'instances_train.json', tmp_path / 'few.json', 5)
    result = write_own_config(
        (train, str(folder / 'images')), None, base, tmp_path / 'my_config.py',
        Options(from_scratch=True, scale=(160, 128), epochs=1, batch_size=2))
    small = ['train_dataloader.num_workers=0', 'train_dataloader.persistent_workers=False',
             'val_dataloader.num_workers=0', 'val_dataloader.persistent_workers=False',
             'test_dataloader.num_workers=0', 'test_dataloader.persistent_workers=False']
    work = tmp_path / 'work'
    output = finished(mmdet_tool('train.py', result.config, '--work-dir', work, '--cfg-options', *small))
    assert 'Epoch(val) [1]' in output and 'LR is set based on batch size of 16' in output
    checkpoint = work / 'epoch_1.pth'
    output = finished(mmdet_tool('test.py', result.config, checkpoint, '--work-dir', tmp_path / 'test',
                                 '--cfg-options', *small))
    assert 'bbox_mAP' in output or 'The testing results of the whole dataset is empty' in output

    model = init_detector(str(result.config), str(checkpoint), device='cpu')
    names = [c['name'] for c in json.loads(Path(train).read_text())['categories']]
    assert list(model.dataset_meta['classes']) == names
    image = json.loads(Path(train).read_text())['images'][0]['file_name']
    found = inference_detector(model, str(folder / 'images' / image)).pred_instances
    assert all(int(label) < len(names) for label in found.labels)
