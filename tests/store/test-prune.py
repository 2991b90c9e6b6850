#!/usr/bin/env python3
"""kvss prune: what goes, what stays, and what is left when it is killed at any step."""
import os
import random
import shutil
import subprocess
import sys
import unittest

import cases
from cases import DAMAGED, FAILED, KVSS, LOCKED, REPOSITORY, USAGE, noise

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'lib'))
from rclone import Rclone  # noqa: E402

MIB, CHUNK = 1 << 20, 256 << 10


def mixed(*parts):
    """Their chunks in no order: whatever threads share out, each pack has some of every part."""
    whole = b''.join(parts)
    chunks = [whole[at:at + CHUNK] for at in range(0, len(whole), CHUNK)]
    random.Random(1).shuffle(chunks)
    return b''.join(chunks)


class Prune(cases.Case):
    def setUp(self):
        super().setUp()
        self.init()

    def fill(self):
        """Two sets that stay, and two dropped ones: one shares nothing with them, of the other they need a part."""
        common = noise(1, 6 * MIB)
        kept = {}
        alone = self.backup({'web': noise(2, 34 * MIB)})
        shared = self.backup({'web': mixed(common, noise(6, 4 * MIB)), 'db': noise(3, 2 * MIB)})
        for n in (4, 5):
            disks = {'web': noise(n, 2 * MIB) + common, 'db': noise(3, 2 * MIB)}
            kept[self.backup(disks)] = disks
        self.kvss('forget', alone, shared)
        return kept

    def test_empty(self):
        said = self.kvss_json('prune')
        self.assertEqual(said['packs'], 0)
        self.assert_whole({})

    def test_nothing_to_do(self):
        disks = {'web': noise(1, 3 * MIB)}
        backup = self.backup(disks)
        before = self.files('data') + self.files('index')
        said = self.kvss_json('prune')
        self.assertEqual((said['type'], said['backups'], said['blobs_unused'], said['bytes_freed']),
                         ('summary', 1, 0, 0))
        self.assertEqual(self.files('data') + self.files('index'), before)
        self.assert_whole({backup: disks})

    def test_all(self):
        kept = self.fill()
        before = self.files('data') + self.files('index')
        size = sum(os.path.getsize(p) for p in self.files('data'))
        plan = self.kvss_json('prune', '--dry-run', '--max-unused', '0')
        self.assertEqual(self.files('data') + self.files('index'), before)
        self.assertTrue(plan['dry_run'])
        done = self.kvss_json('prune', '--max-unused', '0')
        for name in ('backups', 'blobs_used', 'blobs_unused', 'packs_removed', 'packs_repacked'):
            self.assertEqual(done[name], plan[name], name)
        self.assertGreater(done['packs_removed'], 0)
        self.assertGreater(done['packs_repacked'], 0)
        self.assertEqual(done['bytes_unused'], 0)
        after = sum(os.path.getsize(p) for p in self.files('data'))
        self.assertEqual(done['bytes_freed'], size - after)
        self.assertLess(after, 14 * MIB)
        self.assertLess(abs(done['bytes_freed'] - plan['bytes_freed']), 64 << 10)
        self.assert_whole(kept)
        again = self.kvss_json('prune', '--max-unused', '0')
        self.assertEqual((again['packs_removed'], again['packs_repacked'], again['indexes_removed']),
                         (0, 0, 0))
        self.assertEqual(again['blobs_unused'], 0)

    def test_limits(self):
        kept = self.fill()
        plan = self.kvss_json('prune', '--dry-run', '--max-unused', 'unlimited')
        self.assertEqual(plan['packs_repacked'], 0)
        most = self.kvss_json('prune', '--dry-run', '--max-unused', '0')
        self.assertGreater(most['bytes_repacked'], 0)
        some = self.kvss_json('prune', '--dry-run', '--max-unused', '0', '--max-repack',
                              str(most['bytes_repacked'] - 1))
        self.assertLess(some['bytes_repacked'], most['bytes_repacked'])
        self.assertGreater(some['bytes_unused'], 0)
        done = self.kvss_json('prune', '--max-repack', '0')
        self.assertEqual(done['packs_repacked'], 0)
        self.assert_whole(kept)
        for wrong in ('5x', '101%', '-1', '%'):
            self.kvss_fails(USAGE, 'prune', '--max-unused=' + wrong)
        self.kvss_fails(USAGE, 'prune', '--max-repack', 'lots')

    def test_unknown_and_twice(self):
        """Packs that no index names go; of blobs that lie in two packs one copy stays."""
        disks = {'web': noise(1, 5 * MIB)}
        backup = self.backup(disks)
        index = {p: open(p, 'rb').read() for p in self.files('index')}
        for path in index:
            os.rename(path, self.path('index-' + os.path.basename(path)))
        self.run_it(cases.TOOL, 'backup', self.repo, 'kvss', 'x=' + self.write('x', noise(1, 5 * MIB)))
        for path, content in index.items():
            with open(path, 'wb') as f:
                f.write(content)
        name = 'ab' + '0' * 62
        self.write('repository/data/ab/' + name, b'nobody knows me')
        other = next(i for i in self.ids() if i != backup)
        self.restic('forget', other)
        said = self.kvss_json('prune')
        self.assertEqual(said['packs_unknown'], 1)
        self.assertGreater(said['blobs_duplicate'], 0)
        self.assert_whole({backup: disks})
        self.assertFalse(os.path.exists(os.path.join(self.repo, 'data/ab', name)))
        self.assertEqual(self.kvss_json('prune')['blobs_duplicate'], 0)

    def test_small_indexes(self):
        """Many small index files become one."""
        kept = {}
        for n in range(9):
            disks = {'web': noise(n, 100000)}
            kept[self.backup(disks)] = disks
        self.assertEqual(len(self.files('index')), 9)
        said = self.kvss_json('prune')
        self.assertEqual((said['indexes_removed'], said['indexes_written']), (9, 1))
        self.assertEqual(len(self.files('index')), 1)
        self.assert_whole(kept)

    def damage(self, change, says='nothing was removed'):
        disks = {'web': noise(1, 3 * MIB)}
        self.backup(disks)
        self.kvss('forget', self.backup({'web': noise(2, 3 * MIB)}))
        change()
        before = self.files('data') + self.files('index')
        said = self.kvss_fails(DAMAGED, 'prune', '--max-unused', '0')
        self.assertEqual(self.files('data') + self.files('index'), before)
        self.assertIn(says, said)
        self.assertEqual(self.files('locks'), [])

    def test_pack_missing(self):
        self.damage(lambda: [os.unlink(p) for p in self.files('data')
                             if os.path.getsize(p) > MIB])

    def test_pack_too_short(self):
        def cut():
            for path in self.files('data'):
                os.chmod(path, 0o600)
                os.truncate(path, os.path.getsize(path) - 1)
        self.damage(cut)

    def test_index_missing(self):
        self.damage(lambda: os.unlink(sorted(self.files('index'), key=os.path.getmtime)[0]))

    def test_index_damaged(self):
        """It says nothing of what it names: nothing is taken for unknown, in a dry run neither."""
        def rot():
            for path in self.files('index'):
                os.chmod(path, 0o600)
                with open(path, 'r+b') as f:
                    f.seek(40)
                    f.write(b'rot')
            shutil.rmtree(self.path('cache'), ignore_errors=True)
            self.kvss_fails(DAMAGED, 'prune', '--dry-run')
        self.damage(rot, says='damaged')

    def test_snapshot_damaged(self):
        """One that cannot be read stops prune, and goes by its id."""
        disks = {'web': noise(1, 3 * MIB)}
        backup, other = self.backup(disks), self.backup({'web': noise(2, 3 * MIB)})
        path = os.path.join(self.repo, 'snapshots', other)
        os.chmod(path, 0o600)
        with open(path, 'r+b') as f:
            f.seek(40)
            f.write(b'rot')
        said = self.kvss_fails(DAMAGED, 'prune')
        self.assertIn('nothing was removed', said)
        self.assertIn(other[:8], said)
        self.kvss_fails(DAMAGED, 'forget', '--keep-last', '1')
        self.kvss('forget', other[:8])
        self.kvss('prune')
        self.assert_whole({backup: disks})

    def test_no_snapshot(self):
        """Packs and no snapshot: is the folder all there?"""
        disks = {'web': noise(1, MIB)}
        backup = self.backup(disks)
        os.rename(os.path.join(self.repo, 'snapshots'), self.path('away'))
        said = self.kvss_fails(FAILED, 'prune')
        self.assertIn('nothing was removed', said)
        os.rename(self.path('away'), os.path.join(self.repo, 'snapshots'))
        self.assert_whole({backup: disks})
        self.kvss('forget', backup, '--allow-remove-all', '--prune')
        self.assertEqual(self.files('data') + self.files('index'), [])
        self.assert_whole({})

    def test_blob_damaged(self):
        """What is to be written anew is read first: a bad blob stops it."""
        common = noise(1, 3 * MIB)
        first = self.backup({'web': mixed(common, noise(2, 4 * MIB))})
        self.backup({'web': common})
        self.kvss('forget', first)
        before = self.files('data')
        for pack in before:
            os.chmod(pack, 0o600)
            with open(pack, 'r+b') as f:
                for at in range(CHUNK // 2, os.path.getsize(pack) - CHUNK, CHUNK // 2):
                    f.seek(at)
                    f.write(b'rot')
        said = self.kvss_fails(DAMAGED, 'prune', '--max-unused', '0')
        self.assertTrue(any(os.path.basename(pack)[:8] in said for pack in before), said)
        self.assertTrue(set(before) <= set(self.files('data')))

    def test_lock(self):
        """A reader keeps prune away; with --retry-lock it waits and goes on."""
        kept = self.fill()
        holder = subprocess.Popen([cases.TOOL, 'hold', self.repo], env=self.env,
                                  stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.addCleanup(holder.stdout.close)
        self.assertEqual(holder.stdout.readline(), b'holding\n')
        said = self.kvss_fails(LOCKED, 'prune')
        self.assertIn('pid %d' % holder.pid, said)
        waiter = subprocess.Popen([KVSS, 'prune', '--retry-lock', '120s'], env=self.env,
                                  stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self.assertIn(b'waiting, for up to 120 s', waiter.stderr.readline())
        self.assertIsNone(waiter.poll())
        holder.stdin.close()
        holder.wait()
        out, err = waiter.communicate(timeout=300)
        self.assertEqual((waiter.returncode, err), (0, b''))
        self.assert_whole(kept)

    def test_others_wait(self):
        """While prune is at work readers are refused, by kvss and by restic; a backup waits."""
        kept = self.fill()
        go = self.path('go')
        prune = subprocess.Popen([KVSS, 'prune'], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                 env=dict(self.env, KVSS_TEST_STALL='prune-1:600:' + go))
        self.addCleanup(prune.kill)
        self.assertIn(b'standing still', prune.stderr.readline())
        self.assertIn('alone since', self.kvss_fails(LOCKED, 'list', 'backups'))
        self.assertNotEqual(subprocess.run(['restic', 'snapshots'], env=self.env,
                                           capture_output=True).returncode, 0)
        # a backup comes as far as its host, of which there is none, when prune has ended
        backup = subprocess.Popen([KVSS, '-c', 'test:///nowhere', 'backup', 'web'], env=self.env,
                                  stderr=subprocess.PIPE)
        reader = subprocess.Popen([KVSS, '--retry-lock', '600s', 'list', 'backups'], env=self.env,
                                  stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self.assertIn(b'waiting, for up to 3600 s', backup.stderr.readline())
        self.assertIn(b'waiting', reader.stderr.readline())
        self.assertEqual((backup.poll(), reader.poll(), prune.poll()), (None, None, None))
        self.write('go', b'')
        prune.communicate(timeout=300)
        self.assertEqual(prune.returncode, 0)
        said = backup.communicate(timeout=300)[1].decode().splitlines()
        self.assertEqual(backup.returncode, 1, said)
        self.assertIn('cannot connect to libvirt', said[-1])
        reader.communicate(timeout=300)
        self.assertEqual(reader.returncode, 0)
        self.assert_whole(kept)


class Killed(cases.Case):
    """kill -9 at every step: every backup is whole, and the next prune completes it."""

    def kill_at(self, step):
        """False: there is no such step, and prune came to its end."""
        prune = subprocess.Popen([KVSS, 'prune', '--max-unused', '0'], stdout=subprocess.DEVNULL,
                                 stderr=subprocess.PIPE,
                                 env=dict(self.env, KVSS_TEST_STALL='prune-%d:60' % step))
        said = prune.stderr.readline()
        prune.kill()
        prune.communicate()
        if b'standing still' in said:
            return True
        self.assertEqual((prune.returncode, said), (0, b''))
        return False

    def test_sweep(self):
        self.init()
        kept = Prune.fill(self)
        self.write('repository/data/ab/ab' + '0' * 62, b'nobody knows me')
        os.rename(self.repo, self.path('before'))
        for step in range(1000):
            shutil.rmtree(self.repo, ignore_errors=True)
            shutil.copytree(self.path('before'), self.repo)
            was_there = self.kill_at(step)
            with self.subTest(step=step):
                self.assert_whole(kept, after_kill=was_there)
                done = self.kvss_json('prune', '--max-unused', '0')
                if was_there:
                    self.assert_whole(kept)
                    done = self.kvss_json('prune', '--max-unused', '0', '--dry-run')
                self.assertEqual([done[n] for n in ('blobs_unused', 'blobs_duplicate', 'packs_removed',
                                                    'packs_repacked', 'packs_unknown')], [0] * 5)
            if not was_there:
                self.assertGreater(step, 8)
                return
        self.fail('it never comes to an end')


class Restic(cases.Case):
    """Each prunes what the other has written and pruned."""

    def test_of_restic(self):
        """restic's packs: cut by content, some with data and trees of many backups."""
        self.restic('init', '--repository-version', '2')
        self.run_it(cases.TOOL, 'cheap', self.repo)
        common, kept, first = noise(1, 5 * MIB), {}, None
        for n in range(2, 6):
            disks = {'web': noise(n, 3 * MIB) + common, 'db': b'text %d\n' % n * 50000}
            backup = self.restic_backup(disks, '--pack-size', '4')
            kept[backup] = disks
            first = first or backup
        plain = self.restic_backup({'web': noise(9, MIB)}, '--compression', 'off')
        self.kvss('forget', first, plain)
        kept.pop(first)
        done = self.kvss_json('prune', '--max-unused', '0')
        self.assertGreater(done['packs_removed'] + done['packs_repacked'], 0)
        self.assert_whole(kept)

    def test_of_mixed_packs(self):
        """Packs of restic's first version hold data and trees side by side."""
        self.restic('init', '--repository-version', '1')
        kept = {}
        for n in range(1, 4):
            disks = {'web': noise(n, 300000), 'db': noise(7, 200000)}
            kept[self.restic_backup(disks)] = disks
        self.restic('migrate', 'upgrade_repo_v2')
        self.run_it(cases.TOOL, 'cheap', self.repo)
        first = next(iter(kept))
        self.kvss('forget', first)
        kept.pop(first)
        self.kvss_json('prune', '--max-unused', '0')
        self.assert_whole(kept)
        self.restic('prune', '--max-unused', '0')
        self.assert_whole(kept)

    def test_in_turns(self):
        self.init()
        common, kept = noise(1, 4 * MIB), {}
        for turn in range(6):
            disks = {'web': noise(10 + turn, 2 * MIB) + common[turn * 300000:], 'db': noise(turn, MIB)}
            make = self.backup if turn % 2 else self.restic_backup
            kept[make(disks)] = disks
            if len(kept) > 2:
                oldest = next(iter(kept))
                kept.pop(oldest)
                if turn % 2:
                    self.restic('forget', oldest)
                    self.kvss('prune', '--max-unused', '0')
                else:
                    self.kvss('forget', oldest)
                    self.restic('prune', '--max-unused', '0')
            self.assert_whole(kept)


@unittest.skipUnless(shutil.which('rclone'), 'needs rclone')
class Server(cases.Case):
    """Behind a REST server: the same; one that only appends refuses, and nothing is lost."""

    def serve(self, *options):
        server = Rclone(self.repo, *options)
        self.addCleanup(server.stop)
        return 'rest:%s/' % server.url

    def test_prune(self):
        self.init()
        kept = Prune.fill(self)
        url = self.serve()
        plan = self.kvss_json('-r', url, 'prune', '--dry-run', '--max-unused', '0')
        done = self.kvss_json('-r', url, 'prune', '--max-unused', '0')
        self.assertGreater(done['packs_removed'], 0)
        self.assertEqual(done['packs_repacked'], plan['packs_repacked'])
        self.assert_whole(kept)

    def test_append_only(self):
        self.init()
        kept = Prune.fill(self)
        url = self.serve('--append-only')
        before = self.files('data') + self.files('index')
        for command in (['forget', next(iter(kept))], ['prune', '--max-unused', '0']):
            self.assertIn('append-only', self.kvss_fails(REPOSITORY, '-r', url, *command))
        self.assertEqual(self.files('data') + self.files('index'), before)
        self.assert_whole(kept)


if __name__ == '__main__':
    cases.main(['Prune', 'Killed', 'Restic', 'Server'])
