"""The programs that are compared: how each of them does the same thing.

All of them encrypt, compress with zstd at level 3 (restic's "auto" is that), and store into a repository in a
folder of their own. kvss reads the qcow2 image of a VM; restic and borg read a raw image of the same content.
"""
import contextlib
import json
import os
import random
import re
import shutil
import statistics
import subprocess
import sys
import time

sys.path.append(os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "tests/lib"))

from measure import BenchError, MIB, peak_memory, run, stored_bytes         # noqa: E402
from nbd import Nbd                                                         # noqa: E402

PASSWORD = "bench password"


class Tool:
    """Folder and log are the tool's own; a method returns the Cost of what it did."""

    can_restore = True
    has_repository = True
    only_restores = False       # what kvss's backup holds, or no backup at all
    remark = None               # for people, below the tables

    def __init__(self, folder, disks):
        self.folder = os.path.join(folder, self.name)
        self.disks = disks                      # what is backed up
        self.log = self.folder + ".log"
        self.repository = self.folder + "/repository"
        self.target = self.folder + "/restored"
        self.env = {}

    def reset(self):
        shutil.rmtree(self.folder, ignore_errors=True)
        os.makedirs(self.folder)

    def run(self, *command, written=None, **more):
        return run([self.program, *command], self.log, env=self.env,
                   written=[self.repository] if written is None else written, **more)

    def stored(self):
        return stored_bytes(self.repository)

    def inputs(self):
        """What the next backup reads, for the page cache."""
        return [self.disks.raw]

    def prepare_restore(self):
        shutil.rmtree(self.target, ignore_errors=True)
        os.makedirs(self.target)

    def same(self, path, form):
        """Whether a restored image has the disk's content."""
        return subprocess.run(["qemu-img", "compare", "-q", "-f", "raw", "-F", form, self.disks.raw, path],
                              stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False).returncode == 0


class Kvss(Tool):
    name = "kvss"
    note = "a shut-off VM, its qcow2 under qemu-nbd's lock, from the file"

    def __init__(self, folder, disks):
        super().__init__(folder, disks)
        self.program = disks.kvss
        self.env = {"KVSS_REPOSITORY": self.repository, "KVSS_PASSWORD": PASSWORD}

    def inputs(self):
        return [self.disks.qcow2]

    def create(self):
        self.run("-q", "init")

    def backup(self):
        return self.run("-q", "backup", self.disks.vm)

    def again(self):
        return self.run("-q", "backup", "--full", self.disks.vm)

    def verify(self):
        return self.run("-q", "verify", "--read-data", written=[])

    def restore(self):
        """The VM is gone by now; its old image stays, for the comparison."""
        return self.run("-q", "restore", "latest", self.disks.vm, "--to", self.target, "--yes", written=[self.target])

    def prepare_restore(self):
        super().prepare_restore()
        self.disks.undefine()

    def restored_is_same(self):
        same = self.same(self.disks.image_of_vm(), "qcow2")
        self.disks.undefine()
        self.disks.define()
        return same


class KvssRunning(Kvss):
    """The same VM while QEMU runs it: QEMU's own NBD server, and its CPU time is counted with kvss's."""
    name = "kvss-running"
    note = "the same VM running (without a guest system), read from its QEMU"
    can_restore = False

    def with_vm(self, *command):
        pid = self.disks.start()
        try:
            return self.run(*command, also_pid=pid)
        finally:
            self.disks.stop()

    def backup(self):
        return self.with_vm("-q", "backup", "--method", "crash-consistent", self.disks.vm)

    def again(self):
        return self.with_vm("-q", "backup", "--full", "--method", "crash-consistent", self.disks.vm)


class KvssExport(Kvss):
    """The disk that kvss restores as a VM, as a raw file."""
    name = "kvss-export"
    note = "kvss's backup, the disk as a raw file: kvss export"
    only_restores = True

    def __init__(self, folder, disks):
        super().__init__(folder, disks)
        self.repository = os.path.join(folder, Kvss.name, "repository")
        self.env["KVSS_REPOSITORY"] = self.repository

    def prepare_restore(self):
        Tool.prepare_restore(self)

    def restore(self):
        return self.run("-q", "export", "latest", self.disks.vm, "vda", self.target + "/disk.raw", written=[self.target])

    def restored_is_same(self):
        return self.same(self.target + "/disk.raw", "raw")


class KvssNbd(KvssExport):
    """The same disk over NBD, to null:; CPU time and memory are those of the server, with nbdcopy's CPU time."""
    name = "kvss-nbd"
    note = "kvss's backup, the disk read by nbdcopy from kvss serve, to null:"
    places = 20

    def prepare_restore(self):
        super().prepare_restore()
        begin = time.monotonic()
        self.socket = self.target + "/s"
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(
                [self.program, "--json", "serve", "latest", self.disks.vm, "vda", "--socket", self.socket],
                env=dict(os.environ, **self.env), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log, text=True)
        line = self.process.stdout.readline()
        if '"ready"' not in line:
            raise BenchError("kvss serve: " + line)
        self.uri = json.loads(line)["exports"][0]["uri"]
        with open("/proc/%d/task/%d/children" % (self.process.pid, self.process.pid)) as file:
            self.server = int(file.read().split()[0])
        self.look_at_first_bytes(time.monotonic() - begin)

    def look_at_first_bytes(self, start):
        """Connect, open the export, read 4 KiB of data that no reader had before."""
        dice = random.Random(1)
        times = []
        for _ in range(self.places):
            offset = self.disks.some_data(dice)
            begin = time.monotonic()
            with Nbd(self.socket) as nbd:
                nbd.read(offset, 4096)
            times.append((time.monotonic() - begin) * 1000)
        self.remark = ("first byte over NBD: %.0f ms for the first client, %.0f ms in the median of %d; the server was ready after "
                       "%.0f ms" % (times[0], statistics.median(times), self.places, start * 1000))

    def restore(self):
        cost = run(["nbdcopy", self.uri, "null:"], self.log, also_pid=self.server)
        cost.memory = peak_memory(self.server)
        return cost

    def restored_is_same(self):
        same = self.same(self.uri, "raw")
        self.process.terminate()
        return self.process.wait(60) == 0 and same


class QemuImg(Tool):
    """The floor: the same image into a raw file, by the program that everybody has."""
    name = "qemu-img"
    note = "no backup: qemu-img convert of the VM's qcow2 image into a raw file"
    program = "qemu-img"
    only_restores = True

    def __init__(self, folder, disks):
        super().__init__(folder, disks)
        self.repository = disks.qcow2

    def restore(self):
        return self.run("convert", "-f", "qcow2", "-O", "raw", self.repository, self.target + "/disk.raw", written=[self.target])

    def restored_is_same(self):
        return self.same(self.target + "/disk.raw", "raw")


class Restic(Tool):
    name = "restic"
    note = "raw file, content-defined chunks, compression auto"
    program = "restic"

    def __init__(self, folder, disks):
        super().__init__(folder, disks)
        self.env = {"RESTIC_REPOSITORY": self.repository, "RESTIC_PASSWORD": PASSWORD,
                    "RESTIC_CACHE_DIR": self.folder + "/cache", "HOME": self.folder}

    def create(self):
        self.run("init", "--repository-version", "2")

    def backup(self):
        return self.run("backup", "--quiet", self.disks.raw)

    def again(self):
        return self.backup()

    def verify(self):
        return self.run("check", "--quiet", "--read-data", written=[])

    def restore(self):
        return self.run("restore", "--quiet", "latest", "--target", self.target, written=[self.target])

    def restored_is_same(self):
        return self.same(self.target + self.disks.raw, "raw")


class Borg(Tool):
    name = "borg"
    note = "raw file, --sparse, fixed chunks of 4 MiB as its manual advises for disks, repokey-blake2, zstd,3"
    program = "borg"
    chunker = ["--sparse", "--chunker-params", "fixed,4194304"]

    def __init__(self, folder, disks):
        super().__init__(folder, disks)
        self.env = {"BORG_REPO": self.repository, "BORG_PASSPHRASE": PASSWORD, "BORG_BASE_DIR": self.folder,
                    "HOME": self.folder}
        self.count = 0

    def create(self):
        self.run("init", "-e", "repokey-blake2")

    def backup(self):
        self.count += 1
        folder, name = os.path.split(self.disks.raw)
        return self.run("create", "-C", "zstd,3", *self.chunker, "::%d" % self.count, name, cwd=folder)

    def again(self):
        return self.backup()

    def verify(self):
        return self.run("check", "--verify-data", written=[])

    def restore(self):
        return self.run("extract", "--sparse", "::%d" % self.count, cwd=self.target, written=[self.target])

    def restored_is_same(self):
        return self.same(os.path.join(self.target, os.path.basename(self.disks.raw)), "raw")


class BorgBuzhash(Borg):
    name = "borg-buzhash"
    note = "borg with its default, content-defined chunks"
    chunker = []


class Nbdcopy(Tool):
    """How fast the image can be read at all: nothing is hashed, compressed or kept."""
    name = "nbdcopy"
    note = "the same qcow2 through qemu-nbd, to null:"
    program = "nbdcopy"
    can_restore = False
    has_repository = False

    def inputs(self):
        return [self.disks.qcow2]

    def create(self):
        pass

    def backup(self):
        return self.run("--", "[", "qemu-nbd", "-r", "-f", "qcow2", self.disks.qcow2, "]", "null:", written=[])

    def again(self):
        return self.backup()


ALL = [Kvss, KvssRunning, KvssExport, KvssNbd, Restic, Borg, BorgBuzhash, Nbdcopy, QemuImg]


class Disks:
    """The one content, as a raw file and as the qcow2 image of a VM."""

    vm = "bench"

    def __init__(self, folder, kvss):
        self.folder = folder
        self.kvss = kvss
        self.raw = folder + "/disk.raw"
        self.qcow2 = folder + "/disk.qcow2"

    def make(self, size):
        here = os.path.dirname(os.path.abspath(__file__))
        subprocess.run([here + "/make-disk", self.raw, str(size)], check=True)
        subprocess.run(["qemu-img", "convert", "-f", "raw", "-O", "qcow2", self.raw, self.qcow2], check=True)
        self.define()

    def define(self):
        path = self.folder + "/%s.xml" % self.vm
        with open(path, "w") as file:
            file.write(self.xml())
        self.virsh("define", "--validate", path)

    def undefine(self):
        self.virsh("undefine", self.vm)

    def image_of_vm(self):
        return re.search(r"vda\s+(/.*)", self.virsh("domblklist", self.vm))[1].strip()

    def some_data(self, dice):
        """The offset of 4 KiB of the disk that are no hole."""
        with open(self.raw, "rb") as file:
            size = file.seek(0, os.SEEK_END)
            while True:
                at = dice.randrange(size // MIB) * MIB
                with contextlib.suppress(OSError):      # ENXIO: nothing but a hole is left
                    if os.lseek(file.fileno(), at, os.SEEK_DATA) == at:
                        return at

    def data_bytes(self):
        return os.stat(self.raw).st_blocks * 512

    def xml(self):
        return """<domain type='qemu'>
  <name>%s</name>
  <memory unit='MiB'>64</memory><vcpu>1</vcpu>
  <os><type arch='x86_64' machine='q35'>hvm</type><boot dev='network'/></os>
  <devices>
    <emulator>/usr/bin/qemu-system-x86_64</emulator>
    <disk type='file' device='disk'>
      <driver name='qemu' type='qcow2'/><source file='%s'/><target dev='vda' bus='virtio'/>
    </disk>
    <controller type='usb' model='none'/>
    <memballoon model='none'/>
  </devices>
</domain>
""" % (self.vm, self.qcow2)

    def virsh(self, *command):
        done = subprocess.run(["virsh", "-q", "-c", "qemu:///system", *command], stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=60, check=False)
        if done.returncode != 0:
            raise BenchError("virsh %s: %s" % (" ".join(command), done.stdout.decode(errors="replace").strip()))
        return done.stdout.decode(errors="replace")

    def start(self):
        self.virsh("start", self.vm)
        with open("/run/libvirt/qemu/%s.pid" % self.vm) as file:
            return int(file.read())

    def stop(self):
        self.virsh("destroy", self.vm)

    def touch(self):
        """As a VM that wrote something: restic and borg read a file again only when its times changed."""
        os.utime(self.raw)
