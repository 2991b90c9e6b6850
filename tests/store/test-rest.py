#!/usr/bin/env python3
"""Repositories behind a REST server: the real "rclone serve restic", restic beside us, faults in between.

usage: test-rest.py REPOSITORY-TOOL KVSS [unittest arguments]

Needs rclone; restic and openssl for some. What is missing is skipped and said.
"""
import glob
import hashlib
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'lib'))
import certificates  # noqa: E402
from faultproxy import FaultProxy  # noqa: E402
from rclone import Rclone  # noqa: E402
from remoterepair import DAMAGED, REPOSITORY, RepairCase, RepairTests  # noqa: E402

TOOL, KVSS = (os.path.abspath(path) for path in sys.argv[1:3])
PASSWORD = 'correct horse'
MISSING, EXISTS, UNSUPPORTED = 1, 2, 9  # KvssRepositoryError, as the tool prints it
REMARK = 3
CA_NAMES = ('KVSS_CA_FILE', 'RESTIC_CACERT', 'CURL_CA_BUNDLE', 'SSL_CERT_FILE')


def noise(seed, length):
    r = random.Random(seed)
    return b''.join(r.randbytes(min(length - at, 16 << 20)) for at in range(0, length, 16 << 20))


@unittest.skipUnless(shutil.which('rclone'), 'needs rclone')
class Case(unittest.TestCase):
    options = ()

    def setUp(self):
        self.dir = tempfile.mkdtemp(prefix='kvss-rest-')
        self.addCleanup(shutil.rmtree, self.dir, ignore_errors=True)
        os.mkdir(self.path('served'))
        self.env = dict(os.environ, KVSS_PASSWORD=PASSWORD, RESTIC_PASSWORD=PASSWORD,
                        KVSS_STATE_DIR=self.path('state'), KVSS_CACHE_DIR=self.path('cache'),
                        RESTIC_CACHE_DIR=self.path('restic-cache'),
                        KVSS_CONFIG=self.write('kvss.conf', b''),
                        KVSS_HTTP_RETRY='120', LC_ALL='C', no_proxy='*')
        for name in ('KVSS_REPOSITORY', 'RESTIC_REPOSITORY', 'RESTIC_REST_USERNAME',
                     'RESTIC_REST_PASSWORD', 'KVSS_REST_PASSWORD_FILE', *CA_NAMES):
            self.env.pop(name, None)
        self.serve(*self.options)

    def serve(self, *options, **kwargs):
        self.server = Rclone(self.path('served'), *options, **kwargs)
        self.addCleanup(self.server.stop)
        self.repo = 'rest:%s/r/' % self.server.url
        self.proxy = FaultProxy(self.server.port)
        self.proxy.__enter__()
        self.addCleanup(self.proxy.__exit__)
        self.through = 'rest:http://127.0.0.1:%d/r/' % self.proxy.port

    def path(self, *names):
        return os.path.join(self.dir, *names)

    def write(self, name, data):
        with open(self.path(name), 'wb') as f:
            f.write(data)
        return self.path(name)

    def run_any(self, *words, **env):
        return subprocess.run([str(w) for w in words], env=dict(self.env, **env),
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=300)

    def run_ok(self, *words, **env):
        done = self.run_any(*words, **env)
        self.assertEqual(done.returncode, 0, done.stderr.decode('utf-8', 'replace'))
        return done.stdout

    def tool(self, *words, **env):
        return self.run_ok(TOOL, *words, **env)

    def tool_fails(self, *words, **env):
        """(code, message) of a run of the tool that must fail."""
        done = self.run_any(TOOL, *words, **env)
        text = done.stderr.decode('utf-8', 'replace').strip().splitlines()[-1]
        self.assertNotEqual(done.returncode, 0, text)
        match = re.match(r'(\S+) (\d+): (.*)', text)
        self.assertTrue(match, text)
        return int(match.group(2)), match.group(3)

    def restic(self, *words):
        if not shutil.which('restic'):
            self.skipTest('needs restic')
        return self.run_ok('restic', '-r', self.repo, *words)

    def backup(self, where, *files):
        return self.tool('backup', where, 'test', *files).decode().strip()

    def assert_whole(self, count, where=None):
        text = self.tool('verify', where or self.repo, '--read-data').decode()
        self.assertRegex(text, r'^snapshots %d .* damaged 0$' % count)

    def assert_unlocked(self):
        self.assertEqual(os.listdir(self.path('served', 'r', 'locks')), [])


class WithRestic(Case):
    def test_both_read_what_the_other_wrote(self):
        data = noise(1, 40 << 20) + bytes(8 << 20) + b'text ' * 500000
        disk = self.write('disk', data)
        self.tool('init', self.repo)
        ours = self.backup(self.repo, 'disks/vda.raw=' + disk)
        self.assertIn('no errors were found', self.restic('check', '--read-data').decode())
        self.restic('restore', ours, '--target', self.path('out'))
        with open(self.path('out', 'disks', 'vda.raw'), 'rb') as f:
            self.assertTrue(f.read() == data)

        self.restic('backup', '--tag', 'theirs', disk)
        listed = self.tool('list', self.repo).decode().split('\n')
        theirs = [line.split()[0] for line in listed if line.endswith('theirs')]
        self.assertEqual(len(theirs), 1)
        self.assertTrue(self.tool('dump', self.repo, theirs[0], disk[1:]) == data)
        self.tool('restore', self.repo, ours, 'disks/vda.raw', self.path('back'))
        with open(self.path('back'), 'rb') as f:
            self.assertTrue(f.read() == data)
        self.assert_whole(2)
        self.assert_unlocked()

    def test_a_repository_that_restic_made(self):
        self.restic('init', '--repository-version', '2')
        self.backup(self.repo, 'a=' + self.write('a', noise(2, 1 << 20)))
        self.assertIn('no errors were found', self.restic('check', '--read-data').decode())

    def test_the_folder_behind_the_server_is_a_local_repository(self):
        self.tool('make', self.repo)
        disk = self.write('disk', noise(3, 3 << 20))
        self.backup(self.repo, 'a=' + disk)
        self.backup(self.path('served', 'r'), 'b=' + disk)
        self.assert_whole(2)
        self.assert_whole(2, self.path('served', 'r'))

    def test_init_twice(self):
        self.tool('make', self.repo)
        code, message = self.tool_fails('init', self.repo)
        self.assertEqual(code, EXISTS)
        self.assertIn('is a repository already', message)

    def test_nothing_there(self):
        code, message = self.tool_fails('list', self.repo)
        self.assertEqual(code, MISSING)
        self.assertIn('it has no config file', message)

    def test_nobody_there(self):
        self.server.stop()
        start = time.monotonic()
        code, message = self.tool_fails('list', self.repo, KVSS_HTTP_RETRY='1000')
        self.assertEqual(code, MISSING)
        self.assertIn("Couldn't connect to server", message)
        self.assertLess(time.monotonic() - start, 300) # not the limit for a backup half done

    def test_kvss_itself(self):
        text = self.run_ok(KVSS, '-r', self.repo, 'init').decode()
        self.assertIn('repository %s created' % self.repo, text)
        self.assertEqual(self.run_ok(KVSS, '-r', self.repo, 'list', 'backups', '--json'), b'[]\n')
        self.assertIn(b'0 damaged', self.run_ok(KVSS, '-r', self.repo, 'verify'))
        done = self.run_any(KVSS, '-r', 'rest:http://me:pa%20ss@127.0.0.1:1/x', 'verify', KVSS_HTTP_RETRY='1')
        self.assertEqual(done.returncode, 4, done.stderr)
        self.assertNotIn(b'pa%20ss', done.stderr)


class Credentials(Case):
    SECRET = 'pass/word@7'
    ESCAPED = 'pass%2Fword%407'

    def setUp(self):
        super().setUp()
        salted = subprocess.run(['openssl', 'passwd', '-apr1', self.SECRET],
                                stdout=subprocess.PIPE, check=True).stdout.decode().strip()
        self.write('htpasswd', b'me:%s\n' % salted.encode())
        self.server.stop()
        self.serve('--htpasswd', self.path('htpasswd'))
        self.full = self.through.replace('://', '://me:%s@' % self.ESCAPED)

    def assert_no_secret(self, data):
        for secret in (self.SECRET, self.ESCAPED, 'cGFzcy93b3JkQDc', 'bWU6cGFzcy93b3JkQDc'):
            self.assertNotIn(secret.encode(), data)

    def test_from_everywhere(self):
        self.tool('make', self.full)
        self.tool('list', self.through, RESTIC_REST_USERNAME='me',
                  RESTIC_REST_PASSWORD=self.SECRET)
        file = self.write('secret', self.SECRET.encode() + b'\n')
        self.tool('list', self.through, RESTIC_REST_USERNAME='me', KVSS_REST_PASSWORD_FILE=file)
        self.tool('list', self.through.replace('://', '://me@'), KVSS_REST_PASSWORD_FILE=file)

    def test_refused(self):
        self.tool('make', self.full)
        for where, env in ((self.through, {}),
                           (self.through.replace('://', '://me:wrong@'), {}),
                           (self.through, {'RESTIC_REST_USERNAME': 'me'})):
            code, message = self.tool_fails('list', where, **env)
            self.assertEqual(code, MISSING)
            self.assertIn('refuses these (401)', message)
        missing = self.path('absent')
        self.assertIn(missing, self.tool_fails('list', self.through.replace('://', '://me@'),
                                               KVSS_REST_PASSWORD_FILE=missing)[1])

    def test_told_nowhere(self):
        debug = {'G_MESSAGES_DEBUG': 'all'}
        texts = []
        for words in (['init'], ['list', 'backups'], ['verify'], ['init'], ['show', 'nothing']):
            done = self.run_any(KVSS, '-r', self.full, *words, **debug)
            texts += [done.stdout, done.stderr]
        hold = subprocess.Popen([TOOL, 'hold', self.full], env=dict(self.env, **debug),
                                stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                stderr=subprocess.PIPE)
        while hold.stdout.readline().strip() not in (b'holding', b''):
            pass
        notes = glob.glob(self.path('state', 'locks', '*'))
        self.assertEqual(len(notes), 1)
        with open(notes[0], 'rb') as f:
            texts.append(f.read())
        self.proxy.harm = lambda request: '503'
        texts += hold.communicate()
        done = self.run_any(KVSS, '-r', self.full, 'verify', KVSS_HTTP_RETRY='1', **debug)
        texts += [done.stdout, done.stderr]
        # What is no URL shows nothing of what may be a password.
        done = self.run_any(KVSS, '-r', 'rest:http://me:%s@h:x/' % self.SECRET, 'verify', **debug)
        texts += [done.stdout, done.stderr]
        self.assertIn(b'127.0.0.1', b''.join(texts))
        self.assert_no_secret(b''.join(texts))

    def test_not_in_our_arguments(self):
        self.run_ok(KVSS, '-r', self.full, 'init')
        self.proxy.harm = lambda request: 'stall'
        process = subprocess.Popen([KVSS, '-r', self.full, '--json', 'verify'], env=self.env,
                                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            end = time.monotonic() + 120
            while not self.proxy.busy:
                self.assertLess(time.monotonic(), end)
                time.sleep(0.02)
            with open('/proc/%d/cmdline' % process.pid, 'rb') as f:
                words = f.read().rstrip(b'\0').split(b'\0')
        finally:
            process.kill()
            process.wait()
        self.assertIn(self.through.encode(), words)
        self.assert_no_secret(b''.join(words))


class AppendOnly(Case):
    options = ('--append-only',)

    def test_takes_backups_and_removes_nothing(self):
        self.tool('make', self.repo)
        one = self.backup(self.repo, 'a=' + self.write('a', noise(4, 2 << 20)))
        self.backup(self.repo, 'b=' + self.write('b', noise(5, 2 << 20)))
        self.assert_whole(2)
        self.assert_unlocked()  # locks it lets go
        code, message = self.tool_fails('remove', self.repo, 'snapshot', one)
        self.assertEqual(code, UNSUPPORTED)
        self.assertIn('this server is append-only: it takes backups, and removes nothing', message)
        self.assertIn('repository %s: snapshot %s' % (self.repo, one[:8]), message)
        self.assert_whole(2)

    def test_a_lost_answer(self):
        """The second POST would be refused: the file is there."""
        self.tool('make', self.repo)
        lost = set()

        def harm(request):
            if request.method == 'POST' and request.path not in lost:
                lost.add(request.path)
                return 'lost'
        self.proxy.harm = harm
        self.backup(self.through, 'a=' + self.write('a', noise(6, 40 << 20)))
        self.proxy.harm = None
        self.assertGreater(len(lost), 5)
        self.assert_whole(1)


class ServedFiles:
    """Files behind the server's back, for RepairCase."""
    programs = TOOL, KVSS
    options = ('--cache-objects=false',)

    def names(self, folder):
        found = glob.glob(self.path('served', 'r', folder, '**'), recursive=True)
        return sorted(os.path.relpath(p, self.path('served', 'r')) for p in found if os.path.isfile(p))

    def look(self, name):
        with open(self.path('served', 'r', name), 'rb') as f:
            return f.read()

    def store(self, name, content):
        path = self.path('served', 'r', name)
        if os.path.exists(path):
            os.unlink(path)
        if content is not None:
            with open(path, 'wb') as f:
                f.write(content)


class Repair(ServedFiles, RepairTests, Case):
    def refuse_again(self, request):
        """rest-server itself writes no file that is there, not even the config."""
        if request.method == 'POST' and os.path.exists(self.path('served', *request.path.strip('/').split('/'))):
            return '403'

    def test_repair_config_that_is_not_written_again(self):
        self.make()
        self.flip('config', 20)
        self.proxy.harm = self.refuse_again
        self.assertIn(b'made anew', self.command('repair').stderr)
        self.proxy.harm = None
        self.assertEqual(self.broken(), set())
        self.check()


    def test_repair_killed(self):
        """Killed before each request that changes something: nothing is worse, and the next one ends it."""
        self.make()
        changing = ('POST', 'PUT', 'DELETE')

        def damage():
            self.reset()
            self.flip(self.data_1, 100)
            self.flip(self.tree_2, -1)
        damage()
        self.proxy.forget()
        whole = self.told('repair', '--read-data', codes=(DAMAGED,))
        requests = [r for r in self.proxy.requests if r.method in changing]
        after = self.broken()
        self.assertGreater(len(requests), 8)
        for step in range(1, len(requests), 2):  # the first one is its lock
            damage()
            before, count, started, process = self.broken(), [0], threading.Event(), []

            def harm(request):
                if request.method not in changing:
                    return None
                count[0] += 1
                if count[0] <= step:
                    return None
                started.wait()
                process[0].kill()
                process[0].wait()
                return 'cut'
            with self.subTest(step=step, request=requests[step][1:3]):
                self.proxy.harm = harm
                process.append(subprocess.Popen([self.programs[1], '-r', self.through, 'repair', '--read-data'], env=self.env,
                                                stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))
                started.set()
                process[0].wait()
                self.proxy.harm = None
                self.assertEqual(process[0].returncode, -9)
                self.assertLessEqual(self.broken(), before)
                done = self.told('repair', '--read-data', codes=(DAMAGED,))
                self.assertEqual((done['lost'], self.broken()), (whole['lost'], after))
                self.assertEqual(self.names('locks'), [])
        self.healed()


class RepairAppendOnly(ServedFiles, RepairCase, Case):
    """A server that removes nothing: repair says so before it writes anything, and looking works."""

    def setUp(self):
        super().setUp()
        self.make()
        url = self.server.url
        self.server.stop()
        self.serve('--append-only', *self.options)
        self.assertNotEqual(self.server.url, url)

    def check_refused(self):
        before = self.state()
        plan = self.told('repair', '--read-data', '--dry-run', codes=(DAMAGED,))
        said = self.command('repair', '--read-data', codes=(REPOSITORY,)).stderr
        self.assertIn(b'this server is append-only: it takes backups, and removes nothing', said)
        self.assert_untouched(before)
        return plan

    def test_chunk(self):
        self.flip(self.data_1, 100)
        self.assert_lost(self.check_refused(), self.broken())

    def test_index(self):
        self.flip(self.names('index')[0], 30)
        self.check_refused()

    def test_config(self):
        self.flip('config', 20)
        before = self.state()
        self.assertIn(b'append-only', self.command('repair', codes=(DAMAGED,)).stderr)
        self.assert_untouched(before)

    def test_packs_without_an_index(self):
        """Nothing needs to go: they are named."""
        for name in self.names('index'):
            self.store(name, None)
        self.assertEqual(self.repaired()['lost'], [])
        self.check()


class FaultCase(Case):
    """What passes is outlasted, what does not is told, and nothing false is ever believed."""

    def setUp(self):
        super().setUp()
        self.tool('make', self.repo)
        self.data = noise(7, 24 << 20)
        self.disk = self.write('disk', self.data)

    def harm_once_each(self, harm, method=None):
        """Every request is harmed when it comes for the first time."""
        seen = set()

        def choose(request):
            key = (request.method, request.path, request.headers.get('range'))
            if key in seen or (method and request.method != method):
                return None
            seen.add(key)
            return harm
        self.proxy.harm = choose

    def check_outlasted(self, harm):
        self.harm_once_each(harm)
        snapshot = self.backup(self.through, 'a=' + self.disk)
        self.harm_once_each(harm)
        self.assertTrue(self.tool('dump', self.through, snapshot, 'a', KVSS_CACHE_DIR=self.path('other'))
                        == self.data)
        self.harm_once_each(harm)
        self.assert_whole(1, self.through)
        self.proxy.harm = None
        self.assert_whole(1)
        self.assert_unlocked()


class BrokenLines(FaultCase):
    def test_connections_cut(self):
        self.check_outlasted('cut')

    def test_answers_lost(self):
        self.check_outlasted('lost')

    def test_bodies_cut_short(self):
        self.check_outlasted('short')

    def test_garbage(self):
        self.check_outlasted('garbage')


class Busy(FaultCase):
    def test_busy_servers(self):
        self.check_outlasted('503')

    def test_servers_in_trouble(self):
        self.check_outlasted('500')

    def test_too_many_requests(self):
        self.check_outlasted('429')

    def test_busy_after_all_was_done(self):
        self.check_outlasted('after 503')


class Trouble(FaultCase):
    def test_slow(self):
        self.proxy.harm = lambda request: 'slow'
        self.backup(self.through, 'a=' + self.disk)
        self.assert_whole(1, self.through)

    def test_stalled(self):
        self.env['KVSS_HTTP_STALL'] = '2'
        count = [0]

        def harm(request):
            if request.method in ('GET', 'POST') and '/data/' in request.path:
                count[0] += 1
                return 'stall' if count[0] == 2 else None
        self.proxy.harm = harm
        self.backup(self.through, 'a=' + self.disk)
        self.assertGreaterEqual(count[0], 3)
        self.proxy.harm = None
        self.assert_whole(1)

    def test_a_server_that_stays_away(self):
        """The backup ends, within its limit and with a reason; there is none, and the next one works."""
        def harm(request):
            return '503' if request.method == 'POST' and '/data/' in request.path else None
        self.proxy.harm = harm
        start = time.monotonic()
        _, message = self.tool_fails('backup', self.through, 'test', 'a=' + self.disk,
                                     KVSS_HTTP_RETRY='4')
        self.assertLess(time.monotonic() - start, 60)
        self.assertRegex(message, r'pack [0-9a-f]{8} was not stored: POST /r/data/[0-9a-f]{64} '
                                  r'failed \d+ times in \d+ s: the server answered 503 '
                                  r'Service Unavailable \(<h1>Go \[31maway</h1>\)')
        self.proxy.harm = None
        self.assertEqual(self.tool('list', self.repo), b'')
        self.assert_unlocked()
        self.backup(self.through, 'a=' + self.disk)
        self.assert_whole(1)


class Lies(FaultCase):
    def test_flipped_bytes_are_found(self):
        snapshot = self.backup(self.repo, 'a=' + self.disk)
        self.proxy.harm = lambda r: 'flip' if r.method == 'GET' and '/data/' in r.path else None
        done = self.run_any(TOOL, 'verify', self.through, '--read-data')
        self.assertTrue(done.returncode or re.search(rb'damaged [1-9]', done.stdout), done.stdout)
        _, message = self.tool_fails('dump', self.through, snapshot, 'a')
        self.assertRegex(message, 'damaged|authentic|hash')
        for part in ('/snapshots/', '/index/', '/keys/', 'config'):
            with self.subTest(part):
                self.proxy.harm = lambda r: ('flip' if r.method == 'GET' and part in r.path
                                             and not r.path.endswith('/') else None)
                self.tool_fails('dump', self.through, snapshot, 'a', KVSS_CACHE_DIR=self.path('new'))

    def check_read_fails(self, harm, words):
        snapshot = self.backup(self.repo, 'a=' + self.disk)
        self.proxy.harm = lambda r: harm if r.method == 'GET' and '/data/' in r.path else None
        start = time.monotonic()
        _, message = self.tool_fails('dump', self.through, snapshot, 'a')
        self.assertIn(words, message)
        self.assertLess(time.monotonic() - start, 100)  # final at once

    def test_a_file_that_is_shorter(self):
        snapshot = self.backup(self.repo, 'a=' + self.disk)
        for pack in glob.glob(self.path('served', 'r', 'data', '*', '*')):
            os.chmod(pack, 0o600)
            os.truncate(pack, 100)
        self.server.stop()  # it remembers how long they were
        self.serve()
        _, message = self.tool_fails('dump', self.repo, snapshot, 'a')
        self.assertRegex(message, r'the file ends (before|after)')

    def test_less_than_asked(self):
        self.env['KVSS_HTTP_RETRY'] = '2'
        self.check_read_fails('less', 'the answer ended after')

    def test_more_than_asked(self):
        self.check_read_fails('more', 'the server sends more than the')

    def test_no_ranges(self):
        self.check_read_fails('whole', 'the server cannot send a part of a file')

    def test_another_range(self):
        self.check_read_fails('elsewhere', 'other bytes of the file than those asked for')

    def test_redirects_are_not_followed(self):
        with FaultProxy(self.server.port) as elsewhere:
            self.proxy.elsewhere = 'http://127.0.0.1:%d/r/config' % elsewhere.port
            self.proxy.harm = lambda request: 'redirect'
            _, message = self.tool_fails('list', self.through)
            self.assertIn('the server answered 307', message)
            self.assertEqual(elsewhere.requests, [])

    def test_an_endless_listing(self):
        self.proxy.harm = lambda r: 'endless' if r.path.endswith('/keys/') else None
        _, message = self.tool_fails('list', self.through)
        self.assertRegex(message, 'longer than|listing')

    def test_listings_without_sizes(self):
        self.backup(self.repo, 'a=' + self.disk)
        self.proxy.harm = lambda request: 'v1' if request.path.endswith('/') else None
        self.assert_whole(1, self.through)
        self.assertGreater(len(self.proxy.asked('HEAD', '/data/')), 1)


class Signals(ServedFiles, RepairCase, Case):
    """Ctrl-C ends a command at once, whatever it waits for of the server, and takes its lock along where it can."""

    def setUp(self):
        super().setUp()
        self.make()
        self.env.update(KVSS_HTTP_RETRY='3000', KVSS_HTTP_STALL='3000')

    def interrupt(self, harm, *words, number=signal.SIGINT):
        """Sends the signal when a request was harmed, or the second of its kind where it is tried again."""
        self.proxy.harm = harm
        process = subprocess.Popen([KVSS, '-r', self.through, *words], env=self.env, stdin=subprocess.DEVNULL,
                                   stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        self.addCleanup(lambda: (process.kill(), process.wait(), process.stderr.close()))
        self.assertTrue(self.waiting.wait(200))
        process.send_signal(number)
        said = process.communicate(timeout=100)[1]
        self.assertEqual(process.returncode, 130, said)
        self.assertIn(b'interrupted', said)

    def harm(self, kind, method, part, times):
        """Harms requests; their @times-th tells that it is waited for now."""
        self.waiting, count = threading.Event(), [0]

        def choose(request):
            if request.method != method or part not in request.path:
                return None
            count[0] += 1
            if count[0] == times:
                self.waiting.set()
            return kind
        return choose

    def test_pause(self):
        for number in (signal.SIGINT, signal.SIGTERM):
            self.interrupt(self.harm('503', 'GET', '/index/', 6), 'verify', number=number)
            self.assert_unlocked()

    def test_stall(self):
        self.interrupt(self.harm('stall', 'GET', '/index/', 1), 'verify')
        self.assert_unlocked()

    def test_transfer(self):
        """A pack on its way: it is let go, and nothing of the repair is there."""
        self.flip(self.data_1, 100)
        before = self.state()
        for kind, times in (('503', 6), ('stall', 1)):
            with self.subTest(kind):
                self.interrupt(self.harm(kind, 'POST', '/data/', times), 'repair', '--read-data')
                self.assert_untouched(before)

    def test_server_gone(self):
        """Nor can the lock be removed: it is left to the next command."""
        for kind in ('503', 'stall'):
            with self.subTest(kind):
                self.waiting, gone = threading.Event(), []

                def choose(request):
                    if request.method == 'GET' and '/index/' in request.path:
                        gone.append(request)
                    if len(gone) == (6 if kind == '503' else 1):
                        self.waiting.set()
                    return kind if gone else None
                self.interrupt(choose, 'verify')
                self.assertEqual(len(self.names('locks')), 1)
                self.proxy.harm = None
                self.command('list', 'backups')
                self.assert_unlocked()


class Transfers(Case):
    def peak_kib(self, process):
        """The most memory it had, seen now and then until it ends; what wait() tells has our own size in it."""
        peak = 0
        while process.poll() is None:
            with open('/proc/%d/status' % process.pid) as f:
                for line in f:
                    if line.startswith('VmHWM:'):
                        peak = int(line.split()[1])
            time.sleep(0.02)
        return peak

    def test_several_at_once_and_no_more(self):
        disk = self.path('disk')
        with open(disk, 'wb') as f:
            for _ in range(300):
                f.write(os.urandom(1 << 20))
        for wanted in (1, 4):
            where = '%s%d/' % (self.through, wanted)
            self.tool('make', where)
            self.proxy.gather(wanted)
            self.proxy.delay = 0.4      # time for one too many to come
            done = subprocess.Popen([TOOL, 'backup', where, 'test', 'a=' + disk],
                                    env=dict(self.env, KVSS_CONNECTIONS=str(wanted)),
                                    stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            peak = self.peak_kib(done)
            self.assertEqual(done.returncode, 0)
            self.assertEqual(self.proxy.most_sending, wanted)
            self.assertGreater(peak, 0)
            self.assertLess(peak, 200 << 10)
            self.proxy.delay = 0


class Interrupted(Case):
    """A backup that was killed and runs again sends what is missing and nothing else."""

    def kill_in_the_middle(self, disk, packs):
        self.proxy.forget()
        process = subprocess.Popen([TOOL, 'backup', self.through, 'test', 'a=' + disk],
                                   env=self.env, stdout=subprocess.DEVNULL,
                                   stderr=subprocess.DEVNULL)
        end = time.monotonic() + 300
        self.proxy.delay = 0.2
        while len(glob.glob(self.path('served', 'r', 'data', '*', '*'))) < packs:
            self.assertLess(time.monotonic(), end)
            self.assertIsNone(process.poll())
            time.sleep(0.01)
        process.kill()
        process.wait()
        while self.proxy.busy:
            time.sleep(0.05)
        self.proxy.delay = 0

    def whole_packs(self):
        """rclone keeps what it got of one that was cut off."""
        for path in glob.glob(self.path('served', 'r', 'data', '*', '*')):
            with open(path, 'rb') as file:
                if hashlib.sha256(file.read()).hexdigest() == os.path.basename(path):
                    yield path

    def test_killed(self):
        self.tool('make', self.repo)
        size = 160 << 20
        disk = self.write('disk', noise(9, size))
        self.kill_in_the_middle(disk, 4)
        there = sum(os.path.getsize(p) for p in self.whole_packs())
        self.assertGreater(there, 48 << 20)
        self.assertEqual(os.listdir(self.path('served', 'r', 'index')), [])

        self.proxy.forget()
        self.backup(self.through, 'a=' + disk)
        # What is there, and packs' headers and the tree in addition.
        self.assertLess(self.proxy.sent('/data/'), size - there + (1 << 20))
        self.assert_whole(1)
        self.assert_unlocked()
        self.assertIn('no errors were found', self.restic('check', '--read-data').decode())

        self.proxy.forget()
        self.backup(self.through, 'a=' + disk)
        self.assertEqual(self.proxy.asked('GET', '/data/?'), [])
        self.assertLess(self.proxy.sent('/data/'), 1 << 20)


class LocksOfTheDead(Case):
    def leave_lock(self):
        hold = subprocess.Popen([TOOL, 'hold', self.repo], env=self.env, stdin=subprocess.PIPE,
                                stdout=subprocess.PIPE)
        hold.stdout.readline()
        hold.kill()
        hold.communicate()
        self.assertEqual(len(os.listdir(self.path('served', 'r', 'locks'))), 1)

    def notes(self):
        return [n for n in os.listdir(self.path('state', 'locks')) if n[0] != '.']

    def test_removed_by_the_next_who_opens_it(self):
        self.tool('make', self.repo)
        self.leave_lock()
        other = self.path('other')
        self.tool('make', other)
        self.tool('list', other)  # not its repository, and it asks no server
        self.assertEqual(len(self.notes()), 1)
        self.tool('list', self.repo)
        self.assert_unlocked()
        self.assertEqual(self.notes(), [])

    def test_removed_by_doctor(self):
        self.tool('make', self.repo)
        self.leave_lock()
        done = self.run_any(KVSS, 'doctor', '--dry-run')
        self.assertIn(b'1 lock of dead kvss processes', done.stdout)
        self.assertEqual(len(self.notes()), 1)
        text = self.run_ok(KVSS, 'doctor')
        self.assertIn(b'undone: 1 lock removed', text)
        self.assert_unlocked()
        self.assertEqual(self.notes(), [])
        self.assertIn(b'nothing was left behind', self.run_ok(KVSS, 'doctor'))

    def test_doctor_says_what_it_cannot_reach(self):
        self.tool('make', self.repo)
        self.leave_lock()
        self.server.stop()
        done = self.run_any(KVSS, 'doctor', KVSS_HTTP_RETRY='1')
        self.assertIn(b'may have left in %s could not be removed' % self.repo.encode(), done.stdout)
        self.assertEqual(done.returncode, REMARK, done.stderr)
        self.assertEqual(len(self.notes()), 1)

    def test_doctor_with_the_credentials_of_the_repository(self):
        hash_ = subprocess.run(['openssl', 'passwd', '-apr1', 'geheim'], check=True,
                               stdout=subprocess.PIPE).stdout
        self.write('htpasswd', b'me:' + hash_)
        self.server.stop()
        self.serve('--htpasswd', self.path('htpasswd'))
        full = self.repo.replace('://', '://me:geheim@')
        self.tool('make', full)
        plain, self.repo = self.repo, full
        self.leave_lock()
        done = self.run_any(KVSS, 'doctor', KVSS_HTTP_RETRY='1')
        self.assertEqual(done.returncode, REMARK, done.stderr)
        self.assertIn(plain.encode(), done.stdout)
        self.run_ok(KVSS, '-r', full, 'doctor')
        self.assert_unlocked()


@unittest.skipUnless(shutil.which('openssl'), 'needs openssl')
class Tls(Case):
    def serve_tls(self, alternative, expired=False):
        certificates.make(self.dir, alternative, expired)
        self.server.stop()
        self.serve('--cert', self.path('server.pem'), '--key', self.path('server.key'),
                   scheme='https')

    def assert_refused(self, *words):
        code, message = self.tool_fails('init', self.repo, KVSS_CA_FILE=self.path('ca.pem'))
        self.assertEqual(code, MISSING)
        for word in words:
            self.assertIn(word, message)

    def test_accepted_with_the_ca_and_refused_without(self):
        self.serve_tls('IP:127.0.0.1')
        ca = self.path('ca.pem')
        self.tool('make', self.repo, KVSS_CA_FILE=ca)
        for name in CA_NAMES:
            self.tool('list', self.repo, **{name: ca})
        self.backup_with(ca)
        start = time.monotonic()
        code, message = self.tool_fails('list', self.repo)
        self.assertEqual(code, MISSING)
        self.assertIn('certificate', message)
        self.assertNotIn('times in', message)  # does not pass: not tried again

    def backup_with(self, ca):
        disk = self.write('disk', noise(10, 20 << 20))
        self.tool('backup', self.repo, 'test', 'a=' + disk, KVSS_CA_FILE=ca)
        self.assertIn(b'damaged 0', self.tool('verify', self.repo, '--read-data', KVSS_CA_FILE=ca))

    def test_a_certificate_for_another_name(self):
        self.serve_tls('DNS:elsewhere.example')
        self.assert_refused('certificate')

    def test_a_certificate_that_expired(self):
        self.serve_tls('IP:127.0.0.1', expired=True)
        self.assert_refused('certificate', 'expired')


if __name__ == '__main__':
    unittest.main(argv=sys.argv[:1] + sys.argv[3:], verbosity=2)
