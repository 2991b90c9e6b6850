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
        "<disk type='network'><driver type='raw'/><source protocol='iscsi' name='iqn/1'/>"
        "<target dev='vdb'/><readonly/></disk>"
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
    g_assert_true(disk(config, 2)->is_readonly);
    g_assert_cmpstr(disk(config, 3)->source, ==, "p/v");
    g_assert_true(disk(config, 3)->is_shareable);
    g_assert_null(disk(config, 4)->source);
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
    g_test_add_func("/domain-config/rest", test_rest);
    g_test_add_func("/domain-config/hostile", test_hostile);
    g_test_add_func("/domain-config/external-entity", test_external_entity);
    return g_test_run();
}
