/*
 * test-definition.c - stored definitions corrected: disks, networks, host access, another identity
 *
 * Whatever a definition says is a stranger's word. libvirt's test driver stands for the host.
 */
#include "host/connection.h"
#include "host/xml.h"
#include "writer/domain/definition.h"

#include <glib/gstdio.h>
#include <json-glib/json-glib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/stat.h>
#include <unistd.h>

#define UUID "aaaaaaaa-bbbb-4ccc-8ddd-eeeeeeeeeeee"
#define HEAD "<domain type='test'><name>web</name><uuid>" UUID "</uuid><memory>1024</memory>" \
             "<os><type>hvm</type>%s</os><devices>"
#define TAIL "</devices></domain>"

static KvssComponent *
component_with_disk(const char *target, const char *kind, const char *path, const char *format)
{
    KvssComponent *component = kvss_component_new(UUID, "web");
    KvssDisk *disk = kvss_component_add_disk(component, target);

    kvss_set_string(&disk->kind, kind);
    kvss_set_string(&disk->path, path);
    kvss_set_string(&disk->format, format);
    return component;
}

static char *
correct(const char *devices, const KvssComponent *component, KvssHost *host,
        KvssDefinitionReport *report)
{
    bool has_nvram = kvss_component_find_file(component, "nvram.fd") != NULL;
    g_autofree char *head
        = g_strdup_printf(HEAD, has_nvram ? "<nvram template='/usr/share/t.fd'>/old/VARS.fd</nvram>"
                                          : "");
    g_autofree char *xml = g_strconcat(head, devices, TAIL, NULL);
    g_autoptr(GError) error = NULL;
    char *result = kvss_definition_correct(xml, component, host, NULL, report, &error);

    g_assert_no_error(error);
    return result;
}

static void
assert_has(const char *text, const char *part)
{
    if (!strstr(text, part))
        g_error("'%s' is not in %s", part, text);
}

static void
assert_has_not(const char *text, const char *part)
{
    if (strstr(text, part))
        g_error("'%s' is in %s", part, text);
}

static void
test_disk(void)
{
    g_autoptr(KvssComponent) component
        = component_with_disk("vda", "file", "/new/a & b.qcow2", "qcow2");
    g_auto(KvssDefinitionReport) report = { 0 };
    g_autofree char *xml = correct(
        "<disk type='volume' device='disk'><driver name='qemu' type='raw' cache='none'/>"
        "<source pool='p' volume='v' index='3'><encryption format='luks'/></source>"
        "<backingStore type='file'><format type='raw'/><source file='/base'/></backingStore>"
        "<mirror type='file'/><target dev='vda' bus='virtio'/><serial>S1</serial></disk>"
        "<disk type='file' device='disk'><source file='/other'/><target dev='vdb'/></disk>",
        component, NULL, &report);

    assert_has(xml, "<disk type=\"file\" device=\"disk\">");
    assert_has(xml, "<source file=\"/new/a &amp; b.qcow2\"/><backingStore/>");
    assert_has(xml, "type=\"qcow2\" cache=\"none\"");
    assert_has(xml, "<serial>S1</serial>");
    assert_has_not(xml, "/other"); /* whatever lies there now, it is not the backup's */
    assert_has_not(xml, "/base");
    assert_has_not(xml, "encryption");
    assert_has_not(xml, "mirror");
    assert_has_not(xml, "volume");
    g_assert_cmpuint(report.notes->len, ==, 2);
    g_assert_cmpuint(report.lost_disks->len, ==, 1);
    g_assert_true(report.lost_device);
}

static void
test_block_and_driver(void)
{
    g_autoptr(KvssComponent) component = component_with_disk("vda", "block", "/dev/vg/a", "raw");
    g_autofree char *xml = correct("<disk type='block' device='disk'><source dev='/dev/vg/a'/>"
                                   "<target dev='vda'/></disk>", component, NULL, NULL);

    assert_has(xml, "<disk type=\"block\" device=\"disk\"><driver name=\"qemu\" type=\"raw\"/>"
                    "<source dev=\"/dev/vg/a\"/>");
}

static void
test_nvram_and_media(void)
{
    g_autoptr(KvssComponent) component = kvss_component_new(UUID, "web");
    g_auto(KvssDefinitionReport) report = { 0 };
    g_autofree char *xml = NULL;

    (void) kvss_component_add_file(component, "nvram.fd", "/new/VARS.fd", 0600);
    xml = correct("<disk type='file' device='cdrom'><source file='/no/such.iso'/>"
                  "<target dev='sda'/><readonly/></disk>", component, NULL, &report);
    assert_has(xml, "<nvram template=\"/usr/share/t.fd\">/new/VARS.fd</nvram>");
    assert_has(xml, "startupPolicy=\"optional\"");
    g_assert_cmpuint(report.notes->len, ==, 1);
}

static void
test_networks(void)
{
    g_autoptr(KvssHost) host = kvss_host_open("test:///default", NULL);
    g_autoptr(KvssComponent) component = kvss_component_new(UUID, "web");
    g_auto(KvssDefinitionReport) report = { 0 };
    g_autofree char *xml = correct(
        "<interface type='network'><mac address='52:54:00:00:00:01'/><source network='default'/>"
        "</interface>"
        "<interface type='network'><mac address='52:54:00:00:00:02'/><source network='gone'/>"
        "<vlan><tag id='4'/></vlan></interface>"
        "<interface type='bridge'><mac address='52:54:00:00:00:03'/><source bridge='../lo'/>"
        "</interface><interface type='direct'><source dev='lo'/></interface>"
        "<interface type='user'/>",
        component, host, &report);
    bool expect[] = { true, false, false, true, true };

    g_assert_cmpuint(report.networks->len, ==, G_N_ELEMENTS(expect));
    for (guint i = 0; i < G_N_ELEMENTS(expect); i++) {
        const KvssDefinitionNetwork *network = g_ptr_array_index(report.networks, i);

        g_assert_cmpint(network->is_connected, ==, expect[i]);
    }
    assert_has(xml, "52:54:00:00:00:02");
    assert_has(xml, "<link state=\"down\"/>");
    assert_has(xml, "network=\"default\"");
    assert_has_not(xml, "network=\"gone\"");
    assert_has_not(xml, "vlan");
}

/* What the host would run at the definition's word is left out, and that is said. */
static void
test_nothing_is_run(void)
{
    g_autoptr(KvssComponent) component = kvss_component_new("u", "web01");
    g_auto(KvssDefinitionReport) report = { 0 };
    g_autoptr(GError) error = NULL;
    g_autofree char *xml = kvss_definition_correct(
        "<domain type='qemu' xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'>"
        "<name>web01</name><devices><emulator>/tmp/evil</emulator>"
        "<interface type='ethernet'><script path='/tmp/evil'/><mac address='52:54:00:00:00:01'/>"
        "</interface></devices>"
        "<qemu:commandline><qemu:arg value='-evil'/></qemu:commandline></domain>",
        component, NULL, NULL, &report, &error);

    g_assert_no_error(error);
    g_assert_null(strstr(xml, "evil"));
    g_assert_nonnull(strstr(xml, "52:54:00:00:00:01"));
    g_assert_true(report.left_out_host_access);
    g_assert_cmpuint(report.notes->len, ==, 3);
}

static void
test_hostile_definitions(void)
{
    static const char *const texts[] = {
        "", "no xml", "<domain", "<pool/>",
        "<!DOCTYPE d [<!ENTITY x SYSTEM 'file:///etc/passwd'>]><domain><name>&x;</name></domain>",
        "<domain><devices><disk type='file'><source file='/x'/></disk></devices></domain>",
    };
    g_autoptr(KvssComponent) component = kvss_component_new(UUID, "web");

    for (gsize i = 0; i < G_N_ELEMENTS(texts); i++) {
        g_autoptr(GError) error = NULL;

        g_assert_null(kvss_definition_correct(texts[i], component, NULL, NULL, NULL, &error));
        g_assert_error(error, KVSS_HOST_ERROR, KVSS_HOST_ERROR_INVALID);
    }
}

/* ---- networks ---- */

static void
test_mapped_networks(void)
{
    g_autoptr(KvssHost) host = kvss_host_open("test:///default", NULL);
    g_autoptr(KvssComponent) component = kvss_component_new(UUID, "web");
    g_auto(KvssDefinitionReport) report = { 0 };
    const KvssDefinitionNetwork *network;
    g_autofree char *xml = NULL;

    kvss_set_string(&component->restore_options,
                    "{\"networks\":[{\"from\":\"br0\",\"type\":\"network\",\"to\":\"default\"},"
                    "{\"from\":\"old\",\"type\":\"bridge\",\"to\":\"lo\"}]}");
    xml = correct("<interface type='bridge'><mac address='52:54:00:00:00:01'/><source bridge='br0'/>"
                  "<virtualport type='openvswitch'/><vlan><tag id='4'/></vlan><target dev='tap-web'/>"
                  "<alias name='net0'/><model type='virtio'/></interface>"
                  "<interface type='network'><source network='old' portgroup='p'/></interface>"
                  "<interface type='network'><source network='default'/><target dev='vnet7'/>"
                  "</interface>", component, host, &report);
    assert_has(xml, "<interface type=\"network\"><mac address=\"52:54:00:00:00:01\"/>");
    assert_has(xml, "<source network=\"default\"/>");
    assert_has(xml, "<source bridge=\"lo\"/>");
    assert_has(xml, "<model type=\"virtio\"/>");
    assert_has_not(xml, "portgroup");
    assert_has_not(xml, "virtualport");
    assert_has_not(xml, "vlan");
    assert_has_not(xml, "tap-web");
    assert_has_not(xml, "vnet7");
    assert_has_not(xml, "net0");
    network = g_ptr_array_index(report.networks, 0);
    g_assert_cmpstr(network->was, ==, "br0");
    g_assert_cmpstr(network->source, ==, "default");
    g_assert_true(network->is_connected);
    g_assert_false(report.left_out_host_access);
}

/* ---- host access ---- */

#define CD_LABEL_AT 0x8001

/** One thing that a stranger may ask for. */
typedef struct {
    const char *where;  /* "devices", "domain", "os" */
    const char *text;
    const char *evil;   /* what must not be there afterwards */
    const char *stays;  /* (nullable) what must */
} Reach;

static const Reach reaches[] = {
    { "devices", "<hostdev mode='subsystem' type='pci' managed='yes'><source><address bus='0x1'/>"
                 "</source></hostdev>", "hostdev", NULL },
    { "devices", "<interface type='hostdev'><mac address='52:54:00:00:00:01'/><source>"
                 "<address type='pci'/></source></interface>", "hostdev", NULL },
    { "devices", "<interface type='vdpa'><mac address='52:54:00:00:00:01'/>"
                 "<source dev='/dev/vhost-vdpa-0'/></interface>", "vhost-vdpa", "52:54:00:00:00:01" },
    { "devices", "<interface type='vhostuser'><source type='unix' path='/evil' mode='server'/>"
                 "</interface>", "/evil", "link state=\"down\"" },
    { "devices", "<interface type='direct'><source dev='lo' mode='passthrough'/></interface>",
      "passthrough", "link state=\"down\"" },
    { "devices", "<interface type='client'><source address='10.0.0.1' port='1'/></interface>",
      "10.0.0.1", "link state=\"down\"" },
    { "devices", "<interface type='user'><backend type='passt' logFile='/evil'/></interface>",
      "/evil", "passt" },
    { "devices", "<interface type='bridge'><source bridge='lo'/><script path='/evil'/></interface>",
      "/evil", "bridge=\"lo\"" },
    { "devices", "<filesystem type='mount'><source dir='/evil'/><target dir='x'/></filesystem>",
      "filesystem", NULL },
    { "devices", "<serial type='file'><source path='/srv/user/.ssh/evil'/></serial>", "evil",
      "<serial type=\"null\"/>" },
    { "devices", "<serial type='file'><source path='/var/lib/evil/data'/></serial>", "evil",
      "<serial type=\"null\"/>" },
    { "devices", "<serial type='file'><source path='/etc/evil'/><target port='0'/></serial>"
                 "<console type='file'><source path='/etc/evil'/><target type='serial' port='0'/></console>",
      "/etc/evil", "<serial type=\"null\"><target port=\"0\"/>" },
    { "devices", "<serial type='file'><source path='/home/evil/.ssh/authorized_keys'/></serial>",
      "/home", "<serial type=\"null\"/>" },
    { "devices", "<serial type='file'><source path='/srv/../etc/evil'/></serial>", "evil",
      "<serial type=\"null\"/>" },
    { "devices", "<serial type='pty'><log file='/etc/evil' append='on'/></serial>", "/etc/evil",
      "<serial type=\"pty\"/>" },
    { "devices", "<serial type='tcp'><source mode='connect' host='evil' service='1'/>"
                 "<protocol type='raw'/></serial>", "evil", "<serial type=\"null\"/>" },
    { "devices", "<parallel type='dev'><source path='/dev/evil'/></parallel>", "/dev/evil",
      "<parallel type=\"null\"/>" },
    { "devices", "<channel type='unix'><source mode='bind' path='/etc/evil'/>"
                 "<target type='virtio' name='a'/></channel>", "/etc/evil", "name=\"a\"" },
    { "devices", "<channel type='unix'><source mode='connect' path='/var/lib/libvirt/qemu/channel/x'/>"
                 "<target type='virtio' name='a'/></channel>", "connect", "name=\"a\"" },
    { "devices", "<channel type='pipe'><source path='/evil'/></channel>", "/evil", "channel" },
    { "devices", "<redirdev bus='usb' type='tcp'><source mode='connect' host='evil'/></redirdev>",
      "evil", NULL },
    { "devices", "<smartcard mode='host'/>", "smartcard", NULL },
    { "devices", "<rng model='virtio'><backend model='random'>/evil</backend></rng>", "/evil",
      "/dev/urandom" },
    { "devices", "<rng model='virtio'><backend model='egd' type='tcp'><source host='evil'/></backend>"
                 "</rng>", "evil", "/dev/urandom" },
    { "devices", "<tpm model='tpm-tis'><backend type='passthrough'><device path='/dev/tpm0'/>"
                 "</backend></tpm>", "tpm0", NULL },
    { "devices", "<tpm model='tpm-tis'><backend type='emulator'><source type='dir' path='/evil'/>"
                 "</backend></tpm>", "/evil", "emulator" },
    { "devices", "<shmem name='evil'><model type='ivshmem-plain'/></shmem>", "evil", NULL },
    { "devices", "<memory model='nvdimm'><source><path>/evil</path></source></memory>", "/evil",
      NULL },
    { "devices", "<input type='evdev'><source dev='/dev/input/evil'/></input>", "evil", NULL },
    { "devices", "<lease><lockspace>a</lockspace><target path='/evil'/></lease>", "/evil", NULL },
    { "devices", "<graphics type='vnc' socket='/evil'/>", "/evil", "graphics" },
    { "devices", "<graphics type='spice'><listen type='socket' socket='/evil'/></graphics>", "/evil",
      "graphics" },
    { "devices", "<graphics type='sdl' xauth='/evil'/>", "/evil", NULL },
    { "devices", "<audio id='1' type='file' path='/evil'/>", "/evil", "type=\"none\"" },
    { "devices", "<pstore backend='acpi-erst'><path>/evil</path></pstore>", "/evil", NULL },
    { "devices", "<emulator>/usr/bin/evil</emulator>", "evil", NULL },
    { "devices", "<emulator>/usr/bin/../../qemu-evil</emulator>", "evil", NULL },
    { "devices", "<disk type='file' device='disk'><source file='/etc/shadow'/><target dev='vdb'/>"
                 "</disk>", "shadow", NULL },
    { "devices", "<disk type='block' device='disk'><source dev='/dev/sda'/><target dev='vdb'/>"
                 "</disk>", "/dev/sda", NULL },
    { "devices", "<disk type='network' device='disk'><source protocol='nbd' name='evil'/>"
                 "<target dev='vdb'/></disk>", "evil", NULL },
    { "devices", "<disk type='vhostuser' device='disk'><source type='unix' path='/evil'/>"
                 "<target dev='vdb'/></disk>", "evil", NULL },
    { "devices", "<disk type='file' device='cdrom'><source file='/etc/passwd'/><target dev='sda'/>"
                 "<readonly/></disk>", "passwd", "dev=\"sda\"" },
    { "devices", "<disk type='file' device='cdrom'><source file='/proc/self/environ'/>"
                 "<target dev='sda'/><readonly/></disk>", "environ", "dev=\"sda\"" },
    { "devices", "<disk type='file' device='floppy'><source file='/etc/passwd'/><target dev='fda'/>"
                 "</disk>", "passwd", "dev=\"fda\"" },
    { "devices", "<disk type='dir' device='floppy'><source dir='/root'/><target dev='fda'/></disk>",
      "/root", "dev=\"fda\"" },
    { "os", "<kernel>/etc/passwd</kernel><initrd>/etc/group</initrd><cmdline>x</cmdline>", "/etc",
      NULL },
    { "os", "<initrd>/etc/shadow</initrd>", "shadow", NULL },
    { "os", "<dtb>/etc/passwd</dtb>", "passwd", NULL },
    { "os", "<acpi><table type='slic'>/etc/shadow</table></acpi>", "shadow", NULL },
    { "os", "<loader readonly='yes' type='pflash'>/tmp/evil.fd</loader><nvram>/etc/x</nvram>", "evil",
      "firmware=\"efi\"" },
    { "os", "<loader type='rom'>/usr/share/../../evil</loader>", "evil", NULL },
    { "os", "<nvram template='/etc/shadow'>/etc/cron.d/x</nvram>", "/etc", NULL },
    { "os", "<loader type='pflash' readonly='no'>/usr/share/evil.fd</loader>", "readonly=\"no\"",
      "readonly=\"yes\"" },
    { "os", "<varstore path='/evil'/>", "/evil", NULL },
    { "devices", "<interface type='user'><rom bar='on' file='/etc/shadow'/></interface>", "shadow",
      "bar=\"on\"" },
    { "domain", "<seclabel type='none'/>", "seclabel", NULL },
    { "domain", "<seclabel type='static' model='dac' relabel='yes'><label>root:root</label></seclabel>",
      "root", NULL },
    { "domain", "<seclabel type='dynamic' model='selinux'><baselabel>unconfined</baselabel></seclabel>",
      "unconfined", NULL },
    { "domain", "<sysinfo type='fwcfg'><entry name='opt/x' file='/etc/shadow'/></sysinfo>", "shadow",
      "fwcfg" },
    { "domain", "<bootloader>/evil</bootloader>", "/evil", NULL },
    { "domain", "<qemu:commandline xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'>"
                "<qemu:arg value='-evil'/></qemu:commandline>", "-evil", NULL },
    { "domain", "<qemu:capabilities xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'>"
                "<qemu:add capability='evil'/></qemu:capabilities>", "evil", NULL },
};

static char *
domain_with(const Reach *reach)
{
    bool in_os = g_str_equal(reach->where, "os"), in_devices = g_str_equal(reach->where, "devices");

    return g_strdup_printf("<domain type='kvm'><name>web</name><uuid>" UUID "</uuid><os>"
                           "<type>hvm</type>%s</os>%s<devices>%s</devices></domain>",
                           in_os ? reach->text : "",
                           !in_os && !in_devices ? reach->text : "", in_devices ? reach->text : "");
}

static char *
correct_wished(const char *xml, const char *wishes, KvssDefinitionReport *report)
{
    g_autoptr(KvssComponent) component = kvss_component_new(UUID, "web");
    g_autoptr(GError) error = NULL;
    char *result;

    kvss_set_string(&component->restore_options, wishes);
    result = kvss_definition_correct(xml, component, NULL, NULL, report, &error);
    g_assert_no_error(error);
    return result;
}

static char *
wishes_with_present(const char *present)
{
    g_autoptr(JsonObject) wishes = json_object_new();
    g_autoptr(JsonNode) node = NULL;

    json_object_set_string_member(wishes, "present", present);
    node = json_node_init_object(json_node_alloc(), wishes);
    return json_to_string(node, FALSE);
}

/* Each of these is left out, and that is said. */
static void
test_host_access(void)
{
    for (gsize i = 0; i < G_N_ELEMENTS(reaches); i++) {
        g_auto(KvssDefinitionReport) report = { 0 };
        g_autofree char *xml = domain_with(&reaches[i]);
        g_autofree char *result = correct_wished(xml, NULL, &report);

        assert_has_not(result, reaches[i].evil);
        if (reaches[i].stays)
            assert_has(result, reaches[i].stays);
        g_assert_true(report.left_out_host_access);
        g_assert_cmpuint(report.notes->len, >=, 1);
        g_assert_cmpuint(report.kept->len, ==, 0);
    }
}

/* It is kept when that is asked for; and when the VM that is replaced has just the same. */
static void
test_host_access_granted(void)
{
    for (gsize i = 0; i < G_N_ELEMENTS(reaches); i++) {
        g_autofree char *xml = domain_with(&reaches[i]);
        g_autofree char *present = wishes_with_present(xml);
        const char *const wishes[] = { "{\"allow-host-access\":true}", present };

        for (gsize k = 0; k < G_N_ELEMENTS(wishes); k++) {
            g_auto(KvssDefinitionReport) report = { 0 };
            g_autofree char *result = correct_wished(xml, wishes[k], &report);

            assert_has(result, reaches[i].evil);
            g_assert_false(report.left_out_host_access);
            g_assert_false(report.lost_device);
            g_assert_cmpuint(report.kept->len, >=, 1);
        }
    }
}

/* What another part of the present definition grants is no grant. */
static void
test_grants_are_exact(void)
{
    const Reach cases[][2] = {
        { { "devices", "<filesystem type='mount'><source dir='/srv'/><target dir='x'/></filesystem>" },
          { "devices", "<filesystem type='mount'><source dir='/srv/../etc'/><target dir='x'/>"
                       "</filesystem>", "/srv/../etc" } },
        { { "devices", "<disk type='file' device='cdrom'><driver name='qemu' type='raw'/>"
                       "<source file='/vms/b.img'/><target dev='sda'/><readonly/></disk>" },
          { "devices", "<disk type='file' device='disk'><driver name='qemu' type='raw'/>"
                       "<source file='/vms/b.img'/><target dev='vdb'/></disk>", "/vms/b.img" } },
        { { "devices", "<disk type='file' device='disk'><driver name='qemu' type='raw'/>"
                       "<source file='/vms/b.img'/><target dev='vdb'/></disk>" },
          { "devices", "<disk type='file' device='disk'><driver name='qemu' type='qcow2'/>"
                       "<source file='/vms/b.img'/><target dev='vdb'/></disk>", "/vms/b.img" } },
        { { "os", "<kernel>/etc/passwd</kernel>" },
          { "os", "<initrd>/etc/passwd</initrd>", "/etc/passwd" } },
        { { "domain", "<title>&lt;hostdev/&gt;</title>" },
          { "devices", "<hostdev/>", "hostdev" } },
    };

    for (gsize i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_auto(KvssDefinitionReport) report = { 0 };
        g_autofree char *present = domain_with(&cases[i][0]);
        g_autofree char *wishes = wishes_with_present(present);
        g_autofree char *xml = domain_with(&cases[i][1]);
        g_autofree char *result = correct_wished(xml, wishes, &report);

        assert_has_not(result, cases[i][1].evil);
        g_assert_true(report.left_out_host_access);
    }
}

/* Of two elements libvirt may go by the other one, and of namespaces it sees some and passes over some. */
static void
test_doubtful_shapes(void)
{
    static const char *const shapes[] = {
        "<devices/><devices><hostdev/></devices>",
        "<x:devices xmlns:x='urn:x'/><devices/><devices><hostdev/></devices>",
        "<os><type>hvm</type></os><os><kernel>/etc/shadow</kernel></os>",
        "<os><initrd/><initrd>/etc/shadow</initrd></os>",
        "<devices><x:hostdev xmlns:x='urn:x'/></devices>",
        "<devices><serial x:type='pty' type='file' xmlns:x='urn:x'/></devices>",
        "<devices><disk><source file='/a'/><source file='/b'/></disk></devices>",
        "<devices><serial type='tcp'><source mode='bind'/><source mode='connect'/></serial></devices>",
        "<os xmlns='urn:x'><kernel>/etc/shadow</kernel></os><os/><os/>",
    };
    g_autoptr(KvssComponent) component = kvss_component_new(UUID, "web");

    for (gsize i = 0; i < G_N_ELEMENTS(shapes); i++) {
        g_autofree char *xml = g_strdup_printf("<domain type='kvm'><name>web</name><uuid>" UUID
                                               "</uuid>%s</domain>", shapes[i]);
        g_autoptr(GError) error = NULL;
        g_autofree char *result
            = kvss_definition_correct(xml, component, NULL, NULL, NULL, &error);

        g_assert_error(error, KVSS_HOST_ERROR, KVSS_HOST_ERROR_INVALID);
        g_assert_null(result);
    }
}

/* What libvirt itself writes so is no doubt. */
static void
test_usual_shapes(void)
{
    g_autofree char *result = correct_wished(
        "<domain type='kvm'><name>web</name><uuid>" UUID "</uuid><metadata>"
        "<os:libosinfo xmlns:os='urn:os'><os:os id='x'/><os:os id='y'/></os:libosinfo>"
        "</metadata><os><type>hvm</type><boot dev='hd'/><boot dev='cdrom'/></os>"
        "<cpu><model>a</model><feature name='b'/><feature name='c'/></cpu><devices>"
        "<graphics type='vnc'><listen type='address'/><listen type='address'/></graphics>"
        "<serial type='udp'><source mode='bind' host='a' service='1'/>"
        "<source mode='connect' host='a' service='2'/></serial></devices></domain>",
        "{\"allow-host-access\":true}", NULL);

    assert_has(result, "<os:os id=\"y\"/>");
    assert_has(result, "<source mode=\"connect\"");
}

/* A chain below a medium, or below a disk that the VM has here, would be opened with it. */
static void
test_chains(void)
{
#define CHAIN "<backingStore type='file'><format type='raw'/><source file='/etc/shadow'/>" \
              "</backingStore><mirror type='file'><source file='/etc/shadow'/></mirror>"
#define DISK(chain) "<disk type='file' device='disk'><driver name='qemu' type='qcow2'/>" \
                    "<source file='/vms/b.img'/>" chain "<target dev='vdb'/></disk>"
    const Reach here = { "devices", DISK(""), NULL, NULL };
    const Reach cases[] = {
        { "devices", DISK(CHAIN), "shadow", "/vms/b.img" },
        { "devices", "<disk type='file' device='cdrom'><driver name='qemu' type='raw'/>"
                     "<source file='/vms/no-such.iso'><encryption format='luks'/></source>" CHAIN
                     "<target dev='sda'/></disk>", "shadow", "no-such.iso" },
    };
    g_autofree char *present = domain_with(&here);
    g_autofree char *wishes = wishes_with_present(present);

    for (gsize i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autofree char *xml = domain_with(&cases[i]);
        g_autofree char *result = correct_wished(xml, wishes, NULL);

        assert_has_not(result, cases[i].evil);
        assert_has_not(result, "encryption");
        assert_has(result, cases[i].stays);
    }
}

/* The variables in the backup are one file: what else is said of their place is no part of it. */
static void
test_nvram_elsewhere(void)
{
    g_autoptr(KvssComponent) component = kvss_component_new(UUID, "web");
    g_auto(KvssDefinitionReport) report = { 0 };
    g_autoptr(GError) error = NULL;
    g_autofree char *xml = NULL;

    (void) kvss_component_add_file(component, "nvram.fd", "/new/VARS.fd", 0600);
    xml = kvss_definition_correct(
        "<domain type='kvm'><name>web</name><uuid>" UUID "</uuid><os><type>hvm</type>"
        "<nvram type='block'><source dev='/dev/evil'/></nvram></os></domain>",
        component, NULL, NULL, &report, &error);
    g_assert_no_error(error);
    assert_has_not(xml, "evil");
    g_assert_true(report.left_out_host_access);
}

/* What nearly every VM has needs no permission. */
static void
test_harmless(void)
{
    g_auto(KvssDefinitionReport) report = { 0 };
    g_autofree char *result = correct_wished(
        "<domain type='kvm'><name>web</name><uuid>" UUID "</uuid>"
        "<os firmware='efi'><type>hvm</type>"
        "<loader readonly='yes' type='pflash'>/usr/share/OVMF/OVMF_CODE.fd</loader>"
        "<kernel>/vms/no-such-kernel</kernel></os>"
        "<memoryBacking><source type='memfd'/></memoryBacking>"
        "<seclabel type='dynamic' model='apparmor' relabel='yes'/><resource/><cputune/>"
        "<devices><emulator>/usr/bin/qemu-system-x86_64</emulator>"
        "<controller type='usb' index='0'/><serial type='pty'><target port='0'/></serial>"
        "<serial type='file'><source path='/vms/no-such.log' append='on'/></serial>"
        "<serial type='tcp'><source mode='bind' host='127.0.0.1' service='4555'/></serial>"
        "<channel type='unix'><source mode='bind' path='/run/no-such.sock'/></channel>"
        "<console type='pty'><log file='/var/log/no-such.log'/></console>"
        "<channel type='unix'><target type='virtio' "
        "name='org.qemu.guest_agent.0'/></channel>"
        "<channel type='unix'><source mode='bind' path='/var/lib/libvirt/qemu/channel/target/d/x'/>"
        "<target type='virtio' name='org.old'/></channel>"
        "<channel type='spicevmc'/><redirdev bus='usb' type='spicevmc'/><input type='tablet'/>"
        "<graphics type='vnc' port='-1' autoport='yes'/><video><model type='virtio'/></video>"
        "<audio id='1' type='none'/><sound model='ich9'/><watchdog model='itco'/><memballoon/>"
        "<rng model='virtio'><backend model='random'>/dev/urandom</backend></rng>"
        "<tpm model='tpm-crb'><backend type='emulator' version='2.0'/></tpm>"
        "<vsock><cid auto='yes'/></vsock><panic model='isa'/><iommu model='intel'/>"
        "<interface type='user'><backend type='passt'/></interface>"
        "<disk type='file' device='cdrom'><target dev='sda'/><readonly/></disk>"
        "</devices></domain>", NULL, &report);

    g_assert_false(report.left_out_host_access);
    g_assert_false(report.lost_device);
    g_assert_cmpuint(report.notes->len, ==, 0);
    assert_has(result, "org.old");
    assert_has_not(result, "/var/lib/libvirt/qemu/channel"); /* libvirt makes its own */
    assert_has(result, "no-such-kernel");
    assert_has(result, "/vms/no-such.log");
    assert_has(result, "4555");
    assert_has(result, "/run/no-such.sock");
    assert_has(result, "/var/log/no-such.log");
}

/** A console whose file or socket is @path. Is it kept? */
static bool
end_is_kept(const char *type, const char *path)
{
    g_auto(KvssDefinitionReport) report = { 0 };
    g_autofree char *xml = g_strdup_printf(
        "<domain type='kvm'><name>web</name><uuid>" UUID "</uuid><os><type>hvm</type></os><devices>"
        "<serial type='%s'><source mode='bind' path='%s'/></serial></devices></domain>", type, path);
    g_autofree char *result = correct_wished(xml, NULL, &report);

    g_assert_cmpint(report.left_out_host_access, ==, strstr(result, path) == NULL);
    return strstr(result, path) != NULL;
}

static int
socket_at(const char *path)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);

    g_strlcpy(address.sun_path, path, sizeof address.sun_path);
    g_assert_cmpint(bind(fd, (struct sockaddr *) &address, sizeof address), ==, 0);
    return fd;
}

/* A log goes on, a socket nobody listens at is replaced; an image, a link or a service is not. */
static void
test_ends(void)
{
    g_autofree char *folder = g_dir_make_tmp("kvss-ends-XXXXXX", NULL);
    g_autofree char *log = g_build_filename(folder, "web.log", NULL);
    g_autofree char *image = g_build_filename(folder, "other.qcow2", NULL);
    g_autofree char *link = g_build_filename(folder, "link", NULL);
    g_autofree char *stale = g_build_filename(folder, "stale", NULL);
    g_autofree char *alive = g_build_filename(folder, "alive", NULL);
    int listener;

    g_assert_true(g_file_set_contents(log, "Linux version\n", -1, NULL));
    g_assert_true(g_file_set_contents(image, "QFI\xfb\0\0\0\3", 8, NULL));
    g_assert_cmpint(symlink("/etc/passwd", link), ==, 0);
    g_assert_true(end_is_kept("file", log));
    g_assert_false(end_is_kept("file", image));
    g_assert_false(end_is_kept("file", link));
    g_assert_false(end_is_kept("file", folder));

    close(socket_at(stale));
    listener = socket_at(alive);
    g_assert_cmpint(listen(listener, 1), ==, 0);
    g_assert_true(end_is_kept("unix", stale));
    g_assert_false(end_is_kept("unix", alive));
    g_assert_false(end_is_kept("unix", log));
    close(listener);
    for (int i = 0; i < 5; i++)
        g_unlink((const char *[]){ log, image, link, stale, alive }[i]);
    g_rmdir(folder);
}

static void
write_at(const char *path, const char *bytes, gsize length, off_t at)
{
    FILE *file = fopen(path, "wb");

    g_assert_nonnull(file);
    g_assert_cmpint(fseeko(file, at, SEEK_SET), ==, 0);
    g_assert_cmpuint(fwrite(bytes, 1, length, file), ==, length);
    g_assert_cmpint(fclose(file), ==, 0);
}

/* A file may be in the drive if it is a medium: what is in it says so, not its name. */
static void
test_media(void)
{
    g_autofree char *dir = g_dir_make_tmp("definition-XXXXXX", NULL);
    const struct {
        const char *bytes;
        off_t at;
        const char *format;
        bool stays;
        const char *name;
    } cases[] = {
        { "CD001", CD_LABEL_AT, "raw", true },
        { "CD001", CD_LABEL_AT, "qcow2", false }, /* which may name files behind it */
        { "CD001", 0, "raw", false },
        { "-----BEGIN PRIVATE KEY-----", 0, "raw", false },
        { "#cloud-config", 0, "raw", true, "seed.ISO" },
        { "#cloud-config", 0, "qcow2", false, "seed.iso" },
    };

    for (gsize i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_auto(KvssDefinitionReport) report = { 0 };
        g_autofree char *path = g_build_filename(dir, cases[i].name ? cases[i].name : "a.img", NULL);
        g_autofree char *xml = g_strdup_printf(
            "<domain type='kvm'><name>web</name><uuid>" UUID "</uuid><devices>"
            "<disk type='file' device='cdrom'><driver name='qemu' type='%s'/><source file='%s'/>"
            "<target dev='sda'/><readonly/></disk></devices></domain>", cases[i].format, path);
        g_autofree char *result = NULL;

        write_at(path, cases[i].bytes, strlen(cases[i].bytes), cases[i].at);
        result = correct_wished(xml, NULL, &report);
        g_assert_cmpint(strstr(result, path) != NULL, ==, cases[i].stays);
        g_assert_cmpint(report.left_out_host_access, ==, !cases[i].stays);
        (void) g_unlink(path);
    }
    (void) g_rmdir(dir);
}

/* ---- another identity ---- */

#define NEW_UUID "99999999-8888-4777-8666-555555555555"

static void
test_copy(void)
{
    g_autoptr(KvssComponent) component = kvss_component_new(NEW_UUID, "web2");
    g_auto(KvssDefinitionReport) report = { 0 };
    g_autoptr(GError) error = NULL;
    g_autofree char *xml = NULL;

    kvss_set_string(&component->restore_options,
                    "{\"allow-host-access\":true,\"copy\":{\"genid\":"
                    "\"11111111-2222-4333-8444-555555555555\",\"macs\":"
                    "{\"52:54:00:aa:bb:cc\":\"52:54:00:01:02:03\"}}}");
    (void) kvss_component_add_file(component, "nvram.fd", "/new/web2_VARS.fd", 0600);
    xml = kvss_definition_correct(
        "<domain type='kvm'><name>web</name><uuid>" UUID "</uuid>"
        "<genid>77777777-7777-4777-8777-777777777777</genid><hwuuid>" UUID "</hwuuid>"
        "<sysinfo type='smbios'><system><entry name='uuid'>" UUID "</entry>"
        "<entry name='serial'>s1</entry></system></sysinfo>"
        "<os><type>hvm</type><nvram>/old/web_VARS.fd</nvram></os><devices>"
        "<interface type='user'><mac address='52:54:00:AA:BB:CC'/></interface>"
        "<serial type='file'><source path='/log/web'/></serial>"
        "<channel type='unix'><source mode='bind' path='/run/web.sock'/></channel>"
        "<serial type='pty'><log file='/log/web.log'/></serial>"
        "<graphics type='vnc' port='5901' autoport='no'/>"
        "<disk type='file' device='disk'><source file='/vms/other.img'/><target dev='vdz'/></disk>"
        "<vsock><cid auto='no' address='5'/></vsock></devices></domain>",
        component, NULL, NULL, &report, &error);
    g_assert_no_error(error);
    assert_has(xml, "<name>web2</name>");
    assert_has(xml, "<uuid>" NEW_UUID "</uuid>");
    assert_has(xml, "<genid>11111111-2222-4333-8444-555555555555</genid>");
    assert_has(xml, "<entry name=\"uuid\">" NEW_UUID "</entry>");
    assert_has(xml, "<entry name=\"serial\">s1</entry>");
    assert_has(xml, "52:54:00:01:02:03");
    assert_has(xml, "<nvram>/new/web2_VARS.fd</nvram>");
    assert_has(xml, "autoport=\"yes\"");
    assert_has(xml, "<cid auto=\"yes\"/>");
    assert_has_not(xml, UUID);
    assert_has_not(xml, "AA:BB:CC");
    assert_has_not(xml, "/log/web"); /* shared with nobody, whatever is allowed */
    assert_has_not(xml, "/run/web.sock");
    assert_has_not(xml, "/vms/other.img");
    assert_has_not(xml, "5901");
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/definition/disk", test_disk);
    g_test_add_func("/definition/block", test_block_and_driver);
    g_test_add_func("/definition/nvram-media", test_nvram_and_media);
    g_test_add_func("/definition/networks", test_networks);
    g_test_add_func("/definition/networks-mapped", test_mapped_networks);
    g_test_add_func("/definition/hostile", test_hostile_definitions);
    g_test_add_func("/definition/nothing-is-run", test_nothing_is_run);
    g_test_add_func("/definition/host-access", test_host_access);
    g_test_add_func("/definition/host-access-granted", test_host_access_granted);
    g_test_add_func("/definition/grants-are-exact", test_grants_are_exact);
    g_test_add_func("/definition/doubtful-shapes", test_doubtful_shapes);
    g_test_add_func("/definition/usual-shapes", test_usual_shapes);
    g_test_add_func("/definition/chains", test_chains);
    g_test_add_func("/definition/nvram-elsewhere", test_nvram_elsewhere);
    g_test_add_func("/definition/harmless", test_harmless);
    g_test_add_func("/definition/ends", test_ends);
    g_test_add_func("/definition/media", test_media);
    g_test_add_func("/definition/copy", test_copy);
    return g_test_run();
}
