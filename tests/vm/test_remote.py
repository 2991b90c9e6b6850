"""Guests into a repository behind a REST server whose line breaks now and then, and back."""
import os
import signal
import subprocess

from faultproxy import FaultProxy
from kvsslab import Disk, Kvss, LabCase, files_below, process_children, wait_until
from rclone import Rclone
from test_serve import Serving

PASSWORD = "pass/word@7"


class Remote(LabCase):
    cost = 90

    @classmethod
    def make(cls):
        folder = cls.lab.path("served")
        os.mkdir(folder)
        salted = subprocess.run(["openssl", "passwd", "-apr1", PASSWORD], stdout=subprocess.PIPE, check=True).stdout
        with open(cls.lab.path("htpasswd"), "wb") as f:
            f.write(b"me:" + salted)
        cls.server = Rclone(folder, "--htpasswd", cls.lab.path("htpasswd"))
        cls.addClassCleanup(cls.server.stop)
        cls.proxy = FaultProxy(cls.server.port)
        cls.enterClassContext(cls.proxy)
        cls.shown = "rest:http://127.0.0.1:%d/site/" % cls.proxy.port
        cls.kvss = Kvss(cls.lab, cls.shown.replace("//", "//me:pass%2Fword%407@"))
        cls.kvss.init()
        cls.web = cls.lab.guest("web", disks=[Disk("vda"), Disk("vdb", form="raw", kind="random", content_kib=60000)]).define().start()
        cls.off = cls.lab.guest("off", disks=[Disk("vda", kind="random", content_kib=20000)]).define()

    def setUp(self):
        self.proxy.harm = None
        self.proxy.delay = 0
        self.proxy.forget()

    def break_line(self):
        """Each seventh request is cut, before or after the server did its work."""
        self.proxy.harm = lambda request: {3: "cut", 6: "lost"}.get(request.number % 7)

    def stored(self):
        """Bytes in packs of the second repository."""
        return sum(os.path.getsize(path) for path in files_below(self.lab.path("served") + "/other/data"))

    def test_1_there_and_back(self):
        self.break_line()
        wanted = self.off.disk("vda").hash()
        done = self.backup("web", "off")
        self.assertTrue(self.web.writes())
        self.assertNotIn("pass", done.stdout + done.stderr)
        self.assertExit(self.kvss("verify", "--read-data"), 0)
        self.assertEqual([b["id"] for b in self.kvss.backups()], [done.summary["backup_id"]])
        with open(self.off.disk("vda").path, "r+b") as f:
            f.truncate(1 << 20)
        self.restore("latest", "off")
        self.assertEqual(self.off.disk("vda").hash(), wanted)
        out = self.lab.path("out.raw")
        self.assertExit(self.kvss("export", "latest", "off", "vda", out), 0)
        self.proxy.harm = None
        self.assertIn("no errors were found", self.kvss.restic("check", "--read-data"))
        self.assertNothingLeft()

    def test_2_served(self):
        """No process of ours shows the password in its arguments."""
        with Serving(self.kvss, "latest", "off", path=self.lab.path("s")) as serving:
            for pid in (serving.process.pid, *process_children(serving.process.pid)):
                with open("/proc/%d/cmdline" % pid, "rb") as f:
                    self.assertNotIn(b"pass%2F", f.read())
            stored = subprocess.run(["nbdcopy", serving.uri(serving.names[0]), self.lab.path("copy.raw")],
                                    stderr=subprocess.PIPE)
            self.assertEqual(stored.returncode, 0, stored.stderr)
            self.assertEqual(serving.end(), 0, serving.stderr)
        self.assertNothingLeft()

    def test_3_killed_and_run_again(self):
        """What was sent is not sent again."""
        self.proxy.delay = 0.3
        fresh = Kvss(self.lab, self.kvss.repository.replace("/site/", "/other/"))
        fresh.init()
        self.proxy.forget()
        running = fresh.start("backup", "web", "off")
        wait_until("two packs to be sent", lambda: len(self.proxy.asked("POST", "/data/")) >= 3, 60)
        wait_until("one of them to be there", lambda: self.proxy.sending == 0 or len(self.proxy.asked("POST", "/data/")) > 4, 60)
        os.kill(running.process.pid, signal.SIGKILL)
        running.wait()
        self.proxy.delay = 0
        wait_until("the requests to end", lambda: self.proxy.busy == 0)
        first = self.stored()
        self.assertGreater(first, 16 << 20)
        self.proxy.forget()
        self.assertExit(fresh("backup", "web", "off"), 0)
        total = self.stored()
        self.assertLess(self.proxy.sent("/data/"), total - first + (1 << 20))
        self.assertExit(fresh("verify", "--read-data"), 0)
        self.assertEqual(os.listdir(self.lab.path("served") + "/other/locks"), [])
        self.assertNothingLeft()
