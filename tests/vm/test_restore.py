"""What a restore does to the VM that is there, and what it leaves when it fails."""
import os
import re

from kvsslab import Disk, Kvss, LabCase, file_hash, files_below, virsh


class Replace(LabCase):
    """Over a VM that exists and runs."""
    cost = 60

    @classmethod
    def make(cls):
        super().make()
        cls.web = cls.lab.guest("web", disks=[Disk("vda"), Disk("vdb", form="raw")]).define()
        virsh("autostart", "web")
        cls.web.start()
        cls.web.sh("echo old > /mnt/vda/letter; sync")
        cls.first = cls.kvss("backup", "web")

    def setUp(self):
        self.assertExit(self.first, 0)
        if self.web.state() != "running":
            self.web.start()
        self.web.sh("echo new > /mnt/vda/letter; sync")

    def test_dry_run_changes_nothing(self):
        before = virsh("dumpxml", "web")
        self.assertExit(self.kvss("restore", "latest", "web", "--dry-run"), 0)
        self.assertEqual(virsh("dumpxml", "web"), before)
        self.assertEqual(self.web.sh("cat /mnt/vda/letter").strip(), "new")
        self.assertNothingLeft()

    def test_dry_run_names_the_disks_that_go(self):
        """Also those in whose place nothing is restored."""
        plan = self.kvss("restore", "latest", "web", "--to", self.lab.path("other"), "--dry-run")
        self.assertExit(plan, 0)
        for path in self.web.paths().values():
            self.assertTrue(any("%s, is set aside as" % path in step for step in plan.summary["steps"]), "%s: %s" % (path, plan))
        self.assertNothingLeft()

    def test_running_vm_is_replaced(self):
        self.restore("latest", "web")
        self.assertEqual(self.web.state(), "shut off")
        self.assertFalse(self.web.has_save(), "the old VM's memory was left")
        self.assertOneInstant(self.web)
        self.assertRegex(virsh("dominfo", "web"), r"Autostart:\s+enable")
        self.assertEqual(self.web.images()["vda"].cat("/letter").strip(), b"old")
        self.assertNothingLeft()

    def test_agent_is_not_asked(self):
        """Whoever asked it would wait: it is stopped."""
        self.web.signal_agent("STOP")
        self.restore("latest", "web")
        self.assertEqual(self.web.state(), "shut off")
        self.assertEqual(self.web.images()["vda"].cat("/letter").strip(), b"old")
        self.assertNothingLeft()

    def test_start(self):
        result = self.restore("latest", "web", "--start")
        self.assertEqual([v["state"] for v in result.summary["vms"]], ["running"])
        self.web.disconnect()
        self.web.wait_ready(self.web.serial().count("GUEST READY") - 1)
        self.assertEqual(self.web.sh("cat /mnt/vda/letter").strip(), "old")
        self.assertNothingLeft()

    def test_keep_old(self):
        folders = [self.web.folder, "/var/lib/libvirt/qemu/save"]      # its memory is kept, too
        before = files_below(*folders)
        result = self.restore("latest", "web", "--keep-old")
        kept = files_below(*folders) - before
        self.assertTrue(kept, "nothing was kept: %s" % result)
        for path in kept:
            os.unlink(path)

    def test_failure_gives_the_running_vm_back_with_its_memory(self):
        """A pack is damaged: found while the files are written, after the old VM was put aside."""
        secret = self.secret(self.web)
        folder = self.lab.path("damaged")
        os.system("cp -a %s %s" % (self.kvss.repository, folder))
        pack = max(files_below(folder + "/data"), key=os.path.getsize)
        os.chmod(pack, 0o600)
        with open(pack, "r+b") as file:
            file.seek(os.path.getsize(pack) // 2)
            file.write(os.urandom(64))
        inodes = {path: os.stat(path).st_ino for path in self.web.paths().values()}
        result = Kvss(self.lab, folder)("restore", "latest", "web", "--yes")
        self.assertFailed(result, 7, "web")
        self.web.disconnect()
        self.assertEqual(self.web.state(), "running")
        self.assertEqual(self.web.sh("cat /run/secret"), secret, "it was booted afresh")
        self.assertEqual(self.web.sh("cat /mnt/vda/letter").strip(), "new")
        self.assertTrue(self.web.writes())
        self.assertEqual(self.web.mismatches(), [])
        self.assertEqual({path: os.stat(path).st_ino for path in self.web.paths().values()}, inodes)
        self.assertNothingLeft()


class Elsewhere(LabCase):
    cost = 20

    @classmethod
    def make(cls):
        super().make()
        cls.off = cls.lab.guest("off", disks=[Disk("vda", kind="random", content_kib=3000)], devices="""
            <interface type='network'><mac address='52:54:00:11:22:33'/><source network='no-such-network'/></interface>""").define()
        cls.first = cls.kvss("backup", "off")

    def setUp(self):
        self.assertExit(self.first, 0)

    def test_network_that_is_not_here(self):
        """The VM is there, its link is down, and that is said: exit 3."""
        before = self.off.disk("vda").hash()
        self.off.delete()
        result = self.restore("latest", rc=3)
        self.assertEqual(self.off.images()["vda"].hash(), before)
        text = virsh("dumpxml", "off")
        self.assertIn("52:54:00:11:22:33", text)
        self.assertRegex(text, r"<link state=['\"]down['\"]/>")
        self.assertIn("no-such-network", str(result))
        self.assertNothingLeft()

    def test_copy_under_another_name(self):
        folder = self.lab.path("copies")
        before = (virsh("dumpxml", "off"), file_hash(self.off.paths()["vda"]))
        result = self.kvss("restore", "latest", "off", "--as", "copy", "--to", folder, "--yes")
        if result.rc == 2 and "not" in result.stderr:
            self.skipTest("restore --as is not there yet: " + result.stderr.strip())
        self.assertExit(result, 3)
        self.assertEqual((virsh("dumpxml", "off"), file_hash(self.off.paths()["vda"])), before)
        text = virsh("dumpxml", "copy")
        self.assertNotIn(self.off.uuid, text)
        self.assertNotIn("52:54:00:11:22:33", text)
        source = re.search(r"<source file=['\"]([^'\"]+)", text).group(1)
        self.assertTrue(source.startswith(folder + "/"), source)
        virsh("undefine", "copy")

    def test_other_folder(self):
        folder = self.lab.path("elsewhere")
        before = self.off.disk("vda").hash()
        self.off.delete()
        self.restore("latest", "--to", folder, rc=3)
        image = self.off.images()["vda"]
        self.assertTrue(image.path.startswith(folder + "/"), image.path)
        self.assertEqual(image.hash(), before)
        self.off.undefine()
        os.unlink(image.path)
        self.off.define()
