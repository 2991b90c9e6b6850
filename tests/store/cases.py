"""Repositories for tests of whole commands: made, filled with sets, looked at by kvss and by restic.

usage of a test: test-NAME.py REPOSITORY-TOOL KVSS SET.JSON [unittest arguments]
"""
import glob
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import unittest

from sets import set_files

TOOL, KVSS = (os.path.abspath(word) for word in sys.argv[1:3])
PASSWORD = 'correct horse'
DONE, FAILED, USAGE, REPOSITORY, LOCKED, DAMAGED = 0, 1, 2, 4, 6, 7


def noise(seed, length):
    return random.Random(seed).randbytes(length)


class Case(unittest.TestCase):
    def setUp(self):
        self.dir = tempfile.mkdtemp(prefix='kvss-store-')
        self.addCleanup(shutil.rmtree, self.dir, ignore_errors=True)
        self.repo = self.path('repository')
        self.env = dict(os.environ, KVSS_PASSWORD=PASSWORD, RESTIC_PASSWORD=PASSWORD,
                        KVSS_REPOSITORY=self.repo, RESTIC_REPOSITORY=self.repo,
                        KVSS_STATE_DIR=self.path('state'), KVSS_CACHE_DIR=self.path('cache'),
                        KVSS_CONFIG=self.write('kvss.conf', b''),
                        RESTIC_CACHE_DIR=self.path('restic-cache'), TZ='UTC')
        self.env.pop('KVSS_TEST_STALL', None)

    def path(self, *names):
        return os.path.join(self.dir, *names)

    def write(self, name, content):
        path = self.path(name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, 'wb') as f:
            f.write(content)
        return path

    def run_it(self, *args, code=0, env=None, **kwargs):
        done = subprocess.run(args, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=300,
                              env=dict(self.env, **(env or {})), **kwargs)
        if done.returncode != code:
            self.fail('%s: %d, not %d: %s %s' % (args, done.returncode, code, done.stdout[-2000:],
                                                 done.stderr[-2000:]))
        return done

    def init(self):
        self.run_it(TOOL, 'make', self.repo)

    def kvss(self, *args, code=0, **kwargs):
        return self.run_it(KVSS, *args, code=code, **kwargs).stdout.decode()

    def kvss_json(self, *args, **kwargs):
        """The last line, as an object."""
        return json.loads(self.kvss('--json', *args, **kwargs).splitlines()[-1])

    def kvss_fails(self, code, *args, **kwargs):
        return self.run_it(KVSS, *args, code=code, **kwargs).stderr.decode()

    def restic(self, *args, **kwargs):
        return self.run_it('restic', *args, **kwargs).stdout.decode()

    def backup(self, disks, time=None):
        """A set as kvss stores it; its id."""
        env = {'KVSS_TEST_TIME': time} if time else {}
        args = []
        for n, (place, content) in enumerate(set_files(disks).items()):
            args.append('%s=%s' % (place, self.write('in/%d' % n, content)))
        return self.run_it(TOOL, 'backup', self.repo, 'kvss', *args, env=env).stdout.decode().strip()

    def restic_backup(self, disks, *options, env=None):
        """A set as restic stores it, cut by content, with a path for each choice of VMs; its id."""
        name = 'set-' + '-'.join(sorted(disks))
        folder = self.path(name)
        shutil.rmtree(folder, ignore_errors=True)
        for place, content in set_files(disks).items():
            self.write('%s/%s' % (name, place), content)
        said = self.restic('backup', '--json', '--tag', 'kvss', *options, '.', cwd=folder, env=env)
        short = json.loads(said.splitlines()[-1])['snapshot_id']
        return next(s for s in self.ids() if s.startswith(short))

    def ids(self):
        return sorted(os.listdir(os.path.join(self.repo, 'snapshots')))

    def files(self, folder):
        return sorted(p for p in glob.glob(os.path.join(self.repo, folder, '**'), recursive=True)
                      if os.path.isfile(p))

    def disk(self, backup, vm):
        return self.run_it(TOOL, 'dump', self.repo, backup, 'vms/%s/disks/vda.raw' % vm).stdout

    def assert_whole(self, wanted, after_kill=False):
        """@wanted: {backup: {vm: bytes}}: all there, nothing else, and both programs agree."""
        self.assertEqual(self.ids(), sorted(wanted))
        self.kvss('verify', '--read-data')
        self.assertIn('no errors were found', self.restic('check', '--read-data', '--no-cache'))
        for backup, disks in wanted.items():
            for vm, content in disks.items():
                self.assertTrue(self.disk(backup, vm) == content, '%s of %s' % (vm, backup))
        self.assertEqual(self.files('locks'), [])
        if not after_kill: # they are removed by the next who writes
            self.assertEqual(self.files('tmp'), [])


def main(names):
    if not shutil.which('restic'):
        print('restic is not installed')
        sys.exit(77)
    module = sys.modules['__main__']
    suite = unittest.defaultTestLoader.loadTestsFromNames(sys.argv[4:] or names, module)
    sys.exit(not unittest.TextTestRunner(verbosity=2).run(suite).wasSuccessful())
