/*
 * connection.c - the hypervisor's host, as libvirt shows it
 */
#include "host/connection.h"
#include "host/domain.h"

#include <libvirt/virterror.h>
#include <libxml/parser.h>
#include <libxml/uri.h>
#include <libxml/xpath.h>
#include <string.h>

struct KvssHost {
    char *uri;
    virConnectPtr connection;
    char *name;
    char *versions;
    char *save_folder, *nvram_folder, *tpm_folder;
    char *images_folder; /* (nullable) */
    bool is_local;
    bool is_embedded;
    gint64 opened_us;
};

/* An embedded driver needs about one second to find the agents of running guests. */
#define SETTLING_US (4 * G_USEC_PER_SEC)

/* A dead daemon is noticed after 5 s x 3 without an answer. */
#define KEEPALIVE_INTERVAL_S 5
#define KEEPALIVE_COUNT 3

static void
be_silent(void *data, virErrorPtr error)
{
    /* Errors are returned; libvirt's habit of printing them as well is switched off. */
}

static gpointer
event_loop(gpointer data)
{
    for (;;) {
        if (virEventRunDefaultImpl() < 0)
            g_usleep(10 * 1000);
    }
    return NULL;
}

/* libvirt's loop wakes up only for registered things; this keeps it from sleeping for ever. */
static void
tick(int timer, void *data)
{
}

/* The processes that the driver forks forget the outputs and keep only the least priority. */
void
kvss_host_keep_quiet(void)
{
    if (g_getenv("LIBVIRT_DEBUG"))
        return;
    (void) g_setenv("LIBVIRT_LOG_OUTPUTS", "4:file:/dev/null", FALSE);
    (void) g_setenv("LIBVIRT_DEBUG", "4", FALSE);
}

static gpointer
library_start(gpointer data)
{
    virInitialize();
    virSetErrorFunc(NULL, be_silent);
    virEventRegisterDefaultImpl();
    (void) virEventAddTimeout(1000, tick, NULL, NULL);
    g_thread_unref(g_thread_new("libvirt-events", event_loop, NULL));
    return NULL;
}

static virConnectPtr
connect_to(const char *uri, GError **error)
{
    virConnectPtr connection;

    virResetLastError();
    connection = virConnectOpen(uri);
    if (!connection) {
        kvss_throw_libvirt(error, "cannot connect to libvirt at %s (is its daemon running?)", uri);
        if (error && *error && (*error)->domain == KVSS_HOST_ERROR)
            (*error)->code = KVSS_HOST_ERROR_NO_CONNECTION;
        return NULL;
    }
    /* Refused by drivers without a daemon; they have nobody who could fall silent. */
    (void) virConnectSetKeepAlive(connection, KEEPALIVE_INTERVAL_S, KEEPALIVE_COUNT);
    return connection;
}

static char *
describe_versions(virConnectPtr connection)
{
    unsigned long lib = 0, hypervisor = 0;
    const char *type = virConnectGetType(connection);

    (void) virConnectGetLibVersion(connection, &lib);
    (void) virConnectGetVersion(connection, &hypervisor);
    return g_strdup_printf("libvirt %lu.%lu.%lu, %s %lu.%lu.%lu", lib / 1000000,
                           lib / 1000 % 1000, lib % 1000, type ? type : "hypervisor",
                           hypervisor / 1000000, hypervisor / 1000 % 1000, hypervisor % 1000);
}

static char *
embed_root(xmlURIPtr uri)
{
    const char *query = uri->query_raw ? uri->query_raw : "";

    if (!g_str_has_prefix(query, "root="))
        return NULL;
    return g_uri_unescape_segment(query + strlen("root="), query + strcspn(query, "&"), NULL);
}

static bool
is_qemu(xmlURIPtr uri)
{
    return uri && uri->scheme && g_str_has_prefix(uri->scheme, "qemu");
}

/* No call of libvirt tells these paths. */
static void
host_learn_folders(KvssHost *host, xmlURIPtr uri)
{
    if (host->is_embedded) {
        g_autofree char *root = embed_root(uri);

        host->save_folder = g_build_filename(root ? root : "/", "lib", "qemu", "save", NULL);
        host->nvram_folder = g_build_filename(root ? root : "/", "lib", "qemu", "nvram", NULL);
        host->tpm_folder = g_build_filename(root ? root : "/", "lib", "qemu", "swtpm", NULL);
        host->images_folder = g_build_filename(root ? root : "/", "lib", "images", NULL);
    } else if (uri && uri->path && g_str_equal(uri->path, "/session")) {
        host->save_folder = g_build_filename(g_get_user_config_dir(), "libvirt", "qemu", "save",
                                             NULL);
        host->nvram_folder = g_build_filename(g_get_user_config_dir(), "libvirt", "qemu", "nvram",
                                              NULL);
        host->tpm_folder = g_build_filename(g_get_user_config_dir(), "libvirt", "qemu", "swtpm",
                                            NULL);
        host->images_folder = g_build_filename(g_get_user_data_dir(), "libvirt", "images", NULL);
    } else {
        host->save_folder = g_strdup("/var/lib/libvirt/qemu/save");
        host->nvram_folder = g_strdup("/var/lib/libvirt/qemu/nvram");
        host->tpm_folder = g_strdup("/var/lib/libvirt/swtpm");
        host->images_folder = is_qemu(uri) ? g_strdup("/var/lib/libvirt/images") : NULL;
    }
}

static void
host_learn_uri(KvssHost *host, const char *text)
{
    xmlURIPtr uri = xmlParseURI(text);

    host->is_embedded = uri && uri->path && g_str_equal(uri->path, "/embed");
    host->is_local = !uri || !uri->server || *uri->server == '\0';
    host_learn_folders(host, uri);
    xmlFreeURI(uri);
}

KvssHost *
kvss_host_open(const char *uri, GError **error)
{
    static GOnce once = G_ONCE_INIT;
    g_autoptr(KvssHost) host = g_new0(KvssHost, 1);
    char *name;

    g_once(&once, library_start, NULL);
    host->uri = g_strdup(uri);
    host_learn_uri(host, uri);
    host->connection = connect_to(uri, error);
    if (!host->connection)
        return NULL;

    host->opened_us = g_get_monotonic_time();
    name = virConnectGetHostname(host->connection);
    host->name = g_strdup(name ? name : g_get_host_name());
    free(name);
    host->versions = describe_versions(host->connection);
    return g_steal_pointer(&host);
}

void
kvss_host_free(KvssHost *host)
{
    if (!host)
        return;
    /*
     * An embedded driver that is closed tears itself down beside its own threads,
     * and falls over now and then. It ends with the process; its QEMUs live on.
     */
    if (host->connection && !host->is_embedded)
        (void) virConnectClose(host->connection);
    g_free(host->uri);
    g_free(host->name);
    g_free(host->versions);
    g_free(host->save_folder);
    g_free(host->nvram_folder);
    g_free(host->tpm_folder);
    g_free(host->images_folder);
    g_free(host);
}

/* The daemon's thread that has the request may have to wait for a processor. */
#define SETTLE_US G_USEC_PER_SEC

void
kvss_host_settle(KvssHost *host)
{
    unsigned long version;

    if (host->is_embedded || g_str_has_prefix(host->uri, "test:"))
        return;
    (void) virConnectGetLibVersion(host->connection, &version);
    g_usleep(SETTLE_US);
}

const char *
kvss_host_uri(const KvssHost *host)
{
    return host->uri;
}

const char *
kvss_host_name(const KvssHost *host)
{
    return host->name;
}

bool
kvss_host_is_local(const KvssHost *host)
{
    return host->is_local;
}

bool
kvss_host_is_embedded(const KvssHost *host)
{
    return host->is_embedded;
}

bool
kvss_host_is_settling(const KvssHost *host)
{
    return host->is_embedded && g_get_monotonic_time() - host->opened_us < SETTLING_US;
}

const char *
kvss_host_versions(const KvssHost *host)
{
    return host->versions;
}

const char *
kvss_host_save_folder(const KvssHost *host)
{
    return host->save_folder;
}

char *
kvss_host_nvram_path(const KvssHost *host, const KvssDomainConfig *config, const char *name)
{
    if (config->nvram || !config->chooses_firmware)
        return g_strdup(config->nvram);
    return g_strdup_printf("%s/%s_VARS.fd", host->nvram_folder, name);
}

const char *
kvss_host_tpm_folder(const KvssHost *host)
{
    return host->tpm_folder;
}

/* The folder that a pool of type "dir" stands for; NULL: it is of another kind. */
static char *
pool_folder(const char *xml)
{
    xmlDocPtr document = xmlReadMemory(xml, (int) strlen(xml), NULL, NULL,
                                       XML_PARSE_NONET | XML_PARSE_NOERROR | XML_PARSE_NOWARNING);
    xmlXPathContextPtr context = document ? xmlXPathNewContext(document) : NULL;
    xmlXPathObjectPtr found = context ? xmlXPathEvalExpression(
        (const xmlChar *) "string(/pool[@type='dir']/target/path)", context) : NULL;
    const char *path = found ? (const char *) found->stringval : NULL;
    char *folder = path && g_path_is_absolute(path) ? g_strdup(path) : NULL;

    xmlXPathFreeObject(found);
    xmlXPathFreeContext(context);
    xmlFreeDoc(document);
    return folder;
}

char *
kvss_host_images_folder(KvssHost *host)
{
    virStoragePoolPtr pool = virStoragePoolLookupByName(host->connection, "default");
    char *xml = pool ? virStoragePoolGetXMLDesc(pool, 0) : NULL;
    char *folder = xml ? pool_folder(xml) : NULL;

    free(xml);
    if (pool)
        (void) virStoragePoolFree(pool);
    return folder ? folder : g_strdup(host->images_folder);
}

virConnectPtr
kvss_host_connection(KvssHost *host)
{
    return host->connection;
}

virConnectPtr
kvss_host_new_connection(KvssHost *host, GError **error)
{
    if (!host->is_embedded)
        return connect_to(host->uri, error);
    (void) virConnectRef(host->connection);
    return host->connection;
}

static gint
compare_names(gconstpointer a, gconstpointer b)
{
    return strcmp(kvss_domain_name(*(KvssDomain *const *) a),
                  kvss_domain_name(*(KvssDomain *const *) b));
}

GPtrArray *
kvss_host_list_domains(KvssHost *host, GError **error)
{
    virDomainPtr *handles = NULL;
    int n = virConnectListAllDomains(host->connection, &handles, 0);
    g_autoptr(GPtrArray) domains = NULL;

    if (n < 0) {
        kvss_throw_libvirt(error, "cannot list the VMs at %s", host->uri);
        return NULL;
    }
    domains = g_ptr_array_new_with_free_func((GDestroyNotify) kvss_domain_free);
    for (int i = 0; i < n; i++)
        g_ptr_array_add(domains, kvss_domain_new(host, handles[i]));
    free(handles);
    g_ptr_array_sort(domains, compare_names);
    return g_steal_pointer(&domains);
}

KvssDomain *
kvss_host_find_domain(KvssHost *host, const char *name_or_uuid, GError **error)
{
    virDomainPtr handle = NULL;

    if (g_uuid_string_is_valid(name_or_uuid))
        handle = virDomainLookupByUUIDString(host->connection, name_or_uuid);
    if (!handle)
        handle = virDomainLookupByName(host->connection, name_or_uuid);
    if (!handle) {
        kvss_throw_libvirt(error, "no VM '%s' at %s", name_or_uuid, host->uri);
        return NULL;
    }
    return kvss_domain_new(host, handle);
}

char *
kvss_host_volume_path(KvssHost *host, const char *pool, const char *volume, GError **error)
{
    virStoragePoolPtr in = virStoragePoolLookupByName(host->connection, pool);
    virStorageVolPtr found = in ? virStorageVolLookupByName(in, volume) : NULL;
    char *path = found ? virStorageVolGetPath(found) : NULL;
    char *copy = g_strdup(path);

    if (!path)
        kvss_throw_libvirt(error, "volume %s of pool %s", volume, pool);
    free(path);
    if (found)
        (void) virStorageVolFree(found);
    if (in)
        (void) virStoragePoolFree(in);
    return copy;
}
