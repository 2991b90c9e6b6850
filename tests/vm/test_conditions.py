"""Each of the five conditions flipped alone, in a real guest: explain shows it with the value seen, a backup gets the method that
follows, with that reason everywhere, and the guest is as it was."""
import json
import os

from kvsslab import Disk, Image, LabCase, LabError, run, wait_until
from targets import IscsiTarget

STRIPE = 64 * 1024          # kvss-lab's volumes


class Conditions(LabCase):
    ALL = ["C1", "C2", "C3", "C4", "C5"]

    def explained(self, guest, *options):
        result = self.kvss("explain", guest.name, *options)
        self.assertIn(result.rc, (0, 3), str(result))
        vms = result.document if isinstance(result.document, list) else result.document["vms"]
        return next(v for v in vms if v["name"] == guest.name)

    def stored(self, name):
        """What the last set in the repository says of a VM, to us and to show."""
        document = json.loads(self.kvss.restic("-q", "dump", "latest", "/set.json"))
        shown = self.kvss("show", "latest")
        self.assertExit(shown, 0)
        return [next(v for v in d["vms"] if v["name"] == name) for d in (document, shown.document)]

    def assertConditions(self, vm, failing, words, unknown):
        """Exactly these do not hold; what could not be asked says so."""
        said = {c["id"]: c for c in vm["conditions"]}
        self.assertEqual(sorted(said), self.ALL)
        self.assertEqual([i for i in self.ALL if not said[i]["holds"]], sorted(failing + unknown), said)
        for number in self.ALL:
            self.assertEqual(said[number]["detail"].startswith("not known: "), number in unknown, said[number])
        for number, word in zip(failing, words):
            self.assertIn(word, said[number]["detail"])

    def assertReasons(self, vm, failing, words):
        self.assertEqual([r["id"] for r in vm["reasons"]], failing, vm["reasons"])
        for reason, word in zip(vm["reasons"], words):
            self.assertIn(word, reason["detail"])

    def alone(self, guest, failing, word, *options, unknown=(), method="saved-state", state="running", rc=0):
        """The VM lacks one condition: explain, the backup's result, set.json and show agree on it. Returns the result's VM."""
        failing, words, unknown = [failing], [word], list(unknown)
        vm = self.explained(guest, *options)
        self.assertEqual(vm["method"], method)
        self.assertConditions(vm, failing, words, unknown)
        self.assertReasons(vm, failing, words)
        result = self.backup(guest.name, *options, rc=rc)
        for vm in [result.vm(guest.name)] + self.stored(guest.name):
            self.assertEqual(vm["method"], method)
            self.assertConditions(vm, failing, words, unknown)
            self.assertReasons(vm, failing, words)
        self.assertAsBefore(guest, state)
        return result.vm(guest.name)

    def all_hold(self, guest, *options, reason="conditions", method="child-snapshot", rc=0):
        """The same for a VM that lacks none."""
        vm = self.explained(guest, *options)
        self.assertConditions(vm, [], [], [])
        self.assertReasons(vm, [reason], [""])
        result = self.backup(guest.name, *options, rc=rc)
        for vm in [result.vm(guest.name)] + self.stored(guest.name):
            self.assertEqual(vm["method"], method)
            self.assertConditions(vm, [], [], [])
            self.assertReasons(vm, [reason], [""])
        self.assertAsBefore(guest, "running")
        return result.vm(guest.name)

    def assertAsBefore(self, guest, state):
        self.assertEqual(guest.state(), state)
        if state == "running":
            self.assertTrue(guest.writes(), "%s does not write" % guest.name)
            self.assertEqual(guest.mismatches(), [])
        self.assertNothingLeft()


class AgentAndState(Conditions):
    """C1, C2, C3 and what is demanded."""
    cost = 70
    SILENT = ["C4", "C5"]       # nobody could be asked

    @classmethod
    def make(cls):
        super().make()
        cls.web = cls.lab.guest("web").define()
        cls.bare = cls.lab.guest("bare", agent="no").define()
        cls.absent = cls.lab.guest("absent", agent="absent").define()
        for guest in (cls.web, cls.bare, cls.absent):
            guest.start(wait=False)
        for guest in (cls.web, cls.bare, cls.absent):
            guest.wait_ready()

    def test_all_five_hold(self):
        self.all_hold(self.web)

    def test_demands_on_a_vm_that_meets_all_five(self):
        self.all_hold(self.web, "--method", "child-snapshot", reason="policy")
        self.all_hold(self.web, "--method", "saved-state", reason="policy", method="saved-state")

    def test_no_channel(self):
        self.alone(self.bare, "C1", "no guest agent channel", unknown=self.SILENT)

    def test_no_agent_in_the_guest(self):
        self.alone(self.absent, "C1", "does not answer", unknown=self.SILENT)

    def test_agent_that_is_stopped(self):
        self.web.signal_agent("STOP")
        try:
            self.alone(self.web, "C1", "does not answer", unknown=self.SILENT)
        finally:
            self.web.signal_agent("CONT")
        self.assertAnswers(self.web)

    def assertAnswers(self, guest):
        def answers():
            try:
                return guest.agent("guest-ping") == {}
            except LabError:
                return False
        wait_until("agent of " + guest.name, answers)

    def test_paused(self):
        """That its agent cannot be asked follows from it, and is no reason of its own."""
        self.web.pause()
        try:
            self.alone(self.web, "C2", "paused", unknown=["C1"] + self.SILENT, state="paused")
        finally:
            self.web.resume()
        self.assertTrue(self.web.writes())

    def test_snapshots_on_another_volume(self):
        image, folder = self.lab.path("volume.img"), self.lab.path("volume")
        with open(image, "wb") as file:
            file.truncate(64 << 20)
        run("mkfs.ext4", "-q", image)
        os.mkdir(folder)
        run("mount", "-o", "loop", image, folder)
        self.addCleanup(run, "umount", "-l", folder)
        self.alone(self.web, "C3", folder, "--snapshot-dir", folder)
        self.all_hold(self.web, "--snapshot-dir", self.lab.folder)

    def test_agent_that_dies_between_explain_and_backup(self):
        """The plan said child-snapshot. What is demanded fails then; what is not gets the next best, and the result tells."""
        self.assertEqual(self.explained(self.web)["method"], "child-snapshot")
        self.web.signal_agent("STOP")
        try:
            demanded = self.kvss("backup", "web", "--method", "child-snapshot")
            self.assertFailed(demanded, 1, "web", "C1", "does not answer")
            vm = self.backup("web").vm("web")
        finally:
            self.web.signal_agent("CONT")
        self.assertAnswers(self.web)
        self.assertEqual((vm["method"], vm["consistency"]), ("saved-state", "memory"))
        self.assertReasons(vm, ["C1"], ["does not answer"])
        self.assertAsBefore(self.web, "running")

    def silent_after_the_last_look(self, *options):
        """PrepareForBackup saw five conditions, and the agent is stopped before it is pinged for the freeze."""
        running = self.start_and_reach("looked", "backup", "web", *options)
        try:
            self.web.signal_agent("STOP")
            running.let_go()
            return running.wait()
        finally:
            self.web.signal_agent("CONT")
            running.process.kill()

    def test_agent_that_dies_after_the_last_look(self):
        self.web.sh("rm -f /run/hook.log")
        before = len(self.kvss.backups())
        failed = self.silent_after_the_last_look("--method", "child-snapshot")
        self.assertFailed(failed, 1, "web")
        self.assertEqual(len(self.kvss.backups()), before)
        self.assertAnswers(self.web)
        self.assertAsBefore(self.web, "running")

        result = self.silent_after_the_last_look()
        self.assertExit(result, 0)
        self.assertAnswers(self.web)
        for vm in [result.vm("web")] + self.stored("web"):
            self.assertEqual((vm["method"], vm["consistency"]), ("saved-state", "memory"))
            self.assertReasons(vm, ["C1"], ["directly before the freeze"])
            self.assertConditions(vm, ["C1"], ["directly before the freeze"], [])
        self.assertNotIn("freeze", self.web.sh("cat /run/hook.log 2>/dev/null; true"), "it was asked to freeze all the same")
        self.assertAsBefore(self.web, "running")


class Volume:
    """An ext4 that lies on two disks of a guest, as its device-mapper (halves) or md (stripes) puts them together."""

    def __init__(self, kind, *targets):
        self.kind = kind
        self.whole = Disk("/".join(targets), form="raw", size_mib=64)
        self.parts = [Disk(target, form="raw", size_mib=32, kind="part") for target in targets]

    def pieces(self):
        """(part, length) in the order of the volume."""
        if self.kind == "dm":
            return [(number, part.size) for number, part in enumerate(self.parts)]
        return [(number % len(self.parts), STRIPE) for number in range(self.whole.size // STRIPE)]

    def create(self, folder, paths):
        whole = os.path.join(folder, "volume-whole.img")
        self.whole.create(whole)
        with open(whole, "rb") as source:
            files = [open(path, "wb") for path in paths]
            for number, length in self.pieces():
                files[number].write(source.read(length))
            for file in files:
                file.close()
        os.unlink(whole)
        for part, path in zip(self.parts, paths):
            part.path = path

    def join(self, images, path):
        """The volume's content, from images of its parts that nobody uses."""
        with open(path, "wb") as target:
            files = [open(image.path, "rb") for image in images]
            for number, length in self.pieces():
                target.write(files[number].read(length))
            for file in files:
                file.close()
        return Image(path, "raw")


class Stacked(Conditions):
    """C4: a file system of the guest lies on more than one disk."""
    cost = 90

    @classmethod
    def make(cls):
        super().make()
        cls.target = IscsiTarget(cls.lab.folder, size_mib=32)
        cls.addClassCleanup(cls.target.close)
        cls.lvm, cls.lvm_volume = cls.stacked("lvm", "dm", "vdb", "vdc")
        cls.md, cls.md_volume = cls.stacked("md", "md", "vdb", "vdc")
        cls.torn, _ = cls.stacked("torn", "dm", "vdb", "sda")
        for guest in (cls.lvm, cls.md, cls.torn):
            guest.start(wait=False)
        for guest in (cls.lvm, cls.md, cls.torn):
            guest.wait_ready()

    @classmethod
    def stacked(cls, name, kind, *targets):
        volume = Volume(kind, *targets)
        inside = [part for part in volume.parts if part.target != "sda"]
        guest = cls.lab.guest(name, disks=[Disk("vda")] + inside, cmdline="kvss.volume=%s:%s" % (kind, ",".join(targets)),
                              devices=cls.target.xml() if "sda" in targets else "")
        os.makedirs(guest.folder)
        volume.create(guest.folder, [cls.target.image if t == "sda" else "%s/%s.raw" % (guest.folder, t) for t in targets])
        return guest.define(), volume

    def both_cut(self, guest, volume, device):
        """C4 holds and says why; the volume put together from the restored disks is clean and of one instant."""
        self.assertIn("/mnt/" + device, guest.sh("cat /proc/mounts"))
        vm = self.all_hold(guest)
        notes = [n for n in vm["notes"] if "/dev/" + device in n]
        self.assertEqual(len(notes), 1, vm["notes"])
        self.assertIn("vdb, vdc", notes[0])
        self.assertIn(notes[0], self.stored(guest.name)[1]["notes"])
        guest.destroy()
        self.restore("latest", guest.name)
        images = guest.images()
        whole = volume.join([images[part.target] for part in volume.parts], self.lab.path("joined.img"))
        self.assertEqual(whole.fs_state(), "clean")
        self.assertEqual(whole.cat("/content"), volume.whole.content())
        numbers = images["vda"].seq(), whole.seq()
        self.assertGreater(min(numbers), 0)
        self.assertIn(abs(numbers[0] - numbers[1]), (0, 1), "disks of different instants: %s" % (numbers,))
        guest.start()
        self.assertTrue(guest.writes())

    def test_lvm_over_two_disks(self):
        self.both_cut(self.lvm, self.lvm_volume, "dm-0")

    def test_md_over_two_disks(self):
        self.both_cut(self.md, self.md_volume, "md0")

    def test_strict(self):
        self.alone(self.lvm, "C4", "--strict-conditions", "--strict-conditions")
        self.alone(self.md, "C4", "--strict-conditions", "--strict-conditions")

    def test_over_a_disk_that_is_not_cut(self):
        """Half of the volume is a LUN: a backup of the other half alone must not be called consistent."""
        self.assertIn("/mnt/dm-0", self.torn.sh("cat /proc/mounts"))
        vm = self.alone(self.torn, "C4", "sda, which is not cut", rc=3)
        self.assertIn("sda", [entry["target"] for entry in vm["not_covered"]])
        failed = self.kvss("backup", "torn", "--method", "child-snapshot")
        self.assertFailed(failed, 1, "torn", "C4", "sda")
        self.assertAsBefore(self.torn, "running")


class Unfreezable(Conditions):
    """C5: a file system that cannot be frozen."""
    cost = 45

    @classmethod
    def make(cls):
        super().make()
        cls.web = cls.lab.guest("web", disks=[Disk("vda"), Disk("vdb", form="raw", size_mib=16, kind="vfat")]).define().start()

    def mount(self, folder):
        self.web.sh("umount /dev/vdb; mkdir -p %s; mount -t vfat /dev/vdb %s" % (folder, folder))

    def test_vfat_with_data(self):
        for folder in ("/mnt/vdb", "/srv/efi"):
            self.mount(folder)
            self.web.sh("echo data > %s/data; sync" % folder)
            self.alone(self.web, "C5", "%s is a vfat file system" % folder)

    def test_efi_system_partition(self):
        """It is written by nobody but an update of the loader: tolerated, and said."""
        for folder in ("/boot/efi", "/efi"):
            self.mount(folder)
            vm = self.all_hold(self.web)
            self.assertIn("EFI system partition (%s)" % folder, json.dumps(vm["notes"]))
            self.assertIn("EFI system partition (%s)" % folder, json.dumps(self.stored("web")[1]["notes"]))
        self.web.sh("umount /efi")
