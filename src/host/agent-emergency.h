/*
 * agent-emergency.h - thawing a guest whose agent libvirt has lost
 */
#pragma once

#include <stdbool.h>

struct KvssDomain;

/**
 * kvss_agent_emergency_thaw:
 *
 * Tries, in order: the agent's channel socket directly, where libvirt does not
 * hold it; the channel moved to a socket of ours by QEMU's monitor; the kernel's
 * own emergency thaw (SysRq J), which the guest may have switched off and which
 * answers nothing. True only if the guest's agent said thawed.
 *
 * Blocks: at most 10 s. Source: QEMU guest agent protocol, guest-sync-delimited;
 * QMP chardev-change.
 */
bool kvss_agent_emergency_thaw(struct KvssDomain *domain);
