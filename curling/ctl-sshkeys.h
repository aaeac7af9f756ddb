/*
 * Keys in files, as OpenSSH writes them: known_hosts, and identities
 *
 * Pure but for the reading of files, so any thread may call all of it.
 *
 * Copyright the Curling authors
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef CURLING_CTL_SSHKEYS_H
#define CURLING_CTL_SSHKEYS_H

#include "ctl.h"

/* The type that a public key begins with, as "ssh-ed25519"; NULL: it is no
 * key.  Freed by the caller. */
char *ctl_sshkeys_type(GBytes *key);

/* ---- Hosts -------------------------------------------------------------- */

/* A line of known_hosts that is about the host. */
typedef struct CtlSshHostKey {
    char *file;
    int line;
    char *type;
    GBytes *key;
    bool revoked;
    bool any_port;              /* it names the host, but not with the port;
                                   only if no other line has it with it */
} CtlSshHostKey;

/*
 * How known_hosts names the host: "web1", or "[web1]:2222" where the port is
 * not 22.  Freed by the caller.
 */
char *ctl_sshkeys_name(const char *hostname, int port);

/*
 * All lines of @files (paths, with NULL at the end) that are about @hostname
 * (in small letters) at @port.  What cannot be read, or is no such line, is
 * passed over.  An array of CtlSshHostKey, freed with g_ptr_array_unref().
 */
GPtrArray *ctl_sshkeys_known(char *const *files, const char *hostname,
                             int port);

typedef enum CtlSshVerdict {
    CTL_SSH_KNOWN,
    CTL_SSH_UNKNOWN,            /* nothing is known of the host */
    CTL_SSH_CHANGED,            /* other keys are: @line is one of them, of the
                                   same type if there is such a one */
    CTL_SSH_REVOKED,            /* @line says so */
} CtlSshVerdict;

/* What @known says of the host that shows @key.  @line is one of @known's. */
CtlSshVerdict ctl_sshkeys_judge(const GPtrArray *known, GBytes *key,
                                const CtlSshHostKey **line);

/* May @known accept a key of @type? */
bool ctl_sshkeys_knows_type(const GPtrArray *known, const char *type);

/* ---- Identities --------------------------------------------------------- */

typedef enum CtlSshIdentityState {
    CTL_SSH_IDENTITY_USABLE,
    CTL_SSH_IDENTITY_LOCKED,    /* needs a passphrase */
    CTL_SSH_IDENTITY_PUBLIC,    /* only the public key is here */
    CTL_SSH_IDENTITY_ABSENT,
    CTL_SSH_IDENTITY_BAD,       /* @problem says why */
} CtlSshIdentityState;

typedef struct CtlSshIdentity {
    char *path;
    CtlSshIdentityState state;
    char *problem;              /* after the path: "can be read by ..." */
    GBytes *key;                /* the public key, NULL if only the private
                                   one is there, in a format that hides it */
} CtlSshIdentity;

/* Never NULL.  Freed with ctl_sshkeys_identity_free(). */
CtlSshIdentity *ctl_sshkeys_identity(const char *path);
void ctl_sshkeys_identity_free(CtlSshIdentity *identity);

#endif
