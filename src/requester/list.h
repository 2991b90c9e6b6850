/*
 * list.h - the parts of kvss list; cmd-list.c chooses among them
 */
#pragma once

#include "requester/requester.h"

/* list-writers.c, list-providers.c: who takes part */
int kvss_list_writers(KvssRequester *requester, GError **error);
int kvss_list_providers(KvssRequester *requester, GError **error);
/* list-shadows.c: what a set has put on this host */
int kvss_list_shadows(KvssRequester *requester, GError **error);

/** What `list writers` prints of each writer. */
typedef enum {
    KVSS_LIST_PLAIN,    /* as vssadmin list writers */
    KVSS_LIST_STATUS,   /* as diskshadow's list writers status */
    KVSS_LIST_DETAILED, /* as diskshadow's list writers detailed */
    KVSS_LIST_METADATA, /* the writer metadata documents, as vshadow -wm3 */
} KvssListWriters;

/** @writers: (element-type KvssWriter), Identify behind them. On stdout. */
void kvss_list_print_writers(const GPtrArray *writers, KvssListWriters how, bool json);
/** @providers: (element-type KvssProvider) */
void kvss_list_print_providers(const GPtrArray *providers, bool json);
/** @sets: (element-type KvssShadowSet) */
void kvss_list_print_shadows(const GPtrArray *sets, bool json);
