#!/usr/bin/env python3
"""A lock and its holder: who asks whether it lives does no harm, and a terminal that goes away ends it.

usage: test-locks.py RECORD-IO REPOSITORY-TOOL KVSS [unittest arguments]

tests/interop has the rest of what kvss and restic have to say to each other's locks.
"""
import os
import pty
import shutil
import subprocess
import sys
import tempfile
import time
import unittest

RECORD, TOOL, KVSS = (os.path.abspath(path) for path in sys.argv[1:4])
PASSWORD = "correct horse"


class Locks(unittest.TestCase):
    def setUp(self):
        self.dir = os.path.realpath(tempfile.mkdtemp(prefix="kvss-locks-"))
        self.addCleanup(shutil.rmtree, self.dir, ignore_errors=True)
        self.repository = self.dir + "/repository"
        open(self.dir + "/kvss.conf", "w").close()
        self.env = dict(os.environ, KVSS_PASSWORD=PASSWORD, RESTIC_PASSWORD=PASSWORD, KVSS_REPOSITORY=self.repository,
                        RESTIC_REPOSITORY=self.repository, KVSS_STATE_DIR=self.dir + "/state",
                        KVSS_CACHE_DIR=self.dir + "/cache", KVSS_CONFIG=self.dir + "/kvss.conf",
                        RESTIC_CACHE_DIR=self.dir + "/restic-cache")
        self.run_it(TOOL, "make", self.repository)

    def run_it(self, *command):
        return subprocess.run(command, env=self.env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, timeout=60, check=True, text=True).stdout

    def locks(self):
        return [name for name in os.listdir(self.repository + "/locks")]

    def slow(self):
        """The environment of a kvss that stands still with its lock taken until let_go()."""
        return dict(self.env, LD_PRELOAD=RECORD, KVSS_TEST_RECORD=self.dir + "/log", KVSS_TEST_RECORD_ROOT=self.dir,
                    KVSS_TEST_RECORD_STALL="/repository/locks:60000")

    def let_go(self):
        open(self.dir + "/log.go", "w").close()

    def wait_for_lock(self):
        limit = time.monotonic() + 30
        while not self.locks() and time.monotonic() < limit:
            time.sleep(0.05)
        self.assertEqual(len(self.locks()), 1)

    def start_slow(self, **options):
        process = subprocess.Popen([KVSS, "verify"], env=self.slow(), stderr=subprocess.STDOUT, **options)
        self.addCleanup(process.kill)
        self.wait_for_lock()
        return process

    @unittest.skipUnless(shutil.which("restic"), "restic is not installed")
    def test_restic_asks(self):
        """restic unlock sends SIGHUP to the holder of every lock of its host: it must not be taken for an order."""
        process = self.start_slow(stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
        self.run_it("restic", "unlock")
        self.assertEqual(len(self.locks()), 1, "restic took it for dead")
        self.let_go()
        said = process.communicate(timeout=60)[0]
        self.assertEqual(process.returncode, 0, said)
        self.assertEqual(self.locks(), [])

    def test_dead_holder(self):
        """The lock of a kvss that was killed is gone at the next one's first look."""
        process = self.start_slow(stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        process.kill()
        process.wait()
        self.assertEqual(len(self.locks()), 1)
        self.run_it(KVSS, "verify")
        self.assertEqual(self.locks(), [])

    def test_terminal_gone(self):
        """A terminal that hangs up interrupts what runs on it."""
        pid, terminal = pty.fork()
        if pid == 0:
            os.execve(KVSS, [KVSS, "verify"], self.slow())
        self.wait_for_lock()
        os.close(terminal)
        time.sleep(1)       # the kernel tells of it in its own time
        self.let_go()
        status = os.waitpid(pid, 0)[1]
        self.assertEqual(os.waitstatus_to_exitcode(status), 130)
        self.assertEqual(self.locks(), [])


if __name__ == "__main__":
    suite = unittest.defaultTestLoader.loadTestsFromNames(sys.argv[4:] or ["Locks"], sys.modules["__main__"])
    sys.exit(not unittest.TextTestRunner(verbosity=2).run(suite).wasSuccessful())
