"""kvss list writers, providers, shadows: the shapes that vssadmin's and diskshadow's users know, with real guests behind them."""
import json
import os
import re
import signal
import uuid
import xml.etree.ElementTree as xml

import kvsslab
from test_guardian import GuardianCase, process_children

NOTHING = "No items found that satisfy the query.\n"
VM_WRITER = "66841cd4-6ded-4f4b-8f17-fd23f8ddc3de"


class Lists(GuardianCase):
    cost = 60

    @classmethod
    def make(cls):
        super().make()
        cls.off = cls.lab.guest("off", agent="no").define()

    def text(self, *arguments):
        """What people see."""
        env = self.kvss.environment()
        env.pop("LC_ALL")       # run() sets its own
        return kvsslab.run(kvsslab.KVSS, *arguments, env=env)

    # Writers and providers.

    def test_writers(self):
        text = self.text("list", "writers")
        self.assertRegex(text, r"^Writer name: 'Microsoft Hyper-V VSS Writer'\n   Writer Id: \{%s\}\n"
                               r"   Writer Instance Id: \{[-0-9a-f]{36}\}\n" % VM_WRITER)
        self.assertIn("   State: [1] Stable\n   Last error: No error\n", text)
        writer = self.kvss("list", "writers").document[0]
        self.assertEqual((writer["id"], writer["state"], writer["state_name"], writer["last_error"]),
                         (VM_WRITER, 1, "VSS_WS_STABLE", "0x00000000"))

    def test_writers_status(self):
        text = self.text("list", "writers", "--status")
        self.assertRegex(text, r'^\* WRITER "Microsoft Hyper-V VSS Writer"\n\s+- Status: 1 \(VSS_WS_STABLE\)\n'
                               r"\s+- Writer Failure code: 0x00000000 \(S_OK\)\n\s+- Writer ID: \{%s\}\n" % VM_WRITER)
        self.assertRegex(text, r"\n[1-9][0-9]* writers listed\.\n$")

    def test_writers_detailed(self):
        text = self.text("list", "writers", "--detailed")
        self.assertIn("- Restore method = VSS_RME_RESTORE_IF_CAN_BE_REPLACED\n", text)
        self.assertIn("- Supports restore events = TRUE\n", text)
        self.assertIn("- Caption: Online\\web\n", text)
        self.assertIn("- Caption: Offline\\off\n", text)
        for guest in (self.web, self.off):
            self.assertIn("- Name: %s\n" % guest.uuid, text)
            for disk in guest.disks:
                self.assertIn("- %s: qcow2, %s\n" % (disk.target, disk.path), text)
        writer = self.kvss("list", "writers", "--detailed").document[0]
        self.assertEqual([c["display_name"] for c in writer["components"]], ["off", "web"])
        self.assertEqual([d["path"] for d in writer["components"][1]["disks"]], [d.path for d in self.web.disks])

    def test_writers_metadata(self):
        """The XML document itself, of every VM."""
        root = xml.fromstring(self.text("list", "writers", "--metadata"))
        space = root.tag[:root.tag.index("}") + 1]
        self.assertEqual(root.tag, space + "WRITER_METADATA")
        self.assertEqual({g.get("componentName") for g in root.iter(space + "FILE_GROUP")}, {self.web.uuid, self.off.uuid})
        self.assertEqual(root.find(space + "IDENTIFICATION").get("writerId"), VM_WRITER)
        again = xml.fromstring(self.kvss("list", "writers", "--metadata").document[0]["metadata"])
        self.assertEqual(again.tag, root.tag)

    def test_writers_of_the_host(self):
        """Executables of the host are writers; one that cannot say what it has is listed with the reason, not missing."""
        folder = self.lab.path("writers.d")
        os.makedirs(folder, mode=0o755)
        for name, answer in (("good", """echo '{"version": 1, "id": "0d5dfb5e-5f0e-4a39-8a5c-6a1c2a3a7e52", "components": []}'"""),
                             ("broken", "echo 'the database is away' >&2; exit 1")):
            with open(os.path.join(folder, name), "w") as file:
                file.write("#!/bin/sh\ncat > /dev/null\n%s\n" % answer)
            os.chmod(file.name, 0o755)
        writers = self.kvss("list", "writers", env={"KVSS_WRITERS_DIR": folder})
        self.assertExit(writers, 0)
        self.assertEqual(sorted(w["state"] for w in writers.document), [1, 1, 6], writers)
        broken = next(w for w in writers.document if w["state"] == 6)
        self.assertIn("the database is away", broken["reason"])
        self.assertEqual(broken["state_text"], "Failed")
        vms = self.kvss("list", "vms", env={"KVSS_WRITERS_DIR": folder}).document
        self.assertEqual([vm["name"] for vm in vms], ["off", "web"])

    def test_one_shape_at_a_time(self):
        self.assertFailed(self.kvss("list", "writers", "--status", "--metadata"), 2, "--status")
        self.assertFailed(self.kvss("list", "vms", "--status"), 2, "list writers")

    def test_providers(self):
        self.assertRegex(self.text("list", "providers"),
                         r"Provider name: 'qemu'\n   Provider type: Software\n   Provider Id: \{[-0-9a-f]{36}\}\n   Version: \S+\n")

    # Shadow copies.

    def assertNoShadows(self):
        self.assertEqual(self.text("list", "shadows"), NOTHING)
        self.assertEqual(self.kvss("list", "shadows").document, [])

    def look(self):
        """The one set that exists, checked against the domain's job."""
        sets = self.kvss("list", "shadows").document
        self.assertEqual(len(sets), 1, sets)
        self.assertEqual(self.web.job(), "Unbounded")
        shadows = sets[0]["shadows"]
        self.assertEqual([(s["vm"], s["target"], s["original"]) for s in shadows],
                         [("web", d.target, d.path) for d in self.web.disks])
        self.assertEqual(len({uuid.UUID(s["id"]) for s in shadows}), 2)
        for shadow in shadows:
            size = json.loads(kvsslab.run("nbdinfo", "--json", shadow["device"]))["exports"][0]["export-size"]
            self.assertEqual(size, self.web.disk(shadow["target"]).size, "where it is said to be, another thing is")
        return sets[0]

    def test_shadows_of_a_running_backup(self):
        self.assertNoShadows()
        running = self.start_and_reach("copy", "backup", "web", "off")
        found = self.look()
        self.assertTrue(found["alive"], found)
        self.assertEqual((found["purpose"], found["pid"]), ("backup", running.process.pid))
        text = self.text("list", "shadows")
        self.assertRegex(text, r"^Contents of shadow copy set ID: \{%s\}\n   Contained 2 shadow copies at creation time: "
                               r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\n      Shadow Copy ID: \{%s\}\n" %
                         (found["set_id"], found["shadows"][0]["id"]))
        self.assertIn("Original Volume: (web: vdb)%s\n" % self.web.disk("vdb").path, text)
        self.assertIn("Provider: 'qemu'\n", text)
        self.assertNotIn("interrupted", text)
        self.assertEqual(self.kvss("list", "writers").document[0]["state"], 1)
        running.signal(signal.SIGTERM)
        running.let_go()
        running.wait()
        self.assertNoShadows()
        self.assertNothingLeft()

    def test_shadows_of_a_dead_backup(self):
        """kvss and its guardian are gone: the copies are still there, and looking does not take them away."""
        running = self.start_and_reach("copy")
        for pid in process_children(running.process.pid) + [running.process.pid]:
            os.kill(pid, signal.SIGKILL)
        running.wait()
        for _ in range(2):
            found = self.look()
            self.assertFalse(found["alive"], found)
        self.assertIn("'kvss doctor'", self.text("list", "shadows"))
        self.assertExit(self.kvss("doctor"), 0)
        self.assertNoShadows()
        self.assertNothingLeft()
        self.assertTrue(self.web.writes())

    def test_finished_backup_leaves_none(self):
        self.backup("web")
        self.assertNoShadows()
