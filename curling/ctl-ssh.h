/*
 * Commands on another host, over SSH.  With ctl-sshlogin.c, which is only for
 * this one, the only part of curlingctl that knows libssh2.
 *
 * Each (user, host, port) has one connection, made when it is first needed,
 * by a thread of its own that serves all its channels: a channel is a command
 * that runs there, its stdin and stdout are a socket here.  What ~/.ssh/config
 * says of the host holds as far as ctl-sshconf.h reads it; the host's key must
 * be in known_hosts; keys come from the agent, then from files.
 *
 * Copyright the Curling authors
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef CURLING_CTL_SSH_H
#define CURLING_CTL_SSH_H

#include "ctl.h"

typedef struct CtlSshChannel CtlSshChannel;

/*
 * Begin to run @command, for a shell there, on @host as @user (NULL: as
 * configured) at @port (0: as configured).  Does not block; never fails at
 * once.  Called from the main loop's thread, as all of these.  Freed with
 * ctl_ssh_close().
 */
CtlSshChannel *ctl_ssh_run(const char *user, const char *host, int port,
                           const char *command);

/*
 * A non-blocking socket to the command, once it runs; it belongs to @channel.
 * -1 before that, and where that failed (then @err is set: a sentence about
 * the host, of CTL_ERROR_LOST, that says what to do).  The main loop is woken
 * when either happens.
 */
int ctl_ssh_fd(CtlSshChannel *channel, GError **err);

/*
 * While there is no descriptor and no error: what is being done or waited for,
 * as "connecting to 192.0.2.1 port 22" or "waiting for the SSH agent at ...",
 * for a sentence about a deadline; else NULL.  Freed by the caller.
 */
char *ctl_ssh_stage(CtlSshChannel *channel);

/*
 * After the socket's end: what the command said on stderr, or that the
 * connection was lost and why, or how the command ended if that was not with
 * 0; NULL if there is nothing to say.  Freed by the caller.
 */
char *ctl_ssh_last_words(CtlSshChannel *channel);

/* The command's stdin ends after what was written, and nobody reads it any
 * more; a few seconds later its channel is closed.  NULL: nothing. */
void ctl_ssh_close(CtlSshChannel *channel);

#endif
