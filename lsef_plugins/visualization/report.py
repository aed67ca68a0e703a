"""A report of one video as one HTML file, and an index of several: pictures inside it, nothing fetched, no script.

All text passes ``html.escape``. The page forbids itself everything but its own style and pictures in data URIs
(Content-Security-Policy), so a hostile file name stays text.
"""
import base64
from html import escape
from typing import Any, Dict, Iterable, List, Mapping, NamedTuple, Optional, Sequence, Tuple
from urllib.parse import quote

Rows = Sequence[Sequence[Any]]
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
STYLE = '''
body { font: 16px/1.5 "DejaVu Sans", Verdana, sans-serif; color: #1f2328; max-width: 1240px; margin: 2em auto;
       padding: 0 1em; }
h1 { font-size: 1.5em; overflow-wrap: anywhere; } h2 { font-size: 1.15em; margin-top: 2em; }
p, dd, li { max-width: 60em; } .quiet { color: #57606a; } .error { color: #b03000; }
img { max-width: 100%; height: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: .2em 1.2em .2em 0; border-bottom: 1px solid #d9dde2; vertical-align: top; }
td.number, th.number { text-align: right; }
dl { display: grid; grid-template-columns: max-content auto; gap: .1em 1.2em; } dt { color: #57606a; } dd { margin: 0;
     overflow-wrap: anywhere; }
'''


class Picture(NamedTuple):
    """A PNG, and what is said to those who do not see it."""
    png: bytes
    words: str


class IndexRow(NamedTuple):
    """A clip in the index: its name, the file of its report (None where it failed), words, a small picture."""
    name: str
    report: Optional[str]
    words: str
    thumbnail: Optional[Picture] = None


def page(title: str, body: Iterable[str]) -> str:
    """A whole HTML document around pieces that are HTML already."""
    return ('<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
            f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n'
            '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
            f'<title>{escape(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n'
            + '\n'.join(body) + '\n</body>\n</html>\n')


def image(picture: Picture) -> str:
    """A picture as an element that holds its own bytes."""
    data = base64.b64encode(picture.png).decode('ascii')
    return f'<img alt="{escape(picture.words)}" src="data:image/png;base64,{data}">'


def table(head: Sequence[str], rows: Rows) -> str:
    """A table; numbers stand to the right."""
    numeric = [bool(rows) and all(isinstance(row[k], (int, float)) for row in rows) for k in range(len(head))]
    mark = [' class="number"' if number else '' for number in numeric]
    lines = ['<table>', '<tr>' + ''.join(f'<th{m}>{escape(name)}</th>' for m, name in zip(mark, head)) + '</tr>']
    lines += ['<tr>' + ''.join(f'<td{m}>{escape(_cell(value))}</td>' for m, value in zip(mark, row)) + '</tr>'
              for row in rows]
    return '\n'.join([*lines, '</table>'])


def facts(pairs: Mapping[str, Any]) -> str:
    """Names and values one below the other."""
    lines = [f'<dt>{escape(name)}</dt><dd>{escape(_cell(value))}</dd>' for name, value in pairs.items()]
    return '\n'.join(['<dl>', *lines, '</dl>'])


def video_report(title: str, about: Mapping[str, Any], pictures: Sequence[Tuple[str, Picture]],
                 events: Sequence[Dict[str, Any]], classes: Rows = (), ratings: Rows = (),
                 notes: Sequence[str] = ()) -> str:
    """The report of one video.

    Args:
        title: of the page; usually the file name.
        about: facts, in the order in which they are shown.
        pictures: headings and pictures.
        events: what :func:`event_rows` returns.
        classes: class, mean probability, windows it wins; or nothing.
        ratings: quantity, mean, lowest, highest; or nothing.
        notes: sentences below.
    """
    body: List[str] = [f'<h1>{escape(title)}</h1>', facts(about)]
    for heading, picture in pictures:
        body += [f'<h2>{escape(heading)}</h2>', image(picture)]
    body += ['<h2>Events</h2>', _events(events)]
    if classes:
        head = ('class', 'mean probability', 'windows in which it is the highest')
        body += ['<h2>Classes</h2>', table(head, classes)]
    if ratings:
        body += ['<h2>Valence and arousal</h2>', table(('rating', 'mean', 'lowest', 'highest'), ratings)]
    body += ['<h2>How to read this</h2>', '<ul>', *(f'<li>{escape(note)}</li>' for note in notes), '</ul>']
    return page(title, body)


def index_page(title: str, rows: Sequence[IndexRow]) -> str:
    """An index of reports in the same folder; clips that failed say why."""
    failed = sum(row.report is None for row in rows)
    body = [f'<h1>{escape(title)}</h1>', f'<p>{len(rows) - failed} of {len(rows)} clips decomposed.</p>',
            '<table>', '<tr><th></th><th>clip</th><th></th></tr>']
    for row in rows:
        name = escape(row.name)
        link = name if row.report is None else f'<a href="./{escape(quote(row.report))}">{name}</a>'
        mark = ' class="error"' if row.report is None else ''
        body.append(f'<tr><td>{image(row.thumbnail) if row.thumbnail else ""}</td><td>{link}</td>'
                    f'<td{mark}>{escape(row.words)}</td></tr>')
    return page(title, [*body, '</table>'])


def _events(events: Sequence[Dict[str, Any]], shown: int = 200) -> str:
    if not events:
        return '<p>None: no frame stands out of the video\'s own transients.</p>'
    rows = [(each['event'], f'{each["onset_s"]:.2f}', f'{each["apex_s"]:.2f}', f'{each["offset_s"]:.2f}',
             f'{100 * each["amplitude_ratio"]:.2g} %') for each in events[:shown]]
    more = f'<p>And {len(events) - shown} more in the CSV and JSON files.</p>' if len(events) > shown else ''
    return table(('event', 'from (s)', 'strongest (s)', 'to (s)', 'strength there'), rows) + more


def _cell(value: Any) -> str:
    return f'{value:.4g}' if isinstance(value, float) else str(value)
