"""What the doctor found: for people (text) and for machines (a dict that becomes JSON).

A *fault* makes a data set unhealthy: with it, numbers cannot be compared, or training stops. A *warning* is harmless
for this package's data sets and a trap elsewhere.
"""
import dataclasses
from collections import Counter
from typing import Any

SHOWN = 5
#: Code of a finding -> (severity, what it means and what to do).
MEANING: dict[str, tuple[str, str]] = {
    'list_missing': ('fault', 'an official list is not there: see tools/data/<data set>/README.md'),
    'list_refused': ('fault', 'a list cannot be read or contradicts itself'),
    'count': ('fault', 'a list does not have the published number of clips (--expect any for a selection of your own)'),
    'repeated': ('fault', 'a clip is listed more than once: it weighs double'),
    'overlap': ('fault', 'a clip is in training and in test: results are not comparable'),
    'label_conflict': ('fault', 'two lists give a clip different classes'),
    'missing': ('fault', 'a listed clip is not on disk: extract it again'),
    'ambiguous': ('fault', 'two folders or files carry the number of one clip'),
    'empty': ('fault', 'a clip has no frames: extract it again'),
    'too_short': ('fault', 'a clip has fewer frames than the shortest published one: extraction stopped early'),
    'truncated': ('fault', 'a file is empty or cut off: copy it again'),
    'unreadable': ('fault', 'a file is no picture, or does not decode: copy it again'),
    'duplicate_frame': ('fault', 'two files of a clip carry one frame number: their order is arbitrary'),
    'foreign_frame': ('fault', 'a clip holds frames named after another one'),
    'frame_sizes': ('fault', 'the frames of a clip differ in size: they cannot be stacked'),
    'rating_refused': ('fault', 'the ratings of a video cannot be read or contradict'),
    'length': ('fault', 'a video has more or fewer frames than ratings'),
    'frame_count': ('warning', 'the list names another number of frames than are on disk (ours count the files)'),
    'gap': ('warning', 'frame numbers of a clip are not consecutive: frames may be missing'),
    'unnatural_order': ('warning', 'file names sort differently as text: loaders that sort text shuffle time '
                                   '(ours sort naturally)'),
    'twins': ('warning', 'two clips of the lists hold the same frames'),
    'label_shares': ('warning', 'class shares are far from the published ones'),
}


@dataclasses.dataclass(frozen=True)
class Finding:
    """One thing that is wrong.

    Attributes:
        code: a key of MEANING.
        where: the clip, file or list.
        what: details.
    """
    code: str
    where: str
    what: str

    @property
    def severity(self) -> str:
        """'fault' or 'warning'."""
        return MEANING[self.code][0]


@dataclasses.dataclass
class Report:
    """Everything the doctor says about a data set.

    Attributes:
        data_set, root: which, and where.
        lists: what was understood of each list.
        clips: numbers of clips and frames.
        findings: what is wrong.
        not_checked: what this examination did not look at, and how to have it looked at.
        seconds: how long it took.
    """
    data_set: str
    root: str
    lists: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    clips: dict[str, Any] = dataclasses.field(default_factory=dict)
    findings: list[Finding] = dataclasses.field(default_factory=list)
    not_checked: list[str] = dataclasses.field(default_factory=list)
    seconds: float = 0.

    @property
    def healthy(self) -> bool:
        """Whether there is no fault; warnings do not count."""
        return all(finding.severity != 'fault' for finding in self.findings)

    def add(self, code: str, where: str, what: str) -> None:
        """Notes a finding."""
        self.findings.append(Finding(code, where, what))

    def to_dict(self) -> dict[str, Any]:
        """Plain types only; the keys are stable."""
        return dict(
            data_set=self.data_set, root=self.root, healthy=self.healthy, seconds=round(self.seconds, 3),
            lists=self.lists, clips=self.clips, not_checked=self.not_checked,
            summary=dict(Counter(finding.code for finding in self.findings)),
            findings=[dict(code=each.code, severity=each.severity, where=each.where, what=each.what)
                      for each in self.findings])

    def to_text(self) -> str:
        """The report for people: lists, clips, findings by kind with the first few of each, verdict."""
        lines = [f'{self.data_set} in {self.root}', '', *self._list_lines()]
        lines += [f'{key.replace("_", " ")}: {value}' for key, value in self.clips.items()]
        groups: dict[str, list[Finding]] = {}
        for finding in self.findings:
            groups.setdefault(finding.code, []).append(finding)
        for code in [code for code in MEANING if code in groups]:
            severity, meaning = MEANING[code]
            lines += ['', f'{severity.upper()} {code}: {len(groups[code])}. {meaning[0].upper()}{meaning[1:]}.']
            lines += [f'  {finding.where}: {finding.what}' for finding in groups[code][:SHOWN]]
            if len(groups[code]) > SHOWN:
                lines.append(f'  ... and {len(groups[code]) - SHOWN} more (--json lists all)')
        lines += [''] + [f'not checked: {what}' for what in self.not_checked]
        faults = sum(finding.severity == 'fault' for finding in self.findings)
        warnings = len(self.findings) - faults
        verdict = 'HEALTHY' if self.healthy else 'NOT HEALTHY'
        return '\n'.join([*lines, f'{verdict}: {faults} faults, {warnings} warnings ({self.seconds:.1f} s)'])

    def _list_lines(self) -> list[str]:
        """One row per list, then what was understood, once for all lists that agree on it."""
        if not self.lists:
            return []
        names = list(self.lists[0]['class_counts'])
        lines = [f'{"list":<16}{"clips":>7} ' + ''.join(f'{name:>9}' for name in names)
                 + '  file sha256   content sha256']
        understood: dict[str, list[str]] = {}
        for each in self.lists:
            name = f'fold {each["fold"]} {each["split"]}' if each['fold'] else each['split']
            counts = ''.join(f'{count:>9}' for count in each['class_counts'].values())
            lines.append(f'{name:<16}{each["clips"]:>7} {counts}  {each["sha256"][:12]}  {each["content_sha256"][:12]}')
            base = 'words' if each['label_base'] is None else f'counted from {each["label_base"]}'
            classes = ', '.join(f'{label} = {word}' for label, word in each['class_map'].items())
            told = f'form {each["form"]!r}, labels: {base}, order {each["label_order"]}\n    {classes}\n    ' + (
                '; '.join(each['evidence']))
            understood.setdefault(told, []).append(name)
        lines += [''] + [f'{", ".join(which)}:\n    {told}' for told, which in understood.items()]
        return [*lines, '']
