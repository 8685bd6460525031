# RefConv in every convolution larger than 1x1, on top of the trained plain network.
_base_ = './resnet50-continued_8xb64_in1k.py'
model = dict(backbone=dict(kind='RefConv', gm_stem=True, gm_stages=(True, True, True, True)))
