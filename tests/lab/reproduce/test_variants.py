import pytest
import torch
from mmengine.config import Config

from gmconv_mmdet.deploy.plain_config import plain_twin
from gmconv_mmdet.lab.reproduce.variants import (
    Comparison,
    Variant,
    backbone_weights,
    make_comparison,
    table_comparison,
    variant_config,
    write_initial_weights,
)

NOTHING = Comparison(())
# What no shell quoting is to be trusted with.
ODD = 'it\'s "my" data, {a} [b] ü'


@pytest.fixture
def demo(repo):
    return repo / 'configs' / 'demo' / 'faster-rcnn_r18-gm_fpn_shapes.py'


def config_of(backbone, **other):
    return Config(dict(model=dict(type='FasterRCNN', backbone=backbone, **other),
                       custom_hooks=[dict(type='SigmaLogHook'), dict(type='ExactResumeHook')]))


def test_twin_of_gm_resnet_is_mmdets_resnet_and_nothing_else_changes(demo):
    cfg = Config.fromfile(demo)
    twin = plain_twin(cfg)
    assert twin.model.backbone == dict(type='ResNet', depth=18, base_channels=32, frozen_stages=-1,
                                       norm_eval=False, style='pytorch')
    assert cfg.model.backbone.type == 'GMResNet', 'the original stays'
    assert [hook.type for hook in twin.custom_hooks] == ['SafeCheckpoints', 'ExactResumeHook']
    for key in set(cfg) - {'model', 'custom_hooks'}:
        assert twin[key] == cfg[key]
    for key in set(cfg.model) - {'backbone'}:
        assert twin.model[key] == cfg.model[key]


def test_twin_of_gm_backbone_is_the_backbone_in_it_wherever_it_stands():
    inner = dict(type='ResNeXt', depth=50, groups=32)
    cfg = config_of(dict(type='GMBackbone', backbone=inner, gm_stem='dynamic',
                         init_cfg=dict(type='GMPretrained', checkpoint='x.pth')),
                    neck=[dict(type='FPN', conv_cfg=dict(type='GMConv')),
                          dict(type='SSH', conv_cfg=dict(type='DCNv2'))])
    twin = plain_twin(Config(dict(model=dict(detector=cfg.model))))
    assert twin.model.detector.backbone == dict(inner, init_cfg=dict(type='GMPretrained',
                                                                     checkpoint='x.pth'))
    assert twin.model.detector.neck == [dict(type='FPN'),
                                        dict(type='SSH', conv_cfg=dict(type='DCNv2'))]


def test_twin_of_a_drop_in_is_its_base():
    own = dict(depth=50, groups=32, init_cfg=dict(type='GMPretrained', checkpoint='x.pth'))
    twin = plain_twin(config_of(dict(type='GMBackbone', base='ResNeXt', gm_stem='static',
                                     gm_body=None, gm_cfg=dict(init_sigma=3), **own)))
    assert twin.model.backbone == dict(type='ResNeXt', **own)


def test_twin_of_refconv_backbone_is_the_backbone_in_it():
    inner = dict(type='ResNet', depth=50)
    twin = plain_twin(config_of(dict(type='RefConvBackbone', backbone=inner, stem=False,
                                     body=['layer2'], ref_cfg=dict(init='identity'))))
    assert twin.model.backbone == inner


def test_a_plain_config_has_no_twin():
    with pytest.raises(ValueError, match='it is its own plain twin.*--against OTHER_CONFIG'):
        plain_twin(config_of(dict(type='ResNet', depth=50)))


def test_comparison_as_the_command_line_describes_it(demo, tmp_path):
    other = tmp_path / 'other.py'
    other.write_text('model = dict()')
    comparison = make_comparison(demo, variants=[['sgm', 'model.backbone.gm_stem=static'],
                                                 ['theirs', str(other), 'a=(1,2)']])
    assert comparison.variants == (
        Variant('plain', demo, is_plain_twin=True), Variant('gm', demo),
        Variant('sgm', demo, ('model.backbone.gm_stem=static',)),
        Variant('theirs', other, ('a=(1,2)',)))
    against = make_comparison(demo, str(other))
    assert against.baseline_of(against.variants[1]) == Variant('other', other, baseline='other')
    with pytest.raises(ValueError, match="'gm' can't be a variant's name"):
        make_comparison(demo, variants=[['gm', 'a=1']])
    with pytest.raises(ValueError, match="'a/b' can't be a variant's name"):
        make_comparison(demo, name='a/b')
    with pytest.raises(ValueError, match="'gm_stem' is neither key=value nor a config"):
        make_comparison(demo, variants=[['x', 'gm_stem']])
    with pytest.raises(FileNotFoundError, match='no config at .*none.py'):
        make_comparison(tmp_path / 'none.py')


@pytest.mark.slow
def test_config_of_a_run(demo):
    variant = Variant('sgm', demo, ('model.backbone.gm_stem=static',))
    cfg = variant_config(variant, 3, Comparison((), ('train_cfg.max_epochs=2',)))
    assert cfg.randomness.seed == 3 and cfg.train_cfg.max_epochs == 2
    assert cfg.model.backbone.gm_stem == 'static'
    kinds = [hook.type for hook in cfg.custom_hooks]
    assert sorted(kinds) == ['ExactResumeHook', 'SafeCheckpoints', 'SigmaLogHook'], 'each once'
    twin = variant_config(Variant('plain', demo, is_plain_twin=True), 3, NOTHING)
    assert twin.model.backbone.type == 'ResNet' and 'gmconv_mmdet' in twin.custom_imports.imports


@pytest.mark.slow
def test_runs_of_a_seed_begin_with_the_same_tensors(demo, tmp_path):
    """All but the masks are the baseline's; another seed has others."""
    states = {}
    for seed in (0, 1):
        base = variant_config(Variant('plain', demo, is_plain_twin=True), seed, NOTHING)
        for name, cfg in (('plain', base),
                          ('gm', variant_config(Variant('gm', demo), seed, NOTHING))):
            path = tmp_path / 'initial.pth'
            said = write_initial_weights(cfg, base, path)
            states[name, seed] = torch.load(path)['state_dict']
    plain, gm = states['plain', 0], states['gm', 0]
    assert said == '150 of 169 initial tensors are the baseline\'s'
    assert all(torch.equal(gm[name], tensor) for name, tensor in plain.items())
    assert not torch.equal(plain['backbone.conv1.weight'],
                           states['plain', 1]['backbone.conv1.weight'])
    assert gm['backbone.layer1.0.conv1.sigma'].item() == 5


@pytest.mark.slow
def test_seed_in_overrides_and_in_load_from_is_the_runs(demo, tmp_path):
    """So each seed starts from its own trained detector; the plain twin from the same."""
    own = tmp_path / 'own.py'
    own.write_text(f'_base_ = {str(demo)!r}\nload_from = "runs/plain-seed{{seed}}/epoch_8.pth"\n')
    options = Comparison((), ('model.backbone.style=a{seed}', 'default_scope=x{seed}y',
                              'my.list=[b{seed},2,"c"]'))
    for variant in (Variant('gm', own), Variant('plain', own, is_plain_twin=True)):
        cfg = variant_config(variant, 12, options)
        assert cfg.load_from == 'runs/plain-seed12/epoch_8.pth' and cfg.my.list == ['b12', 2, 'c']
        assert (cfg.model.backbone.style, cfg.default_scope) == ('a12', 'x12y')
    cfg = variant_config(Variant('gm', demo, ('load_from=p-seed{seed}.pth',)), 3, NOTHING)
    assert cfg.load_from == 'p-seed3.pth'


def row(name, **options):
    comparison = table_comparison('V')._replace(**options)
    variant = next(one for one in comparison.variants if one.name == name)
    return variant, variant_config(variant, 3, comparison)


@pytest.mark.slow
def test_rows_of_the_tables_keep_the_papers_recipe(tmp_path):
    for name in ('cascade-rcnn_r50-gm-stem-l1', 'faster-rcnn_r50'):
        variant, cfg = row(name, data_root=tmp_path / ODD)
        original = Config.fromfile(variant.config)
        for key in ('optim_wrapper', 'param_scheduler', 'train_cfg', 'model'):
            assert cfg[key] == original[key]
        assert cfg.train_dataloader.dataset.pipeline == original.train_dataloader.dataset.pipeline
        assert cfg.auto_scale_lr == dict(enable=True, base_batch_size=16)
        assert cfg.randomness == dict(seed=3)
        annotations = f'{tmp_path / ODD}/annotations/instances_val2017.json'
        assert cfg.val_evaluator.ann_file == cfg.test_evaluator.ann_file == annotations
        for split in ('train', 'val', 'test'):
            assert cfg[f'{split}_dataloader'].dataset.data_root == f'{tmp_path / ODD}/'
        assert Config.fromstring(cfg.pretty_text, '.py').val_evaluator.ann_file == annotations


def test_every_row_has_a_config_and_a_baseline_in_its_table():
    for table, number in (('III', 4), ('V', 14)):
        comparison = table_comparison(table)
        assert len(comparison.variants) == number
        for variant in comparison.variants:
            assert variant.config.is_file() and comparison.baseline_of(variant).config.is_file()
            assert (variant.baseline == variant.name) == variant.name.endswith('_r50')


@pytest.mark.slow
def test_rows_with_and_without_gmconv_start_from_their_own_weights(demo, monkeypatch):
    monkeypatch.delenv('GMCONV_PRETRAINED', raising=False)
    gm, plain = 'cascade-rcnn_r50-gm-stem-l1', 'faster-rcnn_r50'
    weights = dict(pretrained='gm.pth', pretrained_plain='plain.pth')
    # Masks come trained with these weights and stay as they are in frozen stages: the paper's way.
    cfg = row(gm, **weights)[1]
    assert backbone_weights(cfg) == 'gm.pth' and cfg.model.backbone.freeze_masks is True
    cfg = row(plain, **weights)[1]
    assert backbone_weights(cfg) == 'plain.pth' and 'freeze_masks' not in cfg.model.backbone
    assert backbone_weights(row(gm)[1]) == 'torchvision://resnet50'
    with pytest.raises(ValueError, match='gm: its backbone has no init_cfg'):
        variant_config(Variant('gm', demo), 0, NOTHING._replace(pretrained='gm.pth'))


def test_a_config_without_a_data_root_is_told(tmp_path):
    (tmp_path / 'none.py').write_text('model = dict()\n')
    with pytest.raises(ValueError, match='none.py has no data_root that --data-root could replace'):
        variant_config(Variant('gm', tmp_path / 'none.py'), 0,
                       NOTHING._replace(data_root=tmp_path))
