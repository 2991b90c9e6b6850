/*
 * commands.c - the table of commands
 *
 * kvss --help prints it, the manual page is checked against it. A command
 * without a function is known by name and not there yet.
 */
#include "requester/requester.h"

#include <limits.h>

#define FLAG(field) KVSS_OPTION_FLAG, G_STRUCT_OFFSET(KvssOptions, field)
#define TEXT(field) KVSS_OPTION_TEXT, G_STRUCT_OFFSET(KvssOptions, field)
#define LIST(field) KVSS_OPTION_LIST, G_STRUCT_OFFSET(KvssOptions, field)
#define ANY_NUMBER UINT_MAX

static const KvssOption list_options[] = {
    { "status", 0, FLAG(status), NULL, "writers: state and failure code, as diskshadow shows them" },
    { "metadata", 0, FLAG(metadata), NULL, "writers: their metadata documents, XML" },
    { "detailed", 0, FLAG(detailed), NULL, "writers: with events and every component" },
    { 0 },
};

static const KvssOption explain_options[] = {
    { "method", 0, LIST(method), "[VM=]M", "demand a method, of one VM or of all" },
    { "snapshot-dir", 0, TEXT(snapshot_dir), "DIR", "where overlays would go (condition C3)" },
    { "provider", 0, TEXT(provider), "NAME", "who makes the shadow copies: qemu, auto" },
    { "strict-conditions", 0, FLAG(strict_conditions), NULL, "C4 fails on any stacking" },
    { 0 },
};

static const KvssOption backup_options[] = {
    { "all", 0, FLAG(all), NULL, "every VM, and what host writers have" },
    { "exclude", 0, LIST(exclude), "VM", "leave this one out" },
    { "method", 0, LIST(method), "[VM=]M", "demand a method, of one VM or of all" },
    { "provider", 0, TEXT(provider), "NAME", "who makes the shadow copies: qemu, auto" },
    { "snapshot-dir", 0, TEXT(snapshot_dir), "DIR", "where overlays would go (condition C3)" },
    { "same-instant", 0, FLAG(same_instant), NULL, "freeze or stop all before the first cut" },
    { "strict-conditions", 0, FLAG(strict_conditions), NULL, "C4 fails on any stacking" },
    { "full", 0, FLAG(full), NULL, "read every disk whole" },
    { "limit", 0, TEXT(limit), "MIB", "read no more than that many MiB a second; 0: no limit" },
    { "type", 0, TEXT(type), "TYPE", "what writers may do to their logs: copy, full" },
    { "tag", 0, LIST(tag), "T", "tag the backup" },
    { 0 },
};

static const KvssOption restore_options[] = {
    { "to", 0, TEXT(to), "DIR", "put the disks there" },
    { "as", 0, TEXT(as), "NAME", "a copy: another VM of this name, the old one stays" },
    { "disk", 0, LIST(disk), "TARGET", "this disk only" },
    { "network", 0, LIST(network), "OLD=NEW", "connect to another network" },
    { "allow-host-access", 0, FLAG(allow_host_access), NULL, "keep what reaches into the host" },
    { "start", 0, FLAG(start), NULL, "start what was restored" },
    { "yes", 'y', FLAG(yes), NULL, "do not ask" },
    { "keep-old", 0, FLAG(keep_old), NULL, "keep what was set aside" },
    { "in-place", 0, FLAG(in_place), NULL, "write old disks over, only what differs" },
    { "no-rollback", 0, FLAG(no_rollback), NULL, "do so without a way back for their content" },
    { "dry-run", 'n', FLAG(dry_run), NULL, "say what would be done" },
    { 0 },
};

static const KvssOption show_options[] = {
    { "documents", 0, FLAG(documents), NULL, "print the VSS documents stored with it" },
    { 0 },
};

static const KvssOption verify_options[] = {
    { "read-data", 0, FLAG(read_data), NULL, "read every byte" },
    { "sample", 0, TEXT(sample), "AMOUNT", "read packs drawn at random: like 5% or 10G" },
    { "seed", 0, TEXT(seed), "NUMBER", "draw those that this number drew before" },
    { 0 },
};

static const KvssOption forget_options[] = {
    { "keep-last", 0, TEXT(keep_last), "N", "keep the newest N" },
    { "keep-hourly", 0, TEXT(keep_hourly), "N", "the newest of each of N hours" },
    { "keep-daily", 0, TEXT(keep_daily), "N", "the newest of each of N days" },
    { "keep-weekly", 0, TEXT(keep_weekly), "N", "the newest of each of N weeks" },
    { "keep-monthly", 0, TEXT(keep_monthly), "N", "the newest of each of N months" },
    { "keep-yearly", 0, TEXT(keep_yearly), "N", "the newest of each of N years" },
    { "keep-within", 0, TEXT(keep_within), "TIME", "all of the last 2y5m7d3h before the newest" },
    { "keep-tag", 0, LIST(keep_tag), "T[,T]", "all that have these tags" },
    { "group-by", 0, TEXT(group_by), "vm|set", "rules for each VM (default), or for equal sets" },
    { "allow-remove-all", 0, FLAG(allow_remove_all), NULL, "even the last backup of a VM" },
    { "prune", 0, FLAG(prune), NULL, "then free their space, as kvss prune does" },
    { "max-unused", 0, TEXT(max_unused), "LIMIT", "with --prune: as for prune" },
    { "max-repack", 0, TEXT(max_repack), "SIZE", "with --prune: as for prune" },
    { "dry-run", 'n', FLAG(dry_run), NULL, "say what would go" },
    { 0 },
};

static const KvssOption prune_options[] = {
    { "max-unused", 0, TEXT(max_unused), "LIMIT",
      "unused space that may stay: 5% (default), a size, unlimited" },
    { "max-repack", 0, TEXT(max_repack), "SIZE", "write no more than that anew" },
    { "allow-remove-all", 0, FLAG(allow_remove_all), NULL, "even when there is no snapshot left" },
    { "dry-run", 'n', FLAG(dry_run), NULL, "say what would be done" },
    { 0 },
};

static const KvssOption repair_options[] = {
    { "read-data", 0, FLAG(read_data), NULL, "read every byte" },
    { "dry-run", 'n', FLAG(dry_run), NULL, "look only" },
    { 0 },
};

static const KvssOption export_options[] = {
    { "format", 0, TEXT(format), "FORMAT", "raw, qcow2, vhdx or vpc; default: as FILE ends, else raw" },
    { 0 },
};

static const KvssOption serve_options[] = {
    { "socket", 0, TEXT(socket), "PATH", "where: a Unix socket, made there" },
    { 0 },
};

static const KvssOption key_options[] = {
    { "new-password-file", 0, TEXT(new_password_file), "FILE",
      "file with the new password (KVSS_NEW_PASSWORD_FILE, KVSS_NEW_PASSWORD)" },
    { 0 },
};

static const KvssOption doctor_options[] = {
    { "dry-run", 'n', FLAG(dry_run), NULL, "look only" },
    { 0 },
};

const KvssCommand kvss_commands[] = {
    { "init", "", "create a repository", NULL, kvss_cmd_init, 0, 0 },
    { "list", "vms|backups|writers|providers|shadows", "show what is there", list_options,
      kvss_cmd_list, 1, 1 },
    { "explain", "[VM...]", "show the method each VM would get, and why", explain_options,
      kvss_cmd_explain, 0, ANY_NUMBER },
    { "backup", "VM...|--all", "back VMs up as one set", backup_options, kvss_cmd_backup, 0,
      ANY_NUMBER },
    { "restore", "BACKUP [VM...]", "put VMs of a backup back", restore_options, kvss_cmd_restore,
      1, ANY_NUMBER },
    { "show", "BACKUP", "show what a backup holds", show_options, kvss_cmd_show, 1, 1 },
    { "verify", "[BACKUP...]", "check what is stored", verify_options, kvss_cmd_verify, 0,
      ANY_NUMBER },
    { "repair", "", "save what is whole of a damaged repository, and mark what is lost",
      repair_options, kvss_cmd_repair, 0, 0 },
    { "forget", "[BACKUP...]", "drop backups, by rules or by name", forget_options,
      kvss_cmd_forget, 0, ANY_NUMBER },
    { "prune", "", "free the space of dropped backups", prune_options, kvss_cmd_prune, 0, 0 },
    { "export", "BACKUP VM DISK FILE", "write a disk into a file", export_options, kvss_cmd_export,
      4, 4 },
    { "serve", "BACKUP [VM [DISK]] --socket PATH", "serve disks of a backup over NBD",
      serve_options, kvss_cmd_serve, 1, 3 },
    { "key", "list|add|remove KEY|passwd", "the passwords that open the repository", key_options,
      kvss_cmd_key, 1, 2 },
    { "doctor", "", "undo what an interrupted run left", doctor_options, kvss_cmd_doctor, 0, 0 },
    { 0 },
};
