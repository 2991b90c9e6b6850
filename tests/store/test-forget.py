#!/usr/bin/env python3
"""kvss forget: what the rules keep, compared with restic's; names; what is refused."""
import datetime
import json
import random

import cases
from cases import DAMAGED, FAILED, USAGE, noise


class Forget(cases.Case):
    def setUp(self):
        super().setUp()
        self.init()

    def fill(self, *sets):
        """Sets of (time, VMs): their ids."""
        return [self.backup({vm: b'disk of %s' % vm.encode() for vm in vms}, time)
                for time, vms in sets]

    def kept(self, *rules):
        return [b['id'] for b in self.kvss_json('forget', '--dry-run', *rules)['kept']]

    def test_by_vm_and_by_set(self):
        ids = self.fill(('2024-01-01T10:00:00Z', ['web', 'db']), ('2024-01-02T10:00:00Z', ['web']),
                        ('2024-01-03T10:00:00Z', ['web']))
        # db's last is in the oldest set, which stays whole for it
        self.assertEqual(self.kept('--keep-last', '1'), [ids[0], ids[2]])
        why = self.kvss_json('forget', '-n', '--keep-last', '1')
        self.assertEqual(why['kept'][0]['reasons'], [{'rule': 'last', 'vm': 'db'}])
        self.assertEqual(why['kept'][1]['reasons'], [{'rule': 'last', 'vm': 'web'}])
        self.assertEqual([b['id'] for b in why['removed']], [ids[1]])
        self.assertEqual(self.kept('--keep-last', '1', '--group-by', 'set'), [ids[0], ids[2]])
        self.assertEqual(self.kept('--keep-last', '2', '--group-by', 'vm'), ids)
        self.assertEqual(self.ids(), sorted(ids))

    def test_table(self):
        """It names for each backup the rules that keep it, and for whom."""
        ids = self.fill(('2024-01-01T10:00:00Z', ['web', 'db']), ('2024-01-02T10:00:00Z', ['web']),
                        ('2024-01-03T10:00:00Z', ['web']))
        rows = self.kvss('forget', '-n', '--keep-last', '1', '--keep-yearly', '1').splitlines()
        self.assertEqual(rows[0].split(), ['ID', 'TIME', 'VMS', 'KEPT', 'BY'])
        self.assertEqual(rows[1].split(None, 3)[3].strip(), 'web db  last (db), yearly (db)')
        self.assertTrue(rows[2].endswith('goes'), rows)
        self.assertTrue(rows[3].endswith('last, yearly'), rows)
        self.assertEqual(rows[4], '1 backup would go, 2 stay')
        rows = self.kvss('forget', '--keep-last', '1').splitlines()
        self.assertTrue(rows[2].endswith('gone'), rows)
        self.assertEqual(rows[4], '1 backup is gone, 2 stay')
        self.assertEqual(self.ids(), sorted([ids[0], ids[2]]))
        self.assertEqual(self.files('locks'), [])

    def test_refused(self):
        ids = self.fill(('2024-01-01T10:00:00Z', ['web']), ('2024-01-02T10:00:00Z', ['web', 'db']))
        self.assertIn('nothing says what to keep', self.kvss_fails(USAGE, 'forget'))
        self.kvss_fails(USAGE, 'forget', '--keep-daily', '0')
        self.kvss_fails(USAGE, 'forget', '--keep-daily', 'seven')
        self.kvss_fails(USAGE, 'forget', '--keep-within', '7')
        self.kvss_fails(USAGE, 'forget', '--keep-last', '1', ids[0])
        self.kvss_fails(USAGE, 'forget', '--keep-last', '1', '--group-by', 'host')
        self.kvss_fails(USAGE, 'forget', '--keep-last', '1', '--max-unused', '0')
        self.kvss_fails(FAILED, 'forget', 'ffffffff')
        self.kvss_fails(FAILED, 'forget', '')
        # the last of db, and by a rule that keeps nothing
        self.assertIn('no backup of db', self.kvss_fails(FAILED, 'forget', ids[1][:8]))
        self.assertIn('db, web', self.kvss_fails(FAILED, 'forget', '--keep-tag', 'no such'))
        self.assertEqual(self.ids(), sorted(ids))
        self.kvss('forget', ids[1][:8], '--allow-remove-all')
        self.assertEqual(self.ids(), [ids[0]])
        self.kvss('forget', 'latest', '--allow-remove-all')
        self.assertEqual(self.ids(), [])

    def test_others_snapshots(self):
        """What is no set of ours is neither counted nor dropped."""
        ids = self.fill(('2024-01-01T10:00:00Z', ['web']), ('2024-01-02T10:00:00Z', ['web']))
        self.restic('backup', '--tag', 'other', self.write('file', b'x'))
        foreign = next(i for i in self.ids() if i not in ids)
        self.kvss_fails(FAILED, 'forget', foreign)
        self.kvss('forget', '--keep-last', '1')
        self.assertEqual(self.ids(), sorted([ids[1], foreign]))

    def test_damaged_set(self):
        """One whose set.json cannot be read counts for nothing, stays, and goes by its name."""
        ids = self.fill(('2024-01-01T10:00:00Z', ['web']), ('2024-01-02T10:00:00Z', ['web']))
        self.run_it(cases.TOOL, 'backup', self.repo, 'kvss', 'set.json=' + self.write('bad', b'{'))
        bad = next(i for i in self.ids() if i not in ids)
        said = self.kvss_json('forget', '--keep-last', '1', code=DAMAGED)
        self.assertEqual(said['unreadable'], [bad])
        self.assertEqual(self.ids(), sorted([ids[1], bad]))
        self.assertIn('may be the latest', self.kvss_fails(FAILED, 'forget', 'latest'))
        self.kvss('forget', bad[:8])
        self.assertEqual(self.ids(), [ids[1]])

    def test_configuration(self):
        ids = self.fill(*[('2024-01-0%dT10:00:00Z' % n, ['web']) for n in range(1, 6)])
        self.write('kvss.conf', b'[retention]\nkeep-daily = 2\nkeep-tag = forever,really\n')
        self.assertEqual(self.kept(), ids[3:])
        self.assertEqual(self.kept('--keep-last', '1'), ids[4:])
        self.kvss('forget')
        self.assertEqual(self.ids(), sorted(ids[3:]))
        self.write('kvss.conf', b'[retention]\nkeep-dayly = 2\n')
        self.assertIn('keep-dayly', self.kvss_fails(FAILED, 'forget'))

    def test_with_prune(self):
        first = self.backup({'web': noise(1, 3 << 20)}, '2024-01-01T10:00:00Z')
        disks = {'web': noise(2, 3 << 20)}
        second = self.backup(disks, '2024-01-02T10:00:00Z')
        plan = self.kvss('--json', 'forget', '-n', '--keep-last', '1', '--prune').splitlines()
        self.assertEqual(json.loads(plan[0])['type'], 'forget')
        plan = json.loads(plan[-1])
        self.assertEqual((plan['backups'], plan['dry_run']), (1, True))
        self.assertGreater(plan['bytes_freed'], 3 << 20)
        self.assertEqual(self.ids(), sorted([first, second]))
        done = self.kvss_json('forget', '--keep-last', '1', '--prune')
        self.assertEqual((done['type'], done['bytes_freed']), ('summary', plan['bytes_freed']))
        self.assert_whole({second: disks})


class AsRestic(cases.Case):
    """The same backups, the same rules: what restic keeps we keep."""

    def setUp(self):
        super().setUp()
        self.restic('init', '--repository-version', '2')
        self.run_it(cases.TOOL, 'cheap', self.repo)

    def compare(self, *rules, zones=('UTC',)):
        """restic groups by paths; each of our sets has its own."""
        for zone in zones:
            env = {'TZ': zone}
            groups = json.loads(self.restic('forget', '--dry-run', '--json', '--tag', 'kvss',
                                            '--group-by', 'paths', *rules, env=env).splitlines()[0])
            theirs = sorted(s['id'] for g in groups for s in g['keep'] or [])
            said = self.kvss_json('forget', '--dry-run', '--group-by', 'set', '--allow-remove-all',
                                  *rules, env=env)
            ours = sorted(b['id'] for b in said['kept'])
            self.assertEqual(ours, theirs, '%s in %s' % (' '.join(rules), zone))

    def test_all(self):
        zones = ('UTC', 'America/New_York', 'Europe/Berlin', 'Pacific/Apia')
        r = random.Random(5)
        times = [
            ('UTC', t) for t in (
                '2023-12-31 23:59:59', '2024-01-01 00:00:00',   # a year ends in week 52, and begins
                '2024-12-29 12:00:00', '2024-12-30 12:00:00',   # week 1 of 2025 begins in 2024
                '2021-01-03 12:00:00', '2021-01-04 12:00:00',   # week 53 of 2020
                '2024-02-29 10:00:00', '2024-03-31 10:00:00', '2024-10-31 10:00:00')
        ] + [
            ('America/New_York', t) for t in (
                '2024-03-10 01:30:00', '2024-03-10 03:30:00',   # there is no 2:30
                '2024-11-03 00:30:00', '2024-11-03 01:30:00', '2024-11-03 02:30:00')
        ] + [
            ('Europe/Berlin', t) for t in (
                '2024-03-31 01:59:59', '2024-03-31 03:00:00', '2024-10-27 02:30:00',
                '2024-10-28 00:10:00', '2024-10-31 23:50:00', '2024-11-01 00:10:00')
        ] + [('Pacific/Apia', '2011-12-29 23:00:00'), ('Pacific/Apia', '2011-12-31 01:00:00')]
        start = datetime.datetime(2024, 5, 1)
        for _ in range(25):
            moment = start + datetime.timedelta(minutes=r.randrange(200 * 24 * 60))
            times.append((r.choice(zones), moment.strftime('%Y-%m-%d %H:%M:%S')))
        for n, (zone, time) in enumerate(times):
            options = ['--tag', 'gold'] if n % 7 == 0 else []
            options += ['--tag', 'old,gold'] if n % 11 == 0 else []
            self.restic_backup({'web': b'x'}, '--time', time, *options, env={'TZ': zone})
        for rule in ('last', 'hourly', 'daily', 'weekly', 'monthly', 'yearly'):
            for count in ('1', '3', '100'):
                self.compare('--keep-' + rule, count, zones=zones[:2])
        for span in ('1h', '1d', '30d', '1m', '2m3d5h', '8m', '1y', '3y'):
            self.compare('--keep-within', span, zones=zones)
        for tags in ('gold', 'old', 'gold,old', 'none'):
            self.compare('--keep-tag', tags)
        self.compare('--keep-tag', 'old', '--keep-tag', 'gold')
        self.compare('--keep-last', '2', '--keep-daily', '4', '--keep-weekly', '3',
                     '--keep-monthly', '5', '--keep-yearly', '9', '--keep-within', '10d', zones=zones)

    def test_some_sets(self):
        r = random.Random(6)
        for n in range(16):
            vms = r.choice((['web'], ['db'], ['db', 'web']))
            self.restic_backup({vm: b'x' for vm in vms}, '--time', '2024-04-%02d 10:00:00' % (n + 1))
        self.compare('--keep-last', '2')
        self.compare('--keep-weekly', '1', '--keep-daily', '2')


if __name__ == '__main__':
    cases.main(['Forget', 'AsRestic'])
