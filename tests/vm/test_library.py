"""Programs of others on the installed library, with real guests."""
import contextlib
import os
import re
import signal
import subprocess
import unittest

from installed import Installed
from kvsslab import KVSS, TOP, Disk, Image, LabCase, Running, wait_until

# Makes the installed copy lie where it was made for, for this program and its guardian alone.
IN_PLACE = 'mount --bind "$1" "$2" && shift 2 && exec "$@"'


class Library(LabCase):
    cost = 90

    @classmethod
    def make(cls):
        super().make()
        build = os.path.dirname(KVSS)
        if not os.path.exists(build + "/meson-info"):
            raise unittest.SkipTest("%s is no build folder to install from" % build)
        cls.copy = Installed(build, cls.lab.folder)
        for name in ("examples/requester", "examples/writer", "tests/library/own-store"):
            cls.copy.build(["%s/%s.c" % (TOP, name)], cls.lab.path(os.path.basename(name)))
        cls.log = cls.lab.path("application.log")
        cls.web = cls.lab.guest("web", disks=[Disk("vda"), Disk("vdb", form="raw")]).define().start()

    def example(self, name, *arguments, env=None):
        return self.program(name, self.kvss.repository, *arguments, env=env)

    def program(self, name, *arguments, env=None):
        """Starts a program that finds nothing of the build folder."""
        prefix = self.copy.prefix[len(self.copy.destdir):]
        env = self.kvss.environment(dict(env or {}, LD_LIBRARY_PATH=self.copy.libdir))
        env.pop("KVSS_GUARDIAN", None)
        command = [self.lab.path(name), *arguments]
        if prefix not in ("/", "/usr") and os.path.isdir(prefix):
            command = ["unshare", "--mount", "sh", "-c", IN_PLACE, "sh", self.copy.prefix, prefix, *command]
        else:
            env["KVSS_GUARDIAN"] = self.copy.guardian
        return Running(command, env)

    def ids(self):
        return {b["id"]: b["vms"] for b in self.kvss.backups()}

    def assertUnharmed(self):
        self.assertEqual(self.web.state(), "running")
        self.assertTrue(self.web.writes(), "the guest does not write")
        self.assertFalse(self.web.is_frozen())
        self.assertNothingLeft()

    @contextlib.contextmanager
    def application(self, script):
        """Somebody who works with the log."""
        open(self.log, "a").close()
        process = subprocess.Popen(["sh", "-c", script, self.log], stdin=subprocess.DEVNULL, start_new_session=True)
        try:
            yield
        finally:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    @staticmethod
    def events(result):
        """[(event, who, code), ...]"""
        return re.findall(r"^(\w+): (.+): (\w+)$", result.stdout, re.M)

    # --- the requester

    def test_requester(self):
        """It backs up a VM; kvss lists, verifies and shows what it made."""
        result = self.example("requester", "web").wait()
        self.assertEqual(result.rc, 0, str(result))
        self.assertIn("web: child-snapshot\n", result.stdout)
        backup = re.search(r"^backup ([0-9a-f]{64})$", result.stdout, re.M)[1]
        self.assertEqual(self.ids()[backup], ["web"])
        self.assertExit(self.kvss("verify", "--read-data"), 0)
        self.assertUnharmed()

    def test_requester_knows_no_such_vm(self):
        """A VM that is not there is named; nothing is stored."""
        before = self.ids()
        result = self.example("requester", "nobody").wait()
        self.assertEqual(result.rc, 1, str(result))
        self.assertIn("nobody", result.stderr)
        self.assertEqual(self.ids(), before)

    def test_requester_dies(self):
        """It is killed while the guest is frozen: the guardian of the installed library thaws it."""
        before = self.ids()
        running = self.example("requester", "web", env={"KVSS_TEST_STALL": "frozen:60"})
        self.addCleanup(running.process.kill)
        wait_until("frozen", lambda: not running.is_running() or self.web.is_frozen(), 60)
        self.assertTrue(running.is_running(), str(running.result()))
        running.signal(signal.SIGKILL)
        running.wait()
        wait_until("thawed", lambda: not self.web.is_frozen())
        self.assertEqual(self.ids(), before)        # the next command: also takes the dead one's lock away
        self.assertUnharmed()

    # --- a requester with a store of its own

    def own_store(self, *arguments, env=None):
        folder = self.lab.path("store")
        os.makedirs(folder, exist_ok=True)
        return folder, self.program("own-store", "/var/lib/kvss", folder, *arguments, env=env)

    def test_own_store(self):
        """What it reads from the shadow copies are the guest's disks, of one instant and clean."""
        folder, running = self.own_store("web")
        result = running.wait()
        self.assertEqual(result.rc, 0, str(result))
        self.assertEqual(result.stdout, "web: child-snapshot\n")
        numbers = []
        for disk in self.web.disks:
            image = Image("%s/%s.raw" % (folder, disk.target), "raw")
            self.assertEqual(image.fs_state(), "clean", disk.target)
            self.assertEqual(image.cat("/content"), disk.content(), disk.target)
            numbers.append(image.seq())
            os.unlink(image.path)
        self.assertIn(numbers[0] - numbers[1], (0, 1), numbers)
        self.assertGreater(numbers[1], 0)
        self.assertUnharmed()

    def test_own_store_dies(self):
        """It is killed while the guest is frozen, like any other."""
        _, running = self.own_store("web", env={"KVSS_TEST_STALL": "frozen:60"})
        self.addCleanup(running.process.kill)
        wait_until("frozen", lambda: not running.is_running() or self.web.is_frozen(), 60)
        self.assertTrue(running.is_running(), str(running.result()))
        running.signal(signal.SIGKILL)
        running.wait()
        wait_until("thawed", lambda: not self.web.is_frozen())
        self.assertUnharmed()

    def test_own_store_without_run(self):
        """Without journal and guardian the VM writer touches nothing."""
        _, running = self.own_store("web", env={"OWN_STORE_WITHOUT_RUN": "1"})
        result = running.wait()
        self.assertEqual(result.rc, 1, str(result))
        self.assertIn("has no run", result.stderr)
        self.assertUnharmed()

    # --- the writer

    def test_writer_beside_a_vm(self):
        """Its log and the VM are one set; it stands still around the cut, and ends with a whole entry."""
        with self.application('while :; do flock "$0" -c "echo begin >> $0; sleep 0.1; echo end >> $0"; sleep 0.05; done'):
            wait_until("entries", lambda: os.path.getsize(self.log) > 30)
            result = self.example("writer", self.log, "web").wait()
            size = os.path.getsize(self.log)
            wait_until("entries after the set", lambda: os.path.getsize(self.log) > size)
        self.assertEqual(result.rc, 0, str(result))
        backup = result.stdout.split()[-1]
        self.assertEqual(self.ids()[backup], ["web"])
        self.assertEqual([b["components"] for b in self.kvss.backups() if b["id"] == backup], [["log"]])
        events = self.events(result)
        self.assertEqual({code for _, _, code in events}, {"S_OK"}, events)
        mine = [event for event, who, _ in events if who == "Example log writer"]
        self.assertEqual(mine, ["Identify", "PrepareForBackup", "PrepareForSnapshot", "Freeze", "Thaw", "PostSnapshot",
                                "BackupComplete"])
        at = {event: number for number, (event, who, _) in enumerate(events) if who in ("Example log writer", "qemu")}
        self.assertEqual(sorted(["Freeze", "CommitSnapshots", "Thaw", "DeleteSnapshots"], key=at.get),
                         ["Freeze", "CommitSnapshots", "Thaw", "DeleteSnapshots"], events)
        self.assertRegex(self.kvss.restic("dump", backup, "/host/log/log"), r"\A(begin\nend\n)+\Z")
        self.assertExit(self.kvss("verify", "--read-data"), 0)
        self.assertUnharmed()

    def test_writer_refuses(self):
        """It refuses Freeze: nothing of the set is in the repository, and the VM runs on."""
        before = self.ids()
        with self.application('flock "$0" -c "echo held >> $0; sleep 60"'):
            wait_until("the lock", lambda: os.path.exists(self.log) and subprocess.run(
                ["flock", "-n", self.log, "true"]).returncode == 1)
            result = self.example("writer", self.log, "web").wait()
        self.assertEqual(result.rc, 1, str(result))
        self.assertIn("is in use", result.stdout)
        events = self.events(result)
        self.assertIn(("Freeze", "Example log writer", "VSS_E_WRITERERROR_TIMEOUT"), events)
        self.assertNotIn("CommitSnapshots", [event for event, _, _ in events])
        self.assertEqual(self.ids(), before)
        self.assertUnharmed()
