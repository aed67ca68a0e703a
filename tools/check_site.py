"""Checks a built site: each relative link and anchor leads somewhere, and no page asks another host for anything.

    python tools/check_site.py site
"""
import argparse
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Dict, List, Set, Tuple
from urllib.parse import unquote, urldefrag, urlparse

# What a browser fetches by itself; a link that is followed by hand may lead anywhere.
FETCHED = {('img', 'src'), ('script', 'src'), ('link', 'href'), ('source', 'src'), ('video', 'src'), ('iframe', 'src')}


class Page(HTMLParser):
    """The links and the anchors of a page."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.links: List[Tuple[str, str, str]] = []
        self.anchors: Set[str] = set()
        self.feed(path.read_text(encoding='utf-8'))

    def handle_starttag(self, tag: str, attrs: list) -> None:
        for name, value in attrs:
            if value and (name == 'id' or (tag == 'a' and name == 'name')):
                self.anchors.add(value)
            elif value and name in ('href', 'src'):
                self.links.append((tag, name, value))


def faults_of(site: Path) -> List[str]:
    """What is wrong, one line for each fault."""
    pages: Dict[Path, Page] = {path.resolve(): Page(path) for path in sorted(site.rglob('*.html'))}
    faults = []
    for path, page in pages.items():
        for tag, name, link in page.links:
            where = f'{path.relative_to(site.resolve())}: {link}'
            parts = urlparse(link)
            if parts.scheme or parts.netloc:
                if (tag, name) in FETCHED and parts.scheme != 'data':
                    faults.append(f'{where} is fetched from another host')
                continue
            target, anchor = urldefrag(link)
            aim = (path.parent / unquote(urlparse(target).path)).resolve() if target else path
            if not aim.exists():
                faults.append(f'{where} leads to no file')
            elif anchor and aim in pages and unquote(anchor) not in pages[aim].anchors:
                faults.append(f'{where} leads to no such place in {aim.name}')
    return faults


def main(argv=None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('site', type=Path)
    args = parser.parse_args(argv)
    if not list(args.site.rglob('*.html')):
        parser.error(f'{args.site} holds no .html file; build it first: bash tools/build_docs.sh')
    faults = faults_of(args.site)
    print('\n'.join(faults) or f'{args.site}: all internal links and anchors lead somewhere, nothing is fetched.')
    return 1 if faults else 0


if __name__ == '__main__':
    sys.exit(main())
