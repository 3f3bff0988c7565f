#!/usr/bin/env python3
"""Runs a fixed list of tempest's tests against any cloud, as a black box, and accounts for every test of the list."""
import argparse
import collections
import configparser
import hashlib
import os
import re
import signal
import subprocess
import sys
import time

from prepare import Preparation, say
from results import Result, Results, bare, key, parse_stream

HERE = os.path.dirname(os.path.abspath(__file__))
STESTR = os.path.join(os.path.dirname(sys.executable), 'stestr')
# Limit: discovery imports every installed test; more than this means that an import hangs.
DISCOVERY_SECONDS = 600
# How often a running round says where it stands.
SHOW_SECONDS = 60


class Run:
    def __init__(self, options):
        self.options, self.workspace = options, options.workspace
        self.conf, self.stopped, self.started = 'tempest.conf', '', time.time()

    def environment(self):
        env = {name: value for name, value in os.environ.items() if not name.startswith('OS_') or name == 'OS_CACERT'}
        env.update(TEMPEST_CONFIG_DIR=self.workspace + '/etc', TEMPEST_CONFIG=self.conf,
                   OS_TEST_TIMEOUT=str(self.options.timeout), OS_LOG_CAPTURE='1', OS_STDOUT_CAPTURE='1',
                   OS_STDERR_CAPTURE='1', PYTHONWARNINGS='ignore', PYTHONUNBUFFERED='1')
        return env

    def configure(self):
        import tempest

        top = os.path.dirname(tempest.__file__)
        with open(self.workspace + '/.stestr.conf', 'w') as file:
            file.write(f'[DEFAULT]\ntest_path={top}/test_discover\ntop_dir={top}\ngroup_regex=([^\\.]*\\.)*\n')
        if not os.path.isdir(self.workspace + '/.stestr'):
            subprocess.run([STESTR, 'init'], cwd=self.workspace, env=self.environment(), stdin=subprocess.DEVNULL,
                           capture_output=True)

    def without_heat(self):
        """The heat plugin logs in while tests are being discovered; a cloud that hangs would hang discovery. So
        everything but a run with heat's tests uses a copy of tempest.conf whose [heat_plugin] has no auth_url."""
        settings = configparser.RawConfigParser()
        settings.optionxform = str
        if not settings.read(self.workspace + '/etc/tempest.conf'):
            return
        if settings.has_section('heat_plugin'):
            settings.remove_option('heat_plugin', 'auth_url')
        with open(self.workspace + '/etc/no-heat.conf', 'w') as file:
            settings.write(file)
        os.chmod(self.workspace + '/etc/no-heat.conf', 0o600)
        self.conf = 'no-heat.conf'

    def installed(self):
        """Every test that tempest and its plugins have."""
        self.without_heat()
        self.configure()
        process = subprocess.Popen([STESTR, 'list'], cwd=self.workspace, env=self.environment(), text=True,
                                   stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                   start_new_session=True)
        try:
            out, err = process.communicate(timeout=DISCOVERY_SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            out, err = process.communicate()
            say(f'stestr list took more than {DISCOVERY_SECONDS} s')
        tests = [line for line in out.split('\n') if re.match(r'^[A-Za-z_]\w*(\.\w+)+', line) or line.startswith('setUp')]
        if not tests:
            say('stestr list gave nothing:', (out + err)[-1500:])
        return tests

    def all(self, wanted):
        os.makedirs(self.options.out, exist_ok=True)
        say(f'{len(wanted)} tests on the list; asking stestr what exists')
        results = Results(wanted)
        real = self.match(wanted, results)
        if any(test.startswith('heat_') for test in real):
            self.conf = 'tempest.conf'
        for number in range(1, self.options.rounds + 1):
            left = [test for test in wanted if test in real and test not in results.of]
            if not left or self.late():
                break
            before = len(results.of)
            self.round(number, left, real, results)
            # Only a round that was stopped and still got somewhere is followed by another.
            if not self.stopped or len(results.of) == before:
                break
        results.close(self.stopped)
        results.write(self.options.out, time.time() - self.started)

    def match(self, wanted, results):
        """Finds the tests of the list among the installed ones, by name and uuid."""
        installed, by_key = self.installed(), {}
        for test in installed:
            by_key.setdefault(key(test), test)
            by_key.setdefault((bare(test), None), test)
        real = {}
        for test in wanted:
            found = by_key.get(key(test)) or (by_key.get((bare(test), None)) if not key(test)[1] else None)
            if found:
                real[test] = found
            else:
                why = 'no such test in the installed tempest' if installed else 'test discovery failed'
                results.of[test] = Result('not run', 0, why)
        return real

    def late(self):
        return bool(self.options.deadline) and time.time() - self.started > self.options.deadline

    def round(self, number, tests, real, results):
        options = self.options
        names, stream = f'{options.out}/round{number}.list', f'{options.out}/round{number}.subunit'
        with open(names, 'w') as file:
            file.writelines(real[test] + '\n' for test in tests)
        say(f'round {number}: {len(tests)} tests, concurrency {options.concurrency}')
        command = [STESTR, 'run', '--subunit', '--concurrency', str(options.concurrency), '--load-list', names]
        with open(stream, 'wb') as out, open(f'{options.out}/round{number}.stderr', 'wb') as err:
            process = subprocess.Popen(command, cwd=self.workspace, env=self.environment(), stdin=subprocess.DEVNULL,
                                       stdout=out, stderr=err, start_new_session=True)
        self.stopped = self.follow(process, stream)
        results.read(stream, {test: real[test] for test in tests}, self.stopped)

    def follow(self, process, stream):
        """Waits for the round to end; says why it had to be stopped, if it had to."""
        size, moved, shown = 0, time.time(), time.time()
        while process.poll() is None:
            time.sleep(1)
            if os.path.getsize(stream) != size:
                size, moved = os.path.getsize(stream), time.time()
            if time.time() - shown > SHOW_SECONDS:
                shown = time.time()
                count = collections.Counter(it['status'] for it in parse_stream(stream))
                say('  ', ' '.join(f'{status}={number}' for status, number in sorted(count.items())))
            stalled = time.time() - moved > self.options.stall
            if stalled or self.late():
                why = f'no progress for {self.options.stall} s' if stalled else 'deadline'
                say('stopping stestr:', why)
                self.stop(process)
                return why
        return ''

    def stop(self, process):
        for number in (signal.SIGTERM, signal.SIGKILL):
            try:
                os.killpg(process.pid, number)
            except ProcessLookupError:
                break
            time.sleep(5)
        process.wait()


def sample(tests, percent, seed):
    """The same share of the list for the same seed."""
    share = lambda it: int(hashlib.sha256(f'{seed}:{bare(it)}:{key(it)[1]}'.encode()).hexdigest()[:8], 16) / 2**32
    return [test for test in tests if share(test) < percent / 100]


def arguments():
    parser = argparse.ArgumentParser(prog='run-tempest.sh', description=__doc__)
    add = parser.add_argument
    add('--list', action='append', default=[], help='file with names of tests (repeatable)')
    add('--regex', help='instead of --list, or to narrow it: only names that match')
    add('--sample', type=float, help='run a random share of the list, in percent')
    add('--seed', default='1')
    add('--image', help='disk image that is uploaded (a small guest)')
    add('--image-user', default='cirros')
    add('--image-password', default='gocubsgo')
    add('--nano-ram', type=int, default=192)
    add('--micro-ram', type=int, default=256)
    add('--overlay', action='append', default=[], help='INI merged over tempest.conf, repeatable, last wins')
    add('--no-reference', action='store_true', help='do not start from features-reference.ini')
    add('--public-net', help='name or id of the external network')
    add('--create-public', metavar='CIDR[,type=flat,physnet=P,vlan=N,gateway=G,pool=A-B]')
    add('--extensions', choices=('discover', 'all'), default='discover')
    add('--microversions', choices=('latest', 'discover'), default='latest')
    add('--concurrency', type=int, default=2)
    add('--timeout', type=int, default=600, help='seconds per test')
    add('--build-timeout', type=int, default=196)
    add('--stall', type=int, default=1200, help='seconds without any event before a round is stopped')
    add('--rounds', type=int, default=4)
    add('--deadline', type=int, default=0, help='seconds for the whole run; the rest counts as not run')
    add('--workspace', default='./tempest-workspace')
    add('--out', help='folder for the results')
    add('--prepare-only', action='store_true')
    add('--no-prepare', action='store_true', help='use the tempest.conf that is in the workspace already')
    options = parser.parse_args()
    if not options.list and not options.regex and not options.prepare_only:
        parser.error('--list or --regex')
    return options


def main():
    options = arguments()
    options.workspace = os.path.abspath(options.workspace)
    os.makedirs(options.workspace, exist_ok=True)
    if not options.no_reference:
        options.overlay.insert(0, HERE + '/features-reference.ini')
    if not options.no_prepare:
        Preparation(options).run()
    if options.prepare_only:
        return
    wanted = []
    for name in options.list:
        with open(name) as file:
            wanted += [line.strip() for line in file if line.strip() and not line.startswith('#')]
    run = Run(options)
    if not options.list:
        wanted = run.installed()
    if options.regex:
        wanted = [test for test in wanted if re.search(options.regex, test)]
    wanted = list(dict.fromkeys(wanted))
    if options.sample:
        wanted = sample(wanted, options.sample, options.seed)
    name = os.path.basename(options.list[0])[:-4] if options.list else 'regex'
    options.out = os.path.abspath(options.out or f"tempest-results/{name}-{time.strftime('%Y%m%d-%H%M%S')}")
    run.all(wanted)


if __name__ == '__main__':
    main()
