"""The site's own check: each kind of fault is found, and a sound site has none."""
import importlib.util
from pathlib import Path

import pytest

TOOL = Path(__file__).resolve().parents[2] / 'tools' / 'check_site.py'
spec = importlib.util.spec_from_file_location('check_site', TOOL)
check_site = importlib.util.module_from_spec(spec)
spec.loader.exec_module(check_site)


def site_of(folder, body):
    (folder / 'a').mkdir()
    (folder / 'a' / 'two words.html').write_text('<h1 id="top">b</h1><a name="old"></a>', encoding='utf-8')
    (folder / 'index.html').write_text(f'<p id="here">{body}</p>', encoding='utf-8')
    (folder / 'picture.png').touch()
    return folder


def test_a_sound_site_has_no_faults(tmp_path, capsys):
    site = site_of(tmp_path, '<a href="a/two%20words.html#top"></a><a href="a/two%20words.html#old"></a>'
                             '<a href="#here"></a><img src="picture.png?v=3"><a href="https://host/page"></a>'
                             '<img src="data:image/png;base64,x">')
    assert check_site.main([str(site)]) == 0
    assert 'lead somewhere' in capsys.readouterr().out


@pytest.mark.parametrize('body, fault', [
    ('<a href="a/no.html">', 'a/no.html leads to no file'), ('<img src="no.png">', 'no.png leads to no file'),
    ('<a href="a/two%20words.html#no">', '#no leads to no such place in two words.html'),
    ('<a href="#no">', '#no leads to no such place in index.html'),
    ('<script src="https://cdn/x.js"></script>', 'https://cdn/x.js is fetched from another host'),
    ('<link href="//fonts/x.css">', '//fonts/x.css is fetched from another host')])
def test_each_kind_of_fault_is_found(tmp_path, capsys, body, fault):
    assert check_site.main([str(site_of(tmp_path, body))]) == 1
    assert fault in capsys.readouterr().out


def test_an_empty_folder_is_no_site(tmp_path, capsys):
    with pytest.raises(SystemExit):
        check_site.main([str(tmp_path)])
    assert 'build_docs.sh' in capsys.readouterr().err
