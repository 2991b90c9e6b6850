"""A restore that dies anywhere leaves the old VM or the new one, whole, once doctor or any next command has run.

The sweeps: every step of the journal (KVSS_TEST_STALL=step-N), and KVSS_TEST_ROUNDS kills (default 200) at random moments
of random processes, by KVSS_TEST_SEED, from round KVSS_TEST_FIRST on."""
import contextlib
import glob
import itertools
import os
import random
import shutil
import signal
import sys
import time

from kvsslab import (KVSS, Disk, LabCase, LabError, process_children, run, start_libvirtd, stop_libvirtd, virsh, wait_until)

SEED = os.environ.get("KVSS_TEST_SEED") or str(int(time.time()))
ROUNDS = int(os.environ.get("KVSS_TEST_ROUNDS") or 200)
FIRST = int(os.environ.get("KVSS_TEST_FIRST") or 0)
ROUNDS_A_TEST = 25
SAVE_FOLDER = "/var/lib/libvirt/qemu/save"
STOP_STEP = 7      # of a restore over a running VM: its stop is in the journal, and not begun
RUNNING, PAUSED, SAVED, OFF = "running", "paused", "saved", "shut off"


def command_of(pid):
    with contextlib.suppress(OSError), open("/proc/%d/comm" % pid) as file:
        return file.read().strip()
    return ""


def kill(*pids):
    """All at once, as in a power cut: none sees the end of another."""
    for number in (signal.SIGSTOP, signal.SIGKILL):
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)


class FaultCase(LabCase):
    """One VM with two disks, of which there is a backup that differs from what it is now."""

    @classmethod
    def make(cls):
        super().make()
        cls.web = cls.lab.guest("web", agent="no", memory_mib=128, cmdline="kvss.seq=60",
                                disks=[Disk("vda", size_mib=24, content_kib=256),
                                       Disk("vdb", form="raw", size_mib=24, content_kib=256)]).define()
        cls.first = cls.kvss("backup", "web")
        cls.stored = cls.hashes()
        cls.restored = cls.kvss("restore", "latest", "web", "--yes")    # undisturbed: what a whole new VM is
        cls.defined = cls.definition()
        cls.secret_told = None

    def setUp(self):
        self.assertExit(self.first, 0)
        self.assertExit(self.restored, 0)
        self.assertIn("<name>web</name>", self.defined)

    @staticmethod
    def definition():
        """libvirt keeps the element in which our mark was, empty."""
        return virsh("dumpxml", "--inactive", "web").replace("  <metadata/>\n", "")

    @classmethod
    def hashes(cls):
        return {target: image.hash() for target, image in cls.web.images().items()}

    # --- what stands before

    def mark(self):
        """The VM, which is off, becomes another one than the backup's."""
        text = os.urandom(8).hex()
        for image in self.web.images().values():
            run("qemu-io", "-f", image.form, "-c", "write -P 0x%s %d 512" % (text[:2], 24 * 1024 * 1024 - 1024),
                "-c", "write -P 0x%s %d 512" % (text[2:4], 24 * 1024 * 1024 - 512), image.path)

    def bring_to(self, state):
        """The VM as it is now, in this state, and not what the backup has."""
        now = self.web.state()
        if now == state and state != OFF:
            return
        if now == PAUSED:
            self.web.resume()
            now = RUNNING
        if now == SAVED and state != OFF:
            self.web.start(wait=False)
            if self.web.state() == PAUSED:
                self.web.resume()
            now = RUNNING
        if state == OFF:
            if now == RUNNING:
                self.web.destroy()
            if now == SAVED:
                virsh("managedsave-remove", "web")
            self.mark()
            return
        if now == OFF:
            self.mark()
            self.web.start()
            type(self).secret_told = self.secret(self.web)
        if state == PAUSED:
            self.web.pause()
        if state == SAVED:
            self.web.save()

    def look(self):
        """Everything of the VM that a rolled back restore must leave."""
        state = self.web.state()
        seen = {"state": state, "definition": self.definition(),
                "inodes": {path: os.stat(path).st_ino for path in self.web.paths().values()}}
        if state in (OFF, SAVED):
            seen["hashes"] = self.hashes()
        return seen

    # --- what stands after

    def stray(self):
        """What no end of a restore may leave; also what LabCase.left() does not see."""
        found = set(self.left())
        disks = set(self.web.paths().values()) | {d.path for d in self.web.disks}
        found |= {path for path in glob.glob(self.web.folder + "/*") + glob.glob(self.web.folder + "/.*") if path not in disks}
        found |= {path for path in glob.glob(SAVE_FOLDER + "/*") if self.web.state() != SAVED or path != self.web.save_path()}
        found |= {"process %s: %s" % (path.split("/")[2], command_of(int(path.split("/")[2]))) for path in glob.glob("/proc/[0-9]*/comm")
                  if command_of(int(path.split("/")[2])) in ("qemu-nbd", "qemu-img", "kvss-guardian")}
        if "urn:kvss:restore" in virsh("dumpxml", "--inactive", "web"):
            found.add("the mark of an unfinished restore")
        return sorted(found)

    def assertWhole(self, before, crashed=False):
        """The old VM or the new one. crashed: its QEMU was killed too, before its memory was saved, maybe. Returns which."""
        self.web.disconnect()
        state = self.web.state()
        inodes = {path: os.stat(path).st_ino for path in self.web.paths().values()}
        if inodes == before["inodes"]:
            self.assertIn(state, {before["state"], OFF} if crashed else {before["state"]}, "the old VM is not as it was")
            self.assertEqual(self.definition(), before["definition"])
            if "hashes" in before:
                self.assertEqual(self.hashes(), before["hashes"], "the old disks are not as they were")
            if state == RUNNING:
                self.assertEqual(self.web.sh("cat /run/secret"), self.secret_told, "it was started afresh")
                self.assertTrue(self.web.writes(), "it does not write")
            self.assertEqual(self.web.mismatches(), [], "memory and disks are of different instants")
            which = "old"
        else:
            self.assertFalse(set(inodes.values()) & set(before["inodes"].values()), "disks of both")
            self.assertEqual(state, OFF)
            self.assertEqual(self.hashes(), self.stored, "the new disks are not what the backup has")
            self.assertEqual(self.definition(), self.defined)
            which = "new"
        with contextlib.suppress(LabError):
            wait_until("", lambda: not self.stray())
        self.assertEqual(self.stray(), [], "left behind")
        return which

    # --- a restore

    def start(self, stall=None):
        running = self.kvss.start("restore", "latest", "web", "--yes", env={"KVSS_TEST_STALL": stall} if stall else None)
        self.addCleanup(running.process.kill)
        return running

    def reaches(self, running, point, seconds=90):
        """False when it ended before that point."""
        def there():
            return "standing still at '%s'" % point in running.result().stderr or not running.is_running()
        wait_until("standing still at " + point, there, seconds, 0.02)
        return "standing still at '%s'" % point in running.result().stderr

    def guardians(self, running):
        return [pid for pid in process_children(running.process.pid) if command_of(pid).startswith("kvss-guardian")]

    def servers(self, running):
        return [pid for pid in process_children(running.process.pid) if command_of(pid) == "qemu-nbd"]

    @staticmethod
    def machines():
        """The pids of every QEMU."""
        found = []
        for path in glob.glob("/run/libvirt/qemu/*.pid"):
            with contextlib.suppress(OSError, ValueError), open(path) as file:
                found.append(int(file.read()))
        return found

    def kill_like_the_host(self, running):
        """kvss, its guardian, libvirtd and every QEMU."""
        with open("/run/libvirtd.pid") as file:
            daemon = int(file.read())
        kill(running.process.pid, daemon, *process_children(running.process.pid), *self.machines())
        running.process.wait()
        wait_until("end of libvirtd", lambda: not os.path.exists("/proc/%d" % daemon))
        start_libvirtd()

    def strike(self, victims, running):
        """Kills whom it says; what lives on may finish."""
        if victims == "both":
            kill(running.process.pid, *self.guardians(running))
        elif victims == "kvss":
            kill(running.process.pid)
        elif victims == "guardian":
            kill(*self.guardians(running))
        elif victims == "qemu-nbd":
            kill(*self.servers(running))
        elif victims == "libvirtd":
            stop_libvirtd(hard=True)
            start_libvirtd()
        elif victims == "host":
            self.kill_like_the_host(running)
        elif victims == "SIGINT":
            running.signal(signal.SIGINT)
        else:
            raise ValueError(victims)

    def evidence(self):
        """Who still works at it, and what its guardian said: for the report of a failure."""
        seen = [getattr(self, "doctor_said", "")]
        for path in glob.glob("/var/lib/kvss/guardian.log") + glob.glob("/var/lib/kvss/journals/*.journal"):
            with contextlib.suppress(OSError), open(path, errors="replace") as file:
                seen.append("%s:\n%s" % (path, file.read()[-4000:]))
        for command in (["virsh", "list", "--all"], ["virsh", "domjobinfo", "web"]):
            with contextlib.suppress(LabError):
                seen.append(run(*command, timeout=20))
        for path in glob.glob("/proc/[0-9]*/comm"):
            pid = int(path.split("/")[2])
            if shutil.which("gdb") and command_of(pid) in ("kvss-guardian", "libvirtd"):
                with contextlib.suppress(LabError):
                    seen.append(run("gdb", "-p", str(pid), "-batch", "-ex", "thread apply all bt", timeout=60))
        return "\n".join(str(each) for each in seen)

    def recover(self, kill_at=None):
        """Doctor; with kill_at, one that is killed at that step of its own, and another one."""
        if kill_at is not None:
            doctor = self.kvss.start("doctor", env={"KVSS_TEST_STALL": "step-%d:60" % kill_at})
            self.addCleanup(doctor.process.kill)
            if self.reaches(doctor, "step-%d" % kill_at, 150):
                kill(doctor.process.pid)
            doctor.process.wait()
        result = self.kvss("doctor", timeout=150)
        self.doctor_said = str(result)
        self.assertExit(result, 0)
        return result

    def killed_at_step(self, number, victims, state, kill_doctor_at=None):
        """False when the restore has no such step and is complete."""
        self.bring_to(state)
        before = self.look()
        running = self.start("step-%d:%g" % (number, 2 if victims in ("guardian", "libvirtd", "qemu-nbd", "SIGINT") else 60))
        is_there = self.reaches(running, "step-%d" % number)
        if is_there:
            self.strike(victims, running)
        result = running.wait(180)
        if not is_there:
            self.assertExit(result, 0)
        self.recover(kill_doctor_at)
        which = self.assertWhole(before, crashed=victims == "host")
        if result.rc >= 0:
            self.assertEqual(which, "new" if result.rc == 0 else "old", "it says one thing and does another: %s" % result)
        if victims == "SIGINT" and is_there:
            self.assertIn(result.rc, (130, 0), str(result))
        print("step %d (%s), %s killed%s: %s" % (number, state, victims, "" if kill_doctor_at is None else
                                               ", then doctor at its step %d" % kill_doctor_at, which), file=sys.stderr, flush=True)
        return is_there

    def make_anew(self):
        self.kvss("doctor")
        self.web.delete()
        type(self).web.define()
        self.kvss("restore", "latest", "web", "--yes")


class KilledAtSomeSteps(FaultCase):
    """A handful, chosen: around the stop, the files, the registration, the point of no return."""
    cost = 60

    def test_power_cut_with_a_running_vm(self):
        """Its memory was saved, its files are aside, its definition is gone; nothing new is there yet."""
        self.assertTrue(self.killed_at_step(15, "both", RUNNING))

    def test_killed_while_disks_are_written(self):
        self.assertTrue(self.killed_at_step(21, "kvss", OFF))

    def test_power_cut_before_the_end(self):
        self.assertTrue(self.killed_at_step(28, "both", OFF, kill_doctor_at=3))

    def test_host_dies(self):
        self.assertTrue(self.killed_at_step(17, "host", RUNNING))


class SaveCutOff(FaultCase):
    """libvirtd dies while it saves a VM: it lets it run on, and leaves the image where the next start finds it."""
    cost = 15

    def cut_off(self, with_host=False):
        """A restore over a running VM is killed when its save begins, with libvirtd, which leaves what it left in truth."""
        self.bring_to(RUNNING)
        before = self.look()
        running = self.start("step-%d:60" % STOP_STEP)
        self.assertTrue(self.reaches(running, "step-%d" % STOP_STEP))
        self.assertEqual(self.web.state(), RUNNING)
        kill(running.process.pid, *self.guardians(running))
        running.wait()
        stop_libvirtd(hard=True)
        if with_host:
            kill(*self.machines())
        with open(self.web.save_path(), "wb") as image:
            image.write(b"LibvirtQemudPart" + bytes(1 << 20))
        start_libvirtd()
        return before

    def test_it_runs_on(self):
        before = self.cut_off()
        self.assertEqual(self.web.state(), RUNNING)
        self.recover()
        self.assertEqual(self.assertWhole(before), "old")

    def test_it_died_too(self):
        """No start afresh: that is not what was taken back."""
        before = self.cut_off(with_host=True)
        self.recover()
        self.assertEqual(self.web.state(), OFF)
        self.assertEqual(self.assertWhole(before, crashed=True), "old")


class NoRoom(FaultCase):
    """A file system is full from the middle of a restore on."""
    cost = 40

    @classmethod
    def make(cls):
        cls.mount_small("/var/lib/kvss", 8)
        cls.addClassCleanup(run, "umount", "-l", "/var/lib/kvss")
        super().make()

    @staticmethod
    def mount_small(folder, mib):
        """A small file system on this folder."""
        image = os.path.join(os.environ["LAB_WORK"], folder.replace("/", "-") + ".ext4")
        with open(image, "wb") as file:
            file.truncate(mib << 20)
        run("mkfs.ext4", "-q", "-F", "-O", "^has_journal", "-m", "0", image)
        os.makedirs(folder, exist_ok=True)
        run("mount", "-o", "loop", image, folder)
        os.rmdir(folder + "/lost+found")

    def filled(self, folder, state, steps):
        """At each of these steps the folder becomes full; when kvss has ended there is room again."""
        ends = set()
        for number in steps:
            self.bring_to(state)
            before = self.look()
            running = self.start("step-%d:2" % number)
            self.assertTrue(self.reaches(running, "step-%d" % number), str(running.result()))
            filler = os.path.join(folder, "filler")
            with contextlib.suppress(OSError), open(filler, "wb", buffering=0) as file:
                while True:
                    file.write(b"x" * (256 << 10) if os.statvfs(folder).f_bavail > 128 else b"x" * 512)
            try:
                result = running.wait(60)
            finally:
                os.unlink(filler)
            self.assertIn(result.rc, (0, 1), str(result))
            self.recover()
            which = self.assertWhole(before)
            self.assertEqual(which, "new" if result.rc == 0 else "old", str(result))
            if result.rc == 1:
                self.assertFailed(result, 1, "no space left on device", "everything is as it was before")
            print("step %d (%s), %s full: exit %d, %s; %s" % (number, state, folder, result.rc, which, " | ".join(result.stderr.strip().split("\n"))),
                  file=sys.stderr, flush=True)
            ends.add(which)
        return ends

    def test_state_folder(self):
        self.assertIn("old", self.filled("/var/lib/kvss", OFF, (4, 7, 12, 24)))

    def test_state_folder_with_a_running_vm(self):
        self.assertEqual(self.filled("/var/lib/kvss", RUNNING, (9, 15)), {"old"})

    def test_folder_of_the_images(self):
        folder = self.web.folder
        self.bring_to(OFF)
        self.mount_small(folder + "-small", 110)
        self.addCleanup(os.rmdir, folder + "-small")
        for path in self.web.paths().values():
            run("cp", "--sparse=always", path, folder + "-small/")
        run("mount", "--bind", folder + "-small", folder)
        run("umount", "-l", folder + "-small")
        self.addCleanup(run, "umount", "-l", folder)
        self.assertEqual(self.filled(folder, OFF, (9, 15, 19)), {"old"})

    def test_libvirts_save_folder(self):
        """The memory of the old VM does not fit: it runs on, and nothing else was begun."""
        self.bring_to(RUNNING)
        self.mount_small(SAVE_FOLDER, 16)
        self.addCleanup(run, "umount", "-l", SAVE_FOLDER)
        before = self.look()
        result = self.start().wait(60)
        self.assertFailed(result, 1, "web", "its memory cannot be saved")
        self.assertEqual(self.assertWhole(before), "old")


class BrokenDisk(FaultCase):
    """The n-th write, sync or rename of a program fails with EIO."""
    cost = 60

    def setUp(self):
        super().setUp()
        self.shim = os.path.join(os.path.dirname(KVSS), "tests/vm/fail-io.so")
        if not os.path.exists(self.shim):
            self.skipTest("there is no %s: a build with sanitizers has none" % self.shim)

    def failing(self, program, call, number, state=OFF):
        """False when the restore had no such call and is complete."""
        self.bring_to(state)
        before = self.look()
        env = {"LD_PRELOAD": self.shim, "KVSS_TEST_FAIL_IO": "%s:%s:%d:5" % (program, call, number)}
        result = self.kvss("restore", "latest", "web", "--yes", env=env)
        has_failed = "test: %s %d of %s fails" % (call, number, program) in result.stderr or result.rc != 0
        self.recover()
        which = self.assertWhole(before)
        self.assertEqual(which, "new" if result.rc == 0 else "old", str(result))
        if result.rc != 0:
            self.assertFailed(result, 1, "input/output error")
        print("%s %d of %s fails (%s): exit %d, %s; %s" % (call, number, program, state, result.rc, which, " | ".join(result.stderr.strip().split("\n"))),
              file=sys.stderr, flush=True)
        return has_failed

    def some(self, program, call, numbers, state=OFF):
        for number in numbers:
            with self.subTest("%s %d of %s" % (call, number, program)):
                if not self.failing(program, call, number, state):
                    self.assertGreater(number, 0, "no such call was ever made")
                    return

    def test_sync(self):
        self.some("kvss", "fsync", (2, 5, 9, 14, 20))

    def test_write_of_an_image(self):
        self.some("qemu-nbd", "pwrite", (0, 3))

    def test_sync_of_an_image(self):
        self.some("qemu-nbd", "fsync", (0,))

    def test_rename(self):
        self.some("kvss", "rename", (0, 1))

    def test_with_a_running_vm(self):
        self.some("qemu-nbd", "pwrite", (1,), RUNNING)


class BrokenDiskSweep(BrokenDisk):
    """Each of them."""
    cost = 300
    sweep = True

    def test_sync(self):
        self.some("kvss", "fsync", range(80))

    def test_write(self):
        self.some("kvss", "write", range(80))

    def test_write_of_an_image(self):
        self.some("qemu-nbd", "pwrite", range(0, 60, 3))

    def test_sync_of_an_image(self):
        self.some("qemu-nbd", "fsync", range(10))

    def test_rename(self):
        self.some("kvss", "rename", range(10))


class RepositoryVanishes(FaultCase):
    """Unmounted, or moved away, when the old VM has been set aside."""
    cost = 15

    def vanishes(self, state):
        self.bring_to(state)
        before = self.look()
        running = self.start("step-13:2")
        self.assertTrue(self.reaches(running, "step-13"))
        os.rename(self.kvss.repository + "/data", self.kvss.repository + "/away")
        try:
            result = running.wait(60)
        finally:
            os.rename(self.kvss.repository + "/away", self.kvss.repository + "/data")
        self.assertNotIn(result.rc, (0, 3), str(result))
        self.assertFailed(result, result.rc, "web")
        self.recover()
        self.assertEqual(self.assertWhole(before), "old")

    def test_off(self):
        self.vanishes(OFF)

    def test_running(self):
        self.vanishes(RUNNING)


class KilledAtEveryStep(FaultCase):
    """The sweep over the journal."""
    cost = 1500
    sweep = True

    def every_step(self, victims, states, doctors=(None,)):
        for number in itertools.count():
            state, kill_at = states[number % len(states)], doctors[number % len(doctors)]
            with self.subTest("step %d, %s" % (number, state)):
                try:
                    is_there = self.killed_at_step(number, victims, state, kill_at)
                except BaseException:
                    print("FAILED step %d (%s), %s killed; %s" % (number, state, victims, self.evidence()),
                          file=sys.stderr, flush=True)
                    is_there = number < 80
                    self.make_anew()
                    raise
            if not is_there:
                self.assertGreater(number, 20)
                return

    def test_power_cut(self):
        self.every_step("both", [OFF, RUNNING, OFF, OFF, SAVED, OFF, OFF, PAUSED])

    def test_power_cut_and_doctor_killed(self):
        self.every_step("both", [OFF, OFF, OFF, RUNNING], doctors=range(0, 14, 2))

    def test_kvss_killed(self):
        self.every_step("kvss", [OFF, OFF, RUNNING, OFF, OFF, PAUSED, OFF, OFF, SAVED])

    def test_guardian_killed(self):
        self.every_step("guardian", [OFF, OFF, OFF, OFF, RUNNING])

    def test_host_dies(self):
        self.every_step("host", [RUNNING, OFF, OFF, SAVED, OFF, OFF, PAUSED])

    def test_libvirtd_dies(self):
        self.every_step("libvirtd", [OFF, RUNNING, OFF, OFF, OFF, PAUSED, OFF, SAVED])

    def test_interrupted(self):
        self.every_step("SIGINT", [OFF, OFF, RUNNING, OFF])


class KilledAtRandom(FaultCase):
    """The sweep over time: random moments, random victims, VMs in any state."""
    cost = 1500
    sweep = True
    VICTIMS = ["kvss", "kvss", "guardian", "both", "both", "qemu-nbd", "libvirtd", "host", "SIGINT"]

    def whole_run(self, state):
        """Seconds that an unkilled restore takes from this state."""
        self.bring_to(state)
        before = self.look()
        begin = time.monotonic()
        self.assertExit(self.start().wait(), 0)
        seconds = time.monotonic() - begin
        self.assertEqual(self.assertWhole(before), "new")
        return seconds

    def round(self, number, seconds):
        rng = random.Random("%s-%d" % (SEED, number))
        state = rng.choice([OFF, OFF, OFF, rng.choice([RUNNING, RUNNING, PAUSED, SAVED])])
        victims, at = rng.choice(self.VICTIMS), rng.uniform(0, seconds[state] * 1.05)
        kill_doctor_at = rng.choice([None, None, rng.randrange(12)])
        self.bring_to(state)
        before = self.look()
        running = self.start()
        time.sleep(at)
        has_struck = running.is_running()
        if has_struck:
            self.strike(victims, running)
        result = running.wait(180)
        self.recover(kill_doctor_at)
        which = self.assertWhole(before, crashed=victims == "host")
        if result.rc >= 0:
            self.assertEqual(which, "new" if result.rc == 0 else "old", "it says one thing and does another: %s" % result)
        return "%s, %s killed after %.2f s of %.2f s%s%s: exit %s, %s" % (
            state, victims, at, seconds[state], "" if has_struck else " (too late)",
            "" if kill_doctor_at is None else ", doctor at its step %d" % kill_doctor_at, result.rc, which)

    def some_rounds(self, numbers):
        print("KVSS_TEST_SEED=%s KVSS_TEST_ROUNDS=%d KVSS_TEST_FIRST=%d" % (SEED, len(numbers), numbers[0]), file=sys.stderr, flush=True)
        seconds = {state: self.whole_run(state) for state in (OFF, RUNNING, PAUSED, SAVED)}
        for number in numbers:
            with self.subTest("seed %s round %d" % (SEED, number)):
                try:
                    told = self.round(number, seconds)
                except BaseException as error:
                    print("FAILED seed %s round %d: %s\n%s" % (SEED, number, error, self.evidence()),
                          file=sys.stderr, flush=True)
                    self.make_anew()
                    raise
                print("seed %s round %d: %s" % (SEED, number, told), file=sys.stderr, flush=True)


def add_tests():
    for first in range(FIRST, FIRST + ROUNDS, ROUNDS_A_TEST):
        numbers = range(first, min(first + ROUNDS_A_TEST, FIRST + ROUNDS))
        setattr(KilledAtRandom, "test_rounds_%03d_to_%03d" % (numbers[0], numbers[-1]),
                lambda self, numbers=numbers: self.some_rounds(numbers))


add_tests()
