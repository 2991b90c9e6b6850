/*
 * agent-emergency.c - thawing a guest whose agent libvirt has lost
 *
 * libvirt can lose an agent that is alive: while a backup job runs it misses the
 * channel's events. The agent is then spoken to directly.
 */
#include "host/agent-emergency.h"
#include "base/fd.h"
#include "host/domain.h"

#include <errno.h>
#include <libvirt/libvirt-qemu.h>
#include <libxml/parser.h>
#include <libxml/xpath.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define ANSWER_LIMIT_MS 2500
#define ANSWER_LENGTH_MAX (64 * 1024)

static char *
xpath_string(const char *xml, const char *expression)
{
    xmlDocPtr document = xmlReadMemory(xml, (int) strlen(xml), NULL, NULL,
                                       XML_PARSE_NONET | XML_PARSE_NOERROR
                                           | XML_PARSE_NOWARNING);
    xmlXPathContextPtr context = document ? xmlXPathNewContext(document) : NULL;
    xmlXPathObjectPtr result = context ? xmlXPathEval((const xmlChar *) expression, context)
                                       : NULL;
    char *text = NULL;

    if (result && result->type == XPATH_STRING && result->stringval && *result->stringval)
        text = g_strdup((const char *) result->stringval);
    xmlXPathFreeObject(result);
    xmlXPathFreeContext(context);
    xmlFreeDoc(document);
    return text;
}

#define CHANNEL "/domain/devices/channel[target/@name='org.qemu.guest_agent.0']"

static int
connect_unix(const char *path)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    kvss_autofd int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    if (fd < 0 || strlen(path) >= sizeof address.sun_path)
        return -1;
    strcpy(address.sun_path, path);
    if (connect(fd, (struct sockaddr *) &address, sizeof address) < 0)
        return -1;
    return kvss_fd_steal(&fd);
}

/* Collects the agent's words until @needle was said or the limit passes. */
static bool
hears(int fd, GString *said, const char *needle)
{
    gint64 deadline_us = g_get_monotonic_time() + ANSWER_LIMIT_MS * 1000;

    while (!strstr(said->str, needle) && said->len < ANSWER_LENGTH_MAX) {
        struct pollfd pfd = { .fd = fd, .events = POLLIN };
        gint64 left_ms = (deadline_us - g_get_monotonic_time()) / 1000;
        char buffer[512];
        ssize_t n;

        if (left_ms <= 0 || poll(&pfd, 1, (int) left_ms) <= 0)
            return false;
        n = read(fd, buffer, sizeof buffer);
        if (n <= 0)
            return false;
        for (ssize_t i = 0; i < n; i++) {
            /* The sync's delimiter and other bytes outside ASCII only separate. */
            if (buffer[i] > 0)
                g_string_append_c(said, buffer[i]);
        }
    }
    return strstr(said->str, needle) != NULL;
}

static bool
say(int fd, const char *words)
{
    return send(fd, words, strlen(words), MSG_NOSIGNAL) == (ssize_t) strlen(words);
}

/* The leading 0xFF makes the agent's parser drop what it had half read. */
static bool
thaw_over(int fd)
{
    g_autoptr(GString) said = g_string_new(NULL);
    guint32 id = g_random_int_range(1, G_MAXINT32);
    g_autofree char *sync = g_strdup_printf(
        "\xff{\"execute\":\"guest-sync-delimited\",\"arguments\":{\"id\":%u}}\n", id);
    g_autofree char *synced = g_strdup_printf("{\"return\": %u}", id);

    if (!say(fd, sync) || !hears(fd, said, synced))
        return false;
    g_string_truncate(said, 0);
    if (!say(fd, "{\"execute\":\"guest-fsfreeze-thaw\"}\n") || !hears(fd, said, "\n"))
        return false;
    g_string_truncate(said, 0);
    return say(fd, "{\"execute\":\"guest-fsfreeze-status\"}\n") && hears(fd, said, "\"thawed\"");
}

static bool
thaw_by_channel_socket(const char *xml)
{
    g_autofree char *path = xpath_string(xml, "string(" CHANNEL "/source/@path)");
    kvss_autofd int fd = path ? connect_unix(path) : -1;

    return fd >= 0 && thaw_over(fd);
}

static bool
change_channel(KvssDomain *domain, const char *alias, const char *path)
{
    g_autofree char *command = g_strdup_printf(
        "{\"execute\":\"chardev-change\",\"arguments\":{\"id\":\"char%s\",\"backend\":{\"type\":"
        "\"socket\",\"data\":{\"addr\":{\"type\":\"unix\",\"data\":{\"path\":\"%s\"}},"
        "\"server\":true,\"wait\":false}}}}", alias, path);
    char *answer = NULL;
    bool ok = virDomainQemuMonitorCommand(kvss_domain_handle(domain), command, &answer, 0) == 0
        && answer && strstr(answer, "\"return\"");

    free(answer);
    return ok;
}

/* libvirt finds the agent again when the channel is back and the agent reconnects. */
static bool
thaw_by_moved_channel(KvssDomain *domain, const char *xml)
{
    g_autofree char *alias = xpath_string(xml, "string(" CHANNEL "/alias/@name)");
    g_autofree char *path = xpath_string(xml, "string(" CHANNEL "/source/@path)");
    g_autofree char *ours = path ? g_strconcat(path, ".kvss", NULL) : NULL;
    bool thawed = false;

    if (!alias || !ours || !change_channel(domain, alias, ours))
        return false;
    {
        kvss_autofd int fd = connect_unix(ours);

        thawed = fd >= 0 && thaw_over(fd);
    }
    (void) change_channel(domain, alias, path);
    (void) unlink(ours);
    return thawed;
}

static void
press_sysrq_j(KvssDomain *domain)
{
    unsigned keys[] = { 56 /* left alt */, 99 /* sysrq */, 36 /* j */ };

    (void) virDomainSendKey(kvss_domain_handle(domain), VIR_KEYCODE_SET_LINUX, 100, keys,
                            G_N_ELEMENTS(keys), 0);
}

bool
kvss_agent_emergency_thaw(KvssDomain *domain)
{
    g_autofree char *xml = kvss_domain_xml(domain, false, NULL);

    if (!xml)
        return false;
    g_warning("%s: libvirt cannot reach the guest agent: trying its channel directly",
              kvss_domain_name(domain));
    if (thaw_by_channel_socket(xml) || thaw_by_moved_channel(domain, xml))
        return true;
    press_sysrq_j(domain);
    return false;
}
