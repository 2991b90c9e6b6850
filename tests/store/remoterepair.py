"""kvss repair behind a server: damage to what lies there, whatever the server.

A test case of a server mixes RepairTests in. It has self.programs (repository-tool and kvss), self.env, self.repo,
self.through (by way of self.proxy, a FaultProxy), self.path(), self.write(), and says how files are reached there:

    names(folder)          what lies below it, names as of the repository
    look(name)             content
    store(name, content)   put there behind kvss's back; None removes
"""
import json
import os
import random
import shutil
import subprocess

from sets import set_files

CHUNK = 256 << 10
DONE, FAILED, REPOSITORY, DAMAGED = 0, 1, 4, 7
DISKS = {'web': random.Random(1).randbytes(10 * CHUNK), 'db': random.Random(2).randbytes(6 * CHUNK)}
LATER = dict(DISKS, web=DISKS['web'][:3 * CHUNK] + random.Random(3).randbytes(CHUNK) + DISKS['web'][4 * CHUNK:])


class RepairCase:
    # ---- a repository with two sets, and the same one again ----

    def make(self):
        self.env['LIBVIRT_DEFAULT_URI'] = 'test:///default'
        self.out = self.path('out.raw')
        self.run_tool('init', self.through)
        self.run_tool('cheap', self.through)
        self.ids = [self.store_set(DISKS)]
        before = set(self.names('data'))
        self.ids.append(self.store_set(LATER))
        self.truth = dict(zip(self.ids, (DISKS, LATER)))
        by_size = lambda names: sorted(names, key=lambda name: len(self.look(name)))
        self.tree_1, self.data_1 = by_size(before)
        self.tree_2, self.data_2 = by_size(set(self.names('data')) - before)
        self.first = self.state()

    def reset(self):
        """As make() left it."""
        now = self.state()
        for name in now.keys() - self.first.keys():
            self.store(name, None)
        for name, content in self.first.items():
            if now.get(name) != content:
                self.store(name, content)

    def state(self):
        folders = ('data', 'index', 'keys', 'snapshots')
        return {name: self.look(name) for folder in folders for name in self.names(folder)} | {'config': self.look('config')}

    def assert_untouched(self, before):
        now = self.state()
        self.assertEqual([n for n in before.keys() | now.keys() if before.get(n) != now.get(n)], [])
        self.assertEqual(self.names('locks'), [])

    def flip(self, name, offset):
        content = bytearray(self.look(name))
        content[offset] ^= 8
        self.store(name, bytes(content))

    # ---- running ----

    def run_tool(self, *words):
        done = subprocess.run([self.programs[0], *words], env=self.env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=300)
        self.assertEqual(done.returncode, 0, done.stderr)
        return done.stdout.decode().strip()

    def store_set(self, disks):
        args = []
        for number, (place, content) in enumerate(set_files(disks).items()):
            args.append('%s=%s' % (place, self.write('in-%d' % number, content)))
        return self.run_tool('backup', self.through, 'kvss', *args)

    def command(self, *words, codes=(DONE,), **env):
        done = subprocess.run([self.programs[1], '-r', self.through, *words], env=dict(self.env, **env), timeout=300,
                              stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        if codes is not None:
            self.assertIn(done.returncode, codes, (words, done))
        return done

    def told(self, *words, **kwargs):
        return json.loads(self.command('--json', *words, **kwargs).stdout.splitlines()[-1])

    def broken(self):
        """{(backup, vm)} that cannot be had. What can be had is right."""
        broken = set()
        for backup, disks in self.truth.items():
            for vm, content in disks.items():
                if self.command('export', backup, vm, 'vda', self.out, codes=None).returncode != 0:
                    broken.add((backup, vm))
                    continue
                with open(self.out, 'rb') as f:
                    self.assertTrue(f.read() == content, 'in silence: %s of %s' % (vm, backup))
                os.unlink(self.out)
        return broken

    def check(self, ok=True):
        """restic's opinion, where it is installed."""
        if not shutil.which('restic'):
            return
        done = subprocess.run(['restic', '-r', self.repo, '--no-cache', 'check', '--read-data'], env=self.env, timeout=300,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        self.assertEqual(done.returncode == 0, ok, done.stdout)

    def assert_lost(self, done, broken):
        """Who is named, a backup without VMs as a whole, is broken, and nobody else."""
        self.assertEqual({(l['backup'], vm) for l in done['lost'] for vm in l['vms'] or DISKS}, broken)

    def repaired(self):
        """A dry run touches nothing and says the same. Afterwards what is lost is what was said, and it is marked."""
        before = self.state()
        plan = self.told('repair', '--read-data', '--dry-run', codes=(DONE, DAMAGED))
        self.assert_untouched(before)
        done = self.told('repair', '--read-data', codes=(DONE, DAMAGED))
        self.assertEqual((plan['found'], plan['lost']), (done['found'], done['lost']))
        self.assertEqual(self.names('locks'), [])
        self.assert_lost(done, self.broken())
        listed = self.told('list', 'backups', codes=(DONE, DAMAGED))    # without those whose description is lost
        ids = {b['id'] for b in listed}
        self.assertEqual({(b['id'], *l['vms']) for b in listed for l in b['lost']},
                         {(l['backup'], *l['vms']) for l in done['lost'] if l['backup'] in ids})
        return done

    def healed(self):
        self.store_set(DISKS)
        self.store_set(LATER)
        self.assertEqual(self.broken(), set())
        self.told('repair', '--read-data')
        self.command('verify', '--read-data')
        self.check()


class RepairTests(RepairCase):
    def test_repair_chunk(self):
        """A flipped bit: one chunk is lost, the rest of its pack is stored anew, and the next backup heals it."""
        self.make()
        self.flip(self.data_1, 100)
        done = self.repaired()
        self.assertTrue(done['lost'])
        self.assertEqual({l['bytes'] for l in done['lost']}, {CHUNK})
        self.assertGreater(done['blobs_saved'], 5)
        self.check(ok=False)
        self.healed()

    def test_repair_gone(self):
        """A pack that is gone, one that is cut, one whose header is damaged."""
        self.make()
        self.store(self.data_2, None)
        done = self.repaired()
        self.assertEqual({l['backup'] for l in done['lost']}, {self.ids[1]})
        self.reset()
        self.store(self.data_1, self.look(self.data_1)[:5 * CHUNK])
        self.assertTrue(self.repaired()['lost'])
        self.reset()
        self.flip(self.data_1, -5)
        self.flip(self.tree_2, -5)
        self.assertEqual(self.repaired()['lost'], [])
        self.command('verify', '--read-data')
        self.check()

    def test_repair_indexes(self):
        """An index file that is damaged; none at all."""
        self.make()
        self.flip(self.names('index')[0], 30)
        self.assertEqual(self.repaired()['lost'], [])
        self.check()
        for name in self.names('index'):
            self.store(name, None)
        self.assertEqual(self.repaired()['lost'], [])
        self.command('verify', '--read-data')
        self.check()

    def test_repair_config(self):
        """A config that is damaged, or empty: made anew, also when its first answer is lost."""
        self.make()
        for damage in ('flip', 'empty', 'lost'):
            self.flip('config', 20) if damage != 'empty' else self.store('config', b'')
            before = self.state()
            self.command('repair', '--dry-run', codes=(DAMAGED,))
            self.assert_untouched(before)
            done = set()

            def lose(request):
                if request.method in ('POST', 'PUT') and request.path.endswith('/config') and not done:
                    done.add(request.path)
                    return 'cut'
            self.proxy.harm = lose if damage == 'lost' else None
            self.assertIn(b'made anew', self.command('repair').stderr)
            self.proxy.harm = None
            self.assertEqual(self.broken(), set())
        self.check()

    def test_repair_snapshot(self):
        """A snapshot that is damaged is told and stays; the other backup is whole."""
        self.make()
        self.flip('snapshots/' + self.ids[1], 40)
        done = self.told('repair', '--read-data', codes=(DAMAGED,))
        self.assertEqual((done['beyond_repair'], done['lost']), (1, []))
        self.assertEqual({backup for backup, _ in self.broken()}, {self.ids[1]})
        self.assertIn('snapshots/' + self.ids[1], self.names('snapshots'))

    def test_repair_over_a_broken_line(self):
        """Each request fails once, by turns in each way: nobody notices."""
        self.make()
        self.flip(self.data_1, 100)
        self.flip(self.names('index')[0], 30)
        seen = set()

        def harm(request):
            key = (request.method, request.path, request.headers.get('range'))
            if key not in seen:
                seen.add(key)
                return ('cut', 'lost', '503', 'after 503')[len(seen) % 4]
        self.proxy.harm = harm
        self.repaired()
        self.assertGreater(len(seen), 20)
        self.proxy.harm = None
        self.healed()
