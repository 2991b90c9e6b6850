"""Eight guests in one set, and something goes wrong: the set is in the repository whole or not at all, and every guest that
survives goes on as before. The sweep injects one random fault a round: KVSS_TEST_SEED, KVSS_TEST_ROUNDS and KVSS_TEST_FIRST
repeat a run, or one round of it."""
import contextlib
import json
import os
import random
import shutil
import signal
import sys
import time

from kvsslab import Disk, Kvss, LabCase, LabError, process_children, run, start_libvirtd, stop_libvirtd, virsh, wait_until

SEED = os.environ.get("KVSS_TEST_SEED") or str(int(time.time()))
ROUNDS = int(os.environ.get("KVSS_TEST_ROUNDS") or 100)
FIRST = int(os.environ.get("KVSS_TEST_FIRST") or 0)
ROUNDS_A_TEST = 5           # the runner takes a test that says nothing for minutes for one that hangs
FREEZE_LIMIT = 10           # seconds, the default
POINTS = ["looked", "frozen", "cut", "still", "copy", "commit"]


class Fault:
    """One thing that goes wrong while `test` backs up its eight guests. begin() comes before kvss is started, strike() at its
    moment, end() after it has ended: whatever is broken then is mended. A fault that is harmless must not fail the set, and
    one that is fatal must."""

    point = None            # stands still there for `seconds` when strike() comes; else at a fraction of a whole run
    seconds = 3
    is_harmless = is_fatal = has_struck = False

    def __init__(self, test, rng):
        self.test = test
        self.guest = rng.choice(test.frozen)
        self.fraction = rng.random()
        self.number = rng.randrange(1, 100)
        self.choose(rng)

    def choose(self, rng):
        pass

    def begin(self):
        pass

    def strike(self, running):
        pass

    def end(self):
        pass

    def __str__(self):
        where = "at " + self.point if self.point else "after %.2f of a run" % self.fraction
        return "%s %s (%s, %d)" % (type(self).__name__, where, self.guest.name, self.number)


class NoFault(Fault):
    is_harmless = True


class AgentStopped(Fault):
    def strike(self, running):
        self.guest.signal_agent("STOP")

    def end(self):
        self.guest.signal_agent("CONT")


class AgentKilled(Fault):
    """It comes back at once, in frozen mode if the guest was frozen."""

    def choose(self, rng):
        self.point = rng.choice([None, "looked", "frozen", "cut"])

    def strike(self, running):
        self.guest.signal_agent("KILL")


class FreezeHookFails(Fault):
    is_fatal = True

    def begin(self):
        self.guest.hook("freeze", "exit %d" % self.number)

    def end(self):
        self.guest.hook("freeze", None)


class FreezeHookHangs(Fault):
    """Longer than the freeze may take: the guest freezes when nobody waits for it any more."""
    is_fatal = True

    def begin(self):
        self.guest.hook("freeze", "rm /run/hook-freeze; sleep 8")

    def end(self):
        self.guest.hook("freeze", None)


class ThawHookFails(Fault):
    def begin(self):
        self.guest.hook("thaw", "exit %d" % self.number)

    def end(self):
        self.guest.hook("thaw", None)


class Signalled(Fault):
    numbers = [signal.SIGTERM, signal.SIGINT]

    def choose(self, rng):
        self.point = rng.choice([None, None] + POINTS)
        self.signal = rng.choice(self.numbers)

    def strike(self, running):
        running.signal(self.signal)


class Killed(Signalled):
    numbers = [signal.SIGKILL]


class GuardianKilled(Fault):
    def choose(self, rng):
        self.point = rng.choice([None] + POINTS[1:])

    def strike(self, running):
        for pid in self.test.guardians(running):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


class BothKilled(Fault):
    """What is left is the journal."""

    def choose(self, rng):
        self.point = rng.choice(POINTS[1:])

    def strike(self, running):
        children = process_children(running.process.pid)
        for pid in children:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGSTOP)
        running.signal(signal.SIGKILL)
        running.process.wait()
        for pid in children:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


class Stopped(Fault):
    """kvss stands still, sometimes beyond the limit of a freeze, and goes on."""
    seconds = 0.5

    def choose(self, rng):
        self.point = rng.choice(["frozen", "cut", "still", "copy"])
        self.length = rng.choice([1, 2, FREEZE_LIMIT + 1])

    def strike(self, running):
        running.signal(signal.SIGSTOP)
        time.sleep(self.length)
        running.signal(signal.SIGCONT)


class ScratchFull(Fault):
    def choose(self, rng):
        self.point = rng.choice([None, "looked", "copy"])

    def strike(self, running):
        run("fallocate", "-l", str(shutil.disk_usage(self.test.scratch).free - (2 << 20)), self.test.scratch + "/filler", check=False)

    def end(self):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.test.scratch + "/filler")


class GuestDestroyed(Fault):
    def choose(self, rng):
        self.guest = rng.choice(self.test.running)
        self.point = rng.choice([None] + POINTS)

    def strike(self, running):
        virsh("destroy", self.guest.name)

    def end(self):
        if self.has_struck:
            self.guest.start()


class LibvirtdKilled(Fault):
    def choose(self, rng):
        self.point = rng.choice([None] + POINTS)

    def strike(self, running):
        stop_libvirtd(hard=True)
        time.sleep(1)
        start_libvirtd()


class RepositoryReadOnly(Fault):
    def choose(self, rng):
        self.point = rng.choice([None, "frozen", "copy", "commit"])

    def folders(self):
        return [self.test.kvss.repository] + [f.path for f in os.scandir(self.test.kvss.repository) if f.is_dir()]

    def strike(self, running):
        run("chattr", "+i", *self.folders())

    def end(self):
        run("chattr", "-i", *self.folders())


class SecondBeside(Fault):
    """A second backup of one of the guests meanwhile: each of the two succeeds or says why not."""

    def choose(self, rng):
        self.second = None

    def strike(self, running):
        self.second = self.test.kvss.start("backup", self.guest.name)

    def end(self):
        if self.second:
            result = self.second.wait()
            self.test.assertIn(result.rc, (0, 1, 6), str(result))


FAULTS = [NoFault, AgentStopped, AgentKilled, AgentKilled, FreezeHookFails, FreezeHookHangs, ThawHookFails, Signalled, Killed, Killed,
          GuardianKilled, BothKilled, Stopped, ScratchFull, GuestDestroyed, GuestDestroyed, LibvirtdKilled, RepositoryReadOnly,
          SecondBeside]


class EightGuests(LabCase):

    @classmethod
    def make(cls):
        cls.scratch = cls.lab.path("scratch")
        cls.make_scratch()
        cls.epoch = 0
        cls.make_repository()
        cls.make_guests()
        cls.whole_run = None

    @classmethod
    def make_scratch(cls):
        """A file system of its own, which a fault may fill."""
        image = cls.scratch + ".img"
        with open(image, "wb") as file:
            file.truncate(1536 << 20)
        run("mkfs.ext4", "-q", "-F", "-O", "^has_journal", image)
        os.mkdir(cls.scratch)
        run("mount", "-o", "loop", image, cls.scratch)
        cls.addClassCleanup(run, "umount", "-l", cls.scratch)
        with open(cls.scratch + ".conf", "w") as file:
            file.write("[defaults]\nscratch-dir = %s\n" % cls.scratch)

    @classmethod
    def make_repository(cls):
        cls.epoch += 1
        cls.kvss = Kvss(cls.lab, cls.lab.path("repository-%d" % cls.epoch))
        cls.kvss.env["KVSS_CONFIG"] = cls.scratch + ".conf"
        cls.kvss.init()

    @classmethod
    def make_guests(cls):
        def guest(name, **options):
            disks = [Disk("vda", size_mib=24, content_kib=256)]
            if name == "web1":
                disks.append(Disk("vdb", form="raw", size_mib=24, content_kib=256))
            return cls.lab.guest(name, disks=disks, memory_mib=128, cmdline="kvss.seq=60", **options).define()

        cls.lab.guests.clear()
        cls.frozen = [guest("web%d" % number, agent="respawn") for number in range(1, 5)]
        cls.db = guest("db", agent="no")
        cls.still = guest("still", agent="no")
        cls.kept = guest("kept", agent="no")
        cls.off = guest("off", agent="no")
        cls.running = cls.frozen + [cls.db]
        started = cls.running + [cls.still, cls.kept]
        for one in started:
            one.start(wait=False)
        for one in started:
            one.wait_ready(timeout=180)
        cls.still.pause()
        cls.kept.save()
        cls.all = started + [cls.off]

    @classmethod
    def make_anew(cls):
        """After a failure nobody knows what state they are in."""
        for guest in cls.all:
            guest.delete()
            with contextlib.suppress(FileNotFoundError):
                os.unlink(guest.serial_path)
        cls.kvss("doctor")
        cls.make_guests()

    def left(self):
        self.WATCHED = LabCase.WATCHED + [self.scratch]
        return [path for path in super().left() if os.path.basename(path) != "lost+found"]

    # --- one round

    def guardians(self, running):
        found = []
        for pid in process_children(running.process.pid):
            with contextlib.suppress(OSError), open("/proc/%d/comm" % pid) as file:
                if file.read().startswith("kvss-guardian"):
                    found.append(pid)
        return found

    def reach(self, fault, running, begin):
        """Waits for the fault's moment; False when the run ended before."""
        while running.is_running():
            if fault.point is None and time.monotonic() - begin >= fault.fraction * (self.whole_run or 0):
                return True
            if fault.point is not None and "standing still at '%s'" % fault.point in running.result().stderr:
                return True
            time.sleep(0.02)
        return False

    def sets(self):
        """The ids of whole sets; it is an error if one is not whole."""
        found = []
        for snapshot in json.loads(self.kvss.restic("snapshots", "--json", "--no-lock")):
            document = json.loads(self.kvss.restic("-q", "dump", "--no-lock", snapshot["id"], "/set.json"))
            names = sorted(vm["name"] for vm in document["vms"])
            if len(names) == 1:                             # SecondBeside's
                continue
            self.assertEqual(names, sorted(g.name for g in self.all), "half a set is in the repository")
            found.append(document["set_id"])
        return found

    def round(self, fault):
        before = self.sets()
        consoles = {guest.name: len(guest.serial()) for guest in self.running}
        fault.begin()
        env = {"KVSS_TEST_STALL": "%s:%g" % (fault.point, fault.seconds)} if fault.point else None
        begin = time.monotonic()
        running = self.kvss.start("backup", "--all", env=env)
        self.addCleanup(running.process.kill)
        fault.has_struck = self.reach(fault, running, begin)
        try:
            if fault.has_struck:
                fault.strike(running)
            result = running.wait(150)
        finally:
            fault.end()
        seconds = time.monotonic() - begin
        if isinstance(fault, NoFault):
            type(self).whole_run = seconds
        after = self.check_result(fault, result, before)
        self.check_recovery(fault, consoles)
        return "%s; %s: exit %s, set %s, %.1f s of %.1f s" % (
            fault, "struck" if fault.has_struck else "too late", result.rc, "kept" if len(after) > len(before) else "absent", seconds,
            time.monotonic() - begin)

    def check_result(self, fault, result, before):
        rc = result.rc
        after = self.sets()
        kept = len(after) - len(before)
        self.assertEqual(after[:len(before)], before, "an older set is gone")
        self.assertIn(kept, (0, 1))
        if fault.has_struck and isinstance(fault, (Killed, BothKilled)):
            self.assertIn(rc, (-signal.SIGKILL, 0, 1), str(result))
        elif fault.has_struck and isinstance(fault, Signalled):
            self.assertIn(rc, (130, 0, 1), str(result))
        else:
            self.assertIn(rc, (0, 1, 4), str(result))
        if rc != -signal.SIGKILL:
            self.assertEqual(kept, 1 if rc == 0 else 0, "it says one thing and the repository another: %s" % result)
        if rc == 0:
            self.assertEqual(len(result.summary["vms"]), len(self.all), str(result))
        if rc in (1, 4):
            self.assertTrue(result.stderr.strip() and result.error, str(result))
        if fault.is_harmless:
            self.assertEqual(rc, 0, str(result))
        if fault.is_fatal:
            self.assertFailed(result, 1, fault.guest.name)
        return after

    def check_recovery(self, fault, consoles):
        """Everything is as it was before, with doctor's help at most."""
        doctor = self.kvss("doctor", timeout=120)
        self.assertEqual(doctor.rc, 0, str(doctor))
        expected = {guest.name: "running" for guest in self.running}
        expected.update(still="paused", kept="saved", off="shut off")
        self.assertEqual({guest.name: guest.state() for guest in self.all}, expected)
        for guest in self.running:
            self.assertTrue(guest.writes(), "%s does not write: frozen?" % guest.name)
            self.assertEqual(guest.mismatches(), [], guest.name)
            for gap, number in guest.gaps(consoles[guest.name]):
                self.assertLess(gap, self.gap_limit(fault, guest) * 1000, "%s stood still at %d" % (guest.name, number))
        try:
            wait_until("", lambda: not self.left())
        except LabError:
            self.assertEqual(self.left(), [], "left behind")
        self.kvss.restic("check")
        self.assertEqual(self.kvss.restic("list", "locks", "--no-lock").strip(), "", "a lock lies in the repository")
        self.regain_agents()

    def gap_limit(self, fault, guest):
        """Seconds. A guest may be frozen for the limit; with nobody left to thaw it, until doctor came."""
        if isinstance(fault, (BothKilled, LibvirtdKilled, AgentStopped)):
            return 90
        return FREEZE_LIMIT + 2 if guest is not self.db else 30

    def regain_agents(self):
        """libvirt loses sight of an agent that comes back while a job runs, or that was reached without it; it sees one
        that opens its port anew."""
        def answers(guest):
            return virsh("qemu-agent-command", guest.name, "--timeout", "2", '{"execute":"guest-ping"}', check=False)[0] == 0

        for guest in self.frozen:
            if not answers(guest):
                guest.signal_agent("KILL")
                wait_until("agent of " + guest.name, lambda guest=guest: answers(guest), 60)

    def rounds(self, faults):
        """Every round that fails is told, and the next one begins with new guests."""
        if self.whole_run is None:
            self.round(NoFault(self, random.Random(SEED)))      # the first one reads everything
            self.round(NoFault(self, random.Random(SEED)))
        for number, make in faults:
            rng = random.Random("%s-%d" % (SEED, number))
            fault = (make or rng.choice(FAULTS))(self, rng)
            name = "seed %s round %d: %s" % (SEED, number, fault)
            with self.subTest(name):
                try:
                    print("seed %s round %d: %s" % (SEED, number, self.round(fault)), file=sys.stderr, flush=True)
                except BaseException:
                    print("FAILED " + name, file=sys.stderr, flush=True)
                    self.make_anew()
                    raise


class ManyGuests(EightGuests):
    """A few faults, one after the other."""
    cost = 60

    def test_all_or_nothing(self):
        self.rounds(enumerate([FreezeHookFails, Killed, GuestDestroyed]))
        self.assertEqual(self.kvss("verify").rc, 0)


class ManyFaults(EightGuests):
    """The sweep."""
    cost = 1600
    sweep = True

    def some_rounds(self, numbers):
        try:
            self.rounds((number, None) for number in numbers)
            self.assertExit(self.kvss("verify", "--read-data"), 0)
        finally:
            repository = self.kvss.repository
            self.make_repository()          # so that checking it does not take longer each time
            shutil.rmtree(repository)


def add_tests():
    for first in range(FIRST, FIRST + ROUNDS, ROUNDS_A_TEST):
        numbers = range(first, min(first + ROUNDS_A_TEST, FIRST + ROUNDS))
        setattr(ManyFaults, "test_rounds_%03d_to_%03d" % (numbers[0], numbers[-1]),
                lambda self, numbers=numbers: self.some_rounds(numbers))


add_tests()
