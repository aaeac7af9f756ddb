/*
 * What ~/.ssh/config says about a host
 *
 * Read are Host (with *, ? and !), HostName (%h), User, Port, IdentityFile
 * (~, ${NAME} and %d, %h, %i, %n, %p, %r, %u, %%), IdentitiesOnly,
 * UserKnownHostsFile (the same) and Include; the first value counts, as in
 * ssh(1), but for IdentityFile, which adds up.  Match is not read: what is
 * below it, up to the next Host, is left out.  ProxyJump and ProxyCommand are
 * errors for the host they are said of, as it would not be reached without
 * them.  All else is left out.
 *
 * Copyright the Curling authors
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef CURLING_CTL_SSHCONF_H
#define CURLING_CTL_SSHCONF_H

#include "ctl.h"

typedef struct CtlSshConf {
    char *hostname;             /* where to connect to, in small letters;
                                   never NULL */
    char *user;                 /* never NULL */
    int port;                   /* 22 if nobody said another */
    char **identities;          /* paths, with NULL at the end; those of
                                   ssh(1) by default, if none are given */
    bool identities_given;      /* then one that is missing is worth a word */
    bool identities_only;       /* not what else the agent has */
    char **known_hosts;         /* paths, with NULL at the end, the user's
                                   first */
} CtlSshConf;

/*
 * For @host, as said in an endpoint; @user (may be NULL) and @port (0: none)
 * of the endpoint come first.  @home is where .ssh/ is, and ~; @etc where
 * ssh_config and ssh_known_hosts of the host itself are, NULL: /etc/ssh.
 * NULL: @err, of CTL_ERROR_FAILED.  Reads files; no other effect, so any
 * thread may call it.  Freed with ctl_sshconf_free().
 */
CtlSshConf *ctl_sshconf_read(const char *home, const char *etc,
                             const char *host, const char *user, int port,
                             GError **err);
void ctl_sshconf_free(CtlSshConf *conf);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(CtlSshConf, ctl_sshconf_free)

#endif
