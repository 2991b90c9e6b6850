"""kvss explain: the plan in full, on this host and on another one, and nothing is changed by asking."""
import contextlib
import hashlib
import os
import re
import subprocess

import kvsslab
from kvsslab import Disk, LabCase, run, virsh, wait_until

PORT = 16599


def volume_of(path):
    """The same as findmnt tells it."""
    point, kind, source = run("findmnt", "-n", "-r", "-v", "-o", "TARGET,FSTYPE,SOURCE", "-T", path).split()
    return "%s (%s on %s)" % (point, kind, source)


def fingerprint(guest):
    """All of a guest that asking could change."""
    folder = {}
    for name in sorted(os.listdir(guest.folder)):
        path = os.path.join(guest.folder, name)
        state = os.stat(path)
        folder[name] = (state.st_ino, state.st_uid, state.st_mode)      # a running guest writes
    seen = {
        "live": virsh("dumpxml", "--security-info", guest.name),
        "inactive": virsh("dumpxml", "--security-info", "--inactive", guest.name),
        "state": guest.state(),
        "checkpoints": virsh("checkpoint-list", "--name", guest.name, check=False),
        "snapshots": virsh("snapshot-list", "--name", guest.name),
        "files": folder,
    }
    pid_file = "/run/libvirt/qemu/%s.pid" % guest.name
    if os.path.exists(pid_file):
        with open(pid_file) as file:
            pid = int(file.read())
        with open("/proc/%d/stat" % pid) as file:
            seen["process"] = (pid, file.read().rsplit(")", 1)[1].split()[19])
        with open("/proc/%d/cmdline" % pid, "rb") as file:
            seen["command"] = hashlib.sha256(file.read()).hexdigest()
        seen["job"] = guest.job()
        # libvirt's own note of the domain: the time limit of its agent, jobs, block jobs.
        with open("/run/libvirt/qemu/%s.xml" % guest.name) as file:
            seen["status"] = re.sub(r"<taint flag='custom-ga-command'/>\s*", "", file.read())
    return seen


class ExplainCase(LabCase):

    @classmethod
    def make(cls):
        super().make()
        cls.other = cls.lab.path("other")
        os.makedirs(cls.other)
        run("mount", "-t", "tmpfs", "kvss-other", cls.other)
        cls.addClassCleanup(lambda: run("umount", "-l", cls.other))
        far = Disk("vdb", form="raw")
        far.create(cls.other + "/b.raw")
        cls.web = cls.lab.guest("web", disks=[Disk("vda"), far])
        cls.web.define().start()
        cls.off = cls.lab.guest("off", agent="no").define()
        cls.guests = [cls.web, cls.off]

    def explain(self, *arguments, rc=0):
        result = self.kvss("explain", *arguments)
        self.assertExit(result, rc)
        return {vm["name"]: vm for vm in result.document}

    @staticmethod
    def condition(vm, name):
        return next(c for c in vm["conditions"] if c["id"] == name)

    @contextlib.contextmanager
    def unchanged(self):
        before = [fingerprint(g) for g in self.guests]
        state = kvsslab.files_below(*self.WATCHED)
        yield
        self.assertEqual([fingerprint(g) for g in self.guests], before)
        self.assertEqual(kvsslab.files_below(*self.WATCHED), state)


class Explain(ExplainCase):
    cost = 25

    def test_everything_is_told(self):
        vms = self.explain()
        web, off = vms["web"], vms["off"]
        self.assertEqual((web["method"], web["state"], web["consistency"], web["demanded_by"]),
                         ("child-snapshot", "running", "application", None))
        self.assertEqual([(d["target"], d["format"], d["volume"], d["provider"], d["provider_reason"]) for d in web["disks"]],
                         [("vda", "qcow2", volume_of(self.web.folder), "qemu", None),
                          ("vdb", "raw", volume_of(self.other), "qemu", None)])
        for vm in (web, off):
            self.assertEqual([c["id"] for c in vm["conditions"]], ["C1", "C2", "C3", "C4", "C5"])
            self.assertTrue(all(c["detail"] for c in vm["conditions"]), vm["conditions"])
        self.assertTrue(all(c["holds"] for c in web["conditions"]), web["conditions"])
        self.assertEqual((off["method"], off["state"], off["consistency"]), ("offline", "shut off", "offline"))
        self.assertIn("shut off", self.condition(off, "C2")["detail"])

    def test_volumes_of_c3(self):
        """Overlays on one volume, a disk on another: both are named."""
        web = self.explain("web", "--snapshot-dir", self.lab.folder)["web"]
        c3 = self.condition(web, "C3")
        self.assertFalse(c3["holds"])
        self.assertIn("overlays would go to volume %s" % volume_of(self.lab.folder), c3["detail"])
        self.assertIn("disk vdb (%s/b.raw) is on volume %s" % (self.other, volume_of(self.other)), c3["detail"])
        self.assertEqual([r["id"] for r in web["reasons"]], ["C3"])
        self.assertEqual(web["method"], "saved-state")
        self.assertTrue(self.condition(self.explain("off", "--snapshot-dir", self.lab.folder)["off"], "C3")["holds"])

    def test_who_demands(self):
        web = self.explain("web", "--method", "web=crash-consistent")["web"]
        self.assertEqual((web["method"], web["consistency"], web["demanded_by"]), ("crash-consistent", "crash", "--method"))
        path = self.lab.path("demand.conf")
        with open(path, "w") as file:
            file.write("[defaults]\nmethod = saved-state\n")
        result = self.kvss("explain", "web", env={"KVSS_CONFIG": path})
        self.assertEqual((result.document[0]["method"], result.document[0]["demanded_by"]),
                         ("saved-state", "the configuration"))
        self.assertIn("by the configuration", result.document[0]["reasons"][0]["detail"])

    def test_text(self):
        env = self.kvss.environment()
        env.pop("LC_ALL")
        text = run(kvsslab.KVSS, "explain", "web", env=env)
        self.assertRegex(text, r"^web \(running\): child-snapshot\n  because conditions: [^\n]+\n  prior state: running\n"
                               r"  consistency: application\n  C1 holds: [^\n]+\n  C2 holds: the VM is running\n  C3 holds: ")
        self.assertIn("  disk vdb: raw, 64.0 MiB, %s/b.raw, on %s, cut by qemu\n" % (self.other, volume_of(self.other)), text)

    def test_unknown_vm(self):
        self.assertFailed(self.kvss("explain", "nosuch"), 1, "nosuch", "(VSS_E_OBJECT_NOT_FOUND, 0x80042308)")
        self.assertEqual(self.kvss("explain", "nosuch").error["hresult"], "0x80042308")
        self.assertFailed(self.kvss("explain", "--method", "nosuch=saved-state"), 1, "nosuch")


class Untouched(ExplainCase):
    """Guests that no other command has looked at."""
    cost = 20

    def test_nothing_is_changed(self):
        with self.unchanged():
            self.explain()
            self.explain("--snapshot-dir", self.lab.folder, "--method", "saved-state", "--strict-conditions")
            self.assertExit(self.kvss("list", "vms"), 0)
            self.assertExit(self.kvss("list", "writers", "--detailed"), 0)
        self.assertNothingLeft()


class Remote(ExplainCase):
    """The same libvirtd over TCP: a connection to what calls itself another machine."""
    cost = 30

    @classmethod
    def make(cls):
        super().make()
        cls.uri = "qemu+tcp://127.0.0.1:%d/system" % PORT
        with open("/etc/libvirt/libvirtd.conf") as file:
            config = file.read()
        cls.config = cls.lab.path("libvirtd.conf")
        with open(cls.config, "w") as file:
            file.write(config + 'listen_tls = 0\nlisten_tcp = 1\nlisten_addr = "127.0.0.1"\ntcp_port = "%d"\nauth_tcp = "none"\n'
                       % PORT)
        kvsslab.stop_libvirtd()
        cls.addClassCleanup(cls.back)
        with open("/run/libvirtd.out", "a") as out:
            subprocess.run(["libvirtd", "-d", "--listen", "-f", cls.config], stdin=subprocess.DEVNULL, stdout=out, stderr=out,
                           check=False, timeout=30)
        wait_until("libvirtd on TCP", lambda: run("virsh", "-q", "-c", cls.uri, "version", check=False)[0] == 0)
        wait_until("the agent of web", cls.web.has_agent)

    @staticmethod
    def back():
        kvsslab.stop_libvirtd()
        kvsslab.start_libvirtd()

    def test_looking_works(self):
        with self.unchanged():
            vms = self.explain("-c", self.uri)
            listed = self.kvss("list", "vms", "-c", self.uri)
            writers = self.kvss("list", "writers", "-c", self.uri)
        self.assertExit(listed, 0)
        self.assertEqual(vms["web"]["method"], "child-snapshot")
        self.assertEqual([vm["name"] for vm in listed.document], ["off", "web"])
        self.assertEqual(writers.document[0]["state"], 1)
        # Its file systems cannot be seen: nothing is said of them, and nothing looked up on this machine.
        self.assertEqual([d["volume"] for d in vms["web"]["disks"]], [None, None])
        self.assertEqual([d["path"] for d in vms["web"]["disks"]], [d.path for d in self.web.disks])

    def test_c3_cannot_be_judged(self):
        vm = self.explain("web", "-c", self.uri, "--snapshot-dir", self.lab.folder)["web"]
        c3 = self.condition(vm, "C3")
        self.assertFalse(c3["holds"])
        self.assertIn("cannot be judged from here", c3["detail"])
        self.assertIn(self.uri, c3["detail"])

    def test_changing_is_refused(self):
        with self.unchanged():
            for arguments in (["backup", "web"], ["restore", "latest", "web", "--yes"], ["doctor"], ["list", "shadows"]):
                result = self.kvss(*arguments, "-c", self.uri)
                self.assertFailed(result, 1, "127.0.0.1", "another machine")
        self.assertNothingLeft()
