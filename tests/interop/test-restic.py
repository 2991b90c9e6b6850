#!/usr/bin/env python3
"""The repository against restic: each reads, checks and adds to what the other wrote.

usage: test-restic.py REPOSITORY-TOOL [unittest arguments]

Needs restic; the full disk needs a mount namespace of its own (root, or user
namespaces). What is missing is skipped and said.
"""
import glob
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import unittest

TOOL = os.path.abspath(sys.argv[1])
PASSWORD = 'correct horse'

# KvssRepositoryError, as the tool prints it.
NOT_FOUND, MISSING, EXISTS, WRONG_PASSWORD, LOCKED, CORRUPT, FORMAT, NO_SPACE = range(8)


def noise(seed, length):
    return random.Random(seed).randbytes(length)


def text(seed, lines):
    r = random.Random(seed)
    return b''.join(b'%d %d some words of text\n' % (i, r.randrange(10 ** 9)) for i in range(lines))


class Case(unittest.TestCase):
    def setUp(self):
        self.dir = tempfile.mkdtemp(prefix='kvss-interop-')
        self.addCleanup(shutil.rmtree, self.dir, ignore_errors=True)
        self.repo = self.path('repository')
        self.env = dict(os.environ, KVSS_PASSWORD=PASSWORD, RESTIC_PASSWORD=PASSWORD,
                        KVSS_STATE_DIR=self.path('state'), KVSS_CACHE_DIR=self.path('cache'),
                        RESTIC_CACHE_DIR=self.path('restic-cache'))

    def path(self, *names):
        return os.path.join(self.dir, *names)

    def write(self, name, *parts):
        """A file of data (bytes) and holes (their length)."""
        path = self.path(name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, 'wb') as f:
            for part in parts:
                if isinstance(part, bytes):
                    f.write(part)
                else:
                    f.seek(part, os.SEEK_CUR)
            f.truncate()
        return path

    def content(self, path):
        with open(path, 'rb') as f:
            return f.read()

    def run_it(self, *args, ok=True, **kwargs):
        kwargs.setdefault('env', self.env)
        done = subprocess.run(args, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=300,
                              **kwargs)
        if ok and done.returncode != 0:
            self.fail('%s failed: %s %s' % (args, done.stdout[-2000:], done.stderr[-2000:]))
        return done

    def tool(self, command, *args, **kwargs):
        return self.run_it(TOOL, command, self.repo, *args, **kwargs).stdout.decode().strip()

    def tool_fails(self, code, command, *args, **kwargs):
        done = self.run_it(TOOL, command, self.repo, *args, ok=False, **kwargs)
        self.assertEqual(done.returncode, 1, done)
        self.assertTrue(done.stderr.startswith(b'kvss-repository-error-quark %d: ' % code), done)
        return done.stderr.decode()

    def restic(self, *args, **kwargs):
        return self.run_it('restic', '-r', self.repo, *args, **kwargs)

    def check(self):
        done = self.restic('check', '--read-data')
        self.assertIn(b'no errors were found', done.stdout)

    def verify(self):
        self.assertTrue(self.tool('verify', '--read-data').endswith(' damaged 0'))

    def files(self, folder):
        return [p for p in glob.glob(os.path.join(self.repo, folder, '**'), recursive=True)
                if os.path.isfile(p)]

    def assert_clean(self):
        self.assertEqual(self.files('locks'), [])
        self.assertEqual(self.files('tmp'), [])


class OursToRestic(Case):
    """What we write, restic lists, checks, dumps and restores."""

    def test_all(self):
        disk = self.write('vda', 100000, noise(1, 5000000), text(1, 300000), 50 << 20, b'end')
        empty = self.write('empty')
        self.tool('init')
        first = self.tool('backup', 'kvss', 'vms/web 01 & <co>/disks/vda.raw=' + disk,
                          'vms/a "b" \\ \u00e9/x=' + empty)
        self.write('vda', 100000, noise(1, 4000000), noise(2, 1000000), text(1, 300000), 50 << 20,
                   b'end')
        second = self.tool('backup', 'kvss', 'vms/web 01 & <co>/disks/vda.raw=' + disk)
        self.assert_clean()
        self.check()
        listed = self.restic('snapshots', '--json').stdout.decode()
        self.assertIn(first, listed)
        self.assertIn(second, listed)
        self.assertIn('"hostname":"testhost"', listed)
        self.assertIn('"tags":["kvss"]', listed)
        self.assertIn('/vms/a "b" \\ \u00e9/x', self.restic('ls', first).stdout.decode())
        dumped = self.restic('dump', second, '/vms/web 01 & <co>/disks/vda.raw').stdout
        self.assertEqual(dumped, self.content(disk))
        self.restic('restore', second, '--target', self.path('out'))
        self.assertEqual(self.content(self.path('out/vms/web 01 & <co>/disks/vda.raw')),
                         self.content(disk))

    def test_keys_of_restic(self):
        """A password that restic added opens for us."""
        self.tool('init')
        new = self.write('new', b'another one')
        self.restic('key', 'add', '--new-password-file', new)
        self.tool('list', env=dict(self.env, KVSS_PASSWORD='another one'))
        self.tool_fails(WRONG_PASSWORD, 'list', env=dict(self.env, KVSS_PASSWORD='wrong'))


class ResticToOurs(Case):
    """What restic writes, we list, verify, read; its packs of any size, compressed or not."""

    def read_all(self, snapshot, tree):
        for name in tree:
            self.tool('restore', snapshot, name, self.path('back'))
            self.assertEqual(self.content(self.path('back')), self.content(self.path('src', name)))
            dumped = self.run_it(TOOL, 'dump', self.repo, snapshot, name).stdout
            self.assertEqual(dumped, self.content(self.path('src', name)))

    def test_all(self):
        tree = ['disk.raw', 'deep/er/\u00e9 file', 'small', 'empty']
        self.write('src/disk.raw', noise(3, 12000000), 30 << 20, text(3, 400000), noise(4, 999))
        self.write('src/deep/er/\u00e9 file', text(4, 1000))
        self.write('src/small', b'x')
        self.write('src/empty')
        self.restic('init', '--repository-version', '2')
        for options in (['--compression', 'off', '--pack-size', '4'],
                        ['--compression', 'max', '--force', '--pack-size', '4']):
            self.write('src/disk.raw', noise(3, 12000000), 30 << 20, text(3, 400000), b'%d' % len(options))
            self.restic('backup', '--tag', 'kvss', *options, '.', cwd=self.path('src'))
            snapshot = self.tool('list').splitlines()[-1].split()[0]
            self.read_all(snapshot, tree)
        self.verify()
        self.assert_clean()

    def test_restored_and_backed_up_again(self):
        """Ours, restored by restic, stored again by restic into our repository."""
        disk = self.write('vda', noise(5, 3000000), 5 << 20, text(5, 100000))
        self.tool('make')
        first = self.tool('backup', 'kvss', 'vms/a/disks/vda.raw=' + disk)
        self.restic('restore', first, '--target', self.path('out'))
        self.restic('backup', '--tag', 'kvss', '.', cwd=self.path('out'))
        again = self.tool('list').splitlines()[-1].split()[0]
        self.assertNotEqual(first, again)
        self.tool('restore', again, 'vms/a/disks/vda.raw', self.path('back'))
        self.assertEqual(self.content(self.path('back')), self.content(disk))
        self.tool('backup', 'kvss', 'vms/a/disks/vda.raw=' + disk)
        self.check()
        self.verify()

    def test_pruned_by_restic(self):
        """restic removes a backup and rewrites packs and index: the rest is as it was."""
        self.tool('make')
        common, old = noise(6, 2000000), noise(7, 2000000)
        disk = self.write('vda', old, common, text(7, 50000))
        first = self.tool('backup', 'kvss', 'vda=' + disk)
        self.write('vda', 2000000, common, text(7, 50000))
        second = self.tool('backup', 'kvss', 'vda=' + disk)
        self.restic('forget', first, '--prune', '--max-unused', '0')
        self.tool('restore', second, 'vda', self.path('back'))
        self.assertEqual(self.content(self.path('back')), self.content(disk))
        self.tool('backup', 'kvss', 'vda=' + disk)
        self.check()
        self.verify()


class Locks(Case):
    def setUp(self):
        super().setUp()
        self.tool('make')
        self.tool('backup', 'kvss', 'vda=' + self.write('vda', noise(8, 3000000)))

    def start(self, *args):
        process = subprocess.Popen(args, env=self.env, stdin=subprocess.PIPE,
                                   stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)

        def end():
            process.kill()
            process.wait()
            process.stdin.close()
            process.stdout.close()
        self.addCleanup(end)
        return process

    def test_restic_alone(self):
        """restic's check is alone in the repository while it runs."""
        restic = self.start('restic', '-r', self.repo, '--limit-download', '1', 'check',
                            '--read-data')
        limit = time.monotonic() + 60
        while not self.files('locks') and time.monotonic() < limit:
            time.sleep(0.05)
        said = self.tool_fails(LOCKED, 'list')
        self.assertIn('pid %d' % restic.pid, said)
        self.tool_fails(LOCKED, 'backup', 'kvss', 'x=' + self.path('vda'))
        restic.kill()
        restic.wait()
        self.restic('unlock')
        self.tool('list')

    def test_ours(self):
        """restic waits for nobody who reads or adds; a killed one of ours is forgotten at the next open."""
        holder = self.start(TOOL, 'hold', self.repo)
        self.assertEqual(holder.stdout.readline(), b'holding\n')
        self.assertNotEqual(self.restic('check', ok=False).returncode, 0)
        self.assertNotEqual(self.restic('prune', ok=False).returncode, 0)
        self.restic('backup', self.path('vda'))
        self.tool('list')
        self.assertEqual(len(self.files('locks')), 1)
        holder.send_signal(signal.SIGKILL)
        holder.wait()
        self.assertNotEqual(self.restic('check', ok=False).returncode, 0)
        self.tool('list')
        self.assert_clean()
        self.check()

    def test_killed_in_backup(self):
        """kill -9 in the middle: nothing exists, the next run cleans up and goes on."""
        big = self.write('big', noise(9, 80 << 20))
        backup = self.start(TOOL, 'backup', self.repo, 'kvss', 'big=' + big)
        limit = time.monotonic() + 60
        while len(self.files('data')) < 4 and time.monotonic() < limit:
            time.sleep(0.01)
        backup.kill()
        backup.wait()
        self.assertEqual(len(self.tool('list').splitlines()), 1)
        self.tool('backup', 'kvss', 'big=' + big)
        self.assert_clean()
        self.check()
        self.verify()


class Damage(Case):
    def test_pack(self):
        """A flipped byte: restic and we find it, and it is not restored."""
        self.tool('make')
        snapshot = self.tool('backup', 'kvss', 'vda=' + self.write('vda', noise(10, 3000000)))
        pack = max(self.files('data'), key=os.path.getsize)
        os.chmod(pack, 0o600)
        with open(pack, 'r+b') as f:
            f.seek(1000000)
            f.write(b'damage')
        self.assertNotEqual(self.restic('check', '--read-data', ok=False).returncode, 0)
        told = self.tool('verify', '--read-data')
        self.assertIn('damaged 1', told)
        self.assertIn(snapshot, told)
        self.assertIn('/vda', told)
        self.tool_fails(CORRUPT, 'restore', snapshot, 'vda', self.path('back'))

    def test_no_repository(self):
        os.mkdir(self.repo)
        self.tool_fails(MISSING, 'list')
        self.write('repository/file', b'x')
        self.tool_fails(EXISTS, 'init')
        self.tool_fails(MISSING, 'list')

    def test_version_1(self):
        self.restic('init', '--repository-version', '1')
        self.assertIn('version 1', self.tool_fails(FORMAT, 'list'))


class FullDisk(Case):
    def test_full(self):
        """A disk that fills: a clear error, nothing damaged, nothing left, and it goes on with room."""
        inside = [sys.executable, os.path.abspath(__file__), TOOL, 'FullDiskInside']
        probe = ['unshare', '-rm', 'true']
        if subprocess.run(probe, stderr=subprocess.DEVNULL).returncode != 0:
            self.skipTest('no mount namespace can be made here')
        self.run_it('unshare', '-rm', *inside)


class FullDiskInside(Case):
    """Run by FullDisk, in a mount namespace of its own."""

    def test_full(self):
        os.mkdir(self.path('small'))
        self.run_it('mount', '-t', 'tmpfs', '-o', 'size=96m', 'tmpfs', self.path('small'))
        self.addCleanup(subprocess.run, ['umount', self.path('small')])
        self.repo = self.path('small/repository')
        self.tool('make')
        first = self.tool('backup', 'kvss', 'a=' + self.write('a', noise(11, 3000000)))
        big = self.write('big', noise(12, 128 << 20))
        said = self.tool_fails(NO_SPACE, 'backup', 'kvss', 'big=' + big)
        self.assertIn('is full', said)
        self.assertIn(self.repo, said)
        self.assert_clean()
        self.assertEqual(self.tool('list').split()[0], first)
        self.check()
        self.verify()
        self.run_it('mount', '-o', 'remount,size=300m', self.path('small'))
        # A pack in the making for each thread takes room too: what is beyond those was finished.
        packs = len(self.files('data'))
        self.assertGreater(packs, 2, 'what was stored is kept for the next run')
        self.tool('backup', 'kvss', 'big=' + big)
        self.check()


if __name__ == '__main__':
    if not shutil.which('restic'):
        print('restic is not installed')
        sys.exit(77)
    names = sys.argv[2:] or ['OursToRestic', 'ResticToOurs', 'Locks', 'Damage', 'FullDisk']
    suite = unittest.defaultTestLoader.loadTestsFromNames(names, sys.modules['__main__'])
    sys.exit(not unittest.TextTestRunner(verbosity=2).run(suite).wasSuccessful())
