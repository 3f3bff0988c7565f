#!/usr/bin/env python3
"""Replays recorded client commands, in order, with the unmodified stock clients.

    replay.py --rows cli.jsonl --admin keystonerc_admin --demo keystonerc_demo --out results.jsonl

Each command runs in a process of its own, forked from one that has the clients loaded already; a whole start of the
client would cost a second of CPU for every row. For each row one line goes to --out: row, rc, stdout, stderr, seconds.
Nothing is judged here; `cargo xtask golden --cli` compares.
"""
import argparse
import importlib
import importlib.metadata
import json
import os
import shlex
import signal
import subprocess
import sys
import tempfile
import time
import traceback

# Limit: a command that hangs is killed and its row has rc 124.
COMMAND_SECONDS = 90
# Limit: how long servers may stay busy before the next command goes out all the same.
SETTLE_SECONDS = 60

PASSWORD = 'replay-password'
# What the recorded cloud had from an earlier run, and later rows count on.
LEFTOVERS = ['openstack flavor create --ram 192 --disk 1 --vcpus 1 m1.nano']
# The name of the one host of the recorded cloud.
RECORDED_HOST = 'peer'


def preload():
    """Imports every command of the clients, so that the forks need not."""
    import glanceclient.shell  # noqa: F401
    import openstackclient.shell  # noqa: F401
    entries = [entry for package in importlib.metadata.distributions() for entry in package.entry_points]
    for entry in entries:
        if entry.group.startswith('openstack.'):
            try:
                importlib.import_module(entry.module)
            except ImportError:
                pass  # an optional plugin without its library: the command fails the same way later


def credentials(path):
    """The variables that a keystonerc file exports."""
    found = {}
    with open(path) as lines:
        for line in lines:
            words = shlex.split(line, comments=True)
            if words[:1] == ['export']:
                words = words[1:]
            for word in words:
                name, sign, value = word.partition('=')
                if sign and name.startswith('OS_'):
                    found[name] = value
    return found


def make_files(folder):
    """The files that commands name."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ed25519
    subprocess.run(['qemu-img', 'create', '-q', '-f', 'qcow2', 'small.qcow2', '1M'], cwd=folder, check=True)
    key = ed25519.Ed25519PrivateKey.generate().public_key().public_bytes(
        serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    with open(os.path.join(folder, 'id_test.pub'), 'wb') as file:
        file.write(key + b' replay\n')
    with open(os.path.join(folder, 'userdata'), 'w') as file:
        file.write('#!/bin/sh\necho hello\n')


class Watch:
    """Looks at the cloud between commands: the recorded session, too, waited for its servers."""

    def __init__(self, env):
        import requests
        self.session, self.env, self.compute = requests.Session(), env, None

    def log_in(self):
        env = self.env
        user = {'name': env['OS_USERNAME'], 'password': env['OS_PASSWORD'],
                'domain': {'name': env.get('OS_USER_DOMAIN_NAME', 'Default')}}
        scope = {'name': env['OS_PROJECT_NAME'], 'domain': {'name': env.get('OS_PROJECT_DOMAIN_NAME', 'Default')}}
        body = {'auth': {'identity': {'methods': ['password'], 'password': {'user': user}},
                         'scope': {'project': scope}}}
        reply = self.session.post(env['OS_AUTH_URL'].rstrip('/') + '/auth/tokens', json=body, timeout=30)
        reply.raise_for_status()
        self.session.headers['X-Auth-Token'] = reply.headers['X-Subject-Token']
        endpoints = [endpoint['url'] for service in reply.json()['token']['catalog'] if service['type'] == 'compute'
                     for endpoint in service['endpoints'] if endpoint['interface'] == 'public']
        self.compute = endpoints[0].rstrip('/') if endpoints else None

    def get(self, path):
        if self.compute is None:
            self.log_in()
        if self.compute is None:
            return {}
        reply = self.session.get(self.compute + path, timeout=30)
        return reply.json() if reply.status_code == 200 else {}

    def host(self):
        for service in self.get('/os-services?binary=nova-compute').get('services', []):
            return service['host']
        return RECORDED_HOST

    def settle(self):
        """Waits until no server is on its way from one state to another."""
        busy = lambda it: it['status'] == 'BUILD' or it.get('OS-EXT-STS:task_state') is not None
        until = time.monotonic() + SETTLE_SECONDS
        while time.monotonic() < until:
            if not any(busy(it) for it in self.get('/servers/detail?all_tenants=1').get('servers', [])):
                return
            time.sleep(0.1)


def in_the_fork(program, arguments, folder, env, out, err):
    """Becomes the client. Never returns."""
    code = 70
    try:
        os.chdir(folder)
        os.dup2(out.fileno(), 1)
        os.dup2(err.fileno(), 2)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        sys.stdin, sys.stdout, sys.stderr = open(0), open(1, 'w'), open(2, 'w')
        sys.argv = [program] + arguments
        for name in [name for name in os.environ if name.startswith('OS_')]:
            del os.environ[name]
        os.environ.update(env)
        if program == 'glance':
            import glanceclient.shell as shell
            code = shell.main()
        else:
            import openstackclient.shell as shell
            code = shell.main(arguments)
        code = 0 if code is None else code
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
        code = 1
    finally:
        for stream in (sys.stdout, sys.stderr):
            try:
                stream.flush()
            except Exception:
                pass
        os._exit(code & 0xff)


def run(command, folder, env):
    program, *arguments = shlex.split(command)
    started = time.monotonic()
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        child = os.fork()
        if child == 0:
            in_the_fork(program, arguments, folder, env, out, err)
        code = wait(child)
        texts = []
        for file in (out, err):
            file.seek(0)
            texts.append(file.read().decode('utf-8', 'replace'))
    return {'rc': code, 'stdout': texts[0], 'stderr': texts[1], 'seconds': round(time.monotonic() - started, 2)}


def wait(child):
    until = time.monotonic() + COMMAND_SECONDS
    while time.monotonic() < until:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.01)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return 124


def main():
    arguments = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    for name in ('rows', 'admin', 'demo', 'out'):
        arguments.add_argument('--' + name, required=True)
    chosen = arguments.parse_args()
    preload()
    who = {'admin': credentials(chosen.admin), 'demo': credentials(chosen.demo)}
    watch = Watch(who['admin'])
    with open(chosen.rows) as lines:
        rows = [json.loads(line) for line in lines]
    with tempfile.TemporaryDirectory(prefix='replay-') as folder, open(chosen.out, 'w') as out:
        make_files(folder)
        host = watch.host()
        for command in LEFTOVERS:
            run(command, folder, who['admin'])
        for row in rows:
            words = [host if word == RECORDED_HOST else word for word in shlex.split(row['cmd'])]
            command = shlex.join(words).replace("'<password>'", PASSWORD)
            watch.settle()
            result = {'row': row['row'], **run(command, folder, who[row['as']])}
            out.write(json.dumps(result) + '\n')
            out.flush()


if __name__ == '__main__':
    main()
