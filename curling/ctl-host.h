/*
 * What the hosts behind two endpoints are like
 *
 * A host is looked at by a curlingctl that runs there: this one, or one that
 * is started over SSH.  A host behind tcp: cannot be looked at.
 *
 * Copyright the Curling authors
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef CURLING_CTL_HOST_H
#define CURLING_CTL_HOST_H

#include "ctl-endpoint.h"
#include "ctl-json.h"

/*
 * Facts of @endpoint's host, freed by the caller:
 *      clock-us            its wall clock, less half of what the question took
 *      memory-available    in bytes, as the kernel estimates it
 *      command-line        array: that of the process that serves the socket,
 *                          where that can be seen
 * NULL: @err.
 */
CtlJson *ctl_host_facts(const CtlEndpoint *endpoint, GError **err);

/*
 * Send zeros from @from's host to @host for half a second, at a port that is
 * opened for it on @to's host.  Bytes per second, or 0 with @err set.
 */
double ctl_host_measure(const CtlEndpoint *from, const CtlEndpoint *to,
                        const char *host, GError **err);

#endif
