"""What class a label is: hypotheses (order, base) tried against everything the lists say.

Evidence, strongest first:

1. the label is a word, or the file spells its classes (``1happy``, ``label_index.txt``);
2. the path names the emotion (``Action/Happy/0010``): the hypothesis has to agree on every line;
3. the values: among seven classes a 0 means that counting starts at 0 and a 7 that it starts at 1. The other lists of
   the same release count too (``companions``): they share one base;
4. the shares of the classes, for DFEW lists of 500 clips or more: they can contradict, never decide;
5. what the user states.

A DFEW list whose labels all lie in 1..6 and that has no companions is **not decided** by anything: read from 0 it has
no Happy, read from 1 it has no Fear. It is refused until ``label_base`` is stated. A contradiction is always refused.
"""
import dataclasses
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Optional, Union

from .classes import CLASSES, ORDERS, emotion_word, order_name
from .forms import Entry, integer
from .published import PUBLISHED
from .text import AnnotationError

LARGE = 500         # clips from which on shares of classes are compared
OFF = .12           # total variation distance to the published shares that no sampling of so many clips explains


@dataclasses.dataclass(frozen=True)
class ClassMap:
    """What each label of a list means.

    Attributes:
        names: label as written -> class.
        order: 'words', 'dfew', 'alphabetical', or the names in their order.
        base: the number of the first class; None for words.
        evidence: sentences that say why.
    """
    names: Mapping[str, str]
    order: str
    base: Optional[int]
    evidence: tuple[str, ...]

    def __str__(self) -> str:
        base = '' if self.base is None else f', counted from {self.base}'
        return f'{", ".join(f"{label} = {name}" for label, name in self.names.items())} (order: {self.order}{base})'


@dataclasses.dataclass(frozen=True)
class Hypothesis:
    """Seven classes in an order, numbered from a base."""
    order: tuple[str, ...]
    base: int

    def name_of(self, label: int) -> Optional[str]:
        """The class of a label; None outside of the seven."""
        place = label - self.base
        return self.order[place] if 0 <= place < len(self.order) else None

    def __str__(self) -> str:
        return f'{order_name(self.order)} order from {self.base} ({self.base} = {self.order[0]})'


def path_emotion(path: str) -> Optional[str]:
    """The emotion that the folder of a clip names ('Action/Happy/0010' -> 'Happy'), or None."""
    parts = path.split('/')
    return emotion_word(parts[-2]) if len(parts) > 1 else None


def from_words(path: str, entries: Sequence[Entry]) -> ClassMap:
    """Labels that are words; the paths may not say otherwise."""
    names = {entry.word: emotion_word(entry.word) for entry in entries}
    for entry in entries:
        if names[entry.word] is None:
            raise AnnotationError(f'{path}:{entry.line}: the label {entry.word!r} is no emotion, though labels of '
                                  f'this list are words. Expected one of {", ".join(CLASSES)}.')
        told = path_emotion(entry.path)
        if told not in (None, names[entry.word]):
            raise AnnotationError(f'{path}:{entry.line}: the path {entry.path!r} says {told} and the label says '
                                  f'{entry.word}. One of them is wrong: correct the line or fetch the list again.')
    found = {word: name for word, name in names.items() if name}
    ordered = dict(sorted(found.items(), key=lambda item: CLASSES.index(item[1])))
    paths = sum(path_emotion(entry.path) is not None for entry in entries)
    evidence = ['labels are words'] + ([f'the path agrees on {paths} of {len(entries)} lines'] if paths else [])
    return ClassMap(ordered, 'words', None, tuple(evidence))


def from_numbers(path: str, data_set: str, entries: Sequence[Entry], companions: Mapping[str, Sequence[int]],
                 order: Optional[Sequence[str]] = None, base: Optional[int] = None, told_by: str = 'stated',
                 check_counts: bool = True) -> ClassMap:
    """Labels that are numbers.

    Args:
        path: of the list, for messages.
        data_set: 'dfew' or 'ferv39k'.
        entries: lines of the list; each ``word`` holds a number.
        companions: labels in other lists of the same release, by file.
        order: seven classes, where the user or a file of the release states them.
        base: number of the first class, where stated.
        told_by: who states ``order``, for messages.
        check_counts: compare the shares of the classes with the published ones.

    Raises:
        AnnotationError: the evidence contradicts, or does not decide.
    """
    labels = [_number(path, entry) for entry in entries]
    pairs = [(entry, label, path_emotion(entry.path)) for entry, label in zip(entries, labels)]
    orders = [tuple(order)] if order else list(ORDERS.values())
    bases = [base] if base is not None else [0, 1]
    hypotheses = [Hypothesis(names, start) for names in orders for start in bases]
    evidence = [f'class order {told_by}: {", ".join(order)}'] if order else []
    evidence += [f'label base stated: {base}'] if base is not None else []
    if any(told for _, _, told in pairs):
        chosen = _by_paths(path, pairs, hypotheses, told_by if order else '', evidence)
    else:
        if not order:
            if data_set != 'dfew':
                raise AnnotationError(_ASK_ORDER.format(path=path, data_set=data_set))
            hypotheses = [each for each in hypotheses if each.order == CLASSES]
            evidence.append('order assumed: every known list of DFEW has Happy first')
        chosen = _by_values(path, labels, entries, companions, hypotheses, base, evidence)
    _by_values(path, labels, entries, companions, [chosen], chosen.base, [])
    if check_counts and data_set == 'dfew':
        _by_shares(path, labels, chosen, evidence)
    names = {str(chosen.base + place): name for place, name in enumerate(chosen.order)}
    return ClassMap(names, order_name(chosen.order), chosen.base, tuple(evidence))


_ASK_ORDER = ("{path}: labels are numbers and no path names its emotion, so nothing tells which class is which in "
              "{data_set}: lists with Happy first and lists in alphabetical order are both about. State class_order="
              "'dfew' or 'alphabetical' (--class-order), give label_index=<label_index.txt of the list>, or use a list "
              'whose paths are Scene/Emotion/id.')


def _number(path: str, entry: Entry) -> int:
    label = integer(entry.word)
    if label is None:
        raise AnnotationError(f'{path}:{entry.line}: the label {entry.word!r} is a word and other labels of the list '
                              'are numbers. Correct the list.')
    return label


def _by_paths(path: str, pairs: Sequence[tuple[Entry, int, Optional[str]]], hypotheses: Sequence[Hypothesis],
              told_by: str, evidence: list[str]) -> Hypothesis:
    """The hypothesis that agrees with the emotion in every path."""
    told = [(entry, label, emotion) for entry, label, emotion in pairs if emotion]
    agree = [sum(each.name_of(label) == emotion for _, label, emotion in told) for each in hypotheses]
    best = max(range(len(hypotheses)), key=lambda i: agree[i])
    if agree[best] == len(told):
        evidence.append(f'the path names the emotion and agrees on {len(told)} of {len(pairs)} lines')
        return hypotheses[best]     # the only one: no class has one number in two of the four readings
    entry, label, emotion = next((e, n, m) for e, n, m in told if hypotheses[best].name_of(n) != m)
    stated = f' ({told_by})' if told_by else ''
    raise AnnotationError(
        f'{path}:{entry.line}: the path {entry.path!r} says {emotion} and the label {label} says '
        f'{hypotheses[best].name_of(label) or "no class at all"}, reading the list in {hypotheses[best]}{stated}, '
        f'which fits best: it agrees on {agree[best]} of {len(told)} lines. '
        + ('Correct the class order or the list.' if told_by else
           'Correct the list, or, if it has an order of its own, state it: class_order=[seven names].'))


def _by_values(path: str, labels: Sequence[int], entries: Sequence[Entry], companions: Mapping[str, Sequence[int]],
               hypotheses: Sequence[Hypothesis], stated: Optional[int], evidence: list[str]) -> Hypothesis:
    """The base at which every label is a class."""
    own = [each for each in hypotheses if all(each.name_of(label) for label in labels)]
    if not own:
        raise AnnotationError(_impossible(path, labels, entries, stated, hypotheses[0]))
    both = own
    for name, others in companions.items():
        kept = [each for each in both if all(each.name_of(label) for label in others)]
        if not kept:
            raise AnnotationError(
                f'{path} and {name} contradict: labels {min(labels)}..{max(labels)} and {min(others)}..{max(others)} '
                'cannot be seven classes counted from one base. Are they from two releases (official lists count '
                'from 1, S2D\'s from 0, both under the header video_name,label)? Take both from one.')
        both = kept
    if len({each.base for each in both}) > 1:
        count = Counter(labels)
        readings = '; '.join(
            f'from {each.base}: ' + ', '.join(f'{count.get(each.base + i, 0)} {name}' for i, name in
                                              enumerate(each.order)) for each in both)
        raise AnnotationError(
            f'{path}: labels lie in {min(labels)}..{max(labels)}, which is possible counting from 0 and from 1, and '
            f'nothing in the list decides ({readings}). State label_base=1 (official release) or label_base=0 (S2D, '
            'MAE-DFER, DFER-CLIP) (--label-base), or give the other lists of the release as companions.')
    if stated is None:
        told = f'labels lie in {min(labels)}..{max(labels)}'
        told += f', together with {len(companions)} other list(s) of the release' if len(own) > 1 else ''
        evidence.append(f'{told}: counted from {both[0].base}')
    return both[0]


def _impossible(path: str, labels: Sequence[int], entries: Sequence[Entry], stated: Optional[int],
                hypothesis: Hypothesis) -> str:
    if stated is not None:
        i = next(i for i, label in enumerate(labels) if hypothesis.name_of(label) is None)
        return (f'{path}:{entries[i].line}: label {labels[i]} cannot be one of seven classes counted from {stated} '
                f'({stated}..{stated + 6}). Correct the list, or the label base.')
    low, high = labels.index(min(labels)), labels.index(max(labels))
    return (f'{path}: label {labels[low]} (line {entries[low].line}) and label {labels[high]} (line '
            f'{entries[high].line}) cannot be among seven classes, counted from 0 or from 1. In DFEW\'s annotation '
            'sheet 0 marks clips without a single label: remove those lines. Or were two lists joined?')


def _by_shares(path: str, labels: Sequence[int], chosen: Hypothesis, evidence: list[str]) -> None:
    """Refuses a reading of a large list whose class shares are far from the published ones where another fits."""
    if len(labels) < LARGE:
        return
    here = distance_to_published(labels, chosen)
    others = [Hypothesis(names, base) for names in ORDERS.values() for base in (0, 1)]
    others = [each for each in others if all(each.name_of(label) for label in set(labels))]
    rival = min(others, key=lambda each: distance_to_published(labels, each), default=chosen)
    there = distance_to_published(labels, rival)
    if here > OFF and there < min(OFF, here / 2):
        raise AnnotationError(
            f'{path}: read in {chosen} the class shares are {here:.0%} away from the published ones (total '
            f'variation), read in {rival} only {there:.0%}. Check class order and label base; check_counts=False '
            'if your selection of clips is what changes the shares.')
    evidence.append(f'class shares are {here:.1%} away from the published ones (total variation)')


def distance_to_published(labels: Union[Sequence[int], Sequence[str]], reading: Hypothesis,
                          data_set: str = 'dfew') -> float:
    """Total variation distance, in [0, 1], between the class shares of labels and the published ones."""
    shares = PUBLISHED[data_set]['shares']
    count = Counter(reading.name_of(int(label)) for label in labels)
    return .5 * sum(abs(count.get(name, 0) / len(labels) - shares[name] / sum(shares.values())) for name in CLASSES)
