"""A program of the host in one set with a VM: the SQLite example of the documentation, on a database that is written to all the time."""
import os
import shutil
import signal
import sqlite3
import threading
import time

from kvsslab import TOP, LabError, files_below, wait_until
from test_guardian import GuardianCase, process_children

EXAMPLE = TOP + "/examples/writers.d/sqlite"

PICKY = """#!/bin/sh
cat > /dev/null
case $1 in
identify) echo '{"version":1,"id":"3c1c5a52-6e0e-4f4c-a3f1-0f9f2f6a1d02","components":[{"name":"all"}]}';;
freeze) echo 'the accounts are being closed' >&2; exit 75;;
esac
"""


class Clerk(threading.Thread):
    """Writes row after row, each with what the one before it says; notes how long it had to wait."""

    def __init__(self, path):
        super().__init__(daemon=True)
        self.path = path
        self.rows = 0
        self.longest = 0.0
        self.is_over = False
        database = sqlite3.connect(path)
        database.execute("PRAGMA journal_mode=WAL")
        database.execute("CREATE TABLE IF NOT EXISTS book (n INTEGER PRIMARY KEY, total INTEGER, filler TEXT)")
        database.commit()
        database.close()

    def run(self):
        database = sqlite3.connect(self.path, timeout=120, isolation_level=None)
        while not self.is_over:
            begin = time.monotonic()
            database.execute("INSERT INTO book SELECT COALESCE(MAX(n), 0) + 1, COALESCE(SUM(n), 0), hex(randomblob(200)) FROM "
                             "(SELECT n FROM book ORDER BY n DESC LIMIT 100)")
            self.longest = max(self.longest, time.monotonic() - begin)
            self.rows += 1
            time.sleep(0.005)
        database.close()

    def writes(self, seconds=1.0):
        before = self.rows
        try:
            wait_until("a new row", lambda: self.rows > before + 1, seconds, 0.02)
            return True
        except LabError:
            return False


class HostWriters(GuardianCase):
    cost = 90

    @classmethod
    def make(cls):
        super().make()
        cls.writers = cls.lab.path("writers.d")
        os.mkdir(cls.writers, 0o755)
        shutil.copy(EXAMPLE, cls.writers + "/sqlite")
        os.chmod(cls.writers + "/sqlite", 0o755)
        os.mkdir(cls.lab.path("shop"))
        cls.database = cls.lab.path("shop/stock.db")
        with open(cls.lab.path("sqlite.list"), "w") as file:
            file.write("# of the test\ninventory %s\n" % cls.database)
        cls.kvss.env = {"KVSS_WRITERS_DIR": cls.writers}
        cls.clerk = Clerk(cls.database)
        cls.clerk.start()

    @classmethod
    def tearDownClass(cls):
        cls.clerk.is_over = True
        cls.clerk.join(10)
        super().tearDownClass()

    def assertNobodyHolds(self, seconds=5):
        self.assertTrue(self.clerk.writes(seconds), "the database is locked")
        self.assertEqual(files_below("/run/kvss-sqlite"), set(), "a holder is left")

    def test_one_set(self):
        before = self.clerk.rows
        self.clerk.longest = 0
        result = self.backup("--all")
        after = self.clerk.rows
        self.assertLess(self.clerk.longest, 10, "it waited longer than the cut may take")
        self.assertEqual(result.vm("web")["method"], "child-snapshot")
        self.assertNobodyHolds()
        self.assertNothingLeft()
        self.assertEqual(self.kvss.backups()[-1]["components"], ["sqlite:inventory"])

        target = self.lab.path("restored")
        self.kvss.restic("restore", "latest", "--target", target)
        copies = [path for path in files_below(target) if path.endswith("/stock.db")]
        self.assertEqual(len(copies), 1, "the database is not in the set: %s" % sorted(files_below(target)))
        copy = sqlite3.connect(copies[0])
        self.assertEqual(copy.execute("PRAGMA integrity_check").fetchall(), [("ok",)])
        rows, last = copy.execute("SELECT COUNT(*), MAX(n) FROM book").fetchone()
        copy.close()
        self.assertEqual(rows, last, "rows are missing")
        self.assertGreaterEqual(last, before)
        self.assertLessEqual(last, after + 1)

    def test_veto(self):
        before = len(self.kvss.backups())
        with open(self.writers + "/picky", "w") as file:
            file.write(PICKY)
        os.chmod(self.writers + "/picky", 0o755)
        try:
            result = self.kvss("backup", "--all")
        finally:
            os.unlink(self.writers + "/picky")
        self.assertFailed(result, 1, "the accounts are being closed", "picky:all", "Freeze", "VSS_E_WRITERERROR_RETRYABLE")
        self.assertEqual(len(self.kvss.backups()), before)
        self.assertEqual(len(self.kvss.restic("list", "snapshots").split()), before, "a snapshot is in the repository")
        self.assertNobodyHolds()
        self.assertTrue(self.web.writes())
        self.assertNothingLeft()

    def test_not_trusted(self):
        os.chmod(self.writers + "/sqlite", 0o777)
        try:
            result = self.kvss("backup", "--all")
            other = self.kvss("backup", "web", "sqlite:inventory")
        finally:
            os.chmod(self.writers + "/sqlite", 0o755)
        self.assertExit(result, 3)
        self.assertIn("can be written by others", result.stderr)
        self.assertFailed(other, 1, "sqlite:inventory", "kvss list writers --detailed")
        self.assertExit(self.kvss("backup", "web"), 0)

    def test_killed_in_the_freeze(self):
        running = self.start_and_reach("writer-frozen", "backup", "--all")
        self.assertFalse(self.clerk.writes(0.5), "the database is not held in the freeze")
        running.signal(signal.SIGKILL)
        running.process.wait()
        self.assertNobodyHolds(10)
        self.assertTrue(self.web.writes())
        self.assertExit(self.kvss("list", "backups"), 0)
        self.assertNothingLeft()

    def test_both_killed_in_the_freeze(self):
        running = self.start_and_reach("writer-frozen", "backup", "--all")
        children = process_children(running.process.pid)
        self.assertTrue(children, "there is no guardian")
        for pid in children:
            os.kill(pid, signal.SIGSTOP)
        running.signal(signal.SIGKILL)
        running.process.wait()
        for pid in children:
            os.kill(pid, signal.SIGKILL)
        self.assertFalse(self.clerk.writes(1), "nobody is there to let it go")
        result = self.kvss("doctor")
        self.assertIn("writer sqlite may hold its data", result.stdout)
        self.assertNobodyHolds(5)
        self.assertNothingLeft()

    def test_hangs_in_the_freeze(self):
        """The guardian lets go when the window has passed; kvss learns it and fails."""
        config = self.lab.path("kvss.conf")
        with open(config, "w") as file:
            file.write("[limits]\nwindow=6\n")
        before = len(self.kvss.backups())
        self.kvss.env["KVSS_CONFIG"] = config
        try:
            running = self.start_and_reach("writer-frozen", "backup", "--all")
            running.signal(signal.SIGSTOP)
            running.let_go()
            wait_until("the guardian lets go", lambda: self.clerk.writes(0.5), 30)      # by default it has 60
            running.signal(signal.SIGCONT)
            result = running.wait(60)
        finally:
            del self.kvss.env["KVSS_CONFIG"]
        self.assertFailed(result, 1, "sqlite:inventory")
        self.assertEqual(len(self.kvss.backups()), before)
        self.assertNobodyHolds()
        self.assertNothingLeft()
