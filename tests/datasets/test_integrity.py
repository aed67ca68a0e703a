"""Whether a picture is whole, told from its bytes: cut anywhere, it is found; whole in any dress, it passes."""
import cv2
import numpy as np
import pytest

from lsef_plugins.datasets.integrity import image_fault, image_file_fault

PICTURE = np.random.default_rng(0).integers(0, 255, (40, 56, 3)).astype(np.uint8)


def coded(suffix, *options):
    return cv2.imencode(suffix, PICTURE, list(options))[1].tobytes()


FILES = {'jpg': coded('.jpg'), 'progressive': coded('.jpg', cv2.IMWRITE_JPEG_PROGRESSIVE, 1), 'png': coded('.png'),
         'bmp': coded('.bmp'), 'webp': coded('.webp')}
# A thumbnail in the header, with an end marker of its own, as cameras write it.
THUMBNAIL = b'\xff\xe1' + (2 + len(FILES['jpg'])).to_bytes(2, 'big') + FILES['jpg']
FILES['with thumbnail'] = FILES['jpg'][:2] + THUMBNAIL + FILES['jpg'][2:]


@pytest.mark.parametrize('kind', FILES)
def test_a_whole_picture_passes_and_one_cut_anywhere_does_not(kind, tmp_path):
    content = FILES[kind]
    assert cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR) is not None
    path = tmp_path / 'frame'
    for whole in (content, content + b'\0' * 7, content + b'trailing words'):
        path.write_bytes(whole)
        assert image_fault(whole) is None and image_file_fault(str(path)) is None
    for share in (.999, .9, .5, .2):
        cut = content[:int(len(content) * share)]
        path.write_bytes(cut)
        assert 'cut off' in image_fault(cut) and 'cut off' in image_file_fault(str(path)), share


def test_what_is_no_picture_is_told(tmp_path):
    assert image_fault(b'') == 'is empty' and 'no picture' in image_fault(b'<html>not found</html>')
    path = tmp_path / 'frame.jpg'
    assert 'cannot be opened' in image_file_fault(str(path))
    for content in (b'', b'\xff\xd8', b'\xff\xd8\xff\xd9'[:3]):
        path.write_bytes(content)
        assert image_file_fault(str(path))
