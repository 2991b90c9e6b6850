"""Disks that are written over where they are: only what differs, and always with a way back."""
import json
import os
import random
import shutil
import signal

from kvsslab import Disk, Image, Kvss, LabCase, file_hash, files_below, process_children, run, virsh, wait_until

MIB = 1 << 20


class BlockDisk(Disk):
    """A loop device. The device is larger than the file's first part that the test looks at."""

    def create(self, path):
        super().create(path)
        self.device = run("losetup", "--find", "--show", path).strip()

    def release(self):
        run("losetup", "-d", self.device, check=False)

    def xml(self):
        return ("<disk type='block' device='disk'><driver name='qemu' type='raw' cache='none'/><source dev='%s'/>"
                "<target dev='%s' bus='%s'/></disk>" % (self.device, self.target, self.bus))

    def hash(self):
        run("sync", self.device)
        return file_hash(self.device)


class InPlaceCase(LabCase):

    @staticmethod
    def scribble(disk, *places, seed=1):
        """Other bytes at some places of a disk: (offset, length) in MiB."""
        for offset, length in places:
            data = random.Random("%s %s %s" % (seed, disk.target, offset)).randbytes(int(length * MIB))
            if disk.form == "raw":
                with open(getattr(disk, "device", disk.path), "r+b") as file:
                    file.seek(int(offset * MIB))
                    file.write(data)
                    file.flush()
                    os.fsync(file.fileno())
            else:
                source = disk.path + ".new"
                with open(source, "wb") as file:
                    file.write(data)
                run("qemu-io", "-f", disk.form, "-c", "write -s %s %d %d" % (source, offset * MIB, len(data)), disk.path)
                os.unlink(source)

    def start_and_reach(self, point, *arguments, **options):
        return super().start_and_reach(point, "restore", "latest", *arguments, "--yes", **options)

    def assertNoLogs(self, guest):
        left = [path for path in files_below(guest.folder, "/var/lib/kvss") if ".kvss-" in path]
        self.assertEqual(left, [], "left behind")
        self.assertNothingLeft()

    def disks_of(self, result, name):
        return {disk["target"]: disk for disk in result.vm(name)["disks"]}

    def damaged(self):
        """A copy of the repository in which the largest pack has a hole."""
        folder = self.lab.path("damaged")
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(self.kvss.repository, folder)
        pack = max(files_below(folder + "/data"), key=os.path.getsize)
        os.chmod(pack, 0o600)
        with open(pack, "r+b") as file:
            file.seek(os.path.getsize(pack) - 3 * MIB)
            file.write(os.urandom(2 * MIB))
        return Kvss(self.lab, folder)


class InPlace(InPlaceCase):
    """Images of a VM that is off: raw, qcow2, and one that cannot be kept."""
    cost = 60

    @classmethod
    def make(cls):
        super().make()
        cls.off = cls.lab.guest("off", disks=[
            Disk("vda", kind="random", content_kib=40 << 10), Disk("vdb", form="raw", kind="random", content_kib=40 << 10)]).define()
        cls.first = cls.kvss("backup", "off")
        cls.hashes = {disk.target: disk.hash() for disk in cls.off.disks}

    def setUp(self):
        self.assertExit(self.first, 0)

    def assertRestored(self):
        self.assertEqual({disk.target: disk.hash() for disk in self.off.disks}, self.hashes)
        self.assertEqual(self.off.state(), "shut off")
        self.assertNoLogs(self.off)

    def test_only_what_differs(self):
        """Few bytes changed: few are written, the images keep their place, their content is the stored one."""
        inodes = {disk.target: os.stat(disk.path).st_ino for disk in self.off.disks}
        for disk in self.off.disks:
            self.scribble(disk, (1, 0.01), (20, 1), (50, 0.25))
        plan = self.kvss("restore", "latest", "off", "--in-place", "--dry-run")
        self.assertExit(plan, 0)
        for target, disk in self.disks_of(plan, "off").items():
            self.assertTrue(disk["in_place"], target)
            self.assertTrue(1.25 * MIB <= disk["bytes_differing"] <= 2.5 * MIB, str(disk))
        self.assertTrue(any("of its bytes differ" in step for step in plan.summary["steps"]), str(plan))
        result = self.restore("latest", "off", "--in-place")
        for target, disk in self.disks_of(result, "off").items():
            self.assertTrue(1.25 * MIB <= disk["bytes_written"] <= 1.5 * MIB, str(disk))
        self.assertEqual({disk.target: os.stat(disk.path).st_ino for disk in self.off.disks}, inodes)
        self.assertRestored()

    def test_nothing_differs(self):
        result = self.restore("latest", "off", "--in-place")
        self.assertEqual([disk["bytes_written"] for disk in self.disks_of(result, "off").values()], [0, 0])
        self.assertRestored()

    def test_other_size_is_restored_whole(self):
        run("qemu-img", "resize", "-q", "-f", "raw", self.off.disk("vdb").path, "80M")
        plan = self.kvss("restore", "latest", "off", "--in-place", "--dry-run")
        self.assertTrue(any("disk vdb: restored whole: it differs in size" in step for step in plan.summary["steps"]), str(plan))
        result = self.restore("latest", "off", "--in-place")
        disks = self.disks_of(result, "off")
        self.assertEqual({target: disk["in_place"] for target, disk in disks.items()}, {"vda": True, "vdb": False})
        self.assertRestored()

    def test_internal_snapshot_is_restored_whole(self):
        run("qemu-img", "snapshot", "-c", "mine", self.off.disk("vda").path)
        result = self.restore("latest", "off", "--in-place")
        self.assertFalse(self.disks_of(result, "off")["vda"]["in_place"])
        self.assertIn("internal snapshots", " ".join(result.summary["steps"]))
        self.assertRestored()

    def test_usage(self):
        self.assertFailed(self.kvss("restore", "latest", "off", "--in-place", "--keep-old"), 2, "--keep-old")

    def test_other_names_are_restored_whole(self):
        """What a hard link has the image by keeps the old content."""
        disk = self.off.disk("vdb")
        self.scribble(disk, (0, 1))
        before = disk.hash()
        os.link(disk.path, self.lab.path("other"))
        result = self.restore("latest", "off", "--in-place")
        self.assertFalse(self.disks_of(result, "off")["vdb"]["in_place"])
        self.assertEqual(file_hash(self.lab.path("other")), before)
        os.unlink(self.lab.path("other"))
        self.assertRestored()

    def test_without_a_way_back(self):
        self.scribble(self.off.disk("vda"), (3, 1))
        result = self.restore("latest", "off", "--in-place", "--no-rollback")
        self.assertTrue(any("no way back" in step for step in result.summary["steps"]), str(result))
        self.assertLess(self.disks_of(result, "off")["vda"]["bytes_written"], 2 * MIB)
        self.assertRestored()

    def killed(self, hard):
        """In the middle of the write, with or without the guardian: the old content is back, byte for byte."""
        for disk in self.off.disks:
            self.scribble(disk, (0, 40), seed=random.random())
        before = {disk.target: disk.hash() for disk in self.off.disks}
        running = self.start_and_reach("restore-in-place", "off", "--in-place")
        self.assertNotIn("off", virsh("list", "--all", "--name").split(), "a VM with a half-new disk is registered")
        self.assertFalse(os.path.exists(self.off.disk("vda").path), "a half-new image stands at its place")
        children = process_children(running.process.pid)
        self.assertTrue(children, "there is no guardian")
        for pid in children if hard else []:
            os.kill(pid, signal.SIGKILL)
        running.signal(signal.SIGKILL)
        running.process.wait()
        doctor = self.kvss("doctor")
        self.assertExit(doctor, 0)
        if hard:
            self.assertIn("being written over", json.dumps(doctor.document["undone"]), "somebody else was there before")
        self.assertEqual({disk.target: disk.hash() for disk in self.off.disks}, before)
        self.assertEqual(self.off.state(), "shut off")
        self.assertNoLogs(self.off)
        self.restore("latest", "off", "--in-place")
        self.assertRestored()

    def test_killed(self):
        self.killed(False)

    def test_killed_with_its_guardian(self):
        self.killed(True)

    def test_damaged_pack(self):
        for disk in self.off.disks:
            self.scribble(disk, (0, 40), seed=random.random())
        before = {disk.target: disk.hash() for disk in self.off.disks}
        self.assertFailed(self.damaged()("restore", "latest", "off", "--in-place", "--yes"), 7, "off")
        self.assertEqual({disk.target: disk.hash() for disk in self.off.disks}, before)
        self.assertNoLogs(self.off)
        self.restore("latest", "off", "--in-place")
        self.assertRestored()


class InPlaceRunning(InPlaceCase):
    cost = 60

    @classmethod
    def make(cls):
        super().make()
        cls.web = cls.lab.guest("web", disks=[Disk("vda"), Disk("vdb", form="raw")]).define().start()
        cls.web.sh("echo old > /mnt/vda/letter; sync")
        cls.first = cls.kvss("backup", "web")

    def setUp(self):
        self.assertExit(self.first, 0)
        if self.web.state() != "running":
            self.web.start()
        self.web.sh("echo new > /mnt/vda/letter; sync")

    def test_running_needs_a_way_back(self):
        """Its memory, put back to disks that are half new, would ruin them."""
        result = self.kvss("restore", "latest", "web", "--in-place", "--no-rollback", "--yes")
        self.assertFailed(result, 1, "web", "running", "--no-rollback")
        self.assertTrue(self.web.writes())
        self.assertEqual(self.web.mismatches(), [])
        self.assertNoLogs(self.web)

    def test_over_a_running_vm(self):
        result = self.restore("latest", "web", "--in-place")
        for disk in self.disks_of(result, "web").values():
            self.assertTrue(disk["in_place"])
            self.assertLess(disk["bytes_written"], 8 * MIB, str(disk))
        self.assertOneInstant(self.web)
        self.assertEqual(self.web.images()["vda"].cat("/letter").strip(), b"old")
        self.assertFalse(self.web.has_save(), "the old VM's memory was left")
        self.assertNoLogs(self.web)

    def test_killed(self):
        """The VM is back with its memory, and disks that fit it."""
        secret = self.secret(self.web)
        running = self.start_and_reach("restore-in-place", "web", "--in-place")
        running.signal(signal.SIGKILL)
        running.process.wait()
        self.assertExit(self.kvss("doctor"), 0)
        self.web.disconnect()
        wait_until("running", lambda: self.web.state() == "running")
        self.assertEqual(self.web.sh("cat /run/secret"), secret, "it was booted afresh")
        self.assertEqual(self.web.sh("cat /mnt/vda/letter").strip(), "new")
        self.assertTrue(self.web.writes())
        self.assertEqual(self.web.mismatches(), [])
        self.assertNoLogs(self.web)


class Device(InPlaceCase):
    """A block device: written over where it is, with a way back unless that is given up."""
    cost = 60

    @classmethod
    def make(cls):
        super().make()
        cls.disk = BlockDisk("vda", form="raw", kind="random", content_kib=40 << 10)
        cls.dev = cls.lab.guest("dev", disks=[cls.disk]).define()
        cls.addClassCleanup(cls.disk.release)
        cls.first = cls.kvss("backup", "dev")
        cls.stored = cls.disk.hash()

    def setUp(self):
        self.assertExit(self.first, 0)
        self.scribble(self.disk, (0, 30), seed=random.random())
        self.before = self.disk.hash()

    def test_restored(self):
        result = self.restore("latest", "dev")
        self.assertEqual(self.disk.hash(), self.stored)
        self.assertTrue(30 * MIB <= self.disks_of(result, "dev")["vda"]["bytes_written"] <= 31 * MIB, str(result))
        self.assertTrue(any("roll-back log" in step for step in result.summary["steps"]), str(result))
        self.assertNoLogs(self.dev)

    def test_killed(self):
        running = self.start_and_reach("restore-in-place", "dev")
        self.assertNotEqual(self.disk.hash(), self.before, "nothing was written yet")
        running.signal(signal.SIGKILL)
        running.process.wait()
        self.assertExit(self.kvss("doctor"), 0)
        self.assertEqual(self.disk.hash(), self.before)
        self.assertEqual(self.dev.state(), "shut off")
        self.assertNoLogs(self.dev)

    def test_damaged_pack(self):
        self.scribble(self.disk, (0, 40), seed=random.random())     # whatever the pack holds, it is needed
        self.before = self.disk.hash()
        self.assertFailed(self.damaged()("restore", "latest", "dev", "--yes"), 7, "dev")
        self.assertEqual(self.disk.hash(), self.before)
        self.assertNoLogs(self.dev)
        self.restore("latest", "dev")

    def test_without_a_way_back(self):
        plan = self.kvss("restore", "latest", "dev", "--no-rollback", "--dry-run")
        self.assertTrue(any("without a way back" in step for step in plan.summary["steps"]), str(plan))
        self.restore("latest", "dev", "--no-rollback")
        self.assertEqual(self.disk.hash(), self.stored)
        self.assertNoLogs(self.dev)

    def test_single_disk(self):
        """The VM stays registered; nothing can keep it from a start, and the plan says so."""
        plan = self.kvss("restore", "latest", "dev", "--disk", "vda", "--dry-run")
        self.assertTrue(any("do not start it" in step for step in plan.summary["steps"]), str(plan))
        running = self.start_and_reach("restore-in-place", "dev", "--disk", "vda")
        running.signal(signal.SIGKILL)
        running.process.wait()
        self.assertExit(self.kvss("doctor"), 0)
        self.assertEqual(self.disk.hash(), self.before)
        self.restore("latest", "dev", "--disk", "vda")
        self.assertEqual(self.disk.hash(), self.stored)
        self.assertEqual(self.dev.state(), "shut off")
        self.assertNoLogs(self.dev)

    def small_scratch(self, size):
        """A configuration whose scratch-dir is a file system of its own."""
        folder = self.lab.path("small")
        os.makedirs(folder, exist_ok=True)
        with open(folder + ".img", "wb") as file:
            file.truncate(size)
        run("mkfs.ext4", "-q", "-F", "-O", "^has_journal", "-m", "0", folder + ".img")
        run("mount", "-o", "loop", folder + ".img", folder)
        self.addCleanup(run, "umount", folder)
        config = self.lab.path("kvss.conf")
        with open(config, "w") as file:
            file.write("[defaults]\nscratch-dir = %s\n" % folder)
        return {"KVSS_CONFIG": config}, folder

    def test_no_room_for_the_way_back(self):
        """Refused before anything is written, with the bytes and the two ways out."""
        env, _ = self.small_scratch(20 * MIB)
        result = self.kvss("restore", "latest", "dev", "--yes", env=env)
        self.assertFailed(result, 1, "bytes", "scratch-dir", "--no-rollback")
        self.assertEqual(self.disk.hash(), self.before)
        self.assertEqual(self.dev.state(), "shut off")
        self.assertNoLogs(self.dev)

    def test_room_vanishes(self):
        """There was room, and somebody else takes it while the log is written."""
        env, folder = self.small_scratch(64 * MIB)
        running = self.start_and_reach("restore-in-place", "dev", env=env)
        with open(folder + "/fill", "wb") as file:
            try:
                while file.write(bytes(MIB)):
                    file.flush()
            except OSError:
                pass
        running.let_go()
        self.assertFailed(running.wait(), 1, "dev", "vda")
        self.assertEqual(self.disk.hash(), self.before)
        os.unlink(folder + "/fill")
        self.assertEqual([path for path in files_below(folder) if "lost+found" not in path], [])
        self.assertNoLogs(self.dev)


class SingleDisks(InPlaceCase):
    """--disk: only some disks of a VM, which stays registered."""
    cost = 60

    @classmethod
    def make(cls):
        super().make()
        cls.two = cls.lab.guest("two", disks=[
            Disk("vda", kind="random", content_kib=40 << 10), Disk("vdb", form="raw", kind="random", content_kib=40 << 10)]).define()
        cls.other = cls.lab.guest("other", disks=[Disk("vda", form="raw", kind="random", content_kib=100)]).define()
        cls.first = cls.kvss("backup", "two", "other")
        cls.hashes = {disk.target: disk.hash() for disk in cls.two.disks}

    def setUp(self):
        self.assertExit(self.first, 0)
        for disk in self.two.disks:
            self.scribble(disk, (0, 30), seed=random.random())
        self.before = {disk.target: disk.hash() for disk in self.two.disks}
        self.xml = virsh("dumpxml", "two")

    def assertOnly(self, result, **expected):
        """These disks are the stored ones; all else is as it was."""
        if result:
            self.assertEqual(set(self.disks_of(result, "two")), set(expected))
        self.assertEqual({disk.target: disk.hash() for disk in self.two.disks}, dict(self.before, **expected))
        self.assertEqual(virsh("dumpxml", "two"), self.xml)
        self.assertEqual(self.two.state(), "shut off")
        self.assertNoLogs(self.two)

    def test_one_of_two(self):
        plan = self.kvss("restore", "latest", "two", "--disk", "vdb", "--dry-run")
        self.assertTrue(any("stays registered" in step for step in plan.summary["steps"]), str(plan))
        self.assertFalse(any("taken out of libvirt" in step for step in plan.summary["steps"]), str(plan))
        self.assertOnly(None)
        self.assertOnly(self.restore("latest", "two", "--disk", "vdb"), vdb=self.hashes["vdb"])

    def test_both(self):
        self.assertOnly(self.restore("latest", "two", "--disk", "vdb", "--disk", "vda", "--disk", "vdb"), **self.hashes)

    def test_in_place(self):
        inode = os.stat(self.two.disk("vda").path).st_ino
        result = self.restore("latest", "two", "--disk", "vda", "--in-place")
        self.assertOnly(result, vda=self.hashes["vda"])
        self.assertEqual(os.stat(self.two.disk("vda").path).st_ino, inode)
        self.assertLess(self.disks_of(result, "two")["vda"]["bytes_written"], 31 * MIB)

    def test_file_that_is_gone(self):
        os.unlink(self.two.disk("vdb").path)
        self.assertOnly(self.restore("latest", "two", "--disk", "vdb"), vdb=self.hashes["vdb"])

    def test_present_place_and_format(self):
        """The VM has the disk elsewhere and in another format by now: there and so it comes back."""
        path = self.lab.path("moved.qcow2")
        run("qemu-img", "create", "-q", "-f", "qcow2", path, "64M")
        text = self.xml.replace(self.two.disk("vdb").path, path).replace("type='raw'", "type='qcow2'")
        with open(self.lab.path("moved.xml"), "w") as file:
            file.write(text)
        virsh("define", file.name)
        result = self.restore("latest", "two", "--disk", "vdb")
        self.assertEqual(self.disks_of(result, "two")["vdb"]["path"], path)
        self.assertEqual(Image(path).info()["format"], "qcow2")
        self.assertEqual(Image(path).hash(), self.hashes["vdb"])
        self.assertEqual(self.two.disk("vdb").hash(), self.before["vdb"])
        with open(self.lab.path("moved.xml"), "w") as file:
            file.write(self.xml)
        virsh("define", file.name)
        self.assertOnly(None)

    def test_damaged_pack(self):
        inode = os.stat(self.two.disk("vdb").path).st_ino
        self.assertFailed(self.damaged()("restore", "latest", "two", "--disk", "vda", "--disk", "vdb", "--yes"), 7, "two")
        self.assertEqual(os.stat(self.two.disk("vdb").path).st_ino, inode)
        self.assertOnly(None)

    def killed(self, point, *options):
        """While its disk is half new, the VM cannot be started; afterwards the disk is as it was."""
        running = self.start_and_reach(point, "two", "--disk", "vdb", *options)
        self.assertNotEqual(virsh("start", "two", check=False)[0], 0, "it was started")
        for pid in process_children(running.process.pid):
            os.kill(pid, signal.SIGKILL)
        running.signal(signal.SIGKILL)
        running.process.wait()
        self.assertNotEqual(virsh("start", "two", check=False)[0], 0, "it was started")
        self.xml = virsh("dumpxml", "two")      # a start that fails gives its controllers another order
        self.assertExit(self.kvss("doctor"), 0)
        self.assertOnly(None)

    def test_killed(self):
        self.killed("restore-files")

    def test_killed_in_place(self):
        self.killed("restore-in-place", "--in-place")

    def test_refused(self):
        self.assertFailed(self.kvss("restore", "latest", "two", "--disk", "vdz", "--yes"), 1, "two", "vdz", "vda, vdb")
        self.assertFailed(self.kvss("restore", "latest", "--disk", "vda", "--yes"), 2, "one vm")
        self.assertFailed(self.kvss("restore", "latest", "two", "other", "--disk", "vda", "--yes"), 2, "one vm")
        self.assertFailed(self.kvss("restore", "latest", "two", "--disk", "vda", "--as", "three", "--yes"), 2, "--as")
        self.assertFailed(self.kvss("restore", "latest", "two", "--disk", "vda", "--to", "/tmp/x", "--start"), 2, "--start")
        self.other.undefine()
        self.assertFailed(self.kvss("restore", "latest", "other", "--disk", "vda", "--yes"), 1, "other", "not on this host", "--to")
        self.other.define()
        self.assertOnly(None)


class BesideRunning(InPlaceCase):
    """--disk with --to: a file, and the VM is not touched."""
    cost = 50

    @classmethod
    def make(cls):
        super().make()
        cls.web = cls.lab.guest("web", disks=[Disk("vda"), Disk("vdb", form="raw", kind="random", content_kib=1000)]).define()
        cls.first = cls.kvss("backup", "web")
        cls.hashes = {disk.target: disk.hash() for disk in cls.web.disks}
        cls.web.start()

    def setUp(self):
        self.assertExit(self.first, 0)

    def test_beside(self):
        folder = self.lab.path("beside")
        before = virsh("dumpxml", "web")
        result = self.restore("latest", "web", "--disk", "vdb", "--to", folder)
        self.assertEqual(os.listdir(folder), ["web-vdb.img"])
        self.assertEqual(file_hash(folder + "/web-vdb.img"), self.hashes["vdb"])
        self.assertEqual(list(self.disks_of(result, "web")), ["vdb"])
        self.assertEqual(result.vm("web")["state"], "running")
        self.assertEqual(virsh("dumpxml", "web"), before)
        self.assertTrue(self.web.writes())
        self.assertEqual(self.web.mismatches(), [])
        self.assertNoLogs(self.web)
        # Once more: what is there is set aside, and stays.
        self.restore("latest", "web", "--disk", "vdb", "--to", folder)
        self.assertEqual(len(os.listdir(folder)), 2)

    def test_without_its_vm(self):
        folder = self.lab.path("alone")
        other = self.lab.guest("gone", disks=[Disk("vda", kind="random", content_kib=500)]).define()
        self.backup("gone")
        before = other.disk("vda").hash()
        other.delete()
        result = self.restore("latest", "gone", "--disk", "vda", "--to", folder)
        self.assertEqual(Image(folder + "/gone-vda.qcow2").hash(), before)
        self.assertIsNone(result.vm("gone")["state"])
        self.assertNotIn("gone", virsh("list", "--all", "--name").split())
        self.lab.guests.remove(other)
        self.assertNoLogs(self.web)

    def test_running_and_saved_are_refused(self):
        result = self.kvss("restore", "latest", "web", "--disk", "vda", "--yes")
        self.assertFailed(result, 1, "web", "running", "shut it down", "--to")
        self.assertTrue(self.web.writes())
        self.web.save()
        try:
            self.assertFailed(self.kvss("restore", "latest", "web", "--disk", "vda", "--yes"), 1, "web", "saved", "memory")
            self.assertEqual(self.web.state(), "saved")
        finally:
            self.web.start(wait=False)
        self.assertTrue(self.web.writes())
        self.assertNoLogs(self.web)

    def test_place_of_its_own_disk(self):
        """A file that a VM uses is in the way, also when it is the VM's own."""
        disk = Disk("vda", form="raw", kind="random", content_kib=100)
        os.makedirs(self.lab.path("own"), exist_ok=True)
        disk.create(self.lab.path("own") + "/own-vda.img")
        own = self.lab.guest("own", disks=[disk]).define()
        self.backup("own")
        before = disk.hash()
        self.assertFailed(self.kvss("restore", "latest", "own", "--disk", "vda", "--to", self.lab.path("own"), "--yes"), 1, "in use by vm own")
        self.assertEqual(disk.hash(), before)
        own.undefine()
        self.lab.guests.remove(own)


class EachStep(InPlaceCase):
    """Killed with its guardian at each line of its journal: every disk is the old one, or every disk the new one."""
    cost = 100
    sweep = True

    @classmethod
    def make(cls):
        super().make()
        cls.device = BlockDisk("vdb", form="raw", size_mib=4, kind="random", content_kib=4 << 10)
        cls.off = cls.lab.guest("off", disks=[Disk("vda", size_mib=4, kind="random", content_kib=4 << 10), cls.device]).define()
        cls.addClassCleanup(cls.device.release)
        cls.first = cls.kvss("backup", "off")
        cls.new = cls.hashes()

    @classmethod
    def hashes(cls):
        return {disk.target: disk.hash() for disk in cls.off.disks}

    def setUp(self):
        self.assertExit(self.first, 0)
        self.scribble_both()

    def scribble_both(self):
        for disk in self.off.disks:
            self.scribble(disk, (1, 2), seed=random.random())
        self.old = self.hashes()

    def reaches(self, running, point):
        wait_until(point, lambda: not running.is_running() or "standing still at '%s'" % point in running.result().stderr, 60)
        return running.is_running()

    def kill(self, running):
        for pid in process_children(running.process.pid):
            os.kill(pid, signal.SIGKILL)
        running.signal(signal.SIGKILL)
        running.process.wait()

    def assertOldOrNew(self, where):
        self.assertExit(self.kvss("doctor"), 0)
        found = self.hashes()
        self.assertIn(found, (self.old, self.new), where)
        self.assertEqual(self.off.state(), "shut off", where)
        self.assertNoLogs(self.off)
        if found == self.new:
            self.scribble_both()
        return found == self.new

    def test_restore(self):
        seen = set()
        for number in range(200):
            point = "step-%d" % number
            running = self.kvss.start("restore", "latest", "off", "--in-place", "--yes", env={"KVSS_TEST_STALL": point + ":60"})
            self.addCleanup(running.process.kill)
            if not self.reaches(running, point):
                self.assertExit(running.wait(), 0)
                self.assertEqual(self.hashes(), self.new)
                break
            self.kill(running)
            seen.add(self.assertOldOrNew(point))
        self.assertGreater(number, 20, "hardly any step was seen")
        self.assertEqual(seen, {False, True})

    def test_doctor(self):
        """doctor itself is killed while it writes back."""
        for number in range(200):
            running = self.start_and_reach("restore-in-place", "off", "--in-place")
            self.kill(running)
            point = "step-%d" % number
            doctor = self.kvss.start("doctor", env={"KVSS_TEST_STALL": point + ":60"})
            self.addCleanup(doctor.process.kill)
            is_there = self.reaches(doctor, point)
            if is_there:
                self.kill(doctor)
            self.assertFalse(self.assertOldOrNew(point), "the new disks stand: " + point)
            if not is_there:
                break
        self.assertGreater(number, 4, "hardly any step was seen")
