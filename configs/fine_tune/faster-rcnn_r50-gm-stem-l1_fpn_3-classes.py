# A plain Faster R-CNN of mmdet's model zoo, trained on COCO's 80 classes, goes on as a GM detector of
# 3 classes. An example to copy: docs/fine_tune.md says what each part does and what the log says.
_base_ = '../gmconv/faster-rcnn_r50-gm-stem-l1_fpn_1x_coco.py'

# The detector to start from: a file or a link. Backbone and neck compute at first what they do there;
# the two layers of the head that know the classes start anew.
detector = ('https://download.openmmlab.com/mmdetection/v2.0/faster_rcnn/faster_rcnn_r50_fpn_1x_coco/'
            'faster_rcnn_r50_fpn_1x_coco_20200130-047c8118.pth')
metainfo = dict(classes=('person', 'car', 'chair'))

model = dict(
    init_cfg=dict(type='GMPretrained', checkpoint=detector),
    roi_head=dict(bbox_head=dict(num_classes=3)))
train_dataloader = dict(dataset=dict(metainfo=metainfo))
val_dataloader = dict(dataset=dict(metainfo=metainfo))
test_dataloader = val_dataloader

optim_wrapper = dict(
    optimizer=dict(lr=0.01),  # half of the first training's, for 16 images a step
    # No weight decay on masks, which would shrink every sigma, and a rate at which they move.
    paramwise_cfg=dict(custom_keys=dict(sigma=dict(lr_mult=10, decay_mult=0))))
