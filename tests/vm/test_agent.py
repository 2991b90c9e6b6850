"""Agents that do not behave: no guest is ever left frozen."""
import json
import time

from kvsslab import Disk, LabCase, wait_until

FREEZE_LIMIT = 10       # seconds, the default


class Unresponsive(LabCase):
    cost = 30

    @classmethod
    def make(cls):
        super().make()
        cls.web = cls.lab.guest("web", agent="stopped").define().start()

    def test_agent_that_does_not_answer(self):
        """saved-state, reason C1, and no freeze was ever sent: also not one that waits in the channel."""
        explained = self.kvss("list", "vms")
        vm = next(v for v in explained.document if v["name"] == "web")
        self.assertEqual(vm["method"], "saved-state")
        self.assertEqual([c["holds"] for c in vm["conditions"] if c["id"] == "C1"], [False])
        result = self.backup("web")
        vm = result.vm("web")
        self.assertEqual(vm["method"], "saved-state")
        self.assertIn("C1", [r["id"] for r in vm["reasons"]])
        self.assertTrue(self.web.writes())
        self.assertNothingLeft()
        self.web.signal_agent("CONT")
        time.sleep(3)
        self.assertNotIn("freeze", self.web.sh("cat /run/hook.log 2>/dev/null; true"))
        self.assertTrue(self.web.writes())


class StoppedAfterPing(LabCase):
    """The agent answers the ping, is stopped in the freeze, and freezes when it wakes: long after the call timed out."""
    cost = 60

    @classmethod
    def make(cls):
        super().make()
        cls.web = cls.lab.guest("web", disks=[Disk("vda"), Disk("vdb")]).define().start()
        cls.good = cls.lab.guest("good").define().start()

    def test_late_freeze_is_thawed(self):
        self.web.hook("freeze", "rm /run/hook-freeze; kill -STOP $(cat /run/ga.pid)")
        good_console = len(self.good.serial())
        result = self.kvss("backup", "web", "good", timeout=60)
        self.assertFailed(result, 1, "web")
        self.assertEqual(self.kvss.backups(), [])
        self.assertTrue(self.good.writes(), "the other VM of the set is still frozen")
        for gap, _ in self.good.gaps(good_console):
            self.assertLess(gap, (FREEZE_LIMIT + 5) * 1000)
        self.assertTrue(self.web.writes(), "frozen although the agent is stopped")

        console = len(self.web.serial())
        self.web.signal_agent("CONT")
        wait_until("the agent froze and was told to thaw", lambda: "thaw" in self.web.sh("cat /run/hook.log"))
        log = self.web.sh("cat /run/hook.log").split()
        self.assertEqual(log[0], "freeze")
        self.assertTrue(self.web.writes(), "left frozen")
        for gap, _ in self.web.gaps(console):
            self.assertLess(gap, (FREEZE_LIMIT + 5) * 1000)
        wait_until("thawed", lambda: not self.web.is_frozen())
        self.assertNothingLeft()
        # and all is well with the next one
        result = self.backup("web", "good")
        self.assertEqual({v["method"] for v in result.summary["vms"]}, {"child-snapshot"})


class FailingHooks(LabCase):
    cost = 60

    @classmethod
    def make(cls):
        super().make()
        cls.web = cls.lab.guest("web").define().start()

    def setUp(self):
        self.web.hook("freeze", None)
        self.web.hook("thaw", None)

    def test_freeze_hook_fails(self):
        self.web.hook("freeze", "exit 3")
        result = self.kvss("backup", "web")
        self.assertFailed(result, 1, "web")
        self.assertTrue(self.web.writes())
        self.assertFalse(self.web.is_frozen())
        self.assertEqual(self.kvss.backups(), [])
        self.assertNothingLeft()

    def test_freeze_hook_is_slower_than_the_limit(self):
        """The freeze comes when nobody waits for it any more, and is thawed."""
        self.web.hook("freeze", "sleep 14")
        self.web.sh("rm -f /run/hook.log")
        console = len(self.web.serial())
        result = self.kvss("backup", "web", timeout=90)
        self.assertFailed(result, 1, "web")
        wait_until("thaw", lambda: "thaw" in self.web.sh("cat /run/hook.log"))
        self.assertTrue(self.web.writes())
        self.assertFalse(self.web.is_frozen())
        for gap, _ in self.web.gaps(console):
            self.assertLess(gap, (FREEZE_LIMIT + 5) * 1000)
        self.assertNothingLeft()

    def test_thaw_hook_is_slow(self):
        """File systems are thawed before the hook's end; a slow hook costs time and nothing else, or fails the set."""
        self.web.hook("thaw", "sleep 3")
        console = len(self.web.serial())
        result = self.kvss("backup", "web", timeout=90)
        self.assertIn(result.rc, (0, 1), str(result))
        self.assertTrue(self.web.writes())
        for gap, _ in self.web.gaps(console):
            self.assertLess(gap, (FREEZE_LIMIT + 5) * 1000)
        wait_until("thawed", lambda: not self.web.is_frozen())
        self.assertNothingLeft()


class AgentDies(LabCase):
    cost = 70

    @classmethod
    def make(cls):
        super().make()
        cls.web = cls.lab.guest("web", agent="respawn").define()

    def setUp(self):
        """libvirt may have lost the agent of the guest that an earlier test has left."""
        if self.web.state() == "running":
            self.web.destroy()
        self.web.start()

    def kill_agent(self):
        """Returns when its successor is there."""
        old = self.web.sh("cat /run/ga.pid")
        self.web.signal_agent("KILL")
        wait_until("another agent", lambda: self.web.sh("cat /run/ga.pid") not in (old, ""))

    def test_agent_is_killed_while_frozen(self):
        """Before the job begins: the respawned agent starts in frozen mode, and an ordinary thaw works."""
        before = self.kvss.backups()
        run = self.start_and_reach("frozen", "backup", "web")
        self.kill_agent()
        run.let_go()
        result = run.wait(90)
        self.assertTrue(self.web.writes(), "left frozen: %s" % result)
        self.assertIn(result.rc, (0, 1), str(result))
        if result.rc == 1:
            self.assertFailed(result, 1, "web")
            self.assertEqual(self.kvss.backups(), before)
        else:
            self.assertEqual(json.dumps(result.vm("web")["method"]), '"child-snapshot"')
        self.assertNothingLeft()

    def test_agent_is_killed_after_the_cut(self):
        """While a job runs libvirt misses that it is back, and says that it disappeared: it must be reached without libvirt."""
        console = len(self.web.serial())
        run = self.start_and_reach("cut", "backup", "web")
        self.kill_agent()
        run.let_go()
        result = run.wait(90)
        self.assertTrue(self.web.writes(), "left frozen: %s" % result)
        self.assertIn(result.rc, (0, 1), str(result))
        for gap, _ in self.web.gaps(console):
            self.assertLess(gap, (FREEZE_LIMIT + 5) * 1000)
        self.assertExit(self.kvss("doctor", timeout=30), 0)
        self.assertNothingLeft()
