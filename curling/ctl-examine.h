/*
 * What would keep a pair from being protected, or from being safe
 *
 * Copyright the Curling authors
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef CURLING_CTL_EXAMINE_H
#define CURLING_CTL_EXAMINE_H

#include "ctl-pair.h"

typedef enum CtlSeverity {
    CTL_SEVERITY_ERROR,         /* protect refuses */
    CTL_SEVERITY_WARNING,       /* the pair is less safe than it may look */
    CTL_SEVERITY_NOTE,          /* a figure, or what could not be looked at */
} CtlSeverity;

typedef struct CtlFinding {
    CtlSeverity severity;
    char *what;                 /* a sentence without its full stop */
    char *remedy;               /* what to do, unless @what says it */
} CtlFinding;

typedef struct CtlExamination {
    const char *address;        /* where the receiver is to listen; may be
                                   NULL */
    bool allow_plaintext;
    bool disks_accepted;        /* disks=unsafe-ahead will be set */
    bool measure;               /* how fast the link is, too */
} CtlExamination;

/*
 * Examine @pair, which was asked before and is open; @wanted is borrowed for
 * the call.  The array, of CtlFinding *, frees its elements.  NULL: @err is
 * set, the examination could not be ended.
 */
GPtrArray *ctl_examine(CtlPair *pair, const CtlExamination *wanted,
                       GError **err);

/* Is an error among @findings? */
bool ctl_examine_failed(const GPtrArray *findings);

const char *ctl_severity_word(CtlSeverity severity);

/* ---- Addresses of rounds ------------------------------------------------ */

/*
 * Where the receiver of @pair listens, or is to listen, as QEMU's URI
 * "curling:tcp:HOST:PORT": @given (may be NULL, "curling:" may be missing) or
 * what the receiver says it is bound to.  NULL: @err, also where that is a
 * wildcard.  Freed by the caller.
 */
char *ctl_address_of(CtlPair *pair, const char *given, GError **err);

/* @text, with "curling:" before it if that is missing.  Freed by the caller. */
char *ctl_address_uri(const char *text);

/* Its host; NULL where it is a UNIX socket.  Freed by the caller. */
char *ctl_address_host(const char *uri);

/* Does the receiver wait for migrate-incoming (-incoming defer)? */
bool ctl_is_deferred(const CtlEnd *receiver);

#endif
