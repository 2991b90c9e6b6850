/*
 * agent.c - the guest agent, asked through libvirt, never without a time limit
 *
 * Three traps shape this file (libvirt's defaults are not safe):
 * - without virDomainAgentSetResponseTimeout a hung agent blocks libvirt's own
 *   agent calls, and every later one, for ever. That limit stays set for all users
 *   of the domain, so it is set for freeze and thaw only; looking changes nothing;
 * - a freeze that timed out may be carried out later, so that only the guest's
 *   own status counts afterwards;
 * - whatever is to be known must be asked before the freeze: a frozen agent
 *   answers ping, status and thaw only.
 *
 * Everything the guest says is bounded and never run.
 */
#include "host/agent-emergency.h"
#include "host/domain.h"

#include <json-glib/json-glib.h>
#include <libvirt/libvirt-qemu.h>
#include <libvirt/virterror.h>
#include <stdlib.h>
#include <string.h>

#define ANSWER_LENGTH_MAX (4 * 1024 * 1024)
#define MOUNTS_LENGTH_MAX (256 * 1024)
/* Of file systems, of disks, of what one is made of. */
#define LIST_LENGTH_MAX 4096
#define RETRY_INTERVAL_US (200 * 1000)
/* The ways round libvirt disturb its own view of the channel: not more often than this. */
#define EMERGENCY_INTERVAL_US (20 * G_USEC_PER_SEC)
/* One call while thawing for sure: short, so that the retries come often. */
#define THAW_CALL_LIMIT_S 3
/*
 * An agent that hangs takes the whole limit. A refusal that comes sooner is libvirt's
 * own: it has no line to the agent, whatever state its XML shows.
 */
#define PROMPT_LIMIT_US (THAW_CALL_LIMIT_S * G_USEC_PER_SEC / 2)

static void
mount_free(KvssGuestMount *mount)
{
    g_free(mount->mountpoint);
    g_free(mount->type);
    g_free(mount->device);
    g_strfreev(mount->targets);
    g_free(mount);
}

static void
stack_free(KvssGuestStack *stack)
{
    g_free(stack->name);
    g_strfreev(stack->targets);
    g_free(stack);
}

void
kvss_guest_info_free(KvssGuestInfo *info)
{
    if (!info)
        return;
    g_ptr_array_unref(info->mounts);
    g_ptr_array_unref(info->stacks);
    g_free(info);
}

/* The last libvirt error of an agent call, with the agent's own refusals told apart. Callers say whose agent. */
static bool
throw_agent(GError **error, const char *what)
{
    g_autoptr(GError) local = NULL;

    (void) kvss_throw_libvirt(&local, "guest agent: %s", what);
    if (local->code == KVSS_HOST_ERROR_FAILED && virGetLastErrorCode() == VIR_ERR_INTERNAL_ERROR)
        local->code = KVSS_HOST_ERROR_AGENT_REFUSED;
    g_propagate_error(error, g_steal_pointer(&local));
    return false;
}

/* One command. Returns the member "return" of the answer. */
static JsonNode *
agent_ask(KvssDomain *domain, const char *command, unsigned limit_s, GError **error)
{
    g_autoptr(JsonParser) parser = json_parser_new_immutable();
    g_autoptr(GError) local = NULL;
    JsonNode *root;
    char *answer = virDomainQemuAgentCommand(kvss_domain_handle(domain), command, (int) limit_s, 0);
    bool ok;

    if (!answer) {
        throw_agent(error, "no answer");
        return NULL;
    }
    ok = strlen(answer) <= ANSWER_LENGTH_MAX
        && json_parser_load_from_data(parser, answer, -1, &local);
    free(answer);
    root = ok ? json_parser_get_root(parser) : NULL;
    if (!root || !JSON_NODE_HOLDS_OBJECT(root)
        || !json_object_has_member(json_node_get_object(root), "return")) {
        kvss_throw(error, KVSS_HOST_ERROR, KVSS_HOST_ERROR_INVALID,
                   "guest agent: an answer that cannot be understood: %s",
                   local ? local->message : "no return value");
        return NULL;
    }
    return json_node_copy(json_object_get_member(json_node_get_object(root), "return"));
}

bool
kvss_agent_ping(KvssDomain *domain, unsigned limit_s, GError **error)
{
    g_autoptr(JsonNode) answer = agent_ask(domain, "{\"execute\":\"guest-ping\"}", limit_s, error);

    return answer != NULL;
}

bool
kvss_agent_status(KvssDomain *domain, unsigned limit_s, bool *out_frozen, GError **error)
{
    g_autoptr(JsonNode) answer
        = agent_ask(domain, "{\"execute\":\"guest-fsfreeze-status\"}", limit_s, error);
    const char *word;

    if (!answer)
        return false;
    word = JSON_NODE_HOLDS_VALUE(answer) ? json_node_get_string(answer) : NULL;
    if (g_strcmp0(word, "thawed") != 0 && g_strcmp0(word, "frozen") != 0)
        return kvss_throw(error, KVSS_HOST_ERROR, KVSS_HOST_ERROR_INVALID,
                          "guest agent: freeze status '%s' is neither thawed nor frozen",
                          word ? word : "?");
    *out_frozen = g_str_equal(word, "frozen");
    return true;
}

static bool
set_limit(KvssDomain *domain, unsigned limit_s, GError **error)
{
    if (virDomainAgentSetResponseTimeout(kvss_domain_handle(domain), (int) limit_s, 0) == 0)
        return true;
    return throw_agent(error, "cannot set a time limit");
}

bool
kvss_agent_freeze(KvssDomain *domain, unsigned limit_s, int *out_frozen, GError **error)
{
    int n;

    if (!set_limit(domain, limit_s, error))
        return false;
    n = virDomainFSFreeze(kvss_domain_handle(domain), NULL, 0, 0);
    if (n < 0)
        return throw_agent(error, "freeze");
    *out_frozen = n;
    return true;
}

bool
kvss_agent_thaw(KvssDomain *domain, unsigned limit_s, int *out_thawed, GError **error)
{
    int n;

    if (!set_limit(domain, limit_s, error))
        return false;
    n = virDomainFSThaw(kvss_domain_handle(domain), NULL, 0, 0);
    if (n < 0)
        return throw_agent(error, "thaw");
    *out_thawed = n;
    return true;
}

/* A guest that does not run any more has nothing frozen. */
static bool
is_without_guest(KvssDomain *domain)
{
    KvssDomainState state;
    g_autoptr(GError) error = NULL;

    if (kvss_domain_get_state(domain, &state, NULL, &error))
        return state == KVSS_DOMAIN_OFF || state == KVSS_DOMAIN_SAVED;
    return g_error_matches(error, KVSS_HOST_ERROR, KVSS_HOST_ERROR_NOT_FOUND);
}

/*
 * The order matters: ask first, because thaw of a guest that is about to carry
 * out a late freeze would come too early; a ping that fails makes libvirt
 * resynchronise the channel, which drops a command not yet read.
 */
static bool
thaw_once(KvssDomain *domain, bool *out_is_cut_off, GError **error)
{
    g_autoptr(GError) local = NULL;
    bool frozen = true;
    gint64 begin_us;
    int n;

    /* Its answer is not believed, the status is: a failing thaw hook is an error of a thawed guest. */
    if (!kvss_agent_thaw(domain, THAW_CALL_LIMIT_S, &n, NULL))
        g_debug("%s: thaw failed, asking for the status", kvss_domain_name(domain));
    begin_us = g_get_monotonic_time();
    if (!kvss_agent_status(domain, THAW_CALL_LIMIT_S, &frozen, &local)) {
        *out_is_cut_off = g_error_matches(local, KVSS_HOST_ERROR, KVSS_HOST_ERROR_AGENT)
            && g_get_monotonic_time() - begin_us < PROMPT_LIMIT_US;
        g_propagate_error(error, g_steal_pointer(&local));
        return false;
    }
    if (frozen)
        return kvss_throw(error, KVSS_HOST_ERROR, KVSS_HOST_ERROR_AGENT, "it is still frozen");
    return true;
}

/*
 * An agent that hangs cannot be helped by going round libvirt. One that libvirt
 * has lost, while it is alive, can.
 */
static bool
is_agent_lost(KvssDomain *domain)
{
    g_autoptr(KvssDomainConfig) config = kvss_domain_config(domain, NULL);

    return config && config->has_agent_channel && !config->agent_connected;
}

bool
kvss_agent_thaw_surely(KvssDomain *domain, gint64 deadline_us, GError **error)
{
    g_autoptr(GError) last = NULL;
    gint64 next_emergency_us = 0;

    for (;;) {
        gint64 now_us;
        bool is_cut_off = false;

        g_clear_error(&last);
        if (thaw_once(domain, &is_cut_off, &last) || is_without_guest(domain))
            return true;
        now_us = g_get_monotonic_time();
        if (now_us >= next_emergency_us && (is_cut_off || is_agent_lost(domain))) {
            if (kvss_agent_emergency_thaw(domain))
                return true;
            next_emergency_us = now_us + EMERGENCY_INTERVAL_US;
        }
        if (now_us + RETRY_INTERVAL_US > deadline_us)
            break;
        g_usleep(RETRY_INTERVAL_US);
    }
    return kvss_throw(error, KVSS_HOST_ERROR, KVSS_HOST_ERROR_AGENT,
                      "%s may be frozen and its guest agent cannot be reached: %s; inside the "
                      "guest run 'fsfreeze -u' on each file system, or reset the VM",
                      kvss_domain_name(domain), last->message);
}

/* ---- looking ---- */

static bool
look_commands(KvssGuestInfo *info, KvssDomain *domain, unsigned limit_s, GError **error)
{
    g_autoptr(JsonNode) answer = agent_ask(domain, "{\"execute\":\"guest-info\"}", limit_s, error);
    JsonObject *object;
    JsonArray *commands;

    if (!answer)
        return false;
    object = JSON_NODE_HOLDS_OBJECT(answer) ? json_node_get_object(answer) : NULL;
    if (!object || !json_object_has_member(object, "supported_commands"))
        return true;
    commands = json_object_get_array_member(object, "supported_commands");
    for (guint i = 0; commands && i < json_array_get_length(commands); i++) {
        JsonObject *command = json_array_get_object_element(commands, i);

        if (command
            && g_strcmp0(json_object_get_string_member_with_default(command, "name", ""),
                         "guest-fsfreeze-freeze") == 0)
            info->can_freeze
                = json_object_get_boolean_member_with_default(command, "enabled", FALSE);
    }
    return true;
}

/* NULL for a member that is absent or no list. */
static JsonArray *
list_member(JsonObject *object, const char *name)
{
    JsonNode *node = object ? json_object_get_member(object, name) : NULL;

    return node && JSON_NODE_HOLDS_ARRAY(node) ? json_node_get_array(node) : NULL;
}

static JsonObject *
object_member(JsonObject *object, const char *name)
{
    JsonNode *node = object ? json_object_get_member(object, name) : NULL;

    return node && JSON_NODE_HOLDS_OBJECT(node) ? json_node_get_object(node) : NULL;
}

static JsonObject *
element(JsonArray *list, guint i)
{
    JsonNode *node = json_array_get_element(list, i);

    return JSON_NODE_HOLDS_OBJECT(node) ? json_node_get_object(node) : NULL;
}

/* (nullable) */
static const char *
text_member(JsonObject *object, const char *name)
{
    return json_object_get_string_member_with_default(object, name, NULL);
}

static unsigned
number_member(JsonObject *object, const char *name)
{
    return (unsigned) json_object_get_int_member_with_default(object, name, -1);
}

/* The elements of a list, bounded. */
static guint
count(JsonArray *list)
{
    return list ? MIN(json_array_get_length(list), LIST_LENGTH_MAX) : 0;
}

/*
 * Libvirt has calls that say which disk of the domain a guest's device is. They
 * obey one time limit a domain, which nobody can read and which stays set for
 * everybody else: so the guest is asked itself, and its addresses are compared.
 */
static const char *
target_at(const KvssDomainConfig *config, JsonObject *address)
{
    JsonObject *pci_object = object_member(address, "pci-controller");
    KvssPciAddress pci;
    unsigned drive[3];
    g_autofree char *function = NULL, *behind = NULL;

    if (!pci_object)
        return NULL;
    pci = (KvssPciAddress) { number_member(pci_object, "domain"), number_member(pci_object, "bus"),
                             number_member(pci_object, "slot"),
                             number_member(pci_object, "function") };
    drive[0] = number_member(address, "bus");
    drive[1] = number_member(address, "target");
    drive[2] = number_member(address, "unit");
    function = kvss_disk_address(&pci, NULL);
    behind = kvss_disk_address(&pci, drive);
    for (guint i = 0; i < config->disks->len; i++) {
        const KvssDiskConfig *disk = g_ptr_array_index(config->disks, i);

        if (g_strcmp0(disk->address, function) == 0 || g_strcmp0(disk->address, behind) == 0)
            return disk->target;
    }
    return NULL;
}

static void
add_mount(KvssGuestInfo *info, const KvssDomainConfig *config, JsonObject *object)
{
    JsonArray *disks = list_member(object, "disk");
    KvssGuestMount *mount = g_new0(KvssGuestMount, 1);
    g_autoptr(GStrvBuilder) targets = g_strv_builder_new();
    const char *type = text_member(object, "type");

    mount->mountpoint = g_strdup(text_member(object, "mountpoint"));
    mount->type = g_strdup(type ? type : "unknown");
    mount->device = g_strdup(text_member(object, "name"));
    for (guint i = 0; i < count(disks); i++) {
        JsonObject *disk = element(disks, i);
        const char *target = disk ? target_at(config, disk) : NULL;

        if (target)
            g_strv_builder_add(targets, target);
    }
    mount->targets = g_strv_builder_end(targets);
    g_ptr_array_add(info->mounts, mount);
}

static bool
look_mounts(KvssGuestInfo *info, KvssDomain *domain, const KvssDomainConfig *config,
            unsigned limit_s, GError **error)
{
    g_autoptr(JsonNode) answer
        = agent_ask(domain, "{\"execute\":\"guest-get-fsinfo\"}", limit_s, error);
    JsonArray *list;

    if (!answer)
        return false;
    if (!JSON_NODE_HOLDS_ARRAY(answer))
        return kvss_throw(error, KVSS_HOST_ERROR, KVSS_HOST_ERROR_INVALID,
                          "guest agent: its list of file systems is no list");
    list = json_node_get_array(answer);
    for (guint i = 0; i < count(list); i++) {
        JsonObject *object = element(list, i);

        if (object && text_member(object, "mountpoint"))
            add_mount(info, config, object);
    }
    return true;
}

/*
 * ---- /proc/mounts ----
 * libvirt's list holds neither network mounts nor what is mounted read-only.
 */

static bool
is_remote_type(const char *type)
{
    static const char *const types[] = {
        "nfs", "nfs4", "cifs", "smb3", "smbfs", "ceph", "9p", "virtiofs", "afs", "ncpfs",
        "glusterfs", "fuse.glusterfs", "fuse.sshfs", "lustre", "beegfs", "orangefs", "coda", NULL,
    };

    return g_strv_contains(types, type);
}

static char *
read_guest_file(KvssDomain *domain, const char *path, unsigned limit_s)
{
    g_autofree char *open = g_strdup_printf(
        "{\"execute\":\"guest-file-open\",\"arguments\":{\"path\":\"%s\",\"mode\":\"r\"}}", path);
    g_autoptr(JsonNode) handle = agent_ask(domain, open, limit_s, NULL);
    g_autoptr(GString) text = g_string_new(NULL);
    g_autofree char *read = NULL, *close = NULL;
    bool ok = true, at_end = false;

    if (!handle || !JSON_NODE_HOLDS_VALUE(handle))
        return NULL;
    read = g_strdup_printf("{\"execute\":\"guest-file-read\",\"arguments\":{\"handle\":%"
                           G_GINT64_FORMAT ",\"count\":65536}}", json_node_get_int(handle));
    close = g_strdup_printf("{\"execute\":\"guest-file-close\",\"arguments\":{\"handle\":%"
                            G_GINT64_FORMAT "}}", json_node_get_int(handle));
    while (ok && !at_end && text->len < MOUNTS_LENGTH_MAX) {
        g_autoptr(JsonNode) answer = agent_ask(domain, read, limit_s, NULL);
        JsonObject *object = answer && JSON_NODE_HOLDS_OBJECT(answer)
            ? json_node_get_object(answer) : NULL;
        g_autofree guchar *bytes = NULL;
        gsize length = 0;

        ok = object != NULL;
        if (!ok)
            break;
        bytes = g_base64_decode(json_object_get_string_member_with_default(object, "buf-b64", ""),
                                &length);
        g_string_append_len(text, (char *) bytes, (gssize) length);
        at_end = length == 0 || json_object_get_boolean_member_with_default(object, "eof", FALSE);
    }
    {
        g_autoptr(JsonNode) ignored = agent_ask(domain, close, limit_s, NULL);
    }
    return ok ? g_string_free(g_steal_pointer(&text), FALSE) : NULL;
}

static void
add_remote_mount(KvssGuestInfo *info, char **fields, bool is_readonly)
{
    KvssGuestMount *mount = g_new0(KvssGuestMount, 1);

    mount->device = g_strdup(fields[0]);
    mount->mountpoint = g_strdup(fields[1]);
    mount->type = g_strdup(fields[2]);
    mount->targets = g_new0(char *, 1);
    mount->is_remote = true;
    mount->is_readonly = is_readonly;
    g_ptr_array_add(info->mounts, mount);
}

static void
mark_readonly(KvssGuestInfo *info, const char *mountpoint)
{
    for (guint i = 0; i < info->mounts->len; i++) {
        KvssGuestMount *mount = g_ptr_array_index(info->mounts, i);

        if (g_strcmp0(mount->mountpoint, mountpoint) == 0)
            mount->is_readonly = true;
    }
}

static void
look_proc_mounts(KvssGuestInfo *info, KvssDomain *domain, unsigned limit_s)
{
    g_autofree char *text = read_guest_file(domain, "/proc/mounts", limit_s);
    g_auto(GStrv) lines = NULL;

    info->mounts_complete = text != NULL;
    if (!text)
        return;
    lines = g_strsplit(text, "\n", -1);
    for (char **line = lines; *line; line++) {
        g_auto(GStrv) fields = g_strsplit(*line, " ", 5);
        bool is_readonly;

        if (g_strv_length(fields) < 4)
            continue;
        is_readonly = g_str_has_prefix(fields[3], "ro,") || g_str_equal(fields[3], "ro");
        if (is_remote_type(fields[2]))
            add_remote_mount(info, fields, is_readonly);
        else if (is_readonly)
            mark_readonly(info, fields[1]);
    }
}

/* ---- stacking: devices built from devices ---- */

typedef struct {
    const char *name, *alias;
    bool is_partition;
    GPtrArray *dependencies; /* const char* */
} GuestDisk;

static void
guest_disk_free(GuestDisk *disk)
{
    g_ptr_array_unref(disk->dependencies);
    g_free(disk);
}

/* Strings are the answer's and the configuration's. */
static GuestDisk *
guest_disk_new(const KvssDomainConfig *config, JsonObject *object)
{
    JsonArray *dependencies = list_member(object, "dependencies");
    GuestDisk *disk = g_new0(GuestDisk, 1);

    disk->dependencies = g_ptr_array_new();
    disk->name = text_member(object, "name");
    disk->alias = target_at(config, object_member(object, "address"));
    disk->is_partition = json_object_get_boolean_member_with_default(object, "partition", FALSE);
    for (guint i = 0; i < count(dependencies); i++) {
        JsonNode *node = json_array_get_element(dependencies, i);
        const char *on = JSON_NODE_HOLDS_VALUE(node) ? json_node_get_string(node) : NULL;

        if (on)
            g_ptr_array_add(disk->dependencies, (gpointer) on);
    }
    return disk;
}

static GHashTable *
collect_disks(const KvssDomainConfig *config, JsonArray *list)
{
    GHashTable *disks = g_hash_table_new_full(g_str_hash, g_str_equal, NULL,
                                              (GDestroyNotify) guest_disk_free);

    for (guint i = 0; i < count(list); i++) {
        JsonObject *object = element(list, i);
        GuestDisk *disk = object ? guest_disk_new(config, object) : NULL;

        if (disk && disk->name)
            g_hash_table_replace(disks, (gpointer) disk->name, disk);
        else if (disk)
            guest_disk_free(disk);
    }
    return disks;
}

/* Adds the domain's targets below @name; false if some device below is none of them. */
static bool
resolve_targets(GHashTable *disks, const char *name, GHashTable *out_targets, unsigned depth)
{
    const GuestDisk *disk = g_hash_table_lookup(disks, name);
    bool complete = true;

    if (!disk || depth > 16)
        return false;
    if (disk->alias) {
        g_hash_table_add(out_targets, (gpointer) disk->alias);
        return true;
    }
    for (guint i = 0; i < disk->dependencies->len; i++)
        complete &= resolve_targets(disks, g_ptr_array_index(disk->dependencies, i), out_targets,
                                    depth + 1);
    return complete && disk->dependencies->len > 0;
}

static int
compare_strings(gconstpointer a, gconstpointer b)
{
    return strcmp(*(const char *const *) a, *(const char *const *) b);
}

static void
add_stack(KvssGuestInfo *info, GHashTable *disks, const GuestDisk *disk)
{
    g_autoptr(GHashTable) targets = g_hash_table_new(g_str_hash, g_str_equal);
    KvssGuestStack *stack = g_new0(KvssGuestStack, 1);
    guint n;
    gpointer *keys;

    stack->name = g_strdup(disk->name);
    stack->is_complete = resolve_targets(disks, disk->name, targets, 0);
    keys = g_hash_table_get_keys_as_array(targets, &n);
    qsort(keys, n, sizeof *keys, compare_strings);
    stack->targets = g_strdupv((char **) keys);
    g_free(keys);
    g_ptr_array_add(info->stacks, stack);
}

/* Old agents cannot tell: then no stacking is known, and the mounts still name their disks. */
static void
look_stacks(KvssGuestInfo *info, KvssDomain *domain, const KvssDomainConfig *config,
            unsigned limit_s)
{
    g_autoptr(JsonNode) answer
        = agent_ask(domain, "{\"execute\":\"guest-get-disks\"}", limit_s, NULL);
    g_autoptr(GHashTable) disks = NULL;
    GHashTableIter iter;
    gpointer value;

    if (!answer || !JSON_NODE_HOLDS_ARRAY(answer))
        return;
    disks = collect_disks(config, json_node_get_array(answer));
    g_hash_table_iter_init(&iter, disks);
    while (g_hash_table_iter_next(&iter, NULL, &value)) {
        const GuestDisk *disk = value;

        if (!disk->is_partition && !disk->alias && disk->dependencies->len > 0)
            add_stack(info, disks, disk);
    }
}

KvssGuestInfo *
kvss_agent_look(KvssDomain *domain, unsigned limit_s, GError **error)
{
    g_autoptr(KvssGuestInfo) info = g_new0(KvssGuestInfo, 1);
    g_autoptr(KvssDomainConfig) config = NULL;

    info->mounts = g_ptr_array_new_with_free_func((GDestroyNotify) mount_free);
    info->stacks = g_ptr_array_new_with_free_func((GDestroyNotify) stack_free);
    if (!look_commands(info, domain, limit_s, error))
        return NULL;
    if (!kvss_agent_status(domain, limit_s, &info->is_frozen, error))
        return NULL;
    if (info->is_frozen)
        return g_steal_pointer(&info); /* answers nothing more now */
    config = kvss_domain_config(domain, error);
    if (!config || !look_mounts(info, domain, config, limit_s, error))
        return NULL;
    look_proc_mounts(info, domain, limit_s);
    look_stacks(info, domain, config, limit_s);
    return g_steal_pointer(&info);
}
