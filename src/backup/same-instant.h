/*
 * same-instant.h - were all guests frozen while each of them was cut?
 */
#pragma once

#include "vss/component.h"

/**
 * kvss_check_same_instant:
 * @guests: (element-type KvssComponent)
 *
 * By the times that were recorded: the last freeze was over before the first cut, and
 * no thaw had begun before the last one. Only guests that were frozen count: one that
 * stood still or was off has no say. The error names the VMs and times that disagree.
 */
bool kvss_check_same_instant(const GPtrArray *guests, GError **error) G_GNUC_WARN_UNUSED_RESULT;
