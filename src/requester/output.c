/*
 * output.c - what is printed: sentences, tables, JSON
 */
#include "requester/output.h"
#include "requester/progress.h"

#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <string.h>

char *
kvss_plain(const char *text)
{
    g_autofree char *valid = g_utf8_make_valid(text, -1);
    GString *plain = g_string_new(NULL);

    for (const char *c = valid; *c; c = g_utf8_next_char(c)) {
        gunichar character = g_utf8_get_char(c);

        /* A terminal obeys C1 controls and directional marks as well as the C0 ones. */
        if ((g_unichar_iscntrl(character) && character != '\n') ||
            g_unichar_type(character) == G_UNICODE_FORMAT)
            g_string_append_c(plain, '?');
        else
            g_string_append_unichar(plain, character);
    }
    return g_string_free(plain, FALSE);
}

void
kvss_say(const char *format, ...)
{
    g_autofree char *text = NULL, *plain = NULL;
    va_list args;

    va_start(args, format);
    text = g_strdup_vprintf(format, args);
    va_end(args);
    plain = kvss_plain(text);
    g_strdelimit(plain, "\n", ' ');
    kvss_progress_clear_line();
    fprintf(stderr, "kvss: %s\n", plain);
}

void
kvss_print(const char *format, ...)
{
    g_autofree char *text = NULL, *plain = NULL;
    va_list args;

    va_start(args, format);
    text = g_strdup_vprintf(format, args);
    va_end(args);
    plain = kvss_plain(text);
    fputs(plain, stdout);
}

void
kvss_print_json(JsonNode *node)
{
    g_autofree char *text = json_to_string(node, FALSE);

    puts(text);
    fflush(stdout);
    json_node_unref(node);
}

void
kvss_print_json_object(JsonObject *object)
{
    JsonNode *node = json_node_alloc();

    json_node_init_object(node, object);
    json_object_unref(object);
    kvss_print_json(node);
}

char *
kvss_size_text(uint64_t bytes)
{
    char *text = g_format_size_full(bytes, G_FORMAT_SIZE_IEC_UNITS);
    char *space = strstr(text, "\302\240");

    /* GLib's no-break space is in the way of grep and of a plain terminal. */
    if (space) {
        *space = ' ';
        memmove(space + 1, space + 2, strlen(space + 2) + 1);
    }
    return text;
}

char *
kvss_ms_text(double ms)
{
    if (ms < 1000)
        return g_strdup_printf("%.0f ms", ms);
    return g_strdup_printf("%.1f s", ms / 1000);
}

char *
kvss_time_text(gint64 time_us)
{
    g_autoptr(GDateTime) time = g_date_time_new_from_unix_local(time_us / G_USEC_PER_SEC);

    return time ? g_date_time_format(time, "%Y-%m-%d %H:%M") : g_strdup("?");
}

/* ---- tables ---- */

struct KvssTable {
    GPtrArray *cells; /* char*, row by row */
    guint columns;
};

static void
add_cells(KvssTable *table, const char *cell, va_list args)
{
    for (; cell; cell = va_arg(args, const char *)) {
        char *plain = kvss_plain(*cell ? cell : "-");

        g_strdelimit(plain, "\n", ' ');
        g_ptr_array_add(table->cells, plain);
    }
}

KvssTable *
kvss_table_new(const char *first_header, ...)
{
    KvssTable *table = g_new0(KvssTable, 1);
    va_list args;

    table->cells = g_ptr_array_new_with_free_func(g_free);
    va_start(args, first_header);
    add_cells(table, first_header, args);
    va_end(args);
    table->columns = table->cells->len;
    return table;
}

void
kvss_table_add(KvssTable *table, const char *first_cell, ...)
{
    va_list args;

    va_start(args, first_cell);
    add_cells(table, first_cell, args);
    va_end(args);
    g_assert(table->cells->len % table->columns == 0);
}

static glong
column_width(const KvssTable *table, guint column)
{
    glong width = 0;

    for (guint i = column; i < table->cells->len; i += table->columns)
        width = MAX(width, g_utf8_strlen(g_ptr_array_index(table->cells, i), -1));
    return width;
}

void
kvss_table_print(KvssTable *table)
{
    g_autofree glong *widths = g_new(glong, table->columns);

    for (guint column = 0; column < table->columns; column++)
        widths[column] = column_width(table, column);
    for (guint i = 0; i < table->cells->len; i++) {
        const char *cell = g_ptr_array_index(table->cells, i);
        guint column = i % table->columns;
        bool is_last = column == table->columns - 1;

        fputs(cell, stdout);
        if (is_last)
            fputc('\n', stdout);
        else
            printf("%*s", (int) (widths[column] - g_utf8_strlen(cell, -1) + 2), "");
    }
    g_ptr_array_unref(table->cells);
    g_free(table);
}

/* ---- JSON ---- */

void
kvss_set_text(JsonObject *object, const char *name, const char *value)
{
    if (value)
        json_object_set_string_member(object, name, value);
    else
        json_object_set_null_member(object, name);
}

void
kvss_set_seconds(JsonObject *object, const char *name, double seconds)
{
    /* In parts of 1024: their decimal form is exact and short. */
    json_object_set_double_member(object, name, round(seconds * 1024) / 1024);
}

JsonArray *
kvss_texts(const char *const *texts)
{
    JsonArray *array = json_array_new();

    for (; texts && *texts; texts++)
        json_array_add_string_element(array, *texts);
    return array;
}

bool
kvss_print_finish(GError **error)
{
    bool failed = fflush(stdout) != 0 || ferror(stdout);

    if (!failed || errno == EPIPE)
        return true;
    return kvss_throw_errno(error, errno, "standard output");
}
