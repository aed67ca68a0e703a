"""A file that is called a video and is none, or claims what it cannot hold, is refused before a decoder meets it."""
import http.server
import os
import struct
import threading
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

pytest.importorskip('mmaction')

from lsef_plugins.datasets.clip_list import ClipListDataset
from lsef_plugins.datasets.doctor.scan import Look, scan_clip
from lsef_plugins.datasets.frames import list_frames
from lsef_plugins.datasets.integrity import image_file_fault, video_fault
from lsef_plugins.files import content, mp4
from lsef_plugins.files.content import head_fault
from lsef_plugins.visualization import sample_video
from lsef_plugins.visualization.source import open_source


@pytest.fixture(scope='module')
def film(tmp_path_factory):
    path = tmp_path_factory.mktemp('film') / 'film.mp4'
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*'mp4v'), 25, (64, 48))
    rng = np.random.RandomState(0)
    for _ in range(30):
        writer.write(rng.randint(0, 255, (48, 64, 3)).astype(np.uint8))
    writer.release()
    return path.read_bytes()


@pytest.fixture(scope='module')
def web():
    """An address on this machine, and the list of what was asked of it."""
    asked = []

    class Handler(http.server.BaseHTTPRequestHandler):

        def do_GET(self):
            asked.append(self.path)
            self.send_error(404)

        def log_message(self, *arguments):
            pass

    with http.server.ThreadingHTTPServer(('127.0.0.1', 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f'http://127.0.0.1:{server.server_port}', asked
        server.shutdown()
        thread.join()


def patched(film, kind, offset, fmt, *values):
    """The film with other numbers in the content of its box ``kind``."""
    data = bytearray(film)
    struct.pack_into(fmt, data, data.index(kind) + 4 + offset, *values)
    return bytes(data)


def box(kind, content=b''):
    return struct.pack('>I4s', 8 + len(content), kind) + content


def fragmented(samples):
    """A film in fragments, of whose only one the run claims so many samples of a default size."""
    run = box(b'trun', struct.pack('>II', 0, samples))
    return box(b'ftyp', b'isom0000') + box(b'moov') + box(b'moof', box(b'traf', run)) + box(b'mdat', bytes(64))


# name: (content, given the film and an address; what is said of it)
HOSTILE = {
    'playlist.mp4': (lambda film, url: b'#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:1.2,\n%s/hls.ts\n#EXT-X-ENDLIST\n'
                     % url, 'is a playlist.*Give the videos themselves'),
    'playlist behind a zero.mp4': (lambda film, url: b'#EXTM3U\n#EXTINF:1.2,\n%s/hls.ts\n\0\0' % url, 'is a playlist'),
    'list.mp4': (lambda film, url: b"ffconcat version 1.0\nfile 'film.mp4'\n", 'is a playlist'),
    'session.mp4': (lambda film, url: b'v=0\no=- 0 0 IN IP4 127.0.0.1\nc=IN IP4 127.0.0.1\nm=video 5004 RTP/AVP 96\n',
                    'is a playlist'),
    'session behind letters.mp4': (lambda film, url: b'\x81\x82\nc=IN IP4 127.0.0.1\n' + bytes(5000), 'is a playlist'),
    'manifest.mp4': (lambda film, url: b'<?xml version="1.0"?><MPD><BaseURL>%s</BaseURL></MPD>' % url, 'is a playlist'),
    'text.mp4': (lambda film, url: b'<html>404 not found</html>', r"is text and no video \(it begins with '<html>404"),
    'program.mp4': (lambda film, url: b'\x7fELF\x02\x01\x01' + bytes(100), 'is a program and no video'),
    'archive.mp4': (lambda film, url: b'PK\x03\x04' + bytes(100), 'is a zip archive'),
    'empty.mp4': (lambda film, url: b'', 'empty'),
    'half.mp4': (lambda film, url: film[:len(film) // 2], 'cut off'),
    '178 million frames.mp4': (lambda film, url: patched(film, b'stsz', 4, '>II', 1 << 10, 178_956_970),
                               'claims 178956970 frames, more than its [0-9]+ bytes can hold'),
    '2 to the 32 frames.mp4': (lambda film, url: patched(film, b'stsz', 4, '>II', 0, 2**32 - 1), 'claims 4294967295'),
    'fragment of 500 million.mp4': (lambda film, url: fragmented(500_000_000), 'claims 500000000 frames'),
    '65535 x 65535.mp4': (lambda film, url: patched(film, b'stsd', 40, '>HH', 65535, 65535),
                          'claims frames of 65535 x 65535 pixels'),
    '$(touch canary);-rf.mp4': (lambda film, url: b'#EXTM3U\n', 'is a playlist'),
}
READABLE_IN_PART = ('half.mp4', 'empty.mp4')     # readers of pictures have words of their own for these


@pytest.mark.parametrize('name', HOSTILE)
def test_a_hostile_video_is_refused_everywhere_at_once_and_asks_nobody(tmp_path, monkeypatch, film, web, name):
    monkeypatch.chdir(tmp_path)
    url, asked = web
    make, words = HOSTILE[name]
    path = Path(name)
    path.write_bytes(make(film, url.encode()))
    Path('film.mp4').write_bytes(film)
    Path('list.txt').write_text(f'{name},0\n', encoding='utf-8')
    begun = time.monotonic()
    with pytest.raises(RuntimeError, match=words):
        ClipListDataset('list.txt', [], data_prefix=dict(video=str(tmp_path)), delimiter=',')
    found = scan_clip('1', name, Look(frames=False, decode=True)).findings
    assert len(found) == 1 and found[0].code in ('unreadable', 'truncated')
    for read in (open_source, sample_video):
        for reader in ('decord', 'opencv', None):
            if name == 'half.mp4' and reader != 'opencv':
                continue        # decord may die of it, which is why video_fault comes first
            with pytest.raises(ValueError, match='cannot be read as a video' if name in READABLE_IN_PART else words):
                read(path, reader=reader)
    assert asked == [] and not Path('canary').exists() and time.monotonic() - begun < 5


def test_a_film_under_any_name_is_read(tmp_path, monkeypatch, film):
    monkeypatch.chdir(tmp_path)
    for name in ('-rf.mp4', 'a;b $(c) `d`.mp4', 'new\nline.mp4', 'concat:film.mp4', '<script>.mp4', 'file:x.mp4'):
        Path(name).write_bytes(film)
        assert video_fault(name) is None
        for reader in ('decord', 'opencv'):
            source = open_source(Path(name), reader=reader)
            assert len(source.read([3])) == 1 and source.length == 30, (name, reader)
            source.close()


def test_pipes_devices_and_folders_are_no_files_and_nobody_waits(tmp_path, film):
    pipe, folder = tmp_path / 'pipe.mp4', tmp_path / 'frames'
    os.mkfifo(pipe)
    folder.mkdir()
    os.mkfifo(folder / '2.jpg')
    (folder / '1.jpg').write_bytes(b'x')
    assert 'is a folder' in video_fault(str(folder))
    for path in (pipe, '/dev/zero'):
        assert 'is a pipe or a device' in video_fault(str(path))
    for path in (pipe, '/dev/zero'):
        for read in (open_source, sample_video):
            with pytest.raises(ValueError, match='is a pipe or a device and no file'):
                read(path)
    with pytest.raises(content.NoRegularFileError, match='a pipe or a device'):
        content.open_regular(str(pipe))
    assert list_frames(str(folder)) == ['1.jpg']
    assert 'no regular file' in image_file_fault(str(folder / '2.jpg'))
    link = tmp_path / 'link.mp4'
    (tmp_path / 'film.mp4').write_bytes(film)
    link.symlink_to(tmp_path / 'film.mp4')
    assert video_fault(str(link)) is None, 'a link to a film is a film'


@pytest.mark.parametrize('head', [
    b'RIFF\x24\x10\x10\x10AVI LIST', b'\x1aE\xdf\xa3\x01', b'FLV\x01\x05', b'OggS\x01', b'GIF89a@@',
    b'YUV4MPEG2 W64 H48\n',
    b'\x00\x00\x01\xba', b'\x00\x00\x00\x01\x67', b'G@@\x10\x11', b'\xff\xd8\xff\xe0\x00\x10JFIF'])
def test_videos_of_other_kinds_are_left_to_the_decoder(head):
    assert head_fault(head.ljust(content.HEAD, b'\x11')) is None


def test_what_a_decoder_says_of_other_containers_is_checked_against_their_size(tmp_path, monkeypatch):
    path = tmp_path / 'a.avi'
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*'MJPG'), 25, (64, 48))
    for _ in range(4):
        writer.write(np.zeros((48, 64, 3), np.uint8))
    writer.release()
    assert open_source(path, reader='opencv').length == 4
    monkeypatch.setattr('lsef_plugins.visualization.clip.MOST_PIXELS', 64 * 48 - 1)
    for read in (open_source, sample_video):
        with pytest.raises(ValueError, match='claims 4 frames of 64 x 48 pixels'):
            read(path, reader='opencv')
    data = bytearray(path.read_bytes())
    for kind, offset in ((b'avih', 4 + 4 * 4), (b'strh', 4 + 4 * 8)):
        struct.pack_into('<I', data, data.index(kind) + 4 + offset, 2**31 - 1)
    path.write_bytes(data)
    monkeypatch.setattr('lsef_plugins.visualization.clip.MOST_PIXELS', mp4.MOST_PIXELS)
    with pytest.raises(ValueError, match=r'claims [0-9]{9,} frames.*which it cannot hold'):
        open_source(path, reader='opencv')


def test_an_index_of_endless_boxes_ends(tmp_path, monkeypatch):
    monkeypatch.setattr(mp4, 'MOST_BOXES', 50)
    path = tmp_path / 'boxes.mp4'
    path.write_bytes(box(b'ftyp', b'isom') + box(b'moov', box(b'free') * 100) + box(b'mdat', bytes(8)))
    assert 'more than 50 boxes' in video_fault(str(path))
    path.write_bytes(box(b'ftyp', b'isom') + box(b'free') * 100 + box(b'moov') + box(b'mdat', bytes(8)))
    assert 'more than 50 boxes' in video_fault(str(path))
