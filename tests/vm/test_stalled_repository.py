"""A repository that stands still while a running guest is backed up: the guest neither waits for it nor loses by it.

Once it lies on a file system of its own, which fsfreeze stops: every write and sync of kvss hangs in the kernel, and not
even SIGKILL reaches it, as on an NFS server that is gone or a disk that does not answer. Once it lies behind a server
that takes no more bytes.
"""
import contextlib
import os
import shutil
import signal
import time
import unittest

from kvsslab import Disk, LabCase, LabError, files_below, run, wait_until
from rclone import Rclone

MIB = 1 << 20
CONTENT_MIB = 160
GAP_MS = 8000       # what other tests allow a guest on a busy machine; a stall is longer
STALL_S = 12


class StallCase(LabCase):
    """What both kinds share: the guest, and how it fares."""

    def packs_begun(self):
        raise NotImplementedError

    def rate(self, seconds):
        """Synced writes a second that the guest gets done."""
        first, begin = self.web.seq(), time.monotonic()
        time.sleep(seconds)
        return (self.web.seq() - first) / (time.monotonic() - begin)

    def assertNoGaps(self, console):
        for gap, number in self.web.gaps(console):
            self.assertLess(gap, GAP_MS, "the guest stood still at %d" % number)

    def overwrite(self, mib, pause_us):
        """The guest writes over what it has: the old content must go somewhere, and it cannot go to the repository."""
        self.web.sh("rm -f /run/written; (i=0; while [ $i -lt %d ]; do dd if=/dev/zero of=/mnt/vda/content bs=1M seek=$i count=1 "
                    "conv=notrunc,fsync 2> /dev/null || break; i=$((i+1)); echo $i > /run/written; usleep %d; done) "
                    "> /dev/null 2>&1 &" % (mib, pause_us))

    def written(self):
        return int(self.web.sh("cat /run/written 2> /dev/null || echo 0"))

    def goes_on(self, before, running):
        """The guest writes on at its own speed while the repository stands still."""
        console = len(self.web.serial())
        self.overwrite(24, 100000)
        during = self.rate(STALL_S)
        self.assertTrue(running.is_running(), str(running.result()))
        wait_until("the guest's own writes", lambda: self.written() == 24)
        self.assertEqual(self.web.state(), "running")
        self.assertNoGaps(console)
        print("synced writes a second: %.1f before, %.1f while the repository stood still" % (before, during))
        self.assertGreater(during, before / 10)      # where it waits for the repository it gets nothing done

    def ends_well(self, running):
        self.assertExit(running.wait(), 0)
        self.assertExit(self.kvss("verify", "--read-data"), 0)
        self.assertTrue(self.web.writes())
        self.assertNothingLeft()


class Stalled(StallCase):
    cost = 90

    @classmethod
    def make(cls):
        cls.store = cls.mount("store", 640)
        cls.scratch = cls.mount("scratch", 400)
        with open(cls.lab.path("kvss.conf"), "w") as file:
            file.write("[defaults]\nscratch-dir = %s\n" % cls.scratch)
        cls.web = cls.lab.guest("web", disks=[Disk("vda", size_mib=256, content_kib=CONTENT_MIB << 10)]).define().start()

    @classmethod
    def mount(cls, name, size_mib):
        """A file system of its own."""
        image, folder = cls.lab.path(name + ".img"), cls.lab.path(name)
        with open(image, "wb") as file:
            file.truncate(size_mib * MIB)
        run("mkfs.ext4", "-q", "-F", image)
        os.mkdir(folder)
        run("mount", "-o", "loop", image, folder)
        cls.addClassCleanup(run, "umount", "-l", folder)
        return folder

    def setUp(self):
        """What a repository has already would not be written again."""
        self.kvss.repository = "%s/%s" % (self.store, self._testMethodName)
        self.kvss.init()

    def left(self):
        return [path for path in super().left() if os.path.basename(path) != "lost+found"]

    def packs_begun(self):
        """Locks and other small files are made there, too."""
        with contextlib.suppress(FileNotFoundError):
            return [entry.name for entry in os.scandir(self.kvss.repository + "/tmp") if entry.stat().st_size > MIB]
        return []

    def thaw(self):
        if self.is_frozen:
            self.is_frozen = False
            run("fsfreeze", "-u", self.store)

    def start_stalled(self, *options, **more):
        """A backup that has begun to copy, and a repository that stands still from then on."""
        running = self.kvss.start("backup", "web", *options, **more)
        wait_until("a pack that is written", self.packs_begun, 60, 0.005)
        self.is_frozen = True
        self.addCleanup(self.thaw)
        run("fsfreeze", "-f", self.store)
        return running

    def test_guest_goes_on(self):
        """The guest writes on at its own speed for as long as the repository stalls; then the backup ends well."""
        before = self.rate(3)
        running = self.start_stalled(env={"KVSS_CONFIG": self.lab.path("kvss.conf")})
        self.goes_on(before, running)
        self.thaw()
        self.ends_well(running)

    def test_scratch_fills_meanwhile(self):
        """It stalls for so long that the scratch area fills: the jobs are ended at once, the guest never stops, the message says why."""
        running = self.start_stalled(env={"KVSS_CONFIG": self.lab.path("kvss.conf")})
        console = len(self.web.serial())
        self.assertIsNotNone(self.web.job())
        # Room for every disk was demanded at the beginning; somebody else has taken it meanwhile.
        filler = self.scratch + "/filler"
        self.addCleanup(lambda: os.path.exists(filler) and os.unlink(filler))
        run("fallocate", "-l", str(shutil.disk_usage(self.scratch).free - 80 * MIB), filler)
        self.overwrite(CONTENT_MIB, 20000)

        def is_job_over():
            self.assertEqual(self.web.state(), "running", "the guest was stopped")
            with contextlib.suppress(LabError):
                return self.web.job() is None
        wait_until("the end of the job, the repository still frozen", is_job_over, 120, 0.2)
        self.assertTrue(self.is_frozen)
        wait_until("all of the guest's writes", lambda: self.written() == CONTENT_MIB, 120)
        self.assertEqual(self.web.state(), "running")
        self.assertNoGaps(console)
        self.assertEqual(self.web.mismatches(), [])
        self.thaw()
        result = running.wait()
        self.assertFailed(result, 1, "scratch", "web", "nearly full")
        self.assertTrue(self.web.writes())
        os.unlink(filler)
        self.assertNothingLeft()
        self.backup("web")


@unittest.skipUnless(shutil.which("rclone"), "rclone is not installed")
class StalledServer(StallCase):
    cost = 60

    @classmethod
    def make(cls):
        cls.store = cls.lab.path("store")
        os.mkdir(cls.store)
        server = Rclone(cls.store)
        cls.server = server.process
        cls.addClassCleanup(server.stop)
        cls.addClassCleanup(cls.server.kill)    # reaches it stopped, too
        cls.kvss.repository = "rest:%s/" % server.url
        cls.kvss.init()
        cls.web = cls.lab.guest("web", disks=[Disk("vda", size_mib=256, content_kib=CONTENT_MIB << 10)]).define().start()

    def packs_begun(self):
        return [path for path in files_below(self.store + "/data") if os.path.getsize(path) > MIB]

    def test_guest_goes_on(self):
        """A server that takes no more bytes holds up kvss and nobody else."""
        before = self.rate(3)
        running = self.kvss.start("backup", "web")
        wait_until("a pack that arrives", self.packs_begun, 60, 0.005)
        self.server.send_signal(signal.SIGSTOP)
        self.goes_on(before, running)
        self.server.send_signal(signal.SIGCONT)
        self.ends_well(running)
