"""Who a restored VM is: a copy beside the VM itself, other networks, conflicts, the order of the start."""
import base64
import json
import os
import re
import signal
import uuid

from kvsslab import Disk, Events, LabCase, LabError, files_below, run, virsh, wait_until
from test_guardian import GuardianCase
from test_restore_kinds import FIRMWARE, needs, start_firmware_guest

NIC = "<interface type='%s'><mac address='%s'/><source %s='%s'/><model type='virtio'/></interface>"


def network(name, bridge):
    """A libvirt network on a bridge of the host; it is not active yet."""
    path = "/run/%s.xml" % name
    with open(path, "w") as file:
        file.write("<network><name>%s</name><forward mode='bridge'/><bridge name='%s'/></network>" % (name, bridge))
    virsh("net-define", path)


def agent(name, command, **arguments):
    return json.loads(virsh("qemu-agent-command", name, json.dumps({"execute": command, "arguments": arguments})))["return"]


def agent_cat(name, path):
    """A file of the guest, by its agent: a copy has no control socket of the lab's."""
    handle = agent(name, "guest-file-open", path=path, mode="r")
    return base64.b64decode(agent(name, "guest-file-read", handle=handle)["buf-b64"]).decode()


def wait_agent(name):
    wait_until("agent of " + name, lambda: virsh("qemu-agent-command", name, '{"execute":"guest-ping"}', check=False)[0] == 0, 60)


class Copy(LabCase):
    """--as, of a VM that runs on beside its copy."""
    cost = 60

    @classmethod
    def make(cls):
        super().make()
        run("ip", "link", "add", "br-lab", "type", "bridge")
        cls.web = cls.lab.guest("web", devices=NIC % ("bridge", "52:54:00:11:22:33", "bridge", "br-lab") +
                                "<vsock model='virtio'><cid auto='no' address='77'/></vsock>" if os.path.exists("/dev/vhost-vsock")
                                else NIC % ("bridge", "52:54:00:11:22:33", "bridge", "br-lab")).define()
        try:
            cls.web.start()
        except LabError as error:       # no tap devices in this lab: the definition is what counts
            if "tun" not in str(error):
                raise
            cls.web.devices = "<interface type='user'><mac address='52:54:00:11:22:33'/><model type='virtio'/></interface>"
            cls.web.define().start()
        virsh("autostart", "web")
        cls.secret_text = cls.secret(cls.web)
        cls.saved = cls.kvss("backup", "web", "--method", "saved-state")

    def setUp(self):
        self.assertExit(self.saved, 0)

    def remove(self, name):
        virsh("destroy", name, check=False)
        virsh("undefine", name, "--managed-save", "--nvram", check=False)

    def test_copy_resumes_beside_the_vm(self):
        """Another UUID and MAC in definition and saved state; the same memory; the VM itself runs on and notices nothing."""
        before = virsh("dumpxml", "web")
        folder = self.lab.path("copies")
        number = self.web.seq()
        with Events() as events:
            result = self.kvss("restore", "latest", "web", "--as", "twin", "--to", folder, "--yes")
            self.assertExit(result, 0)
            self.addCleanup(self.remove, "twin")
            self.assertEqual(events.of("web"), [], "the VM itself was touched")
        vm = result.vm("twin")
        self.assertEqual(vm["copy_of"], "web")
        self.assertNotEqual(vm["uuid"], self.web.uuid)
        self.assertEqual(vm["state"], "saved")
        self.assertTrue(any("MAC" in note for note in vm["notes"]), vm["notes"])
        self.assertEqual(virsh("dumpxml", "web"), before)
        self.assertTrue(self.web.writes())
        self.assertGreater(self.web.seq(), number)
        text = virsh("dumpxml", "--inactive", "twin")
        for word in (self.web.uuid, "52:54:00:11:22:33", self.web.folder, self.web.shell_path, self.web.serial_path):
            self.assertNotIn(word, text)
        self.assertEqual(virsh("domuuid", "twin").strip(), vm["uuid"])
        mac = re.search(r"mac address='([^']+)'", text).group(1)
        self.assertRegex(mac, "^52:54:00:")
        self.assertRegex(virsh("dominfo", "twin"), r"Autostart:\s+disable")
        saved = virsh("save-image-dumpxml", "/var/lib/libvirt/qemu/save/twin.save")
        self.assertIn(vm["uuid"], saved)
        self.assertIn(mac, saved)
        self.assertNotIn(self.web.uuid, saved)
        self.assertNotIn("52:54:00:11:22:33", saved)

        virsh("start", "twin")
        self.assertEqual(virsh("domstate", "twin").strip(), "running")
        wait_agent("twin")
        self.assertEqual(agent_cat("twin", "/run/secret"), self.secret_text, "it was booted afresh")
        self.assertEqual(agent_cat("web", "/run/secret"), self.secret_text)
        self.assertTrue(self.web.writes())
        address = "/sys/class/net/eth0/address"
        self.assertEqual(agent_cat("twin", address).strip(), "52:54:00:11:22:33", "the note says what is not so")
        # It is a VM like any other.
        self.assertExit(self.kvss("backup", "twin"), 0)
        names = [v["name"] for v in self.kvss("show", "latest").document["vms"]]
        self.assertEqual(names, ["twin"])
        virsh("destroy", "twin")
        virsh("start", "twin")
        wait_agent("twin")
        self.assertEqual(agent_cat("twin", address).strip(), mac)
        virsh("destroy", "twin")
        virsh("undefine", "twin", "--managed-save")
        for path in files_below(folder):
            os.unlink(path)
        self.assertNothingLeft()

    def test_beside_and_in_the_way(self):
        """Without --to beside the VM's own disks; what is there is never replaced."""
        path = os.path.join(self.web.folder, "second-vda.qcow2")
        with open(path, "w") as file:
            file.write("precious")
        first = self.saved.summary["backup_id"]
        result = self.kvss("restore", first, "web", "--as", "second", "--yes")
        self.assertFailed(result, 1, "second-vda.qcow2", "there already")
        with open(path) as file:
            self.assertEqual(file.read(), "precious")
        os.unlink(path)
        self.assertFailed(self.kvss("restore", first, "web", "--as", "web", "--yes"), 1, "web", "choose another name")
        self.assertFailed(self.kvss("restore", first, "web", "--as", "a/b", "--yes"), 1, "a/b")
        image = self.web.paths()["vda"]
        inode = os.stat(image).st_ino
        result = self.kvss("restore", first, "web", "--as", "second", "--start", "--yes")
        self.assertExit(result, 0)
        self.addCleanup(self.remove, "second")
        self.assertEqual(result.vm("second")["state"], "running")
        self.assertEqual([d["path"] for d in result.vm("second")["disks"]], [path])
        self.assertEqual(os.stat(image).st_ino, inode)
        self.assertTrue(self.web.writes())
        virsh("destroy", "second")
        virsh("undefine", "second")
        os.unlink(path)
        self.assertNothingLeft()


class CopyKilled(GuardianCase):
    """A copy that is killed while it is made: it is whole, or nothing of it is left; the VM itself runs on."""
    cost = 30

    def test_killed(self):
        self.backup("web", "--method", "saved-state")
        folder = self.lab.path("copies")
        for point in ("restore-files", "restore-define"):
            running = self.start_and_reach(point, "restore", "latest", "web", "--as", "half", "--to", folder, "--yes")
            running.signal(signal.SIGKILL)
            running.process.wait()
            self.assertExit(self.kvss("doctor"), 0)
            self.assertEqual(virsh("list", "--all", "--name").split(), ["web"])
            self.assertEqual(files_below(folder), set())
            self.assertFalse(os.path.exists("/var/lib/libvirt/qemu/save/half.save"))
            self.assertTrue(self.web.writes())
            self.assertEqual(self.web.mismatches(), [])
        self.assertNothingLeft()


class CopyWithFirmware(LabCase):
    """UEFI variables and TPM state of a copy are its own."""
    cost = 60

    @classmethod
    def make(cls):
        needs(FIRMWARE, "/usr/bin/swtpm")
        super().make()
        cls.vm, cls.tpm = start_firmware_guest(cls.lab)
        cls.known = cls.secret(cls.vm)
        cls.saved = cls.kvss("backup", "efi", "--method", "saved-state")

    def test_copy(self):
        self.assertExit(self.saved, 0)
        self.tpm.extend(b"x" * 32)
        pcr, variables = self.tpm.pcr(), os.stat(self.vm.nvram())
        result = self.restore("latest", "efi", "--as", "second", "--to", self.lab.path("copies"))
        vm = result.vm("second")
        self.addCleanup(virsh, "destroy", "second", check=False)
        state = "/var/lib/libvirt/swtpm/%s" % vm["uuid"]
        self.assertTrue(os.path.isdir(state))
        virsh("start", "second")
        wait_agent("second")
        self.assertEqual(agent_cat("second", "/run/secret"), self.known, "it was booted afresh")
        store = re.search(r"<nvram[^>]*>([^<]+)<", virsh("dumpxml", "second")).group(1)
        self.assertTrue(store.endswith("/second_VARS.fd"), store)
        self.assertTrue(os.path.exists(store))
        # Of the VM itself nothing has changed.
        self.assertTrue(self.vm.writes())
        self.assertEqual(self.tpm.pcr(), pcr)
        self.assertEqual(self.tpm.stored(18), b"what the TPM keeps")
        self.assertEqual(os.stat(self.vm.nvram()).st_ino, variables.st_ino)
        virsh("destroy", "second")
        self.assertExit(self.kvss("backup", "second"), 0)
        virsh("undefine", "second", "--managed-save", "--nvram", "--tpm")
        self.assertFalse(os.path.exists(state))
        for path in files_below(self.lab.path("copies")):
            os.unlink(path)
        self.assertNothingLeft()


class Names(LabCase):
    """Conflicts, and networks, of VMs that are off."""
    cost = 20

    @classmethod
    def make(cls):
        super().make()
        run("ip", "link", "add", "br-old", "type", "bridge")
        run("ip", "link", "add", "br-new", "type", "bridge")
        network("lan", "br-new")
        cls.off = cls.lab.guest("off", disks=[Disk("vda", kind="random", size_mib=4, content_kib=100)],
                                devices=NIC % ("bridge", "52:54:00:77:00:01", "bridge", "br-old")).define()
        cls.first = cls.kvss("backup", "off")

    def setUp(self):
        self.assertExit(self.first, 0)

    def tearDown(self):
        for name in ("off", "stranger", "renamed"):
            virsh("undefine", name, check=False)
        self.off.define()

    def stranger(self, name, mac, uuid_text=None):
        path = self.lab.path("stranger.xml")
        with open(path, "w") as file:
            file.write("<domain type='qemu'><name>%s</name><uuid>%s</uuid><memory unit='MiB'>32</memory><os><type>hvm</type></os><devices>"
                       "<interface type='user'><mac address='%s'/></interface></devices></domain>" % (name, uuid_text or uuid.uuid4(), mac))
        virsh("define", path)

    def test_name_is_taken(self):
        self.off.undefine()
        self.stranger("off", "52:54:00:77:00:02")
        self.assertFailed(self.kvss("restore", "latest", "--yes"), 1, "another VM of this name", "--as NAME")
        self.assertEqual(run("virsh", "-q", "-c", "qemu:///system", "list", "--all", "--name").split(), ["off"])

    def test_mac_is_taken(self):
        self.off.undefine()
        self.stranger("stranger", "52:54:00:77:00:01")
        self.assertFailed(self.kvss("restore", "latest", "--yes"), 1, "VM stranger", "--as NAME")
        result = self.kvss("restore", "latest", "--as", "renamed", "--yes")
        self.assertExit(result, 0)
        self.assertNotIn("52:54:00:77:00:01", virsh("dumpxml", "renamed"))
        os.unlink(result.vm("renamed")["disks"][0]["path"])

    def test_vm_that_was_renamed(self):
        """The one of this UUID is replaced, whatever its name; the plan names both."""
        virsh("domrename", "off", "renamed")
        plan = self.kvss("restore", "latest", "--dry-run")
        self.assertExit(plan, 0)
        self.assertTrue(any("the VM that is here now, renamed," in step for step in plan.summary["steps"]), plan)
        self.assertExit(self.kvss("restore", "latest", "--yes"), 0)
        self.assertEqual(virsh("list", "--all", "--name").split(), ["off"])

    def test_usage(self):
        for words in (["--as", "x", "off", "other"], ["--network", "a"], ["--network", "=b"]):
            self.assertExit(self.kvss("restore", "latest", *words), 2)

    def test_other_network(self):
        for new, source in (("lan", "<source network='lan'/>"), ("bridge:br-new", "<source bridge='br-new'/>"),
                            ("network:lan", "<source network='lan'/>"), ("br-new", "<source bridge='br-new'/>")):
            result = self.kvss("restore", "latest", "off", "--network", "br-old=" + new, "--yes")
            self.assertExit(result, 0)
            text = virsh("dumpxml", "--inactive", "off")
            self.assertIn(source, text)
            self.assertIn("52:54:00:77:00:01", text)
            self.assertNotIn("br-old", text)
            told = result.vm("off")["networks"][0]
            self.assertEqual((told["was"], told["connected"]), ("br-old", True))
            # not active: it is told, and no link is down
            self.assertEqual("not active" in str(result.vm("off")["notes"]), "lan" in new, result)
        self.assertNothingLeft()

    def test_network_that_is_nowhere(self):
        before = virsh("dumpxml", "off")
        self.assertFailed(self.kvss("restore", "latest", "--network", "br-old=nowhere", "--yes"), 1, "nowhere")
        self.assertFailed(self.kvss("restore", "latest", "--network", "br-else=lan", "--yes"), 1, "br-else", "br-old")
        self.assertEqual(virsh("dumpxml", "off"), before)
        self.assertNothingLeft()


class StartOrder(LabCase):
    """--start in the order of the command line; one that does not start keeps nobody back."""
    cost = 30

    @classmethod
    def make(cls):
        super().make()
        cls.names = ["one", "two", "three"]
        for name in cls.names:
            nic = NIC % ("network", "52:54:00:66:00:01", "network", "asleep") if name == "two" else ""
            guest = cls.lab.guest(name, disks=[Disk("vda", kind="random", size_mib=4, content_kib=100)], memory_mib=64, devices=nic)
            guest.define()
        network("asleep", "br-asleep")
        cls.first = cls.kvss("backup", "--all")

    def setUp(self):
        self.assertExit(self.first, 0)

    def test_order(self):
        for order in (["three", "one", "two"], ["one", "three"], []):
            result = self.kvss("restore", "latest", *order, "--start", "--yes")
            fails = not order or "two" in order
            self.assertExit(result, 3 if fails else 0)
            if fails:
                self.assertIn("two", result.summary["warning"])
                self.assertIn("asleep", result.summary["warning"])
            names = order or [v["name"] for v in self.kvss("show", "latest").document["vms"]]
            self.assertEqual([v["name"] for v in result.summary["vms"]], names)
            self.assertEqual({v["name"]: v["state"] for v in result.summary["vms"]},
                             {name: "shut off" if name == "two" else "running" for name in names})
            # libvirt counts up: the identifier of a running VM tells who was first
            ids = {name: int(virsh("domid", name)) for name in names if name != "two"}
            self.assertEqual(sorted(ids, key=ids.get), [name for name in names if name != "two"])
            for name in names:
                virsh("destroy", name, check=False)
        self.assertNothingLeft()
