"""A stored disk into a file, in every format; nothing is replaced, nothing half is left."""
import os
import signal
import subprocess

from kvsslab import KVSS, Disk, LabCase, file_hash, run, start_libvirtd, stop_libvirtd

FORMATS = {"raw": "raw", "img": "raw", "qcow2": "qcow2", "vhd": "vpc", "VHDX": "vhdx"}


class Export(LabCase):
    cost = 40

    @classmethod
    def make(cls):
        super().make()
        cls.off = cls.lab.guest("off", disks=[Disk("vda", kind="random", content_kib=9000),
                                              Disk("vdb", form="raw")]).define()
        cls.first = cls.kvss("backup", "off")
        cls.raw = cls.lab.path("original.raw")
        run("qemu-img", "convert", "-O", "raw", cls.off.disk("vda").path, cls.raw)

    def setUp(self):
        self.assertExit(self.first, 0)
        self.folder = self.lab.path(self._testMethodName)
        os.mkdir(self.folder)

    def plain(self, *command):
        """A command without --json: its exit code and what it said."""
        return run(*command, env={"KVSS_REPOSITORY": self.kvss.repository, "KVSS_PASSWORD": self.kvss.password}, check=False)

    def names(self):
        return sorted(os.listdir(self.folder))

    def assertHolds(self, path, form):
        self.assertIn("identical", run("qemu-img", "compare", "-f", "raw", "-F", form, self.raw, path), path)

    def stopped(self, path):
        """An export that has written everything and has not named it yet."""
        running = self.start_and_reach("export", "export", "latest", "off", "vda", path)
        self.assertTrue([n for n in self.names() if ".kvss-part-" in n], self.names())
        return running

    def test_formats(self):
        for ending, form in FORMATS.items():
            with self.subTest(ending):
                path = "%s/disk.%s" % (self.folder, ending)
                result = self.kvss("export", "latest", "off", "vda", path)
                self.assertExit(result, 0)
                self.assertHolds(path, form)
                st = os.stat(path)
                self.assertLess(st.st_blocks * 512, 24 << 20, "of 64 MiB, 9 are data")
                self.assertEqual(st.st_mode & 0o7777, 0o600)
                summary = result.summary
                self.assertEqual((summary["vm"], summary["target"], summary["format"], summary["path"], summary["size"]),
                                 ("off", "vda", form, path, 64 << 20))
                self.assertEqual(summary["backup_id"], self.first.summary["backup_id"])
                self.assertGreaterEqual(summary["bytes_written"], 9000 << 10)
                self.assertLess(summary["bytes_written"], 12 << 20)
        self.assertEqual(self.names(), sorted("disk." + ending for ending in FORMATS))
        self.assertNothingLeft()

    def test_format_is_demanded(self):
        path = self.folder + "/disk.of-many-parts"
        self.assertExit(self.kvss("export", "latest", self.off.uuid.upper(), "vda", path, "--format", "qcow2"), 0)
        self.assertHolds(path, "qcow2")
        self.assertExit(self.kvss("export", "latest", "off", "vda", path + "2"), 0)
        self.assertHolds(path + "2", "raw")
        self.assertFailed(self.kvss("export", "latest", "off", "vda", path + "3", "--format", "vmdk"), 2, "vhdx")

    def test_what_a_vm_finds_in_it(self):
        """The other disk, raw on the host, as an image with a file system."""
        path = self.folder + "/vdb.qcow2"
        self.assertExit(self.kvss("export", self.first.summary["backup_id"][:8], "off", "vdb", path), 0)
        disk = self.off.disk("vdb")
        copy = Disk("vdb", path=path)
        self.assertEqual(copy.hash(), disk.hash())
        self.assertEqual(copy.cat("/content"), disk.content())

    def test_stdout(self):
        done = subprocess.run([KVSS, "export", "latest", "off", "vda", "-"], env=self.kvss.environment(), timeout=60,
                              stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, check=False)
        self.assertEqual((done.returncode, done.stderr), (0, b""))
        with open(self.raw, "rb") as file:
            self.assertTrue(done.stdout == file.read(), "the bytes differ")
        self.assertFailed(self.kvss("export", "latest", "off", "vda", "-"), 2, "--json")
        rc, said = self.plain(KVSS, "export", "latest", "off", "vda", "-", "--format", "qcow2")
        self.assertEqual(rc, 2, said)
        rc, said = self.plain("script", "-qec", "%s export latest off vda -" % KVSS, "/dev/null")
        self.assertEqual(rc, 2, said)
        self.assertIn("terminal", said)

    def test_nothing_is_replaced(self):
        path = self.folder + "/there"
        with open(path, "w") as file:
            file.write("mine")
        os.symlink("/nowhere", self.folder + "/link")
        os.mkdir(self.folder + "/folder")
        before = self.names()
        for name, word in (("there", "exists"), ("link", "exists"), ("folder", "folder"), ("no/where", "no folder")):
            with self.subTest(name):
                self.assertFailed(self.kvss("export", "latest", "off", "vda", "%s/%s" % (self.folder, name)), 1, word)
        self.assertEqual(self.names(), before)
        with open(path) as file:
            self.assertEqual(file.read(), "mine")

    def test_block_device(self):
        path = self.folder + "/device"
        os.mknod(path, 0o060600, os.makedev(7, 250))
        self.assertFailed(self.kvss("export", "latest", "off", "vda", path), 1, "block device")
        self.assertEqual(self.names(), ["device"])

    def test_file_appears_meanwhile(self):
        path = self.folder + "/disk.qcow2"
        running = self.stopped(path)
        self.assertEqual(len(self.names()), 1)
        with open(path, "w") as file:
            file.write("mine")
        running.let_go()
        self.assertFailed(running.wait(), 1, path)
        with open(path) as file:
            self.assertEqual(file.read(), "mine")
        self.assertEqual(self.names(), ["disk.qcow2"])

    def test_wrong_names(self):
        path = self.folder + "/disk"
        self.assertFailed(self.kvss("export", "latest", "of", "vda", path), 1, "'of'", "its VMs are off")
        self.assertFailed(self.kvss("export", self.first.summary["backup_id"], "of", "vda", path), 1, "its VMs are off")
        self.assertFailed(self.kvss("export", "latest", "off", "vdc", path), 1, "'vdc'", "vda, vdb")
        self.assertFailed(self.kvss("export", "abcdef", "off", "vda", path), 1, "abcdef")
        self.assertFailed(self.kvss("export", "latest", "off", "vda"), 2)
        self.assertFailed(self.kvss("export", "latest", "off", "vda", path, path), 2)
        self.assertEqual(self.names(), [])

    def test_disk_full(self):
        run("mount", "-t", "tmpfs", "-o", "size=4m", "full", self.folder)
        self.addCleanup(run, "umount", "-l", self.folder)
        for name in ("disk.raw", "disk.qcow2"):
            result = self.kvss("export", "latest", "off", "vda", self.folder + "/" + name)
            self.assertFailed(result, 1, "room", name)
            self.assertRegex(result.stderr, r"needs up to \d{7,} bytes")
            self.assertEqual(self.names(), [])

    def test_disk_that_fills_up(self):
        """There was room when it began: the file system's own limit on a file's size says no later."""
        for name in ("disk.raw", "disk.qcow2"):
            rc, said = self.plain("sh", "-c", 'ulimit -f 8192; trap "" XFSZ; exec "$@"', "sh", KVSS, "export", "latest",
                                  "off", "vda", self.folder + "/" + name)
            self.assertEqual(rc, 1, said)
            self.assertIn(name, said)
            self.assertEqual(self.names(), [])
        self.assertNothingLeft()

    def test_interrupted(self):
        for name in ("disk.raw", "disk.vhdx"):
            running = self.stopped("%s/%s" % (self.folder, name))
            running.interrupt()
            running.let_go()
            self.assertFailed(running.wait(), 130)
            self.assertEqual(self.names(), [])
        self.assertNothingLeft()

    def test_killed(self):
        running = self.stopped(self.folder + "/disk.raw")
        running.signal(signal.SIGKILL)
        running.wait()
        self.assertEqual(len(self.names()), 1)
        self.assertRegex(self.names()[0], r"^\.disk\.raw\.kvss-part-[0-9a-f]+$")
        self.assertExit(self.kvss("export", "latest", "off", "vda", self.folder + "/disk.raw"), 0)
        self.assertHolds(self.folder + "/disk.raw", "raw")
        self.assertNothingLeft()

    def test_without_libvirt(self):
        stop_libvirtd()
        try:
            for name in ("disk.raw", "disk.qcow2"):
                self.assertExit(self.kvss("export", "latest", "off", "vda", self.folder + "/" + name), 0)
        finally:
            start_libvirtd()
        self.assertEqual(file_hash(self.folder + "/disk.raw"), file_hash(self.raw))

    def test_damaged(self):
        """A pack with a flipped byte: the export fails, with nothing left behind."""
        packs = run("find", self.kvss.repository + "/data", "-type", "f", "-size", "+1000k").split()
        saved = {}
        for pack in packs:
            with open(pack, "rb") as file:
                saved[pack] = file.read()
            os.chmod(pack, 0o600)
            with open(pack, "r+b") as file:
                file.seek(5000)
                file.write(bytes(byte ^ 0xff for byte in saved[pack][5000:5100]))
        self.addCleanup(lambda: [open(pack, "wb").write(data) for pack, data in saved.items()])
        result = self.kvss("export", "latest", "off", "vda", self.folder + "/disk.raw")
        self.assertFailed(result, 7, "off", "vda", "damaged")
        self.assertEqual(self.names(), [])
