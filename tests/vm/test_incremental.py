"""Reading only what changed: bitmaps of a running VM, one that is off, one whose bitmaps are gone."""
import contextlib
import json
import os
import random
import signal
import sys
import time

from kvsslab import Disk, Kvss, LabCase, file_hash, run, virsh, wait_until

MIB = 1 << 20
KIB = 1 << 10
CHUNK = 256 * KIB       # what the repository stores at once
SEED = os.environ.get("KVSS_TEST_SEED") or str(int(time.time()))


def checkpoints(name):
    return virsh("checkpoint-list", "--name", name).split()


def bitmaps(name):
    """Of ours, in the images of a VM that runs."""
    told = json.loads(virsh("qemu-monitor-command", name, '{"execute": "query-block"}'))["return"]
    return sorted({bitmap["name"] for device in told for bitmap in device.get("inserted", {}).get("dirty-bitmaps", [])
                   if bitmap.get("name", "").startswith("kvss-")})


def disks_of(result, name):
    return {disk["target"]: disk for disk in result.vm(name)["disks"]}


class IncrementalCase(LabCase):
    def change(self, guest, target, size_mib=1, name="change"):
        """New random bytes in a file of the guest, on the disk."""
        guest.sh("dd if=/dev/urandom of=/mnt/%s/%s bs=1M count=%d conv=fsync 2>/dev/null" % (target, name, size_mib))

    def assertIncremental(self, result, name, *targets, most=4 * MIB):
        for target in targets:
            disk = disks_of(result, name)[target]
            self.assertTrue(disk["incremental"], str(disk))
            self.assertIsNone(disk["reason"], str(disk))
            self.assertLess(disk["bytes_read"], most, str(disk))

    def assertWhole(self, result, name, target, word):
        disk = disks_of(result, name)[target]
        self.assertFalse(disk["incremental"], str(disk))
        self.assertIn(word, disk["reason"])


class Running(IncrementalCase):
    cost = 40

    @classmethod
    def make(cls):
        super().make()
        cls.web = cls.lab.guest("web", disks=[Disk("vda"), Disk("vdb", form="raw")]).define().start()

    def test_increments(self):
        first = self.backup("web")
        self.assertWhole(first, "web", "vda", "first backup")
        self.assertEqual(len(bitmaps("web")), 1)
        self.assertEqual(checkpoints("web"), [])
        sums = {}
        for number in range(3):
            self.change(self.web, "vda", name="f%d" % number)
            sums[number] = self.web.sh("cat /mnt/vda/f* | sha256sum")
            old = bitmaps("web")
            result = self.backup("web")
            self.assertIncremental(result, "web", "vda")
            self.assertWhole(result, "web", "vdb", "raw")
            self.assertEqual(len(bitmaps("web")), 1, "one of ours at rest")
            self.assertNotEqual(bitmaps("web"), old)
            self.assertEqual(checkpoints("web"), [])
            self.assertNothingLeft()
        self.assertTrue(self.web.writes())
        self.assertExit(self.kvss("verify", "--read-data"), 0)
        self.web.delete()
        self.restore("latest", "web")
        self.assertOneInstant(self.web)
        self.web.start()
        self.assertEqual(self.web.sh("cat /mnt/vda/f* | sha256sum"), sums[2])
        self.assertEqual(bitmaps("web"), [])
        again = self.backup("web")
        self.assertFalse(disks_of(again, "web")["vda"]["incremental"])


class Lost(IncrementalCase):
    """Whatever takes the record of changes away costs reads, and no more."""
    cost = 90

    @classmethod
    def make(cls):
        super().make()
        cls.web = cls.lab.guest("web").define().start()

    def setUp(self):
        if self.web.state() != "running":
            self.web.start()
        self.backup("web")
        self.change(self.web, "vda", name="before")

    def next_is_whole(self, word):
        """The next backup is whole, says why, and the one after it is incremental again."""
        self.assertWhole(self.backup("web"), "web", "vda", word)
        self.change(self.web, "vda", name="after")
        self.next_is_incremental()

    def next_is_incremental(self):
        self.assertIncremental(self.backup("web"), "web", "vda")
        self.assertEqual(len(bitmaps("web")), 1)
        self.assertEqual(checkpoints("web"), [])
        self.assertNothingLeft()

    def start_again(self):
        self.web.start()
        self.change(self.web, "vda", name="since")

    def test_qemu_killed(self):
        with open("/run/libvirt/qemu/web.pid") as file:
            os.kill(int(file.read()), 9)
        self.web.disconnect()
        wait_until("off", lambda: self.web.state() == "shut off", 30)
        self.start_again()
        self.next_is_whole("broken")

    def test_shut_down(self):
        self.web.shutdown()
        self.start_again()
        self.next_is_incremental()

    def test_managed_save(self):
        self.web.save()
        self.web.start(wait=False)
        self.web.sh("true")
        self.next_is_incremental()

    def test_undefined_and_defined(self):
        self.web.shutdown()
        virsh("undefine", "web")        # nothing in its way
        self.web.define()
        self.start_again()
        self.next_is_incremental()

    def test_bitmap_removed(self):
        self.web.shutdown()
        path = self.web.disk("vda").path
        for bitmap in json.loads(run("qemu-img", "info", "--output=json", path))["format-specific"]["data"]["bitmaps"]:
            run("qemu-img", "bitmap", "--remove", path, bitmap["name"])
        self.start_again()
        self.next_is_whole("gone")

    def test_copied_image(self):
        self.web.shutdown()
        path = self.web.disk("vda").path
        run("cp", path, path + ".new")
        os.rename(path + ".new", path)
        self.start_again()
        self.next_is_whole("another file")

    def test_foreign_checkpoint_stays(self):
        with open(self.lab.path("cp.xml"), "w") as file:
            file.write("<domaincheckpoint><name>theirs</name></domaincheckpoint>")
        virsh("checkpoint-create", "web", file.name)
        self.addCleanup(virsh, "checkpoint-delete", "web", "theirs", check=False)
        self.assertIncremental(self.backup("web"), "web", "vda")
        self.assertEqual(checkpoints("web"), ["theirs"])
        self.assertEqual(len(bitmaps("web")), 1)

    def test_full(self):
        self.assertWhole(self.backup("web", "--full"), "web", "vda", "asked for")
        self.next_is_incremental()

    def test_two_repositories(self):
        other = Kvss(self.lab, self.lab.path("other"))
        other.init()
        self.assertExit(other("backup", "web"), 0)
        self.assertEqual(len(bitmaps("web")), 2)
        self.change(self.web, "vda", name="two")
        self.assertIncremental(self.backup("web"), "web", "vda")
        result = other("backup", "web")
        self.assertExit(result, 0)
        self.assertIncremental(result, "web", "vda")
        self.assertEqual(len(bitmaps("web")), 2)
        virsh("qemu-monitor-command", "web", json.dumps({
            "execute": "block-dirty-bitmap-remove",
            "arguments": {"node": self.node("vda"), "name": (set(bitmaps("web")) - self.tracked()).pop()}}))

    @staticmethod
    def node(target):
        told = json.loads(virsh("qemu-monitor-command", "web", '{"execute": "query-block"}'))["return"]
        return next(device["inserted"]["node-name"] for device in told if device.get("inserted"))

    def tracked(self):
        """By what the last backup says that its changes are tracked."""
        return {d["tracked_by"] for d in json.loads(self.kvss.restic("dump", "latest", "/set.json"))["vms"][0]["disks"]}

    def test_killed(self):
        """A backup that came to nothing leaves what there was."""
        old = bitmaps("web")
        running = self.kvss.start("backup", "web", env={"KVSS_TEST_STALL": "copy:60"})
        wait_until("the copy", lambda: "standing still at 'copy'" in running.result().stderr, 60)
        running.signal(signal.SIGKILL)
        running.process.wait()
        self.assertExit(self.kvss("doctor"), 0)
        self.assertEqual(bitmaps("web"), old)
        self.assertEqual(checkpoints("web"), [])
        self.next_is_incremental()


class NoAgent(IncrementalCase):
    """Those that stand still, and those that are off."""
    cost = 60

    @classmethod
    def make(cls):
        super().make()
        cls.db = cls.lab.guest("db", disks=[Disk("vda"), Disk("vdb")], agent="no").define()

    def setUp(self):
        if self.db.state() != "running":
            self.db.start()

    def test_saved_state(self):
        self.backup("db")
        self.change(self.db, "vdb")
        secret = self.secret(self.db)
        result = self.backup("db")
        self.assertIncremental(result, "db", "vda", "vdb")
        self.assertEqual(result.vm("db")["method"], "saved-state")
        self.assertTrue(self.db.writes(3))
        self.assertEqual(self.db.mismatches(), [])
        self.db.delete()
        self.restore("latest", "db")
        number = self.assertOneInstant(self.db, clean=False)
        self.assertContinues(self.db, number, secret)
        self.assertNothingLeft()

    def test_paused(self):
        self.backup("db")
        self.change(self.db, "vdb")
        self.db.pause()
        self.assertIncremental(self.backup("db"), "db", "vda", "vdb")
        self.assertEqual(self.db.state(), "paused")
        self.db.resume()
        self.assertTrue(self.db.writes())

    def test_off(self):
        """The record goes on: nobody writes to a VM that is off."""
        self.backup("db")
        self.change(self.db, "vdb", name="one")
        self.db.shutdown()
        hashes = {disk.target: disk.hash() for disk in self.db.disks}
        for _ in range(2):
            self.assertIncremental(self.backup("db"), "db", "vda", "vdb")
        self.assertNothingLeft()
        self.db.start()
        self.change(self.db, "vdb", name="two")
        self.assertIncremental(self.backup("db"), "db", "vda", "vdb")
        older = self.kvss.backups()[-2]["id"]
        self.db.delete()
        self.restore(older, "db")
        for target, image in self.db.images().items():
            self.assertEqual(image.hash(), hashes[target], target)


class TrimDisk(Disk):
    """One whose guest can give blocks back."""

    def xml(self):
        return super().xml().replace("cache='none'", "cache='none' discard='unmap'")


class LongWalk(IncrementalCase):
    """Twenty increments, and before each something that a VM lives through. Every backup is held against an image of its
    instant that was read past all that kvss has: by QEMU itself, without bitmaps, or from the file of a VM that is off."""
    cost = 300
    sweep = True
    INCREMENTS = 20

    @classmethod
    def make(cls):
        super().make()
        cls.web = cls.lab.guest("web", disks=[Disk("vda"), TrimDisk("vdb", kind="empty", size_mib=96)]).define().start()

    # --- what a VM lives through; True: what changed may be forgotten, which backups say until one saw it run

    def write(self):
        for _ in range(self.rng.randrange(1, 6)):
            kib = self.rng.choice([4, 64, 300, 2000])
            at = self.rng.randrange((self.size // KIB - kib) // 4) * 4
            self.web.sh("dd if=/dev/urandom of=/dev/vdb bs=4k seek=%d count=%d conv=fsync,notrunc 2>/dev/null" % (at // 4, kib // 4))

    def discard(self):
        self.write()
        at = self.rng.randrange(self.size // MIB - 3)
        self.web.sh("blkdiscard -o %d -l %d /dev/vdb" % (at * MIB, self.rng.choice([64 * KIB, MIB, 3 * MIB])))

    def grow(self):
        self.size += 7 * MIB + 64 * KIB
        virsh("blockresize", "web", "vdb", "%dB" % self.size)
        self.write()

    def shut_down(self):
        self.write()
        self.web.shutdown()
        self.web.start()

    def managed_save(self):
        self.write()
        self.web.save()
        self.web.start(wait=False)
        self.web.sh("true")

    def kill(self):
        self.write()
        with open("/run/libvirt/qemu/web.pid") as file:
            os.kill(int(file.read()), signal.SIGKILL)
        self.web.disconnect()
        wait_until("off", lambda: self.web.state() == "shut off", 30)
        self.web.start()
        return True

    def restore_it(self):
        """Not always the last backup: what was written since is gone, and so is the record."""
        known = self.kvss.backups()[-self.rng.randrange(1, 3):][0]["id"]
        self.web.destroy()
        self.restore(known, "web")
        self.size = self.web.images()["vdb"].info()["virtual-size"]
        was_saved = self.web.has_save()
        self.web.start(wait=not was_saved)
        if self.web.state() == "paused":
            self.web.resume()
        self.web.sh("true")
        return True

    def foreign_checkpoint(self):
        with open(self.lab.path("cp.xml"), "w") as file:
            file.write("<domaincheckpoint><name>theirs</name></domaincheckpoint>")
        virsh("checkpoint-create", "web", file.name)
        self.write()

    def undefine(self):
        self.web.shutdown()
        xml = virsh("dumpxml", "--inactive", "web")
        with open(self.lab.path("again.xml"), "w") as file:
            file.write(xml)
        virsh("undefine", "web")
        virsh("define", file.name)
        self.web.start()
        self.write()

    def copy_image(self):
        self.web.shutdown()
        path = self.web.images()["vdb"].path
        run("cp", path, path + ".new")
        os.rename(path + ".new", path)
        self.web.start()
        self.write()
        return True

    STEPS = [write, write, discard, discard, grow, shut_down, managed_save, kill, restore_it, foreign_checkpoint, undefine, copy_image]

    # --- the image of the instant

    def qmp(self, command, **arguments):
        return json.loads(virsh("qemu-monitor-command", "web", json.dumps({"execute": command, "arguments": arguments})))["return"]

    def read_by_qemu(self, target):
        """The disk as QEMU has it now, past every bitmap."""
        number = sorted(disk.target for disk in self.web.disks).index(target)
        node = [device["inserted"]["node-name"] for device in self.qmp("query-block") if device.get("inserted")][number]
        socket, copy = "/run/lab/walk.sock", self.lab.path("instant.raw")
        self.qmp("nbd-server-start", addr={"type": "unix", "data": {"path": socket}})
        try:
            self.qmp("block-export-add", type="nbd", id="walk", **{"node-name": node})
            run("qemu-img", "convert", "-f", "raw", "-O", "raw", "nbd+unix:///%s?socket=%s" % (node, socket), copy)
        finally:
            self.qmp("nbd-server-stop")
            with contextlib.suppress(OSError):
                os.unlink(socket)
        return copy

    def instant_of(self, target):
        if self.web.state() != "shut off":
            return self.read_by_qemu(target)
        copy = self.lab.path("instant.raw")
        image = self.web.images()[target]
        run("qemu-img", "convert", "-f", image.form, "-O", "raw", image.path, copy)
        return copy

    def look(self, target):
        """(hash, content by chunks) of the disk as it is."""
        path = self.instant_of(target)
        with open(path, "rb") as file:
            chunks = [hash(chunk) for chunk in iter(lambda: file.read(CHUNK), b"")]
        return file_hash(path), chunks

    # --- the walk

    def stand(self, how):
        if how == "paused":
            self.web.pause()
        elif how == "shut off":
            self.web.shutdown()

    def assertStored(self, result, targets, seen):
        for target in targets:
            path = self.lab.path("exported.raw")
            self.assertExit(self.kvss("export", "latest", "web", target, path), 0)
            self.assertEqual(file_hash(path), seen[target][0], "%s is not as it was" % target)
            os.unlink(path)

    def assertCheap(self, result, before, after):
        disk = disks_of(result, "web")["vdb"]
        if not disk["incremental"]:
            self.assertTrue(self.forgotten and disk["reason"], str(disk))
            return
        changed = sum(old != new for old, new in zip(before, after)) + abs(len(after) - len(before))
        self.assertLessEqual(disk["bytes_stored"], 1.5 * changed * CHUNK + MIB)
        self.assertLessEqual(disk["bytes_read"], 1.5 * changed * CHUNK + 4 * MIB)

    def increment(self, number):
        step, how = self.rng.choice(self.STEPS), self.rng.choice(["running", "running", "paused", "shut off"])
        print("KVSS_TEST_SEED=%s increment %d: %s, %s" % (SEED, number, step.__name__, how), file=sys.stderr, flush=True)
        self.forgotten |= step(self) is True
        self.stand(how)
        targets = ["vdb"] if how == "running" else ["vda", "vdb"]
        seen = {target: self.look(target) for target in targets}
        result = self.backup("web")
        self.assertCheap(result, self.before, seen["vdb"][1])
        self.assertStored(result, targets, seen)
        self.before = seen["vdb"][1]
        self.forgotten &= how == "shut off"
        with contextlib.suppress(Exception):
            virsh("checkpoint-delete", "web", "theirs")
        if how == "paused":
            self.web.resume()
        elif how == "shut off":
            self.web.start()
        self.assertNothingLeft()

    def test_twenty(self):
        self.rng = random.Random(SEED)
        self.size, self.forgotten = 96 * MIB, False
        self.backup("web")
        self.before = self.look("vdb")[1]
        for number in range(self.INCREMENTS):
            self.increment(number)
        self.assertExit(self.kvss("verify", "--read-data"), 0)
