import json

import numpy as np
import pytest
import torch

from gmconv_mmdet.checkpoints import read_checkpoint
from gmconv_mmdet.lab import cifar10
from gmconv_mmdet.layers import GMConv2d, RefConv2d


@pytest.fixture
def data(tmp_path):
    """A folder with the binary version's files: 15 images to train on, 5 to test on."""
    random = np.random.default_rng(0)
    folder = tmp_path / 'data' / 'cifar-10-batches-bin'
    folder.mkdir(parents=True)
    for i, name in enumerate([*(f'data_batch_{i}' for i in range(1, 6)), 'test_batch']):
        records = random.integers(0, 256, (5 if name == 'test_batch' else 3, 3073), dtype=np.uint8)
        records[:, 0] = (np.arange(len(records)) + i) % 10
        records.tofile(folder / f'{name}.bin')
    return folder.parent


@pytest.fixture
def train(data, tmp_path, monkeypatch):
    monkeypatch.setattr(cifar10, 'BATCH', 4)  # four steps an epoch

    def train(*arguments, out='runs'):
        folder = tmp_path / out
        cifar10.main(['train', '--data', str(data), '--out', str(folder), '--depth', '8',
                      '--device', 'cpu', *map(str, arguments)])
        return folder
    return train


def read(path):
    return json.loads(path.read_text()), read_checkpoint(path.with_suffix('.pth'))


@pytest.mark.slow
@pytest.mark.parametrize('variant, options', [
    ('gm', ['--mask-lr-factor', 10]), ('sgm', ['--no-mask-decay'])])
def test_a_killed_run_ends_as_an_undisturbed_one(train, tmp_path, monkeypatch, variant,
                                                 options):
    arguments = ['--variant', variant, '--epochs', 4, '--seeds', 3, *options]
    whole = next(train(*arguments, out='whole').glob('*.json'))
    original, steps = cifar10.normalize, []

    def killed(images):  # in the middle of the third epoch; nothing is tidied up
        steps.append(images)
        if len(steps) == 16:
            raise KeyboardInterrupt
        return original(images)
    monkeypatch.setattr(cifar10, 'normalize', killed)
    with pytest.raises(KeyboardInterrupt):
        train(*arguments)
    monkeypatch.setattr(cifar10, 'normalize', original)
    kept = next((tmp_path / 'runs').glob('*.json'))
    assert read(kept)[0]['epoch'] == [1, 2] and not read(kept)[0]['finished']
    torch.manual_seed(99)  # another process has other global random numbers
    folder = train(*arguments)
    (expected, expected_state), (found, found_state) = (
        read(file) for file in (whole, folder / whole.name))
    assert found['finished'] and found['epoch'] == [1, 2, 3, 4]
    for key in ('loss', 'accuracy', 'lr', 'masks'):
        assert found[key] == expected[key]
    assert found['lr'] == pytest.approx([0.1, 0.1, 0.01, 0.001])
    for name, tensor in expected_state['model'].items():
        assert torch.equal(found_state['model'][name], tensor), name
    before = (folder / whole.name).read_bytes()
    train(*arguments)  # finished: nothing is trained again
    assert (folder / whole.name).read_bytes() == before


def test_report_has_every_variant_beside_the_paper(train, capsys):
    folder = train('--variant', 'plain', 'sgm', '--epochs', 1, '--seeds', 0, 1)
    plain = folder / 'resnet8-plain-1e-seed0.json'
    paper, half = (json.loads(plain.read_text()) for _ in range(2))
    paper['settings'].update(depth=20)
    (folder / 'resnet20-plain-1e-seed0.json').write_text(json.dumps(paper))
    half.update(finished=False)
    (folder / 'half-seed0.json').write_text(json.dumps(half))
    capsys.readouterr()
    cifar10.main(['report', *map(str, folder.glob('*.json'))])
    text = capsys.readouterr().out
    assert '| resnet8-sgm-1e | 0, 1 | 1 | x 0.00625 | ' in text and ' ± ' in text
    assert '| 91.58 |' in text
    assert '-0.000' not in text
    assert 'Masks of resnet8-sgm-1e at the end' in text and '| layer1.0.conv1 | ' in text
    assert 'Not finished, and left out: half-seed0 (1 of 1 epochs).' in text
    cifar10.main(['report', '--by', 'stage', *map(str, folder.glob('*.json'))])
    text = capsys.readouterr().out
    cells = next(line for line in text.splitlines()
                 if line.startswith('| resnet8-sgm-1e | 5 |')).split(' | ')
    assert all(len(cell.split(' / ')) == 4 for cell in cells[2:])  # stem and three stages
    assert all(2.9 < float(size.strip(' |')) < 3 for size in cells[-1].split(' / '))
    assert 'layer1.0.conv1' not in text


@pytest.mark.slow
def test_networks_on_top_of_a_trained_plain_one(train):
    with pytest.raises(SystemExit, match='refconv trains on top of a trained plain network'):
        train('--variant', 'refconv')
    with pytest.raises(SystemExit, match='there is no file'):
        train('--warm-start', 'nothing.pth')
    folder = train('--variant', 'plain', '--epochs', 1)
    start = folder / 'resnet8-plain-1e-seed{seed}.pth'
    images = torch.randn(4, 3, 32, 32)

    def built(variant, **options):
        args = cifar10.parse(['train', '--data', '', '--depth', '8', '--warm-start', str(start),
                              '--device', 'cpu'])
        vars(args).update(options)
        return cifar10.build(args, variant, 0).eval()

    expected = built('plain')(images)
    for variant, options in (('sgm', dict(init_sigma=1.0)), ('gm', dict(init_sigma=5.0)),
                             ('refconv', dict(map_init='identity'))):
        network = built(variant, **options)
        layers = [m for m in network.modules() if isinstance(m, (GMConv2d, RefConv2d))]
        assert len(layers) == 7
        torch.testing.assert_close(network(images), expected, rtol=1e-4, atol=1e-5)
    with pytest.raises(SystemExit, match='(?s)--init-sigma 0.1: .* falls to'):
        built('sgm', init_sigma=0.1)
    basis = built('refconv').conv1.weight
    folder = train('--variant', 'refconv', 'plain', '--epochs', 1, '--warm-start', start)
    trained = read(folder / 'resnet8-refconv-1e-warm-seed0.json')[1]
    assert torch.equal(trained['model']['conv1.weight'], basis)
    assert read(folder / 'resnet8-plain-1e-warm-seed0.json')[0]['finished']
    with pytest.raises(SystemExit, match='needs a plain ResNet-8'):
        train('--variant', 'sgm', '--warm-start', folder / 'resnet8-refconv-1e-warm-seed0.pth')


def test_crops_are_windows_of_the_padded_images():
    images = torch.randint(256, (6, 3, 8, 8), dtype=torch.uint8)
    padded = torch.nn.functional.pad(images, (4, 4, 4, 4))
    generator = torch.Generator().manual_seed(0)
    (crops, labels), = cifar10.batches(images, torch.arange(6), generator)
    assert sorted(labels.tolist()) == list(range(6))
    places = set()
    for crop, label in zip(crops, labels):
        windows = {(y, x, flip): window.flip(2) if flip else window
                   for y in range(9) for x in range(9) for flip in (False, True)
                   for window in [padded[label, :, y:y + 8, x:x + 8]]}
        place, = [key for key, window in windows.items()
                  if torch.equal(cifar10.normalize(window), crop)]
        places.add(place)
    assert len(places) > 3


def test_both_forms_of_the_data(data, tmp_path):
    cv2 = pytest.importorskip('cv2')
    images, labels = cifar10.load(data, 'train')
    assert images.shape == (15, 3, 32, 32) and images.dtype == torch.uint8
    record = np.fromfile(data / 'cifar-10-batches-bin' / 'data_batch_1.bin', np.uint8)
    assert labels[0] == record[0] and images[0, 1, 0, 5] == record[1 + 1024 + 5]
    blue = np.zeros((32, 32, 3), np.uint8)
    blue[..., 0] = 250  # OpenCV's order: blue first
    jpeg = cv2.imencode('.jpg', blue)[1].ravel()
    np.savez(tmp_path / 'cifar10_test.npz', jpeg=np.concatenate([jpeg] * 3), labels=[0, 1, 2],
             offsets=len(jpeg) * np.arange(4), classes=['a', 'b', 'c'])
    images, labels = cifar10.load(tmp_path, 'test', every=2)
    assert labels.tolist() == [0, 2] and images[0, 2].min() > 240 and images[0, 0].max() < 10
    with pytest.raises(SystemExit, match='or the binary version'):
        cifar10.load(tmp_path, 'train')


def test_a_diverged_run_is_left_out_and_the_next_one_trains(train, data, tmp_path, capsys):
    status = cifar10.main([
        'train', '--data', str(data), '--out', str(tmp_path / 'runs'), '--depth', '8', '--device',
        'cpu', '--variant', 'sgm', 'plain', '--epochs', '2', '--mask-lr-factor', 'inf'])
    assert status == 1 and 'diverged: the loss of epoch' in capsys.readouterr().err
    assert read(tmp_path / 'runs' / 'resnet8-plain-2e-seed0.json')[0]['finished']
