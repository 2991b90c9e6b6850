"""kvss dies or hangs in every window: the guest is thawed in time, and the next command finds nothing or takes it away."""
import os
import signal
import time

from kvsslab import Disk, LabCase, process_children, wait_until

FREEZE_LIMIT = 10       # seconds, the default


class GuardianCase(LabCase):

    @classmethod
    def make(cls):
        super().make()
        cls.web = cls.lab.guest("web", disks=[Disk("vda"), Disk("vdb")]).define().start()

    def start_and_reach(self, point, *arguments, **options):
        return super().start_and_reach(point, *(arguments or ("backup", "web")), **options)

    def assertGapBelow(self, console, seconds):
        self.assertTrue(self.web.writes(), "the guest does not write")
        gaps = self.web.gaps(console)
        for gap, number in gaps:
            self.assertLess(gap, seconds * 1000, "the guest stood still at %d: %s" % (number, gaps))
        return gaps

    def assertNextCommandCleansUp(self):
        """The command after a killed one leaves nothing of it: no job, no file, no lock, no half set."""
        self.assertExit(self.kvss("list", "backups"), 0)
        self.assertNothingLeft()
        self.assertEqual(self.kvss.restic("list", "locks", "--no-lock").strip(), "", "a lock lies in the repository")
        self.kvss.restic("check")
        self.backup_frozen("web")
        self.assertNothingLeft()


class Killed(GuardianCase):
    cost = 90

    def killed_at(self, point):
        before = len(self.kvss.backups())
        console = len(self.web.serial())
        running = self.start_and_reach(point)
        running.signal(signal.SIGKILL)
        running.process.wait()
        self.assertGapBelow(console, FREEZE_LIMIT - 1)      # not when the limit had passed, but when kvss died
        wait_until("running", lambda: self.web.state() == "running")
        wait_until("thawed", lambda: not self.web.is_frozen())
        self.assertEqual(self.web.mismatches(), [])
        self.assertEqual(len(self.kvss.backups()), before, "a set that was not committed is listed")
        self.assertNextCommandCleansUp()

    def test_frozen(self):
        self.killed_at("frozen")

    def test_cut(self):
        self.killed_at("cut")

    def test_copy(self):
        self.killed_at("copy")

    def test_commit(self):
        self.killed_at("commit")

    def test_terminated_politely(self):
        """SIGTERM and SIGINT end a run at once, with everything undone."""
        for number in (signal.SIGTERM, signal.SIGINT):
            running = self.start_and_reach("copy")
            running.interrupt(number)
            running.let_go()
            result = running.wait(30)
            self.assertIn(result.rc, (130, 128 + number, -number), str(result))
            self.assertTrue(self.web.writes())
            self.assertNothingLeft()


class KilledSaving(GuardianCase):
    """The same, while a VM stands still because it is being saved."""
    cost = 45

    def test_still(self):
        running = self.start_and_reach("still", "backup", "web", "--method", "saved-state")
        self.assertEqual(self.web.state(), "paused")
        running.signal(signal.SIGKILL)
        running.process.wait()
        wait_until("resumed", lambda: self.web.state() == "running")
        self.assertTrue(self.web.writes())
        self.assertEqual(self.web.mismatches(), [])
        self.assertNextCommandCleansUp()

    def test_still_and_paused_before(self):
        self.web.pause()
        try:
            running = self.start_and_reach("still", "backup", "web")
            running.signal(signal.SIGKILL)
            running.process.wait()
            self.assertExit(self.kvss("list", "backups"), 0)
            self.assertEqual(self.web.state(), "paused", "a paused VM was resumed")
            self.assertNothingLeft()
        finally:
            self.web.resume()
        self.assertTrue(self.web.writes())
        self.assertEqual(self.web.mismatches(), [])


    def test_killed_while_libvirt_saves(self):
        """libvirt carries the save to its end; the VM must not be left saved that was paused."""
        self.web.pause()
        try:
            running = self.kvss.start("backup", "web")
            self.addCleanup(running.process.kill)
            wait_until("the save", lambda: os.path.exists(self.web.save_path()), 60, every=0.005)
            running.signal(signal.SIGKILL)
            running.process.wait()
            self.assertExit(self.kvss("doctor"), 0)
            self.assertEqual(self.web.state(), "paused")
            self.assertNothingLeft()
        finally:
            self.web.resume()
        self.assertTrue(self.web.writes())
        self.assertEqual(self.web.mismatches(), [])


class Stopped(GuardianCase):
    """SIGSTOP: nothing dies and no pipe closes, so it is the guardian's clock that counts."""
    cost = 60

    def stopped_at(self, point):
        console = len(self.web.serial())
        running = self.start_and_reach(point)
        running.signal(signal.SIGSTOP)
        time.sleep(0.2)
        wait_until("thaw by the guardian", lambda: self.web.writes(0.5), 60)
        self.assertGapBelow(console, FREEZE_LIMIT + 5)
        running.signal(signal.SIGKILL)
        running.process.wait()
        wait_until("thawed", lambda: not self.web.is_frozen())
        self.assertNextCommandCleansUp()

    def test_frozen(self):
        self.stopped_at("frozen")

    def test_cut(self):
        self.stopped_at("cut")

    def test_woken_too_late(self):
        """Stopped beyond the limit and continued: the instant is not consistent any more, so the set fails."""
        before = len(self.kvss.backups())
        running = self.start_and_reach("frozen")
        running.signal(signal.SIGSTOP)
        running.let_go()
        wait_until("thaw by the guardian", lambda: self.web.writes(0.5), 60)
        running.signal(signal.SIGCONT)
        result = running.wait(60)
        self.assertFailed(result, 1, "web")
        self.assertEqual(len(self.kvss.backups()), before)
        self.assertTrue(self.web.writes())
        self.assertNothingLeft()


class BothKilled(GuardianCase):
    """kvss and its guardian die together, as in a crash of the machine that the guests survive: the journal is what is left."""
    cost = 60

    def both_killed_at(self, point, *arguments):
        running = self.start_and_reach(point, *arguments)
        children = process_children(running.process.pid)
        self.assertTrue(children, "there is no guardian")
        for pid in children:
            os.kill(pid, signal.SIGSTOP)
        running.signal(signal.SIGKILL)
        running.process.wait()
        for pid in children:
            os.kill(pid, signal.SIGKILL)

    def test_frozen(self):
        self.both_killed_at("frozen")
        self.assertFalse(self.web.writes(1), "nobody is there to thaw it")
        self.assertExit(self.kvss("list", "vms"), 0)
        self.assertTrue(self.web.writes(), "the next command did not thaw it")
        self.assertNextCommandCleansUp()

    def test_cut(self):
        self.both_killed_at("cut")
        self.assertExit(self.kvss("list", "vms"), 0)
        self.assertTrue(self.web.writes(), "the next command did not thaw it")
        self.assertNextCommandCleansUp()

    def test_still(self):
        self.both_killed_at("still", "backup", "web", "--method", "saved-state")
        self.assertExit(self.kvss("list", "vms"), 0)
        self.assertEqual(self.web.state(), "running")
        self.assertTrue(self.web.writes())
        self.assertNextCommandCleansUp()


class Beside(GuardianCase):
    """A second kvss beside a live run."""
    cost = 50

    @classmethod
    def make(cls):
        super().make()
        cls.db = cls.lab.guest("db", agent="no").define().start()

    def test_second_commands_disturb_nothing(self):
        self.backup("db")
        before = len(self.kvss.backups())
        running = self.start_and_reach("copy")
        self.assertIsNotNone(self.web.job())
        self.assertExit(self.kvss("list", "vms"), 0)
        self.assertExit(self.kvss("list", "backups"), 0)
        self.assertExit(self.kvss("explain", "db"), 0)
        self.assertExit(self.kvss("verify"), 0)
        self.assertEqual(self.backup("db").vm("db")["method"], "saved-state")
        self.assertIsNotNone(self.web.job(), "somebody ended the first run's job")
        running.let_go()
        result = running.wait()
        self.assertExit(result, 0)
        self.assertEqual(len(self.kvss.backups()), before + 2)
        self.kvss.restic("check", "--read-data")
        self.assertNothingLeft()

    def test_second_backup_of_the_same_vm(self):
        self.backup("web")
        before = len(self.kvss.backups())
        running = self.start_and_reach("copy")
        begin = time.monotonic()
        result = self.kvss("backup", "web")
        self.assertFailed(result, 1, "web")
        self.assertIn("in use by another run (backup, set ", result.stderr)
        self.assertIn("process %d)" % running.process.pid, result.stderr)
        self.assertIn("(VSS_E_SNAPSHOT_SET_IN_PROGRESS, 0x80042316)", result.stderr)
        self.assertEqual(result.error["hresult"], "0x80042316")
        self.assertFailed(self.kvss("restore", "latest", "web", "--yes"), 1, "web")
        self.assertLess(time.monotonic() - begin, 25, "it waited for libvirt's job lock")
        self.assertTrue(self.web.writes())
        running.let_go()
        self.assertExit(running.wait(), 0)
        self.assertEqual(len(self.kvss.backups()), before + 1)
        self.assertNothingLeft()


class RestoreKilled(GuardianCase):
    """A restore that is killed: the old VM is as it was, or the new one complete."""
    cost = 60

    def killed_at(self, point):
        letter = self.web.sh("head -c 5000 /dev/urandom > /mnt/vda/letter; sync; sha256sum /mnt/vda/letter")
        self.backup("web")
        self.web.sh("echo newer > /mnt/vda/letter; sync")
        newer = self.web.sh("sha256sum /mnt/vda/letter")
        secret = self.secret(self.web)
        running = self.start_and_reach(point, "restore", "latest", "web", "--yes")
        running.signal(signal.SIGKILL)
        running.process.wait()
        self.web.disconnect()
        self.assertExit(self.kvss("list", "vms"), 0)
        state = self.web.state()
        self.assertIn(state, ("running", "shut off"))
        if state == "running":      # rolled back, with its memory
            self.assertEqual(self.web.sh("cat /run/secret"), secret)
            self.assertEqual(self.web.sh("sha256sum /mnt/vda/letter"), newer)
            self.assertEqual(self.web.mismatches(), [])
        else:                       # carried to the end
            self.assertOneInstant(self.web)
            self.web.start()
            self.assertEqual(self.web.sh("sha256sum /mnt/vda/letter"), letter)
        self.assertTrue(self.web.writes())
        self.assertNothingLeft()

    def test_while_files_are_written(self):
        self.killed_at("restore-files")

    def test_before_it_is_defined(self):
        self.killed_at("restore-define")
