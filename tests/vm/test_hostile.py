"""A repository that lies: what it asks for is refused, or left out and told. Nothing outside the target is written, nothing is run."""
import json
import os
import shutil

from kvsslab import Disk, Kvss, LabCase, file_hash, files_below, virsh

QEMU = "xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'"


class Hostile(LabCase):
    """Sets made by restic out of a true one: every byte of them is the attacker's."""
    cost = 60

    @classmethod
    def make(cls):
        super().make()
        cls.off = cls.lab.guest("off", disks=[Disk("vda", kind="random", size_mib=4, content_kib=500),
                                              Disk("vdb", kind="random", size_mib=4, content_kib=500, form="raw")]).define()
        cls.other = cls.lab.guest("other", disks=[Disk("vda", kind="random", size_mib=4, content_kib=100, form="raw")]).define()
        assert cls.kvss("backup", "off").rc == 0
        cls.tree = cls.lab.path("tree")
        cls.kvss.restic("restore", "latest", "--target", cls.tree)
        shutil.rmtree(cls.tree + "/vss")
        cls.evil = Kvss(cls.lab, cls.lab.path("evil"))
        cls.evil.init(by="restic")
        cls.off.delete()
        cls.watched = ["/etc", "/root/.ssh", cls.other.folder, "/var/lib/libvirt/images"]

    def forge(self, change=None, definition=None, tree=None):
        """Stores a set: `change` edits its JSON, `definition` its domain.xml, `tree` its folder."""
        work = self.lab.path("work")
        shutil.rmtree(work, ignore_errors=True)
        shutil.copytree(self.tree, work, symlinks=True)
        with open(work + "/set.json") as file:
            document = json.load(file)
        vm = document["vms"][0]
        if definition:
            path = os.path.join(work, next(f["file"] for f in vm["files"] if f["name"] == "domain.xml"))
            with open(path) as file:
                text = file.read()
            changed = definition(text)
            self.assertNotEqual(text, changed, "the test changes nothing")
            with open(path, "w") as file:
                file.write(changed)
        if change:
            change(document, vm)
        with open(work + "/set.json", "w") as file:
            json.dump(document, file)
        if tree:
            tree(work, vm)
        self.evil.restic("backup", "--tag", "kvss", ".", cwd=work)

    def look(self):
        """What an attack could change."""
        return {path: (os.lstat(path).st_ino, os.lstat(path).st_mtime_ns) for path in files_below(*self.watched)
                if not path.startswith("/etc/libvirt/qemu/")}      # libvirt's own record of its VMs

    def assertRefused(self, *arguments, words=(), rcs=(1, 7)):
        before = self.look()
        domains = virsh("list", "--all", "--name")
        result = self.evil("restore", "latest", "off", "--yes", *arguments)
        self.assertIn(result.rc, rcs, str(result))
        for word in words:
            self.assertIn(word, result.stderr)
        self.assertEqual(self.look(), before)
        self.assertEqual(virsh("list", "--all", "--name"), domains)
        self.assertNothingLeft()

    def file_in_set(self, name, vm, text=b"evil"):
        """A carried file of this name, in the set."""
        vm["files"].append({"name": name, "original": None, "mode": "0600", "uid": None, "gid": None, "file": "vms/off/evil"})

        def write(work, _):
            with open(work + "/vms/off/evil", "wb") as file:
                file.write(text)
        return write

    def test_disk_paths(self):
        for path in ("/etc/cron.d/evil", "/srv/../etc/cron.d/evil", "/usr/bin/evil", "relative/evil", "/etc", "/proc/self/mem",
                     "/root/.ssh/authorized_keys", "/srv/a\nb", "/", ""):
            def change(document, vm, path=path):
                vm["disks"][0]["path"] = path
            self.forge(change)
            self.assertRefused()

    def test_block_devices(self):
        for path in ("/etc/passwd", "/dev/../etc/passwd", "/dev/null", "/dev/mem"):
            def change(document, vm, path=path):
                vm["disks"][1].update(kind="block", path=path)
            self.forge(change)
            self.assertRefused()

    def test_hardware(self):
        """The disk that this machine runs from, and its like: in a plan alone, since a test must not be wrong about this."""
        for name in os.listdir("/sys/class/block"):
            if not os.path.exists("/sys/class/block/%s/device" % name) or not os.path.exists("/dev/" + name):
                continue

            def change(document, vm, path="/dev/" + name):
                vm["disks"][1].update(kind="block", path=path, format="raw")
            self.forge(change)
            self.assertRefused("--dry-run", words=["/dev/" + name, "disk of this host itself"])
            return
        self.skipTest("this machine has no disk that is hardware")

    def test_variable_store_over_another_file(self):
        text = b"QFI\xfb" + bytes([0, 0, 0, 3]) + (104).to_bytes(8, "big") + (11).to_bytes(4, "big") + bytes(80) + b"/etc/shadow"
        vms = json.load(open(self.tree + "/set.json"))["vms"][0]
        self.assertNotIn("nvram.fd", [f["name"] for f in vms["files"]])
        writers = []

        def change(document, vm):
            writers.append(self.file_in_set("nvram.fd", vm, text))

        def firmware(definition):
            return definition.replace("</os>", "<nvram>%s</nvram></os>" % self.lab.path("vars.fd"))
        self.forge(change, firmware, lambda work, vm: writers[0](work, vm))
        self.assertRefused(words=["names other files"])

    def test_two_disks_at_one_path(self):
        def change(document, vm):
            vm["disks"][1]["path"] = vm["disks"][0]["path"]
        self.forge(change)
        self.assertRefused(words=["in use by VM off"])

    def test_disk_of_another_vm(self):
        """By its name, by other spellings of it, by other names of the same file."""
        image = self.other.paths()["vda"]
        hard, soft = self.lab.path("hard"), self.lab.path("soft")
        os.link(image, hard)
        os.symlink(image, soft)
        before = file_hash(image)
        for path in (image, image.replace("/vms/", "//vms/"), hard, soft, os.path.dirname(image) + "/./vda.raw"):
            def change(document, vm, path=path):
                vm["disks"][1]["path"] = path
            self.forge(change)
            self.assertRefused(rcs=(1, 7))
        self.assertEqual(file_hash(image), before)
        os.unlink(hard)
        os.unlink(soft)

    def test_names(self):
        for name in ("../../etc/evil", "..", "a/b", "/etc/evil"):
            def change(document, vm, name=name):
                vm["name"] = name
            self.forge(change, lambda text, name=name: text.replace("<name>off<", "<name>%s<" % name))
            before = self.look()
            result = self.evil("restore", "latest", "--yes", "--to", self.lab.path("to"))
            self.assertIn(result.rc, (1, 7), str(result))
            self.assertEqual(self.look(), before)

    def test_targets(self):
        for target in ("../../../../etc/evil", "a/b", "..", "."):
            def change(document, vm, target=target):
                vm["disks"][0]["target"] = target
            self.forge(change, lambda text, target=target: text.replace("dev='vda'", "dev='%s'" % target))
            self.assertRefused("--to", self.lab.path("to"))

    def test_sizes(self):
        """set.json says more, or less, than what is stored."""
        for size in (1 << 40, 512, 0, -1):
            def change(document, vm, size=size):
                vm["disks"][0]["size"] = size
            self.forge(change)
            self.assertRefused()

    def test_links_in_the_set(self):
        """restic stores symbolic links; none of ours is one."""
        def disk(work, vm):
            path = os.path.join(work, vm["disks"][0]["file"])
            os.unlink(path)
            os.symlink("/etc/shadow", path)
        self.forge(tree=disk)
        self.assertRefused()

    def test_variable_store(self):
        holder = []

        def change(document, vm):
            holder.append(self.file_in_set("nvram.fd", vm))
        self.forge(change, lambda text: text.replace("</os>", "<loader type='pflash' readonly='yes'>/usr/share/OVMF/OVMF_CODE.fd"
                                                     "</loader><nvram>/etc/cron.d/evil</nvram></os>"),
                   lambda work, vm: holder[0](work, vm))
        self.assertRefused(words=["/etc/cron.d/evil"])

    def test_tpm_names(self):
        for name in ("tpm/../../../../../etc/cron.d/evil", "tpm//etc/evil", "tpm/.."):
            holder = []

            def change(document, vm, name=name, holder=holder):
                holder.append(self.file_in_set(name, vm))
            self.forge(change, tree=lambda work, vm, holder=holder: holder[0](work, vm))
            self.assertRefused()

    def test_links_in_the_target(self):
        """A user of this host has put a link where the restore will write."""
        to = self.lab.path("shared")
        victim = self.lab.path("victim")
        os.makedirs(to, exist_ok=True)
        for target in ("/etc/hostname", victim):
            with open(victim, "w") as file:
                file.write("precious")
            link = to + "/off-vda.qcow2"
            os.symlink(target, link)
            os.lchown(link, 12345, 12345)
            self.forge()
            self.assertRefused("--to", to, words=["symbolic link"])
            with open(victim) as file:
                self.assertEqual(file.read(), "precious")
            self.assertTrue(os.path.islink(link))
            os.unlink(link)
        os.unlink(victim)

    def commandline(self, text, evil):
        text = text.replace("<domain ", "<domain %s " % QEMU, 1)
        return text.replace("</domain>", "<qemu:commandline><qemu:arg value='-pidfile'/><qemu:arg value='%s'/>"
                            "</qemu:commandline></domain>" % evil)

    def test_host_access_is_left_out(self):
        """The VM comes back and starts, without what reaches into the host; with the option it would have reached it."""
        evil = "/run/evil.pid"
        probe = "/etc/kvss-probe"

        def definition(text):
            text = self.commandline(text, evil)
            return text.replace("</devices>", """
                <serial type='file'><source path='%s'/></serial>
                <hostdev mode='subsystem' type='usb' managed='yes'><source><vendor id='0x1d6b'/><product id='0x0002'/></source></hostdev>
                <filesystem type='mount'><source dir='/etc'/><target dir='etc'/></filesystem>
                <disk type='file' device='cdrom'><driver name='qemu' type='raw'/><source file='/etc/passwd'/>
                  <target dev='sda' bus='sata'/><readonly/></disk>
                <disk type='file' device='disk'><driver name='qemu' type='raw'/><source file='%s'/>
                  <target dev='vdz' bus='virtio'/></disk>
                </devices>""" % (probe, self.other.paths()["vda"]))
        self.forge(definition=definition)
        before = self.look()
        plan = self.evil("restore", "latest", "off", "--dry-run")
        self.assertExit(plan, 3)
        result = self.evil("restore", "latest", "off", "--yes")
        self.assertExit(result, 3)
        notes = "\n".join(result.vm("off")["notes"])
        self.assertEqual(plan.vm("off")["notes"], result.vm("off")["notes"])
        for word in ("commandline", probe, "usb device", "shared folder /etc", "/etc/passwd", "vdz"):
            self.assertIn(word, notes)
            self.assertIn(word, result.stderr)
            self.assertTrue(any(word in step for step in plan.summary["steps"]), word)
        text = virsh("dumpxml", "--inactive", "off")
        for word in ("commandline", probe, "<hostdev", "<filesystem", "/etc/passwd", "vdz", self.other.folder):
            self.assertNotIn(word, text)
        self.assertIn("dev='sda'", text)
        virsh("start", "off")
        virsh("destroy", "off")
        self.assertFalse(os.path.exists(evil))
        self.assertEqual(self.look(), before)
        self.off.delete()

    def test_host_access_is_kept_when_allowed(self):
        evil = "/run/evil.pid"
        self.forge(definition=lambda text: self.commandline(text, evil))
        result = self.evil("restore", "latest", "off", "--yes", "--allow-host-access")
        self.assertExit(result, 0)
        plan = self.evil("restore", "latest", "off", "--dry-run", "--allow-host-access")
        self.assertTrue(any("commandline" in s and "host access is allowed" in s or "on this host now" in s
                            for s in plan.summary["steps"]), plan)
        virsh("start", "off")
        self.assertTrue(os.path.exists(evil), "the attack of the other test would not have worked")
        virsh("destroy", "off")
        # In place the same VM keeps it without the option: this host has it so.
        again = self.evil("restore", "latest", "off", "--yes")
        self.assertExit(again, 0)
        self.assertIn("-pidfile", virsh("dumpxml", "--inactive", "off"))
        self.off.delete()
        if os.path.exists(evil):
            os.unlink(evil)

    def test_console_over_an_image(self):
        """A serial port's log at the place of another VM's disk would be its end."""
        image = self.other.paths()["vda"]
        before = file_hash(image)
        self.forge(definition=lambda text: text.replace("</devices>", "<serial type='file'><source path='%s'/></serial></devices>"
                                                        % image))
        result = self.evil("restore", "latest", "off", "--yes", "--start")
        self.assertExit(result, 3)
        self.assertIn(image, "".join(result.vm("off")["notes"]))
        virsh("destroy", "off")
        self.assertNotIn(image, virsh("dumpxml", "--inactive", "off"))
        self.assertEqual(file_hash(image), before)
        self.off.delete()
