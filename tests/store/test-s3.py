#!/usr/bin/env python3
"""Repositories on a real S3 server, with restic as the judge, and with faults in between.

usage: test-s3.py REPOSITORY-TOOL KVSS SHIFT-CLOCK [words of test names]

The server is Ceph's object gateway: tests/lib/s3lab.py. Where its packages or
restic are not installed, the tests are skipped and say so.
"""
import json
import os
import random
import shutil
import signal
import ssl
import subprocess
import sys
import tempfile
import threading
import time
import unittest

TOOL, KVSS, SHIFT_CLOCK = (os.path.abspath(path) for path in sys.argv[1:4])
sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), 'lib'))
import certificates  # noqa: E402
import s3faults       # noqa: E402
import s3lab         # noqa: E402
from remoterepair import DAMAGED, REPOSITORY, RepairCase, RepairTests  # noqa: E402
import tap           # noqa: E402

PASSWORD = 'correct horse'
REPOSITORY_ERRORS, IO_ERRORS = 'kvss-repository-error-quark', 'kvss-io-error-quark'

# KvssRepositoryError, as the tool prints it.
NOT_FOUND, MISSING, EXISTS, WRONG_PASSWORD, LOCKED, CORRUPT, FORMAT, NO_SPACE = range(8)
MIB = 1 << 20


def needs():
    missing = s3lab.missing() or ('' if shutil.which('restic') else 'restic')
    return 'not installed: ' + missing if missing else ''


def noise(seed, length):
    return random.Random(seed).randbytes(length)


server = folder = None
buckets = 0


def setUpModule():
    global server, folder
    if needs():
        return
    folder = tempfile.mkdtemp(prefix='kvss-s3-')
    server = s3lab.S3Server(os.path.join(folder, 'server'))
    os.mkdir(server.dir)
    try:
        server.start()
    except BaseException:
        tearDownModule()
        raise


def tearDownModule():
    if server:
        server.stop()
    shutil.rmtree(folder, ignore_errors=True)


class Case(unittest.TestCase):
    prefix = ''

    def setUp(self):
        global buckets
        if needs():
            self.skipTest(needs())
        buckets += 1
        self.dir = os.path.join(folder, 'test-%d' % buckets)
        os.mkdir(self.dir)
        self.addCleanup(shutil.rmtree, self.dir, ignore_errors=True)
        self.bucket = server.bucket('bucket%d' % buckets)
        self.repo = self.location(server.port)
        self.env = {k: v for k, v in os.environ.items() if not k.startswith(('AWS_', 'KVSS_', 'RESTIC_'))}
        self.env.update(server.environment(), HOME=self.dir, KVSS_PASSWORD=PASSWORD, RESTIC_PASSWORD=PASSWORD,
                        KVSS_STATE_DIR=self.path('state'), KVSS_CACHE_DIR=self.path('cache'),
                        RESTIC_CACHE_DIR=self.path('restic-cache'), KVSS_CONFIG=self.path('kvss.conf'),
                        KVSS_HTTP_RETRY='60')
        self.write('kvss.conf')

    def location(self, port):
        return 's3:http://127.0.0.1:%d/%s%s' % (port, self.bucket, '/' + self.prefix if self.prefix else '')

    def proxy(self, **options):
        """Faults may be put before the server; what was there before goes on by the direct way."""
        proxy = s3faults.S3Proxy(server.port, seed=len(self.id()), **options)
        proxy.__enter__()
        self.addCleanup(proxy.__exit__)
        self.through = self.location(proxy.port)
        return proxy

    def path(self, *names):
        return os.path.join(self.dir, *names)

    def write(self, name, *parts):
        path = self.path(name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, 'wb') as f:
            for part in parts:
                f.write(part)
        return path

    def content(self, *names):
        with open(self.path(*names), 'rb') as f:
            return f.read()

    def run_it(self, *args, ok=True, env=None, **kwargs):
        done = subprocess.run(args, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=300,
                              env=dict(self.env, **(env or {})), **kwargs)
        # Whatever happens, and however much is told: no secret in it.
        for secret in (s3lab.SECRET_KEY, PASSWORD):
            self.assertNotIn(secret.encode(), done.stdout + done.stderr)
        if ok and done.returncode != 0:
            self.fail('%s failed: %s %s' % (args, done.stdout[-2000:], done.stderr[-2000:]))
        return done

    def tool(self, command, *args, repo=None, **kwargs):
        return self.run_it(TOOL, command, repo or self.repo, *args, **kwargs).stdout.decode().strip()

    def tool_fails(self, what, command, *args, repo=None, **kwargs):
        """Fails with that error, and says all of it in one line, which is returned."""
        done = self.run_it(TOOL, command, repo or self.repo, *args, ok=False, **kwargs)
        said = [line for line in done.stderr.decode().splitlines() if line.startswith('kvss-')]
        self.assertEqual((done.returncode, len(said)), (1, 1), done)
        self.assertTrue(said[0].startswith('%s %d: ' % what), said)
        return said[0]

    def restic(self, *args, **kwargs):
        return self.run_it('restic', '-r', self.repo, *args, **kwargs)

    def assert_whole(self):
        """restic and we read every byte and find nothing."""
        self.assertIn(b'no errors were found', self.restic('check', '--read-data').stdout)
        self.assertTrue(self.tool('verify', '--read-data').endswith(' damaged 0'))

    def keys(self, part=''):
        return server.keys(self.bucket, (self.prefix + '/' if self.prefix else '') + part)


class Together(Case):
    """restic and we, in one bucket."""

    prefix = 'backups/web 01'.replace(' ', '-')

    def test_ours(self):
        """What we write lies where restic looks for it, and restic checks and restores it."""
        disk = self.write('vda', noise(1, 30 * MIB), bytes(8 * MIB), b'end')
        self.tool('init')
        snapshot = self.tool('backup', 'kvss', 'vms/web/disks/vda.raw=' + disk)
        self.assert_whole()
        self.restic('restore', snapshot, '--target', self.path('out'))
        self.assertEqual(self.content('out/vms/web/disks/vda.raw'), self.content('vda'))
        names = sorted(key[len(self.prefix) + 1:] for key in self.keys())
        self.assertEqual(names[0], 'config')
        self.assertEqual({name.split('/')[0] for name in names}, {'config', 'data', 'index', 'keys', 'snapshots'})
        for name in names:
            if name.startswith('data/'):
                self.assertRegex(name, r'^data/([0-9a-f]{2})/\1[0-9a-f]{62}$')
        self.tool('backup', 'kvss', 'vda=' + disk)
        self.assertEqual(sum(n.startswith('data/') for n in names) + 1, len(self.keys('data/')), 'one pack of trees')

    def test_restic(self):
        """What restic writes, we list, verify, restore and add to; what it removes is gone for us."""
        self.write('src/disk.raw', noise(2, 20 * MIB))
        self.restic('init')
        self.restic('backup', '--tag', 'kvss', '.', cwd=self.path('src'))
        first = self.tool('list').split()[0]
        self.tool('restore', first, 'disk.raw', self.path('back'))
        self.assertEqual(self.content('back'), self.content('src/disk.raw'))
        second = self.tool('backup', 'kvss', 'vda=' + self.write('vda', noise(3, 5 * MIB)))
        self.assert_whole()
        self.restic('forget', first, '--prune', '--max-unused', '0')
        self.assertEqual(self.tool('list').split()[0], second)
        self.tool('restore', second, 'vda', self.path('back'))
        self.assertEqual(self.content('back'), self.content('vda'))
        self.assert_whole()

    def test_locks(self):
        """restic sees our lock; a killed process's is removed by our next command."""
        self.tool('make')
        holder = subprocess.Popen([TOOL, 'hold', self.repo], env=self.env, stdin=subprocess.PIPE,
                                  stdout=subprocess.PIPE)
        self.addCleanup(lambda: (holder.kill(), holder.wait(), holder.stdin.close(), holder.stdout.close()))
        self.assertEqual(holder.stdout.readline(), b'holding\n')
        self.assertEqual(len(self.keys('locks/')), 1)
        self.assertNotEqual(self.restic('check', ok=False).returncode, 0)
        holder.send_signal(signal.SIGKILL)
        holder.wait()
        self.tool('list')
        self.assertEqual(self.keys('locks/'), [])
        self.assertIn(b'no errors were found', self.restic('check').stdout)

    def test_listing_goes_on(self):
        """More objects than one answer has, and most of them somebody else's."""
        self.tool('make')
        self.tool('backup', 'kvss', 'vda=' + self.write('vda', noise(4, 20 * MIB)))
        threads = [threading.Thread(target=lambda n=n: [
            server.put(self.bucket, '%s/data/00/& not one of ours %d-%d' % (self.prefix, n, i), b'') for i in range(260)])
            for n in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        proxy = self.proxy()
        self.assertTrue(self.tool('verify', '--read-data', repo=self.through).endswith(' damaged 0'))
        self.assertEqual(proxy.count('GET', 'data%2F'), 2, 'a second page')


class Create(Case):
    def init_at_once(self, count, **kwargs):
        """How many of those succeeded. What lies there afterwards must be theirs, whole."""
        processes = [subprocess.Popen([TOOL, 'init', kwargs.get('repo', self.repo)], env=self.env,
                                      stdout=subprocess.PIPE, stderr=subprocess.PIPE) for _ in range(count)]
        said = [process.communicate(timeout=300) for process in processes]
        for process, (_, error) in zip(processes, said):
            if process.returncode != 0:
                self.assertTrue(error.startswith(b'%s %d: ' % (REPOSITORY_ERRORS.encode(), EXISTS)), error)
        self.assertEqual(self.tool('list'), '')
        self.assertEqual(len(self.keys('keys/')), 1, 'who lost took his key away')
        self.assertEqual(len(self.keys()), 2, self.keys())
        self.assertIn(b'no errors were found', self.restic('check').stdout)
        return sum(process.returncode == 0 for process in processes)

    def test_at_once(self):
        """Several create one repository at once: one does."""
        proxy = self.proxy()
        proxy.add('GET', 'max-keys=2&', s3faults.together(5))   # all of them find it empty
        self.assertEqual(self.init_at_once(5, repo=self.through), 1)
        self.assertEqual(proxy.count('PUT', '/config'), 5, 'they did meet')

    def test_without_conditions(self):
        """On a server that does not know If-None-Match as well: the last to write is the one."""
        def refuse(handler, proxy, request, content):
            if request.headers.get('if-none-match'):
                return s3faults.says(501, 'NotImplemented')(handler, proxy, request, content)
            return s3faults.forward(handler, proxy, request, content)
        proxy = self.proxy()
        proxy.add('GET', 'max-keys=2&', s3faults.together(3))
        proxy.add('PUT', '/config', s3faults.together(3))
        proxy.add('PUT', '', refuse)
        self.assertEqual(self.init_at_once(3, repo=self.through), 1)

    def test_condition_ignored(self):
        """A server that overwrites in spite of the condition is found out: the config is looked at again."""
        def ignore(handler, proxy, request, content):
            status, _ = server.request('PUT', request.path, body=content)
            return s3faults.reply(handler, status)
        proxy = self.proxy()
        proxy.add('PUT', 'probe', ignore)
        self.tool('make', repo=self.through)
        self.assertEqual(proxy.done['ignore'], 2, 'asked twice')
        self.assertEqual(proxy.count('GET', '/config'), 1)
        self.assertIn(b'no errors were found', self.restic('check').stdout)

    def test_lost_answer(self):
        """The config was stored, and its answer lost: the second attempt meets our own."""
        proxy = self.proxy()
        proxy.add('PUT', '/config', 'lost', times=1)
        self.tool('make', repo=self.through)
        self.assertEqual(proxy.done['lost'], 1)
        self.assertEqual(proxy.count('PUT', '/config'), 2)
        self.assertIn(b'no errors were found', self.restic('check').stdout)

    def test_not_empty(self):
        """Neither in a repository nor among others' objects; a refused one leaves nothing."""
        server.put(self.bucket, 'notes.txt', b'x')
        self.assertIn('is not empty', self.tool_fails((REPOSITORY_ERRORS, EXISTS), 'init'))
        self.assertEqual(self.keys(), ['notes.txt'])
        self.tool('make', repo=self.repo + '/sub')
        self.assertIn('already', self.tool_fails((REPOSITORY_ERRORS, EXISTS), 'init', repo=self.repo + '/sub'))
        self.assertIn('not a repository', self.tool_fails((REPOSITORY_ERRORS, MISSING), 'list'))

    def test_failed(self):
        """A config that cannot be stored: the key goes again."""
        proxy = self.proxy()
        proxy.add('PUT', '/config', s3faults.says(403, 'AccessDenied'))
        self.assertIn('do not allow PUT', self.tool_fails((REPOSITORY_ERRORS, MISSING), 'init', repo=self.through))
        self.assertEqual(self.keys(), [])


class Faults(Case):
    """What passes is not noticed but in the time it takes; what stays ends the run with its reason."""

    def setUp(self):
        super().setUp()
        self.tool('make')
        self.disk = self.write('vda', noise(5, 60 * MIB))

    def restore(self, snapshot, **kwargs):
        self.tool('restore', snapshot, 'vda', self.path('back'), **kwargs)
        self.assertEqual(self.content('back'), self.content('vda'))

    def test_writing(self):
        """Refusals, broken connections and flipped bits during a backup."""
        proxy = self.proxy()
        proxy.add('PUT', '/data/', 'cut', times=2)
        proxy.add('PUT', '/data/', s3faults.flipped_request, times=2)
        proxy.add('PUT', '/index/', s3faults.flipped_request, times=1)
        proxy.add('PUT', '/snapshots/', 'lost', times=1)
        proxy.add('DELETE', '/locks/', 'lost', times=1)
        proxy.add('PUT', '/data/', 'lost', times=1)
        proxy.add('', '', s3faults.says(503, 'SlowDown'), share=0.3)
        proxy.add('GET', 'list-type', 'short', share=0.5)
        snapshot = self.tool('backup', 'kvss', 'vda=' + self.disk, repo=self.through)
        for fault in ('cut', 'lost', 'flipped_request', 'SlowDown'):
            self.assertGreater(proxy.done[fault], 0, fault)
        self.assertEqual(self.keys('locks/'), [])
        self.assertEqual(len(self.keys('snapshots/')), 1)
        self.assert_whole()
        self.restore(snapshot)

    def test_reading(self):
        """The same while a disk is restored and the repository verified."""
        snapshot = self.tool('backup', 'kvss', 'vda=' + self.disk)
        proxy = self.proxy()
        proxy.add('GET', '/data/', 'short', share=0.1)
        proxy.add('', '', s3faults.says(503, 'SlowDown'), share=0.1)
        proxy.add('', '', s3faults.says(500, 'InternalError'), share=0.1)
        self.restore(snapshot, repo=self.through)
        self.assertTrue(self.tool('verify', '--read-data', repo=self.through).endswith(' damaged 0'))
        self.assertGreater(proxy.done['short'], 0)
        self.assertGreater(proxy.done['SlowDown'], 0)

    def test_flipped(self):
        """Content that changed on its way to us is never restored."""
        snapshot = self.tool('backup', 'kvss', 'vda=' + self.disk)
        proxy = self.proxy()
        proxy.add('GET', '/data/', 'flip')
        self.tool_fails((REPOSITORY_ERRORS, CORRUPT), 'restore', snapshot, 'vda', self.path('back'), repo=self.through)

    def test_short(self):
        """A server that has less of a pack than the index says."""
        snapshot = self.tool('backup', 'kvss', 'vda=' + self.disk)
        proxy = self.proxy()
        proxy.add('GET', '/data/', s3faults.short_object)
        done = self.run_it(TOOL, 'restore', self.through, snapshot, 'vda', self.path('back'), ok=False)
        self.assertEqual(done.returncode, 1)
        self.assertIn(b'the file ends', done.stderr)

    def test_gives_up(self):
        """A server that takes no packs: told within the limit; the next run sends only what is missing."""
        proxy = self.proxy()
        proxy.add('PUT', '/data/', s3faults.says(503, 'SlowDown'), share=1)
        start = time.monotonic()
        done = self.run_it(TOOL, 'backup', self.through, 'kvss', 'vda=' + self.disk, ok=False,
                           env={'KVSS_HTTP_RETRY': '3'})
        self.assertEqual(done.returncode, 1)
        self.assertIn(b'503', done.stderr)
        self.assertIn(b'SlowDown', done.stderr)
        self.assertLess(time.monotonic() - start, 60)
        self.assertEqual((self.keys('snapshots/'), self.keys('data/'), self.keys('locks/')), ([], [], []))

    def test_goes_on(self):
        """Killed in the middle: nothing of it exists, and the next run sends what is missing."""
        big = self.write('big', noise(6, 250 * MIB))
        proxy = self.proxy()
        proxy.add('PUT', '/data/', s3faults.slow)
        backup = subprocess.Popen([TOOL, 'backup', self.through, 'kvss', 'big=' + big], env=self.env,
                                  stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        limit = time.monotonic() + 120
        while proxy.count('PUT', '/data/') < 8 and time.monotonic() < limit:
            time.sleep(0.02)
        backup.kill()
        backup.wait()
        stored = len(self.keys('data/'))
        self.assertGreater(stored, 2)
        proxy.clear()
        self.assertEqual(self.tool('list', repo=self.through), '')
        self.tool('backup', 'kvss', 'big=' + big, repo=self.through)
        self.assertLessEqual(proxy.count('PUT', '/data/'), len(self.keys('data/')) - stored + 1)
        self.assertEqual(self.keys('locks/'), [])
        self.assert_whole()

    def test_quota(self):
        """A full bucket is no damage."""
        proxy = self.proxy()
        proxy.add('PUT', '/data/', s3faults.says(403, 'QuotaExceeded'))
        said = self.tool_fails((REPOSITORY_ERRORS, NO_SPACE), 'backup', 'kvss', 'vda=' + self.disk, repo=self.through)
        self.assertIn('is full', said)
        self.tool('backup', 'kvss', 'vda=' + self.disk)
        self.assert_whole()

    def test_hostile_listing(self):
        """A listing that never ends, one that is none, and one that wants a file of ours."""
        for text, word in (
                ('<ListBucketResult><IsTruncated>true</IsTruncated><NextContinuationToken>x</NextContinuationToken>'
                 '<Contents><Key>keys/x</Key><Size>1</Size></Contents></ListBucketResult>', 'does not go on'),
                ('<ListBucketResult/>', 'does not say'),
                ('hello', 'not the XML'),
                ('<!DOCTYPE a [<!ENTITY e SYSTEM "file:///etc/passwd">]><ListBucketResult>&e;</ListBucketResult>',
                 'declaration')):
            def lie(handler, proxy, request, content, text=text):
                return s3faults.reply(handler, 200, text.encode())
            proxy = self.proxy()
            proxy.add('GET', 'list-type', lie)
            done = self.run_it(TOOL, 'list', self.through, ok=False)
            self.assertEqual(done.returncode, 1)
            self.assertIn(word.encode(), done.stderr)


class Objects:
    """Files behind the server's back, for RepairCase."""
    programs = TOOL, KVSS
    prefix = 'site'

    def setUp(self):
        super().setUp()
        self.proxy = self.proxy()

    def names(self, folder):
        return [key[len(self.prefix) + 1:] for key in self.keys(folder + '/')]

    def look(self, name):
        return server.get(self.bucket, self.prefix + '/' + name)

    def store(self, name, content):
        key = self.prefix + '/' + name
        server.delete(self.bucket, key) if content is None else server.put(self.bucket, key, content)


class Repair(Objects, RepairTests, Case):
    pass


class RepairRefused(Objects, RepairCase, Case):
    def test_delete(self):
        """Credentials that may delete locks and nothing else: told before anything is written."""
        self.make()
        self.flip(self.data_1, 100)
        server.run('radosgw-admin', 'user', 'create', '--uid=adder', '--display-name=adder',
                   '--access-key=ADDERKEY', '--secret-key=addersecret')
        self.addCleanup(server.run, 'radosgw-admin', 'user', 'rm', '--uid=adder')
        bucket = 'arn:aws:s3:::' + self.bucket

        def allow(actions, *resources):
            return {'Effect': 'Allow', 'Principal': {'AWS': ['arn:aws:iam:::user/adder']},
                    'Action': ['s3:' + action for action in actions], 'Resource': list(resources)}
        server.expect('PUT', '/' + self.bucket, 'policy=', json.dumps({'Version': '2012-10-17', 'Statement': [
            allow(('GetObject', 'PutObject', 'ListBucket'), bucket, bucket + '/*'),
            allow(('DeleteObject',), bucket + '/site/locks/*')]}).encode())
        before = self.state()
        said = self.command('repair', '--read-data', codes=(REPOSITORY,), AWS_ACCESS_KEY_ID='ADDERKEY',
                            AWS_SECRET_ACCESS_KEY='addersecret').stderr
        self.assertIn(b'do not allow DELETE', said)
        self.assertIn(b'nothing was changed', said)
        self.assert_untouched(before)
        self.told('repair', '--read-data', codes=(DAMAGED,))


class Refused(Case):
    """What is wrong with key, clock, bucket or permission is told, with what to do."""

    def setUp(self):
        super().setUp()
        self.tool('make')

    def assert_told(self, *words, env=None, command='list', repo=None):
        said = self.tool_fails((REPOSITORY_ERRORS, MISSING), command, env=env, repo=repo)
        for word in words:
            self.assertIn(word, said)

    def test_keys(self):
        self.assert_told('AWS_ACCESS_KEY_ID', 'secret key is not the one', env={'AWS_SECRET_ACCESS_KEY': 'wrong'})
        self.assert_told('AWS_ACCESS_KEY_ID', 'does not know this access key', env={'AWS_ACCESS_KEY_ID': 'NOBODY'})
        self.assert_told('no credentials for S3', self.path('.aws/credentials'), env={'AWS_ACCESS_KEY_ID': ''})
        for command in ('init', 'list'):
            self.assert_told('keys do not belong into the location', command=command,
                             repo='s3:http://%s:%s@127.0.0.1/x' % (s3lab.ACCESS_KEY, s3lab.SECRET_KEY))

    def test_profile(self):
        """A profile of AWS's file; no key is taken from anywhere else."""
        self.write('aws', b'[default]\naws_access_key_id = NOBODY\naws_secret_access_key = x\n[backup]\n'
                   b'aws_access_key_id = %s\naws_secret_access_key = %s\n'
                   % (s3lab.ACCESS_KEY.encode(), s3lab.SECRET_KEY.encode()))
        env = {'AWS_ACCESS_KEY_ID': '', 'AWS_SECRET_ACCESS_KEY': '', 'AWS_PROFILE': 'backup',
               'AWS_SHARED_CREDENTIALS_FILE': self.path('aws'), 'G_MESSAGES_DEBUG': 'all'}
        self.tool('list', env=env)
        self.assert_told('profile default of ' + self.path('aws'), 'does not know', env=dict(env, AWS_PROFILE=''))

    def test_bucket(self):
        for command in ('init', 'list'):
            self.assert_told('there is no bucket nothing-here', 'make it first', command=command,
                             repo='s3:%s/nothing-here' % server.url)

    def test_clock(self):
        """The server's own refusal of a clock that is wrong."""
        env = {'LD_PRELOAD': SHIFT_CLOCK, 'KVSS_TEST_CLOCK': str(-40 * 60)}
        self.assert_told("this host's clock is", 'minutes behind', 'RequestTimeTooSkewed', env=env)
        self.assert_told('minutes ahead', env=dict(env, KVSS_TEST_CLOCK=str(3 * 3600)))
        self.tool('list', env=dict(env, KVSS_TEST_CLOCK='60'))

    def test_server(self):
        """Nobody there; somebody there who is no S3 server."""
        port, = s3lab.free_ports(1)
        self.assert_told('127.0.0.1:%d' % port, 'port %d' % port, env={'KVSS_HTTP_RETRY': '2'}, repo='s3:http://127.0.0.1:%d/x' % port)
        proxy = self.proxy()

        def page(handler, proxy, request, content):
            return s3faults.reply(handler, 404, b'<!DOCTYPE html><html>nothing here</html>', 'text/html')
        proxy.add('', '', page)
        self.assert_told('404', repo=self.through)

    def test_expired(self):
        """Credentials that expire in the middle of a run: renewed ones are taken, old ones told."""
        def expire(handler, proxy, request, content):
            if s3lab.ACCESS_KEY in request.headers['authorization']:
                if renewed:
                    self.credentials(*renewed)
                return s3faults.says(400, 'ExpiredToken')(handler, proxy, request, content)
            return s3faults.forward(handler, proxy, request, content)
        second = 'SECONDKEY0SECONDKEY0'
        server.run('radosgw-admin', 'key', 'create', '--uid=lab', '--access-key=' + second, '--secret-key=another')
        self.addCleanup(server.run, 'radosgw-admin', 'key', 'rm', '--uid=lab', '--access-key=' + second)
        disk = self.write('vda', noise(7, 40 * MIB))
        env = {'AWS_ACCESS_KEY_ID': '', 'AWS_SECRET_ACCESS_KEY': '', 'AWS_SHARED_CREDENTIALS_FILE': self.path('aws')}
        for renewed in (None, (second, 'another')):
            self.credentials(s3lab.ACCESS_KEY, s3lab.SECRET_KEY)
            proxy = self.proxy()
            proxy.add('PUT', '/data/', expire)
            if renewed:
                self.tool('backup', 'kvss', 'vda=' + disk, env=env, repo=self.through)
            else:
                done = self.run_it(TOOL, 'backup', self.through, 'kvss', 'vda=' + disk, env=env, ok=False)
                self.assertEqual(done.returncode, 1)
                self.assertIn(b'have expired: get new ones', done.stderr)
            self.assertGreater(proxy.done['expire'], 0)
        self.assert_whole()

    def credentials(self, access, secret):
        text = '[default]\naws_access_key_id = %s\naws_secret_access_key = %s\n' % (access, secret)
        self.write('aws.new', text.encode())
        os.rename(self.path('aws.new'), self.path('aws'))

    def test_reader(self):
        """Credentials that may only read: looking works without a lock, adding says what is missing."""
        snapshot = self.tool('backup', 'kvss', 'vda=' + self.write('vda', noise(8, 3 * MIB)))
        server.run('radosgw-admin', 'user', 'create', '--uid=reader', '--display-name=reader',
                   '--access-key=READERKEY', '--secret-key=readersecret')
        self.addCleanup(server.run, 'radosgw-admin', 'user', 'rm', '--uid=reader')
        server.expect('PUT', '/' + self.bucket, 'policy=', json.dumps({
            'Version': '2012-10-17', 'Statement': [{
                'Effect': 'Allow', 'Principal': {'AWS': ['arn:aws:iam:::user/reader']},
                'Action': ['s3:GetObject', 's3:ListBucket'],
                'Resource': ['arn:aws:s3:::%s' % self.bucket, 'arn:aws:s3:::%s/*' % self.bucket]}]}).encode())
        env = {'AWS_ACCESS_KEY_ID': 'READERKEY', 'AWS_SECRET_ACCESS_KEY': 'readersecret'}
        self.assertIn(snapshot, self.tool('list', env=env))
        self.tool('restore', snapshot, 'vda', self.path('back'), env=env)
        self.assertEqual(self.content('back'), self.content('vda'))
        done = self.run_it(TOOL, 'backup', self.repo, 'kvss', 'x=' + self.path('vda'), env=env, ok=False)
        self.assertEqual(done.returncode, 1)
        self.assertIn(b'do not allow PUT', done.stderr)


@unittest.skipUnless(shutil.which('openssl'), 'needs openssl')
class Tls(Case):
    """A certificate that does not prove the server is refused, at once; a CA of one's own is named as documented."""

    names = ('KVSS_CA_FILE', 'RESTIC_CACERT', 'CURL_CA_BUNDLE', 'SSL_CERT_FILE')

    def setUp(self):
        super().setUp()
        for name in self.names:
            self.env.pop(name, None)

    def serve(self, alternative, expired=False):
        certificates.make(self.dir, alternative, expired)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.path('server.pem'), self.path('server.key'))
        proxy = self.proxy(tls=context)
        self.through = self.through.replace('http:', 'https:')
        return proxy

    def assert_refused(self, proxy, *words, **env):
        said = self.tool_fails((REPOSITORY_ERRORS, MISSING), 'list', repo=self.through, env=dict(env, KVSS_HTTP_RETRY='3000'))
        for word in ('certificate', *words):
            self.assertIn(word, said)
        self.assertEqual(proxy.requests, [])

    def test_own_ca(self):
        proxy = self.serve('IP:127.0.0.1')
        self.assert_refused(proxy)
        for name in self.names:
            env = {name: self.path('ca.pem')}
            if name == 'KVSS_CA_FILE':
                self.tool('init', repo=self.through, env=env)
                self.tool('backup', 'kvss', 'vda=' + self.write('vda', noise(12, 3 * MIB)), repo=self.through, env=env)
            self.assertTrue(self.tool('list', repo=self.through, env=env))
        self.assert_whole()

    def test_other_name(self):
        self.assert_refused(self.serve('DNS:elsewhere.example'), KVSS_CA_FILE=self.path('ca.pem'))

    def test_expired(self):
        self.assert_refused(self.serve('IP:127.0.0.1', expired=True), 'expired', KVSS_CA_FILE=self.path('ca.pem'))


class Command(Case):
    """The command itself: exit codes, and what it says."""

    def kvss(self, *args, code=0, **kwargs):
        done = self.run_it(KVSS, '-r', kwargs.pop('repo', self.repo), *args, ok=False, **kwargs)
        self.assertEqual(done.returncode, code, done)
        return done.stdout.decode() + done.stderr.decode()

    def test_command(self):
        self.assertIn('created', self.kvss('init'))
        self.assertIn('already', self.kvss('init', code=1))
        self.tool('backup', 'other', 'vda=' + self.write('vda', noise(9, 3 * MIB)))
        self.assertEqual(json.loads(self.kvss('--json', 'list', 'backups')), [])
        self.kvss('verify', '--read-data')
        self.kvss('list', 'backups', code=5, env={'KVSS_PASSWORD': 'wrong'})
        self.assertIn('make it first', self.kvss('init', code=4, repo='s3:%s/nothing-here' % server.url))
        self.assertIn('secret key', self.kvss('list', 'backups', code=4, env={'AWS_SECRET_ACCESS_KEY': 'wrong'}))
        self.assertIn('not a repository', self.kvss('list', 'backups', code=4, repo=self.repo + '/elsewhere'))

    def test_prune(self):
        """What no backup needs any more goes from the bucket, also when every second request fails."""
        self.tool('make')
        common, old = noise(10, 20 * MIB), noise(11, 40 * MIB)
        first = self.tool('backup', 'kvss', 'vda=' + self.write('vda', old, common))
        second = self.tool('backup', 'kvss', 'vda=' + self.write('vda', bytes(40 * MIB), common))
        before = sum(map(len, (server.get(self.bucket, key) for key in self.keys('data/'))))
        self.restic('forget', first)
        proxy = self.proxy()
        proxy.add('', '', s3faults.says(503, 'SlowDown'), share=0.4)
        proxy.add('DELETE', '', 'lost', share=0.2)
        self.kvss('prune', repo=self.through)
        self.assertGreater(proxy.done['SlowDown'], 0)
        after = sum(map(len, (server.get(self.bucket, key) for key in self.keys('data/'))))
        self.assertLess(after, before - 35 * MIB)
        self.assertEqual(self.keys('locks/'), [])
        self.assert_whole()
        self.tool('restore', second, 'vda', self.path('back'))
        self.assertEqual(self.content('back'), self.content('vda'))


if __name__ == '__main__':
    tap.run('__main__', 's3', sys.argv[4:])
