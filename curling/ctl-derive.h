/*
 * A receiver's command line, derived from that of its sender
 *
 * Copyright the Curling authors
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef CURLING_CTL_DERIVE_H
#define CURLING_CTL_DERIVE_H

#include "ctl-json.h"

/*
 * @sender is an array of the arguments of a running QEMU.  The same machine,
 * with -incoming @uri; what the two cannot share (sockets, logs, pid files)
 * has ".receiver" at the end of its path, and what would keep it from waiting
 * (-S, -loadvm, another -incoming) is left out.  Quoted for a shell, an option
 * in each line; freed by the caller.
 */
char *ctl_derive_receiver(const CtlJson *sender, const char *uri);

#endif
