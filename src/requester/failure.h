/*
 * failure.h - which VSS result code a failure has, in its sentence and in its JSON
 */
#pragma once

#include "requester/requester.h"

/**
 * kvss_failure_settle:
 * @error: a failed command's; its message may grow
 *
 * Afterwards requester->failure and the message agree: a message of a failure that
 * has a result code ends with it, "(VSS_E_WRITERERROR_TIMEOUT, 0x800423F2)", once.
 * What the coordinator reported ends so already; others get the code that was noted,
 * or the one that fits the error. Wrong usage, a wrong password, a repository that
 * cannot be opened have none.
 */
void kvss_failure_settle(KvssRequester *requester, GError *error);
