/*
 * documents.c - the VSS documents of a run, into the set
 */
#include "backup/documents.h"
#include "backup/backup.h"
#include "vss/documents.h"
#include "writer/writer.h"

#include <string.h>

/* Identities of the writers that take part. (element-type KvssWriterIdentity) */
static GArray *
involved_writers(KvssCoordinator *coordinator)
{
    GArray *identities = g_array_new(FALSE, FALSE, sizeof(KvssWriterIdentity));
    GPtrArray *writers = kvss_coordinator_writers(coordinator);

    for (guint i = 0; i < writers->len; i++) {
        const KvssWriter *writer = g_ptr_array_index(writers, i);
        KvssWriterIdentity identity = {
            .class_id = writer->ops->class_id,
            .friendly_name = writer->ops->friendly_name,
            .instance_id = writer->instance_id,
            .instance_name = writer->instance_name,
            .level = writer->level,
            .components = writer->components,
        };

        if (kvss_writer_is_involved(writer, kvss_coordinator_set(coordinator)))
            g_array_append_val(identities, identity);
    }
    return identities;
}

/* Takes @text; NULL with @trouble, which is taken too, when it could not be made. */
static bool
add_text(KvssUpload *upload, const char *path, char *text, GError *trouble, GError **error)
{
    g_autoptr(GError) refused = trouble;
    g_autoptr(GBytes) bytes = text ? g_bytes_new_take(text, strlen(text)) : NULL;

    /* Not the document's own error: that means damage to who reads one. */
    if (!bytes)
        return kvss_throw(error, KVSS_BACKUP_ERROR, KVSS_BACKUP_ERROR_DOCUMENT,
                          "%s would not be readable: %s", path, refused->message);
    return kvss_upload_add_bytes(upload, path, bytes, 0600, error);
}

/* VSS allows several writers of one class; how many of them came before this one. */
static unsigned
count_before(const GArray *identities, guint index)
{
    const char *class_id = g_array_index(identities, KvssWriterIdentity, index).class_id;
    unsigned n = 0;

    for (guint i = 0; i < index; i++)
        n += strcmp(g_array_index(identities, KvssWriterIdentity, i).class_id, class_id) == 0;
    return n;
}

static bool
add_writer(KvssUpload *upload, const GArray *identities, guint index, GError **error)
{
    const KvssWriterIdentity *identity = &g_array_index(identities, KvssWriterIdentity, index);
    unsigned before = count_before(identities, index);
    g_autofree char *suffix = before ? g_strdup_printf("-%u", before + 1) : g_strdup("");
    g_autofree char *path = g_strdup_printf("vss/writer-%s%s.xml", identity->class_id, suffix);
    GError *trouble = NULL;
    char *text;

    text = kvss_writer_metadata_document(identity, &trouble);
    return add_text(upload, path, text, trouble, error);
}

bool
kvss_backup_store_documents(KvssUpload *upload, KvssCoordinator *coordinator, GError **error)
{
    g_autoptr(GArray) identities = involved_writers(coordinator);
    GError *trouble = NULL;
    char *text;

    for (guint i = 0; i < identities->len; i++)
        if (!add_writer(upload, identities, i, error))
            return false;
    text = kvss_backup_components_document(kvss_coordinator_set(coordinator),
                                           (const KvssWriterIdentity *) (void *) identities->data,
                                           identities->len, &trouble);
    return add_text(upload, "vss/backup-components.xml", text, trouble, error);
}
