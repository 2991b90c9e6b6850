"""Old backups of guests go, while the next one waits."""
from kvsslab import Disk, LabCase, wait_until

WAITING = "waiting, for up to 3600 s"


class Prune(LabCase):
    cost = 60

    @classmethod
    def make(cls):
        super().make()
        cls.web = cls.lab.guest("web", disks=[Disk("vda"), Disk("vdb", form="raw", kind="random", content_kib=9000)]).define().start()
        cls.off = cls.lab.guest("off", disks=[Disk("vda", kind="random", content_kib=5000)]).define()

    def test_a_backup_waits(self):
        """It touches no guest until prune has ended, says so once, and goes on; then the old one goes."""
        first = self.backup("web", "off").summary["backup_id"]
        prune = self.start_and_reach("prune-0", "prune")
        backup = self.kvss.start("backup", "web", "off")
        wait_until("the backup to wait", lambda: WAITING in backup.result().stderr, 60)
        self.assertTrue(self.web.writes())
        self.assertEqual(self.web.state(), "running")
        prune.let_go()
        self.assertExit(prune.wait(), 0)
        done = backup.wait()
        self.assertExit(done, 0)
        self.assertEqual(done.stderr.count(WAITING), 1, done.stderr)

        said = self.kvss("forget", "--keep-last", "1", "--prune")
        self.assertExit(said, 0)
        self.assertEqual([b["id"] for b in said.document["removed"]], [first])
        self.assertGreater(said.summary["blobs_used"], 0)
        self.assertEqual([b["id"] for b in self.kvss.backups()], [done.summary["backup_id"]])
        self.assertExit(self.kvss("verify", "--read-data"), 0)
        self.assertIn("no errors were found", self.kvss.restic("check", "--read-data"))
        wanted = self.off.disk("vda").hash()
        self.restore("latest", "off")
        self.assertEqual(self.off.disk("vda").hash(), wanted)
        self.assertNothingLeft()
