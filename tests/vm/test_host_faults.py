"""Two databases of the host in one restore, and one of them does not come up: the other one is not pulled from under its users."""
import contextlib
import os
import signal

from kvsslab import LabCase, LabError, process_children, wait_until

# A "database": its process runs while the file "up" is there, and notes every event with what its data are then.
WRITER = """#!/usr/bin/python3
import json, os, sys
HOME, ID = %r, %r
event = sys.argv[1]
given = json.load(sys.stdin)
def path(name):
    return os.path.join(HOME, name)
def read(name):
    return open(path(name)).read() if os.path.exists(path(name)) else None
if event == "identify":
    print(json.dumps({"version": 1, "id": ID, "name": os.path.basename(HOME),
                      "components": [{"name": "data", "files": [{"path": path("data"), "filespec": "*", "recursive": True}]}]}))
    sys.exit(0)
status = ",".join(c.get("restore_status", "") for c in given.get("components", []))
with open(path("log"), "a") as log:
    log.write("%%s %%s %%s\\n" %% (event, status or "-", read("data/rows")))
if read("refuse") == event and (os.path.exists(path("up")) if event == "pre-restore" else status == "all"):
    sys.exit(os.path.basename(HOME) + " says no")
if event == "pre-restore" and os.path.exists(path("up")):
    os.unlink(path("up"))
if event == "post-restore":
    open(path("up"), "w").write(read("data/rows"))
"""


class TwoWriters(LabCase):
    cost = 30

    @classmethod
    def make(cls):
        super().make()
        cls.writers = cls.lab.path("writers.d")
        os.mkdir(cls.writers, 0o755)
        for number, name in enumerate(("first", "second")):
            os.makedirs(cls.home(name, "data"))
            with open(os.path.join(cls.writers, name), "w") as file:
                file.write(WRITER % (cls.home(name), "0d5dfb5e-5f0e-4a39-8a5c-6a1c2a3a7e%02d" % number))
            os.chmod(os.path.join(cls.writers, name), 0o755)
        cls.kvss.env = {"KVSS_WRITERS_DIR": cls.writers}

    @classmethod
    def home(cls, name, *path):
        return os.path.join(cls.lab.path(name), *path)

    def put(self, name, what, text):
        with open(self.home(name, what), "w") as file:
            file.write(text)

    def read(self, name, what):
        with open(self.home(name, what)) as file:
            return file.read()

    def setUp(self):
        super().setUp()
        for name in ("first", "second"):
            for path in os.listdir(self.home(name, "data")):
                os.unlink(self.home(name, "data", path))
            for what in ("log", "refuse", "up"):
                if os.path.exists(self.home(name, what)):
                    os.unlink(self.home(name, what))
            self.put(name, "data/rows", "then")
        self.backup("first:data", "second:data")
        for name in ("first", "second"):
            self.put(name, "data/rows", "now")
            self.put(name, "log", "")

    def told(self, name):
        return self.read(name, "log").splitlines()

    def files(self, name):
        return {path: self.read(name, "data/" + path) for path in sorted(os.listdir(self.home(name, "data")))}

    def restore_fails(self, *words):
        result = self.kvss("restore", "latest", "first:data", "second:data", "--yes")
        self.assertFailed(result, 1, *words)
        return result

    def assertAsBefore(self):
        for name in ("first", "second"):
            self.assertEqual(self.files(name), {"rows": "now"})
        self.assertNothingLeft()

    def test_both_come_up(self):
        self.assertExit(self.kvss("restore", "latest", "--yes"), 0)
        for name in ("first", "second"):
            self.assertEqual(self.files(name), {"rows": "then"})
            self.assertEqual(self.told(name), ["pre-restore - now", "post-restore all then"])
        self.assertNothingLeft()

    def test_second_refuses(self):
        """The first one runs on its new file: it is stopped, gets the old one, and is started on that."""
        self.put("second", "refuse", "post-restore")
        self.restore_fails("second says no")
        self.assertEqual(self.told("first"), ["pre-restore - now", "post-restore all then", "pre-restore - then", "post-restore none now"])
        self.assertEqual(self.read("first", "up"), "now", "it was started on a file that is gone")
        self.assertEqual(self.told("second")[:2], ["pre-restore - now", "post-restore all then"])
        self.assertNotIn("pre-restore - then", self.told("second"), "it has never begun to use it")
        self.assertAsBefore()

    def test_first_does_not_stop(self):
        """It keeps what it runs on, the old file is kept beside it, and that is said, once."""
        self.put("second", "refuse", "post-restore")
        self.put("first", "refuse", "pre-restore")
        result = self.restore_fails("second says no", "first:data", "does not stop using the restored files", "first says no")
        self.assertEqual(self.told("first"), ["pre-restore - now", "post-restore all then", "pre-restore - then"])
        self.assertEqual(self.read("first", "up"), "then")
        self.assertEqual(self.files("second"), {"rows": "now"})
        self.assertEqual(sorted(self.files("first").values()), ["now", "then"], str(result))
        self.assertEqual(self.files("first")["rows"], "then")
        self.assertNothingLeft()
        self.assertEqual(self.kvss("doctor").document["left"], [])

    # --- killed between the first one's PostRestore and the point of no return

    def kill_when(self, victims, is_there, before=lambda: None):
        """A restore, stopped at each step of its journal until is_there() holds; then before(), and killed there."""
        for number in range(24, 60):     # what is before is no PostRestore yet
            running = self.kvss.start("restore", "latest", "--yes", env={"KVSS_TEST_STALL": "step-%d:60" % number})
            self.addCleanup(running.process.kill)

            def stands(running=running, number=number):
                return "standing still at 'step-%d'" % number in running.result().stderr or not running.is_running()
            wait_until("step %d" % number, stands, 60, 0.02)
            self.assertTrue(running.is_running(), "there is no such step: %s" % running.result())
            found = is_there()
            if found:
                before()
            pids = [running.process.pid] + (process_children(running.process.pid) if victims == "both" else [])
            for sign in (signal.SIGSTOP, signal.SIGKILL):
                for pid in pids:
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, sign)
            running.process.wait()
            if found:
                return
            self.assertExit(self.kvss("doctor"), 0)
            for name in ("first", "second"):
                self.assertEqual(self.files(name), {"rows": "now"}, "killed at step %d" % number)
                self.put(name, "log", "")
        raise LabError("the step never came")

    def both_run(self):
        return all("post-restore all then" in self.told(name) for name in ("first", "second"))

    def test_killed_with_both_running(self):
        for victims in ("kvss", "both"):
            self.kill_when(victims, self.both_run)
            self.assertExit(self.kvss("doctor"), 0)
            for name in ("first", "second"):
                self.assertEqual(self.told(name), ["pre-restore - now", "post-restore all then", "pre-restore - then", "post-restore none now"])
                self.assertEqual(self.read(name, "up"), "now")
                self.put(name, "log", "")
            self.assertAsBefore()

    def test_killed_and_one_does_not_stop(self):
        for victims in ("both", "kvss"):
            self.kill_when(victims, self.both_run, lambda: self.put("first", "refuse", "pre-restore"))
            doctor = self.kvss("doctor")
            self.assertExit(doctor, 3)
            self.assertEqual(len(doctor.document["left"]), 1, str(doctor))
            self.assertIn("it keeps the restored files", doctor.document["left"][0])
            self.assertEqual(sorted(self.files("first").values()), ["now", "then"])
            self.assertEqual(self.files("first")["rows"], "then")
            self.assertEqual(self.files("second"), {"rows": "now"})
            self.assertEqual(self.told("second")[-1], "post-restore none now")
            self.assertNothingLeft()
            self.assertExit(self.kvss("doctor"), 0)
            self.setUp()
