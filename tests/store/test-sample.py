#!/usr/bin/env python3
"""kvss verify --sample: what it reads, what it says of it, what it finds; and a list without its packs."""
import os
import subprocess

import cases
from cases import DAMAGED, USAGE, noise

MIB = 1 << 20


class Sample(cases.Case):
    def setUp(self):
        super().setUp()
        self.init()

    def fill(self, n):
        return [self.backup({'web': noise(i, MIB)}) for i in range(n)]

    def test_share_and_seed(self):
        self.fill(10)
        stored = sum(os.path.getsize(p) for p in self.files('data'))
        said = self.kvss_json('verify', '--sample', '30%', '--seed', '7')
        self.assertEqual((said['type'], said['seed'], said['bytes_stored']), ('summary', 7, stored))
        self.assertGreaterEqual(said['bytes_read'], 0.3 * stored)
        self.assertLess(said['bytes_read'], 0.3 * stored + 1.1 * MIB)
        self.assertEqual(self.kvss_json('verify', '--sample', '30%', '--seed', '7'), said)
        some = self.kvss_json('verify', '--sample', '2M')
        self.assertGreaterEqual(some['bytes_read'], 2 * MIB)
        self.assertLess(some['bytes_read'], 3.2 * MIB)
        everything = self.kvss_json('verify', '--sample', '1T')
        self.assertEqual(everything['bytes_read'], stored)
        self.assertRegex(self.kvss('verify', '--sample', '100%', '--seed', '9'),
                         r'10 backups looked at, 0 damaged; .* read of .* \(100\.0 %\), drawn with seed 9\n')

    def test_finds_what_it_reads(self):
        backups = self.fill(6)
        pack = max(self.files('data'), key=os.path.getsize)
        os.chmod(pack, 0o600)
        with open(pack, 'r+b') as file:
            file.seek(5000)
            byte = file.read(1)[0]
            file.seek(5000)
            file.write(bytes([byte ^ 1]))
        self.kvss('verify')                                 # the structure is as it was
        codes = set()
        for seed in range(1000):                            # packs have other names each time
            done = subprocess.run([cases.KVSS, 'verify', '--sample', '1', '--seed', str(seed)], env=self.env,
                                        stdout=subprocess.PIPE, stderr=subprocess.PIPE, check=False)
            codes.add(done.returncode)
            if done.returncode == DAMAGED:
                self.assertTrue(any(b.encode() in done.stdout for b in backups), done.stdout)
            if len(codes) == 2:
                break
        self.assertEqual(codes, {0, DAMAGED})               # one pack of six each time
        self.kvss('verify', '--sample', '100%', code=DAMAGED)

    def test_usage(self):
        for words in (['--sample', '0'], ['--sample', '0%'], ['--sample', '101%'], ['--sample', 'all'],
                      ['--sample', '5%', '--read-data'], ['--seed', '1'], ['--sample', '5%', '--seed', 'x'],
                      ['--sample', '5%', '--seed', '-1']):
            with self.subTest(words):
                self.kvss_fails(USAGE, 'verify', *words)

    def test_list_without_packs(self):
        """What a set holds is looked up once on a host."""
        self.fill(3)
        listed = self.kvss('list', 'backups')
        os.rename(self.repo + '/data', self.repo + '/away')
        os.mkdir(self.repo + '/data')
        self.assertEqual(self.kvss('list', 'backups'), listed)
        os.rmdir(self.repo + '/data')
        os.rename(self.repo + '/away', self.repo + '/data')
        self.assertEqual(self.kvss('list', 'backups', env={'KVSS_CACHE_DIR': self.path('other')}), listed)


if __name__ == '__main__':
    cases.main(['Sample'])
