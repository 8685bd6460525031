_base_ = './resnet18-continued_8xb64_in1k.py'
load_from = '{{$REFCONV_BASIS:work_dirs/resnet50_8xb32_in1k/epoch_90.pth}}'
model = dict(backbone=dict(depth=50), head=dict(in_channels=2048))
