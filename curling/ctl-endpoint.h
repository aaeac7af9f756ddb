/*
 * Where a QEMU's QMP socket is, and a connection to it
 *
 *      unix:/path/qmp.sock     on this host
 *      tcp:host:port           [host] around an IPv6 address
 *      ssh://[user@]host[:port]/path/qmp.sock
 *
 * Copyright the Curling authors
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef CURLING_CTL_ENDPOINT_H
#define CURLING_CTL_ENDPOINT_H

#include "ctl.h"

typedef enum CtlEndpointKind {
    CTL_ENDPOINT_UNIX,
    CTL_ENDPOINT_TCP,
    CTL_ENDPOINT_SSH,
} CtlEndpointKind;

/* Constant after ctl_endpoint_parse(). */
typedef struct CtlEndpoint {
    char *text;                 /* as it was given */
    CtlEndpointKind kind;
    char *user;                 /* ssh: may be NULL */
    char *host;                 /* tcp, ssh */
    int port;                   /* tcp; ssh: 0 if not given */
    char *path;                 /* unix, ssh: absolute for ssh */
} CtlEndpoint;

/* NULL: @err says what is wrong with it.  Freed with ctl_endpoint_free(). */
CtlEndpoint *ctl_endpoint_parse(const char *text, GError **err);
void ctl_endpoint_free(CtlEndpoint *endpoint);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(CtlEndpoint, ctl_endpoint_free)

/* Is it on this host, as far as its name tells? */
bool ctl_endpoint_is_local(const CtlEndpoint *endpoint);

/* Are both on one host, as far as their names tell? */
bool ctl_endpoint_share_host(const CtlEndpoint *a, const CtlEndpoint *b);

/* Is @host a name or an address of the host itself: localhost, 127.0.0.1,
 * ::1? */
bool ctl_host_is_loopback(const char *host);

/*
 * A connection that is made, or will be: all calls from the main loop's
 * thread, and none of them blocks.
 */
typedef struct CtlLink CtlLink;

/* Begin to connect.  @endpoint is borrowed until ctl_link_close(). */
CtlLink *ctl_link_open(const CtlEndpoint *endpoint);

/* The curlingctl on the far side of SSH, for a shell there: CURLINGCTL_REMOTE
 * in the environment, or "curlingctl". */
const char *ctl_remote_program(void);

/* The same, to what a shell command on an ssh endpoint's host writes and
 * reads. */
CtlLink *ctl_link_run(const CtlEndpoint *endpoint, const char *command);

/*
 * The non-blocking descriptor, once it is connected; it belongs to @link.  -1
 * before that, and where it failed: then @err is set.  The sentence names the
 * endpoint.
 */
int ctl_link_fd(CtlLink *link, GError **err);

/* Wait until there is one.  -1: @err is set, by ctl_wait() or ctl_link_fd(). */
int ctl_link_wait(CtlLink *link, CtlDeadline deadline, GError **err);

/* What has kept it from being connected so long, for a sentence; freed by the
 * caller. */
char *ctl_link_delay(CtlLink *link);

/* After the other side closed: why, if anybody knows (a far curlingctl says
 * so on its stderr), else NULL.  Freed by the caller. */
char *ctl_link_last_words(CtlLink *link);

void ctl_link_close(CtlLink *link);

#endif
