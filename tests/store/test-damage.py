#!/usr/bin/env python3
"""Damage of every kind: found, named, never restored in silence; kvss repair saves what is whole and marks the rest.

usage: test-damage.py KVSS MAKE-SET FAULT-IO [--but CLASS... | unittest arguments]

A small repository with two sets of two VMs is damaged in one place. What verify, list, repair and export say is compared with
the disks that were backed up and with each other; restic is asked where it is there."""
import glob
import hashlib
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import unittest

KVSS, MAKE_SET, FAULT_IO = (os.path.abspath(a) for a in sys.argv[1:4])
CHUNK = 65536
DONE, FAILED, REPOSITORY, DAMAGED = 0, 1, 4, 7
RESTIC = shutil.which('restic')


def noise(seed, chunks):
    return random.Random(seed).randbytes(chunks * CHUNK)


DISKS = {('web', 'vda'): noise(1, 10), ('web', 'vdb'): noise(2, 5), ('db', 'vda'): noise(3, 6)}
LATER = dict(DISKS)
LATER['web', 'vda'] = DISKS['web', 'vda'][:3 * CHUNK] + noise(4, 1) + DISKS['web', 'vda'][4 * CHUNK:]


class Case(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.base = tempfile.mkdtemp(prefix='kvss-damage-')
        cls.addClassCleanup(shutil.rmtree, cls.base, ignore_errors=True)
        cls.first_dir = os.path.join(cls.base, 'first')
        os.mkdir(cls.first_dir)
        cls.dir = cls.first_dir
        cls.repo = os.path.join(cls.dir, 'repository')
        cls.make('init', cls.repo)
        cls.ids = [cls.backup(DISKS)]
        before = set(cls.files('data'))
        cls.ids.append(cls.backup(LATER))
        size = os.path.getsize
        short = lambda paths: [os.path.relpath(p, cls.repo) for p in sorted(paths, key=size)]
        cls.tree_1, cls.data_1 = short(before)
        cls.tree_2, cls.data_2 = short(set(cls.files('data')) - before)
        cls.truth = dict(zip(cls.ids, (DISKS, LATER)))

    def setUp(self):
        cls = type(self)
        cls.dir = tempfile.mkdtemp(dir=cls.base)
        self.addCleanup(shutil.rmtree, cls.dir, ignore_errors=True)
        for name in ('repository', 'cache'):
            shutil.copytree(os.path.join(cls.first_dir, name), os.path.join(cls.dir, name))
        cls.repo = os.path.join(cls.dir, 'repository')
        for path in self.files('.'):
            os.chmod(path, 0o600)
        self.fault = {}

    # ---- running ----

    @classmethod
    def env(cls, **more):
        with open(os.path.join(cls.dir, 'conf'), 'w'):
            pass
        env = dict(os.environ, KVSS_CONFIG=os.path.join(cls.dir, 'conf'), KVSS_PASSWORD='secret',
                   KVSS_STATE_DIR=os.path.join(cls.dir, 'state'), KVSS_CACHE_DIR=os.path.join(cls.dir, 'cache'),
                   KVSS_REPOSITORY=cls.repo, RESTIC_REPOSITORY=cls.repo, RESTIC_PASSWORD='secret',
                   RESTIC_CACHE_DIR=os.path.join(cls.dir, 'restic-cache'), LIBVIRT_DEFAULT_URI='test:///default')
        return dict(env, **more)

    @classmethod
    def make(cls, *args):
        return subprocess.run([MAKE_SET, *args], env=cls.env(), check=True, stdout=subprocess.PIPE, timeout=120).stdout.decode().strip()

    @classmethod
    def backup(cls, disks):
        args = []
        for (vm, target), content in disks.items():
            path = os.path.join(cls.dir, '%s-%s' % (vm, target))
            with open(path, 'wb') as f:
                f.write(content)
            args.append('%s/%s=%s' % (vm, target, path))
        return cls.make('backup', cls.repo, *args)

    @classmethod
    def files(cls, folder):
        return [p for p in glob.glob(os.path.join(cls.repo, folder, '**'), recursive=True) if os.path.isfile(p)]

    def path(self, name):
        return os.path.join(self.repo, name)

    def kvss(self, *args, codes=(DONE,)):
        done = subprocess.run([KVSS, *args], env=self.env(**self.fault), stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                              stdin=subprocess.DEVNULL, timeout=120)
        if codes is not None:
            self.assertIn(done.returncode, codes, (args, done))
        return done

    def json(self, *args, codes):
        return json.loads(self.kvss('--json', *args, codes=codes).stdout.splitlines()[-1])

    @staticmethod
    def content(path):
        with open(path, 'rb') as f:
            return f.read()

    def state(self):
        return {p: hashlib.sha256(self.content(p)).hexdigest() for p in self.files('.') if '/locks/' not in p}

    # ---- looking ----

    def broken(self):
        """Disks that cannot be had: {(backup, vm, disk)}. What can be had is right."""
        out, broken = os.path.join(self.dir, 'out.raw'), set()
        for backup, disks in self.truth.items():
            for (vm, target), content in disks.items():
                done = self.kvss('export', backup, vm, target, out, codes=None)
                if done.returncode == 0:
                    with open(out, 'rb') as f:
                        self.assertTrue(f.read() == content, 'restored in silence: %s %s' % (vm, target))
                    os.unlink(out)
                else:
                    self.assertFalse(os.path.exists(out))
                    broken.add((backup, vm, target))
        return broken

    def named(self, *options, codes=(DONE, DAMAGED)):
        """What verify names: {(backup, vm)}; backups as a whole have None."""
        told = self.json('verify', *options, codes=codes)
        return {(d['id'], vm) for d in told['damaged'] for vm in d['vms'] or [None]}, told

    def lost(self, losses):
        return {(l['backup'], vm) for l in losses for vm in l['vms'] or [None]}

    def restic_check(self, *options):
        if not RESTIC:
            return None
        done = subprocess.run([RESTIC, 'check', *options], env=self.env(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=300)
        return done.returncode, done.stdout.decode()

    def found_by_verify(self, structure):
        """By structure, or else by reading. Whoever cannot be had is named."""
        broken = self.broken()
        named, told = self.named(codes=(DAMAGED,) if structure else (DONE,))
        if not structure:
            named, told = self.named('--read-data', codes=(DAMAGED,))
        for backup, vm, _ in broken:
            self.assertTrue({(backup, vm), (backup, None)} & named, (broken, told))
        return broken, named

    def repaired(self, broken, exact=True, beyond=False):
        """repair: its dry run touches nothing and says the same; nothing more is broken after it; what it says is lost is."""
        before = self.state()
        plan = self.json('repair', '--read-data', '--dry-run', codes=(DAMAGED,))
        self.assertEqual(self.state(), before)
        done = self.json('repair', '--read-data', codes=(DONE, DAMAGED))
        self.assertEqual((plan['found'], plan['lost']), (done['found'], done['lost']))
        self.assertNotEqual(done['found'], [])
        after = self.broken()
        self.assertLessEqual(after, broken)
        lost = self.lost(done['lost'])
        if exact:
            self.assertEqual({(b, vm) for b, vm, _ in after}, lost)
        listed = self.json('list', 'backups', codes=(DONE, DAMAGED))
        if not beyond:
            self.assertEqual({b['id'] for b in listed}, set(self.ids))
            self.assertEqual(lost, {x for b in listed for x in self.lost(b['lost'])})
            self.assertEqual(self.named('--read-data')[0], lost)
        again = self.json('repair', '--read-data', codes=(DAMAGED,) if lost or done['beyond_repair'] else (DONE,))
        self.assertEqual((again['found'] if not done['beyond_repair'] else [], again['lost'], again['indexes_replaced']), ([], done['lost'], 0))
        if RESTIC and not beyond:
            code, text = self.restic_check('--read-data')
            self.assertEqual(code == 0, not lost, text)
            if lost:
                self.assertIn('not found in index', text)
        return done, after

    def healed(self):
        """The VMs still have it: two backups more, and the old ones are whole."""
        self.backup(DISKS)
        self.backup(LATER)
        self.assertEqual(self.broken(), set())
        self.assertEqual([b['lost'] for b in self.json('list', 'backups', codes=(DONE,))], [[]] * 4)
        self.assertEqual(self.named('--read-data', codes=(DONE,))[0], set())
        self.json('repair', codes=(DONE,))
        self.kvss('repair', '--read-data')
        if RESTIC:
            code, text = self.restic_check('--read-data')
            self.assertEqual(code, 0, text)

    def flip(self, name, offset, bit=3):
        with open(self.path(name), 'r+b') as f:
            f.seek(offset, os.SEEK_SET if offset >= 0 else os.SEEK_END)
            byte = f.read(1)[0]
            f.seek(-1, os.SEEK_CUR)
            f.write(bytes([byte ^ 1 << bit]))

    def only(self, folder, n=0):
        return os.path.relpath(sorted(self.files(folder))[n], self.repo)

    def no_cache(self):
        shutil.rmtree(os.path.join(self.dir, 'cache'))


class Packs(Case):
    """One byte of a pack."""

    def test_data_blob(self):
        """Nonce, ciphertext, MAC of a data blob: one chunk of one disk, in each backup that has it."""
        for offset in (0, 15, 16, 40000, CHUNK + 16, CHUNK + 31):
            with self.subTest(offset=offset):
                self.setUp()
                self.flip(self.data_1, offset)
                broken, named = self.found_by_verify(structure=False)
                self.assertEqual({(b, vm) for b, vm, _ in broken}, named)
                self.assertTrue(broken)
                done, after = self.repaired(broken)
                self.assertEqual(after, broken)
                for loss in done['lost']:
                    self.assertEqual([length for _, length in loss['ranges']], [CHUNK])
                    self.assertEqual(loss['ranges'][0][0] % CHUNK, 0)
                self.assertEqual({(l['backup'], *l['vms'], l['disk']) for l in done['lost']}, broken)
                self.healed()

    def test_range(self):
        """The range that is said to be lost is the one: the rest can be read, and is right."""
        self.flip(self.data_1, 2 * (CHUNK + 32) + 100)
        loss = self.json('repair', '--read-data', codes=(DAMAGED,))['lost'][0]
        content = self.truth[loss['backup']][loss['vms'][0], loss['disk']]
        (offset, length), = loss['ranges']
        self.assertEqual(loss['bytes'], length)
        other = [l for l in self.json('repair', codes=(DAMAGED,))['lost'] if l['backup'] == loss['backup']]
        self.assertEqual(other, [loss])
        self.backup({('web', 'vda'): content[offset:offset + length]}) # this very chunk heals it
        self.assertEqual(self.broken(), set())

    def test_header(self):
        """Header length, header's nonce, content, MAC: nothing is lost, and the pack is written anew."""
        for offset in (-1, -2, -4, -5, -20, -21, -60, -200):
            with self.subTest(offset=offset):
                self.setUp()
                self.flip(self.data_1, offset)
                broken, named = self.found_by_verify(structure=False)
                self.assertEqual(broken, set())
                done, after = self.repaired(broken)
                self.assertEqual((done['lost'], done['packs_damaged']), ([], 1))
                self.assertGreater(done['blobs_saved'], 20)

    def test_tree(self):
        """Any byte of a pack of trees: found without reading data, and who cannot be read is named."""
        size = os.path.getsize(self.path(self.tree_1))
        for offset in (0, 20, size // 4, size // 2, -1, -5, -70):
            with self.subTest(offset=offset):
                self.setUp()
                self.flip(self.tree_1, offset)
                broken = self.broken()
                self.kvss('verify', '--read-data', codes=(DAMAGED,))
                done, after = self.repaired(broken, exact=False, beyond=True)
                self.assertEqual({b for b, _, _ in after}, {b for b, _ in self.lost(done['lost'])})

    def test_length(self):
        """Shorter, longer, empty, gone."""
        def cut(path):
            os.truncate(path, 500000)

        def extend(path):
            with open(path, 'ab') as f:
                f.write(b'more')

        def empty(path):
            os.truncate(path, 0)

        for damage in (cut, extend, empty, os.unlink):
            with self.subTest(damage=damage.__name__):
                self.setUp()
                damage(self.path(self.data_1))
                broken, named = self.found_by_verify(structure=True)
                done, after = self.repaired(broken, exact=damage is extend,
                                            beyond=damage is not extend)
                self.assertEqual(after, set() if damage is extend else broken)
                if damage is cut:
                    self.assertGreater(done['blobs_saved'], 5)

    def test_swapped(self):
        """Two packs under each other's name: all is found inside."""
        a, b = self.path(self.data_1), self.path(self.data_2)
        os.rename(a, a + '.x'), os.rename(b, a), os.rename(a + '.x', b)
        broken, named = self.found_by_verify(structure=True)
        self.assertTrue(broken)
        done, after = self.repaired(broken)
        self.assertEqual((after, done['lost']), (set(), []))

    def test_swapped_trees(self):
        a, b = self.path(self.tree_1), self.path(self.tree_2)
        os.rename(a, a + '.x'), os.rename(b, a), os.rename(a + '.x', b)
        broken = self.broken()
        self.kvss('verify', codes=(DAMAGED,))
        done, after = self.repaired(broken)
        self.assertEqual((after, done['lost']), (set(), []))

    def test_replaced(self):
        """By a copy of another, valid pack."""
        shutil.copyfile(self.path(self.data_2), self.path(self.data_1))
        broken, named = self.found_by_verify(structure=True)
        self.assertEqual(len(broken), 6)
        self.repaired(broken, exact=False, beyond=True)

    def test_unreadable(self):
        """A pack that the disk does not give back; when the disk is well again, all is found again."""
        self.fault = {'LD_PRELOAD': FAULT_IO, 'KVSS_TEST_FAIL_READ': os.path.basename(self.data_2)}
        broken = self.broken()
        self.assertTrue(broken)
        self.kvss('verify', '--read-data', codes=(DAMAGED,))
        done = self.json('repair', '--read-data', codes=(DAMAGED,))
        self.assertEqual(self.broken(), broken)
        self.assertTrue(done['lost'])
        self.assertTrue(os.path.exists(self.path(self.data_2)))
        self.fault = {}
        self.json('repair', codes=(DAMAGED,)) # set aside: not counted on without a look at each byte
        self.assertEqual(self.broken(), broken)
        done = self.json('repair', '--read-data', codes=(DONE,))
        self.assertEqual((done['lost'], done['packs_found'], done['packs_aside']), ([], 1, 0))
        self.assertEqual(self.broken(), set())
        self.assertEqual(self.named('--read-data', codes=(DONE,))[0], set())
        if RESTIC:
            self.assertEqual(self.restic_check('--read-data')[0], 0)


class Indexes(Case):
    def check(self, damage, structure=True):
        for cache in (True, False):
            with self.subTest(cache=cache):
                self.setUp()
                if not cache:
                    self.no_cache()
                damage()
                broken = self.broken()
                self.kvss('verify', codes=(DAMAGED,))
                done, after = self.repaired(broken)
                self.assertEqual((after, done['lost']), (set(), []))

    def test_flip(self):
        size = os.path.getsize(self.path(self.only('index')))
        for offset in (0, 15, 16, size // 2, -1, -16):
            with self.subTest(offset=offset):
                self.check(lambda: self.flip(self.only('index'), offset))

    def test_length(self):
        self.check(lambda: os.truncate(self.path(self.only('index')), 100))
        self.check(lambda: os.truncate(self.path(self.only('index')), 0))

    def test_all_gone(self):
        """Not one index file is left: the packs say what is in them."""
        def remove():
            for path in self.files('index'):
                os.unlink(path)
        for n in range(2):
            with self.subTest(files=n):
                self.setUp()
                remove() if n else os.unlink(self.path(self.only('index')))
                self.assertTrue(self.broken())
                self.kvss('verify', codes=(DAMAGED,))
                done = self.json('repair', codes=(DONE,))
                self.assertEqual(done['lost'], [])
                self.assertEqual(self.broken(), set())
                self.assertEqual(self.named('--read-data', codes=(DONE,))[0], set())
                if RESTIC:
                    self.assertEqual(self.restic_check('--read-data')[0], 0)

    def test_swapped(self):
        def swap():
            a, b = (self.path(self.only('index', n)) for n in (0, 1))
            os.rename(a, a + '.x'), os.rename(b, a), os.rename(a + '.x', b)
        self.check(swap)

    def test_unreadable(self):
        self.no_cache()
        self.fault = {'LD_PRELOAD': FAULT_IO, 'KVSS_TEST_FAIL_READ': '/index/' + os.path.basename(self.only('index'))}
        self.broken()
        self.kvss('verify', codes=(DAMAGED,))
        self.json('repair', codes=(DONE,))
        self.assertEqual(self.broken(), set())

    def test_names_who_is_hit(self):
        """By a damaged index file: who needs what only it names, and nobody else, whether a cache knows it or not."""
        hits, truth = [], self.truth
        for name in [os.path.basename(path) for path in self.files('index')]:
            with self.subTest(index=name):
                self.setUp()
                third = {('db', 'vda'): noise(6, 3)}    # with an index file of its own
                self.truth = dict(truth, **{self.backup(third): third})
                self.flip('index/' + name, 30)
                hit = {backup for backup, _ in self.named(codes=(DAMAGED,))[0]}
                self.no_cache()
                self.assertEqual({backup for backup, _ in self.named(codes=(DAMAGED,))[0]}, hit)
                self.assertLessEqual({backup for backup, _, _ in self.broken()}, hit) # small files, too
                hits.append(hit)
        self.assertIn({self.ids[1]}, hits)

    def test_others_can_be_read(self):
        """What the other index file names can be had meanwhile; a backup refuses, since it would store all again."""
        index = self.files('index')
        for path in index:
            self.setUp()
            self.no_cache()
            self.flip(os.path.relpath(path, os.path.join(self.first_dir, 'repository')), 30)
            broken = self.broken()
            listed = self.kvss('list', 'backups', codes=(DONE, DAMAGED))
            self.assertTrue(listed.stdout.count(b'testhost') >= 1 or b'is damaged' in listed.stderr)
            if len(broken) < 6:
                return
        self.fail('the second backup alone must leave the first one readable')


class Twice(Case):
    def test_every_file_is_named(self):
        """Two disks that share what is lost: both are named."""
        packs = set(self.files('data'))
        shared = noise(20, 4)
        backup = self.backup({('web', 'vda'): shared, ('db', 'vdb'): shared})
        pack = max(set(self.files('data')) - packs, key=os.path.getsize)
        self.flip(os.path.relpath(pack, self.repo), 100)
        self.json('repair', '--read-data', codes=(DAMAGED,))
        told = self.json('verify', codes=(DAMAGED,))
        damage, = told['damaged']
        self.assertEqual((damage['id'], sorted(damage['vms'])), (backup, ['db', 'web']))
        self.assertEqual(told['other_damage'], [])


class SmallFiles(Case):
    def one_snapshot(self, damage):
        name = 'snapshots/' + self.ids[1]
        damage(self.path(name))
        broken = self.broken()
        self.assertEqual({b for b, _, _ in broken}, {self.ids[1]})
        listed = self.kvss('--json', 'list', 'backups', codes=(DAMAGED,))
        self.assertEqual([b['id'] for b in json.loads(listed.stdout)], [self.ids[0]])
        self.assertIn(self.ids[1][:8].encode(), listed.stderr)
        named, told = self.named(codes=(DAMAGED,))
        self.assertEqual({b for b, _ in named}, {self.ids[1]})
        self.assertIn(b'latest', self.kvss('show', 'latest', codes=(DAMAGED, FAILED)).stderr)
        self.kvss('show', self.ids[0])
        self.kvss('show', self.ids[1][:10], codes=(DAMAGED, FAILED))
        done = self.json('repair', '--read-data', codes=(DAMAGED,))
        self.assertEqual((done['beyond_repair'], done['lost']), (1, []))
        self.assertIn(self.ids[1][:8], done['found'][0])
        self.assertTrue(os.path.exists(self.path(name)))

    def test_snapshot(self):
        size = os.path.getsize(self.path('snapshots/' + self.ids[1]))
        for offset in (0, 15, 16, size // 2, -1, -16):
            with self.subTest(offset=offset):
                self.setUp()
                self.one_snapshot(lambda path: self.flip(os.path.relpath(path, self.repo), offset))

    def test_snapshot_length(self):
        for length in (0, 40, 100):
            with self.subTest(length=length):
                self.setUp()
                self.one_snapshot(lambda path: os.truncate(path, length))

    def test_snapshot_replaced(self):
        self.one_snapshot(lambda path: shutil.copyfile(self.path('snapshots/' + self.ids[0]), path))

    def test_snapshot_unreadable(self):
        self.fault = {'LD_PRELOAD': FAULT_IO, 'KVSS_TEST_FAIL_READ': self.ids[1]}
        self.one_snapshot(lambda path: None)

    def test_snapshot_gone(self):
        """Nobody can miss a snapshot that is not there: the other stands alone."""
        os.unlink(self.path('snapshots/' + self.ids[1]))
        self.assertEqual([b['id'] for b in self.json('list', 'backups', codes=(DONE,))], [self.ids[0]])
        self.kvss('verify', '--read-data')

    def test_key(self):
        """Every byte class of the key file: what opens is right, what does not is called damaged."""
        name = self.only('keys')
        text = self.content(self.path(name))
        places = {word: text.index(b'"%s":' % word.encode()) + len(word) + 4
                  for word in ('created', 'username', 'kdf', 'salt', 'data')}
        places.update(first=0, last=len(text) - 1, N=text.index(b'"N":') + 4)
        for word, offset in places.items():
            with self.subTest(place=word):
                self.setUp()
                self.flip(name, offset, bit=1)
                done = self.kvss('verify', codes=(DAMAGED, REPOSITORY))
                self.assertIn(b'key ' + os.path.basename(name)[:8].encode(), done.stdout + done.stderr)
                if done.returncode == DAMAGED and not self.broken():
                    continue # it still opens: the flip hit what nobody needs
                self.assertEqual(len(self.broken()), 6)
        for damage in (os.unlink, lambda path: os.truncate(path, 0), lambda path: os.truncate(path, 200)):
            self.setUp()
            damage(self.path(name))
            self.kvss('verify', codes=(DAMAGED, REPOSITORY))
            self.assertEqual(len(self.broken()), 6)

    def test_config(self):
        """Without it nobody gets in; repair makes it anew, and all is there."""
        size = os.path.getsize(self.path('config'))
        for damage in [lambda path, o=o: self.flip('config', o) for o in (0, 15, 16, size // 2, -1, -16)] + \
                [lambda path: os.truncate(path, 0), lambda path: os.truncate(path, 50),
                 lambda path: shutil.copyfile(self.path(self.only('keys')), path)]:
            self.setUp()
            damage(self.path('config'))
            self.assertIn(b'config', self.kvss('verify', codes=(DAMAGED,)).stderr)
            self.assertEqual(len(self.broken()), 6)
            before = self.state()
            self.kvss('repair', '--dry-run', codes=(DAMAGED,))
            self.assertEqual(self.state(), before)
            self.assertIn(b'made anew', self.kvss('repair').stderr)
            self.assertEqual(self.broken(), set())
            self.kvss('verify', '--read-data')
        if RESTIC:
            self.assertEqual(self.restic_check('--read-data')[0], 0)
        os.unlink(self.path('config'))
        self.kvss('verify', codes=(REPOSITORY,))


class Marks(Case):
    def test_marks(self):
        """list, show and restore say it; other VMs are not kept from anything; the original stays."""
        self.flip(self.data_1, 100)
        done = self.json('repair', '--read-data', codes=(DAMAGED,))
        loss = done['lost'][0]
        vm, other = loss['vms'][0], {'web': 'db', 'db': 'web'}[loss['vms'][0]]
        text = self.kvss('list', 'backups')
        self.assertIn(b'%s (damaged)' % vm.encode(), text.stdout)
        self.assertNotIn(b'%s (damaged)' % other.encode(), text.stdout)
        self.assertIn(b'has lost data', text.stderr)
        show = self.kvss('show', loss['backup']).stdout.decode()
        offset, length = loss['ranges'][0]
        self.assertIn('lost: VM %s, disk %s: bytes %d to %d' % (vm, loss['disk'], offset, offset + length - 1), show)
        said = self.kvss('restore', loss['backup'], '--yes', codes=(DAMAGED,)).stderr.decode()
        self.assertIn('VM ' + vm, said)
        self.kvss('restore', loss['backup'], vm, '--yes', codes=(DAMAGED,))
        self.assertNotIn('is lost', self.kvss('restore', loss['backup'], other, '--dry-run', codes=None).stderr.decode())
        for backup in self.ids:
            self.assertTrue(os.path.exists(self.path('snapshots/' + backup)))
        if RESTIC:
            listed = json.loads(subprocess.run([RESTIC, 'snapshots', '--json'], env=self.env(), check=True, stdout=subprocess.PIPE).stdout)
            note, = [s for s in listed if s.get('tags') == ['kvss-damage']]
            text = subprocess.run([RESTIC, 'dump', note['id'], '/damage.json'], env=self.env(), check=True, stdout=subprocess.PIPE).stdout
            self.assertEqual({l['backup'] for l in json.loads(text)['losses']}, {l['backup'] for l in done['lost']})

    def test_forget_and_prune(self):
        """When the backups that lost something are forgotten, prune clears away, and nothing is left to mark."""
        self.flip(self.data_1, 100)
        self.json('repair', '--read-data', codes=(DAMAGED,))
        third = self.backup({('db', 'vda'): noise(9, 3)})
        self.kvss('forget', '--allow-remove-all', *self.ids)
        self.kvss('prune')
        self.assertFalse(os.path.exists(self.path(self.data_1)))
        done = self.json('repair', '--read-data', codes=(DONE,))
        self.assertEqual((done['lost'], done['packs_aside']), ([], 0))
        self.assertEqual(os.listdir(self.path('snapshots')), [third])
        self.kvss('verify', '--read-data')

    def test_nothing_to_do(self):
        before = self.state()
        for options in ((), ('--read-data',), ('--dry-run',)):
            done = self.json('repair', *options, codes=(DONE,))
            self.assertEqual((done['found'], done['lost'], done['indexes_replaced']), ([], [], 0))
        self.assertEqual(self.state(), before)

    def test_orphans(self):
        """Packs of a run that was killed before it wrote an index are named again, and harm nobody."""
        index = self.only('index')
        packs = len(self.files('data'))
        os.unlink(self.path(index))
        done = self.json('repair', codes=(DONE,))
        self.assertEqual(done['packs_found'], 2)
        self.assertEqual(len(self.files('data')), packs)
        self.assertEqual(self.broken(), set())


class Unfinished(Case):
    """An upload that was killed on this host: the next one goes on with its packs, but with none that repair set aside."""

    def leave_record(self):
        cache, = os.listdir(os.path.join(self.dir, 'cache'))
        folder = os.path.join(self.dir, 'state', 'uploads')
        os.makedirs(folder, exist_ok=True)
        with open(os.path.join(folder, cache + '-0000dead'), 'w'):
            pass

    def check(self, before):
        """@before: the record is older than the repair."""
        self.flip(self.data_1, 100)
        broken = self.broken()
        self.assertTrue(broken)
        if before:
            self.leave_record()
        self.json('repair', '--read-data', codes=(DAMAGED,))
        if not before:
            self.leave_record()
        self.assertEqual(self.broken(), broken)
        self.healed()

    def test_before_repair(self):
        self.check(before=True)

    def test_after_repair(self):
        self.check(before=False)

    def test_others_are_gone_on_with(self):
        """A pack that no index names, and that nobody set aside."""
        self.flip(self.data_1, 100)
        self.json('repair', '--read-data', codes=(DAMAGED,))
        indexes = set(self.files('index'))
        disks = {('db', 'vda'): noise(8, 8)}
        snapshot = self.backup(disks)
        new, = set(self.files('index')) - indexes
        os.unlink(new)
        os.unlink(self.path('snapshots/' + snapshot))
        packs = set(self.files('data'))
        self.leave_record()
        self.truth = {self.backup(disks): disks}
        self.assertLess(sum(os.path.getsize(p) for p in set(self.files('data')) - packs), 2 * CHUNK)
        self.assertEqual(self.broken(), set())


class Killed(Case):
    def damage(self):
        self.flip(self.data_1, 100)              # a chunk
        self.flip(self.tree_2, -1)               # a header
        self.no_cache()

    def test_anywhere(self):
        """Killed before each rename, unlink and sync: nothing is worse than before, and a second run ends it."""
        self.damage()
        count = os.path.join(self.dir, 'count')
        self.fault = {'LD_PRELOAD': FAULT_IO, 'KVSS_TEST_COUNT': count}
        whole = self.json('repair', '--read-data', codes=(DAMAGED,))
        self.fault = {}
        steps = int(self.content(count))
        self.assertGreater(steps, 15)
        expected, before = self.broken(), None
        for step in range(0, steps, 1 if steps < 60 else 2):
            with self.subTest(step=step):
                self.setUp()
                self.damage()
                before = before or self.broken()    # the same damage each time
                self.fault = {'LD_PRELOAD': FAULT_IO, 'KVSS_TEST_KILL_AT': str(step)}
                died = self.kvss('repair', '--read-data', codes=(-9, DAMAGED)).returncode == -9
                self.fault = {}
                self.assertTrue(died or step > steps - 5) # threads: one more step or one less
                self.assertLessEqual(self.broken(), before)
                done = self.json('repair', '--read-data', codes=(DAMAGED,))
                self.assertEqual(done['lost'], whole['lost'])
                self.assertEqual(self.broken(), expected)
                self.assertEqual(self.files('locks'), [])
        self.healed()


if __name__ == '__main__':
    chosen = sys.argv[4:]
    if chosen[:1] == ['--but']:     # all other classes
        chosen = [name for name, item in list(globals().items()) if isinstance(item, type) and issubclass(item, Case)
                  and item is not Case and name not in chosen]
    unittest.main(argv=sys.argv[:1] + chosen)
