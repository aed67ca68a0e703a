"""What the project says of itself to machines is well formed and true."""
import re
import shlex
import subprocess
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
# What runs in a workflow beside files of ours.
PROGRAMS = {'pip', 'python', 'bash', 'cd'}


def load(name):
    return yaml.safe_load((ROOT / name).read_text(encoding='utf-8'))


def yaml_files():
    return sorted(path.relative_to(ROOT).as_posix() for folder in ('.', '.github', 'mmaction_configs')
                  for pattern in ('*.yml', '*.yaml', '*.cff')
                  for path in ((ROOT / folder).glob(pattern) if folder == '.' else (ROOT / folder).rglob(pattern)))


def workflow_commands():
    for name, job in load('.github/workflows/ci.yml')['jobs'].items():
        for step in job['steps']:
            for part in re.split(r'\n|&&', step.get('run', '')):
                if part.strip():
                    yield name, re.sub(r'\$\{\{ *([\w.]+) *\}\}', r'\1', part.strip())


@pytest.mark.parametrize('name', yaml_files())
def test_every_yaml_file_parses(name):
    assert isinstance(load(name), dict)


def test_every_job_of_the_workflow_has_steps_and_a_limit():
    workflow = load('.github/workflows/ci.yml')
    assert workflow[True].keys() >= {'push', 'pull_request'}    # yaml reads the key on as True
    for name, job in workflow['jobs'].items():
        assert job['runs-on'] and job['timeout-minutes'] <= 120, name
        assert job['steps'][0]['uses'].startswith('actions/checkout@'), name
        assert all(('run' in step) != ('uses' in step) for step in job['steps']), name


def test_the_workflow_starts_only_what_is_there():
    commands = list(workflow_commands())
    assert len(commands) >= 10
    for job, command in commands:
        words = [word for word in shlex.split(command) if not re.fullmatch(r'[A-Z_]+=.*', word)]
        assert words[0] in PROGRAMS, (job, command)
        for word in words:
            if re.match(r'(tools|tests|requirements|docs)/', word):
                assert (ROOT / word).exists(), (job, word)
        if words[:3] == ['python', '-m', 'lsef_plugins']:
            assert words[3] in ('doctor', 'list'), command


def test_the_workflow_covers_what_the_readme_supports():
    jobs = load('.github/workflows/ci.yml')['jobs']
    setup = (ROOT / 'setup.py').read_text(encoding='utf-8')
    lowest = re.search(r"'torch>=([\d.]+)'", setup).group(1)
    half = jobs['pytorch-half']['strategy']['matrix']['include']
    assert any(each['torch'].startswith(f'torch=={lowest}.') for each in half)
    assert any(each['torch'] == 'torch' for each in half)
    assert min(tuple(map(int, each['python'].split('.'))) for each in half) == tuple(
        map(int, re.search(r"python_requires='>=([\d.]+)'", setup).group(1).split('.')))
    wheel = jobs['wheel']['strategy']['matrix']
    assert wheel['python'] == ['3.10', '3.11', '3.12', '3.13'] and len(wheel['cxx']) == len(wheel['extras']) == 2


def test_hooks_and_tests_use_one_release_of_each_tool():
    pinned = dict(re.findall(r'^([\w-]+)==([\w.]+)$', (ROOT / 'requirements/tests.txt').read_text(encoding='utf-8'),
                             re.MULTILINE))
    repos = {repo['repo'].rsplit('/', 1)[-1]: repo for repo in load('.pre-commit-config.yaml')['repos']}
    assert repos['ruff-pre-commit']['rev'] == f'v{pinned["ruff"]}'
    assert [hook['entry'] for hook in repos['local']['hooks']] == ['python -m mypy']


def test_what_the_basic_hooks_would_mend_is_not_there():
    """Trailing white space, and files that end without a line or with several."""
    listed = subprocess.run(['git', 'ls-files', '-z'], cwd=ROOT, capture_output=True)
    if listed.returncode:
        pytest.skip('this is no git checkout')
    excluded = re.compile(load('.pre-commit-config.yaml')['exclude'])
    wrong = []
    for name in listed.stdout.decode().split('\0'):
        path = ROOT / name
        if not name or excluded.search(name) or not path.is_file() or path.is_symlink():
            continue
        content = path.read_bytes()
        if b'\0' in content or not content:
            continue
        if re.search(rb'[ \t]+$', content, re.MULTILINE) or not content.endswith(b'\n') or content.endswith(b'\n\n'):
            wrong.append(name)
    assert wrong == []


def test_the_citation_is_of_this_release_and_names_the_paper():
    cited, version = load('CITATION.cff'), {}
    exec((ROOT / 'lsef_plugins' / 'version.py').read_text(encoding='utf-8'), version)
    assert {'cff-version', 'message', 'title', 'authors'} <= cited.keys() and cited['cff-version'] == '1.2.0'
    assert cited['version'] == version['__version__'] and cited['license'] == 'Apache-2.0'
    assert cited['authors'] == [{'name': 'lsef_plugins contributors'}]
    assert cited['references'][0]['url'] == 'https://arxiv.org/abs/2511.11406'


def test_a_bug_report_asks_for_the_doctor():
    form = load('.github/ISSUE_TEMPLATE/bug_report.yml')
    asked = {each['id']: each for each in form['body']}
    assert 'python -m lsef_plugins doctor' in asked['doctor']['attributes']['description']
    assert asked['doctor']['validations']['required'] and asked['doctor']['attributes']['render'] == 'text'
    for name in ('bug_report', 'feature_request', 'question'):
        template = load(f'.github/ISSUE_TEMPLATE/{name}.yml')
        assert template['name'] and template['description'] and template['body'], name
