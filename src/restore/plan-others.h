/*
 * plan-others.h - what the host's other VMs use, and a restore must leave alone
 *
 * Private to restore/.
 */
#pragma once

#include "restore/plan.h"

typedef struct {
    GHashTable *paths;  /* real path -> name of the VM */
    GHashTable *files;  /* "device:inode" of these -> name of the VM */
    GHashTable *macs;   /* lower case -> name of the VM */
    GHashTable *names;  /* name -> UUID */
} PlanOthers;

/** All VMs of the host but those that @plan replaces. @with_chains: the images below images, too. */
bool plan_others_learn(PlanOthers *others, const Plan *plan, bool with_chains, GError **error)
    G_GNUC_WARN_UNUSED_RESULT;
void plan_others_clear(PlanOthers *others);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(PlanOthers, plan_others_clear)

void plan_others_add(PlanOthers *others, const char *path, const char *vm);

/** Which VM uses the file at @real, by whatever name; NULL: none does. Borrowed. */
const char *plan_others_user_of(const PlanOthers *others, const char *real);
