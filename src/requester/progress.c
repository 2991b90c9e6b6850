/*
 * progress.c - how far a long command is
 */
#include "requester/progress.h"
#include "requester/output.h"

#include <stdatomic.h>
#include <unistd.h>

#define BAR_WIDTH 24
#define BAR_INTERVAL_US (100 * 1000)
#define STATUS_INTERVAL_US G_USEC_PER_SEC

struct KvssProgress {
    bool is_bar, is_lines, is_json;
    const char *step;         /* the last one told */
    gint64 bar_us, status_us; /* monotonic: when each was told last */
};

/* A bar stands on the terminal's last line; read by whoever writes to stderr. */
static atomic_bool bar_stands;

KvssProgress *
kvss_progress_new(bool json, bool quiet, unsigned verbose)
{
    KvssProgress *progress = g_new0(KvssProgress, 1);
    bool is_terminal = isatty(STDERR_FILENO);

    progress->is_json = json;
    progress->is_bar = is_terminal && !quiet;
    progress->is_lines = !progress->is_bar && verbose > 0;
    return progress;
}

void
kvss_progress_clear_line(void)
{
    if (atomic_exchange(&bar_stands, false))
        fputs("\r\033[K", stderr);
}

void
kvss_progress_free(KvssProgress *progress)
{
    if (!progress)
        return;
    kvss_progress_clear_line();
    g_free(progress);
}

static void
draw_bar(const char *step, const char *vm, const char *target, uint64_t done, uint64_t total)
{
    g_autofree char *done_text = kvss_size_text(done), *total_text = kvss_size_text(total);
    g_autofree char *where = kvss_plain(vm ? vm : ""), *disk = kvss_plain(target ? target : "");
    int filled = total ? (int) ((double) MIN(done, total) / (double) total * BAR_WIDTH) : 0;

    fprintf(stderr, "\r\033[K%s %s %s ", step, where, disk);
    if (total) {
        fputc('[', stderr);
        for (int i = 0; i < BAR_WIDTH; i++)
            fputc(i < filled ? '#' : '.', stderr);
        fprintf(stderr, "] %s of %s", done_text, total_text);
    }
    fflush(stderr);
    atomic_store(&bar_stands, true);
}

static void
print_status(const char *step, const char *vm, const char *target, uint64_t done, uint64_t total)
{
    JsonObject *object = json_object_new();

    json_object_set_string_member(object, "type", "status");
    json_object_set_string_member(object, "step", step);
    kvss_set_text(object, "vm", vm);
    kvss_set_text(object, "target", target);
    json_object_set_int_member(object, "bytes_done", (gint64) done);
    json_object_set_int_member(object, "bytes_total", (gint64) total);
    kvss_print_json_object(object);
}

void
kvss_progress_update(KvssProgress *progress, const char *step, const char *vm, const char *target,
                     uint64_t done, uint64_t total)
{
    gint64 now_us = g_get_monotonic_time();
    bool is_new = step != progress->step;

    progress->step = step;
    if (progress->is_lines && is_new)
        kvss_say("%s", step);
    if (progress->is_bar && (is_new || now_us - progress->bar_us >= BAR_INTERVAL_US)) {
        draw_bar(step, vm, target, done, total);
        progress->bar_us = now_us;
    }
    if (progress->is_json && (is_new || now_us - progress->status_us >= STATUS_INTERVAL_US)) {
        print_status(step, vm, target, done, total);
        progress->status_us = now_us;
    }
}
