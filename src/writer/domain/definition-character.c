/*
 * definition-character.c - the other ends of serial ports, consoles and channels
 *
 * libvirt and its log daemon go to them as root: a file is emptied, what lies where a
 * socket is made is deleted, a socket that is connected to is given to QEMU's user.
 * So an end stays where it does what it was made for: a log file among data, a socket
 * for others to connect to. It goes where it would hit something else.
 */
#include "base/beneath.h"
#include "base/fd.h"
#include "base/system-path.h"
#include "writer/domain/definition-private.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define PEOPLE_FROM_UID 1000 /* below are the system's own users */
#define LOOK_LENGTH 4096
#define SOCKET_LISTENS 0x10000u /* the kernel's __SO_ACCEPTCON */

/* ---- files ---- */

/* A log is text; an image of any kind is not. */
static bool
is_text(int fd)
{
    char bytes[LOOK_LENGTH];
    ssize_t n = pread(fd, bytes, sizeof bytes, 0);

    return n >= 0 && !memchr(bytes, '\0', (size_t) n);
}

static bool
is_log_of_system(const char *path)
{
    kvss_autofd int fd = open(path, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_NOFOLLOW | O_CLOEXEC);
    struct stat st;

    if (fd < 0)
        return errno == ENOENT || errno == ENOTDIR;
    return fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && st.st_nlink == 1
           && st.st_uid < PEOPLE_FROM_UID && is_text(fd);
}

/* Keys, the start of a shell, pages and state of a service: what somebody reads and acts upon. */
static bool
is_sensitive(const char *path)
{
    static const char *const folders[] = { "/home", "/opt", "/srv/www", "/var/lib", "/var/mail",
                                           "/var/www" };

    if (strstr(path, "/."))
        return true;
    for (gsize i = 0; i < G_N_ELEMENTS(folders); i++)
        if (definition_leads_into(path, folders[i])
            && !definition_leads_into(path, "/var/lib/libvirt"))
            return true;
    /* Others' logs are not to be emptied. */
    return definition_leads_into(path, "/var/log")
           && !definition_leads_into(path, "/var/log/libvirt")
           && g_file_test(path, G_FILE_TEST_EXISTS);
}

static bool
file_may_be_written(const char *path)
{
    static const char *const but[] = { "/run", "/var/run", "/var/cache", NULL };

    return path && kvss_is_plain_path(path) && !is_sensitive(path)
           && !definition_leads_into_system(path, but) && is_log_of_system(path);
}

/* ---- sockets ---- */

/*
 * Somebody listens there. The kernel is asked: to connect would be a guest's other end,
 * a plan's as well, and change what a running VM sees.
 */
static bool
socket_is_alive(const char *path)
{
    g_autofree char *text = NULL, *end = g_strdup_printf(" %s", path);
    g_auto(GStrv) lines = NULL;

    if (!g_file_get_contents("/proc/net/unix", &text, NULL, NULL))
        return true;
    lines = g_strsplit(text, "\n", -1);
    for (char **line = lines; *line; line++) {
        unsigned flags = 0;

        if (g_str_has_suffix(*line, end) && sscanf(*line, "%*s %*s %*s %x", &flags) == 1
            && flags & SOCKET_LISTENS)
            return true;
    }
    return false;
}

static bool
socket_may_be_made(const char *path)
{
    static const char *const but[] = { "/run", "/var/run", "/var/cache", NULL };
    struct stat st;

    if (!kvss_is_plain_path(path) || definition_leads_into_system(path, but))
        return false;
    if (lstat(path, &st) < 0)
        return errno == ENOENT || errno == ENOTDIR;
    return S_ISSOCK(st.st_mode) && !socket_is_alive(path);
}

/* ---- where libvirt puts them ---- */

static bool
is_libvirts_channel(const char *path)
{
    static const char *const folders[] = { "/var/lib/libvirt/qemu/channel",
                                           "/run/libvirt/qemu/channel",
                                           "/var/run/libvirt/qemu/channel" };

    for (gsize i = 0; i < G_N_ELEMENTS(folders); i++)
        if (g_str_has_prefix(path, folders[i]))
            return true;
    return false;
}

/* Its other end is in QEMU, or where libvirt itself puts it. */
static bool
end_is_libvirts(xmlNodePtr node, const char *type)
{
    static const char *const harmless[] = { "pty", "null", "vc", "stdio", "spicevmc", "spiceport",
                                            "dbus", "qemu-vdagent", NULL };
    g_autofree char *path = NULL;

    if (g_strv_contains(harmless, type))
        return true;
    if (!g_str_equal(type, "unix")
        || kvss_xml_attribute_is(kvss_xml_child(node, "source"), "mode", "connect"))
        return false;
    path = kvss_xml_attribute(kvss_xml_child(node, "source"), "path");
    if (path && !is_libvirts_channel(path))
        return false;
    kvss_xml_remove_children(node, "source"); /* libvirt makes a new one */
    return true;
}

/* ---- devices ---- */

/* An end of the VM's own choice that harms nothing else. */
static bool
end_is_harmless(xmlNodePtr node, const char *type, const char *path)
{
    xmlNodePtr source = kvss_xml_child(node, "source");

    if (g_str_equal(type, "file"))
        return file_may_be_written(path);
    if (g_str_equal(type, "unix"))
        return path && !kvss_xml_attribute_is(source, "mode", "connect")
               && socket_may_be_made(path);
    /* Whom it would connect to is not asked whether it wants that. */
    return g_str_equal(type, "tcp") && kvss_xml_attribute_is(source, "mode", "bind");
}

static void
log_check(Correction *c, xmlNodePtr log)
{
    g_autofree char *path = kvss_xml_attribute(log, "file");

    if (c->copy)
        kvss_xml_remove(log);
    else if (!file_may_be_written(path))
        (void) definition_leave_out(c, log, "the log file of a character device");
}

static void
character_cut(xmlNodePtr node)
{
    kvss_xml_set_attribute(node, "type", "null");
    kvss_xml_remove_children(node, "source");
    kvss_xml_remove_children(node, "protocol");
}

/* The guest keeps the device: its saved memory knows it. Nothing is behind it any more. */
static void
end_check(Correction *c, xmlNodePtr node, const char *type, const char *path)
{
    bool is_serial = kvss_xml_attribute_is(kvss_xml_child(node, "target"), "type", "serial");
    g_autofree char *what = g_strdup_printf("what %s is connected to (%s%s%s)",
                                            is_serial ? "serial" : (const char *) node->name, type,
                                            path ? " " : "", path ? path : "");

    /* Two VMs at one end would take it from each other. */
    if (c->copy && !g_str_equal(type, "dev")) {
        definition_note(c, "%s stays with the VM that this is a copy of", what);
        character_cut(node);
    } else if (!end_is_harmless(node, type, path) && !definition_may_stay(c, node, what)) {
        character_cut(node);
    }
}

void
definition_character(Correction *c, xmlNodePtr node)
{
    g_autofree char *type = kvss_xml_attribute(node, "type");
    g_autofree char *path = kvss_xml_attribute(kvss_xml_child(node, "source"), "path");
    xmlNodePtr log = kvss_xml_child(node, "log");

    if (log)
        log_check(c, log);
    if (!type || !end_is_libvirts(node, type))
        end_check(c, node, type ? type : "?", path);
}
