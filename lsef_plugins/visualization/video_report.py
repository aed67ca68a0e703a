"""From a clip to its report: read in windows, decomposed, drawn, written; and a folder of clips, one after the other.

Files of a clip named ``clip``: ``clip.html`` (everything at one glance), ``clip.png`` and ``clip_surfaces.png`` (its
pictures), ``clip.csv`` and ``clip.json`` (the curves), on request an overlay video. Each is whole or not there.
"""
from collections import Counter
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, NamedTuple, Optional, Sequence, Tuple

import cv2
import numpy as np

from .clip import plain_name
from .colours import few_colours
from .curves import class_rows, event_rows, rating_rows, write_curves
from .moments import read_moments, window_reader
from .overlay import write_overlay
from .read_clip import ReadClip, Settings, face_words, read_clip
from .report import IndexRow, Picture, index_page, video_report
from .sliding import Window
from .source import open_source
from .surfaces import draw_surfaces, surfaces_of
from .timeline import Progress, Reading, Timeline
from .timeline_picture import clock, draw_timeline
from .writing import save_picture, write_whole

DEFAULTS = Settings()
#: Of the files of a clip, before their suffixes.
ENDINGS = ('', '_surfaces', '_overlay')
RULES = (
    'The stable part changes slowly: few directions over time explain it. The transient part is what stands out of it, '
    'rarely and briefly. A small residual is left.',
    'Energies are shares of the mean frame energy of the video. An event is a run of frames whose transient strength '
    '(the root of that share) exceeds the median of the video by two robust standard deviations, at least by half of '
    'that median, and also a quarter of the residual\'s median strength and a thousandth of a frame.',
    'A frame gate near 1 marks a frame that its neighbours cannot explain: rather a fault of the recording than an '
    'expression. It is kept out of the transient.',
    'Windows overlap. A frame\'s values come from the window in which it is most central; class probabilities belong '
    'to a whole window.')


class Outcome(NamedTuple):
    """Of one clip: its report (None where ``error`` says why not), a line of words, a small picture."""
    path: Path
    report: Optional[Path]
    words: str
    error: Optional[str] = None
    thumbnail: Optional[Picture] = None


def report_clip(path: Path, stem: Path, reader: Any, settings: Settings = DEFAULTS,
                progress: Optional[Progress] = None) -> Outcome:
    """Reads one clip and writes its report.

    Args:
        path: a video, or a folder of frames.
        stem: the files are ``<stem>.html`` and so on.
        reader: :class:`PixelReader`, or a recognizer's.
        progress: called with windows done and of all.

    Raises:
        OSError, ValueError: the clip cannot be read, or a file cannot be written.
    """
    source = open_source(path, settings.fps)
    try:
        clip = read_clip(path, source, reader, settings, progress)
        return _write(clip, stem, reader, settings, progress)
    finally:
        source.close()


def report_clips(paths: Sequence[Path], folder: Path, reader: Any, settings: Settings = DEFAULTS,
                 tell: Callable[[str], Optional[Progress]] = lambda name: None,
                 fault_of: Callable[[str], Optional[str]] = lambda path: None) -> Iterator[Outcome]:
    """Reports of several clips and, after the last, ``index.html``. A clip that fails does not stop the others.

    Args:
        paths: videos and folders of frames.
        folder: gets the files.
        tell: name of a clip -> where its progress goes.
        fault_of: says what is wrong with a file before a decoder meets it (a cut off file can kill a decoder).
    """
    rows: List[IndexRow] = []
    for path, stem in zip(paths, stems_of(paths)):
        outcome = _tried(path, folder / stem, reader, settings, tell(plain_name(path.name)), fault_of)
        rows.append(IndexRow(plain_name(path.name), None if outcome.report is None else outcome.report.name,
                             outcome.error or outcome.words, outcome.thumbnail))
        yield outcome
    write_whole(folder / 'index.html', index_page('What stays and what comes and goes', rows))


def stems_of(paths: Sequence[Path]) -> List[str]:
    """A file name for each clip: without its suffix where none of its files meets one of another clip or the index."""
    stems = [path.name if path.is_dir() else path.stem for path in paths]
    taken = Counter([f'{stem.lower()}{ending}' for stem in stems for ending in ENDINGS] + ['index'])
    names = []
    for number, (path, stem) in enumerate(zip(paths, stems), start=1):
        if taken[stem.lower()] > 1:
            stem = path.name.replace('.', '_') + f'_{number}'
            while taken[stem.lower()]:
                stem += '_'
            taken.update(f'{stem.lower()}{ending}' for ending in ENDINGS)
        names.append(stem)
    return names


def _tried(path: Path, stem: Path, reader: Any, settings: Settings, progress: Optional[Progress],
           fault_of: Callable[[str], Optional[str]]) -> Outcome:
    fault = None if path.is_dir() or not path.is_file() else fault_of(str(path))
    if fault:
        return Outcome(path, None, '', f'{plain_name(str(path))} cannot be read as a video: it {fault}. Copy or export '
                                       'it again.')
    try:
        return report_clip(path, stem, reader, settings, progress)
    except (OSError, ValueError, RuntimeError, cv2.error) as error:
        return Outcome(path, None, '', ' '.join(str(error).split()) or type(error).__name__)


# ---- writing ----

def _write(clip: ReadClip, stem: Path, reader: Any, settings: Settings, progress: Optional[Progress]) -> Outcome:
    timeline, events = clip.timeline, clip.events
    picture, surfaces = Path(f'{stem}.png'), Path(f'{stem}_surfaces.png')
    about = _about(clip, reader, settings)
    thumbnail = _draw(clip, reader, settings, picture, surfaces, about)
    write_curves(f'{stem}.csv', f'{stem}.json', timeline, events, about)
    pictures = [('The video', Picture(few_colours(picture), 'Frames, stable and transient part, and curves over time')),
                ('Composite, stable and transient', Picture(few_colours(surfaces), 'Three surfaces over time'))]
    if settings.overlay:
        write_overlay(f'{stem}_overlay.mp4', clip.source, timeline, events, clip.path.name,
                      None if clip.face is None else clip.face.crop, progress)
    report = Path(f'{stem}.html')
    write_whole(report, video_report(f'What stays and what comes and goes: {clip.path.name}', about, pictures,
                                     event_rows(timeline, events), class_rows(timeline), rating_rows(timeline),
                                     [reader.notes(), *RULES]))
    return Outcome(clip.path, report, _words(clip, settings), None, thumbnail)


def _draw(clip: ReadClip, reader: Any, settings: Settings, picture: Path, surfaces: Path,
          about: Dict[str, Any]) -> Picture:
    """Both pictures as files; returns a thumbnail of the most eventful frame shown."""
    timeline = clip.timeline
    read, shown = window_reader(clip.frames, reader), []

    def moments(chosen: Sequence[int], size: Tuple[int, int]) -> Any:
        shown.append((chosen, read_moments(timeline, read, chosen, size, reader.pixels)))
        return shown[-1][1]
    window = telling_window(timeline)
    reading = read(window)
    notes = ' '.join(filter(None, (_sentence(face_words(clip, settings)), reader.notes())))
    figure = draw_timeline(timeline, clip.events, reading.frames.shape[1] / reading.frames.shape[2], moments,
                           f'What stays and what comes and goes: {clip.path.name}',
                           (about['sampling'], reader.words(timeline.windows[0].stop)),
                           notes, reader.pixels, settings.width)
    save_picture(figure, picture)
    save_picture(_surfaces(clip, reader, reading, window, settings.width), surfaces)
    chosen, strips = shown[0]
    strength = timeline.squares['transient'][list(chosen)]
    return Picture(_png(strips.film[int(strength.argmax())]), '')


def telling_window(timeline: Timeline) -> Window:
    """The window that decided the frame of the strongest transient."""
    return timeline.windows[int(timeline.window[int(timeline.squares['transient'].argmax())])]


def _surfaces(clip: ReadClip, reader: Any, reading: Reading, window: Window, width: int) -> Any:
    times = clip.timeline.times[window.start:window.stop]
    count = reading.parts.stable.shape[2]
    shown = times[(np.arange(count) + .5).astype(int) * len(times) // count]
    place = '' if len(clip.timeline.windows) == 1 else ', the window of the strongest transient'
    title = f'Composite = stable + transient, {times[0]:.2f} to {times[-1]:.2f} s{place}'
    return draw_surfaces(surfaces_of(reading.parts, reader.pixels), shown, title, max(1300, width))


def _about(clip: ReadClip, reader: Any, settings: Settings) -> Dict[str, Any]:
    timeline, source = clip.timeline, clip.source
    length = timeline.windows[0].stop
    interval = int(timeline.indices[1] - timeline.indices[0])
    count = len(timeline.windows)
    windows = f'{count} windows of {length}, one every {timeline.windows[1].start}' if count > 1 else 'one window'
    shares = timeline.table()
    return {
        'clip': clip.path.name,
        'frames': source.length, 'fps': round(source.fps, 4),
        'sampling': f'{len(timeline.indices)} of {source.length} frames{every(interval)}, {timeline.times[0]:.2f} to '
                    f'{timeline.times[-1]:.2f} s, at {source.fps:g} fps; {windows}',
        'decomposition': reader.words(length).replace('   ·   ', '; '),
        'merged': 'each frame from the window in which it is most central',
        'face': face_words(clip, settings) or 'not looked for: the whole frame',
        **{f'{name} energy': f'{100 * float(shares[key].mean()):.3g} %' for name, key in
           (('stable', 'base'), ('transient', 'transient'), ('residual', 'residual'))},
        'bad frames': f'{int((timeline.frame_gate > .5).sum())} gated by more than half'}


def _words(clip: ReadClip, settings: Settings) -> str:
    """A line for the index."""
    seconds = clip.source.length / clip.source.fps
    classes = class_rows(clip.timeline)
    said = [f'{clock(round(seconds, 2), seconds)}, {len(clip.events)} event(s)',
            f'mostly {classes[0][0]}' if classes else '', face_words(clip, settings)]
    return '; '.join(each for each in said if each)


def _png(picture: np.ndarray) -> bytes:
    good, data = cv2.imencode('.png', cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
    if not good:
        raise ValueError('OpenCV could not encode a small picture as PNG.')
    return data.tobytes()


def every(interval: int) -> str:
    """Which frames are sampled, in words; nothing where all are."""
    return '' if interval == 1 else f', one in {interval}'


def _sentence(words: str) -> str:
    return f'{words[0].upper()}{words[1:]}.' if words else ''
