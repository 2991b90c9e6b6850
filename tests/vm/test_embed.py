"""qemu:///embed: the driver lives inside the process. The guardian must end a run that hangs before it can thaw."""
import os
import shutil
import signal

import kvsslab
from kvsslab import Disk, LabError, wait_until
from test_guardian import FREEZE_LIMIT, GuardianCase

ROOT = "/run/embed"     # short: sockets lie below it
QEMU_CONF = """stdio_handler = "file"
security_driver = "none"
user = "root"
group = "root"
cgroup_controllers = []
namespaces = []
"""


def virsh_around_crash(*arguments, timeout=40, check=True):
    """virsh's embedded driver now and then falls over while it shuts down, after it has done and said everything."""
    rc, text = kvsslab.run("virsh", "-q", "-c", kvsslab.uri, *arguments, timeout=timeout, check=False)
    if rc == -signal.SIGSEGV:
        rc = 0
    if not check:
        return rc, text
    if rc != 0:
        raise LabError("virsh %s: exit %d: %s" % (" ".join(arguments), rc, text))
    return text


class Embedded(GuardianCase):
    cost = 80

    @classmethod
    def make(cls):
        os.makedirs(ROOT + "/etc", exist_ok=True)
        with open(ROOT + "/etc/qemu.conf", "w") as file:
            file.write(QEMU_CONF)
        quiet = {"LIBVIRT_DEBUG": "4", "LIBVIRT_LOG_OUTPUTS": "4:file:/dev/null"}   # virsh's own copy of the driver
        os.environ.update(quiet)
        cls.addClassCleanup(lambda: [os.environ.pop(name) for name in quiet])
        before = kvsslab.uri, kvsslab.virsh
        kvsslab.uri = "qemu:///embed?root=" + ROOT
        kvsslab.virsh = virsh_around_crash
        cls.addClassCleanup(cls.back_to, before)
        cls.addClassCleanup(cls.lab.close)      # before the driver's folder goes
        cls.kvss.init()
        cls.web = cls.lab.guest("web", disks=[Disk("vda"), Disk("vdb")]).define()
        cls.boot()

    @classmethod
    def boot(cls):
        """Up to its own word: nobody who opens the driver for one question hears of its agent."""
        before = cls.web.serial().count("GUEST READY")
        cls.web.start(wait=False)
        wait_until("the guest is up", lambda: cls.web.serial().count("GUEST READY") > before, 60)

    @staticmethod
    def back_to(before):
        kvsslab.uri, kvsslab.virsh = before
        shutil.rmtree(ROOT, ignore_errors=True)

    def test_backup_and_restore(self):
        self.backup_frozen("web", limit_ms=1000)
        self.assertTrue(self.web.writes())
        self.assertNothingLeft()
        # into nothing, and back
        self.web.destroy()
        self.web.delete()
        self.restore("latest")
        self.assertEqual(self.web.state(), "shut off")
        self.assertOneInstant(self.web)
        self.boot()

    def start_and_reach(self, point):
        """A driver that is just being opened must find the agent within seconds, and a busy machine is slow at times."""
        for attempt in range(8):
            try:
                return super().start_and_reach(point)
            except LabError as error:
                if "does not answer" not in str(error) or attempt == 7:
                    raise

    def test_stopped_while_frozen(self):
        """SIGSTOP: the guardian ends the process that holds the driver, connects, and thaws, within the limit."""
        running = self.start_and_reach("frozen")
        console = len(self.web.serial())
        running.signal(signal.SIGSTOP)
        wait_until("the run was ended", lambda: not running.is_running())
        self.assertGapBelow(console, FREEZE_LIMIT + 5)
        self.assertNextCommandCleansUp()

    def test_killed_while_cut(self):
        running = self.start_and_reach("cut")
        console = len(self.web.serial())
        running.signal(signal.SIGKILL)
        wait_until("ended", lambda: not running.is_running())
        self.assertGapBelow(console, FREEZE_LIMIT + 5)
        self.assertNextCommandCleansUp()
