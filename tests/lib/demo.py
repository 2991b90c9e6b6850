"""The second half of ./demo, inside tests/lab/enter: tells the story as it goes, and proves each claim."""
import os
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import kvsslab
from kvsslab import Disk, Kvss, Lab, LabError, run, wait_until

BEGIN = time.monotonic()
LOG = open(sys.argv[1], "a") if len(sys.argv) > 1 else sys.stderr


def step(text):
    print("\n[%3.0f s] %s" % (time.monotonic() - BEGIN, text), flush=True)


def tell(text):
    for line in text.rstrip().split("\n"):
        print("        " + line, flush=True)


def prove(claim, holds, otherwise=""):
    if not holds:
        raise LabError("this does not hold: %s %s" % (claim, otherwise))
    tell("proven: " + claim)


def mib(size):
    return "%.1f MiB" % (size / 1048576)


def command(kvss, *arguments, rc=0):
    """A kvss command with its JSON; it must end as said."""
    tell("$ kvss " + " ".join(arguments))
    result = kvss(*arguments)
    print(result, file=LOG, flush=True)
    if result.rc != rc:
        raise LabError("kvss %s: exit %d: %s" % (arguments[0], result.rc, (result.stderr.strip() or result.stdout)[-600:]))
    return result


def tell_vm(vm):
    reasons = "; ".join("%s: %s" % (r["id"], r["detail"]) for r in vm["reasons"])
    tell("%s: %s%s" % (vm["name"], vm["method"], " (%s)" % reasons if reasons else ""))
    times = ["%s %.0f ms" % (word, vm[key]) for word, key in (("frozen for", "freeze_ms"), ("paused for", "pause_ms"))
             if vm.get(key) is not None]
    tell("    %s; %s consistency" % (", ".join(times) or "not disturbed", vm["consistency"]))
    for disk in vm["disks"]:
        tell("    %s: %s %s, read %s, stored %s" % (disk["target"], mib(disk["size"]), disk["format"], mib(disk["bytes_read"]),
                                                    mib(disk["bytes_stored"])))


def main(lab):
    step("Two VMs: web (guest agent, two disks) and db (no agent). Both write to their disks without pause.")
    web = lab.guest("web", disks=[Disk("vda", content_kib=8192), Disk("vdb", form="raw", content_kib=4096)]).define()
    db = lab.guest("db", disks=[Disk("vda", content_kib=8192)], agent="no").define()
    web.start()
    db.start()
    letters = {}
    for guest, mount in ((web, "/mnt/vda"), (web, "/mnt/vdb"), (db, "/mnt/vda")):
        letters[guest, mount] = guest.sh("dd if=/dev/urandom of=%s/letter bs=64k count=48 2>/dev/null; sync; "
                                         "sha256sum %s/letter" % (mount, mount))
    secret = db.sh("head -c 16 /dev/urandom | sha256sum > /run/secret; cat /run/secret")
    tell("%s %s, numbers so far: web %d, db %d" % ("QEMU with" if os.environ["KVSS_LAB_ACCEL"] == "kvm" else "QEMU without",
                                                   "KVM", web.seq(), db.seq()))

    step("A new repository, and what kvss would do")
    kvss = Kvss(lab)
    command(kvss, "init")
    plain = run(kvsslab.KVSS, "explain", env={"KVSS_REPOSITORY": kvss.repository, "KVSS_PASSWORD": kvss.password})
    tell("$ kvss explain")
    tell(plain)

    step("One backup of both, while they run")
    summary = command(kvss, "backup", "web", "db").summary
    for vm in summary["vms"]:
        tell_vm(vm)
    tell("set %s: read %s, stored %s, %.0f ms from the first instant to the last, %.1f s in all" % (
        summary["backup_id"][:8], mib(summary["bytes_read"]), mib(summary["bytes_stored"]), summary["skew_ms"] or 0,
        summary["seconds"]))
    methods = {vm["name"]: vm["method"] for vm in summary["vms"]}
    prove("web was frozen by its agent, db was saved with its RAM",
          methods == {"web": "child-snapshot", "db": "saved-state"}, str(methods))
    prove("both run on and write", web.writes(3) and db.writes(3))

    step("restic reads what kvss wrote")
    tell("$ restic check --read-data")
    tell(kvss.restic("check", "--read-data").strip().split("\n")[-1])
    prove("restic check --read-data accepts the repository", True)

    step("Both VMs and their disks are deleted")
    web.delete()
    db.delete()
    prove("libvirt knows no VM, and no disk is left",
          not kvsslab.virsh("list", "--all", "--name").strip() and not os.path.exists(web.folder)
          and not os.path.exists(db.folder))

    step("Both come back")
    restored = command(kvss, "restore", "latest", "--yes").summary
    for vm in restored["vms"]:
        tell("%s: %s, disks %s" % (vm["name"], vm["state"], ", ".join(d["target"] for d in vm["disks"])))
    for guest in (web, db):
        for target, image in sorted(guest.images().items()):
            with image.raw() as raw:
                ours = kvsslab.file_hash(raw)
            theirs = run("sh", "-c", "restic -q -r '%s' --no-cache dump latest /vms/%s/disks/%s.raw | sha256sum" % (
                kvss.repository, guest.name, target), env={"RESTIC_PASSWORD": kvss.password}).split()[0]
            prove("%s %s equals what restic dumps from the repository, byte for byte" % (guest.name, target),
                  ours == theirs, "%s, %s" % (ours, theirs))
    numbers = [web.images()[t].seq() for t in ("vda", "vdb")]
    prove("web: both disks are of one instant (numbers %d and %d)" % tuple(numbers), numbers[0] - numbers[1] in (0, 1))
    for target, image in sorted(web.images().items()):
        prove("web %s: the file system is clean, no journal waits" % target, image.fs_state() == "clean", image.fs_state())
        prove("web %s: its files are the ones it was made with" % target, image.cat("/content") == web.disk(target).content())
    prove("db is in saved state", db.state() == "saved", db.state())
    number = db.images()["vda"].seq()

    step("web boots")
    web.start()
    for mount in ("/mnt/vda", "/mnt/vdb"):
        prove("web: the file written in %s before the backup is there" % mount,
              web.sh("sha256sum %s/letter" % mount) == letters[web, mount])

    step("db goes on where it was")
    before = len(db.serial())
    db.start(wait=False)
    prove("db remembers what only its RAM held", db.sh("cat /run/secret") == secret)
    prove("db: the file written before the backup is there", db.sh("sha256sum /mnt/vda/letter") == letters[db, "/mnt/vda"])
    later = wait_until("db writes", lambda: db.seq() > number and db.seq())
    prove("db did not boot: its RAM went on from the number on its disk (%d, now %d)" % (number, later),
          "GUEST READY" not in db.serial()[before:] and not db.mismatches(), "\n".join(db.mismatches()))


if __name__ == "__main__":
    lab = Lab("demo")
    try:
        main(lab)
    except LabError as error:
        print("demo: %s" % error, file=LOG, flush=True)
        sys.exit("demo: %s" % error)
    finally:
        lab.close()
    step("Cleaned up: both VMs, their disks and the repository are gone")
