"""The trained backbones in demo/networks: loaded, masks and all, as their cards say."""
import hashlib

import pytest
import torch

from gmconv_mmdet import fold_gmconv
from gmconv_mmdet.backbones import GMResNet
from gmconv_mmdet.layers.find_layers import gm_layers
from gmconv_mmdet.pretrained import load_pretrained


@pytest.fixture
def files(repo):
    found = sorted((repo / 'demo' / 'networks').glob('*.safetensors'))
    assert found and sum(path.stat().st_size for path in found) < 10_000_000
    return found


def test_backbones_load_whole_and_fold(files):
    for path in files:
        network = GMResNet(18, base_channels=32).eval()
        report = load_pretrained(network, path)
        assert not report.initialized and not report.approximated and not report.ignored
        masks = gm_layers(network)
        assert len(masks) == 17 and not any(layer.mask_is_initial() for layer in masks.values())
        images = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
        for whole, folded in zip(network(images), fold_gmconv(network)(images)):
            assert torch.equal(whole, folded)


def test_cards_name_the_file(files):
    for path in files:
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        assert path.stem.endswith(digest[:8])
        stem = path.stem[:-len(digest[:8]) - 1]
        card = path.with_name(f'{stem}.md').read_text(encoding='utf-8')
        assert path.name in card and digest in card and 'License' in card
