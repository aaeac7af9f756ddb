/*
 * From a host's name to an SSH session whose user is logged in
 *
 * Only for ctl-ssh.c, in the thread of a connection: it waits, but never
 * longer than until its deadline, but for two things that cannot be hurried:
 * the lookup of a name, and the SSH agent, which may ask somebody.  What it
 * waits for, it says before.
 *
 * Copyright the Curling authors
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef CURLING_CTL_SSHLOGIN_H
#define CURLING_CTL_SSHLOGIN_H

#include <libssh2.h>
#include "ctl-sshconf.h"

typedef struct CtlSshLogin {
    /* Set by the caller */
    const char *host;           /* as the user calls it */
    const CtlSshConf *conf;
    CtlDeadline deadline;
    void (*stage)(void *opaque, const char *doing);     /* "connecting to" */
    void *opaque;

    /* Set by ctl_sshlogin(), freed with ctl_sshlogin_end() */
    LIBSSH2_SESSION *session;   /* not blocking */
    int sock;
} CtlSshLogin;

/* False: @err, of CTL_ERROR_LOST, one sentence about the host that says what
 * to do.  ctl_sshlogin_end() is due all the same. */
bool ctl_sshlogin(CtlSshLogin *login, GError **err);

/* Close the connection, whatever state it is in. */
void ctl_sshlogin_end(CtlSshLogin *login);

/*
 * OpenSSL is cleared away at the process's end, under the feet of whoever still
 * uses it.  So a thread only does so between these two.  ctl_sshlogin() is
 * called, and returns, at work; it rests where it waits.
 */
void ctl_sshlogin_work(void);
void ctl_sshlogin_rest(void);

/* From now on no thread works; it waits until they rest, but not long for one
 * whose agent does not answer. */
void ctl_sshlogin_stop(void);

/* "-p 2222 user@web1", as ssh(1) wants it.  Freed by the caller. */
char *ctl_sshlogin_target(const CtlSshLogin *login);

#endif
