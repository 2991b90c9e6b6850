"""Disks that QEMU's block layer cannot cut, and file systems that a guest mounts from elsewhere: said everywhere, and the rest
is backed up."""
import json

from kvsslab import LabCase, virsh
from targets import IscsiTarget, NfsServer


class NotCovered(LabCase):

    def everywhere(self, guest, word):
        """explain, the result, set.json and show name it; exit code 3; returns the backup's result."""
        explained = self.kvss("explain", guest.name)
        self.assertIn(explained.rc, (0, 3), str(explained))
        self.assertIn(word, json.dumps(self.find_vm(explained.document, guest.name)["not_covered"]), "explain")
        listed = self.kvss("list", "vms")
        self.assertIn(word, json.dumps(self.find_vm(listed.document, guest.name)["not_covered"]), "list vms")
        result = self.backup(guest.name, rc=3)
        entries = result.vm(guest.name)["not_covered"]
        self.assertIn(word, json.dumps(entries), "result")
        for entry in entries:
            self.assertEqual(set(entry) & {"target", "kind", "reason"}, {"target", "kind", "reason"}, entry)
            self.assertTrue(entry["reason"])
        stored = json.loads(self.kvss.restic("-q", "dump", "latest", "/set.json"))
        self.assertIn(word, json.dumps(self.find_vm(stored, guest.name)["not_covered"]), "set.json")
        shown = self.kvss("show", "latest")
        self.assertExit(shown, 0)
        self.assertIn(word, json.dumps(self.find_vm(shown.document, guest.name)["not_covered"]), "show")
        return result

    def find_vm(self, document, name):
        vms = document if isinstance(document, list) else document["vms"]
        return next(v for v in vms if v["name"] == name)


class Lun(NotCovered):
    cost = 25

    @classmethod
    def make(cls):
        super().make()
        cls.target = IscsiTarget(cls.lab.folder)
        cls.addClassCleanup(cls.target.close)
        cls.web = cls.lab.guest("web", devices=cls.target.xml()).define().start()
        cls.off = cls.lab.guest("off", devices="""<controller type='scsi' model='virtio-scsi'/>
            <disk type='block' device='lun'><driver name='qemu' type='raw'/><source dev='/dev/disk/by-id/kvss-no-such'/>
            <target dev='sdb' bus='scsi'/></disk>""").define()

    def test_running_vm_with_a_lun(self):
        """device='lun': the guest's SCSI commands go past the block layer. Its other disk is in the backup."""
        self.assertIn("sda", self.web.sh("cat /proc/partitions"))
        result = self.everywhere(self.web, "sda")
        self.assertEqual([d["target"] for d in result.vm("web")["disks"]], ["vda"])
        self.assertNothingLeft()
        self.web.destroy()
        result = self.kvss("restore", "latest", "web", "--yes")
        self.assertIn(result.rc, (0, 3), str(result))
        self.assertEqual(self.web.images()["vda"].fs_state(), "clean")

    def test_vm_that_is_off_with_a_lun(self):
        result = self.everywhere(self.off, "sdb")
        self.assertEqual(result.vm("off")["method"], "offline")
        self.assertEqual([d["target"] for d in result.vm("off")["disks"]], ["vda"])
        self.assertEqual(virsh("domstate", "off").strip(), "shut off")
        self.assertNothingLeft()


class Nfs(NotCovered):
    cost = 20

    @classmethod
    def make(cls):
        super().make()
        cls.server = NfsServer()
        cls.addClassCleanup(cls.server.close)
        cls.web = cls.lab.guest("web", cmdline="kvss.nfs=%d" % cls.server.port,
                                devices="<interface type='user'><model type='virtio'/></interface>").define().start()

    def test_guest_that_mounts_nfs(self):
        self.assertIn(" nfs ", self.web.sh("cat /proc/mounts"))
        result = self.everywhere(self.web, "/mnt/nfs")
        self.assertEqual(result.vm("web")["method"], "child-snapshot")
        self.assertEqual([d["target"] for d in result.vm("web")["disks"]], ["vda"])
        self.assertTrue(self.web.writes())
        self.web.sh("ls /mnt/nfs")
        self.assertNothingLeft()
