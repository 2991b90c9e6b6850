"""Every kind of VM comes back, and everything lands where it should."""
import glob
import json
import os
import re
import shutil
import struct
import subprocess
import sys
import unittest

from kvsslab import (KVSS, PASSWORD, TOP, Disk, Guest, Kvss, LabCase, file_hash, run, start_libvirtd, stop_libvirtd,
                     virsh)

FIRMWARE = "/usr/share/OVMF/OVMF_CODE_4M.fd"
TEMPLATE = "/usr/share/OVMF/OVMF_VARS_4M.ms.fd"      # of what libvirt chooses here
IMAGES = "/var/lib/libvirt/images"
NVRAM = "/var/lib/libvirt/qemu/nvram"


class KindCase(LabCase):
    def assertBackedUpAgain(self, *names, rc=0):
        """A restored VM is as good as the old one."""
        count = len(self.kvss.backups())
        self.backup(*names, rc=rc)
        self.assertEqual(len(self.kvss.backups()), count + 1)


# --- formats and their options --------------------------------------------------------------------------------------------

# Names, formats, options, and sizes that are no round number of anything. (libvirt knows no VHDX: see tests/unit/test-image.c.)
IMAGES_OF_ALL_KINDS = [
    ("vda", "qcow2", 37, "cluster_size=2M,lazy_refcounts=on,refcount_bits=64"),
    ("vdb", "qcow2", 9, "compat=0.10,cluster_size=4k"),
    ("vdc", "qcow2", 11, "extended_l2=on,cluster_size=128k,compression_type=zstd"),
    ("vdd", "raw", 5, "preallocation=falloc"),
    ("vde", "raw", 13, ""),
    ("vdi", "qcow2", 3, "preallocation=falloc,compat=0.10"),
    ("vdf", "vpc", 17, ""),
    ("vdg", "vpc", 19, "subformat=fixed,force_size=on"),
]
# What qemu-img says of each that must be as before.
TOLD = ["format", "virtual-size", "cluster-size"]


def vpc_type(path):
    """The footer of a VHD: type and size."""
    with open(path, "rb") as file:
        file.seek(-512, os.SEEK_END)
        footer = file.read(512)
    return struct.unpack(">I", footer[60:64])[0], struct.unpack(">Q", footer[48:56])[0]


class Formats(KindCase):
    """Disks in different folders and formats come back as they were made."""
    cost = 25

    @classmethod
    def make(cls):
        super().make()
        cls.vm = cls.lab.guest("kinds")
        cls.vm.disks = []
        for number, (target, form, size, options) in enumerate(IMAGES_OF_ALL_KINDS):
            folder = cls.lab.path("folder%d" % (number % 2))
            os.makedirs(folder, exist_ok=True)
            disk = Disk(target, form, path="%s/%s.%s" % (folder, target, form), kind="random", content_kib=700)
            run("qemu-img", "create", "-q", "-f", form, *(["-o", options] if options else []), disk.path, "%dM" % size)
            content = cls.lab.path("content")
            with open(content, "wb") as file:
                file.write(os.urandom(700 << 10))
            run("qemu-io", "-f", form, "-c", "write -s %s 1M 700k" % content, disk.path)
            cls.vm.disks.append(disk)
        base = Disk("vdh", path=cls.lab.path("folder0/base.raw"), form="raw", kind="random", size_mib=8)
        base.create(base.path)
        top = Disk("vdh", path=cls.lab.path("folder1/top.qcow2"))
        run("qemu-img", "create", "-q", "-f", "qcow2", "-b", base.path, "-F", "raw", top.path)
        run("qemu-io", "-f", "qcow2", "-c", "write -P 7 3M 64k", top.path)
        cls.vm.disks.append(top)
        cls.base = base
        # An image whose data is in a file of its own.
        apart = Disk("vdj", path=cls.lab.path("folder0/apart.qcow2"))
        cls.data = cls.lab.path("folder0/apart.data")
        run("qemu-img", "create", "-q", "-f", "qcow2", "-o", "data_file=" + cls.data, apart.path, "4M")
        run("qemu-io", "-f", "qcow2", "-c", "write -P 9 1M 1M", apart.path)
        cls.vm.disks.append(apart)
        cls.vm.define()

    @staticmethod
    def told(disk):
        info = disk.info()
        said = {name: info.get(name) for name in TOLD}
        said["data"] = {name: value for name, value in info.get("format-specific", {}).get("data", {}).items()
                        if name not in ("corrupt", "bitmaps", "data-file", "data-file-raw")}
        if disk.form == "vpc":
            said["vpc"] = vpc_type(disk.path)
        if disk.form in ("raw", "qcow2"):
            said["full"] = info["actual-size"] >= info["virtual-size"]
        return said

    def test_every_format(self):
        self.assertExit(self.kvss("backup", "kinds"), 0)
        before = {disk.target: (self.told(disk), disk.hash()) for disk in self.vm.disks}
        paths = self.vm.paths()
        self.vm.undefine()
        for folder in glob.glob(self.lab.path("folder?")):
            shutil.rmtree(folder)
        result = self.restore("latest")
        self.assertEqual(self.vm.paths(), paths)
        self.assertTrue(any(self.data in note for note in result.vm("kinds")["notes"]), result)
        self.assertFalse(os.path.exists(self.data), "a data file comes back within its image")
        for disk in self.vm.disks:
            told, content = before[disk.target]
            self.assertEqual(self.told(disk), told, disk.target)
            self.assertEqual(disk.hash(), content, disk.target)
            self.assertNotIn("backing-filename", disk.info(), disk.target)
        self.assertFalse(os.path.exists(self.base.path), "a backing file comes back within its image")
        # Its old chain is on record, for people and for programs.
        shown = self.kvss("show", "latest").document["vms"][0]["disks"]
        chain = next(d for d in shown if d["target"] == "vdh")["options"]["backing_chain"]
        self.assertEqual(chain, ["%s (raw)" % self.base.path])
        self.assertIn("built on %s (raw)" % self.base.path, run(
            KVSS, "show", "latest", env={"KVSS_REPOSITORY": self.kvss.repository, "KVSS_PASSWORD": PASSWORD}))
        self.assertBackedUpAgain("kinds")
        self.assertNothingLeftOf(self.lab.path("folder0"), self.lab.path("folder1"))

    def assertNothingLeftOf(self, *folders):
        for folder in folders:
            for name in os.listdir(folder):
                self.assertIn("%s/%s" % (folder, name), [d.path for d in self.vm.disks])


# --- where things land ----------------------------------------------------------------------------------------------------

class Places(KindCase):
    """VMs that are off: folders, names, links."""
    cost = 25

    @classmethod
    def make(cls):
        super().make()
        cls.one = cls.lab.guest("a b", disks=[Disk("vda", kind="random")]).define()
        cls.two = cls.lab.guest("a_b", disks=[Disk("vda", kind="random")]).define()
        cls.hashes = [guest.disk("vda").hash() for guest in (cls.one, cls.two)]
        cls.first = cls.kvss("backup", "a b", "a_b")

    def setUp(self):
        self.assertExit(self.first, 0)
        shutil.rmtree(IMAGES, ignore_errors=True)       # links to what other tests have restored elsewhere

    def assertRestored(self):
        for guest, content in zip((self.one, self.two), self.hashes):
            self.assertEqual(guest.images()["vda"].hash(), content, guest.name)

    def links(self):
        return {name: os.readlink(IMAGES + "/" + name) for name in (os.listdir(IMAGES) if os.path.isdir(IMAGES) else [])}

    def test_names_that_are_alike_when_made_safe(self):
        """Into one folder, which is not there yet and is named as people name it."""
        os.makedirs(self.lab.path("real"))
        os.symlink("real", self.lab.path("link"))
        result = self.kvss("restore", "latest", "--to", "link/new/folder", "--yes", cwd=self.lab.folder)
        self.assertExit(result, 0)
        self.assertRestored()
        paths = [guest.paths()["vda"] for guest in (self.one, self.two)]
        self.assertEqual(len(set(map(os.path.realpath, paths))), 2)
        for path in paths:
            self.assertTrue(os.path.realpath(path).startswith(self.lab.path("real/new/folder/")), path)
        self.assertEqual(sorted(self.links().values()), sorted(paths))
        self.assertEqual(sorted(d["link"] for vm in result.summary["vms"] for d in vm["disks"]),
                         sorted(IMAGES + "/" + name for name in self.links()))
        self.assertBackedUpAgain("a b", "a_b")
        # Back where they were: the links go.
        self.assertExit(self.kvss("restore", self.first.summary["backup_id"], "--yes"), 0)
        self.assertRestored()
        self.assertEqual(self.links(), {})
        self.assertEqual(os.listdir(self.lab.path("real/new/folder")), [])
        self.assertNothingLeft()

    def test_other_file_system(self):
        """And what is there under the link's name belongs to somebody else."""
        os.makedirs(IMAGES, exist_ok=True)
        os.symlink("/mine", IMAGES + "/a_b-vda.qcow2")
        folder = "/dev/shm/kvss-restored"
        plan = self.kvss("restore", "latest", "a_b", "--to", folder, "--dry-run")
        self.assertExit(plan, 0)
        self.assertTrue(any("gets no link" in step for step in plan.summary["steps"]), plan)
        result = self.restore("latest", "a_b", "--to", folder)
        self.assertIsNone(result.vm("a_b")["disks"][0]["link"])
        self.assertTrue(any(IMAGES in note for note in result.vm("a_b")["notes"]), result)
        self.assertEqual(self.links(), {"a_b-vda.qcow2": "/mine"})
        self.assertRestored()
        self.restore("latest", "a_b")
        self.assertEqual(self.links(), {"a_b-vda.qcow2": "/mine"})
        self.assertFalse(os.listdir(folder))
        os.unlink(IMAGES + "/a_b-vda.qcow2")
        shutil.rmtree(folder)
        self.assertNothingLeft()

    def test_pool_and_a_vm_that_was_deleted(self):
        """The pool "default" says where the default location is; a link whose VM is gone is found again."""
        pool = self.lab.path("pool")
        os.makedirs(pool)
        virsh("pool-define-as", "default", "dir", "--target", pool)
        try:
            self.restore("latest", "a_b", "--to", self.lab.path("elsewhere"))
            link = pool + "/a_b-vda.qcow2"
            self.assertEqual(os.readlink(link), self.two.paths()["vda"])
            virsh("undefine", "a_b")
            shutil.rmtree(self.lab.path("elsewhere"))
            shutil.rmtree(self.two.folder, ignore_errors=True)
            self.restore("latest", "a_b")
            self.assertEqual(os.listdir(pool), [])
            self.assertRestored()
        finally:
            virsh("pool-undefine", "default")
        self.assertNothingLeft()


# --- what a definition says, and what of the old VM is in the way ---------------------------------------------------------

class OffVm(KindCase):
    """A VM that is off, with everything that a definition can carry."""
    cost = 30
    EXTRA = """
      <disk type='file' device='cdrom'><driver name='qemu' type='raw'/><source file='%s'/><target dev='sda' bus='sata'/><readonly/></disk>
      <interface type='bridge'><mac address='52:54:00:11:22:44'/><source bridge='lab0'/></interface>"""

    @classmethod
    def make(cls):
        super().make()
        cls.iso = cls.lab.path("some.iso")
        with open(cls.iso, "wb") as file:
            file.truncate(1 << 20)
        run("ip", "link", "add", "lab0", "type", "bridge")
        cls.addClassCleanup(run, "ip", "link", "del", "lab0", check=False)
        cls.vm = cls.lab.guest("full", devices=cls.EXTRA % cls.iso, disks=[Disk("vda"), Disk("vdb", form="raw")]).define()
        virsh("desc", "full", "--config", "--title", "--new-desc", "The title & more")
        virsh("desc", "full", "--config", "--new-desc", "A description\nof <two> lines")
        virsh("metadata", "full", "urn:mine", "--config", "--key", "mine", "--set", "<note>remember</note>")
        virsh("autostart", "full")
        cls.vm.start()      # so that the disks hold a number
        cls.vm.shutdown()
        cls.first = cls.kvss("backup", "full")

    def setUp(self):
        self.assertExit(self.first, 0)
        self.set_id = self.first.summary["backup_id"]

    def assertDefinition(self):
        self.assertEqual(virsh("desc", "full", "--config", "--title").strip(), "The title & more")
        self.assertEqual(virsh("desc", "full", "--config").strip(), "A description\nof <two> lines")
        self.assertIn("remember", virsh("metadata", "full", "urn:mine", "--config"))
        self.assertNotIn("urn:kvss:restore", virsh("dumpxml", "--inactive", "full"))
        self.assertRegex(virsh("dominfo", "full"), r"Autostart:\s+enable")
        self.assertOneInstant(self.vm)

    def test_missing_iso_and_bridge(self):
        """It is told, and the VM starts: its drive empty, its link down."""
        self.vm.delete()
        os.rename(self.iso, self.iso + ".away")
        run("ip", "link", "del", "lab0")
        try:
            result = self.restore(self.set_id, rc=3)
            self.assertDefinition()
            for word in ("lab0", "some.iso"):
                self.assertTrue(any(word in note for note in result.vm("full")["notes"]), "%s: %s" % (word, result))
            self.vm.start()
            self.assertRegex(virsh("domif-getlink", "full", "52:54:00:11:22:44"), "down")
            self.assertBackedUpAgain("full")
            self.vm.destroy()
        finally:
            os.rename(self.iso + ".away", self.iso)
            run("ip", "link", "add", "lab0", "type", "bridge")
        self.assertNothingLeft()

    def test_snapshots_and_checkpoints_in_the_way(self):
        """Of the old VM; they go with it, and the overlay that its definition pointed to."""
        images = self.vm.paths()
        self.vm.start()
        virsh("checkpoint-create-as", "full", "mark", "--diskspec", "vda,checkpoint=bitmap", "--diskspec", "vdb,checkpoint=no")
        virsh("checkpoint-delete", "full", "mark", "--metadata")
        virsh("snapshot-create-as", "full", "outside", "--disk-only", "--diskspec", "vda,snapshot=external",
              "--diskspec", "vdb,snapshot=external")
        virsh("checkpoint-create-as", "full", "later", "--diskspec", "vda,checkpoint=bitmap", "--diskspec", "vdb,checkpoint=no")
        overlays = set(self.vm.paths().values()) - set(images.values())
        self.assertEqual(len(overlays), 2)
        self.restore(self.set_id)
        self.assertEqual(self.vm.paths(), images)
        self.assertEqual(virsh("snapshot-list", "full", "--name").strip(), "")
        self.assertEqual(virsh("checkpoint-list", "full", "--name").strip(), "")
        for path in overlays:
            self.assertFalse(os.path.exists(path), "%s was left" % path)
        self.assertDefinition()
        self.assertNothingLeft()

    def test_internal_snapshot_in_the_way(self):
        """Also when the restore fails: then it is there as before."""
        images = self.vm.paths()
        virsh("detach-disk", "full", "vdb", "--config")
        virsh("snapshot-create-as", "full", "inside")
        damaged = self.lab.path("damaged")
        shutil.copytree(self.kvss.repository, damaged)
        for pack in sorted(glob.glob(damaged + "/data/*/*"), key=os.path.getsize)[-3:]:
            os.chmod(pack, 0o600)
            with open(pack, "r+b") as file:
                file.seek(os.path.getsize(pack) // 2)
                file.write(os.urandom(64))
        self.assertExit(Kvss(self.lab, damaged)("restore", self.set_id, "--yes"), 7)
        self.assertEqual(virsh("snapshot-list", "full", "--name").strip(), "inside")
        self.assertEqual(len(self.vm.images()["vda"].info()["snapshots"]), 1)
        self.restore(self.set_id)
        self.assertEqual(virsh("snapshot-list", "full", "--name").strip(), "")
        self.assertEqual(self.vm.paths(), images)
        self.assertDefinition()
        self.assertNothingLeft()


# --- UEFI and TPM ---------------------------------------------------------------------------------------------------------

TPM = "<tpm model='tpm-crb'><backend type='emulator' version='2.0'/></tpm>"
NO_PASSWORD = bytes.fromhex("00000009 40000009 0000 00 0000")


def tpm_command(tag, code, body):
    return struct.pack(">HII", tag, 10 + len(body), code) + body


class Tpm:
    """The TPM of a lab guest, in its own bytes: a value that lasts, and one that only a running TPM knows."""
    INDEX = 0x01500010
    OWNER = struct.pack(">I", 0x40000001)

    def __init__(self, guest):
        self.guest = guest

    def send(self, command):
        text = "".join("\\x%02x" % byte for byte in command)
        answer = bytes.fromhex(self.guest.sh(
            "exec 3<>/dev/tpm0; printf '%s' >&3; head -c 4096 <&3 | xxd -p | tr -d '\\n'" % text).strip())
        if struct.unpack(">I", answer[6:10])[0] != 0:
            raise AssertionError("TPM: %s: %s" % (command.hex(), answer.hex()))
        return answer[10:]

    def store(self, value):
        public = struct.pack(">IHIHH", self.INDEX, 0x000b, 0x02020002, 0, len(value))
        self.send(tpm_command(0x8002, 0x12a, self.OWNER + NO_PASSWORD + struct.pack(">HH", 0, len(public)) + public))
        self.send(tpm_command(0x8002, 0x137, self.OWNER + struct.pack(">I", self.INDEX) + NO_PASSWORD +
                              struct.pack(">H", len(value)) + value + b"\0\0"))

    def stored(self, length):
        answer = self.send(tpm_command(0x8002, 0x14e, self.OWNER + struct.pack(">I", self.INDEX) + NO_PASSWORD +
                                       struct.pack(">HH", length, 0)))
        return answer[6:6 + length]

    def extend(self, value):
        """PCR 16, which is for such things."""
        self.send(tpm_command(0x8002, 0x182, struct.pack(">I", 16) + NO_PASSWORD + struct.pack(">IH", 1, 0x000b) + value))

    def pcr(self):
        return self.send(tpm_command(0x8001, 0x17e, struct.pack(">IHBBBB", 1, 0x000b, 3, 0, 0, 1)))[-32:]


class FirmwareGuest(Guest):
    """Boots the lab's kernel by way of OVMF. firmware: what stands in <os>, or "efi" for libvirt's own choice."""
    firmware = "efi"

    def xml(self):
        text = super().xml()
        if self.firmware == "efi":
            return text.replace("<os>", "<os firmware='efi'>")
        return text.replace("hvm</type>", "hvm</type>" + self.firmware)

    def nvram(self):
        """Where the definition in force has the variable store."""
        found = re.search(r"<nvram[^>]*>([^<]+)<", virsh("dumpxml", self.name))
        return found.group(1) if found else "%s/%s_VARS.fd" % (NVRAM, self.name)

    def tpm_state(self):
        return "/var/lib/libvirt/swtpm/%s/tpm2/tpm2-00.permall" % self.uuid


def start_firmware_guest(lab):
    """(guest, its TPM, which keeps something)."""
    guest = FirmwareGuest(lab, "efi", devices=TPM, memory_mib=256)
    lab.guests.append(guest)
    guest.define()
    guest.start(wait=False)
    guest.wait_ready(timeout=120)
    tpm = Tpm(guest)
    tpm.store(b"what the TPM keeps")
    return guest, tpm


def needs(*paths):
    for path in paths:
        if not os.path.exists(path):
            raise unittest.SkipTest("there is no " + path)


class Uefi(KindCase):
    """Firmware with variables, and a TPM."""
    cost = 60

    @classmethod
    def make(cls):
        needs(FIRMWARE, "/usr/bin/swtpm")
        super().make()
        cls.vm, cls.tpm = start_firmware_guest(cls.lab)
        cls.known = cls.secret(cls.vm)
        cls.first = cls.kvss("backup", "efi")
        cls.saved = cls.kvss("backup", "efi", "--method", "saved-state")
        cls.vm.shutdown()

    def setUp(self):
        self.assertExit(self.first, 0)
        self.set_id = self.first.summary["backup_id"]

    def forget(self):
        """Nothing of the VM is left on the host."""
        self.vm.delete()
        virsh("undefine", "efi", "--nvram", "--tpm", check=False)
        for path in (self.vm.nvram_path, os.path.dirname(os.path.dirname(self.vm.tpm_state()))):
            shutil.rmtree(path, ignore_errors=True) if os.path.isdir(path) else os.path.exists(path) and os.unlink(path)

    def carried(self):
        """(variables, TPM state) as the set has them."""
        listed = [line for line in self.kvss.restic("ls", "latest").split("\n")]
        found = []
        for end in ("/vms/efi/nvram.fd", "/vms/efi/tpm/tpm2/tpm2-00.permall"):
            self.assertIn(end, listed)
            done = subprocess.run(["restic", "-r", self.kvss.repository, "--no-cache", "--no-lock", "-q", "dump", self.set_id, end],
                                  env=dict(os.environ, RESTIC_PASSWORD=PASSWORD), stdout=subprocess.PIPE, timeout=60, check=True)
            found.append(done.stdout)
        return found

    @staticmethod
    def content(path):
        with open(path, "rb") as file:
            return file.read()

    def test_saved_state(self):
        """Memory, firmware and TPM go on together, with the disks elsewhere: nothing boots."""
        self.assertExit(self.saved, 0)
        self.vm.nvram_path = "%s/efi_VARS.fd" % NVRAM
        self.forget()
        self.restore(self.saved.summary["backup_id"], "--to", self.lab.path("saved"))
        number = self.assertOneInstant(self.vm, clean=False)
        self.assertContinues(self.vm, number, self.known)
        self.assertEqual(self.tpm.stored(18), b"what the TPM keeps")
        self.vm.destroy()
        self.forget()
        self.assertNothingLeft()

    def test_firmware_chosen_by_libvirt(self):
        """Its definition names no file of variables, and they are carried all the same: bit for bit, into nothing."""
        path = "%s/efi_VARS.fd" % NVRAM
        variables, state = self.carried()
        self.assertNotEqual(variables, self.content(TEMPLATE), "the firmware has written nothing")
        self.vm.nvram_path = path
        self.assertNotIn("<nvram", virsh("dumpxml", "--inactive", "efi"))
        self.forget()
        self.restore(self.set_id)
        self.assertEqual(self.content(path), variables)
        self.assertEqual(self.content(self.vm.tpm_state()), state)
        self.assertOneInstant(self.vm)
        # Over itself, and elsewhere: variables and TPM state are where libvirt looks for them, nothing is left beside.
        with open(path, "r+b") as file:
            file.write(b"broken")
        for to in ([], ["--to", self.lab.path("elsewhere")], []):
            self.restore(self.set_id, *to)
            self.assertEqual(self.content(path), variables)
            self.assertEqual(self.content(self.vm.tpm_state()), state)
            self.assertEqual(os.listdir(NVRAM), ["efi_VARS.fd"])
            self.assertEqual([f for f in os.listdir(os.path.dirname(self.vm.tpm_state())) if not f.startswith(".")],
                             ["tpm2-00.permall"])
        self.assertBackedUpAgain("efi")     # off: its variables are in this one, too
        self.assertEqual(self.carried()[0], variables)
        # swtpm, as its own user, and QEMU take what was restored.
        self.vm.start(wait=False)
        self.assertEqual(self.vm.state(), "running")
        self.vm.destroy()
        self.assertNothingLeft()


class UefiOff(KindCase):
    """A file of variables that the definition names; the VM is never started."""
    cost = 15

    @classmethod
    def make(cls):
        needs(FIRMWARE)
        super().make()
        cls.path = cls.lab.path("variables/mine.fd")
        cls.template = cls.lab.path("template.fd")
        os.makedirs(os.path.dirname(cls.path))
        for path in (cls.path, cls.template):
            shutil.copy("/usr/share/OVMF/OVMF_VARS_4M.fd", path)
        with open(cls.path, "r+b") as file:
            file.seek(400000)
            file.write(os.urandom(2000))
        cls.variables = file_hash(cls.path)
        cls.vm = FirmwareGuest(cls.lab, "named", disks=[Disk("vda", kind="random")])
        cls.vm.firmware = ("<loader readonly='yes' type='pflash'>%s</loader><nvram template='%s'>%s</nvram>" %
                           (FIRMWARE, cls.template, cls.path))
        cls.lab.guests.append(cls.vm)
        cls.vm.define()
        cls.first = cls.kvss("backup", "named")

    def test_in_place_removed_and_elsewhere(self):
        self.assertExit(self.first, 0)
        os.unlink(self.template)
        with open(self.path, "r+b") as file:
            file.write(b"broken")
        self.restore("latest")
        self.assertEqual(file_hash(self.path), self.variables)
        self.assertEqual(os.listdir(os.path.dirname(self.path)), ["mine.fd"])

        self.vm.delete()
        shutil.rmtree(os.path.dirname(self.path))
        self.restore("latest")
        self.assertEqual(file_hash(self.path), self.variables)

        folder = self.lab.path("elsewhere")
        result = self.restore("latest", "--to", folder)
        self.assertEqual(self.vm.nvram(), folder + "/named_VARS.fd")
        self.assertEqual(file_hash(self.vm.nvram()), self.variables)
        self.assertFalse(os.path.exists(self.path), "the old one was left")
        self.assertFalse([n for n in result.vm("named")["notes"] if "template" in n], result)
        self.assertBackedUpAgain("named")
        self.vm.undefine()
        shutil.rmtree(folder)
        self.assertNothingLeft()


class SavedTpm(KindCase):
    """A VM with a TPM that is in managed save."""
    cost = 30

    @classmethod
    def make(cls):
        needs("/usr/bin/swtpm")
        super().make()
        cls.vm = cls.lab.guest("sealed", devices=TPM, disks=[Disk("vda"), Disk("vdb", form="raw")]).define().start()
        cls.tpm = Tpm(cls.vm)
        cls.tpm.store(b"what the TPM keeps")
        cls.tpm.extend(b"x" * 32)
        cls.pcr = cls.tpm.pcr()
        cls.known = cls.secret(cls.vm)
        cls.vm.save()
        cls.first = cls.kvss("backup", "sealed")

    def test_goes_on_where_it_was(self):
        self.assertExit(self.first, 0)
        self.assertNotEqual(self.pcr, bytes(32))
        self.vm.delete()
        virsh("undefine", "sealed", "--managed-save", "--tpm", check=False)
        shutil.rmtree("/var/lib/libvirt/swtpm/" + self.vm.uuid, ignore_errors=True)
        folder = self.lab.path("elsewhere")
        self.restore("latest", "--to", folder)
        self.assertTrue(all(path.startswith(folder) for path in self.vm.paths().values()))
        self.assertBackedUpAgain("sealed")
        number = self.assertOneInstant(self.vm, clean=False)
        self.assertContinues(self.vm, number, self.known)
        self.assertEqual(self.tpm.pcr(), self.pcr, "the TPM was started afresh")
        self.assertEqual(self.tpm.stored(18), b"what the TPM keeps")
        self.vm.destroy()
        self.assertNothingLeft()


# --- whose files they are -------------------------------------------------------------------------------------------------

class Owners(KindCase):
    """libvirt as Debian has it: QEMU and swtpm run as users of their own, which libvirt gives the files to."""
    cost = 30
    sweep = True

    @classmethod
    def make(cls):
        needs("/usr/bin/swtpm")
        super().make()
        cls.open_kvm()
        with open("/etc/libvirt/qemu.conf") as file:
            before = file.read()
        cls.addClassCleanup(cls.configure, before)
        cls.addClassCleanup(cls.lab.close)      # while this libvirtd is there
        cls.configure(re.sub(r'(user|group) = "root"', r'\1 = "libvirt-qemu"', before)
                      .replace("dynamic_ownership = 0", "dynamic_ownership = 1")
                      .replace("remember_owner = 0", "remember_owner = 1"))
        os.chmod(cls.lab.folder, 0o711)
        cls.vm = cls.lab.guest("plain", disks=[Disk("vda"), Disk("vdb", form="raw")], devices=TPM).define().start()
        cls.known = cls.secret(cls.vm)
        cls.first = cls.kvss("backup", "plain", "--method", "saved-state")

    @classmethod
    def open_kvm(cls):
        """A device that only root may open makes libvirt look anew what QEMU can do, for 16 s, before every step."""
        kvm = cls.lab.path("kvm")
        if os.path.exists("/dev/kvm") and run("mknod", "-m", "666", kvm, "c", "10", "232", check=False)[0] == 0:
            run("mount", "--bind", kvm, "/dev/kvm")
            cls.addClassCleanup(run, "umount", "/dev/kvm", check=False)

    @staticmethod
    def configure(text):
        stop_libvirtd()
        with open("/etc/libvirt/qemu.conf", "w") as file:
            file.write(text)
        start_libvirtd()

    def test_nothing_of_the_old_is_there(self):
        """New folders and files, and QEMU gets at them, with the saved memory."""
        self.assertExit(self.first, 0)
        self.assertNotEqual(os.stat(self.vm.paths()["vda"]).st_uid, 0, "QEMU runs as root: this proves nothing")
        self.vm.delete()
        virsh("undefine", "plain", "--managed-save", "--tpm", check=False)
        shutil.rmtree("/var/lib/libvirt/swtpm/" + self.vm.uuid, ignore_errors=True)
        self.restore("latest")
        for path in self.vm.paths().values():
            self.assertEqual(os.stat(path).st_mode & 0o7777, 0o600, path)
            self.assertEqual(os.stat(os.path.dirname(path)).st_mode & 0o022, 0, path)
        number = self.assertOneInstant(self.vm, clean=False)
        self.assertContinues(self.vm, number, self.known)
        self.assertNotEqual(os.stat(self.vm.paths()["vda"]).st_uid, 0)
        self.assertBackedUpAgain("plain")
        self.vm.destroy()
        self.assertNothingLeft()


# --- another host ---------------------------------------------------------------------------------------------------------

ELSEWHERE = """
import json, os, sys
sys.path.insert(0, %r)
from kvsslab import *
lab = Lab("other")
kvss = Kvss(lab, %r)
answer = {"before": virsh("list", "--all", "--name").split(), "folder": os.path.exists(%r)}
result = kvss("restore", "latest", "--start", "--yes")
answer.update(rc=result.rc, text=str(result), states={v["name"]: v["state"] for v in result.summary["vms"]} if result.summary else {})
on, off = [Guest(lab, name, uuid=uuid) for name, uuid in %r]
on.serial_path = %r
if result.rc == 0:
    wait_until("the guest", lambda: on.sh_rc("true")[0] == 0, 60)
    answer["secret"] = on.sh("cat /run/secret")
    answer["writes"] = on.writes(5)
    answer["mismatches"] = on.mismatches()
    off.destroy()
    answer["hash"] = off.images()["vda"].hash()
    folder = os.path.dirname(off.paths()["vda"])
    answer["mode"] = oct(os.stat(folder).st_mode & 0o7777)
    again = kvss("backup", "--all")
    answer["again"] = again.rc, str(again)
with open(%r, "w") as file:
    json.dump(answer, file)
lab.close()
"""


class OtherHost(KindCase):
    """A second libvirt with folders of its own, which has nothing but the repository and the password."""
    cost = 40

    @classmethod
    def make(cls):
        super().make()
        cls.on = cls.lab.guest("on", agent="no", disks=[Disk("vda"), Disk("vdb", form="raw")]).define().start()
        cls.off = cls.lab.guest("off", disks=[Disk("vda", form="vpc", kind="random")]).define()
        cls.known = cls.secret(cls.on)
        cls.content = cls.off.disk("vda").hash()
        cls.first = cls.kvss("backup", "on", "off")
        cls.on.destroy()

    def enter(self, work, script):
        """As tests/lab/enter does, within our own namespaces: no further place of the machine is taken."""
        hide = "mount --bind %s %s && exec \"$@\"" % (work + "/empty", self.lab.folder)
        return run("unshare", "--mount", "--pid", "--ipc", "--net", "--fork", "--kill-child", "--mount-proc", "--propagation",
                   "private", "sh", "-c", hide, "sh", sys.executable, TOP + "/tests/lab/enter", "--inside", work,
                   "/usr/bin/python3", "-c", script, timeout=240)

    def test_comes_back_there(self):
        self.assertExit(self.first, 0)
        work = os.environ["LAB_WORK"] + "/o"
        os.makedirs(work + "/empty")
        shutil.copytree(self.kvss.repository, work + "/repository")
        said = work + "/said"
        script = ELSEWHERE % (TOP + "/tests/lib", work + "/repository", self.on.folder,
                              [(guest.name, guest.uuid) for guest in (self.on, self.off)], self.on.serial_path, said)
        output = self.enter(work, script)
        with open(said) as file:
            answer = json.load(file)
        self.assertEqual(answer["before"], [])
        self.assertFalse(answer["folder"])
        self.assertEqual(answer["rc"], 0, answer["text"])
        self.assertEqual(answer["states"], {"on": "running", "off": "running"}, output)
        self.assertEqual(answer["secret"], self.known, "it was booted afresh")
        self.assertTrue(answer["writes"])
        self.assertEqual(answer["mismatches"], [])
        self.assertEqual(answer["hash"], self.content)
        self.assertEqual(answer["again"][0], 0, answer["again"][1])
        shutil.rmtree(work)
