/*
 * test-save-image.c - libvirt's save images: read, changed, and refused
 */
#include "host/save-image.h"

#include <glib/gstdio.h>
#include <string.h>
#include <unistd.h>

typedef struct {
    char magic[16];
    uint32_t version, data_length, was_running, compressed, cookie_at;
    uint32_t unused[14];
} Header;

G_STATIC_ASSERT(sizeof(Header) == KVSS_SAVE_IMAGE_HEADER_LENGTH);

#define XML "<domain><name>web01</name></domain>"
#define COOKIE "<cookie/>"
#define STREAM "QEVM and so on"

static char *
image_path(void)
{
    static char folder[] = "/tmp/kvss-save-image-XXXXXX";
    static gsize made;

    if (g_once_init_enter(&made)) {
        g_assert_nonnull(g_mkdtemp(folder));
        g_once_init_leave(&made, 1);
    }
    return g_build_filename(folder, "web01.save", NULL);
}

static Header
header_good(uint32_t data_length)
{
    Header header = { .version = 2, .data_length = data_length, .cookie_at = sizeof XML };

    memcpy(header.magic, "LibvirtQemudSave", 16);
    return header;
}

static char *
image_write(Header header, size_t data_length)
{
    g_autoptr(GByteArray) bytes = g_byte_array_new();
    g_autofree char *data = g_malloc0(data_length);
    g_autofree char *path = image_path();

    memcpy(data, XML, sizeof XML);
    memcpy(data + sizeof XML, COOKIE, sizeof COOKIE);
    g_byte_array_append(bytes, (const uint8_t *) &header, sizeof header);
    g_byte_array_append(bytes, (const uint8_t *) data, (guint) data_length);
    g_byte_array_append(bytes, (const uint8_t *) STREAM, strlen(STREAM));
    g_assert_true(g_file_set_contents(path, (const char *) bytes->data, bytes->len, NULL));
    return g_steal_pointer(&path);
}

static void
assert_stream_is_kept(const char *path)
{
    g_autofree char *text = NULL;
    gsize length;

    g_assert_true(g_file_get_contents(path, &text, &length, NULL));
    g_assert_cmpmem(text + length - strlen(STREAM), strlen(STREAM), STREAM, strlen(STREAM));
}

static void
test_read(void)
{
    g_autofree char *path = image_write(header_good(4096), 4096);
    g_autoptr(GError) error = NULL;
    g_autoptr(KvssSaveImage) image = kvss_save_image_read(path, &error);

    g_assert_no_error(error);
    g_assert_cmpstr(image->xml, ==, XML);
    g_assert_cmpstr(image->cookie, ==, COOKIE);
    g_assert_cmpuint(image->version, ==, 2);
    g_assert_false(image->was_running);
    g_assert_false(image->is_swapped);
}

static void
test_read_swapped(void)
{
    Header header = header_good(4096);
    g_autoptr(KvssSaveImage) image = NULL;
    g_autofree char *path = NULL;

    for (uint32_t *field = &header.version; field <= &header.cookie_at; field++)
        *field = GUINT32_SWAP_LE_BE(*field);
    path = image_write(header, 4096);
    image = kvss_save_image_read(path, NULL);
    g_assert_nonnull(image);
    g_assert_true(image->is_swapped);
    g_assert_cmpuint(image->data_length, ==, 4096);
    g_assert_cmpstr(image->cookie, ==, COOKIE);
}

static void
assert_refused(Header header, const char *complaint)
{
    g_autofree char *path = image_write(header, 4096);
    g_autoptr(GError) error = NULL;

    g_assert_null(kvss_save_image_read(path, &error));
    g_assert_error(error, KVSS_IO_ERROR, KVSS_IO_ERROR_CORRUPT);
    g_assert_nonnull(strstr(error->message, complaint));
    g_assert_false(kvss_save_image_set_running(path, true, NULL));
    g_assert_false(kvss_save_image_set_xml(path, XML, NULL));
}

static void
test_hostile(void)
{
    Header partial = header_good(4096), other = partial, version = partial, longer = partial,
           huge = partial, none = partial, cookie_inside = partial, cookie_outside = partial,
           cut = partial;

    memcpy(partial.magic, "LibvirtQemudPart", 16);
    assert_refused(partial, "partial");
    memcpy(other.magic, "\177ELF", 4);
    assert_refused(other, "not a save image");
    version.version = 9;
    assert_refused(version, "version");
    longer.data_length = 4096 + 4096;
    assert_refused(longer, "longer");
    huge.data_length = UINT32_MAX;
    assert_refused(huge, "longer");
    none.data_length = 0;
    assert_refused(none, "longer");
    cut.data_length = 10;
    assert_refused(cut, "no text");
    cookie_inside.cookie_at = 3;
    assert_refused(cookie_inside, "cookie");
    cookie_outside.cookie_at = 4096;
    assert_refused(cookie_outside, "cookie");
}

static void
test_set_running(void)
{
    g_autofree char *path = image_write(header_good(4096), 4096);
    g_autoptr(KvssSaveImage) image = NULL;
    g_autoptr(GError) error = NULL;

    g_assert_true(kvss_save_image_set_running(path, true, &error));
    g_assert_no_error(error);
    image = kvss_save_image_read(path, NULL);
    g_assert_true(image->was_running);
    g_assert_cmpstr(image->xml, ==, XML);
    assert_stream_is_kept(path);
}

static void
set_xml_and_check(const char *path, const char *xml)
{
    g_autoptr(KvssSaveImage) image = NULL;
    g_autoptr(GError) error = NULL;

    g_assert_true(kvss_save_image_set_xml(path, xml, &error));
    g_assert_no_error(error);
    image = kvss_save_image_read(path, &error);
    g_assert_no_error(error);
    g_assert_cmpstr(image->xml, ==, xml);
    g_assert_cmpstr(image->cookie, ==, COOKIE);
    assert_stream_is_kept(path);
}

static void
test_set_xml(void)
{
    g_autofree char *path = image_write(header_good(4096), 4096);
    g_autofree char *filler = g_strnfill(10000, 'x');
    g_autofree char *longer = g_strdup_printf("<domain><name>%s</name></domain>", filler);

    set_xml_and_check(path, "<domain><name>other</name><x/></domain>"); /* fits */
    set_xml_and_check(path, longer);                                    /* does not */
    set_xml_and_check(path, XML);
    g_assert_cmpint(g_remove(path), ==, 0);
}

int
main(int argc, char **argv)
{
    g_autofree char *folder = NULL;
    g_autofree char *path = NULL;
    int result;

    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/save-image/read", test_read);
    g_test_add_func("/save-image/read-swapped", test_read_swapped);
    g_test_add_func("/save-image/hostile", test_hostile);
    g_test_add_func("/save-image/set-running", test_set_running);
    g_test_add_func("/save-image/set-xml", test_set_xml);
    result = g_test_run();

    path = image_path();
    folder = g_path_get_dirname(path);
    (void) g_remove(path);
    (void) g_rmdir(folder);
    return result;
}
