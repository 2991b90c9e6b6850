/*
 * definition-files.c - files of the host that a definition may name: media, kernel, firmware
 *
 * A guest can read whatever lies in its CD drive or was loaded as its kernel. So a
 * file is let through where it is, by its first bytes, such a thing, and does not lie
 * in one of the system's folders: no password file, no key, no other VM's disk.
 */
#include "base/beneath.h"
#include "base/fd.h"
#include "base/system-path.h"
#include "writer/domain/definition-private.h"
#include "writer/domain/restore-steps.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/** Bytes at a place by which a kind of file is known. */
typedef struct {
    const char *bytes;
    unsigned length;
    off_t offset;
} Magic;

static const Magic media[] = {
    { "CD001", 5, 0x8001 }, { "BEA01", 5, 0x8001 }, { NULL, 0, 0 },
};
static const Magic floppies[] = { { "\x55\xaa", 2, 510 }, { NULL, 0, 0 } };
static const Magic kernels[] = {
    { "HdrS", 4, 0x202 }, { "MZ", 2, 0 }, { "\x7f" "ELF", 4, 0 }, { "ARM\x64", 4, 0x38 },
    { "\x1f\x8b", 2, 0 }, { "\x27\x05\x19\x56", 4, 0 }, { NULL, 0, 0 },
};
static const Magic initrds[] = {
    { "070701", 6, 0 }, { "070702", 6, 0 }, { "\x1f\x8b\x08", 3, 0 }, { "\xfd" "7zXZ", 5, 0 },
    { "\x28\xb5\x2f\xfd", 4, 0 }, { "\x04\x22\x4d\x18", 4, 0 }, { "\x02\x21\x4c\x18", 4, 0 },
    { "BZh", 3, 0 }, { "\x5d\0\0", 3, 0 }, { "\x89LZO", 4, 0 }, { "\xc7\x71", 2, 0 },
    { NULL, 0, 0 },
};
static const Magic device_trees[] = { { "\xd0\x0d\xfe\xed", 4, 0 }, { NULL, 0, 0 } };

static const Magic volumes[] = { { "_FVH", 4, 40 }, { NULL, 0, 0 } }; /* of firmware */

#define FLOPPY_MAX (2949120)

typedef enum {
    FILE_ABSENT,
    FILE_IS_IT,
    FILE_IS_ANOTHER,
} Verdict;

static bool
has_magic(int fd, const Magic *magic)
{
    char bytes[8];

    for (; magic->bytes; magic++)
        if (pread(fd, bytes, magic->length, magic->offset) == (ssize_t) magic->length
            && memcmp(bytes, magic->bytes, magic->length) == 0)
            return true;
    return false;
}

static Verdict
file_look(const char *path, const Magic *magic, off_t length_max)
{
    kvss_autofd int fd = -1;
    struct stat st;

    if (!kvss_is_plain_path(path))
        return FILE_IS_ANOTHER;
    /* A pipe put there is not waited for. */
    fd = open(path, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    if (fd < 0)
        return errno == ENOENT || errno == ENOTDIR ? FILE_ABSENT : FILE_IS_ANOTHER;
    if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) || (length_max && st.st_size > length_max))
        return FILE_IS_ANOTHER;
    return has_magic(fd, magic) ? FILE_IS_IT : FILE_IS_ANOTHER;
}

bool
definition_leads_into(const char *path, const char *folder)
{
    g_autofree char *place = kvss_vm_real_path(path);

    return kvss_path_is_below(place, folder);
}

bool
definition_leads_into_system(const char *path, const char *const *but)
{
    g_autofree char *place = kvss_vm_real_path(path);
    bool is_systems = kvss_path_is_systems(place);

    for (; is_systems && *but; but++)
        is_systems = !kvss_path_is_below(place, *but);
    return is_systems;
}

/* ---- media ---- */

/* A seed for a guest's first start, say, which has another file system than a CD. */
static bool
is_called_medium(const char *path)
{
    size_t length = strlen(path);
    struct stat st;

    return length > 4 && g_ascii_strcasecmp(path + length - 4, ".iso") == 0
           && kvss_is_plain_path(path) && lstat(path, &st) == 0 && S_ISREG(st.st_mode);
}

static bool
medium_is_one(xmlNodePtr disk, const char *file, Verdict *out_verdict)
{
    static const char *const but[] = { "/usr/share", NULL }; /* drivers for guests, as packages */
    bool is_floppy = kvss_xml_attribute_is(disk, "device", "floppy");
    g_autofree char *format = kvss_xml_attribute(kvss_xml_child(disk, "driver"), "type");

    *out_verdict = file_look(file, is_floppy ? floppies : media, is_floppy ? FLOPPY_MAX : 0);
    if (*out_verdict == FILE_IS_ANOTHER && !is_floppy && is_called_medium(file))
        *out_verdict = FILE_IS_IT;
    /* Any other format may name files behind it. */
    return *out_verdict != FILE_IS_ANOTHER && !definition_leads_into_system(file, but)
           && (!format || g_str_equal(format, "raw"));
}

static void
medium_make_optional(Correction *c, xmlNodePtr source, const char *file, const char *target)
{
    g_autofree char *policy = kvss_xml_attribute(source, "startupPolicy");

    if (policy)
        return;
    kvss_xml_set_attribute(source, "startupPolicy", "optional");
    definition_note(c, "%s is not on this host: drive %s starts empty", file, target);
}

/* A plain file needs no more than its path; a chain below it would be opened, and given away. */
static void
medium_make_plain(xmlNodePtr disk, xmlNodePtr source)
{
    static const char *const more[] = { "slices", "encryption", "reservations", "auth" };

    for (gsize i = 0; i < G_N_ELEMENTS(more); i++)
        kvss_xml_remove_children(source, more[i]);
    kvss_xml_remove_children(disk, "encryption");
    definition_drop_chain(disk);
}

void
definition_media(Correction *c, xmlNodePtr disk, const char *target)
{
    xmlNodePtr source = kvss_xml_child(disk, "source");
    g_autofree char *type = kvss_xml_attribute(disk, "type");
    g_autofree char *file = kvss_xml_attribute(source, "file");
    g_autofree char *what = g_strdup_printf("the medium in drive %s%s%s", target, file ? ", " : "",
                                            file ? file : "");
    Verdict verdict = FILE_IS_ANOTHER;
    bool is_one = file && (!type || g_str_equal(type, "file"))
                  && medium_is_one(disk, file, &verdict);

    if (!source)
        return;
    if (is_one)
        medium_make_plain(disk, source);
    if (is_one || definition_may_stay(c, disk, what)) {
        if (verdict == FILE_ABSENT)
            medium_make_optional(c, source, file, target);
        return;
    }
    kvss_xml_remove_children(disk, "source");
    kvss_xml_remove_children(disk, "backingStore");
    kvss_xml_set_attribute(disk, "type", "file");
}

/* ---- kernel ---- */

static bool
boot_file_is_one(const char *path, const Magic *magic)
{
    static const char *const but[] = { "/boot", "/usr", "/lib", "/var/cache", NULL };

    return file_look(path, magic, 0) != FILE_IS_ANOTHER && !definition_leads_into_system(path, but);
}

static const struct {
    const char *name;
    const Magic *magic;
} boot_files[] = {
    { "kernel", kernels }, { "initrd", initrds }, { "dtb", device_trees }, { "shim", kernels },
};

static bool
boot_file_check(Correction *c, xmlNodePtr node, const Magic *magic)
{
    g_autofree char *path = kvss_xml_content(node);
    g_autofree char *what = path ? g_strdup_printf("%s %s", (const char *) node->name, path) : NULL;

    return !path || !*path || boot_file_is_one(path, magic) || definition_leave_out(c, node, what);
}

/* What packages of firmware install, and what is one elsewhere. */
static bool
is_firmware(const char *path, bool may_be_absent)
{
    static const char *const but[] = { "/var/cache", NULL };
    Verdict verdict;

    if (!kvss_is_plain_path(path))
        return false;
    if (kvss_path_is_below(path, "/usr/share") || kvss_path_is_below(path, "/usr/lib")
        || kvss_path_is_below(path, "/usr/lib64"))
        return true;
    verdict = file_look(path, volumes, 0);
    return (verdict == FILE_IS_IT || (verdict == FILE_ABSENT && may_be_absent))
           && !definition_leads_into_system(path, but);
}

/* It is the host's, and no other VM's start is the guest's to write; nor has it an image behind it. */
static void
firmware_check_opening(Correction *c, xmlNodePtr loader, const char *path)
{
    g_autofree char *what = g_strdup_printf("that firmware %s can be written to", path);
    g_autofree char *format = kvss_xml_attribute(loader, "format");

    if (kvss_xml_attribute_is(loader, "type", "pflash")
        && !kvss_xml_attribute_is(loader, "readonly", "yes")
        && !definition_may_stay(c, loader, what))
        kvss_xml_set_attribute(loader, "readonly", "yes");
    if (format && !g_str_equal(format, "raw") && !kvss_path_is_below(path, "/usr")
        && !definition_may_stay(c, loader, "the format of its firmware"))
        kvss_xml_unset_attribute(loader, "format");
}

/* Without its loader a UEFI guest gets the one that this host has for it. */
static void
loader_check(Correction *c, xmlNodePtr os)
{
    xmlNodePtr loader = kvss_xml_child(os, "loader");
    bool is_flash = kvss_xml_attribute_is(loader, "type", "pflash");
    g_autofree char *path = kvss_xml_content(loader);
    g_autofree char *what = path ? g_strdup_printf("firmware %s", path) : NULL;

    if (path && *path && is_firmware(path, false)) {
        firmware_check_opening(c, loader, path);
        return;
    }
    if (!path || !*path || definition_leave_out(c, loader, what))
        return;
    kvss_xml_remove_children(os, "nvram");
    if (is_flash)
        kvss_xml_set_attribute(os, "firmware", "efi");
}

/* A variable store that is not restored is a file of the host, which QEMU writes. */
static void
nvram_check(Correction *c, xmlNodePtr os)
{
    xmlNodePtr nvram = kvss_xml_child(os, "nvram");
    g_autofree char *template = kvss_xml_attribute(nvram, "template");
    g_autofree char *path = kvss_xml_content(nvram);
    KvssFile *file = kvss_component_find_file(c->component, "nvram.fd");
    g_autofree char *type = kvss_xml_attribute(nvram, "type");
    bool is_file = !type || g_str_equal(type, "file");

    if (template && !is_firmware(template, true)
        && !definition_may_stay(c, nvram, "the template of the variable store"))
        kvss_xml_unset_attribute(nvram, "template");
    if (!nvram || (is_file && file && file->path)
        || (!*path && !kvss_xml_child(nvram, "source")))
        return;
    if (c->copy) /* the other VM's */
        kvss_xml_remove(nvram);
    else
        (void) definition_leave_out(c, nvram, "a variable store that is not in the backup");
}

void
definition_boot_files(Correction *c, xmlNodePtr os)
{
    xmlNodePtr acpi = kvss_xml_child(os, "acpi");
    xmlNodePtr varstore = kvss_xml_child(os, "varstore"); /* of later libvirts */

    for (gsize i = 0; i < G_N_ELEMENTS(boot_files); i++) {
        xmlNodePtr node = kvss_xml_child(os, boot_files[i].name);

        if (!node || boot_file_check(c, node, boot_files[i].magic))
            continue;
        if (i == 0) /* of no use without a kernel */
            for (gsize k = 1; k < G_N_ELEMENTS(boot_files); k++)
                kvss_xml_remove_children(os, boot_files[k].name);
        if (i == 0)
            kvss_xml_remove_children(os, "cmdline");
    }
    if (acpi)
        (void) definition_leave_out(c, acpi, "an ACPI table in a file of the host");
    if (varstore)
        (void) definition_leave_out(c, varstore, "a variable store that is not in the backup");
    loader_check(c, os);
    nvram_check(c, os);
}
