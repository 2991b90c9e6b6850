"""Wrong names, wrong passwords, damage, full disks, a libvirt that is not there: a clear error, and nothing has changed."""
import os
import shutil

from kvsslab import Disk, Kvss, LabCase, files_below, run, start_libvirtd, stop_libvirtd, virsh


def tree(folder):
    return {path: os.stat(path).st_mtime_ns for path in files_below(folder)}


class BadInput(LabCase):
    cost = 30

    @classmethod
    def make(cls):
        cls.kvss.init(by="kvss")
        cls.off = cls.lab.guest("off", disks=[Disk("vda", kind="random", content_kib=4000)]).define()
        cls.first = cls.kvss("backup", "off")

    def setUp(self):
        self.assertExit(self.first, 0)

    def test_unknown_vm(self):
        before = tree(self.kvss.repository)
        self.assertFailed(self.kvss("backup", "nosuch"), 1, "nosuch")
        self.assertFailed(self.kvss("backup", "off", "nosuch"), 1, "nosuch")
        self.assertFailed(self.kvss("restore", "latest", "nosuch", "--yes"), 1, "nosuch")
        self.assertFailed(self.kvss("explain", "nosuch"), 1, "nosuch")
        self.assertEqual(tree(self.kvss.repository), before)
        self.assertNothingLeft()

    def test_encrypted_and_off(self):
        """Only the QEMU of a running VM has the key: what lies in the image is not to be taken for the content."""
        path = self.lab.path("luks.img")
        run("qemu-img", "create", "-q", "-f", "luks", "--object", "secret,id=s,data=letmein", "-o", "key-secret=s,iter-time=10", path, "4M")
        secret = self.lab.guest("secret", disks=[], devices="""<disk type='file' device='disk'><driver name='qemu' type='raw'/>
            <source file='%s'><encryption format='luks'><secret type='passphrase' uuid='2c6a3e1c-9d0e-4ad5-8a0a-1f0a8b7d0c11'/></encryption></source>
            <target dev='vda' bus='virtio'/></disk>""" % path).define()
        self.addCleanup(secret.delete)
        before = tree(self.kvss.repository)
        self.assertFailed(self.kvss("backup", "secret"), 1, "vda is encrypted", "start it", "--exclude")
        self.assertEqual(tree(self.kvss.repository), before)
        self.assertNothingLeft()

    def test_unknown_backup(self):
        self.assertFailed(self.kvss("restore", "0123abcd", "--yes"), 1, "0123abcd")
        self.assertFailed(self.kvss("show", "0123abcd"), 1, "0123abcd")
        self.assertEqual(virsh("domstate", "off").strip(), "shut off")

    def test_wrong_password(self):
        before = tree(self.kvss.repository)
        wrong = Kvss(self.lab, self.kvss.repository, "not the password")
        for command in (["list", "backups"], ["backup", "off"], ["restore", "latest", "--yes"], ["verify"], ["show", "latest"]):
            with self.subTest(command):
                self.assertFailed(wrong(*command), 5, "password")
        self.assertEqual(tree(self.kvss.repository), before)
        self.assertNothingLeft()

    def test_no_repository(self):
        folder = self.lab.path("no-repository")
        os.mkdir(folder)
        with open(folder + "/letter", "w") as file:
            file.write("not a repository\n")
        before = tree(folder)
        for repository in (folder, self.lab.path("nowhere")):
            for command in (["list", "backups"], ["backup", "off"], ["restore", "latest", "--yes"], ["verify"]):
                with self.subTest(repository=repository, command=command):
                    self.assertFailed(Kvss(self.lab, repository)(*command), 4, repository)
        self.assertEqual(tree(folder), before)
        self.assertFalse(os.path.exists(self.lab.path("nowhere")))
        self.assertNothingLeft()

    def test_init_where_one_is(self):
        before = tree(self.kvss.repository)
        result = self.kvss("init")
        self.assertNotEqual(result.rc, 0, str(result))
        self.assertEqual(tree(self.kvss.repository), before)

    def test_usage(self):
        for command in (["nosuch"], ["backup", "--nosuch", "off"], ["backup"], ["restore"], ["list", "nosuch"],
                        ["backup", "off", "--method", "nosuch"], ["backup", "off", "--type", "log"]):
            with self.subTest(command):
                result = self.kvss(*command)
                self.assertEqual(result.rc, 2, str(result))
                self.assertTrue(result.stderr.strip())
        self.assertEqual(len(self.kvss.backups()), 1)


class Damage(LabCase):
    cost = 25

    @classmethod
    def make(cls):
        super().make()
        cls.off = cls.lab.guest("off", disks=[Disk("vda", kind="random", content_kib=6000)]).define()
        cls.first = cls.kvss("backup", "off")

    def setUp(self):
        self.assertExit(self.first, 0)

    def damaged(self, damage):
        """A copy of the repository in which damage(path) was done to its largest pack."""
        folder = self.lab.path("damaged")
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(self.kvss.repository, folder)
        self.addCleanup(shutil.rmtree, folder)
        pack = max(files_below(folder + "/data"), key=os.path.getsize)
        os.chmod(pack, 0o600)
        damage(pack)
        return Kvss(self.lab, folder)

    def flip(self, path):
        with open(path, "r+b") as file:
            file.seek(os.path.getsize(path) // 2)
            byte = file.read(1)
            file.seek(-1, 1)
            file.write(bytes([byte[0] ^ 0x40]))

    def old_vm(self):
        """Its content, its very file, its definition (libvirt sorts the devices of one that is defined again)."""
        disk = self.off.disk("vda")
        return disk.hash(), os.stat(disk.path).st_ino, sorted(virsh("dumpxml", "off").splitlines())

    def assertOldVmStays(self, kvss):
        before = self.old_vm()
        result = kvss("restore", "latest", "off", "--yes")
        self.assertIn(result.rc, (1, 4, 7), str(result))
        self.assertFailed(result, result.rc, "off")
        self.assertEqual(self.old_vm(), before)
        self.assertNothingLeft()
        return result

    def test_flipped_bit_in_a_pack(self):
        kvss = self.damaged(self.flip)
        result = kvss("verify", "--read-data")
        self.assertEqual(result.rc, 7, str(result))
        self.assertEqual(self.assertOldVmStays(kvss).rc, 7)

    def test_cut_pack(self):
        kvss = self.damaged(lambda path: os.truncate(path, os.path.getsize(path) // 2))
        result = kvss("verify", "--read-data")
        self.assertEqual(result.rc, 7, str(result))
        self.assertOldVmStays(kvss)

    def test_missing_pack(self):
        kvss = self.damaged(os.unlink)
        result = kvss("verify")
        self.assertEqual(result.rc, 7, str(result))
        self.assertOldVmStays(kvss)

    def test_damaged_snapshot_file(self):
        folder = self.lab.path("damaged")
        shutil.copytree(self.kvss.repository, folder)
        self.addCleanup(shutil.rmtree, folder)
        path = next(iter(files_below(folder + "/snapshots")))
        os.chmod(path, 0o600)
        self.flip(path)
        kvss = Kvss(self.lab, folder)
        result = kvss("verify")
        self.assertEqual(result.rc, 7, str(result))
        self.assertOldVmStays(kvss)

    def test_an_undamaged_one_is_said_to_be_so(self):
        self.assertExit(self.kvss("verify", "--read-data"), 0)


class FullDisk(LabCase):
    cost = 30

    @classmethod
    def make(cls):
        cls.small = cls.lab.path("small")
        os.mkdir(cls.small)
        run("mount", "-t", "tmpfs", "-o", "size=12m", "small", cls.small)
        cls.addClassCleanup(run, "umount", "-l", cls.small)
        cls.web = cls.lab.guest("web", disks=[Disk("vda", content_kib=24000)]).define().start()

    def test_repository_on_a_full_disk(self):
        kvss = Kvss(self.lab, self.small + "/repository").init()
        result = kvss("backup", "web")
        self.assertFailed(result, 1, "space")
        self.assertEqual(kvss.backups(), [])
        self.assertEqual(kvss.restic("list", "locks", "--no-lock").strip(), "")
        self.assertTrue(self.web.writes())
        self.assertFalse(self.web.is_frozen())
        self.assertNothingLeft()

    def test_restore_to_a_full_disk(self):
        folder = self.lab.path("tight")
        os.mkdir(folder)
        run("mount", "-t", "tmpfs", "-o", "size=20m", "tight", folder)
        self.addCleanup(run, "umount", "-l", folder)
        disk = Disk("vda", kind="random", content_kib=12000)
        disk.create(folder + "/vda.qcow2")
        off = self.lab.guest("tight", disks=[disk]).define()
        kvss = Kvss(self.lab, self.lab.path("large")).init()
        self.assertExit(kvss("backup", "tight"), 0)
        before = (disk.hash(), os.stat(disk.path).st_ino, virsh("dumpxml", "tight"))
        result = kvss("restore", "latest", "tight", "--yes")
        self.assertFailed(result, 1, "tight")
        self.assertRegex(result.stderr, "space|room")
        self.assertEqual((disk.hash(), os.stat(disk.path).st_ino, virsh("dumpxml", "tight")), before)
        self.assertEqual(os.listdir(folder), ["vda.qcow2"])
        self.assertEqual(off.state(), "shut off")
        self.assertNothingLeft()


class NoLibvirt(LabCase):
    cost = 25

    @classmethod
    def make(cls):
        super().make()
        cls.web = cls.lab.guest("web").define().start()
        cls.first = cls.kvss("backup", "web")

    def test_not_running(self):
        self.assertExit(self.first, 0)
        before = tree(self.kvss.repository)
        stop_libvirtd()
        try:
            for command in (["list", "vms"], ["explain"], ["backup", "web"], ["restore", "latest", "--yes"]):
                with self.subTest(command):
                    self.assertFailed(self.kvss(*command, timeout=30), 1, "libvirt")
            # what needs no libvirt works
            self.assertExit(self.kvss("list", "backups"), 0)
            self.assertExit(self.kvss("verify"), 0)
        finally:
            start_libvirtd()
        self.assertEqual(tree(self.kvss.repository), before)
        self.assertTrue(self.web.writes())
        self.assertNothingLeft()

    def test_restarted_while_copying(self):
        """The run ends well or fails; in no case is anything left, and the guest runs."""
        running = self.start_and_reach("copy", "backup", "web")
        self.assertTrue(self.web.job())
        stop_libvirtd()
        start_libvirtd()
        running.let_go()
        result = running.wait(120)
        self.assertIn(result.rc, (0, 1), str(result))
        self.assertExit(self.kvss("list", "vms"), 0)
        self.assertTrue(self.web.writes())
        self.assertNothingLeft()


class Vanishing(LabCase):
    """A VM that goes away while it is copied."""
    cost = 35

    @classmethod
    def make(cls):
        super().make()
        cls.other = cls.lab.guest("other", agent="no").define().start()

    def vanish(self, name, act):
        web = self.lab.guest(name).define()
        self.addCleanup(web.delete)
        web.start()
        running = self.start_and_reach("copy", "backup", name, "other")
        self.assertTrue(web.job())
        act(web)
        running.let_go()
        result = running.wait(120)
        self.assertFailed(result, 1, name)
        self.assertEqual(self.kvss.backups(), [])
        self.assertEqual(self.other.state(), "running")
        self.assertTrue(self.other.writes())
        self.assertEqual(self.other.mismatches(), [])
        self.assertNothingLeft()

    def test_destroyed(self):
        self.vanish("destroyed", lambda web: web.destroy())

    def test_destroyed_and_undefined(self):
        self.vanish("gone", lambda web: web.delete())

    def test_shut_down_by_itself(self):
        self.vanish("off", lambda web: web.shutdown())
