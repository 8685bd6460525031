"""Downloads from a real (local) server: hashes, locks, errors."""
import hashlib
import http.server
import multiprocessing
import socket
import sys
import threading

import pytest
import torch

from gmconv_mmdet.checkpoints import CheckpointError
from gmconv_mmdet.checkpoints.fetch import cache_path, local_file, resolve, sha256


@pytest.fixture
def hub(tmp_path, monkeypatch):
    # Not set_dir(): it can't be taken back, and TORCH_HOME would mean nothing to later tests.
    monkeypatch.setattr(torch.hub, '_hub_dir', str(tmp_path / 'hub'))
    return tmp_path / 'hub' / 'checkpoints'


@pytest.fixture
def server(tmp_path):
    """Serves tmp_path/www and counts the requests for each name."""
    www = tmp_path / 'www'
    www.mkdir()
    requests = []

    class Handler(http.server.SimpleHTTPRequestHandler):

        def __init__(self, *args, **kwargs):
            super().__init__(*args, directory=str(www), **kwargs)

        def log_message(self, *args):
            requests.append(self.path)

    httpd = http.server.ThreadingHTTPServer(('127.0.0.1', 0), Handler)
    threading.Thread(target=httpd.serve_forever, daemon=True).start()
    yield www, f'http://127.0.0.1:{httpd.server_port}', requests
    httpd.shutdown()
    httpd.server_close()


def publish(www, content=b'x' * 100_000):
    name = f'net-{hashlib.sha256(content).hexdigest()[:8]}.pth'
    (www / name).write_bytes(content)
    return name, content


def test_downloads_once_where_mmengine_looks(server, hub):
    www, url, requests = server
    name, content = publish(www)
    for _ in range(2):
        path = local_file(f'{url}/{name}')
        assert path == hub / name and path.read_bytes() == content
    assert requests == [f'/{name}']
    assert not list(hub.glob('*.partial'))


def test_a_read_only_cache_with_the_file_in_it(server, hub):
    """A lock that can't be made is what root, too, meets in a folder that nobody may write to."""
    www, url, requests = server
    name, content = publish(www)
    hub.mkdir(parents=True)
    (hub / name).write_bytes(content)
    (hub / f'{name}.lock').mkdir()
    hub.chmod(0o555)
    try:
        assert local_file(f'{url}/{name}').read_bytes() == content and not requests
    finally:
        hub.chmod(0o755)
    (hub / name).unlink()
    with pytest.raises(CheckpointError, match="can't be kept in .*: set TORCH_HOME to"):
        local_file(f'{url}/{name}')


def _fetch(hub_dir, link, queue):
    torch.hub.set_dir(hub_dir)
    queue.put(sha256(local_file(link)))


def test_without_filelock(server, hub, monkeypatch):
    www, url, _ = server
    name, content = publish(www)
    monkeypatch.setitem(sys.modules, 'filelock', None)
    with pytest.raises(CheckpointError, match='needs the package filelock.*or put the file at'):
        local_file(f'{url}/{name}')
    hub.mkdir(parents=True, exist_ok=True)
    (hub / name).write_bytes(content)
    assert local_file(f'{url}/{name}') == hub / name


def test_processes_download_once(server, hub):
    www, url, requests = server
    name, content = publish(www, b'y' * 3_000_000)
    context = multiprocessing.get_context('fork')
    queue = context.Queue()
    processes = [context.Process(target=_fetch, args=(str(hub.parent), f'{url}/{name}', queue))
                 for _ in range(4)]
    for process in processes:
        process.start()
    found = {queue.get(timeout=60) for _ in processes}
    for process in processes:
        process.join()
    assert found == {hashlib.sha256(content).hexdigest()} and requests == [f'/{name}']


def test_wrong_hash(server, hub):
    www, url, _ = server
    (www / 'net-0123abcd.pth').write_bytes(b'something else')
    with pytest.raises(CheckpointError, match='expected 0123abcd.*fetch it again'):
        local_file(f'{url}/net-0123abcd.pth')
    assert not list(hub.glob('*.pth')) and not list(hub.glob('*.partial'))


def test_a_date_is_no_hash(server, hub):
    www, url, _ = server
    (www / 'net-20210429.pth').write_bytes(b'weights')
    assert local_file(f'{url}/net-20210429.pth').read_bytes() == b'weights'


def test_damaged_in_the_cache(server, hub):
    www, url, _ = server
    name, content = publish(www)
    path = local_file(f'{url}/{name}')
    path.write_bytes(content[:-1])
    with pytest.raises(CheckpointError, match='as kept in .*truncated or was changed'):
        local_file(f'{url}/{name}')


def test_unreachable(hub):
    with socket.socket() as held:  # a port that nobody listens on
        held.bind(('127.0.0.1', 0))
        link = f'http://127.0.0.1:{held.getsockname()[1]}/net.pth'
        with pytest.raises(CheckpointError, match='could not be downloaded') as error:
            local_file(link)
    assert str(cache_path(link)) in str(error.value)


def test_resolve(tmp_path):
    assert resolve('torchvision://resnet50').endswith('/resnet50-0676ba61.pth')
    assert resolve('torchvision://resnet50') == resolve('modelzoo://resnet50')
    assert resolve('open-mmlab://resnext50_32x4d').startswith('https://')
    assert resolve('a/b.pth') == 'a/b.pth'
    assert local_file(tmp_path / 'none.pth') == tmp_path / 'none.pth'
    with pytest.raises(CheckpointError, match='knows no .resnet51., but resnet101'):
        resolve('torchvision://resnet51')
    with pytest.raises(CheckpointError, match='unknown kind of link'):
        resolve('ftp://host/net.pth')
