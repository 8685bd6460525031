from gmconv_mmdet.lab.reproduce.coco_folder import find_coco_folder


def test_coco_2017s_names_come_first_and_are_the_default(tmp_path):
    empty = find_coco_folder(tmp_path / 'no data')
    assert empty[1:] == ('annotations/instances_train2017.json',
                         'annotations/instances_val2017.json', 'train2017', 'val2017')
    for name in ('train2017', 'train', 'images', 'val'):
        (tmp_path / name).mkdir()
    assert find_coco_folder(tmp_path).train_images == 'train2017'
    assert find_coco_folder(tmp_path).val_images == 'val'


def test_other_layouts_are_found(small_coco):
    data = find_coco_folder(small_coco)
    assert data[1:] == ('annotations/instances_train.json', 'annotations/instances_val.json',
                        'images', 'images')
    assert data.path('val_images') == small_coco / 'images'


def test_given_parts_are_taken_as_they_are(small_coco, monkeypatch):
    monkeypatch.chdir(small_coco.parent)
    data = find_coco_folder('some data', train_annotations='mine.json', val_images=None)
    assert data.root == small_coco  # absolute
    assert (data.train_annotations, data.val_images) == ('mine.json', 'images')
