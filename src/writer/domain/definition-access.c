/*
 * definition-access.c - what reaches from a VM into the host: left out, unless it was granted
 *
 * A definition is a stranger's. Whoever writes it chooses which files libvirt opens
 * as root, which it deletes to put a socket there, which devices it takes from the
 * host. What this host's administrator has configured for this very VM is granted:
 * the part of the present definition is compared as a whole, without what only the
 * guest sees of it (its address, its alias, its tag).
 */
#include "writer/domain/definition-private.h"

#include <string.h>

/* ---- granted ---- */

static int
compare_names(gconstpointer a, gconstpointer b)
{
    return strcmp(*(const char *const *) a, *(const char *const *) b);
}

static void
append_attributes(GString *text, xmlNodePtr node)
{
    g_autoptr(GPtrArray) list = g_ptr_array_new_with_free_func(g_free);

    for (xmlAttrPtr a = node->properties; a; a = a->next) {
        const char *name = (const char *) a->name;
        g_autofree char *value = kvss_xml_attribute(node, name);

        /* libvirt numbers the images of a running VM. */
        if (!g_str_equal(name, "index"))
            g_ptr_array_add(list, g_strdup_printf(" %s='%s'", name, value ? value : ""));
    }
    g_ptr_array_sort(list, compare_names);
    for (guint i = 0; i < list->len; i++)
        g_string_append(text, g_ptr_array_index(list, i));
}

static void
append_element(GString *text, xmlNodePtr node, const char *const *skipped)
{
    bool has_elements = false;

    g_string_append_printf(text, "<%s", (const char *) node->name);
    append_attributes(text, node);
    g_string_append_c(text, '>');
    for (xmlNodePtr n = node->children; n; n = n->next) {
        if (n->type != XML_ELEMENT_NODE)
            continue;
        has_elements = true;
        if (!skipped || !g_strv_contains(skipped, (const char *) n->name))
            append_element(text, n, NULL);
    }
    if (!has_elements) {
        g_autofree char *content = kvss_xml_content(node);

        g_string_append(text, content);
    }
    g_string_append(text, "</>");
}

/* Of a disk only what it opens, and how: its cache mode is no grant. */
static void
append_disk(GString *text, xmlNodePtr node)
{
    static const char *const parts[] = { "source", "readonly", "shareable" };
    g_autofree char *device = kvss_xml_attribute(node, "device");
    g_autofree char *type = kvss_xml_attribute(node, "type");
    g_autofree char *format = kvss_xml_attribute(kvss_xml_child(node, "driver"), "type");

    g_string_append_printf(text, "<disk %s %s %s>", type ? type : "file", device ? device : "disk",
                           format ? format : "raw");
    for (gsize i = 0; i < G_N_ELEMENTS(parts); i++) {
        static const char *const skipped[] = { "privateData", NULL };
        xmlNodePtr part = kvss_xml_child(node, parts[i]);

        if (part)
            append_element(text, part, skipped);
    }
}

/* The same text for the same thing of the host. Free with g_free. */
static char *
grant_key(xmlNodePtr node)
{
    static const char *const guests[] = { "alias", "address", "target", "backingStore", "boot",
                                          "mac", "model", "link", "mtu", "coalesce", "tune", NULL };
    GString *text = g_string_new(NULL);

    g_string_append_printf(text, "%s/", (const char *) node->parent->name);
    if (kvss_xml_is(node, "disk"))
        append_disk(text, node);
    else
        append_element(text, node, guests);
    return g_string_free(text, FALSE);
}

static void
learn_below(Correction *c, xmlNodePtr node, unsigned depth)
{
    for (xmlNodePtr n = node->children; n; n = n->next) {
        if (n->type != XML_ELEMENT_NODE)
            continue;
        g_hash_table_add(c->present, grant_key(n));
        if (depth > 0)
            learn_below(c, n, depth - 1);
    }
}

void
definition_access_learn(Correction *c, const char *xml)
{
    xmlDocPtr document = kvss_xml_parse_domain(xml, NULL);

    if (!document)
        return;
    c->present = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    learn_below(c, xmlDocGetRootElement(document), 3);
    xmlFreeDoc(document);
}

bool
definition_may_stay(Correction *c, xmlNodePtr node, const char *what)
{
    g_autofree char *key = c->present ? grant_key(node) : NULL;
    bool is_granted = key && g_hash_table_contains(c->present, key);

    if (is_granted || c->allows_host_access) {
        g_ptr_array_add(c->report->kept,
                        g_strdup_printf("%s is kept: %s", what,
                                        is_granted ? "the VM has it on this host now"
                                                   : "host access is allowed"));
        return true;
    }
    c->report->left_out_host_access = true;
    definition_note(c, "%s was left out: it reaches into the host (--allow-host-access keeps it)",
                    what);
    return false;
}

bool
definition_leave_out(Correction *c, xmlNodePtr node, const char *what)
{
    if (definition_may_stay(c, node, what))
        return true;
    kvss_xml_remove(node);
    return false;
}

/* ---- devices ---- */

static void
device_leave_out(Correction *c, xmlNodePtr node, const char *what)
{
    if (!definition_leave_out(c, node, what))
        c->report->lost_device = true;
}

static void
attribute_check(Correction *c, xmlNodePtr node, const char *name, const char *what)
{
    g_autofree char *value = node ? kvss_xml_attribute(node, name) : NULL;
    g_autofree char *text = value ? g_strdup_printf("%s %s", what, value) : NULL;

    if (value && !definition_may_stay(c, node, text))
        kvss_xml_unset_attribute(node, name);
}

static void
redirection_check(Correction *c, xmlNodePtr node)
{
    if (!kvss_xml_attribute_is(node, "type", "spicevmc"))
        device_leave_out(c, node, "a redirected USB device");
}

static void
smartcard_check(Correction *c, xmlNodePtr node)
{
    if (!kvss_xml_attribute_is(node, "mode", "passthrough")
        || !kvss_xml_attribute_is(node, "type", "spicevmc"))
        device_leave_out(c, node, "a smart card of the host");
}

static void
tpm_check(Correction *c, xmlNodePtr node)
{
    xmlNodePtr backend = kvss_xml_child(node, "backend");
    xmlNodePtr source = kvss_xml_child(backend, "source");

    if (!kvss_xml_attribute_is(backend, "type", "emulator"))
        device_leave_out(c, node, "a TPM of the host");
    else if (source)
        (void) definition_leave_out(c, source, "the place of the TPM's state");
}

static void
random_check(Correction *c, xmlNodePtr node)
{
    static const char *const sources[] = { "/dev/urandom", "/dev/random", "/dev/hwrng", NULL };
    xmlNodePtr backend = kvss_xml_child(node, "backend");
    g_autofree char *path = kvss_xml_content(backend);

    if (!backend || kvss_xml_attribute_is(backend, "model", "builtin"))
        return;
    if (kvss_xml_attribute_is(backend, "model", "random")
        && (!*path || g_strv_contains(sources, path)))
        return;
    if (definition_may_stay(c, node, "a source of randomness of its own"))
        return;
    kvss_xml_remove(backend);
    backend = kvss_xml_child_or_new(node, "backend");
    kvss_xml_set_attribute(backend, "model", "random");
    kvss_xml_set_content(backend, "/dev/urandom");
}

static void
hostdev_check(Correction *c, xmlNodePtr node)
{
    g_autofree char *type = kvss_xml_attribute(node, "type");
    g_autofree char *what = g_strdup_printf("a %s device of the host", type ? type : "");

    device_leave_out(c, node, what);
}

static void
filesystem_check(Correction *c, xmlNodePtr node)
{
    g_autofree char *folder = kvss_xml_attribute(kvss_xml_child(node, "source"), "dir");
    g_autofree char *what = g_strdup_printf("shared folder %s", folder ? folder : "?");

    device_leave_out(c, node, what);
}

static void
shared_memory_check(Correction *c, xmlNodePtr node)
{
    device_leave_out(c, node, "memory shared with other programs");
}

static void
lease_check(Correction *c, xmlNodePtr node)
{
    (void) definition_leave_out(c, node, "a lease on a file of the host");
}

static void
memory_check(Correction *c, xmlNodePtr node)
{
    if (kvss_xml_child(kvss_xml_child(node, "source"), "path"))
        device_leave_out(c, node, "memory that lies in a file of the host");
}

static void
input_check(Correction *c, xmlNodePtr node)
{
    if (kvss_xml_child(node, "source"))
        device_leave_out(c, node, "an input device of the host");
}

/* Screens of the host and sockets in its folders; a port is what a console is for. */
static void
graphics_check(Correction *c, xmlNodePtr node)
{
    static const char *const harmless[] = { "vnc", "spice", "egl-headless", "dbus", NULL };
    g_autofree char *type = kvss_xml_attribute(node, "type");

    if (!type || !g_strv_contains(harmless, type)) {
        (void) definition_leave_out(c, node, "a screen of the host");
        return;
    }
    attribute_check(c, node, "socket", "the socket of a console,");
    if (g_str_equal(type, "dbus"))
        attribute_check(c, node, "address", "the bus of a console,");
    for (xmlNodePtr n = kvss_xml_child(node, "listen"); n; n = kvss_xml_next(n, "listen"))
        attribute_check(c, n, "socket", "the socket of a console,");
    attribute_check(c, kvss_xml_child(node, "gl"), "rendernode", "graphics device");
}

static void
audio_check(Correction *c, xmlNodePtr node)
{
    static const char *const harmless[] = { "none", "spice", "dbus", NULL };
    g_autofree char *type = kvss_xml_attribute(node, "type");
    g_autofree char *id = kvss_xml_attribute(node, "id");
    xmlNodePtr silent;

    if ((type && g_strv_contains(harmless, type)) || definition_may_stay(c, node, "sound of the host"))
        return;
    silent = xmlNewNode(NULL, (const xmlChar *) "audio");
    kvss_xml_set_attribute(silent, "id", id ? id : "1");
    kvss_xml_set_attribute(silent, "type", "none");
    (void) xmlReplaceNode(node, silent);
    xmlFreeNode(node);
}

static void
video_check(Correction *c, xmlNodePtr node)
{
    xmlNodePtr model = kvss_xml_child(node, "model");
    xmlNodePtr driver = kvss_xml_child(node, "driver");

    attribute_check(c, kvss_xml_child(model, "acceleration"), "rendernode", "graphics device");
    if (kvss_xml_attribute_is(driver, "name", "vhostuser"))
        attribute_check(c, driver, "name", "a graphics helper");
}

static void
harmless(Correction *c, xmlNodePtr node)
{
}

/** Devices by name. What is not here is not known to be harmless. */
static const struct {
    const char *name;
    void (*check)(Correction *c, xmlNodePtr node);
} rules[] = {
    { "audio", audio_check },         { "channel", definition_character },
    { "console", definition_character },   { "controller", harmless },
    { "crypto", harmless },           { "disk", harmless },       /* definition.c */
    { "emulator", harmless },         /* definition_access_root() */
    { "filesystem", filesystem_check }, { "graphics", graphics_check },
    { "hostdev", hostdev_check },     { "hub", harmless },
    { "input", input_check },         { "interface", harmless },  /* definition-networks.c */
    { "iommu", harmless },            { "lease", lease_check },
    { "memballoon", harmless },       { "memory", memory_check },
    { "nvram", harmless },            { "panic", harmless },
    { "parallel", definition_character },  { "redirdev", redirection_check },
    { "redirfilter", harmless },      { "rng", random_check },
    { "serial", definition_character },    { "shmem", shared_memory_check },
    { "smartcard", smartcard_check }, { "sound", harmless },
    { "tpm", tpm_check },             { "video", video_check },
    { "vsock", harmless },            { "watchdog", harmless },
};

void
definition_access_device(Correction *c, xmlNodePtr node)
{
    const char *name = (const char *) node->name;
    g_autofree char *what = g_strdup_printf("device <%s>, which this version does not know,", name);

    for (gsize i = 0; i < G_N_ELEMENTS(rules); i++) {
        if (g_str_equal(name, rules[i].name)) {
            rules[i].check(c, node);
            return;
        }
    }
    device_leave_out(c, node, what);
}

/* ---- outside <devices> ---- */

/* Extensions of one hypervisor: command-line arguments, among others. */
static bool
is_extension(xmlNodePtr node)
{
    return node->ns && node->ns->href
        && g_str_has_prefix((const char *) node->ns->href, "http://libvirt.org/schemas/domain/");
}

/* libvirt's own programs for QEMU; without one libvirt takes the host's own. */
static bool
is_emulator(const char *path)
{
    g_autofree char *name = g_path_get_basename(path);

    return g_str_has_prefix(path, "/usr/") && !strstr(path, "..")
           && (g_str_has_prefix(name, "qemu") || g_str_has_prefix(name, "kvm"));
}

static void
emulator_check(Correction *c, xmlNodePtr devices)
{
    xmlNodePtr emulator = kvss_xml_child(devices, "emulator");
    g_autofree char *path = kvss_xml_content(emulator);
    g_autofree char *what = path ? g_strdup_printf("emulator %s", path) : NULL;

    if (path && !is_emulator(path))
        (void) definition_leave_out(c, emulator, what);
}

/* Anything but a label that libvirt makes up for this VM alone lets it out of its confinement. */
static bool
label_confines(xmlNodePtr label)
{
    g_autofree char *type = kvss_xml_attribute(label, "type");

    return (!type || g_str_equal(type, "dynamic"))
           && !kvss_xml_attribute_is(label, "relabel", "no") && !kvss_xml_child(label, "baselabel");
}

/* Files of the host that the guest reads as its firmware's configuration. */
static void
firmware_files_check(Correction *c, xmlNodePtr sysinfo)
{
    xmlNodePtr next;

    for (xmlNodePtr n = kvss_xml_child(sysinfo, "entry"); n; n = next) {
        g_autofree char *file = kvss_xml_attribute(n, "file");
        g_autofree char *what = file ? g_strdup_printf("file %s of the host", file) : NULL;

        next = kvss_xml_next(n, "entry");
        if (file)
            (void) definition_leave_out(c, n, what);
    }
}

static void
root_part_check(Correction *c, xmlNodePtr node)
{
    if (is_extension(node)) {
        g_autofree char *what = g_strdup_printf("the extension <%s>", (const char *) node->name);

        /* The guest may well have had a device by it. */
        device_leave_out(c, node, what);
    } else if (kvss_xml_is(node, "seclabel") && !label_confines(node)) {
        (void) definition_leave_out(c, node, "a security label that lifts the VM's confinement");
    } else if (kvss_xml_is(node, "bootloader")) {
        (void) definition_leave_out(c, node, "a boot program of the host");
    } else if (kvss_xml_is(node, "sysinfo")) {
        firmware_files_check(c, node);
    }
}

void
definition_access_root(Correction *c, xmlNodePtr root)
{
    xmlNodePtr next;

    for (xmlNodePtr n = root->children; n; n = next) {
        next = n->next;
        if (n->type == XML_ELEMENT_NODE)
            root_part_check(c, n);
    }
    emulator_check(c, kvss_xml_child(root, "devices"));
}
