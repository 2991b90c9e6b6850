/*
 * test-domain-config.c - definitions, also a stranger's
 */
#include "host/domain-config.h"

#include <string.h>

#define UUID "4b1e0b5e-0000-4000-8000-000000000001"

static KvssDomainConfig *
parse(const char *inside)
{
    g_autofree char *xml = g_strdup_printf(
        "<domain type='qemu'><name>web01</name><uuid>" UUID "</uuid>%s</domain>", inside);
    g_autoptr(GError) error = NULL;
    KvssDomainConfig *config = kvss_domain_config_parse(xml, &error);

    g_assert_no_error(error);
    return config;
}

static const KvssDiskConfig *
disk(const KvssDomainConfig *config, guint i)
{
    g_assert_cmpuint(i, <, config->disks->len);
    return g_ptr_array_index(config->disks, i);
}

static void
test_disks(void)
{
    g_autoptr(KvssDomainConfig) config = parse(
        "<devices>"
        "<disk type='file' device='disk'><driver name='qemu' type='qcow2'/>"
        "<source file='/i/a.qcow2'/><backingStore type='file'><source file='/i/b'/></backingStore>"
        "<target dev='vda'/></disk>"
        "<disk type='block' device='lun'><source dev='/dev/sdx'/><target dev='sda'/></disk>"
        "<disk type='network'><driver type='raw'/><source protocol='iscsi' name='iqn/1'>"
        "<host name='store' port='3260'/><host name='second'/></source><target dev='vdb'/><readonly/></disk>"
        "<disk type='volume'><source pool='p' volume='v'/><target dev='vdc'/><shareable/></disk>"
        "<disk device='cdrom'><target dev='hda'/></disk>"
        "</devices>");

    g_assert_cmpstr(disk(config, 0)->source, ==, "/i/a.qcow2");
    g_assert_cmpstr(disk(config, 0)->format, ==, "qcow2");
    g_assert_true(disk(config, 0)->has_backing);
    g_assert_cmpstr(disk(config, 1)->device, ==, "lun");
    g_assert_cmpstr(disk(config, 1)->source, ==, "/dev/sdx");
    g_assert_cmpstr(disk(config, 1)->format, ==, "raw");
    g_assert_cmpstr(disk(config, 2)->protocol, ==, "iscsi");
    g_assert_cmpstr(disk(config, 2)->server, ==, "store:3260");
    g_assert_true(disk(config, 2)->is_readonly);
    g_assert_cmpstr(disk(config, 3)->source, ==, "p/v");
    g_assert_true(disk(config, 3)->is_shareable);
    g_assert_null(disk(config, 4)->source);
}

/* As a guest would say where it found them. */
static void
test_addresses(void)
{
    static const KvssPciAddress virtio = { 0, 4, 0, 0 }, sata = { 0, 0, 0x1f, 2 };
    static const unsigned second[3] = { 0, 0, 1 };
    g_autofree char *expected_virtio = kvss_disk_address(&virtio, NULL);
    g_autofree char *expected_sata = kvss_disk_address(&sata, second);
    g_autoptr(KvssDomainConfig) config = parse(
        "<devices>"
        "<disk type='file'><target dev='vda' bus='virtio'/>"
        "<address type='pci' domain='0x0000' bus='0x04' slot='0x00' function='0x0'/></disk>"
        "<disk type='file'><target dev='sdb' bus='sata'/>"
        "<address type='drive' controller='0' bus='0' target='0' unit='1'/></disk>"
        "<disk type='file'><target dev='sdc' bus='scsi'/>"
        "<address type='drive' controller='7' bus='0' target='0' unit='1'/></disk>"
        "<disk type='file'><target dev='sdd' bus='usb'/><address type='usb' bus='0' port='1'/></disk>"
        "<controller type='scsi' index='0'><address type='pci' bus='0x05' slot='0x00'/></controller>"
        "<controller type='sata' index='0'>"
        "<address type='pci' domain='0x0000' bus='0x00' slot='0x1f' function='0x2'/></controller>"
        "</devices>");

    g_assert_cmpstr(expected_virtio, ==, "0:4:0.0");
    g_assert_cmpstr(expected_sata, ==, "0:0:1f.2/0:0:1");
    g_assert_cmpstr(disk(config, 0)->address, ==, expected_virtio);
    g_assert_cmpstr(disk(config, 1)->address, ==, expected_sata);
    g_assert_null(disk(config, 2)->address); /* its controller is not there */
    g_assert_null(disk(config, 3)->address);
}

static void
test_firmware(void)
{
    g_autoptr(KvssDomainConfig) chosen = parse("<os firmware='efi'><type>hvm</type></os>");
    g_autoptr(KvssDomainConfig) named = parse(
        "<os><loader readonly='yes' type='pflash'>/f/code.fd</loader>"
        "<nvram template='/f/vars.fd' type='file'><source file='/n/web01.fd'/></nvram></os>");

    g_assert_true(chosen->chooses_firmware);
    g_assert_null(chosen->nvram);
    g_assert_null(chosen->loader);
    g_assert_cmpstr(named->nvram, ==, "/n/web01.fd");
    g_assert_cmpstr(named->nvram_template, ==, "/f/vars.fd");
    g_assert_cmpstr(named->loader, ==, "/f/code.fd");
}

static void
test_rest(void)
{
    g_autoptr(KvssDomainConfig) config = parse(
        "<os><nvram>/n/web01.fd</nvram><kernel>/k</kernel></os>"
        "<devices><channel type='unix'>"
        "<target type='virtio' name='org.qemu.guest_agent.0' state='connected'/></channel>"
        "<interface type='network'><mac address='52:54:00:00:00:01'/>"
        "<source network='default'/></interface>"
        "<hostdev mode='subsystem' type='pci'/>"
        "<filesystem><source dir='/srv'/><target dir='share'/></filesystem>"
        "<tpm model='tpm-crb'><backend type='emulator'/></tpm></devices>"
        "<seclabel type='dynamic' model='dac'><label>+64055:+106</label></seclabel>");

    g_assert_cmpstr(config->nvram, ==, "/n/web01.fd");
    g_assert_false(config->chooses_firmware);
    g_assert_cmpstr(config->kernel, ==, "/k");
    g_assert_null(config->initrd);
    g_assert_true(config->has_agent_channel && config->agent_connected && config->has_tpm);
    g_assert_cmpint(config->owner_uid, ==, 64055);
    g_assert_cmpint(config->owner_gid, ==, 106);
    g_assert_cmpuint(config->interfaces->len, ==, 1);
    g_assert_cmpuint(config->passthrough->len, ==, 2);
}

static void
refused(const char *xml, const char *word)
{
    g_autoptr(GError) error = NULL;
    KvssDomainConfig *config = kvss_domain_config_parse(xml, &error);

    g_assert_null(config);
    g_assert_error(error, KVSS_HOST_ERROR, KVSS_HOST_ERROR_INVALID);
    g_assert_nonnull(strstr(error->message, word));
}

static void
test_hostile(void)
{
    g_autofree char *long_text = g_strnfill(11 * 1024 * 1024, ' ');

    refused("", "well-formed");
    refused("<domain><name>a</name>", "well-formed");
    refused("<network/>", "<domain>");
    refused("<domain><name>a</name><uuid>no</uuid></domain>", "UUID");
    refused("<domain><uuid>" UUID "</uuid></domain>", "name");
    refused("<domain><name>a</name><uuid>" UUID "</uuid><devices><disk>"
            "<target dev='../../etc/passwd'/></disk></devices></domain>", "target");
    refused(long_text, "too long");
}

/* An entity that names a file must not bring the file in. */
static void
test_external_entity(void)
{
    const char *xml = "<!DOCTYPE d [<!ENTITY x SYSTEM 'file:///etc/hostname'>]>"
                      "<domain><name>a&x;</name><uuid>" UUID "</uuid></domain>";
    g_autoptr(KvssDomainConfig) config = kvss_domain_config_parse(xml, NULL);

    g_assert_true(!config || g_str_equal(config->name, "a"));
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/domain-config/disks", test_disks);
    g_test_add_func("/domain-config/addresses", test_addresses);
    g_test_add_func("/domain-config/rest", test_rest);
    g_test_add_func("/domain-config/firmware", test_firmware);
    g_test_add_func("/domain-config/hostile", test_hostile);
    g_test_add_func("/domain-config/external-entity", test_external_entity);
    return g_test_run();
}
