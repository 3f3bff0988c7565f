"""Reads what stestr reported, gives every test of the list one status, and adds up."""
import collections
import io
import json
import re

from prepare import say

UUID = re.compile(r'id-([0-9a-fA-F-]{36})')
SERVICE = (r'(nova|neutron|glance|cinder|swift|heat|aodh|gnocchi|ceilometer|telemetry|placement|keystone|compute|network'
           r'|image|volume|object_storage|object-store|object storage|orchestration|identity)')
UNAVAILABLE = re.compile(
    rf'\b{SERVICE}\b( service| support| extension)?( is| are|:)? ?(not available|not be available|required|disabled'
    rf'|must be available|unavailable)|because the {SERVICE} service is not available'
    rf'|skipped as {SERVICE} is not available|service {SERVICE} not found'
    rf'|{SERVICE} service (is )?(not supported by cloud|requred|required)', re.I)
EXCEPTION = re.compile(r'^[A-Za-z_][\w.]*(Error|Exception|Failure|Mismatch|Timeout|NotFound|Conflict|Forbidden'
                       r'|Unauthorized|Request|Fault|[A-Z]\w+)?(:|$)')
NOT_EXCEPTIONS = ('Traceback', 'Captured', 'During', 'Details', 'pythonlogging', 'The above')
VARYING = re.compile(r'[0-9a-f]{8}-?[0-9a-f-]{20,}|\d{4,}|tempest-[\w-]+')

Result = collections.namedtuple('Result', 'status seconds reason where', defaults=('', ''))


def bare(test):
    return test.split('[')[0]


def key(test):
    """What a test is recognised by: its name and its uuid."""
    return bare(test), (UUID.search(test) or [None, ''])[1]


def parse_stream(path):
    import subunit
    import testtools

    found = []
    result = testtools.StreamToDict(found.append)
    result.startTestRun()
    with open(path, 'rb') as file:
        data = file.read()
    try:
        subunit.ByteStreamToStreamResult(io.BytesIO(data), non_subunit_name='stdout').run(result)
    except Exception as error:
        say('subunit stream ends badly (killed run?):', error)
    try:
        result.stopTestRun()
    except Exception:
        pass
    return found


def text_of(test, *names):
    for name, content in test.get('details', {}).items():
        if any(name.split(':')[0].startswith(wanted) for wanted in names):
            try:
                return content.as_text()
            except Exception:
                return b''.join(content.iter_bytes()).decode('utf8', 'replace')
    return ''


def digest(traceback):
    """The line of the exception, and the innermost line of test code."""
    lines = [line for line in traceback.strip().split('\n') if line.strip()]
    reason, where = '', ''
    for line in lines:
        frame = re.match(r'\s+File "(.+?)", line (\d+), in (\w+)', line)
        if frame and re.search(r'/tempest/api|/tempest/scenario|tempest_plugin|/tests/', frame[1]):
            where = '%s:%s %s' % (re.sub(r'.*/site-packages/', '', frame[1]), frame[2], frame[3])
        if EXCEPTION.match(line) and not line.startswith(NOT_EXCEPTIONS):
            reason = line
    details = [line for line in lines if line.startswith('Details:') and line not in reason]
    if reason and details:
        reason += ' | ' + details[0]
    if not reason and lines:
        reason = lines[-1]
    return re.sub(r'\s+', ' ', reason)[:400], where


class Results:
    """The status of every test of the list."""

    def __init__(self, wanted):
        self.wanted, self.of, self.extra = wanted, {}, []

    def read(self, path, real, killed):
        """Takes over what one round reported; `real` maps a test of the list to the installed one."""
        back = {key(installed): test for test, installed in real.items() if test not in self.of}
        classes = {}
        for event in parse_stream(path):
            self.take(event, back, classes, killed)
        for test in [test for test in real if test not in self.of]:
            self.blame_class(test, bare(real[test]).rsplit('.', 1)[0], classes)

    def take(self, event, back, classes, killed):
        name, status = event['id'], event['status']
        start, end = (event.get('timestamps') or [None, None])[:2]
        seconds = (end - start).total_seconds() if start and end else 0
        traceback = text_of(event, 'traceback')
        fixture = re.match(r'^(setUpClass|setUpModule|tearDownClass|tearDownModule) \((.+)\)$', name)
        test = back.get(key(name))
        if fixture and fixture[1].startswith('setUp'):
            classes[fixture[2]] = (status, text_of(event, 'reason'), *digest(traceback))
        elif test and not fixture:
            result = self.judge(event, status, seconds, traceback, killed)
            if result:
                self.of[test] = result
        elif status == 'fail':
            self.extra.append((name, Result('fail', seconds, *digest(traceback or text_of(event, 'stdout', 'stderr', '')))))

    def judge(self, event, status, seconds, traceback, killed):
        if status in ('success', 'xfail'):
            return Result('pass', seconds)
        if status == 'skip':
            why = text_of(event, 'reason').strip()
            return Result('not available' if UNAVAILABLE.search(why) else 'skip', seconds, why)
        if status in ('fail', 'uxsuccess'):
            reason, where = digest(traceback)
            timeout = 'fixtures._fixtures.timeout.TimeoutException' in traceback
            return Result('timeout' if timeout else 'fail', seconds, reason or 'failed', where)
        if status in ('inprogress', 'unknown') and killed:
            kind = 'timeout' if killed != 'deadline' else 'not run'
            return Result(kind, seconds, 'in progress when stopped: ' + killed)
        if status in ('inprogress', 'unknown'):
            return Result('fail', seconds, 'the worker died in this test')
        return None

    def blame_class(self, test, name, classes):
        """A whole class never starts when its setUpClass fails or skips."""
        found = classes.get(name) or classes.get(name.rsplit('.', 1)[0])
        if not found:
            return
        status, why, reason, where = found
        if status == 'skip':
            kind = 'not available' if UNAVAILABLE.search(why) else 'skip'
            self.of[test] = Result(kind, 0, 'setUpClass: ' + why.strip())
        else:
            self.of[test] = Result('fail', 0, 'setUpClass: ' + (reason or status), where)

    def close(self, stopped):
        why = f'run stopped: {stopped}' if stopped else 'never reported by the runner'
        for test in self.wanted:
            self.of.setdefault(test, Result('not run', 0, why))

    def write(self, folder, wall):
        clean = lambda text: re.sub(r'[\t\r\n]+', ' ', str(text))
        line = lambda name, it: f'{clean(name)}\t{it.status}\t{it.seconds:.1f}\t{clean(it.reason)[:500]}\t{clean(it.where)}\n'
        with open(f'{folder}/results.tsv', 'w') as file:
            file.write('test\tstatus\tseconds\treason\twhere\n')
            file.writelines(line(test, self.of[test]) for test in self.wanted)
            file.writelines(line('#extra ' + name, it) for name, it in self.extra)
        count = collections.Counter(self.of[test].status for test in self.wanted)
        failed = count['fail'] + count['timeout'] + count['not available'] + count['not run']
        groups = self.groups()
        with open(f'{folder}/summary.json', 'w') as file:
            json.dump({'list': len(self.wanted), 'passed': count['pass'], 'failed': failed, 'skipped': count['skip'],
                       'detail': dict(count), 'by': groups, 'wall_s': round(wall)}, file, indent=1)
        self.show(folder, wall, count, groups)
        print(f"{count['pass']} passed, {failed} failed, {count['skip']} skipped", flush=True)

    def groups(self):
        groups = collections.defaultdict(collections.Counter)
        for test in self.wanted:
            parts = test.split('.')
            wide = parts[:2] == ['tempest', 'api'] or parts[1] == 'tests'
            name = '.'.join(parts[2:4] if parts[0] == 'openstack' else parts[:3] if wide else parts[:2])
            groups[name][self.of[test].status] += 1
        return {name: dict(groups[name]) for name in sorted(groups)}

    def show(self, folder, wall, count, groups):
        statuses = ('pass', 'fail', 'timeout', 'not available', 'not run', 'skip')
        print('%-46s %6s' % ('group', 'total') + ''.join(f' {it:>13}' for it in statuses))
        for name, by in groups.items():
            print('%-46s %6d' % (name, sum(by.values())) + ''.join(f' {by.get(it, 0):>13}' for it in statuses))
        bad = [self.of[test] for test in self.wanted if self.of[test].status in ('fail', 'timeout')]
        reasons = collections.Counter(VARYING.sub('*', it.reason)[:150] for it in bad)
        if reasons:
            print('most frequent reasons of failures:')
        for reason, number in reasons.most_common(10):
            print(f'  {number:5d}  {reason}')
        if self.extra:
            print(f'{len(self.extra)} errors of class tear-downs or loading beside the list ("#extra" in results.tsv)')
        print(f"list of {len(self.wanted)}; of the failed: {count['fail']} fail, {count['timeout']} timeout, "
              f"{count['not available']} service not available, {count['not run']} not run; "
              f'wall {wall:.0f} s; details {folder}/results.tsv')
