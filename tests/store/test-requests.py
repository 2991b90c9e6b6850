#!/usr/bin/env python3
"""What a command asks a server for: each snapshot once, however many of its parts want to know it.

usage: as cases.py says. Needs rclone; without it all is skipped.
"""
import os
import shutil
import sys
import unittest

import cases
from cases import DAMAGED, DONE, noise

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'lib'))
from faultproxy import FaultProxy  # noqa: E402
from rclone import Rclone  # noqa: E402


@unittest.skipUnless(shutil.which('rclone'), 'needs rclone')
class Requests(cases.Case):
    def setUp(self):
        super().setUp()
        os.mkdir(self.path('served'))
        self.repo = self.path('served', 'r')
        self.env.update(KVSS_REPOSITORY=self.repo, LC_ALL='C', no_proxy='*')
        self.init()
        self.sets = [self.backup({'web': noise(n, 300000), 'db': noise(9, 70000)}) for n in range(3)]

    def lose_something(self):
        """A byte of the first set's data: the repair writes a note, which is a snapshot of its own."""
        path = max(self.files('data'), key=os.path.getsize)
        os.chmod(path, 0o600)
        with open(path, 'r+b') as f:
            f.seek(1000)
            byte = f.read(1)
            f.seek(1000)
            f.write(bytes([byte[0] ^ 1]))
        self.kvss('repair', '--read-data', code=DAMAGED)

    def serve(self):
        server = Rclone(self.path('served'))
        self.addCleanup(server.stop)
        self.proxy = FaultProxy(server.port)
        self.proxy.__enter__()
        self.addCleanup(self.proxy.__exit__)
        self.env['KVSS_REPOSITORY'] = 'rest:http://127.0.0.1:%d/r/' % self.proxy.port

    def assert_read_once(self, *words, code=DONE):
        self.proxy.forget()
        self.kvss(*words, code=code)
        for snapshot in self.ids():
            asked = self.proxy.asked('GET', '/snapshots/' + snapshot)
            self.assertEqual(len(asked), 1, (words, snapshot))

    def every_command(self, code):
        first = self.sets[0][:8]
        self.assert_read_once('list', 'backups')
        self.assert_read_once('list', 'backups')  # now that this host knows the sets
        self.assert_read_once('show', first)
        self.assert_read_once('verify', code=code)
        self.assert_read_once('verify', first, self.sets[1][:8], self.sets[2][:8], code=code)
        self.assert_read_once('forget', '--dry-run', '--keep-last', '1')
        self.assert_read_once('prune', '--dry-run', code=code)

    def test_of_sound_sets(self):
        self.serve()
        self.every_command(DONE)

    def test_beside_a_note_of_lost_data(self):
        self.lose_something()
        self.assertEqual(len(self.ids()), 4)
        self.serve()
        self.every_command(DAMAGED)

    def test_what_another_removed_is_not_shown(self):
        """What this host knows of a set does not say that it is there."""
        self.serve()
        self.kvss('list', 'backups')
        gone = self.sets.pop()
        os.unlink(os.path.join(self.repo, 'snapshots', gone))
        listed = self.kvss('list', 'backups')
        self.assertNotIn(gone[:8], listed)
        self.assertIn(self.sets[0][:8], listed)


if __name__ == '__main__':
    cases.main(['Requests'])
