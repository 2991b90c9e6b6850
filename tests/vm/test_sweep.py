"""A backup killed at every moment, not only in the windows that have a name. Slow: ./check --sweep."""
import signal
import time

from kvsslab import Disk, LabCase, wait_until


class KilledAtAnyTime(LabCase):
    cost = 300
    sweep = True
    STEP = 0.08

    @classmethod
    def make(cls):
        super().make()
        cls.web = cls.lab.guest("web", disks=[Disk("vda"), Disk("vdb")]).define().start()
        cls.db = cls.lab.guest("db", agent="no").define().start()

    def test_killed_at_any_time(self):
        at = 0.02
        while True:
            with self.subTest(seconds=round(at, 2)):
                listed = len(self.kvss.backups())
                consoles = len(self.web.serial()), len(self.db.serial())
                running = self.kvss.start("backup", "web", "db")
                time.sleep(at)
                ended = not running.is_running()
                if not ended:
                    running.signal(signal.SIGKILL)
                running.process.wait()
                self.assertTrue(self.web.writes(), "web is left frozen")
                for guest, console in zip((self.web, self.db), consoles):
                    wait_until("%s runs" % guest.name, lambda: guest.state() == "running")
                    self.assertTrue(guest.writes())
                    self.assertEqual(guest.mismatches(), [])
                    for gap, _ in guest.gaps(console):
                        self.assertLess(gap, 3000)
                self.assertIn(len(self.kvss.backups()), (listed, listed + 1))
                self.assertNothingLeft()
                self.kvss.restic("check")
                self.assertEqual(self.kvss.restic("list", "locks", "--no-lock").strip(), "")
                if ended:
                    self.assertEqual(running.result().rc, 0)
                    return
            at += self.STEP
