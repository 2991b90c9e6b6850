#!/usr/bin/env python3
"""kvss key, and that without its password nothing opens a repository.

usage: test-keys.py KVSS MAKE-SET FAULT-IO [unittest arguments]"""
import glob
import json
import os
import pty
import shutil
import subprocess
import sys
import tempfile
import time
import unittest

KVSS, MAKE_SET = (os.path.abspath(a) for a in sys.argv[1:3])
DONE, FAILED, USAGE, REPOSITORY, PASSWORD, LOCKED, DAMAGED = 0, 1, 2, 4, 5, 6, 7
RESTIC = shutil.which('restic')


class Case(unittest.TestCase):
    def setUp(self):
        self.dir = tempfile.mkdtemp(prefix='kvss-keys-')
        self.addCleanup(shutil.rmtree, self.dir, ignore_errors=True)
        self.repo = os.path.join(self.dir, 'repository')
        self.write('conf', '')
        subprocess.run([MAKE_SET, 'init', self.repo], env=self.env('one'), check=True, timeout=120)

    def write(self, name, text):
        path = os.path.join(self.dir, name)
        with open(path, 'w') as f:
            f.write(text)
        os.chmod(path, 0o600)
        return path

    def env(self, password, **more):
        env = dict(os.environ, KVSS_CONFIG=os.path.join(self.dir, 'conf'), KVSS_STATE_DIR=os.path.join(self.dir, 'state'),
                   KVSS_CACHE_DIR=os.path.join(self.dir, 'cache'), KVSS_REPOSITORY=self.repo, RESTIC_REPOSITORY=self.repo,
                   RESTIC_CACHE_DIR=os.path.join(self.dir, 'restic-cache'), LIBVIRT_DEFAULT_URI='test:///default')
        for name in ('KVSS_PASSWORD', 'KVSS_PASSWORD_FILE', 'RESTIC_PASSWORD', 'RESTIC_PASSWORD_FILE', 'KVSS_NEW_PASSWORD',
                     'KVSS_NEW_PASSWORD_FILE'):
            env.pop(name, None)
        if password is not None:
            env.update(KVSS_PASSWORD=password, RESTIC_PASSWORD=password)
        return dict(env, **more)

    def run_it(self, password, *args, code=DONE, **more):
        done = subprocess.run([KVSS, *args], env=self.env(password, **more), stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                              stdin=subprocess.DEVNULL, timeout=120)
        if code is not None:
            self.assertEqual(done.returncode, code, (args, done))
        return done

    def json(self, password, *args, code=DONE, **more):
        return json.loads(self.run_it(password, '--json', *args, code=code, **more).stdout)

    def keys(self):
        return sorted(os.listdir(os.path.join(self.repo, 'keys')))

    def opens(self, password):
        return self.run_it(password, 'list', 'backups', code=None).returncode == DONE


class Keys(Case):
    def test_add_list_remove(self):
        new = self.json('one', 'key', 'add', '--new-password-file', self.write('new', '  two\n'))['id']
        self.assertIn(new, self.keys())
        third = self.json('two', 'key', 'add', KVSS_NEW_PASSWORD='three')['id']
        fourth = self.json('two', 'key', 'add', KVSS_NEW_PASSWORD_FILE=self.write('file', 'four'))['id']
        for password in ('one', 'two', 'three', 'four'):
            self.assertTrue(self.opens(password))
        listed = self.json('two', 'key', 'list')
        self.assertEqual({k['id'] for k in listed}, set(self.keys()))
        self.assertEqual([k['id'] for k in listed if k['current']], [new])
        self.assertIn('%s  yes' % new[:8], self.run_it('two', 'key', 'list').stdout.decode())
        self.assertEqual(self.json('two', 'key', 'remove', third[:9].upper()), {'id': None, 'removed': third})
        self.assertFalse(self.opens('three'))
        self.assertTrue(self.opens('four'))
        self.assertNotIn(third, self.keys())
        self.assertIn(fourth, self.keys())

    def test_refused(self):
        current, = self.keys()
        said = self.run_it('one', 'key', 'remove', current, code=FAILED).stderr
        self.assertIn(b'in use', said)
        self.run_it('one', 'key', 'remove', current[:4], code=FAILED)
        self.run_it('one', 'key', 'remove', 'ffffffffffff', code=FAILED)
        self.run_it('one', 'key', 'remove', code=USAGE)
        self.run_it('one', 'key', 'remove', '', code=USAGE)
        self.run_it('one', 'key', 'list', current, code=USAGE)
        self.run_it('one', 'key', 'list', '--new-password-file', 'x', code=USAGE)
        self.run_it('one', 'key', 'change', code=USAGE)
        self.run_it('one', 'key', code=USAGE)
        self.run_it('one', 'key', 'add', code=PASSWORD)
        self.run_it('one', 'key', 'add', '--new-password-file', self.write('empty', ' \n'), code=PASSWORD)
        self.run_it('one', 'key', 'passwd', '--new-password-file', '/no/such', code=PASSWORD)
        self.assertEqual(self.keys(), [current])
        self.assertTrue(self.opens('one'))

    def test_passwd(self):
        old, = self.keys()
        done = self.json('one', 'key', 'passwd', KVSS_NEW_PASSWORD='two')
        self.assertEqual((done['removed'], [done['id']]), (old, self.keys()))
        self.assertFalse(self.opens('one'))
        self.assertTrue(self.opens('two'))

    def test_damaged_key(self):
        """It is named, takes nothing with it, and can be removed."""
        new = self.json('one', 'key', 'add', KVSS_NEW_PASSWORD='two')['id']
        path = os.path.join(self.repo, 'keys', new)
        os.chmod(path, 0o600)
        os.truncate(path, 50)
        listed = self.json('one', 'key', 'list', code=DAMAGED)
        self.assertEqual([k['id'] for k in listed if k['damage']], [new])
        self.run_it('one', 'verify', code=DAMAGED)
        self.run_it('one', 'key', 'remove', new)
        self.run_it('one', 'verify')

    def test_locked(self):
        """Beside somebody else's work keys are added, and not removed."""
        new = self.json('one', 'key', 'add', KVSS_NEW_PASSWORD='two')['id']
        if not RESTIC:
            self.skipTest('needs restic to hold a lock')
        holder = subprocess.Popen([RESTIC, 'backup', '--stdin'], env=self.env('one'), stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
        try:
            for _ in range(300):
                if glob.glob(os.path.join(self.repo, 'locks', '*')):
                    break
                time.sleep(0.1)
            self.run_it('one', 'key', 'remove', new, code=LOCKED)
            self.run_it('one', 'key', 'passwd', code=LOCKED, KVSS_NEW_PASSWORD='three')
            self.run_it('one', 'key', 'list')
            self.json('one', 'key', 'add', KVSS_NEW_PASSWORD='four')
        finally:
            holder.communicate(b'x', timeout=120)
        self.assertTrue(self.opens('two') and self.opens('four') and not self.opens('three'))

    @unittest.skipUnless(RESTIC, 'needs restic')
    def test_restic(self):
        """restic sees our keys and opens with them; we see restic's."""
        self.json('one', 'key', 'add', KVSS_NEW_PASSWORD='two')
        text = subprocess.run([RESTIC, 'key', 'list', '--json'], env=self.env('two'), check=True, stdout=subprocess.PIPE).stdout
        theirs, ours = json.loads(text), self.json('two', 'key', 'list')
        self.assertEqual({(k['id'][:8], k['current']) for k in theirs}, {(k['id'][:8], k['current']) for k in ours})
        subprocess.run([RESTIC, 'key', 'add', '--new-password-file', self.write('new', 'three')], env=self.env('one'), check=True,
                       stdout=subprocess.DEVNULL)
        self.assertTrue(self.opens('three'))
        self.assertEqual(len(self.json('three', 'key', 'list')), 3)
        subprocess.run([RESTIC, 'check'], env=self.env('two'), check=True, stdout=subprocess.DEVNULL)

    def test_asked_on_a_terminal(self):
        """Twice, without an echo; two that differ are refused."""
        for second, code in ((b'new one\n', DONE), (b'another\n', PASSWORD)):
            master, slave = pty.openpty()
            process = subprocess.Popen([KVSS, 'key', 'add'], env=self.env('one'), stdin=slave, stderr=slave, stdout=subprocess.DEVNULL)
            os.close(slave)
            shown = b''
            for question, answer in ((b'New password: ', b'new one\n'), (b'The same again: ', second)):
                while not shown.endswith(question):
                    shown += os.read(master, 1000)
                os.write(master, answer)
            self.assertEqual(process.wait(timeout=60), code)
            try:
                shown += os.read(master, 1000)
            except OSError:
                pass
            os.close(master)
            self.assertNotIn(b'new one', shown)
            self.assertIn(b'New password:', shown)
            self.assertIn(b'The same again:', shown)
        self.assertTrue(self.opens('new one'))
        self.assertFalse(self.opens('another'))


class NoDoor(Case):
    def commands(self):
        socket = os.path.join(self.dir, 'socket')
        return [('list', 'backups'), ('show', 'latest'), ('verify',), ('verify', '--read-data'), ('backup', '--all'),
                ('restore', 'latest', '--yes'), ('export', 'latest', 'web', 'vda', os.path.join(self.dir, 'out')),
                ('serve', 'latest', '--socket', socket), ('repair',), ('repair', '--dry-run'), ('forget', '--keep-last', '1'),
                ('prune',), ('key', 'list'), ('key', 'add'), ('key', 'passwd'), ('key', 'remove', self.keys()[0])]

    def test_wrong(self):
        """Every command: exit code 5, one and the same sentence, nothing touched."""
        before = {p: os.stat(p).st_mtime_ns for p in glob.glob(self.repo + '/**', recursive=True) if os.path.isfile(p)}
        self.json('one', 'key', 'list')
        for args in self.commands():
            with self.subTest(args=args):
                done = self.run_it('guess', *args, code=None, KVSS_NEW_PASSWORD='mine')
                if done.returncode == FAILED and b'nbdkit' in done.stderr:
                    continue # serve without nbdkit
                self.assertEqual(done.returncode, PASSWORD, done)
                self.assertEqual(done.stdout, b'')
                self.assertTrue(done.stderr.endswith(b'wrong password for repository %s\n' % self.repo.encode()), done.stderr)
                for word in (b'guess', b'mine', self.keys()[0][:8].encode()):
                    self.assertNotIn(word, done.stderr)
        after = {p: os.stat(p).st_mtime_ns for p in glob.glob(self.repo + '/**', recursive=True) if os.path.isfile(p)}
        self.assertEqual(before, after)

    def test_none(self):
        for args in self.commands():
            with self.subTest(args=args):
                done = self.run_it(None, *args, code=None, KVSS_NEW_PASSWORD='mine')
                if done.returncode == FAILED and b'nbdkit' in done.stderr:
                    continue
                self.assertEqual(done.returncode, PASSWORD, done)

    def test_doctor(self):
        """It needs no password, and can read nothing: not a byte of the repository is opened with a key."""
        done = self.run_it(None, 'doctor', code=None)
        self.assertIn(done.returncode, (DONE, 3), done)
        self.assertEqual(self.run_it(None, '--json', 'doctor', code=None).stdout.count(self.keys()[0].encode()), 0)

    def test_wrong_with_damage(self):
        """A damaged config makes no way in, either."""
        os.chmod(os.path.join(self.repo, 'config'), 0o600)
        os.truncate(os.path.join(self.repo, 'config'), 0)
        self.run_it('guess', 'repair', code=PASSWORD)
        self.assertEqual(os.path.getsize(os.path.join(self.repo, 'config')), 0)

    def test_scrypt_once(self):
        """A command that succeeds tries the one key once."""
        for args in (('list', 'backups'), ('verify',), ('repair',), ('key', 'list'), ('prune',), ('list', 'vms')):
            said = self.run_it('one', '-vv', *args, code=None).stderr
            self.assertEqual(said.count(b'trying key'), 1, (args, said))


if __name__ == '__main__':
    unittest.main(argv=sys.argv[:1] + sys.argv[4:])
