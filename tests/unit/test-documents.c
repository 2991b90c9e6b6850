/*
 * test-documents.c - the two documents: written, valid by their schemas, read, refused
 *
 * Three that must agree: the writer, the reader, and the schema as libxml2 sees it.
 * What is written is valid and is read; what is read is valid, however it came about.
 */
#include "schema.h"
#include "vss/documents.h"

#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#define WM "writer-metadata.xsd"
#define BC "backup-components.xsd"
#define MIB (1024 * 1024)

static GPtrArray *
components_new(void)
{
    return g_ptr_array_new_with_free_func((GDestroyNotify) kvss_component_free);
}

static KvssWriterIdentity
vm_writer(GPtrArray *components)
{
    return (KvssWriterIdentity) {
        .class_id = "66841CD4-6DED-4F4B-8F17-FD23F8DDC3DE",
        .friendly_name = "Microsoft Hyper-V VSS Writer",
        .instance_id = "2b7d5a0e-0a43-4f4d-a9c8-5f6f3b1f9c77",
        .instance_name = "kvss VM writer, qemu:///system",
        .level = KVSS_LEVEL_BACK_END,
        .components = components,
    };
}

/* Chosen, in @set. */
static KvssComponent *
choose(KvssSnapshotSet *set, KvssComponent *component)
{
    component->is_selected = component->is_explicit = true;
    g_ptr_array_add(set->components, component);
    return component;
}

static GBytes *
golden(const char *name)
{
    g_autofree char *path = g_build_filename(GOLDEN_DIR, "documents", name, NULL);
    char *text;
    gsize length;

    g_assert_true(g_file_get_contents(path, &text, &length, NULL));
    return g_bytes_new_take(text, length);
}

/* --- written ---------------------------------------------------------------------- */

static KvssComponent *
web01(void)
{
    KvssComponent *component = kvss_component_new("6f1c9a34-7f0b-4b0c-9f62-1c5b8a0d2e11", "web01");
    g_autoptr(GBytes) bytes = g_bytes_new_static("<domain/>", 9);

    kvss_set_string(&component->caption, "Online\\web01");
    kvss_set_string(&component->metadata, "vm/>");
    component->is_selectable = component->is_selectable_for_restore = true;
    component->is_notified = true;
    component->backup_succeeded = true;
    kvss_set_string(&kvss_component_add_disk(component, "vda")->path,
                    "/var/lib//libvirt/./images/a&b.qcow2");
    kvss_set_string(&kvss_component_add_disk(component, "vdc")->path,
                    "/var/lib/libvirt/images/a&b.qcow2"); /* the same again */
    kvss_set_string(&kvss_component_add_disk(component, "vdd")->path, "/var/../x.raw");
    kvss_component_add_disk(component, "vdb"); /* on a network: no file of this host */
    kvss_component_add_bytes(component, "domain.xml", bytes, 0600);
    kvss_component_add_file(component, "nvram.fd", "/var/lib/kvss/copy", 0600)->original
        = g_strdup("/var/lib/libvirt/qemu/nvram/web01_VARS.fd");
    return component;
}

/* A component of files: what its file set found has no entry of its own. */
static KvssComponent *
libvirt_files(void)
{
    KvssComponent *component = kvss_component_new("libvirt", "libvirt");

    kvss_set_string(&component->logical_path, "host\\etc");
    kvss_set_string(&component->caption, "");
    component->is_selectable = component->is_notified = false;
    component->is_selectable_for_restore = true;
    kvss_component_add_file_set(component, "/etc/libvirt/", "*.conf", true);
    kvss_component_add_file_set(component, "/etc/libvirt", "qemu.d", false);
    kvss_component_add_file_set(component, "relative", "*", true);
    kvss_component_add_file(component, "a", "/run/kvss/a", 0600)->original
        = g_strdup("/etc/libvirt/libvirtd.conf");
    kvss_component_add_file(component, "b", "/run/kvss/b", 0600)->original
        = g_strdup("/etc/libvirt/storage/pool.conf");
    kvss_component_fail(component, KVSS_E_WRITERERROR_TIMEOUT, "\"no\" answer\nin %d s", 5);
    return component;
}

static void
test_writer_metadata(void)
{
    g_autoptr(GPtrArray) components = components_new();
    KvssWriterIdentity writer = vm_writer(components);
    g_autoptr(GBytes) expected = golden("writer-metadata-2.xml");
    g_autoptr(GError) error = NULL;
    g_autofree char *text = NULL;

    g_ptr_array_add(components, web01());
    g_ptr_array_add(components, libvirt_files());
    text = kvss_writer_metadata_document(&writer, &error);
    g_assert_no_error(error);
    g_assert_cmpstr(text, ==, g_bytes_get_data(expected, NULL));
}

/* A writer without a chosen component is not in it; what came along with another neither. */
static void
test_backup_components(void)
{
    g_autoptr(GPtrArray) components = components_new();
    g_autoptr(GPtrArray) others = components_new();
    g_autoptr(KvssSnapshotSet) set = kvss_snapshot_set_new();
    KvssWriterIdentity writers[] = { vm_writer(components), vm_writer(others) };
    g_autoptr(GBytes) expected = golden("backup-components-2.xml");
    g_autoptr(GError) error = NULL;
    g_autofree char *text = NULL;

    g_ptr_array_add(components, choose(set, web01()));
    g_ptr_array_add(components, kvss_component_new("other", "db01"));
    g_ptr_array_add(components, choose(set, libvirt_files()));
    g_ptr_array_add(others, choose(set, kvss_component_new("implicit", "x")));
    ((KvssComponent *) others->pdata[0])->is_explicit = false;
    set->context = KVSS_ATTR_NO_AUTORECOVERY;
    set->backup_type = KVSS_BT_FULL;
    kvss_set_string(&set->id, "0C1D2E3F-1111-4222-8333-944444444444");
    text = kvss_backup_components_document(set, writers, G_N_ELEMENTS(writers), &error);
    g_assert_no_error(error);
    g_assert_cmpstr(text, ==, g_bytes_get_data(expected, NULL));
}

/* What XML or a terminal cannot hold is replaced: the document can always be read again. */
static void
test_hostile_names(void)
{
    g_autoptr(GPtrArray) components = components_new();
    KvssWriterIdentity writer = vm_writer(components);
    g_autofree char *text = NULL;

    g_ptr_array_add(components, kvss_component_new("a\x01\xff\xc2\x9b\t\"<b>&amp;", "x"));
    text = kvss_writer_metadata_document(&writer, NULL);
    g_assert_nonnull(text);
    g_assert_nonnull(strstr(text, "componentName=\"a\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD "
                                  "&quot;&lt;b&gt;&amp;amp;\""));
}

static const char *const odd[] = {
    "a", "web-01", "\xc3\xa9", "\xf0\x9f\x92\xbe", "\xe2\x80\xae", "\xef\xbf\xbf", "\xed\xa0\x80",
    "\xff\xfe", "\xc2\x9b[2J", "\x1b]0;x\x07", "\x7f", "\t", "\n", "\r\n", " ", "<", ">", "&",
    "&amp;", "&#0;", "&#x9b;", "]]>", "-->", "<!DOCTYPE x>", "'", "\"", "%s%n", "..", ".", "*?",
    "\xf4\x90\x80\x80", "=", ";",
};

static char *
odd_text(GRand *rand, const char *first, unsigned max)
{
    GString *text = g_string_new(first);

    for (int n = g_rand_int_range(rand, 0, (gint32) max + 1); n > 0; n--)
        g_string_append(text, odd[g_rand_int_range(rand, 0, G_N_ELEMENTS(odd))]);
    return g_string_free(text, FALSE);
}

static void
set_odd(GRand *rand, char **field, const char *first, unsigned max)
{
    g_free(*field);
    *field = g_rand_boolean(rand) ? odd_text(rand, first, max) : NULL;
}

static void
add_odd_files(GRand *rand, KvssComponent *component)
{
    for (int n = g_rand_int_range(rand, 0, 12); n > 0; n--) {
        g_autofree char *path = odd_text(rand, g_rand_boolean(rand) ? "/srv/" : "", 8);
        g_autofree char *spec = odd_text(rand, "x", 4);

        switch (g_rand_int_range(rand, 0, 3)) {
        case 0:
            kvss_set_string(&kvss_component_add_disk(component, "vda")->path, path);
            break;
        case 1:
            kvss_component_add_file(component, "f", path, 0600);
            break;
        default:
            kvss_component_add_file_set(component, path, spec, g_rand_boolean(rand));
        }
    }
}

static KvssComponent *
odd_component(GRand *rand, unsigned number)
{
    g_autofree char *first = g_strdup_printf("c%u-", number);
    g_autofree char *name = odd_text(rand, first, 6);
    KvssComponent *component = kvss_component_new(name, "x");

    set_odd(rand, &component->logical_path, "A\\b", 5);
    set_odd(rand, &component->caption, "", 3000);
    set_odd(rand, &component->metadata, "", 50);
    component->is_notified = g_rand_boolean(rand);
    component->is_selectable = g_rand_boolean(rand);
    component->is_selectable_for_restore = g_rand_boolean(rand);
    component->backup_succeeded = g_rand_boolean(rand);
    if (!component->backup_succeeded)
        kvss_component_fail(component, g_rand_int(rand) | 1, "%s",
                            odd[g_rand_int_range(rand, 0, G_N_ELEMENTS(odd))]);
    add_odd_files(rand, component);
    return component;
}

static void
assert_group_is(const KvssFileGroup *group, const KvssComponent *component)
{
    g_autofree char *first = g_strdup(component->name);

    *strchr(first, '-') = '\0';
    g_assert_true(g_str_has_prefix(group->name, first));
    g_assert_cmpint(group->is_notified, ==, component->is_notified);
    g_assert_cmpint(group->is_selectable, ==, component->is_selectable);
    g_assert_cmpint(group->is_selectable_for_restore, ==, component->is_selectable_for_restore);
    g_assert_cmpint(group->restores_metadata, ==, component->metadata != NULL);
}

static void
assert_chosen_is(const KvssChosenComponent *chosen, const KvssComponent *component)
{
    g_assert_cmpint(chosen->backup_succeeded, ==, component->backup_succeeded);
    g_assert_cmpuint(chosen->failure, ==, component->failure);
    g_assert_cmpstr(chosen->metadata, ==, component->metadata);
}

static void
check_writer_metadata(const KvssWriterIdentity *writer)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *text = kvss_writer_metadata_document(writer, &error);
    g_autoptr(GBytes) bytes = NULL;
    g_autoptr(KvssWriterMetadata) read = NULL;

    g_assert_no_error(error);
    g_assert_true(schema_takes(WM, text, strlen(text), true));
    bytes = g_bytes_new_static(text, strlen(text));
    read = kvss_writer_metadata_read(bytes, &error);
    g_assert_no_error(error);
    g_assert_cmpint(read->level, ==, writer->level);
    g_assert_cmpint(g_ascii_strcasecmp(read->class_id, writer->class_id), ==, 0);
    g_assert_cmpuint(read->groups->len, ==, writer->components->len);
    for (guint i = 0; i < read->groups->len; i++)
        assert_group_is(read->groups->pdata[i], writer->components->pdata[i]);
}

static void
check_backup_components(const KvssSnapshotSet *set, const KvssWriterIdentity *writer)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *text = kvss_backup_components_document(set, writer, 1, &error);
    g_autoptr(GBytes) bytes = NULL;
    g_autoptr(KvssBackupComponents) read = NULL;
    GPtrArray *chosen;

    g_assert_no_error(error);
    g_assert_true(schema_takes(BC, text, strlen(text), true));
    bytes = g_bytes_new_static(text, strlen(text));
    read = kvss_backup_components_read(bytes, &error);
    g_assert_no_error(error);
    g_assert_cmpstr(read->set_id, ==, set->id);
    g_assert_cmpuint(read->context, ==, set->context);
    g_assert_cmpint(read->backup_type, ==, set->backup_type);
    g_assert_cmpuint(read->writers->len, ==, set->components->len > 0);
    if (read->writers->len == 0)
        return;
    chosen = ((KvssChosenWriter *) read->writers->pdata[0])->components;
    g_assert_cmpuint(chosen->len, ==, set->components->len);
    for (guint i = 0; i < chosen->len; i++)
        assert_chosen_is(chosen->pdata[i], set->components->pdata[i]);
}

/* Whatever names and files there are: what is written is valid, and is read as it was meant. */
static void
test_generated(void)
{
    g_autoptr(GRand) rand = g_rand_new_with_seed(20221122);

    for (unsigned round = 0; round < 200; round++) {
        g_autoptr(GPtrArray) components = components_new();
        g_autoptr(KvssSnapshotSet) set = kvss_snapshot_set_new();
        KvssWriterIdentity writer = vm_writer(components);

        set->context = g_rand_int(rand);
        set->backup_type = g_rand_boolean(rand) ? KVSS_BT_FULL : KVSS_BT_COPY;
        writer.level = (KvssApplicationLevel) g_rand_int_range(rand, 1, 4);
        writer.friendly_name = odd[round % G_N_ELEMENTS(odd)];
        if (round % 3 == 0)
            writer.friendly_name = writer.instance_name = "";
        for (unsigned i = 0; i < round % 20; i++) {
            g_ptr_array_add(components, odd_component(rand, i));
            if (g_rand_boolean(rand))
                choose(set, components->pdata[i]);
        }
        check_writer_metadata(&writer);
        check_backup_components(set, &writer);
    }
}

static void
test_long_lists(void)
{
    g_autoptr(GPtrArray) components = components_new();
    g_autoptr(KvssSnapshotSet) set = kvss_snapshot_set_new();
    KvssWriterIdentity writer = vm_writer(components);

    for (unsigned i = 0; i < 5000; i++) {
        g_autofree char *name = g_strdup_printf("6f1c9a34-7f0b-4b0c-9f62-%012u", i);
        g_autofree char *path = g_strdup_printf("/var/lib/libvirt/images/web-%u.qcow2", i);
        KvssComponent *component = kvss_component_new(name, "web");

        for (unsigned n = 0; n < 4; n++) {
            g_autofree char *disk = g_strdup_printf("%s-%u", path, n);

            kvss_set_string(&kvss_component_add_disk(component, "vda")->path, disk);
        }
        kvss_set_string(&component->metadata, "{\"a\":1}");
        g_ptr_array_add(components, choose(set, component));
    }
    check_writer_metadata(&writer);
    check_backup_components(set, &writer);
}

/* There is a maximum, and passing it is told; so is what could never be read again. */
static void
test_not_written(void)
{
    g_autoptr(GPtrArray) components = components_new();
    g_autoptr(KvssSnapshotSet) set = kvss_snapshot_set_new();
    KvssWriterIdentity writer = vm_writer(components);
    g_autoptr(GError) large = NULL, many = NULL, twice = NULL;
    KvssComponent *component = choose(set, kvss_component_new("web", "web"));

    g_ptr_array_add(components, component);
    component->metadata = g_strnfill(13 * MIB, 'x');
    g_assert_null(kvss_backup_components_document(set, &writer, 1, &large));
    g_assert_error(large, KVSS_DOCUMENT_ERROR, KVSS_DOCUMENT_ERROR_TOO_LARGE);
    g_assert_nonnull(strstr(large->message, "more than 16777216"));
    for (unsigned i = 0; i < 100000; i++) {
        g_autofree char *path = g_strdup_printf("/x/%u", i);

        kvss_component_add_file(component, "f", path, 0600);
    }
    g_assert_null(kvss_writer_metadata_document(&writer, &many));
    g_assert_error(many, KVSS_DOCUMENT_ERROR, KVSS_DOCUMENT_ERROR_TOO_LARGE);
    g_assert_nonnull(strstr(many->message, "100000 elements"));
    g_ptr_array_set_size(component->files, 0);
    g_ptr_array_add(components, kvss_component_new("web", "web"));
    g_assert_null(kvss_writer_metadata_document(&writer, &twice));
    g_assert_error(twice, KVSS_DOCUMENT_ERROR, KVSS_DOCUMENT_ERROR_CORRUPT);
    g_assert_nonnull(strstr(twice->message, "component 'web' is there twice"));
}

/* --- read --------------------------------------------------------------------------- */

/* Documents of today, and of a kvss that did not write levels, contexts and failures yet. */
static void
test_golden(void)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(GBytes) old_wm = golden("writer-metadata-1.xml");
    g_autoptr(GBytes) new_wm = golden("writer-metadata-2.xml");
    g_autoptr(GBytes) old_bc = golden("backup-components-1.xml");
    g_autoptr(GBytes) new_bc = golden("backup-components-2.xml");
    g_autoptr(KvssWriterMetadata) wm1 = kvss_writer_metadata_read(old_wm, &error);
    g_autoptr(KvssWriterMetadata) wm2 = kvss_writer_metadata_read(new_wm, &error);
    g_autoptr(KvssBackupComponents) bc1 = kvss_backup_components_read(old_bc, &error);
    g_autoptr(KvssBackupComponents) bc2 = kvss_backup_components_read(new_bc, &error);
    const KvssFileGroup *group;
    const KvssDocumentFiles *files;
    const KvssChosenWriter *writer;
    const KvssChosenComponent *chosen;

    g_assert_no_error(error);
    g_assert_cmpint(wm1->level, ==, KVSS_LEVEL_FRONT_END);
    g_assert_cmpint(wm2->level, ==, KVSS_LEVEL_BACK_END);
    g_assert_cmpuint(wm1->groups->len, ==, 1);
    group = wm2->groups->pdata[1];
    g_assert_cmpstr(group->logical_path, ==, "host\\etc");
    g_assert_cmpstr(group->name, ==, "libvirt");
    g_assert_null(group->caption);
    g_assert_false(group->is_selectable);
    g_assert_cmpuint(group->flags, ==, 1);
    files = group->files->pdata[0];
    g_assert_cmpstr(files->path, ==, "/etc/libvirt");
    g_assert_cmpstr(files->filespec, ==, "*.conf");
    g_assert_true(files->is_recursive);
    files = ((KvssFileGroup *) wm2->groups->pdata[0])->files->pdata[0];
    g_assert_cmpstr(files->filespec, ==, "a&b.qcow2");

    g_assert_cmpuint(bc1->context, ==, KVSS_CTX_BACKUP);
    g_assert_cmpint(bc1->backup_type, ==, KVSS_BT_COPY);
    g_assert_cmpuint(bc2->context, ==, KVSS_ATTR_NO_AUTORECOVERY);
    g_assert_cmpint(bc2->backup_type, ==, KVSS_BT_FULL);
    g_assert_cmpstr(bc2->set_id, ==, "0c1d2e3f-1111-4222-8333-944444444444");
    writer = bc2->writers->pdata[0];
    g_assert_cmpstr(writer->instance_name, ==, "kvss VM writer, qemu:///system");
    g_assert_cmpuint(writer->backup_schema, ==, 272);
    chosen = writer->components->pdata[0];
    g_assert_true(chosen->backup_succeeded);
    g_assert_cmpstr(chosen->metadata, ==, "vm/>");
    chosen = writer->components->pdata[1];
    g_assert_false(chosen->backup_succeeded);
    g_assert_cmpuint(chosen->failure, ==, KVSS_E_WRITERERROR_TIMEOUT);
    g_assert_cmpstr(chosen->failure_message, ==, "\"no\" answer in 5 s");
    g_assert_null(chosen->metadata);
}

static void
test_excludes(void)
{
    g_autoptr(GBytes) bytes = golden("writer-metadata-2.xml");
    g_autoptr(GString) text = g_string_new(g_bytes_get_data(bytes, NULL));
    g_autoptr(GBytes) changed = NULL;
    g_autoptr(KvssWriterMetadata) read = NULL;
    const KvssDocumentFiles *files;

    g_string_replace(text, "<BACKUP_LOCATIONS>",
                     "<BACKUP_LOCATIONS><EXCLUDE_FILES path='/' filespec='*.kvss-tmp' "
                     "recursive = 'no' ></EXCLUDE_FILES>", 1);
    g_assert_true(schema_takes(WM, text->str, text->len, true));
    changed = g_bytes_new(text->str, text->len);
    read = kvss_writer_metadata_read(changed, NULL);
    g_assert_cmpuint(read->excludes->len, ==, 1);
    files = read->excludes->pdata[0];
    g_assert_cmpstr(files->path, ==, "/");
    g_assert_cmpstr(files->filespec, ==, "*.kvss-tmp");
    g_assert_false(files->is_recursive);
    g_assert_cmpuint(read->groups->len, ==, 2);
}

/* --- refused ------------------------------------------------------------------------- */

static bool
read_either(bool is_wm, GBytes *bytes, GError **error)
{
    g_autoptr(KvssWriterMetadata) wm = is_wm ? kvss_writer_metadata_read(bytes, error) : NULL;
    g_autoptr(KvssBackupComponents) bc = is_wm ? NULL : kvss_backup_components_read(bytes, error);

    return wm || bc;
}

typedef struct {
    bool is_wm;
    const char *old, *new; /* in the golden document: this becomes that */
    const char *words;     /* of the error */
    KvssDocumentError code;
} Lie;

#define IN_WM true
#define IN_BC false
#define CODE(name) KVSS_DOCUMENT_ERROR_##name

static const Lie lies[] = {
    /* encodings and characters */
    { IN_WM, "UTF-8", "ISO-8859-1", "line 1: does not begin with", CODE(CORRUPT) },
    { IN_WM, "UTF-8", "UTF-16", "line 1: does not begin with", CODE(CORRUPT) },
    { IN_WM, "<?xml", "\xEF\xBB\xBF<?xml", "does not begin with", CODE(CORRUPT) },
    { IN_WM, "web01\"", "w\xe9" "b01\"", "line 6: is not UTF-8", CODE(CORRUPT) },
    { IN_WM, "web01\"", "w\xc0\xaf\"", "line 6: is not UTF-8", CODE(CORRUPT) },
    { IN_WM, "web01\"", "w\x1b[2J\"", "line 6: has the character U+001B", CODE(CORRUPT) },
    { IN_WM, "web01\"", "w\xc2\x9b" "2J\"", "has the character U+009B", CODE(CORRUPT) },
    { IN_WM, "web01\"", "w\xef\xbf\xbe\"", "has the character U+FFFE", CODE(CORRUPT) },
    { IN_WM, "web01\"", "w\r\"", "has the character U+000D", CODE(CORRUPT) },
    { IN_WM, "web01\"", "w\n\"", "line 6: caption holds a character", CODE(CORRUPT) },
    { IN_WM, "web01\"", "w&#0;\"", "caption holds a character or a reference", CODE(CORRUPT) },
    { IN_WM, "web01\"", "w&#x9B;\"", "caption holds", CODE(CORRUPT) },
    { IN_WM, "web01\"", "w&#10;\"", "caption holds", CODE(CORRUPT) },
    { IN_WM, "web01\"", "w&#xD800;\"", "caption holds", CODE(CORRUPT) },
    { IN_WM, "web01\"", "w&#4294967361;\"", "caption holds", CODE(CORRUPT) },
    { IN_WM, "web01\"", "w&#x110000;\"", "caption holds", CODE(CORRUPT) },
    { IN_WM, "web01\"", "w&lol;\"", "caption holds", CODE(CORRUPT) },
    { IN_WM, "web01\"", "w&\"", "caption holds", CODE(CORRUPT) },
    { IN_WM, "web01\"", "w<\"", "caption holds", CODE(CORRUPT) },
    /* what makes parsers do things */
    { IN_WM, "<WRITER", "<!DOCTYPE WRITER_METADATA [<!ENTITY a \"aaaa\">]>\n<WRITER",
      "line 2: has a document type", CODE(CORRUPT) },
    { IN_WM, "<WRITER",
      "<!DOCTYPE WRITER_METADATA [<!ENTITY x SYSTEM \"file:///etc/passwd\">]>\n<WRITER",
      "has a document type", CODE(CORRUPT) },
    { IN_BC, "<BACKUP_C", "<!DOCTYPE x SYSTEM \"http://127.0.0.1/x.dtd\"><BACKUP_C",
      "has a document type", CODE(CORRUPT) },
    { IN_BC, "</COMP", "<xi:include href=\"file:///etc/passwd\"/></COMP", "expected '>'",
      CODE(CORRUPT) },
    { IN_BC, "</COMP", "<![CDATA[x]]></COMP", "has a comment, CDATA", CODE(CORRUPT) },
    { IN_BC, "</COMP", "<!-- x --></COMP", "has a comment, CDATA", CODE(CORRUPT) },
    { IN_BC, "</COMP", "<?x y?></COMP", "has a comment, CDATA", CODE(CORRUPT) },
    { IN_BC, "</COMP", "x</COMP", "has text between its tags", CODE(CORRUPT) },
    /* tags */
    { IN_BC, "</WRITER_COMPONENTS>", "</COMPONENT>", "</COMPONENT> where it was not begun",
      CODE(CORRUPT) },
    { IN_BC, "</BACKUP_COMPONENTS>\n", "", "ends before its last tag", CODE(CORRUPT) },
    { IN_BC, "</BACKUP_COMPONENTS>\n", "</BACKUP_COMPONENTS>\n<X/>", "goes on after its last tag",
      CODE(CORRUPT) },
    { IN_BC, "</BACKUP_COMPONENTS>\n", "</BACKUP_COMPONENTS></X>", "goes on after", CODE(CORRUPT) },
    { IN_BC, "version=\"1.0\" boot", "version=\"1.0\" version=\"1.0\" boot",
      "has version twice in one tag", CODE(CORRUPT) },
    { IN_BC, "version=\"1.0\" boot", "version=\"1.0\"boot", "expected '>'", CODE(CORRUPT) },
    { IN_BC, "version=\"1.0\" boot", "version=1.0 boot", "expected '\"'", CODE(CORRUPT) },
    { IN_BC, "version=\"1.0\" boot", "version boot", "expected '='", CODE(CORRUPT) },
    { IN_BC, "backupType=", "a='' b='' c='' d='' e='' f='' g='' h='' i='' j='' backupType=",
      "more than 16 attributes", CODE(TOO_LARGE) },
    /* namespace and version */
    { IN_WM, "urn:kvss:writer-metadata:1", "x-schema:#VssWriterMetadataInfo",
      "line 2: the namespace is 'x-schema:#VssWriterMetadataInfo'", CODE(CORRUPT) },
    { IN_WM, "urn:kvss:writer-metadata:1", "urn:kvss:writer-metadata:2", "this kvss reads 1.0",
      CODE(VERSION) },
    { IN_WM, "version=\"1.0\" back", "version=\"1.1\" back", "is of version 1.1", CODE(VERSION) },
    { IN_BC, "urn:kvss:backup-components:1", "urn:kvss:backup-components:9", "is of version 1.0 in",
      CODE(VERSION) },
    { IN_BC, " xmlns=\"urn:kvss:backup-components:1\"", "", "<BACKUP_COMPONENTS> has no xmlns",
      CODE(CORRUPT) },
    { IN_BC, "<WRITER_COMPONENTS ", "<WRITER_COMPONENTS xmlns=\"urn:other\" ",
      "attribute xmlns that is not known", CODE(CORRUPT) },
    /* elements */
    { IN_WM, "<IDENTIFICATION", "<RESTORE_METHOD",
      "line 3: <RESTORE_METHOD> stands where <IDENTIFICATION> must be", CODE(CORRUPT) },
    { IN_WM, "<BACKUP_LOCATIONS>", "<BACKUP_LOCATIONS><X/>", "holds something other than",
      CODE(CORRUPT) },
    { IN_WM, "</BACKUP_LOCATIONS>", "</BACKUP_LOCATIONS><X/>", "<X> stands where nothing may be",
      CODE(CORRUPT) },
    { IN_WM, "rebootRequired=\"no\"/>", "rebootRequired=\"no\"><X/></RESTORE_METHOD>",
      "<X> stands where nothing may be", CODE(CORRUPT) },
    { IN_BC, "<BACKUP_METADATA metadata=\"dm0vPg==\"/>",
      "<BACKUP_METADATA metadata=\"\"/><BACKUP_METADATA metadata=\"\"/>", "each once",
      CODE(CORRUPT) },
    { IN_BC, "<BACKUP_METADATA", "<METADATA", "each once and in this order", CODE(CORRUPT) },
    { IN_BC, "  </WRITER_COMPONENTS>",
      "  </WRITER_COMPONENTS><WRITER_COMPONENTS "
      "instanceId=\"2b7d5a0e-0a43-4f4d-a9c8-5f6f3b1f9c78\" "
      "writerId=\"66841cd4-6ded-4f4b-8f17-fd23f8ddc3de\" backupSchema=\"272\"/>",
      "holds no <COMPONENT>", CODE(CORRUPT) },
    /* attributes */
    { IN_WM, " writerRestore=\"always\"", "", "line 4: <RESTORE_METHOD> has no writerRestore",
      CODE(CORRUPT) },
    { IN_WM, "selectable=\"yes\"", "selectable=\"true\"", "selectable is 'true'", CODE(CORRUPT) },
    { IN_WM, "selectable=\"yes\"", "selectable=\"yes\" onLoad=\"x\"",
      "<FILE_GROUP> has an attribute onLoad that is not known", CODE(CORRUPT) },
    { IN_WM, "BACK_END", "MIDDLE", "applicationLevel is 'MIDDLE'", CODE(CORRUPT) },
    { IN_WM, "componentFlags=\"1\"", "componentFlags=\"4294967296\"", "no number", CODE(CORRUPT) },
    { IN_WM, "componentFlags=\"1\"", "componentFlags=\"01\"", "no number", CODE(CORRUPT) },
    { IN_WM, "componentFlags=\"1\"", "componentFlags=\"-1\"", "no number", CODE(CORRUPT) },
    { IN_WM, "66841cd4", "66841CD4", "no GUID in lower case", CODE(CORRUPT) },
    { IN_WM, "66841cd4-", "{66841cd4-", "no GUID", CODE(CORRUPT) },
    { IN_BC, "0c1d2e3f-1111", "0c1d2e3f1111", "snapshotSetId is '", CODE(CORRUPT) },
    { IN_BC, "=\"dm0vPg==\"", "=\"dm0vPg\"", "metadata is no base64", CODE(CORRUPT) },
    { IN_BC, "=\"dm0vPg==\"", "=\"dm0vPh==\"", "metadata is no base64", CODE(CORRUPT) },
    { IN_BC, "=\"dm0vPg==\"", "=\"dm0v Pg==\"", "metadata is no base64", CODE(CORRUPT) },
    { IN_BC, "=\"dm0vPg==\"", "=\"dm0vPg====\"", "metadata is no base64", CODE(CORRUPT) },
    { IN_BC, "=\"dm0vPg==\"", "=\"AA==\"", "metadata has a NUL byte", CODE(CORRUPT) },
    { IN_BC, "0x800423f2", "0x80042", "hresult is '0x80042'", CODE(CORRUPT) },
    { IN_BC, "0x800423f2", "0x800423F2", "hresult is '", CODE(CORRUPT) },
    { IN_BC, "0x800423f2", "0x00000000", "hresult is '", CODE(CORRUPT) },
    { IN_BC, "VSS_E_WRITERERROR_TIMEOUT", "oops; rm", "no name of a result", CODE(CORRUPT) },
    { IN_BC, "filegroup", "database", "componentType is 'database'", CODE(CORRUPT) },
    { IN_BC, "backupType=\"full\"", "backupType=\"log\"", "backupType is 'log'", CODE(CORRUPT) },
    /* paths and names */
    { IN_WM, "\"/etc/libvirt\"", "\"/etc/../root\"", "path is '/etc/../root'", CODE(CORRUPT) },
    { IN_WM, "\"/etc/libvirt\"", "\"/etc/..\"", "no absolute path", CODE(CORRUPT) },
    { IN_WM, "\"/etc/libvirt\"", "\"/etc&#47;..\"", "no absolute path", CODE(CORRUPT) },
    { IN_WM, "\"/etc/libvirt\"", "\"/etc/&#x2e;&#46;/x\"", "no absolute path", CODE(CORRUPT) },
    { IN_WM, "\"/etc/libvirt\"", "\"etc\"", "no absolute path", CODE(CORRUPT) },
    { IN_WM, "\"/etc/libvirt\"", "\"\"", "no absolute path", CODE(CORRUPT) },
    { IN_WM, "\"/etc/libvirt\"", "\"//etc\"", "no absolute path", CODE(CORRUPT) },
    { IN_WM, "\"*.conf\"", "\"../*.conf\"", "filespec is '../*.conf'", CODE(CORRUPT) },
    { IN_WM, "\"*.conf\"", "\"..\"", "no name in a folder", CODE(CORRUPT) },
    { IN_WM, "\"*.conf\"", "\"\"", "no name in a folder", CODE(CORRUPT) },
    { IN_WM, "=\"libvirt\"", "=\"../x\"", "componentName is '../x'", CODE(CORRUPT) },
    { IN_WM, "=\"libvirt\"", "=\"a\\b\"", "no plain name", CODE(CORRUPT) },
    { IN_WM, "=\"libvirt\"", "=\"\"", "no plain name", CODE(CORRUPT) },
    { IN_WM, "host\\etc", "host\\\\etc", "an empty name in it", CODE(CORRUPT) },
    { IN_WM, "host\\etc", "", "logicalPath is empty", CODE(CORRUPT) },
    /* twice */
    { IN_WM, "=\"qemu.d\"", "=\"*.conf\" recursive=\"yes\"",
      "filespec '*.conf' is there twice in '/etc/libvirt'", CODE(CORRUPT) },
    { IN_WM, "logicalPath=\"host\\etc\" componentName=\"libvirt\"",
      "componentName=\"6f1c9a34-7f0b-4b0c-9f62-1c5b8a0d2e11\"", "is there twice", CODE(CORRUPT) },
    { IN_BC, "logicalPath=\"host\\etc\" componentName=\"libvirt\"",
      "componentName=\"6f1c9a34-7f0b-4b0c-9f62-1c5b8a0d2e11\"",
      "line 7: component '6f1c9a34-7f0b-4b0c-9f62-1c5b8a0d2e11' is there twice", CODE(CORRUPT) },
};

static void
assert_refused(bool is_wm, const char *text, size_t length, const char *words,
               KvssDocumentError code)
{
    g_autoptr(GBytes) bytes = g_bytes_new(text, length);
    g_autoptr(GError) error = NULL;

    g_test_message("%s", words);
    g_assert_false(read_either(is_wm, bytes, &error));
    g_assert_error(error, KVSS_DOCUMENT_ERROR, (int) code);
    g_assert_true(g_str_has_prefix(error->message,
                                   is_wm ? "writer metadata document: line "
                                         : "backup components document: line "));
    if (!strstr(error->message, words))
        g_error("'%s' does not say '%s'", error->message, words);
    g_assert_true(g_utf8_validate(error->message, -1, NULL));
    g_assert_cmpuint(strlen(error->message), <, 1100);
}

static void
test_lies(void)
{
    g_autoptr(GBytes) wm = golden("writer-metadata-2.xml");
    g_autoptr(GBytes) bc = golden("backup-components-2.xml");

    for (gsize i = 0; i < G_N_ELEMENTS(lies); i++) {
        const Lie *lie = &lies[i];
        g_autoptr(GString) text = g_string_new(g_bytes_get_data(lie->is_wm ? wm : bc, NULL));

        g_assert_cmpuint(g_string_replace(text, lie->old, lie->new, 1), ==, 1);
        assert_refused(lie->is_wm, text->str, text->len, lie->words, lie->code);
    }
}

static void
test_other_encodings(void)
{
    g_autoptr(GBytes) wm = golden("writer-metadata-2.xml");
    g_autofree char *text = g_strdup(g_bytes_get_data(wm, NULL));
    size_t length = strlen(text);
    const char *const encodings[] = { "UTF-16", "UTF-16LE", "UTF-16BE", "UTF-32", "IBM037",
                                      "UTF-7" };

    for (gsize i = 0; i < G_N_ELEMENTS(encodings); i++) {
        gsize n;
        g_autofree char *other = g_convert(text, (gssize) length, encodings[i], "UTF-8", NULL, &n,
                                           NULL);

        g_assert_nonnull(other);
        if (n != length || memcmp(other, text, n) != 0)
            assert_refused(IN_WM, other, n, "line 1: does not begin with", CODE(CORRUPT));
    }
    text[length / 2] = '\0';
    assert_refused(IN_WM, text, length, "has a NUL byte", CODE(CORRUPT));
    assert_refused(IN_WM, "", 0, "does not begin with", CODE(CORRUPT));
    assert_refused(IN_WM, "\0\0\0\0", 4, "does not begin with", CODE(CORRUPT));
}

static void
test_long_values(void)
{
    g_autoptr(GBytes) wm = golden("writer-metadata-2.xml");
    const struct {
        const char *old, *attribute;
        size_t max;
    } cases[] = {
        { "=\"Online\\web01", "caption", 4096 },
        { "componentName=\"libvirt", "componentName", 765 },
        { "path=\"/etc/libvirt", "path", 12285 },
        { "filespec=\"*.conf", "filespec", 765 },
    };

    for (gsize i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autoptr(GString) text = g_string_new(g_bytes_get_data(wm, NULL));
        size_t used = strlen(strchr(cases[i].old, '"') + 1);
        g_autofree char *fits = g_strnfill(cases[i].max - used, 'x');
        g_autofree char *new = g_strconcat(cases[i].old, fits, NULL);
        g_autofree char *words = g_strdup_printf("%s is longer than %" G_GSIZE_FORMAT " bytes",
                                                 cases[i].attribute, cases[i].max);
        g_autoptr(GBytes) bytes = NULL;

        g_string_replace(text, cases[i].old, new, 1);
        bytes = g_bytes_new(text->str, text->len);
        g_assert_true(read_either(IN_WM, bytes, NULL));
        g_assert_true(schema_takes(WM, text->str, text->len, true));
        g_string_replace(text, fits, "x", 1);
        g_string_insert(text, strstr(text->str, cases[i].old) - text->str + (gssize) strlen(cases[i].old),
                        fits);
        assert_refused(IN_WM, text->str, text->len, words, CODE(TOO_LARGE));
    }
}

/* Cut anywhere it is refused; changed anywhere, what is still read is still valid. */
static void
check_damage(bool is_wm, GBytes *bytes)
{
    gsize length;
    const char *data = g_bytes_get_data(bytes, &length);
    g_autofree char *copy = g_memdup2(data, length);
    unsigned taken = 0;

    for (gsize i = 0; i < length; i++) {
        g_autofree char *cut = g_memdup2(data, MAX(i, 1));
        g_autoptr(GBytes) shorter = g_bytes_new_static(cut, i);

        /* Only the newline at the end may go. */
        g_assert_cmpint(read_either(is_wm, shorter, NULL), ==, i == length - 1);
        for (int bit = 0; bit < 8; bit++) {
            g_autoptr(GBytes) changed = g_bytes_new_static(copy, length);

            copy[i] ^= (char) (1 << bit);
            if (read_either(is_wm, changed, NULL)) {
                taken++;
                g_assert_true(schema_takes(is_wm ? WM : BC, copy, length, true));
            }
            copy[i] ^= (char) (1 << bit);
        }
    }
    g_assert_cmpuint(taken, >, 100); /* names and captions may say anything */
}

static void
test_damage(void)
{
    g_autoptr(GBytes) wm = golden("writer-metadata-2.xml");
    g_autoptr(GBytes) bc = golden("backup-components-2.xml");

    check_damage(IN_WM, wm);
    check_damage(IN_BC, bc);
}

/* --- bounded --------------------------------------------------------------------------- */

#define WM_HEAD \
    "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<WRITER_METADATA " \
    "xmlns=\"urn:kvss:writer-metadata:1\" version=\"1.0\" backupSchema=\"272\">"
#define WM_FRONT \
    WM_HEAD "<IDENTIFICATION writerId=\"66841cd4-6ded-4f4b-8f17-fd23f8ddc3de\" " \
    "instanceId=\"2b7d5a0e-0a43-4f4d-a9c8-5f6f3b1f9c77\" friendlyName=\"x\" usage=\"USER_DATA\" " \
    "dataSource=\"OTHER\" majorVersion=\"1\" minorVersion=\"0\"/><RESTORE_METHOD " \
    "method=\"RESTORE_IF_CAN_BE_REPLACED\" writerRestore=\"always\" rebootRequired=\"no\"/>" \
    "<BACKUP_LOCATIONS>"
#define WM_BACK "</BACKUP_LOCATIONS></WRITER_METADATA>"
#define GROUP_FLAGS \
    " restoreMetadata=\"no\" notifyOnBackupComplete=\"no\" selectable=\"yes\" " \
    "selectableForRestore=\"yes\" componentFlags=\"1\""

static GString *
fill(const char *front, const char *piece, size_t length)
{
    GString *text = g_string_sized_new(length + 1024);

    g_string_append(text, front);
    while (text->len + strlen(piece) <= length)
        g_string_append(text, piece);
    return text;
}

/* "BY" and "Az" have one hash in GLib, and so has every row of them. */
static GString *
same_hash(void)
{
    GString *text = g_string_new(WM_FRONT);

    for (unsigned i = 0; i < 50000; i++) {
        g_string_append(text, "<FILE_GROUP componentName=\"");
        for (int bit = 0; bit < 17; bit++)
            g_string_append(text, i >> bit & 1 ? "BY" : "Az");
        g_string_append(text, "\"" GROUP_FLAGS "/>");
    }
    return g_string_append(text, WM_BACK);
}

static GString *
most_files(void)
{
    GString *text = g_string_new(WM_FRONT "<FILE_GROUP componentName=\"x\"" GROUP_FLAGS ">");

    for (unsigned i = 0; i < 99990; i++)
        g_string_append_printf(text,
                               "<FILE_LIST path=\"/x\" filespec=\"%u\" filespecBackupType=\"0\"/>",
                               i);
    return g_string_append(text, "</FILE_GROUP>" WM_BACK);
}

static GString *
bombs(void)
{
    GString *text = g_string_new("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<!DOCTYPE lolz [\n"
                                 "<!ENTITY l0 \"lol\">\n");

    for (int i = 1; i < 30; i++)
        g_string_append_printf(text, "<!ENTITY l%d \"&l%d;&l%d;&l%d;&l%d;\">\n", i, i - 1, i - 1,
                               i - 1, i - 1);
    return g_string_append(text, "]>\n<WRITER_METADATA version=\"&l29;\"/>\n");
}

/* One entity as long as the text allows, used as often as it allows. */
static GString *
quadratic(void)
{
    GString *text = fill("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<!DOCTYPE x [<!ENTITY a \"",
                         "aaaaaaaaaaaaaaaa", 8 * MIB);

    g_string_append(text, "\">]>\n<WRITER_METADATA version=\"");
    while (text->len < 15 * MIB)
        g_string_append(text, "&a;");
    return g_string_append(text, "\"/>\n");
}

/* The address sanitizer lays red zones around everything, and keeps what was freed. */
#ifdef __SANITIZE_ADDRESS__
#define GROWTH_MAX_KIB (512 * 1024)
#else
#define GROWTH_MAX_KIB (64 * 1024)
#endif

static long
peak_kib(void)
{
    struct rusage usage;

    g_assert_cmpint(getrusage(RUSAGE_SELF, &usage), ==, 0);
    return usage.ru_maxrss;
}

static double
cpu_seconds(void)
{
    struct rusage usage;

    g_assert_cmpint(getrusage(RUSAGE_SELF, &usage), ==, 0);
    return (double) (usage.ru_utime.tv_sec + usage.ru_stime.tv_sec)
           + (double) (usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
}

/* In the child: 0 when it was read or refused as @code says, in its bounds. */
static int
read_bounded(GBytes *bytes, int code)
{
    g_autoptr(GError) error = NULL;
    const char *data = g_bytes_get_data(bytes, NULL);
    gsize length = g_bytes_get_size(bytes);
    double before_s, took_s;
    long before_kib, grown_kib;
    bool taken;

    (void) memrchr(data, '\377', length); /* all of it is in memory: that is not the reader's */
    before_kib = peak_kib();
    before_s = cpu_seconds();
    taken = read_either(IN_WM, bytes, &error);
    took_s = cpu_seconds() - before_s;
    grown_kib = peak_kib() - before_kib;
    g_printerr("# %" G_GSIZE_FORMAT " bytes: %.3f s, %ld KiB more: %.100s\n", length, took_s,
               grown_kib, taken ? "read" : error->message);
    if (taken ? code != -1 : error->code != code)
        return 1;
    return took_s > 10 ? 2 : grown_kib > GROWTH_MAX_KIB ? 3 : 0;
}

static void
assert_bounded(GString *text, int code)
{
    g_autoptr(GBytes) bytes = g_string_free_to_bytes(text);
    struct rlimit limit = { 60, 60 };
    int status;
    pid_t child = fork();

    g_assert_cmpint(child, >=, 0);
    if (child == 0) {
        (void) setrlimit(RLIMIT_CPU, &limit);
        _exit(read_bounded(bytes, code));
    }
    g_assert_cmpint(waitpid(child, &status, 0), ==, child);
    g_assert_true(WIFEXITED(status));
    g_assert_cmpint(WEXITSTATUS(status), ==, 0);
}

#define LARGEST (KVSS_DOCUMENT_MAX_LENGTH)

static void
test_bounded(void)
{
    int too_large = KVSS_DOCUMENT_ERROR_TOO_LARGE, corrupt = KVSS_DOCUMENT_ERROR_CORRUPT;

    /* a hundred MiB of nesting is not even looked at; the largest that is, soon given up */
    assert_bounded(fill(WM_HEAD, "<a>", 100 * MIB), too_large);
    assert_bounded(fill(WM_HEAD, "<a>", LARGEST), corrupt);
    assert_bounded(fill(WM_FRONT, "<FILE_GROUP componentName=\"x\"" GROUP_FLAGS ">", LARGEST),
                   corrupt);
    assert_bounded(fill("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n", " ", LARGEST), corrupt);
    assert_bounded(fill("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<", "x", LARGEST), corrupt);
    /* attributes: many, long, alike */
    assert_bounded(fill(WM_HEAD "<IDENTIFICATION ", "a=\"\" ", LARGEST), corrupt);
    assert_bounded(fill(WM_FRONT "<FILE_GROUP componentName=\"", "xxxxxxxx", LARGEST), corrupt);
    assert_bounded(g_string_append(fill(WM_FRONT "<FILE_GROUP componentName=\"", "&#120;",
                                        LARGEST - 1), "\""), corrupt);
    assert_bounded(g_string_append(fill(WM_FRONT "<FILE_GROUP componentName=\"", "&amp;",
                                        LARGEST - 10), "\"/>"), too_large);
    /* entities are never read */
    assert_bounded(bombs(), corrupt);
    assert_bounded(quadratic(), corrupt);
    /* what is valid, as large as it may be */
    assert_bounded(same_hash(), -1);
    assert_bounded(most_files(), -1);
    assert_bounded(fill(WM_FRONT, "<EXCLUDE_FILES path=\"/\" filespec=\"a\"/>", LARGEST), corrupt);
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/documents/writer-metadata", test_writer_metadata);
    g_test_add_func("/documents/backup-components", test_backup_components);
    g_test_add_func("/documents/hostile-names", test_hostile_names);
    g_test_add_func("/documents/generated", test_generated);
    g_test_add_func("/documents/long-lists", test_long_lists);
    g_test_add_func("/documents/not-written", test_not_written);
    g_test_add_func("/documents/golden", test_golden);
    g_test_add_func("/documents/excludes", test_excludes);
    g_test_add_func("/documents/lies", test_lies);
    g_test_add_func("/documents/other-encodings", test_other_encodings);
    g_test_add_func("/documents/long-values", test_long_values);
    g_test_add_func("/documents/damage", test_damage);
    g_test_add_func("/documents/bounded", test_bounded);
    return g_test_run();
}
