"""The page holds everything itself, and whatever it is given as text stays text."""
import base64
from html.parser import HTMLParser

import pytest

from lsef_plugins.visualization.report import POLICY, IndexRow, Picture, facts, index_page, table, video_report

HOSTILE = '"><script>alert(1)</script><img src=x onerror=alert(2)>\'&amp;.mp4'
PNG = b'\x89PNG\r\n\x1a\nnot really'
VOID = {'meta', 'img', 'br', 'link', 'input'}


class Page(HTMLParser):
    """Elements, their attributes and the text; fails on tags that do not close."""

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.tags, self.open, self.words, self.rows = [], [], [], []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)

    def all(self, tag):
        return [attributes for name, attributes in self.tags if name == tag]


@pytest.fixture
def page():
    return video_report(HOSTILE, {'clip': HOSTILE, HOSTILE: 3.14159}, [(HOSTILE, Picture(PNG, HOSTILE))],
                        [dict(event=1, onset_s=.2, apex_s=.4, offset_s=.5, amplitude_ratio=.123)],
                        [(HOSTILE, .5, 3)], [('valence', .1, -.5, .5)], [HOSTILE])


def test_hostile_names_stay_text(page):
    found = Page(page)
    allowed = {'html', 'head', 'meta', 'title', 'style', 'body', 'h1', 'h2', 'dl', 'dt', 'dd', 'img', 'table', 'tr',
               'th', 'td', 'ul', 'li', 'p', 'a'}
    assert {tag for tag, _ in found.tags} <= allowed
    assert not any(name.startswith('on') for _, attributes in found.tags for name in attributes)
    assert sum(word == HOSTILE for word in found.words) == 7        # title, h1, two facts, heading, class, note
    assert found.all('img')[0]['alt'] == HOSTILE


def test_nothing_is_fetched_and_pictures_are_inside(page):
    found = Page(page)
    addresses = [value for _, attributes in found.tags for name, value in attributes.items() if name in ('src', 'href')]
    assert addresses == ['data:image/png;base64,' + base64.b64encode(PNG).decode()]
    assert 'http' not in page.replace('http-equiv', '') and '@import' not in page and 'url(' not in page
    assert POLICY in [attributes.get('content') for attributes in found.all('meta')] and "default-src 'none'" in POLICY


def test_events_are_told_with_their_seconds_and_their_absence_too(page):
    words = ' '.join(Page(page).words)
    assert '0.20' in words and '0.40' in words and '12 %' in words
    assert 'None: no frame stands out' in ' '.join(Page(video_report('a', {}, [], [])).words)
    many = [dict(event=k, onset_s=k, apex_s=k, offset_s=k, amplitude_ratio=.1) for k in range(250)]
    assert 'And 50 more in the CSV' in video_report('a', {}, [], many)


def test_the_index_links_what_worked_and_tells_what_did_not():
    text = index_page('Index', [IndexRow(HOSTILE, HOSTILE, '3 s', Picture(PNG, '')), IndexRow('bad.mp4', None, HOSTILE),
                                IndexRow('x', 'javascript:alert(1).html', '')])
    found = Page(text)
    links = [attributes['href'] for attributes in found.all('a')]
    assert len(links) == 2 and all(link.startswith('./') and '"' not in link and '<' not in link for link in links)
    assert '2 of 3 clips decomposed.' in found.words and HOSTILE in found.words
    assert [attributes.get('class') for attributes in found.all('td')].count('error') == 1


def test_numbers_stand_to_the_right_and_are_short():
    found = Page(table(('name', 'number'), [('a', .123456), ('b', 2.)]))
    assert [attributes.get('class') for attributes in found.all('td')] == [None, 'number', None, 'number']
    assert '0.1235' in found.words and '3.142' in Page(facts({'pi': 3.14159})).words
